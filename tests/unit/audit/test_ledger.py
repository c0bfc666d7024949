"""The ledger: one transaction for entry and state, durable before anybody is told, whole after every failure."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from audit import ledger as ledger_module
from audit.batch import BatchWriter
from audit.errors import (
    CallerError,
    EntryUnknown,
    EventInvalid,
    LedgerBusy,
    LedgerClosed,
)
from audit.event import decode
from audit.kinds import Event
from audit.ledger import BATCH_MAX, Change, Committed, Ledger, Position
from audit.merkle import EMPTY_ROOT, verify_consistency
from audit.note import Checkpoint
from audit.proof import TlogProof
from audit.schema import open_engine
from tests.unit.audit.ledgers import (
    SPENT,
    TRUST,
    Gate,
    check_committed,
    check_whole,
    open_ledger,
    spend,
    spent,
)
from tests.unit.audit.vectors import ORIGIN, START, Clock, decision, signer


def test_an_empty_log_has_a_signed_head(engine: Engine, ledger: Ledger) -> None:
    """Size 0 is a checkpoint too, and stays the same when opened again."""
    assert TRUST.verify(ledger.checkpoint) == Checkpoint(ORIGIN, 0, EMPTY_ROOT)
    assert open_ledger(engine).checkpoint == ledger.checkpoint
    assert ledger.entries(0, 10) == []


def test_an_append_is_entry_state_and_proof(engine: Engine, ledger: Ledger) -> None:
    """What the change wrote, what the log says and what the caller is told are one thing."""
    done = ledger.append_sync(spend("a"))
    assert (done.index, done.value, done.time) == (0, "a", START + timedelta(milliseconds=2))
    assert decode(done.body) == (decision(seq=0), done.time)
    assert check_committed(done) == 1
    assert spent(engine) == {0: "a"}
    assert ledger.entry(0) == done.body
    assert ledger.prove(0) == done.proof
    assert check_whole(engine) == TRUST.verify(ledger.checkpoint)


def test_every_older_log_is_a_proven_prefix(ledger: Ledger) -> None:
    """From each earlier checkpoint a proof leads to the newest; a size that never was has none."""
    older = [TRUST.verify(ledger.append_sync(spend(str(i))).proof.partition("\n\n")[2]) for i in range(9)]
    newest = TRUST.verify(ledger.checkpoint)
    for one in older:
        proof, checkpoint = ledger.prove_consistency(one.size)
        assert checkpoint == ledger.checkpoint
        verify_consistency(one.size, newest.size, one.root, newest.root, proof)
    with pytest.raises(EntryUnknown):
        ledger.prove_consistency(10)
    with pytest.raises(EntryUnknown):
        ledger.prove_consistency(0)


def test_a_refused_change_leaves_no_trace(engine: Engine, ledger: Ledger) -> None:
    """The caller gets its own error; neither entry nor state nor checkpoint moves."""
    before = ledger.checkpoint
    refusal = CallerError("no use left")
    with pytest.raises(CallerError) as raised:
        ledger.append_sync(spend("a", refusal))
    assert raised.value is refusal
    assert (spent(engine), ledger.size, ledger.checkpoint) == ({}, 0, before)


@pytest.mark.parametrize("error", [KeyError("x"), ZeroDivisionError(), StopIteration(), LedgerBusy("from within")])
def test_an_unexpected_error_is_the_callers_alone(engine: Engine, ledger: Ledger, error: Exception) -> None:
    """A defect in a change is passed through, and the ledger goes on."""
    with pytest.raises(RuntimeError if isinstance(error, StopIteration) else type(error)):
        ledger.append_sync(spend("a", error))
    assert check_committed(ledger.append_sync(spend("a"))) == 1
    assert spent(engine) == {0: "a"}


def test_an_event_that_cannot_be_written_undoes_its_change(engine: Engine, ledger: Ledger) -> None:
    """State without an entry is impossible, even if the event is malformed."""

    def change(connection: Connection, position: Position) -> tuple[Event, None]:
        connection.exec_driver_sql("INSERT INTO spent (idx, name) VALUES (?, 'a')", (position.index,))
        return decision(limit="150000"), None

    with pytest.raises(EventInvalid):
        ledger.append_sync(change)
    assert (spent(engine), ledger.size) == ({}, 0)


def test_a_constraint_that_fails_is_the_callers_alone(engine: Engine, ledger: Ledger) -> None:
    """A second use of what is unique is refused by the database, and the ledger goes on."""
    ledger.append_sync(spend("a"))
    with pytest.raises(IntegrityError):
        ledger.append_sync(spend("a"))
    ledger.append_sync(spend("b"))
    assert spent(engine) == {0: "a", 1: "b"}
    check_whole(engine)


def test_refusals_disturb_no_other_in_their_batch(engine: Engine) -> None:
    """In one transaction the refused leave gaps nowhere, and later changes see what earlier ones wrote."""
    batches = BatchWriter(engine, signer(), ORIGIN, Clock())
    refusal = CallerError("no")
    seen: list[int] = []

    def look(connection: Connection, position: Position) -> tuple[Event, str]:
        seen.append(connection.exec_driver_sql("SELECT count(*) FROM spent").scalar_one())
        return spend("look")(connection, position)

    outcomes = batches.write([spend("a"), spend("x", refusal), spend("b"), spend("b"), look, spend("c")])
    assert [done.value if isinstance(done, Committed) else type(done) for done in outcomes] == [
        "a",
        CallerError,
        "b",
        IntegrityError,
        "look",
        "c",
    ]
    assert {check_committed(done) for done in outcomes if isinstance(done, Committed)} == {4}
    assert spent(engine) == {0: "a", 1: "b", 2: "look", 3: "c"}
    assert seen == [2]
    assert len(batches.write([spend("x", refusal), spend("y", refusal)])) == 2
    assert check_whole(engine).size == 4
    batches.close()


async def test_concurrent_appends(engine: Engine, ledger: Ledger) -> None:
    """Many writers, tasks and threads, get each an index of its own and a proof; refusals mix in."""

    async def task(number: int) -> list[Committed[str]]:
        done = []
        for turn in range(8):
            if turn % 3 == 2:
                with pytest.raises(CallerError):
                    await ledger.append(spend("x", CallerError("no")))
            else:
                done.append(await ledger.append(spend(f"t{number}.{turn}")))
        return done

    with ThreadPoolExecutor(4) as threads:
        others = [threads.submit(ledger.append_sync, spend(f"s{number}")) for number in range(40)]
        tasks = await asyncio.gather(*(task(number) for number in range(20)))
    done = [item for items in tasks for item in items] + [other.result() for other in others]
    assert sorted(item.index for item in done) == list(range(20 * 6 + 40))
    assert spent(engine) == {item.index: item.value for item in done}
    for item in done:
        assert item.index < check_committed(item) <= ledger.size
    for items in tasks:  # a writer that waits for its answers sees them in order
        assert [item.index for item in items] == sorted(item.index for item in items)
    check_whole(engine)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(st.booleans(), max_size=200), max_size=6))
def test_any_batches_make_the_same_log(tmp_path_factory: pytest.TempPathFactory, batches: list[list[bool]]) -> None:
    """However accepted and refused changes are grouped, and however often it is opened anew, the log is whole."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    made = open_engine(path, create=True)
    with made.connect() as connection, connection.begin():
        connection.exec_driver_sql(SPENT)
    names = []
    for number, batch in enumerate(batches):
        batches_written = BatchWriter(made, signer(), ORIGIN, Clock())
        changes = [
            spend(f"{number}.{at}", None if accepted else CallerError("no")) for at, accepted in enumerate(batch)
        ]
        for done in batches_written.write(changes):
            if isinstance(done, Committed):
                assert check_committed(done) == batches_written.head.size
                names.append(done.value)
        batches_written.close()
    assert list(spent(made).values()) == names
    assert not names or check_whole(made).size == len(names)
    made.dispose()


