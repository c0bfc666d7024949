"""The search index: a file derived from the log, which can be thrown away at any time.

It follows committed entries off the way of a call and is brought up to the log's head before it is asked, so a search
sees all that was committed when it was asked. Whatever it has read hangs on the tree: it keeps the right edge of the
entries that it took in, and these must lead to the signed root. So an index that has come up to a checkpoint holds
every entry of it, and one that belongs to another log, or lost a file, is found out and built anew. The same code
reads a database and an exported folder (audit/source.py).
"""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

from audit.edge import Edge
from audit.errors import DatabaseReadOnly, IndexBehind, LedgerCorrupt, ProofInvalid
from audit.index_chunks import CHUNK
from audit.index_rows import SCHEMA, Batch, Place, read_place, write_place
from audit.note import Checkpoint, head_of
from audit.schema import translate
from audit.source import LogSource
from audit.tiles import TILE_WIDTH, bundle_of, decode_bundle

BUSY_TIMEOUT_MS: Final = 5_000  # another process may be writing the same index of an exported folder
CACHE_KIB: Final = 64 * 1024  # of the writer: what a rebuild touches again and again

_PRAGMAS: Final = (
    "PRAGMA journal_mode=WAL",  # a search never waits for the follower
    "PRAGMA synchronous=NORMAL",  # a power cut may lose the last transactions, which are read again; it mixes none
    "PRAGMA trusted_schema=OFF",
    f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}",
)

_MENDABLE: Final = frozenset({
    sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FORMAT,
})  # fmt: skip
_NOWHERE: Final = Place(Edge(0, {}), 0, 0)

T = TypeVar("T")


