"""Opening the database: what is there is ours, whole and writable, or is refused by name."""

import contextlib
import sqlite3
import stat
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from audit.errors import (
    DatabaseMissing,
    DatabaseReadOnly,
    DatabaseUnreadable,
    DatabaseVersionUnknown,
    LedgerBusy,
    ServiceError,
)
from audit.schema import SCHEMA_VERSION, metadata, open_engine, writer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Make a database and give its path."""
    open_engine(tmp_path / "ledger.db", create=True).dispose()
    return tmp_path / "ledger.db"


def test_a_new_database_has_all_tables_and_no_readers(path: Path) -> None:
    """It has our tables and version, and its file is for its owner alone."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with sqlite3.connect(path) as raw:
        names = {name for (name,) in raw.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        assert names >= {"entry", "subtree", "head"}
        assert raw.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def test_no_reader_waits_for_another(path: Path) -> None:
    """Connections are there for as many as read at once; a wait for one would stop the event loop."""
    engine = open_engine(path, create=False)
    with contextlib.ExitStack() as stack:
        stack.callback(engine.dispose)
        readers = [stack.enter_context(engine.connect()) for _ in range(40)]
        assert {reader.exec_driver_sql("SELECT size FROM head").first() for reader in readers} == {None}


@pytest.mark.parametrize("create", [False, True])
def test_an_existing_database_is_opened_either_way(path: Path, create: bool) -> None:
    """Creating what is there leaves it as it is."""
    with sqlite3.connect(path) as raw:
        raw.execute("INSERT INTO entry VALUES (0, zeroblob(32), 'x')")
    engine = open_engine(path, create=create)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM entry").scalar_one() == 1
    engine.dispose()


def test_every_connection_is_durable_and_strict(path: Path) -> None:
    """Write-ahead log, full synchronisation, foreign keys."""
    engine = open_engine(path, create=False)
    with engine.connect() as connection:
        found = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "trusted_schema")
        ]
    assert found == ["wal", 2, 1, 2000, 0]
    engine.dispose()


def refused(path: Path, error: type[ServiceError], *, create: bool = False) -> ServiceError:
    """Open, expecting an error of ours."""
    with pytest.raises(error) as raised:
        open_engine(path, create=create, busy_timeout_ms=1)
    return raised.value


def test_missing(tmp_path: Path) -> None:
    """A missing file is not quietly made, nor its folder."""
    assert refused(tmp_path / "none.db", DatabaseMissing).code == "database_missing"
    assert list(tmp_path.iterdir()) == []
    refused(tmp_path / "none" / "none.db", DatabaseMissing, create=True)


def test_read_only(path: Path) -> None:
    """A file without write permission is refused, for root too."""
    path.chmod(0o400)
    assert refused(path, DatabaseReadOnly).code == "database_read_only"


@pytest.mark.parametrize("create", [False, True])
def test_not_a_database(tmp_path: Path, create: bool) -> None:
    """Another file is refused and left as it is."""
    other = tmp_path / "other"
    other.write_bytes(b"not a database, yet longer than a header" * 100)
    assert refused(other, DatabaseUnreadable, create=create).code == "database_unreadable"
    assert other.read_bytes().startswith(b"not a database")
    refused(tmp_path, DatabaseUnreadable, create=create)


def test_damaged(path: Path) -> None:
    """A file whose first page is overwritten is refused."""
    data = bytearray(path.read_bytes())
    data[100:400] = bytes(300)
    path.write_bytes(data)
    refused(path, DatabaseUnreadable)


def test_another_version(path: Path) -> None:
    """A database of another version is neither used nor changed."""
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version=99")
    assert refused(path, DatabaseVersionUnknown, create=True).code == "database_version_unknown"


@pytest.mark.parametrize("create", [False, True])
def test_somebody_elses_database(tmp_path: Path, create: bool) -> None:
    """A SQLite file of another program is not ours to extend; an empty one is, when told to create."""
    with sqlite3.connect(tmp_path / "other.db") as raw:
        raw.execute("CREATE TABLE t (x)")
    refused(tmp_path / "other.db", DatabaseVersionUnknown, create=create)
    (tmp_path / "empty.db").touch()
    refused(tmp_path / "empty.db", DatabaseVersionUnknown)
    open_engine(tmp_path / "empty.db", create=True).dispose()


def test_locked(path: Path) -> None:
    """While another process writes, opening waits and then says so."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert refused(path, LedgerBusy).code == "ledger_busy"
    other.execute("ROLLBACK")
    open_engine(path, create=False).dispose()
    other.close()


def test_writers_lock_at_begin_and_readers_never(path: Path) -> None:
    """A reader's transaction neither waits for the writer's nor sees it before its commit."""
    engine = open_engine(path, create=False)
    with writer(engine) as writing, writing.begin():
        writing.exec_driver_sql("INSERT INTO entry VALUES (0, zeroblob(32), 'x')")
        with engine.connect() as reading:
            assert reading.exec_driver_sql("SELECT count(*) FROM entry").scalar_one() == 0
    engine.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO entry VALUES (-1, zeroblob(32), 'x')",
        "INSERT INTO entry VALUES (0, zeroblob(31), 'x')",
        "INSERT INTO entry VALUES (0, zeroblob(32), NULL)",
        "INSERT INTO subtree VALUES (0, 0, zeroblob(32))",
        "INSERT INTO subtree VALUES (1, 0, zeroblob(33))",
        "INSERT INTO head VALUES (2, 0, zeroblob(32), '', '')",
    ],
)
def test_tables_refuse_what_cannot_be(path: Path, statement: str) -> None:
    """A wrong shape does not get into a table, whoever writes it."""
    engine = open_engine(path, create=False)
    with writer(engine) as connection, connection.begin(), pytest.raises(IntegrityError):
        connection.exec_driver_sql(statement)
    engine.dispose()


def test_tables_of_the_ground() -> None:
    """The ground defines these tables; the floors above add theirs to the same metadata."""
    assert {"entry", "subtree", "head"} <= set(metadata.tables)