def test_tiles_of_level_one_are_kept(engine: Engine) -> None:
    """Beyond 256 entries the stored subtree hashes serve proofs and the next start."""
    batches = BatchWriter(engine, signer(), ORIGIN, Clock())
    for start in range(0, 1030, 103):
        batches.write([spend(str(number)) for number in range(start, start + 103)])
    batches.close()
    ledger = open_ledger(engine)
    for index in (0, 255, 256, 511, 777, 1023, 1024, 1029):
        proof = TlogProof.parse(ledger.prove(index))
        assert proof.verify_inclusion(ledger.entry(index)) == TRUST.verify(ledger.checkpoint)
    assert [index for index, _ in ledger.entries(1025, 99)] == [1025, 1026, 1027, 1028, 1029]
    assert check_committed(ledger.append_sync(spend("next"))) == 1031
    ledger.close()
    assert check_whole(engine).size == 1031


@pytest.mark.parametrize("index", [-1, 0, 2**70])
def test_unknown_entries(ledger: Ledger, index: int) -> None:
    """An index outside the log is an error of ours."""
    with pytest.raises(EntryUnknown):
        ledger.entry(index)
    with pytest.raises(EntryUnknown):
        ledger.prove(index)


def test_time_never_goes_back(engine: Engine) -> None:
    """When the clock does, entries keep the last time, across a restart too."""
    clock = Clock()
    ledger = open_ledger(engine, clock)
    last = ledger.append_sync(spend("a")).time
    clock.now = START - timedelta(days=1)
    assert ledger.append_sync(spend("b")).time == last
    ledger.close()
    ledger = open_ledger(engine, lambda: datetime(2000, 1, 1, tzinfo=UTC))
    assert ledger.append_sync(spend("c")).time == last
    ledger.close()
    check_whole(engine)


def test_reload_goes_on_where_it_stopped(engine: Engine) -> None:
    """A log opened again has the same checkpoint, byte for byte, and grows from it."""
    ledger = open_ledger(engine)
    ledger.append_sync(spend("a"))
    ledger.close()
    again = open_ledger(engine)
    assert again.checkpoint == ledger.checkpoint
    assert again.append_sync(spend("b")).index == 1
    again.close()
    assert check_whole(engine).size == 2


