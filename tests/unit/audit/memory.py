"""A log in memory, of any size, which may fork: for tests of what reads, writes and serves logs."""

from dataclasses import dataclass
from functools import cache

from audit.errors import EntryUnknown
from audit.merkle import leaf_hash, tree_hash
from audit.note import Checkpoint, NoteSigner
from audit.tiles import ENTRIES, Tile, encode_bundle, encode_tile, tile_of
from tests.unit.audit.vectors import ORIGIN, signer


def body(index: int) -> bytes:
    """Make the bytes of an entry: its number in decimal, as in known answer 6."""
    return str(index).encode()


@dataclass(frozen=True)
class MemorySource:
    """A LogSource whose entries are decimal numbers, other ones from `forked_at` on."""

    size: int
    forked_at: int | None = None
    origin: str = ORIGIN
    signer: NoteSigner | None = None

    @property
    def root(self) -> bytes:
        """The tree's root."""
        return tree_hash(_leaves(self.size, self.forked_at))

    def checkpoint(self) -> str:
        """As LogSource."""
        made = self.signer or signer(self.origin)
        return made.sign(Checkpoint(self.origin, self.size, self.root).text)

    def read(self, tile: Tile) -> bytes:
        """As LogSource."""
        held = tile_of(tile.level, tile.index, self.size)
        if held is None or held.width < tile.width:
            raise EntryUnknown(f"no {tile.path}")
        first = tile.index * 256
        if tile.level == ENTRIES:
            return encode_bundle(_body(index, self.forked_at) for index in range(first, first + tile.width))
        return encode_tile([_subtree(tile.level, first + at, self.forked_at) for at in range(tile.width)])


def _body(index: int, forked_at: int | None) -> bytes:
    return body(index) if forked_at is None or index < forked_at else b"forked " + body(index)


@cache
def _leaves(size: int, forked_at: int | None) -> tuple[bytes, ...]:
    return tuple(leaf_hash(_body(index, forked_at)) for index in range(size))


@cache
def _subtree(level: int, index: int, forked_at: int | None) -> bytes:
    if level == 0:
        return leaf_hash(_body(index, forked_at))
    return tree_hash([_subtree(level - 1, index * 256 + at, forked_at) for at in range(256)])
