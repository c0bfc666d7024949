"""The ground's tables, and how their database is opened.

    entry     the log itself: the very bytes that were hashed, and their leaf hash
    subtree   roots of complete 256-entry subtrees and up: the hashes in tiles of level 1 and above
    head      one row: size, root, signed checkpoint and last time; whoever writes holds it

The floors above define their projections on the same `metadata`, because entries and projections are written in one
transaction. A reference of theirs to `entry` must be DEFERRABLE INITIALLY DEFERRED: an entry's row is written after
the change that it records. A changed shape of any table is a new SCHEMA_VERSION.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from audit.errors import (
    DatabaseFull,
    DatabaseMissing,
    DatabaseReadOnly,
    DatabaseUnreadable,
    DatabaseVersionUnknown,
    LedgerBusy,
    ServiceError,
)

SCHEMA_VERSION: Final = 4
BUSY_TIMEOUT_MS: Final = 2_000  # longer than any transaction of ours; shorter than a caller's patience
FORGET_WAIT_MS: Final = 200  # for readers, while no one can write
WRITER: Final = "heixia_writer"  # execution option of a connection whose transactions take the write lock at once

metadata = MetaData()

entry = Table(
    "entry",
    metadata,
    Column("idx", Integer, primary_key=True, autoincrement=False),
    # Before the body, so that a run of leaf hashes is read without the bodies' overflow pages.
    Column("leaf", LargeBinary(32), nullable=False),
    Column("body", LargeBinary, nullable=False),
    CheckConstraint("idx >= 0 AND length(leaf) = 32", name="entry_shape"),
)

subtree = Table(
    "subtree",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("idx", Integer, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary(32), nullable=False),
    CheckConstraint("level >= 1 AND idx >= 0 AND length(hash) = 32", name="subtree_shape"),
    sqlite_with_rowid=False,
)

head = Table(
    "head",
    metadata,
    Column("one", Integer, primary_key=True, autoincrement=False),
    Column("size", Integer, nullable=False),
    Column("root", LargeBinary(32), nullable=False),
    Column("checkpoint", Text, nullable=False),
    Column("time", Text, nullable=False),
    CheckConstraint("one = 1 AND size >= 0", name="head_shape"),
)

_PRAGMAS: Final = (
    "PRAGMA journal_mode=WAL",  # readers never wait for the writer
    "PRAGMA synchronous=FULL",  # a commit is on the disk when COMMIT returns
    "PRAGMA secure_delete=ON",  # what is deleted is overwritten: an erased key must not lie in a free corner of a page
    "PRAGMA foreign_keys=ON",
    "PRAGMA trusted_schema=OFF",  # a tampered file's schema gets no functions with effects
)


def open_engine(path: Path, *, create: bool, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> Engine:
    """Open the database, checked: it is there, is ours, has this schema's version and can be written.

    Args:
        path: the SQLite file; `-wal` and `-shm` files will lie beside it.
        create: make the file (mode 0600) and all tables known to `metadata`, where they are missing.
        busy_timeout_ms: how long a transaction waits for another process's write lock.

    Returns:
        An engine whose plain connections read a snapshot, and whose `WRITER` connections lock at BEGIN.

    Raises:
        DatabaseMissing: no file (and not `create`), or no folder for it.
        DatabaseReadOnly: the file's mode or its file system forbids writing.
        DatabaseUnreadable: no SQLite database, damaged, or the disk fails.
        DatabaseVersionUnknown: made by another version of the schema.
        DatabaseFull: no room for what an opening writes.
        LedgerBusy: another process holds the write lock.
    """
    _check_file(path, create)
    # No bound on connections: whoever waited for one on the event loop would hold up everybody, for up to 30 s.
    engine = create_engine(URL.create("sqlite", database=str(path)), max_overflow=-1)
    event.listen(engine, "connect", partial(_prepare, busy_timeout_ms))
    event.listen(engine, "begin", _begin)
    try:
        with database_errors(), writer(engine) as connection, connection.begin():
            _check_version(connection, create)
    except BaseException:
        engine.dispose()
        raise
    return engine


def writer(engine: Engine) -> Connection:
    """Return a connection whose transactions start with BEGIN IMMEDIATE."""
    return engine.connect().execution_options(**{WRITER: True})


def forget_overwritten(engine: Engine) -> bool:
    """Bring the write-ahead log into the database file and cut it to nothing: what was overwritten is in neither then.

    Returns:
        Whether it was done; not where somebody reads a snapshot of before, or another process writes. Then repeat.

    Raises:
        DatabaseUnreadable, DatabaseReadOnly: the disk fails.
    """
    with database_errors(), engine.connect() as connection:
        raw: Any = connection.connection.driver_connection  # SQLAlchemy's own would begin a transaction first
        connection.detach()  # it is closed after this, and its short patience with it
        raw.execute(f"PRAGMA busy_timeout={FORGET_WAIT_MS}")
        busy, _, _ = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn the driver's errors into ours."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        raise translate(error) from error


def translate(error: BaseException) -> ServiceError:
    """Say which of our errors a database error is."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(origin, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the rest is the extended code
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LedgerBusy("the database is locked by another process")
    if code == sqlite3.SQLITE_READONLY:
        return DatabaseReadOnly("the database cannot be written")
    if code == sqlite3.SQLITE_FULL:
        return DatabaseFull("the disk is full")
    return DatabaseUnreadable(f"the database does not answer: {getattr(origin, 'sqlite_errorname', 'unknown')}")


def _check_file(path: Path, create: bool) -> None:
    try:
        if create and not path.exists():
            # Made here and not by SQLite, for a mode that lets nobody else read it.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise DatabaseMissing(f"no database at {path}") from error
    except PermissionError as error:
        raise DatabaseReadOnly(f"no permission at {path}") from error
    except OSError as error:
        raise DatabaseUnreadable(f"no file can be opened at {path}: {error.strerror}") from error
    # Asked of the mode too: root could write, yet whoever took the bits away meant it (a backup, say).
    if not mode & 0o222 or not os.access(path, os.W_OK):
        raise DatabaseReadOnly(f"the database at {path} is read-only")


def _check_version(connection: Connection, create: bool) -> None:
    if connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() != "wal":
        raise DatabaseUnreadable("the file system under the database has no shared memory for a write-ahead log")
    version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    fresh = version == 0 and not connection.exec_driver_sql("SELECT count(*) FROM sqlite_schema").scalar_one()
    if version != SCHEMA_VERSION and not (create and fresh):
        raise DatabaseVersionUnknown(f"schema version {version}, this program knows {SCHEMA_VERSION}")
    if create:
        metadata.create_all(connection)
        connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA_VERSION}")


def _prepare(busy_timeout_ms: int, connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # BEGIN is ours (_begin): the driver would start transactions late
    connection.execute(f"PRAGMA busy_timeout={busy_timeout_ms}")
    for pragma in _PRAGMAS:
        connection.execute(pragma)


def _begin(connection: Connection) -> None:
    kind = "IMMEDIATE" if connection.get_execution_options().get(WRITER) else "DEFERRED"
    connection.exec_driver_sql(f"BEGIN {kind}")
