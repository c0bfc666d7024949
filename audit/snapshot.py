"""The database as it is at one moment, read alone: for checks beside a running server, or after it.

One read transaction, so that log and projections are of the same commit. It never waits for the writer and never holds
it up; while it is open the write-ahead log cannot be folded back, and grows by what is written meanwhile.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, create_engine, event

from audit import store
from audit.errors import DatabaseMissing, DatabaseVersionUnknown, EntryUnknown
from audit.findings import Findings
from audit.fsck import Integrity
from audit.merkle import HASH_BYTES
from audit.prepared import driver
from audit.schema import SCHEMA_VERSION, database_errors
from audit.tiles import ENTRIES, LEVEL_MAX, TILE_HEIGHT, TILE_WIDTH, Tile, encode_bundle, encode_tile

_ENTRIES = "SELECT idx, body FROM entry WHERE idx >= ? AND idx < ?"
_LEAVES = "SELECT idx, leaf FROM entry WHERE idx >= ? AND idx < ?"
_SUBTREES = "SELECT idx, hash FROM subtree WHERE level = ? AND idx >= ? AND idx < ?"
_ENTRIES_OUTSIDE = "SELECT count(*) FROM entry WHERE idx < 0 OR idx >= ?"
_LEVELS = "SELECT DISTINCT level FROM subtree"
_SUBTREES_OUTSIDE = "SELECT count(*) FROM subtree WHERE level = ? AND (idx < 0 OR idx >= ?)"
_ABSENT = bytes(HASH_BYTES)  # stands where a hash is missing: no entry has it


@contextmanager
def open_snapshot(path: Path) -> Iterator[Connection]:
    """A connection inside a read transaction; nothing can be written through it.

    Raises:
        DatabaseMissing, DatabaseUnreadable, DatabaseVersionUnknown, LedgerBusy.
    """
    if not path.is_file():
        raise DatabaseMissing(f"no database at {path}")
    engine = create_engine("sqlite://", creator=lambda: _connect(path))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    try:
        with database_errors(), engine.connect() as connection, connection.begin():
            version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            if version != SCHEMA_VERSION:
                raise DatabaseVersionUnknown(f"schema version {version}, this program knows {SCHEMA_VERSION}")
            connection.exec_driver_sql("SELECT count(*) FROM head").scalar_one()  # the first read fixes the moment
            yield connection
    finally:
        engine.dispose()


def _connect(path: Path) -> sqlite3.Connection:
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    connection.text_factory = lambda raw: raw.decode(errors="replace")  # an edited row may hold anything
    connection.execute("PRAGMA trusted_schema=OFF")
    return connection


class SnapshotSource:
    """A `LogSource` over a snapshot. A missing row reads as an empty entry or an impossible hash, so it is named."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def checkpoint(self) -> str:
        """As LogSource; raises LedgerCorrupt where the head row is malformed."""
        head = store.read_head(self._connection)
        if head is None:
            raise EntryUnknown("the log has no head")
        return head.checkpoint

    def read(self, tile: Tile) -> bytes:
        """As LogSource."""
        span = (tile.index * TILE_WIDTH, tile.index * TILE_WIDTH + tile.width)
        if tile.level == ENTRIES:
            bodies = self._read(_ENTRIES, span)
            return encode_bundle(_body(bodies.get(index)) for index in range(*span))
        hashes = self._read(_SUBTREES, (tile.level, *span)) if tile.level else self._read(_LEAVES, span)
        return encode_tile([_hash(hashes.get(index)) for index in range(*span)])

    def _read(self, query: str, values: tuple[int, ...]) -> dict[int, Any]:
        return dict(driver(self._connection).execute(query, values).fetchall())


def check_rows(connection: Connection, integrity: Integrity) -> None:
    """Add to a check of the whole log what only a database can have wrong: its head row, rows outside of the log."""
    if integrity.checkpoint is None:
        return
    findings, size = integrity.findings, integrity.checkpoint.size
    head = store.read_head(connection)
    last = integrity.last_time if integrity.whole_until == size else None
    if head is None or (head.size, head.root) != (size, integrity.checkpoint.root):
        findings.add("head_differs", None, "head", "size or root")
    elif size and last is not None and head.time != last:
        findings.add("head_differs", size - 1, "head", "time")
    _check_outside(connection, size, findings)


def _check_outside(connection: Connection, size: int, findings: Findings) -> None:
    if found := _count(connection, _ENTRIES_OUTSIDE, (size,)):
        findings.add("rows_superfluous", size, "entry", f"{found}")
    for (level,) in connection.exec_driver_sql(_LEVELS).all():
        hashes = size >> (TILE_HEIGHT * level) if type(level) is int and 0 < level <= LEVEL_MAX else 0
        if found := _count(connection, _SUBTREES_OUTSIDE, (level, hashes)):
            findings.add("rows_superfluous", None, "subtree", f"{found}")


def _count(connection: Connection, query: str, values: Sequence[object]) -> int:
    return int(connection.exec_driver_sql(query, tuple(values)).scalar_one())


def _body(value: object) -> bytes:
    return value if isinstance(value, bytes) and len(value) <= 0xFFFF else b""


def _hash(value: object) -> bytes:
    return value if isinstance(value, bytes) and len(value) == HASH_BYTES else _ABSENT
