"""Each step of a commit × {failed, failed although it was done}: closed for all, whole again, nothing half there."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from audit import batch, store
from audit.errors import LedgerClosed
from audit.ledger import Committed, Ledger
from audit.note import NoteSigner
from audit.prepared import driver
from audit.schema import open_engine
from tests.unit.audit.ledgers import SPENT, Gate, check_committed, check_whole, fill, open_ledger, spend, spent

BEFORE = 253  # the hurt batch has entries 254 to 257 and so completes a tile: it writes every table of the log
CHANGES = 4


class DiskFailed(sqlite3.OperationalError):
    """What SQLite's driver raises when a disk fails."""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A database with 253 entries and a projection of some floor above."""
    made = open_engine(tmp_path / "ledger.db", create=True, busy_timeout_ms=1)
    with made.connect() as connection, connection.begin():
        connection.exec_driver_sql(SPENT)
    fill(made, BEFORE).close()
    yield made
    made.dispose()


class Hurt:
    """Fails at a call's turn, instead of doing it or after."""

    def __init__(self, turn: int, *, done: bool) -> None:
        self.turn, self.done = turn, done

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call, hurt."""

        def hurt(*args: Any, **rest: Any) -> Any:
            self.turn -= 1
            if self.turn == 0 and not self.done:
                raise DiskFailed("disk I/O error")
            result = call(*args, **rest)
            if self.turn == 0:
                raise DiskFailed("disk I/O error")
            return result

        return hurt


class _Driver:
    """The driver's connection, hurt where a statement begins with these words."""

    def __init__(self, real: Any, words: str, hurt: Hurt) -> None:
        self.real, self.words, self.hurt = real, words, hurt

    def execute(self, sql: str, *rest: Any) -> Any:
        return self._call(self.real.execute, sql, *rest)

    def executemany(self, sql: str, *rest: Any) -> Any:
        return self._call(self.real.executemany, sql, *rest)

    def _call(self, call: Callable[..., Any], sql: str, *rest: Any) -> Any:
        return (self.hurt.around(call) if sql.startswith(self.words) else call)(sql, *rest)


Arm = Callable[[Engine, pytest.MonkeyPatch, Hurt], None]


def at_statement(words: str) -> Arm:
    """Hurts a statement of the ledger's own."""

    def arm(_: Engine, patch: pytest.MonkeyPatch, hurt: Hurt) -> None:
        for module in (store, batch):
            patch.setattr(module, "driver", lambda connection: _Driver(driver(connection), words, hurt))

    return arm


def at_call(place: Any, name: str) -> Arm:
    """Hurts a function."""
    return lambda _, patch, hurt: patch.setattr(place, name, hurt.around(getattr(place, name)))


def at_commit(engine: Engine, _: pytest.MonkeyPatch, hurt: Hurt) -> None:
    """Hurts the driver's COMMIT."""
    event.listen(engine, "commit", lambda connection: hurt.around(driver(connection).commit)())


# What is hurt, at which of its turns (the gate's own batch passes first), and whether the batch is then on the disk.
POINTS: dict[str, tuple[Arm, int, tuple[bool, bool]]] = {
    "reading the head": (at_call(store, "read_head"), 2, (False, False)),
    "savepoint": (at_statement("SAVEPOINT"), 3, (False, False)),
    "release of a savepoint": (at_statement("RELEASE"), 3, (False, False)),
    "entry rows": (at_statement("INSERT INTO entry"), 2, (False, False)),
    "tile rows": (at_statement("INSERT INTO subtree"), 1, (False, False)),
    "signature": (at_call(NoteSigner, "sign"), 2, (False, False)),
    "head": (at_statement("UPDATE head"), 2, (False, False)),
    "commit": (at_commit, 2, (False, True)),
    "proofs after the commit": (at_call(batch, "format_proof"), 2, (True, True)),
}