class Index:
    """An index file. One thread at a time writes; any number ask."""

    def __init__(self, path: Path, source: LogSource, budget_milli: int = 0) -> None:
        """Open the file, or make it (mode 0600); nothing is read from the log yet.

        Args:
            path: the file; `-wal` and `-shm` will lie beside it.
            source: the log that it is derived from.
            budget_milli: thousandths of a bit a subject, institution and year, for the rule `budget_near_cap`;
                0 = not known.

        Raises:
            DatabaseReadOnly: the file cannot be made there.
        """
        self._path, self._source, self._budget_milli = path, source, budget_milli
        self._turn = threading.Lock()
        self._writer = self._open()

    @property
    def size(self) -> int:
        """Entries that the index has taken in."""
        return self._ask(self._place).size

    def follow(
        self,
        head: Checkpoint,
        *,
        patience_s: float | None = None,
        pause_s: float = 0.0,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Take in the log up to a checkpoint.

        Args:
            head: a checkpoint that is believed; the entries read must lead to its root.
            patience_s: give up after that long; what was taken in stays. None = go on to the end.
            pause_s: rest after each bundle, which leaves the interpreter to others.
            progress: called with the entries taken in so far.

        Raises:
            IndexBehind: patience ran out.
            LedgerCorrupt: the entries do not lead to the checkpoint's root.
            EntryUnknown, ProofInvalid: the source lacks entries, or they are malformed.
        """
        end = None if patience_s is None else time.monotonic() + patience_s
        if not self._turn.acquire(timeout=-1 if end is None else max(patience_s or 0, 0)):
            raise IndexBehind("another search is building it", public=f"{head.size} entries in all")
        try:
            self._follow(head, end, pause_s, progress)
        finally:
            self._turn.release()

    def ask(self, question: Callable[[sqlite3.Connection], T], head: Checkpoint, patience_s: float | None = None) -> T:
        """Come up to a checkpoint, then read from one state of the index; a damaged file is built anew, once.

        Raises:
            IndexBehind, LedgerCorrupt, EntryUnknown, ProofInvalid: as `follow`.
        """
        for again in (True, False):
            self.follow(head, patience_s=patience_s)
            try:
                return self._ask(question)
            except (sqlite3.DatabaseError, ValueError) as error:
                _mendable(error)
                if not again:
                    raise translate(error) from error
                with self._turn:
                    self._reset()
        raise AssertionError("the second turn returns or raises")

    def write_aside(self, write: Callable[[sqlite3.Connection], object]) -> None:
        """Write what is not derived from the log, in a transaction of its own."""
        with self._turn:
            for again in (True, False):
                try:
                    with self._transaction() as connection:
                        write(connection)
                    return
                except sqlite3.DatabaseError as error:
                    _mendable(error)
                    if not again:
                        raise translate(error) from error
                    self._reset()

    def close(self) -> None:
        """Close the file; it stays."""
        with self._turn:
            self._writer.close()

    def _follow(self, head: Checkpoint, end: float | None, pause_s: float, progress: Callable[[int], None]) -> None:
        fresh = False
        while True:
            place = self._try_step(head, end, pause_s)
            if place is None and fresh:
                raise LedgerCorrupt("the entries do not lead to the signed root")
            if place is None:
                self._reset()
                fresh = True
                continue
            progress(place.size)
            if place.size >= head.size:
                return
            if end is not None and time.monotonic() >= end:
                raise IndexBehind("out of patience", public=f"{place.size} of {head.size} entries are in")

    def _try_step(self, head: Checkpoint, end: float | None, pause_s: float) -> Place | None:
        """Take in one batch; None where the index is damaged, or is of another log, format or budget."""
        try:
            with self._transaction() as connection:
                return self._step(connection, head, end, pause_s)
        except _NotThisLog:
            return None
        except (sqlite3.DatabaseError, ValueError) as error:
            _mendable(error)
            return None

    def _step(self, connection: sqlite3.Connection, head: Checkpoint, end: float | None, pause_s: float) -> Place:
        place = read_place(connection, self._budget_milli)
        if place is None:
            raise _NotThisLog
        if place.size >= head.size:
            self._check_fits(place, head)
            return place
        batch = Batch(connection, place, self._budget_milli)
        stop = min((place.size // CHUNK + 1) * CHUNK, head.size)  # rows of a chunk that begins need not be read
        while batch.place.size < stop and not batch.full and not (end and time.monotonic() >= end):
            batch.add(self._bundle(batch.place.size, head.size))
            if pause_s:
                time.sleep(pause_s)
        if batch.place.size == head.size and batch.place.edge.root != head.root:
            raise _NotThisLog
        return batch.write()

    def _check_fits(self, place: Place, head: Checkpoint) -> None:
        # An index ahead of the checkpoint followed a newer one, which the source must still have.
        newest = head if place.size == head.size else head_of(self._source.checkpoint())
        if newest.size < place.size or (newest.size == place.size and newest.root != place.edge.root):
            raise _NotThisLog

    def _bundle(self, first: int, size: int) -> list[bytes]:
        tile = bundle_of(first, size)
        entries = decode_bundle(self._source.read(tile))
        if len(entries) != tile.width:
            raise ProofInvalid(f"{tile.path} holds more or fewer entries than its name says")
        return entries[first - tile.index * TILE_WIDTH :]

    def _place(self, connection: sqlite3.Connection) -> Place:
        return read_place(connection, self._budget_milli) or _NOWHERE

    def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        with closing(_connect(self._path)) as connection:
            connection.execute("BEGIN")  # one state for all that the question reads
            return question(connection)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield self._writer
            self._writer.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._writer.execute("ROLLBACK")
            raise

    def _open(self) -> sqlite3.Connection:
        try:
            # Made here and not by SQLite, for a mode that lets nobody else read it.
            with suppress(FileExistsError):
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except OSError as error:
            raise DatabaseReadOnly("the index", public=f"{self._path}: {error.strerror}") from error
        try:
            return self._prepared()
        except sqlite3.DatabaseError as error:
            _mendable(error)
            self._remove()
            return self._open()

    def _prepared(self) -> sqlite3.Connection:
        connection = _connect(self._path)
        try:
            connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
            if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
                write_place(connection, _NOWHERE, self._budget_milli)
        except BaseException:
            connection.close()
            raise
        return connection

    def _reset(self) -> None:
        """Begin anew; times measured by the server are taken along where they can be read."""
        measured: list[tuple[object, ...]] = []
        with suppress(sqlite3.Error):
            measured = self._writer.execute("SELECT * FROM latency").fetchall()
        self._writer.close()
        self._remove()
        self._writer = self._open()
        self._writer.executemany("INSERT INTO latency VALUES (?, ?, ?, ?)", measured)

    def _remove(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)


class _NotThisLog(Exception):
    """The index is of another log, format or budget."""


def _connect(path: Path) -> sqlite3.Connection:
    # `rw`: a file that was deleted meanwhile is an error, not a new empty one.
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw", uri=True, isolation_level=None, check_same_thread=False
    )
    try:
        for pragma in _PRAGMAS:
            connection.execute(pragma)
    except BaseException:
        connection.close()
        raise
    return connection


def _mendable(error: Exception) -> None:
    """Say nothing of an error that building anew mends; raise ours for a full disk, a lock, a file without rights."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if code not in _MENDABLE:
        raise translate(error) from error
