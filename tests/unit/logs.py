"""A log in memory or in a folder, made of entries as a dishonest operator with the log's key would make it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audit.errors import EntryUnknown
from audit.merkle import leaf_hash, tree_hash
from audit.note import Checkpoint
from audit.policy import Policy
from audit.tiles import ENTRIES, TILE_WIDTH, Tile, encode_bundle, encode_tile, tiles_of
from enclave_api.fsck import Report, check_source
from tests.unit.audit.vectors import ORIGIN, signer

TRUST = Policy((signer().verifier,))


@dataclass
class MadeLog:
    """A `LogSource`: everything derived and signed anew from the entries, so its integrity is always sound."""

    bodies: Sequence[bytes]
    _levels: list[list[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Derives every level."""
        row = [leaf_hash(body) for body in self.bodies]
        while row:
            self._levels.append(row)
            full = len(row) // TILE_WIDTH * TILE_WIDTH
            row = [tree_hash(row[at : at + TILE_WIDTH]) for at in range(0, full, TILE_WIDTH)]

    def checkpoint(self) -> str:
        """As LogSource."""
        root = tree_hash(self._levels[0] if self._levels else [])
        return signer().sign(Checkpoint(ORIGIN, len(self.bodies), root).text)

    def read(self, tile: Tile) -> bytes:
        """As LogSource."""
        row: Sequence[bytes] = self.bodies if tile.level == ENTRIES else self._levels[tile.level]
        part = row[tile.index * TILE_WIDTH : tile.index * TILE_WIDTH + tile.width]
        if len(part) != tile.width:
            raise EntryUnknown(tile.path)
        return encode_bundle(part) if tile.level == ENTRIES else encode_tile(part)

    def write(self, folder: Path) -> list[Path]:
        """Exports it; the files."""
        content = {"checkpoint": self.checkpoint().encode()}
        content |= {tile.path: self.read(tile) for tile in tiles_of(len(self.bodies))}
        for path, data in content.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        return [folder / path for path in content]


def check(bodies: Sequence[bytes], **span: Any) -> Report:
    """Both verdicts on a log whose integrity is sound by construction."""
    return check_source(MadeLog(bodies), TRUST, lambda *_: None, **span)
