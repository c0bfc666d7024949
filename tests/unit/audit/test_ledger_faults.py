"""The ledger when things break: damaged rows, locks, lost commits, full disks, other writers, restored backups."""

import asyncio
import sqlite3
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from audit import store
from audit.errors import (
    LedgerBusy,
    LedgerClosed,
    LedgerCorrupt,
)
from audit.kinds import Event
from audit.ledger import Ledger, Position
from audit.note import Checkpoint, Note, NoteSigner
from tests.unit.audit.ledgers import (
    Gate,
    check_committed,
    check_whole,
    execute,
    fill,
    open_ledger,
    spend,
)
from tests.unit.audit.vectors import ORIGIN, Clock, decision, signer


@pytest.mark.parametrize(
    ("other", "origin"),
    [
        (signer(seed=b"\x02" * 32), ORIGIN),
        (signer("example.com/other"), "example.com/other"),
        (signer(), "example.com/other"),
    ],
)
def test_another_key_or_origin_does_not_open_the_log(
    engine: Engine, ledger: Ledger, other: NoteSigner, origin: str
) -> None:
    """One log, one key, one name."""
    with pytest.raises(LedgerCorrupt):
        Ledger.open(engine, other, origin, Clock())


CORRUPTIONS = {
    "last body": "UPDATE entry SET body = body || ' ' WHERE idx = 599",
    "last leaf": "UPDATE entry SET leaf = zeroblob(32) WHERE idx = 599",
    "last body and leaf": "UPDATE entry SET body = (SELECT body FROM entry WHERE idx = 598),"
    " leaf = (SELECT leaf FROM entry WHERE idx = 598) WHERE idx = 599",
    "first of the last bundle": "UPDATE entry SET body = 'x' WHERE idx = 512",
    "last entry gone": "DELETE FROM entry WHERE idx = 599",
    "an entry of the last bundle gone": "DELETE FROM entry WHERE idx = 550",
    "an entry too many": "INSERT INTO entry SELECT 600, leaf, body FROM entry WHERE idx = 599",
    "leaf in the last full tile": "UPDATE entry SET leaf = zeroblob(32) WHERE idx = 300",
    "subtree": "UPDATE subtree SET hash = zeroblob(32) WHERE idx = 1",
    "first subtree": "UPDATE subtree SET hash = zeroblob(32) WHERE idx = 0",
    "subtree gone": "DELETE FROM subtree WHERE idx = 0",
    "head gone": "DELETE FROM head",
    "smaller head": "UPDATE head SET size = 599",
    "other root": "UPDATE head SET root = zeroblob(32)",
    "checkpoint damaged": "UPDATE head SET checkpoint = replace(checkpoint, '600', '601')",
    "no checkpoint": "UPDATE head SET checkpoint = ''",
    "other time": "UPDATE head SET time = '2030-01-01T00:00:00.000Z'",
    "text for a root": "UPDATE head SET root = '01234567890123456789012345678901'",
    "bytes for a checkpoint": "UPDATE head SET checkpoint = CAST(checkpoint AS BLOB)",
    "text for a leaf": "UPDATE entry SET leaf = '01234567890123456789012345678901' WHERE idx = 299",
    "no time": "UPDATE head SET time = 'x'",
}


@pytest.mark.parametrize("statement", CORRUPTIONS.values(), ids=CORRUPTIONS)
def test_a_damaged_right_edge_does_not_open(engine: Engine, statement: str) -> None:
    """Whatever the next append would build upon is checked at the start."""
    fill(engine).close()
    open_ledger(engine).close()
    with sqlite3.connect(str(engine.url.database)) as raw:  # without foreign keys
        assert raw.execute(statement).rowcount == 1
    with pytest.raises(LedgerCorrupt):
        open_ledger(engine)


def test_damaged_old_entries_are_not_handed_out(engine: Engine) -> None:
    """What lies deeper is found when it is read, and never proved."""
    fill(engine).close()
    ledger = open_ledger(engine)
    execute(engine, "UPDATE entry SET body = 'x' WHERE idx = 7")
    with pytest.raises(LedgerCorrupt):
        ledger.entry(7)
    with pytest.raises(LedgerCorrupt):
        ledger.entries(0, 10)
    execute(engine, "UPDATE entry SET leaf = zeroblob(32) WHERE idx = 8")
    for index in (8, 9, 100):
        with pytest.raises(LedgerCorrupt):
            ledger.prove(index)
    ledger.close()


