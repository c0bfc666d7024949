"""Where a log can be read from: the database of a running service, or a folder that it was exported to.

What reads a log (serving, exporting, checking) is written against `LogSource` and takes either.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from sqlalchemy import Engine

from audit import store
from audit.errors import EntryUnknown, LedgerCorrupt
from audit.merkle import HashReader
from audit.note import NOTE_BYTES_MAX
from audit.schema import database_errors
from audit.tiles import ENTRIES, TILE_WIDTH, Tile, decode_bundle, decode_tile, encode_bundle, encode_tile, tile_reader

CHECKPOINT: Final = "checkpoint"  # its path
TILE_BYTES_MAX: Final = TILE_WIDTH * (2 + 0xFFFF)  # a full bundle of the longest entries
_BODIES = "SELECT body FROM entry WHERE idx >= ? AND idx < ? ORDER BY idx"


class LogSource(Protocol):
    """A log in the C2SP tlog-tiles layout. Nothing read from it is to be believed before it was verified."""

    def checkpoint(self) -> str:
        """The newest signed checkpoint; raises EntryUnknown where there is none."""

    def read(self, tile: Tile) -> bytes:
        """A tile or entry bundle of the address's width, as tlog-tiles writes it; raises EntryUnknown if not there."""


class DatabaseSource:
    """The log in a database, as it is stored: bodies are not held against their hashes here."""

    def __init__(self, engine: Engine, checkpoint: Callable[[], str] | None = None) -> None:
        """Read nothing yet.

        Args:
            engine: of the database.
            checkpoint: the one to read the log under, such as the one that witnesses cosigned; None = the head's.
        """
        self._engine, self._checkpoint = engine, checkpoint

    def checkpoint(self) -> str:
        """As LogSource."""
        if self._checkpoint:
            return self._checkpoint()
        with database_errors(), self._engine.connect() as connection:
            head = store.read_head(connection)
        if head is None:
            raise EntryUnknown("the log has no head")
        return head.checkpoint

    def read(self, tile: Tile) -> bytes:
        """As LogSource."""
        with database_errors(), self._engine.connect() as connection:
            if tile.level != ENTRIES:
                try:
                    return encode_tile(store.read_tile(connection, tile))
                except LedgerCorrupt as error:
                    raise EntryUnknown(f"no {tile.path}") from error
            first = tile.index * TILE_WIDTH
            bodies = connection.exec_driver_sql(_BODIES, (first, first + tile.width)).scalars().all()
        if len(bodies) != tile.width:
            raise EntryUnknown(f"no {tile.path}")
        return encode_bundle(bodies)


class FolderSource:
    """The log in a folder. Where a partial tile is not there, the full one stands in for it (tlog-tiles)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def checkpoint(self) -> str:
        """As LogSource."""
        try:
            return self._bytes(CHECKPOINT, NOTE_BYTES_MAX).decode()
        except UnicodeDecodeError as error:
            raise LedgerCorrupt("the checkpoint is not text") from error

    def read(self, tile: Tile) -> bytes:
        """As LogSource."""
        try:
            return self._bytes(tile.path, TILE_BYTES_MAX)
        except EntryUnknown:
            if tile.width == TILE_WIDTH:
                raise
        return cut(self._bytes(Tile(tile.level, tile.index).path, TILE_BYTES_MAX), tile)

    def _bytes(self, path: str, most: int) -> bytes:
        try:
            with (self._folder / path).open("rb") as file:
                data = file.read(most + 1)
        except OSError as error:
            raise EntryUnknown(f"no {path}", public=f"{path}: {error.strerror}") from error
        if len(data) > most:
            raise LedgerCorrupt(f"{path} is too long")
        return data


def cut(data: bytes, tile: Tile) -> bytes:
    """The first `tile.width` hashes or entries of a full tile or bundle; raises ProofInvalid where it has fewer."""
    if tile.level == ENTRIES:
        return encode_bundle(decode_bundle(data)[: tile.width])
    return encode_tile(decode_tile(data, TILE_WIDTH)[: tile.width])


def hash_reader(source: LogSource, size: int) -> HashReader:
    """Read subtree hashes off a source's tiles, for proofs and roots of a tree of `size` leaves (audit.tiles).

    What it returns raises EntryUnknown where a tile is not there, ProofInvalid where it is malformed.
    """
    return tile_reader(size, lambda tile: decode_tile(source.read(tile), tile.width))
