"""C2SP tlog-tiles at height 8: where the hashes and entries of a log lie, and how a bundle of entries is written.

A tile of level L holds up to 256 hashes; hash i of level L is the root of the 256**L leaves from i * 256**L on. A full
tile never changes. A partial one, `.p/<width>`, is never hashed upward. Entry bundles go along with the tiles of level
0. Pure: serving and exporting are done elsewhere.

Source: c2sp.org/tlog-tiles.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from audit.errors import ProofInvalid
from audit.merkle import HASH_BYTES, HashReader, tree_hash

TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT  # hashes in a full tile, entries in a full bundle
LEVEL_MAX: Final = 63  # of the specification; a level above 7 needs more than 2**64 entries
ENTRIES: Final = -1  # the "level" of an entry bundle

_PATH: Final = re.compile(
    r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII
)
_LENGTH_BYTES: Final = 2
_ENTRY_BYTES_MAX: Final = 0xFFFF


@dataclass(frozen=True)
class Tile:
    """The address of a tile (`level` 0 .. 63) or of an entry bundle (`level` ENTRIES)."""

    level: int
    index: int
    width: int = TILE_WIDTH

    @property
    def path(self) -> str:
        """The path under the log's prefix, such as `tile/0/x001/234.p/17`."""
        level = "entries" if self.level == ENTRIES else str(self.level)
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{level}/{_grouped(self.index)}{partial}"

    @classmethod
    def parse(cls, path: str) -> "Tile":
        """Read a path; only the one spelling of each address is taken.

        Raises:
            ProofInvalid: no path of a tile or bundle.
        """
        match = _PATH.fullmatch(path)
        if match is None:
            raise ProofInvalid("no path of a tile or an entry bundle")
        level = ENTRIES if match[1] == "entries" else int(match[1])
        index = int(match[2].replace("x", "").replace("/", ""))
        tile = cls(level, index, int(match[3] or TILE_WIDTH))
        if level > LEVEL_MAX or tile.width > TILE_WIDTH or tile.path != path:  # x000/ prefixes, .p/256
            raise ProofInvalid("no path of a tile or an entry bundle")
        return tile


def tile_of(level: int, index: int, size: int) -> Tile | None:
    """Return tile number `index` of a level as a log of `size` entries has it: full, partial, or None."""
    hashes = size >> (TILE_HEIGHT * max(level, 0))
    width = min(hashes - index * TILE_WIDTH, TILE_WIDTH)
    return Tile(level, index, width) if width > 0 else None


def bundle_of(index: int, size: int) -> Tile:
    """Return the bundle that holds entry `index` in a log of `size` entries.

    Raises:
        ProofInvalid: no such entry.
    """
    tile = tile_of(ENTRIES, index // TILE_WIDTH, size) if 0 <= index < size else None
    if tile is None:
        raise ProofInvalid("no such entry in a log of that size")
    return tile


def tiles_of(size: int) -> Iterator[Tile]:
    """List every tile and bundle that a published checkpoint of `size` entries implies."""
    for level in (ENTRIES, *range(LEVEL_MAX + 1)):
        index = 0
        while tile := tile_of(level, index, size):
            yield tile
            index += 1


def encode_bundle(entries: Iterable[bytes]) -> bytes:
    """Join entries, each after its length as a big-endian uint16.

    Raises:
        ProofInvalid: an entry above 65,535 bytes.
    """
    parts = []
    for entry in entries:
        if len(entry) > _ENTRY_BYTES_MAX:
            raise ProofInvalid("an entry above 65,535 bytes")
        parts.append(len(entry).to_bytes(_LENGTH_BYTES, "big") + entry)
    return b"".join(parts)


def decode_bundle(bundle: bytes) -> list[bytes]:
    """Split a bundle into its entries.

    Raises:
        ProofInvalid: it ends within an entry, or holds more than 256.
    """
    entries: list[bytes] = []
    at = 0
    while at < len(bundle):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(bundle[at:start], "big")
        if start > len(bundle) or at > len(bundle) or len(entries) == TILE_WIDTH:
            raise ProofInvalid("an entry bundle is cut or too long")
        entries.append(bundle[start:at])
    return entries


def encode_tile(hashes: Sequence[bytes]) -> bytes:
    """Join the hashes of a tile."""
    return b"".join(hashes)


def decode_tile(data: bytes, width: int) -> list[bytes]:
    """Split the bytes of a tile into its hashes.

    Raises:
        ProofInvalid: not `width` hashes.
    """
    if len(data) != width * HASH_BYTES:
        raise ProofInvalid("a tile is not as long as its width says")
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


def tile_reader(size: int, read: Callable[[Tile], Sequence[bytes]]) -> HashReader:
    """Turn a source of tiles into a reader of subtree hashes for a tree of `size` leaves.

    `read` is called at most once for each tile, for one proof at most twice for each level, and answers with its
    `width` hashes.
    """
    tiles: dict[tuple[int, int], Sequence[bytes]] = {}

    def subtree(level: int, index: int) -> bytes:
        tile_level, height = divmod(level, TILE_HEIGHT)
        tile_index, start = divmod(index << height, TILE_WIDTH)
        if (tile_level, tile_index) not in tiles:
            tile = tile_of(tile_level, tile_index, size)
            if tile is None:
                raise ProofInvalid("a hash outside the tree")
            tiles[tile_level, tile_index] = read(tile)
        return tree_hash(tiles[tile_level, tile_index][start : start + (1 << height)])

    return subtree


def _grouped(index: int) -> str:
    """Write 1234067 as `x001/x234/067`."""
    digits = str(index)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    return "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
