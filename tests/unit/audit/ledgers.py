"""What the tests of the ledger share: a projection, changes that write it, and whole-log checks."""

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine

from audit import store
from audit.batch import BatchWriter
from audit.event import decode
from audit.kinds import Event
from audit.ledger import Change, Committed, Ledger, Position
from audit.merkle import leaf_hash, tree_hash
from audit.note import Checkpoint
from audit.policy import Policy
from audit.proof import TlogProof
from tests.unit.audit.vectors import ORIGIN, Clock, decision, signer

TRUST = Policy((signer().verifier,))
SPENT = (
    "CREATE TABLE spent (name TEXT UNIQUE,"
    " idx INTEGER PRIMARY KEY REFERENCES entry (idx) DEFERRABLE INITIALLY DEFERRED)"
)


def open_ledger(engine: Engine, clock: Callable[[], datetime] | None = None, **rest: Any) -> Ledger:
    """Open the log of these tests."""
    return Ledger.open(engine, signer(), ORIGIN, clock or Clock(), **rest)


def spend(name: str, refuse: Exception | None = None) -> Change[str]:
    """Make a change that writes a projection and logs a decision, or is refused after it wrote."""

    def change(connection: Connection, position: Position) -> tuple[Event, str]:
        connection.exec_driver_sql("INSERT INTO spent (idx, name) VALUES (?, ?)", (position.index, name))
        if refuse:
            raise refuse
        return decision(seq=position.index), name

    return change


def spent(engine: Engine) -> dict[int, str]:
    """Read the projection."""
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT idx, name FROM spent ORDER BY idx").all()
    return {row.idx: row.name for row in rows}


def check_whole(engine: Engine) -> Checkpoint:
    """Re-derive the whole log from its entries: root, signature, order, times, projection."""
    with engine.connect() as connection:
        head = store.read_head(connection)
        assert head is not None
        entries = store.read_entries(connection, 0, head.size)
        rows = connection.exec_driver_sql("SELECT count(*) FROM entry").scalar_one()
    assert rows == head.size
    assert [index for index, _ in entries] == list(range(head.size))
    assert spent(engine).keys() == set(range(head.size))
    times = [decode(body)[1] for _, body in entries]
    assert times == sorted(times)
    checkpoint = TRUST.verify(head.checkpoint)
    assert checkpoint == Checkpoint(ORIGIN, head.size, tree_hash([leaf_hash(body) for _, body in entries]))
    return checkpoint


def check_committed(done: Committed[Any]) -> int:
    """Check a proof as its receiver would; return the size of its tree."""
    proof = TlogProof.parse(done.proof)
    assert proof.index == done.index
    checkpoint = TRUST.verify(proof.checkpoint)
    assert proof.verify_inclusion(done.body) == checkpoint
    assert decode(done.body)[1] == done.time
    return checkpoint.size


def fill(engine: Engine, count: int = 600) -> BatchWriter:
    """Write a log of some length at once."""
    batches = BatchWriter(engine, signer(), ORIGIN, Clock())
    batches.write([spend(str(number)) for number in range(count)])
    return batches


def execute(engine: Engine, *statements: str) -> None:
    """Change rows behind the ledger's back."""
    with engine.connect() as connection, connection.begin():
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        for statement in statements:
            assert connection.exec_driver_sql(statement).rowcount == 1


class Gate:
    """A change that holds the writer until it is let go."""

    def __init__(self) -> None:
        self.entered, self.go = threading.Event(), threading.Event()

    def __call__(self, connection: Connection, position: Position) -> tuple[Event, str]:
        """Write like any change, after waiting."""
        self.entered.set()
        assert self.go.wait(10)
        return spend(f"gate {position.index}")(connection, position)
