"""One transaction of the ledger: many changes, one signed checkpoint, one commit.

No thread and no queue here; audit/ledger.py decides when a batch is written and who is told.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine

from audit import store
from audit.edge import Edge, Growth
from audit.errors import LedgerCorrupt
from audit.event import encode, floor_time
from audit.kinds import Event
from audit.merkle import leaf_hash
from audit.note import NoteSigner
from audit.prepared import driver
from audit.proof import format_proof
from audit.schema import database_errors, writer
from audit.store import Head

T = TypeVar("T")


@dataclass(frozen=True)
class Position:
    """Where an entry will stand: its index, and its time in UTC, whole milliseconds, never before the last entry's."""

    index: int
    time: datetime


@dataclass(frozen=True)
class Committed(Generic[T]):
    """A durable change: its entry's index, time and bytes, its tlog-proof, and the value that the change returned."""

    index: int
    time: datetime
    body: bytes
    proof: str
    value: T


Change = Callable[[Connection, Position], tuple[Event, T]]
Outcome = Committed[Any] | Exception


@dataclass(frozen=True)
class _Accepted:
    position: Position
    body: bytes
    value: Any


class BatchWriter:
    """Writes batches on a connection of its own. Not for use from two threads at once."""

    def __init__(self, engine: Engine, signer: NoteSigner, origin: str, clock: Callable[[], datetime]) -> None:
        """Re-derive the right edge, or start an empty log.

        Raises:
            LedgerCorrupt: the stored log does not re-derive, or was signed by another key or for another origin.
            LedgerBusy: another process holds the write lock.
        """
        if origin != signer.verifier.name:  # or no tlog-policy could ever name this log
            raise LedgerCorrupt("the log's origin is not the name of its key")
        self._signer, self._origin, self._clock = signer, origin, clock
        self._connection = writer(engine)
        try:
            with database_errors(), self._connection.begin():
                if store.read_head(self._connection) is None:
                    edge = Edge(0, {})
                    store.create(self._connection, Head.signed(edge, floor_time(clock()), origin, signer))
                self.head, self._edge = store.recover(self._connection, signer.verifiers, origin)
        except BaseException:
            self.close()
            raise

    def write(self, changes: Sequence[Change[Any]]) -> list[Outcome]:
        """Run changes in order and commit those that were not refused, all or none.

        Returns:
            For each change what was committed, or the error that it raised (then it left no trace).

        Raises:
            LedgerBusy: the write lock was not to be had; nothing was done.
            Exception: anything else. Whether the batch is on the disk is then unknown: write no more.
        """
        # (1) The write lock: from here on nobody else can append.
        with database_errors():
            transaction = self._connection.begin()
        try:
            # (2) The head is the one we know, or another process appended and its edge is taken over.
            self._follow()
            # (3) Each change, alone in its savepoint.
            results = self._run(changes)
            accepted = [result for result in results if isinstance(result, _Accepted)]
            if not accepted:
                transaction.rollback()
                return [result for result in results if isinstance(result, Exception)]
            # (4) Entries, hashes and the signed head beside them; durable when COMMIT returns.
            head, growth = self._store(accepted)
            transaction.commit()
        except BaseException:
            with suppress(Exception):
                transaction.rollback()
            raise
        self.head, self._edge = head, growth.edge
        # (5) Proofs, all under the checkpoint just committed.
        return [result if isinstance(result, Exception) else _committed(result, head, growth) for result in results]

    def close(self) -> None:
        """Give the connection back; an open transaction is rolled back."""
        with suppress(Exception):  # nothing is owed to a connection that no longer answers
            self._connection.close()

    def _follow(self) -> None:
        if store.read_head(self._connection) == self.head:
            return
        head, edge = store.recover(self._connection, self._signer.verifiers, self._origin)
        # What another process appended must go on from what this one signed, or the log would have two histories.
        if store.root_at(self._connection, min(self.head.size, head.size), head.size) != self.head.root:
            raise LedgerCorrupt("the stored log does not continue the one that was signed")
        self.head, self._edge = head, edge

    def _run(self, changes: Sequence[Change[Any]]) -> list[_Accepted | Exception]:
        results: list[_Accepted | Exception] = []
        index, last = self.head.size, self.head.time
        for change in changes:
            position = Position(index, max(last, floor_time(self._clock())))
            result = self._attempt(change, position)
            results.append(result)
            if isinstance(result, _Accepted):
                index, last = index + 1, position.time
        return results

    def _attempt(self, change: Change[Any], position: Position) -> _Accepted | Exception:
        execute = driver(self._connection).execute
        execute("SAVEPOINT change")
        try:
            event, value = change(self._connection, position)
            body = encode(event, position.time)
        except Exception as error:
            # Where the database gave up the whole transaction this fails in its turn, and the batch with it.
            execute("ROLLBACK TO change")
            execute("RELEASE change")
            # A StopIteration cannot travel through a future.
            return RuntimeError(repr(error)) if isinstance(error, StopIteration) else error
        execute("RELEASE change")
        return _Accepted(position, body, value)

    def _store(self, accepted: Sequence[_Accepted]) -> tuple[Head, Growth]:
        bodies = [item.body for item in accepted]
        leaves = [leaf_hash(body) for body in bodies]
        growth = self._edge.grow(leaves)
        head = Head.signed(growth.edge, accepted[-1].position.time, self._origin, self._signer)
        store.write_entries(self._connection, bodies, leaves, growth)
        store.write_head(self._connection, head)
        return head, growth


def _committed(item: _Accepted, head: Head, growth: Growth) -> Committed[Any]:
    index = item.position.index
    proof = format_proof(index, growth.proof(index), head.checkpoint)
    return Committed(index, item.position.time, item.body, proof, item.value)