@pytest.mark.parametrize("done", [False, True], ids=["failed", "failed though done"])
@pytest.mark.parametrize("point", POINTS)
async def test_a_step_that_fails(engine: Engine, monkeypatch: pytest.MonkeyPatch, point: str, done: bool) -> None:
    """Who was answered is there; the batch is there whole or not at all, and its callers were told that it is open."""
    arm, turn, persisted = POINTS[point]
    causes: list[BaseException] = []
    ledger = open_ledger(engine, on_fatal=causes.append)
    arm(engine, monkeypatch, Hurt(turn, done=done))
    answered, *lost = await _two_batches(ledger)
    monkeypatch.undo()
    assert isinstance(answered, Committed)
    assert [type(result) for result in lost] == [LedgerClosed] * CHANGES
    with pytest.raises(LedgerClosed):
        ledger.append_sync(spend("after"))
    size = BEFORE + 1 + CHANGES * persisted[done]
    assert ledger.size == BEFORE + 1  # a checkpoint that may not have been committed is shown to nobody
    ledger.close()
    assert [type(cause) for cause in causes] == [DiskFailed]
    assert check_whole(engine).size == size
    assert spent(engine)[answered.index] == answered.value
    again = open_ledger(_fresh(engine))
    assert again.entry(answered.index) == answered.body
    assert check_committed(again.append_sync(spend("again"))) == size + 1
    again.close()
    assert check_whole(engine).size == size + 1


async def _two_batches(ledger: Ledger) -> list[Any]:
    """One change alone, then `CHANGES` in one batch, which gathered while the first was held."""
    gate = Gate()
    first = asyncio.ensure_future(ledger.append(gate))
    await asyncio.to_thread(gate.entered.wait, 10)
    rest = [asyncio.ensure_future(ledger.append(spend(f"hurt {number}"))) for number in range(CHANGES)]
    await asyncio.sleep(0)
    gate.go.set()
    return await asyncio.gather(first, *rest, return_exceptions=True)


def _fresh(engine: Engine) -> Engine:
    """The same database as a restart opens it."""
    return open_engine(Path(str(engine.url.database)), create=False)


TRIGGERS = {"one change": ("ABORT", "hurt 1"), "the whole transaction": ("ROLLBACK", "hurt 1")}


@pytest.mark.parametrize("reach", TRIGGERS)
async def test_a_projection_that_fails(engine: Engine, reach: str) -> None:
    """Where its statement alone is undone it alone is refused; where SQLite gave up the transaction, all are open."""
    how, name = TRIGGERS[reach]
    with engine.connect() as connection, connection.begin():
        connection.exec_driver_sql(
            f"CREATE TRIGGER hurt AFTER INSERT ON spent WHEN new.name = '{name}' BEGIN SELECT RAISE({how}, 'disk'); END"
        )
    ledger = open_ledger(engine)
    answered, *rest = await _two_batches(ledger)
    ledger.close()
    assert isinstance(answered, Committed)
    if how == "ABORT":
        assert [isinstance(result, Committed) for result in rest] == [True, False, True, True]
        assert not isinstance(rest[1], LedgerClosed)
    else:
        assert [type(result) for result in rest] == [LedgerClosed] * CHANGES
    assert name not in spent(engine).values()
    assert check_whole(engine).size == BEFORE + 1 + (3 if how == "ABORT" else 0)


async def test_no_answer_before_the_commit(engine: Engine) -> None:
    """With the writer held at its COMMIT nobody is answered and no other connection sees anything; then all are."""
    ledger, gate = open_ledger(engine), Gate()

    def hold(_: Any) -> None:
        gate.entered.set()
        assert gate.go.wait(10)

    event.listen(engine, "commit", hold)
    waiting = [asyncio.ensure_future(ledger.append(spend(str(f"w{number}")))) for number in range(3)]
    assert await asyncio.to_thread(gate.entered.wait, 10)
    for _ in range(10):  # whatever was sent to this loop has arrived by then
        await asyncio.sleep(0)
    assert not any(one.done() for one in waiting)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT max(idx) FROM entry").scalar_one() == BEFORE - 1
    assert ledger.size == BEFORE
    gate.go.set()
    assert {type(done) for done in await asyncio.gather(*waiting)} == {Committed}
    ledger.close()
    assert check_whole(engine).size == BEFORE + 3
