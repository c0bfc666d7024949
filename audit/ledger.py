"""The ledger: the one way to change state.

A change is a function. It is given a connection inside the transaction and the position its entry will have; it
writes what it must to any table, and returns the event that says so. Entry, projections, hashes, head and signed
checkpoint become durable in ONE transaction, and only then does the caller get an answer, with a proof under that
checkpoint. So there is no state without its entry, no entry without its state, and no answer without both.

One thread writes. It takes all that is waiting into one transaction (group commit), each change in a savepoint of its
own: one that is refused leaves no trace and disturbs no other. Failures are sorted in two: the lock was not to be had,
then nothing happened and the ledger goes on; or anything else, then the outcome is unknown and the ledger closes,
because only reading the database again can tell what is true.
"""

import asyncio
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from sqlalchemy import Engine

from audit import store
from audit.batch import BatchWriter, Change, Committed, Outcome, Position
from audit.errors import EntryUnknown, LedgerBusy, LedgerClosed, LedgerCorrupt, ProofInvalid
from audit.event import decode
from audit.merkle import consistency_proof, inclusion_proof, verify_inclusion
from audit.note import NoteSigner, head_of
from audit.proof import format_proof
from audit.schema import database_errors
from audit.tiles import tile_reader

__all__ = ["BATCH_MAX", "QUEUE_MAX", "Change", "Committed", "Ledger", "Position"]

BATCH_MAX: Final = 256  # changes in a transaction: bounds how long others wait for one answer
QUEUE_MAX: Final = 4_096  # changes waiting: beyond this it is kinder to say no at once (Tessera's pushback)

T = TypeVar("T")


@dataclass(frozen=True)
class _Cosigned:
    """The newest checkpoint that a quorum of witnesses cosigned."""

    size: int
    root: bytes
    checkpoint: str


@dataclass(frozen=True)
class _Waiter:
    """A change and who waits for it: a coroutine on a loop, or a thread."""

    change: Change[Any]
    future: "asyncio.Future[Any] | Future[Any]"
    loop: asyncio.AbstractEventLoop | None
    together: int = 1  # it, and those behind it that go into the same transaction


