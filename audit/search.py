"""A page of a search: entries newest first, each with the path that leads it to one checkpoint shared by all.

The same for a running service and for an exported folder.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from audit.errors import LedgerCorrupt, ProofInvalid, SearchInvalid
from audit.index import Index
from audit.index_filter import Cursor, Filter
from audit.index_search import search
from audit.merkle import inclusion_proof, leaf_hash, root_hash, verify_inclusion
from audit.note import Checkpoint, head_of
from audit.source import LogSource, hash_reader
from audit.tiles import TILE_WIDTH, Tile, bundle_of, decode_bundle


@dataclass(frozen=True)
class Hit:
    """An entry, and its sibling hashes from the leaf up."""

    index: int
    body: bytes
    proof: tuple[bytes, ...]


@dataclass(frozen=True)
class Found:
    """A page of hits.

    Attributes:
        hits: newest first.
        total: how many match in all among the first `size` entries.
        size: of the log at the search's first page.
        token: where the next page begins; "" = there is none.
        checkpoint: the newest one, to whose root the proofs lead unless another size was asked for.
    """

    hits: list[Hit]
    total: int
    size: int
    token: str
    checkpoint: str


@dataclass(frozen=True)
class Searcher:
    """An index with its log; `body_of` reads one entry, `bytes_max` bounds a page's entries together."""

    index: Index
    source: LogSource
    body_of: Callable[[int], bytes]
    bytes_max: int
    patience_s: float | None = None  # for an index that has to come up first

    def find(self, note: str, wanted: Filter, token: str, count: int, proof_size: int = 0) -> Found:
        """Find a page under one checkpoint, a snapshot: what is found, counted and proved is of its size.

        Args:
            note: a checkpoint that is believed.
            wanted: what must match.
            token: where the page before ended; "" = the first page.
            count: at most this many hits.
            proof_size: proofs lead to the tree of this size, whose checkpoint the asker has; 0 = the checkpoint's.

        Raises:
            SearchInvalid: the token is not of this search, or the size does not cover its hits.
            IndexBehind, LedgerCorrupt, EntryUnknown: as `Index.follow`.
        """
        head = head_of(note)
        at = Cursor.parse(token, wanted, head.size) if token else Cursor(head.size, head.size)
        if proof_size and not at.before <= proof_size <= head.size:
            raise SearchInvalid("proof size", public="proof_size does not cover the page, or the log not it")
        page = self.index.ask(
            lambda connection: search(connection, wanted, size=at.size, before=at.before, count=count + 1),
            head,
            self.patience_s,
        )
        hits = self._read(page.indexes[:count], proof_size or head.size, head)
        more = len(page.indexes) > len(hits)
        token = Cursor(at.size, hits[-1].index).token(wanted) if more else ""
        return Found(hits, page.total, at.size, token, note)

    def _read(self, indexes: Iterable[int], size: int, head: Checkpoint) -> list[Hit]:
        read = hash_reader(self.source, head.size)
        root = head.root if size == head.size else root_hash(size, read)
        hits: list[Hit] = []
        room = self.bytes_max
        for index in indexes:
            body = self.body_of(index)
            room -= len(body)
            if hits and room < 0:  # the first is given whatever its length
                break
            try:
                proof = tuple(inclusion_proof(index, size, read))
                verify_inclusion(leaf_hash(body), index, size, proof, root)
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