async def test_a_full_queue_says_so_at_once(engine: Engine, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its bound the queue refuses; what it took is written."""
    monkeypatch.setattr(ledger_module, "QUEUE_MAX", 3)
    gate = Gate()
    first = asyncio.ensure_future(ledger.append(gate))
    await asyncio.to_thread(gate.entered.wait, 10)
    rest = [asyncio.ensure_future(ledger.append(spend(str(number)))) for number in range(5)]
    await asyncio.sleep(0)
    gate.go.set()
    results = await asyncio.gather(first, *rest, return_exceptions=True)
    assert [type(result) for result in results] == [Committed] * 4 + [LedgerBusy] * 2
    assert check_whole(engine).size == 4


async def test_a_cancelled_caller_is_spared_its_change(engine: Engine, ledger: Ledger) -> None:
    """Who gives up before the change began leaves nothing behind, and disturbs nobody."""
    gate = Gate()
    first = asyncio.ensure_future(ledger.append(gate))
    await asyncio.to_thread(gate.entered.wait, 10)
    second, third = (asyncio.ensure_future(ledger.append(spend(name))) for name in ("b", "c"))
    await asyncio.sleep(0)
    second.cancel()
    first.cancel()  # too late: its change has begun
    await asyncio.wait([first, second])
    gate.go.set()
    assert (await third).index == 1
    assert spent(engine) == {0: "gate 0", 1: "c"}


async def test_who_gives_up_in_the_middle_of_a_batch_disturbs_no_other(engine: Engine, ledger: Ledger) -> None:
    """A change whose batch has begun is made all the same, and the others of the batch get their answers."""
    before, within = Gate(), Gate()
    tasks = [asyncio.ensure_future(ledger.append(before))]
    await asyncio.to_thread(before.entered.wait, 10)
    tasks += [asyncio.ensure_future(ledger.append(change)) for change in (within, spend("b"), spend("c"))]
    await asyncio.sleep(0)
    before.go.set()
    await asyncio.to_thread(within.entered.wait, 10)
    tasks[2].cancel()
    await asyncio.wait([tasks[2]])
    within.go.set()
    assert (await asyncio.wait_for(tasks[3], 10)).index == 3
    assert list(spent(engine).values()) == ["gate 0", "gate 1", "b", "c"]


async def test_close_writes_what_is_waiting(engine: Engine, ledger: Ledger) -> None:
    """Closing drains the queue, then refuses; closing again does nothing; reading goes on."""
    gate = Gate()
    waiting = [asyncio.ensure_future(ledger.append(gate))]
    await asyncio.to_thread(gate.entered.wait, 10)
    waiting += [asyncio.ensure_future(ledger.append(spend(str(number)))) for number in range(5)]
    await asyncio.sleep(0)
    gate.go.set()
    await asyncio.to_thread(ledger.close)
    assert [done.index for done in await asyncio.gather(*waiting)] == list(range(6))
    ledger.close()
    with pytest.raises(LedgerClosed):
        ledger.append_sync(spend("late"))
    with pytest.raises(LedgerClosed):
        await ledger.append(spend("late"))
    assert ledger.entry(5)
    check_whole(engine)


def test_an_answer_to_a_closed_loop_is_dropped(engine: Engine, ledger: Ledger) -> None:
    """A loop that ended while its change was written does not stop the ledger."""
    gate = Gate()
    loop = asyncio.new_event_loop()
    task = loop.create_task(ledger.append(gate))
    loop.run_until_complete(asyncio.sleep(0))
    assert gate.entered.wait(10)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    gate.go.set()
    assert ledger.append_sync(spend("b")).index == 1
    check_whole(engine)


async def test_changes_together_are_one_transaction(engine: Engine, ledger: Ledger) -> None:
    """However many others wait: all under one checkpoint, in their order, and one that is refused disturbs none."""
    gate = Gate()
    first: list[Change[str]] = [gate, *(spend(f"x{n}") for n in range(200))]
    before = [asyncio.create_task(ledger.append(change)) for change in first]
    await asyncio.sleep(0)
    refusal = CallerError("no use left")
    many = [spend(f"m{n}", refusal if n == 7 else None) for n in range(BATCH_MAX)]
    together = asyncio.create_task(ledger.append_all(many))
    await asyncio.sleep(0)
    gate.go.set()
    await asyncio.gather(*before)
    outcomes = await together
    assert outcomes[7] is refusal
    made = [one for one in outcomes if isinstance(one, Committed)]
    assert [one.value for one in made] == [f"m{n}" for n in range(BATCH_MAX) if n != 7]
    assert {check_committed(one) for one in made} == {ledger.size}
    assert ledger.size == 201 + BATCH_MAX - 1
    check_whole(engine)


async def test_more_changes_than_a_transaction_takes_are_refused(ledger: Ledger) -> None:
    """At once and without a trace; none at all is nothing."""
    with pytest.raises(LedgerBusy):
        await ledger.append_all([spend("m")] * (BATCH_MAX + 1))
    assert await ledger.append_all([]) == []
    assert ledger.size == 0
