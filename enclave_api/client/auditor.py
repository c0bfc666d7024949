"""The SDK for auditors: the log, its entries, its proofs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from heixia.audit.v1 import audit_pb2 as pb
from heixia.audit.v1 import audit_pb2_grpc

from audit.anomalies import Anomalies
from audit.errors import ExportDiffers, ProofInvalid
from audit.event import decode
from audit.export import write_file
from audit.export_check import ExportCheck
from audit.index_filter import Filter
from audit.index_search import Day
from audit.kinds import Event
from audit.note import Checkpoint
from audit.policy import NONE, Policy
from audit.proof import TlogProof
from audit.search import Found, Hit
from audit.source import CHECKPOINT, FolderSource
from enclave_api.client.audit_search import Search
from enclave_api.client.audit_wire import anomaly_from, day_from, files_from, held_in, stamp, wire_filter
from enclave_api.client.connection import Client, wire_errors
from enclave_api.client.subject import Disclosure, ask_disclosure
from enclave_api.errors import RequestInvalid

PAGE = 500
EXPORT_TIMEOUT_S = 3600.0  # a log of millions of entries over a slow line


@dataclass(frozen=True)
class LogEntry:
    """An entry as the auditor got it."""

    index: int
    body: bytes
    proof: str = ""

    @property
    def event(self) -> Event:
        """What it says; raises EventInvalid for an unknown kind or shape."""
        return decode(self.body)[0]


class Auditor(Client):
    """An auditor."""

    def checkpoint(self) -> str:
        """The newest signed checkpoint."""
        return self.call(self._stub.GetCheckpoint, pb.GetCheckpointRequest()).checkpoint

    def consistency(self, old_size: int) -> tuple[list[bytes], str]:
        """The proof that a log of `old_size` entries is a prefix of the newest checkpoint's, and that checkpoint."""
        answer = self.call(self._stub.GetConsistencyProof, pb.GetConsistencyProofRequest(old_size=old_size))
        return list(answer.proof), answer.checkpoint

    def entry(self, index: int) -> LogEntry:
        """One entry with its proof."""
        answer = self.call(self._stub.GetEntry, pb.GetEntryRequest(index=index))
        return LogEntry(answer.entry.index, answer.entry.body, answer.proof)

    def entries(self, first: int, end: int | None = None) -> Iterator[LogEntry]:
        """Entries in order from `first` up to, not with, `end` (None = the log's size at the first page)."""
        while end is None or first < end:
            count = PAGE if end is None else min(PAGE, end - first)
            answer = self.call(self._stub.ListEntries, pb.ListEntriesRequest(first=first, page_size=count))
            end = answer.size if end is None else end
            if not answer.entries:
                return
            yield from (LogEntry(e.index, e.body) for e in answer.entries)
            first = answer.entries[-1].index + 1

    def search(
        self, wanted: Filter, policy: Policy | None, *, subject: str = "", count: int | None = None, token: str = ""
    ) -> Search:
        """Find entries, newest first; every page is an entry itself.

        Args:
            wanted: what must match.
            policy: whose log is trusted; every hit is verified under it. Where it asks for witnesses, the search is as
                of the newest checkpoint that they have cosigned. None = no signature is looked at.
            subject: `uscc:…` or `ric:…` instead of the filter's tag; the enclave turns it into the tag.
            count: give at most so many hits; None = all.
            token: of an earlier search's page.

        Raises:
            Refused, ConnectionFailed: the server says no, or nothing.
            ProofInvalid: what it says does not verify; the iteration raises it as well.
        """
        wire = wire_filter(wanted, subject)
        cosigned = policy is not None and policy.quorum != NONE
        told: list[str] = []

        def ask(page: str, most: int, proof_size: int) -> Found:
            request = pb.SearchEntriesRequest(
                filter=wire, page_size=most, page_token=page, proof_size=proof_size, published=cosigned
            )
            answer = self.call(self._stub.SearchEntries, request)
            told.append(answer.filter)
            hits = [Hit(hit.entry.index, hit.entry.body, tuple(hit.proof)) for hit in answer.hits]
            return Found(hits, answer.total, answer.size, answer.next_page_token, answer.checkpoint)

        return Search.begin(ask, wanted, lambda: told[0], policy, count, token)

    def export(
        self,
        folder: Path,
        policy: Policy,
        first: int | None = None,
        end: int | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Checkpoint:
        """Fetch the log, or a part of it, as a tlog-tiles folder, verified while it is written.

        Args:
            folder: made where it is missing; one that holds an earlier state of the log is brought up to date.
            policy: whose log is trusted.
            first: the first index; None = behind what the folder holds.
            end: behind the last index; None = the log's size.
            progress: called with the number of entries that have come.

        Raises:
            ProofInvalid: what came does not hang together, or is not signed as the policy asks; the folder has no
                checkpoint over it.
            ExportDiffers, ExportUnwritable: the folder holds another history, or cannot be written.
            Refused, ConnectionFailed: the server says no, or nothing.
        """
        held, whole = held_in(folder)
        begin = first if first is not None else held if whole else 0
        size = policy.verify(self.checkpoint()).size
        if held > size:
            raise ExportDiffers("shrunk", public=f"{folder} holds {held} entries, the server's log has {size}")
        if begin == held == size:
            return policy.verify(FolderSource(folder).checkpoint())  # nothing new
        request = pb.ExportEntriesRequest(first=begin, end=end or 0, held=held)
        check = ExportCheck()
        with wire_errors():
            for path, data in files_from(self._stub.ExportEntries(request, timeout=EXPORT_TIMEOUT_S)):
                if path == CHECKPOINT:
                    check.finish()
                    head = policy.verify(data.decode())
                    write_file(folder, path, data)
                    return head
                check.take(path, data)
                write_file(folder, path, data)
                progress(check.entries)
        raise ProofInvalid("checkpoint", public="the export ended without a checkpoint")

    def statistics(self, institution: str = "", first: date | None = None, last: date | None = None) -> list[Day]:
        """Calls of each institution and day, newest first; without days, the last 31 of the log."""
        request = pb.GetStatisticsRequest(
            institution=institution,
            first_day=first.isoformat() if first else "",
            last_day=last.isoformat() if last else "",
        )
        answer = self.call(self._stub.GetStatistics, request)
        if answer.more:
            raise RequestInvalid("days", public="too many days at once: name an institution, or fewer days")
        return [day_from(day) for day in answer.days]

    def anomalies(self, since_ms: int | None = None) -> Anomalies:
        """What to look at first, since a time in Unix milliseconds; None = the last 31 days of the log."""
        request = pb.ListAnomaliesRequest(since=None if since_ms is None else stamp(since_ms))
        answer = self.call(self._stub.ListAnomalies, request)
        return Anomalies([anomaly_from(found) for found in answer.anomalies], dict(answer.counts))

    def disclosure(self, subject: str = "") -> list[Disclosure]:
        """What was disclosed about a subject, or about all of them together; the look is an entry itself."""
        return ask_disclosure(self, subject)

    @property
    def _stub(self) -> audit_pb2_grpc.AuditServiceStub:
        return audit_pb2_grpc.AuditServiceStub(self.channel)


def verify_entry(entry: LogEntry, policy: Policy) -> None:
    """Checks an entry's proof against a policy, offline; raises ProofInvalid."""
    proof = TlogProof.parse(entry.proof)
    if proof.index != entry.index:
        raise ProofInvalid("index", public="the proof is for another index")
    proof.verify_inclusion(entry.body)
    policy.verify(proof.checkpoint)
