"""The auditors' desk: the search index kept beside the calls, and heavy reads in threads of their own.

The index follows the log in the background and never holds up a call: it reads committed entries alone, rests between
bundles, and no call waits for it. What a search waits for is that the index has come up to the checkpoint of the moment
when it was asked.
"""

import asyncio
import functools
import re
import sqlite3
from datetime import date, timedelta
from pathlib import Path
from typing import Final, TypeVar

import structlog
from sqlalchemy import Engine

from audit.anomalies import Anomalies, anomalies
from audit.errors import HeixiaError, IndexBehind
from audit.index import Index
from audit.index_filter import Filter
from audit.index_rules import DAY_MS, LOOK_BACK_DAYS
from audit.index_search import Day, statistics, time_of
from audit.ledger import Ledger
from audit.note import head_of
from audit.search import Found, Searcher
from audit.source import DatabaseSource
from enclave_api.answer_times import AnswerTimes
from enclave_api.errors import RequestInvalid
from enclave_api.reads import Reads

THREADS: Final = 2  # one may be long; SQLite and hashing leave the interpreter to the calls now and then
READS_MAX: Final = 16  # heavy reads under way or waiting; more auditors than that do not ask in one second
PATIENCE_S: Final = 10.0  # a search waits so long for the index; then it says that it is being built
FOLLOW_EVERY_S: Final = 1.0  # between two looks at the log; a search does not wait for the next
FOLLOW_SLICE_S: Final = 0.5  # of following in one go, so that a search that waits gets its turn
REST_S: Final = 0.01  # after each bundle of 256 entries, which takes about as long
RETRY_S: Final = 60.0  # after an error that the operator must see to
PAGE_BYTES_MAX: Final = 1024 * 1024  # of entries; with 200 proofs of 20 hashes a page stays below the message limit
DAYS_MAX: Final = 2_000  # days of institutions in one answer: 300 bytes each

_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_log = structlog.get_logger("heixia.audit")

T = TypeVar("T")


class AuditDesk:
    """Searches, statistics, anomalies. One for each server."""

    def __init__(self, ledger: Ledger, engine: Engine, path: Path, budget_milli: int, quantum_ms: int) -> None:
        """Open the index beside the database.

        Args:
            ledger: the log.
            engine: its database.
            path: the index's file; what lies there is used, mended or replaced.
            budget_milli: thousandths of a bit a subject, institution and year.
            quantum_ms: the release quantum, in which answers' times are counted.

        Raises:
            DatabaseReadOnly: the file cannot be made there.
        """
        self.ledger, self.source = ledger, DatabaseSource(engine)
        self.times = AnswerTimes(quantum_ms)
        self._index = Index(path, self.source, budget_milli)
        self._searcher = Searcher(self._index, self.source, ledger.entry, PAGE_BYTES_MAX, PATIENCE_S)
        self.reads = Reads("audit", THREADS, READS_MAX)

    async def search(self, note: str, wanted: Filter, token: str, count: int, proof_size: int) -> Found:
        """A page of hits, newest first, under a checkpoint of this log; as `Searcher.find`.

        Raises:
            SearchInvalid: the token is not of this search.
            IndexBehind, Busy: repeat later.
        """
        return await self.reads.run(functools.partial(self._searcher.find, note, wanted, token, count, proof_size))

    async def statistics(self, institution: str | None, first_day: str, last_day: str) -> tuple[list[Day], bool, int]:
        """Days of institutions, newest first; whether there are more; the log's size.

        Args:
            institution: this one's alone; None = every one's.
            first_day: `YYYY-MM-DD`; "" = 30 days before the last.
            last_day: likewise; "" = that of the log's newest entry.
        """
        return await self.reads.run(functools.partial(self._statistics, institution, first_day, last_day))

    async def anomalies(self, since_ms: int | None) -> tuple[Anomalies, int]:
        """What was seen since a time (Unix milliseconds; None = the last 31 days of the log), and the log's size."""
        return await self.reads.run(functools.partial(self._anomalies, since_ms))

    def count_answer(self, institution: str, seconds: float) -> None:
        """Count how long an answer took; on the way of every call, so in memory alone."""
        self.times.add(institution, seconds, self.ledger.time)

    async def follow(self) -> None:
        """Keep the index up to the log until cancelled."""
        while True:
            try:
                behind = await self.reads.step(self._follow)
                await asyncio.sleep(0 if behind else FOLLOW_EVERY_S)
            except HeixiaError as error:
                _log.error("the search index does not follow", code=error.code, detail=str(error))
                await asyncio.sleep(RETRY_S)

    def close(self) -> None:
        """Wait for reads under way and close the index; the last answers' times are kept."""
        self.reads.close()
        try:
            self._keep_times()
        except HeixiaError as error:  # measured, not promised: a stop does not fail on it
            _log.error("answer times are lost", code=error.code)
        self._index.close()

    def _follow(self) -> bool:
        self._keep_times()
        try:
            self._index.follow(head_of(self.ledger.checkpoint), patience_s=FOLLOW_SLICE_S, pause_s=REST_S)
        except IndexBehind:
            return True
        return False

    def _keep_times(self) -> None:
        if measured := self.times.take():
            self._index.write_aside(lambda connection: AnswerTimes.keep(connection, measured))

    def _statistics(self, institution: str | None, first_day: str, last_day: str) -> tuple[list[Day], bool, int]:
        self._keep_times()
        head = head_of(self.ledger.checkpoint)
        last = _date(last_day) if last_day else self.ledger.time.date()
        first = _date(first_day) if first_day else last - timedelta(days=LOOK_BACK_DAYS - 1)
        days, more = self._index.ask(
            lambda connection: statistics(connection, institution, first.isoformat(), last.isoformat(), DAYS_MAX),
            head,
            PATIENCE_S,
        )
        return days, more, head.size

    def _anomalies(self, since_ms: int | None) -> tuple[Anomalies, int]:
        head = head_of(self.ledger.checkpoint)

        def look(connection: sqlite3.Connection) -> Anomalies:
            newest = time_of(connection, head.size)
            since = newest - LOOK_BACK_DAYS * DAY_MS if since_ms is None else since_ms
            return anomalies(connection, since_ms=since, size=head.size)

        return self._index.ask(look, head, PATIENCE_S), head.size


def _date(day: str) -> date:
    if not _DAY.fullmatch(day):
        raise RequestInvalid("day", public="a day must be YYYY-MM-DD")
    try:
        return date.fromisoformat(day)
    except ValueError as error:
        raise RequestInvalid("day", public=f"there is no day {day}") from error