class Ledger:
    """An append-only log in a database, with the state that its entries describe. Made by `open`."""

    def __init__(
        self,
        engine: Engine,
        batches: BatchWriter,
        on_fatal: Callable[[BaseException], None],
        on_commit: Callable[[str], None],
    ) -> None:
        self._engine, self._batches, self._on_fatal, self._on_commit = engine, batches, on_fatal, on_commit
        self._head = batches.head
        self._cosigned: _Cosigned | None = None
        self._waiting: deque[_Waiter] = deque()
        self._wake = threading.Condition(threading.Lock())
        self._closed = False
        # A daemon: a process that ends without close() loses nothing that was answered, and must not hang.
        self._thread = threading.Thread(target=self._write_forever, name="ledger", daemon=True)
        self._thread.start()

    @classmethod
    def open(
        cls,
        engine: Engine,
        signer: NoteSigner,
        origin: str,
        clock: Callable[[], datetime],
        on_fatal: Callable[[BaseException], None] = lambda _: None,
        on_commit: Callable[[str], None] = lambda _: None,
    ) -> "Ledger":
        """Open the log, its right edge re-derived; an empty database gets the head of an empty log.

        Args:
            engine: from `audit.schema.open_engine`.
            signer: signs checkpoints; its name is the origin.
            origin: the log's name, the first line of each checkpoint.
            clock: the present time, with a zone; called on the writer's thread.
            on_fatal: called once, on the writer's thread, when the ledger closed itself.
            on_commit: called with each new signed checkpoint, on the writer's thread, after the callers were told.

        Raises:
            LedgerCorrupt: the stored log does not re-derive, or is another key's or another origin's.
            LedgerBusy: another process holds the write lock.
        """
        return cls(engine, BatchWriter(engine, signer, origin, clock), on_fatal, on_commit)

    async def append(self, change: Change[T]) -> Committed[T]:
        """Run a change and wait until it is durable.

        A caller that is cancelled while it waits does not learn whether its change was made: it was not if its batch
        had not begun, and may have been otherwise.

        Raises:
            Exception: whatever the change raised; then it left no trace.
            LedgerBusy: the queue is full or the lock not to be had; the change was not made.
            LedgerClosed: the ledger closed; if it did so while waiting, the outcome is unknown.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Committed[T]] = loop.create_future()
        self._put(_Waiter(change, future, loop))
        return await future

    async def append_all(self, changes: Sequence[Change[T]]) -> list[Committed[T] | BaseException]:
        """Run changes in order in one transaction, each with an entry of its own, and wait until all are durable.

        Args:
            changes: at most `BATCH_MAX`. One that raises leaves no trace, and the others are made.

        Returns:
            For each change what was committed, or the error that it raised.

        Raises:
            LedgerBusy, LedgerClosed: as `append`, for all of them.
        """
        if len(changes) > BATCH_MAX:
            raise LedgerBusy(f"{len(changes)} changes are too many for one transaction")
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Committed[T]]] = [loop.create_future() for _ in changes]
        sizes = range(len(changes), 0, -1)
        self._put(*(_Waiter(*each) for each in zip(changes, futures, [loop] * len(changes), sizes, strict=True)))
        return await asyncio.gather(*futures, return_exceptions=True)

    def append_sync(self, change: Change[T]) -> Committed[T]:
        """Do as `append`, blocking the calling thread."""
        future: Future[Committed[T]] = Future()
        self._put(_Waiter(change, future, None))
        return future.result()

    @property
    def size(self) -> int:
        """Entries in the log, as of this ledger's last commit."""
        return self._head.size

    @property
    def time(self) -> datetime:
        """The last entry's time: no later entry has an earlier one."""
        return self._head.time

    @property
    def checkpoint(self) -> str:
        """The signed checkpoint of this ledger's last commit."""
        return self._head.checkpoint

    @property
    def published(self) -> str:
        """The checkpoint to show: the newest that was given to `publish`, or else as `checkpoint`."""
        return self._cosigned.checkpoint if self._cosigned else self._head.checkpoint

    def publish(self, checkpoint: str) -> None:
        """Show this checkpoint from now on, and prove under it what it covers.

        Args:
            checkpoint: one of this log's, cosigned by a quorum of witnesses; the caller has verified that.

        Raises:
            EntryUnknown: it is of a size that this log was never of.
            LedgerCorrupt: the stored log does not lead to its root.
        """
        head = head_of(checkpoint)
        if not 0 <= head.size <= self._head.size:
            raise EntryUnknown(f"no log of size {head.size}")
        with database_errors(), self._engine.connect() as connection:
            if store.root_at(connection, head.size, head.size) != head.root:
                raise LedgerCorrupt(f"the log of size {head.size} has another root than the one that was cosigned")
        self._cosigned = _Cosigned(head.size, head.root, checkpoint)

    def entry(self, index: int) -> bytes:
        """Read an entry, checked against its leaf hash.

        Raises:
            EntryUnknown: no such entry.
            LedgerCorrupt: the entry is not what was hashed.
        """
        if not 0 <= index < self._head.size:
            raise EntryUnknown(f"no entry {index}")
        return self.entries(index, 1)[0][1]

    def entries(self, first: int, count: int) -> list[tuple[int, bytes]]:
        """Read up to `count` entries from index `first` on, as (index, bytes); fewer where the log ends.

        Raises:
            LedgerCorrupt: an entry is missing or is not what was hashed.
        """
        first = max(first, 0)
        count = min(count, self._head.size - first)
        if count <= 0:
            return []
        with database_errors(), self._engine.connect() as connection:
            return store.read_entries(connection, first, count)

    def replay(self, since: datetime) -> Iterator[bytes]:
        """Read the entries that are not older than a moment, each led back to the signed root before it is given.

        Raises:
            LedgerCorrupt: the stored log does not lead to the signed root.
        """

        def time_of(index: int) -> datetime:
            self.prove(index)
            return decode(self.entry(index))[1]

        size = self._head.size
        first = bisect_left(range(size), since, key=time_of)
        with database_errors(), self._engine.connect() as connection:
            yield from store.read_bound_entries(connection, first, size)

    def prove(self, index: int) -> str:
        """Return the tlog-proof of an entry under the published checkpoint if that covers it, or else the present one.

        It has been verified.

        Raises:
            EntryUnknown: no such entry.
            LedgerCorrupt: the stored hashes do not lead to the signed root.
        """
        head = self._head_for(index + 1)
        if not 0 <= index < head.size:
            raise EntryUnknown(f"no entry {index}")
        with database_errors(), self._engine.connect() as connection:
            read = tile_reader(head.size, lambda tile: store.read_tile(connection, tile))
            hashes, leaf = inclusion_proof(index, head.size, read), read(0, index)
        try:
            verify_inclusion(leaf, index, head.size, hashes, head.root)
        except ProofInvalid as error:
            raise LedgerCorrupt(f"the stored hashes around entry {index} do not lead to the signed root") from error
        return format_proof(index, hashes, head.checkpoint)

    def prove_consistency(self, old: int) -> tuple[list[bytes], str]:
        """Return the RFC 6962 proof that the log of size `old` is a prefix of a newer one, and that one's checkpoint.

        It is the published checkpoint if that is not older than `old`, or else the present one.

        Raises:
            EntryUnknown: the log was never of that size, or the size is 0 (nothing to prove).
        """
        head = self._head_for(old)
        if not 0 < old <= head.size:
            raise EntryUnknown(f"no log of size {old}")
        with database_errors(), self._engine.connect() as connection:
            read = tile_reader(head.size, lambda tile: store.read_tile(connection, tile))
            return consistency_proof(old, head.size, read), head.checkpoint

    def close(self) -> None:
        """Write what is waiting, then stop. Later appends get LedgerClosed; reading goes on to work."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _head_for(self, size: int) -> "store.Head | _Cosigned":
        """One snapshot, for proof and checkpoint must be of one size."""
        cosigned = self._cosigned
        return cosigned if cosigned and size <= cosigned.size else self._head

    def _put(self, *waiters: _Waiter) -> None:
        with self._wake:
            if self._closed:
                raise LedgerClosed("the ledger is closed")
            if len(self._waiting) + len(waiters) > QUEUE_MAX:
                raise LedgerBusy("too many changes are waiting")
            self._waiting.extend(waiters)
            self._wake.notify()

    def _take(self) -> list[_Waiter]:
        """Wait for changes and take a batch of them; none when closed and drained."""
        with self._wake:
            self._wake.wait_for(lambda: self._waiting or self._closed)
            taken = list[_Waiter]()
            while self._waiting and len(taken) + self._waiting[0].together <= BATCH_MAX:
                taken.append(self._waiting.popleft())
            return taken

    def _write_forever(self) -> None:
        batch: list[_Waiter] = []
        try:
            while batch := self._take():
                if batch := [waiter for waiter in batch if not waiter.future.cancelled()]:
                    before = self._head
                    _deliver(batch, self._write(batch))
                    batch = []
                    if self._head is not before:
                        self._on_commit(self._head.checkpoint)
        except BaseException as error:  # the thread is the last to see it
            self._fail(batch, error)
        finally:
            self._batches.close()

    def _write(self, batch: Sequence[_Waiter]) -> Sequence[Outcome]:
        try:
            outcomes = self._batches.write([waiter.change for waiter in batch])
        except LedgerBusy as error:
            return [LedgerBusy(*error.args) for _ in batch]
        self._head = self._batches.head
        return outcomes

    def _fail(self, batch: Sequence[_Waiter], cause: BaseException) -> None:
        with self._wake:
            self._closed = True
            lost = [*batch, *self._waiting]
            self._waiting.clear()
        # An error for each: one that is raised in two places mixes up their tracebacks.
        _deliver(lost, [_closed_by(cause) for _ in lost])
        self._on_fatal(cause)


def _closed_by(cause: BaseException) -> LedgerClosed:
    error = LedgerClosed("the ledger closed after a failure whose outcome is unknown")
    error.__cause__ = cause
    return error


def _deliver(waiters: Sequence[_Waiter], outcomes: Sequence[Outcome]) -> None:
    """Give each waiter its outcome, with one wake-up for each event loop rather than for each waiter."""
    by_loop: dict[asyncio.AbstractEventLoop | None, list[tuple[Any, Outcome]]] = {}
    for waiter, outcome in zip(waiters, outcomes, strict=True):
        by_loop.setdefault(waiter.loop, []).append((waiter.future, outcome))
    for loop, pairs in by_loop.items():
        if loop is None:
            _resolve(pairs)
            continue
        try:
            loop.call_soon_threadsafe(_resolve, pairs)
        except RuntimeError:  # the loop is closed: nobody waits there any more
            continue


def _resolve(pairs: Sequence[tuple[Any, Outcome]]) -> None:
    for future, outcome in pairs:
        if future.done():  # cancelled meanwhile
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