def test_a_locked_database_is_busy_and_nothing_is_lost(engine: Engine, ledger: Ledger) -> None:
    """While another process writes, callers are told to come again; then it goes on."""
    other = sqlite3.connect(str(engine.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for _ in range(3):
        with pytest.raises(LedgerBusy):
            ledger.append_sync(spend("a"))
    other.execute("ROLLBACK")
    other.close()
    assert ledger.append_sync(spend("a")).index == 0
    check_whole(engine)


class DiskFailedError(Exception):
    """Stands for whatever a disk or a driver may raise."""


def fail(*_: Any, **__: Any) -> Any:
    """Fail."""
    raise DiskFailedError


def commit_then_fail(connection: Connection) -> None:
    """Fail after the commit reached the disk: the outcome that the caller cannot tell from the other."""
    connection.connection.driver_connection.execute("COMMIT")  # type: ignore[union-attr]
    raise DiskFailedError


FAULTS: dict[str, tuple[str, bool]] = {
    "entries": ("write_entries", False),
    "head": ("write_head", False),
    "commit, not persisted": ("commit", False),
    "commit, persisted": ("commit", True),
}


@pytest.mark.parametrize(("point", "persisted"), FAULTS.values(), ids=FAULTS)
async def test_after_an_unknown_outcome_the_ledger_closes(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, point: str, persisted: bool
) -> None:
    """A failure between first write and commit closes the ledger for all; opened again it is whole either way."""
    causes: list[BaseException] = []
    ledger = open_ledger(engine, on_fatal=causes.append)
    ledger.append_sync(spend("before"))
    before = ledger.checkpoint
    with monkeypatch.context() as patch:
        if point == "commit":
            event.listen(engine, "commit", listener := commit_then_fail if persisted else fail)
        else:
            patch.setattr(store, point, fail)
        gate = Gate()
        first = asyncio.ensure_future(ledger.append(gate))
        await asyncio.to_thread(gate.entered.wait, 10)
        rest = [asyncio.ensure_future(ledger.append(spend(str(number)))) for number in range(3)]
        await asyncio.sleep(0)
        gate.go.set()
        results = await asyncio.gather(first, *rest, return_exceptions=True)
    if point == "commit":
        event.remove(engine, "commit", listener)
    assert [type(result) for result in results] == [LedgerClosed] * 4
    with pytest.raises(LedgerClosed):
        ledger.append_sync(spend("after"))
    ledger.close()
    assert [type(cause) for cause in causes] == [DiskFailedError]
    assert ledger.checkpoint == before  # one that may not have been committed is never shown
    assert check_whole(engine).size == 1 + persisted
    again = open_ledger(engine)
    assert check_committed(again.append_sync(spend("again"))) == 2 + persisted
    again.close()
    assert check_whole(engine).size == 2 + persisted


def test_a_change_that_ends_the_transaction_closes_the_ledger(engine: Engine) -> None:
    """A change has no right to commit; one that does cannot be trusted to have left a whole log."""

    def change(connection: Connection, position: Position) -> tuple[Event, None]:
        connection.exec_driver_sql("ROLLBACK")
        return decision(), None

    causes: list[BaseException] = []
    ledger = open_ledger(engine, on_fatal=causes.append)
    with pytest.raises(LedgerClosed):
        ledger.append_sync(change)
    ledger.close()
    assert len(causes) == 1
    assert check_whole(engine).size == 0


def test_a_full_disk_loses_nothing(engine: Engine) -> None:
    """When there is no room the caller is told, and what was committed stays whole."""
    ledger = open_ledger(engine)
    ledger.append_sync(spend("before"))

    def change(connection: Connection, position: Position) -> tuple[Event, None]:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")
        connection.exec_driver_sql("INSERT INTO spent (idx, name) VALUES (?, hex(zeroblob(100000)))", (position.index,))
        return decision(), None

    with pytest.raises(Exception, match=r"full|closed"):
        ledger.append_sync(change)
    ledger.close()
    assert check_whole(engine).size == 1
    again = open_ledger(engine)
    assert again.append_sync(spend("after")).index == 1
    again.close()


def test_two_ledgers_take_turns_on_one_log(engine: Engine) -> None:
    """A second process's entries are taken over before the next append: one sequence, any number of writers."""
    one, two = open_ledger(engine), open_ledger(engine)
    for turn in range(6):
        ledger = (one, two, two)[turn % 3]
        done = ledger.append_sync(spend(str(turn)))
        assert done.index == turn
        assert check_committed(done) == turn + 1
    one.close()
    two.close()
    assert check_whole(engine).size == 6


def test_a_log_that_was_set_back_is_not_continued(engine: Engine) -> None:
    """A backup restored under a running ledger would give the log two histories: it closes instead."""
    causes: list[BaseException] = []
    ledger = open_ledger(engine, on_fatal=causes.append)
    first = ledger.append_sync(spend("a"))
    old = ledger.checkpoint
    ledger.append_sync(spend("b"))
    root = Checkpoint.parse(Note.parse(old).text).root.hex()
    time = first.time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    execute(
        engine,
        "DELETE FROM spent WHERE idx = 1",
        "DELETE FROM entry WHERE idx = 1",
        f"UPDATE head SET size = 1, root = x'{root}', checkpoint = '{old}', time = '{time}'",
    )
    with pytest.raises(LedgerClosed):
        ledger.append_sync(spend("c"))
    ledger.close()
    assert [type(cause) for cause in causes] == [LedgerCorrupt]
    assert check_whole(engine).size == 1


def test_the_database_going_away_closes_the_ledger(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A BEGIN that fails for another reason than a lock is fatal: fail closed."""
    ledger = open_ledger(engine)
    begin = partial(fail)
    event.listen(engine, "begin", begin, insert=True)
    with pytest.raises(LedgerClosed):
        ledger.append_sync(spend("a"))
    event.remove(engine, "begin", begin)
    ledger.close()
