"""A log in its database: every row of it, edited behind the ledger's back, is found and named."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine

from audit.errors import DatabaseMissing, DatabaseReadOnly, DatabaseUnreadable, DatabaseVersionUnknown
from audit.findings import Verdict
from audit.fsck import Integrity, check_log
from audit.schema import database_errors, open_engine
from audit.snapshot import SnapshotSource, check_rows, open_snapshot
from tests.unit.audit.ledgers import TRUST, fill, open_ledger, spend

SIZE = 600


def check(path: Path) -> Integrity:
    """The integrity of a log in a database."""
    with open_snapshot(path) as connection:
        done = check_log(SnapshotSource(connection), TRUST, lambda *_: None)
        check_rows(connection, done)
    return done


@pytest.fixture
def path(engine: Engine, tmp_path: Path) -> Path:
    """A database with a log of 600 entries."""
    fill(engine, SIZE).close()
    return tmp_path / "ledger.db"


def edit(path: Path, *statements: str) -> None:
    """Change rows as an administrator could."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA ignore_check_constraints=ON")
        for statement in statements:
            database.execute(statement)


def test_a_log_is_sound(path: Path) -> None:
    """As the ledger wrote it."""
    done = check(path)
    assert (done.findings.verdict, done.entries, done.whole_until) == (Verdict.SOUND, SIZE, SIZE)


def test_an_empty_log_is_sound(engine: Engine, tmp_path: Path) -> None:
    """A head and nothing else."""
    open_ledger(engine).close()
    assert check(tmp_path / "ledger.db").findings.verdict is Verdict.SOUND


@pytest.mark.parametrize(
    ("statement", "code", "index"),
    [
        ("UPDATE entry SET body = CAST(replace(CAST(body AS TEXT), 'loan', 'lend') AS BLOB) WHERE idx = 300",
         "leaf_differs", 300),
        ("UPDATE entry SET body = 'text' WHERE idx = 300", "entry_missing", 300),
        ("UPDATE entry SET body = zeroblob(70000) WHERE idx = 300", "entry_missing", 300),
        ("UPDATE entry SET body = x'7b7d' WHERE idx = 300", "entry_malformed", 300),
        ("UPDATE entry SET leaf = zeroblob(32) WHERE idx = 300", "leaf_differs", 300),
        ("UPDATE entry SET leaf = 'x' WHERE idx = 599", "leaf_differs", 599),
        ("DELETE FROM entry WHERE idx = 300", "entry_missing", 300),
        ("DELETE FROM entry WHERE idx >= 400", "entry_missing", 400),
        ("INSERT INTO entry SELECT 600, leaf, body FROM entry WHERE idx = 599", "rows_superfluous", 600),
        ("INSERT INTO entry SELECT -1, leaf, body FROM entry WHERE idx = 599", "rows_superfluous", 600),
        ("UPDATE subtree SET hash = zeroblob(32) WHERE idx = 1", "tile_differs", 256),
        ("DELETE FROM subtree WHERE idx = 0", "tile_differs", 0),
        ("INSERT INTO subtree SELECT 1, 2, hash FROM subtree WHERE idx = 1", "rows_superfluous", None),
        ("INSERT INTO subtree SELECT 2, 0, hash FROM subtree WHERE idx = 1", "rows_superfluous", None),
        ("INSERT INTO subtree SELECT 'x', 0, hash FROM subtree WHERE idx = 1", "rows_superfluous", None),
        ("UPDATE head SET size = 599", "head_differs", None),
        ("UPDATE head SET root = zeroblob(32)", "head_differs", None),
        ("UPDATE head SET time = '2026-11-23T08:00:00.001Z'", "head_differs", 599),
        ("UPDATE head SET time = 'noon'", "checkpoint_malformed", None),
        ("UPDATE head SET checkpoint = 'x'", "checkpoint_malformed", None),
        ("UPDATE head SET checkpoint = replace(checkpoint, '600', '599')", "checkpoint_unsigned", None),
    ],
)  # fmt: skip
def test_an_edit_is_named(path: Path, statement: str, code: str, index: int | None) -> None:
    """Each table of the ground, each column: the first bad index is that of the edit."""
    edit(path, statement)
    done = check(path)
    assert done.findings.verdict is Verdict.BROKEN
    assert done.findings.first_bad == index
    assert (code, index) in {(one.code, one.index) for one in done.findings.listed}


def test_a_snapshot_is_of_one_moment_and_writes_nothing(engine: Engine, tmp_path: Path) -> None:
    """While it is open the ledger goes on appending, and what is checked is the log as it was."""
    ledger, path = open_ledger(engine), tmp_path / "ledger.db"
    for number in range(3):
        ledger.append_sync(spend(str(number)))
    with open_snapshot(path) as connection:
        ledger.append_sync(spend("later"))
        done = check_log(SnapshotSource(connection), TRUST, lambda *_: None)
        check_rows(connection, done)
        assert (done.findings.verdict, done.entries) == (Verdict.SOUND, 3)
        with pytest.raises(DatabaseReadOnly), database_errors():
            connection.exec_driver_sql("DELETE FROM head")
    ledger.close()
    assert check(path).entries == 4


def test_what_is_no_database_of_ours_cannot_be_checked(tmp_path: Path) -> None:
    """Nothing there, no database, another schema: an error, not a verdict."""
    with pytest.raises(DatabaseMissing):
        check(tmp_path / "none.db")
    noise = tmp_path / "noise.db"
    noise.write_bytes(b"x" * 5_000)
    with pytest.raises(DatabaseUnreadable):
        check(noise)
    old = tmp_path / "old.db"
    open_engine(old, create=True).dispose()
    edit(old, "PRAGMA user_version = 1")
    with pytest.raises(DatabaseVersionUnknown):
        check(old)
