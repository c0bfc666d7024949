"""Hits of a search as they leave: an entry's bytes, and the path that leads it to one checkpoint shared by all."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from audit.errors import LedgerCorrupt, ProofInvalid
from audit.merkle import inclusion_proof, leaf_hash, verify_inclusion
from audit.note import Checkpoint
from audit.source import LogSource
from audit.tiles import TILE_WIDTH, Tile, bundle_of, decode_bundle, decode_tile, tile_reader


@dataclass(frozen=True)
class Hit:
    """An entry, and its sibling hashes from the leaf up."""

    index: int
    body: bytes
    proof: tuple[bytes, ...]


def read_hits(
    source: LogSource, head: Checkpoint, indexes: Iterable[int], body_of: Callable[[int], bytes], bytes_max: int
) -> list[Hit]:
    """Read entries with their proofs, verified, as many as fit.

    Args:
        source: where the tiles come from.
        head: the checkpoint that the proofs lead to.
        indexes: of the entries.
        body_of: reads one entry.
        bytes_max: of all bodies together; the first hit is given whatever its length.

    Raises:
        LedgerCorrupt: an entry does not lead to the checkpoint's root.
        EntryUnknown: a tile or an entry is missing.
    """
    read = tile_reader(head.size, lambda tile: _hashes(source, tile))
    hits: list[Hit] = []
    for index in indexes:
        body = body_of(index)
        bytes_max -= len(body)
        if hits and bytes_max < 0:
            break
        try:
            proof = tuple(inclusion_proof(index, head.size, read))
            verify_inclusion(leaf_hash(body), index, head.size, proof, head.root)
        except ProofInvalid as error:
            raise LedgerCorrupt(f"entry {index} does not lead to the signed root") from error
        hits.append(Hit(index, body, proof))
    return hits


class BundleReader:
    """Reads single entries out of a source's bundles; neighbours cost one reading."""

    def __init__(self, source: LogSource, size: int) -> None:
        self._source, self._size = source, size
        self._tile: Tile | None = None
        self._entries: list[bytes] = []

    def __call__(self, index: int) -> bytes:
        """An entry's bytes; raises EntryUnknown, ProofInvalid."""
        tile = bundle_of(index, self._size)
        if tile != self._tile:
            self._entries, self._tile = decode_bundle(self._source.read(tile)), tile
        at = index - tile.index * TILE_WIDTH
        if at >= len(self._entries):
            raise ProofInvalid(f"{tile.path} holds fewer entries than its name says")
        return self._entries[at]


def _hashes(source: LogSource, tile: Tile) -> list[bytes]:
    return decode_tile(source.read(tile), tile.width)
