"""An exported log, searched without the server: the same index, derived on one's own machine from verified entries.

What is not found here is not in the log: the index holds every entry that the folder's checkpoint covers.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Self

from audit.anomalies import Anomalies, anomalies
from audit.errors import EntryUnknown
from audit.export import entries_in
from audit.index import Index
from audit.index_filter import Filter
from audit.index_rules import DAY_MS, LOOK_BACK_DAYS
from audit.index_search import Day, statistics, time_of
from audit.index_terms import from_ms
from audit.note import head_of
from audit.policy import Policy
from audit.search import BundleReader, Found, Searcher
from audit.source import FolderSource
from enclave_api.client.audit_search import Search

_DAYS_MAX = 1_000_000  # of institutions: one's own machine


class Folder(AbstractContextManager["Folder"]):
    """A folder that a whole log was exported to; its index lies beside it as `<folder>.index` and may be deleted."""

    def __init__(
        self,
        folder: Path,
        policy: Policy | None = None,
        *,
        budget_milli: int = 0,
        progress: Callable[[int, int], None] = lambda *_: None,
    ) -> None:
        """Read what is new in the folder, every entry led to the checkpoint's root.

        Args:
            folder: of the export.
            policy: whose log is trusted; None = the checkpoint's signature is not looked at.
            budget_milli: thousandths of a bit a subject, institution and year, for `budget_near_cap`; 0 = not known.
            progress: called with the entries read and their number in all.

        Raises:
            EntryUnknown: no export of a whole log.
            ProofInvalid: the checkpoint is not signed as the policy asks, or a file is malformed.
            LedgerCorrupt: the entries do not lead to the checkpoint's root.
            DatabaseReadOnly: the index cannot be made beside the folder.
        """
        self._source, self._policy = FolderSource(folder), policy
        self.checkpoint = self._source.checkpoint()
        self.head = head_of(self.checkpoint) if policy is None else policy.verify(self.checkpoint)
        if (held := entries_in(folder)) != [range(self.head.size)]:
            ranges = ", ".join(f"{part.start} to {part.stop - 1}" for part in held) or "no entries"
            raise EntryUnknown("a part", public=f"{folder} holds {ranges} of {self.head.size}: export the whole log")
        self._index = Index(folder.with_name(folder.resolve().name + ".index"), self._source, budget_milli)
        self._index.follow(self.head, progress=lambda size: progress(size, self.head.size))

    def search(self, wanted: Filter, count: int | None = None, token: str = "") -> Search:
        """Find entries; raises SearchInvalid for a token of another search."""
        reader = BundleReader(self._source, self.head.size)
        searcher = Searcher(self._index, self._source, reader, bytes_max=1 << 30)

        def ask(page: str, most: int, proof_size: int) -> Found:
            return searcher.find(self.checkpoint, wanted, page, most, proof_size)

        return Search.begin(ask, wanted, lambda: wanted.text, self._policy, count, token)

    def statistics(self, institution: str = "", first: date | None = None, last: date | None = None) -> list[Day]:
        """Calls of each institution and day, newest first; without days, the last 31 of the log."""
        last = last or self._newest().date()
        first = first or last - timedelta(days=LOOK_BACK_DAYS - 1)
        return self._index.ask(
            lambda connection: statistics(
                connection, institution or None, first.isoformat(), last.isoformat(), _DAYS_MAX
            )[0],
            self.head,
        )

    def anomalies(self, since_ms: int | None = None) -> Anomalies:
        """What to look at first; without a time, of the last 31 days of the log."""
        since = int(self._newest().timestamp() * 1000) - LOOK_BACK_DAYS * DAY_MS if since_ms is None else since_ms
        return self._index.ask(lambda connection: anomalies(connection, since_ms=since, size=self.head.size), self.head)

    def close(self) -> None:
        """Close the index; it stays."""
        self._index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _newest(self) -> datetime:
        return from_ms(self._index.ask(lambda connection: time_of(connection, self.head.size), self.head))
