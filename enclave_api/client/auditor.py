"""The SDK for auditors: the log, its entries, its proofs."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from heixia.audit.v1 import audit_pb2 as pb
from heixia.audit.v1 import audit_pb2_grpc

from audit.errors import ProofInvalid
from audit.event import Decision, Event, decode
from audit.policy import Policy
from audit.proof import TlogProof
from enclave_api.client.connection import Client
from enclave_api.client.subject import Disclosure, ask_disclosure

PAGE = 500


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

    def disclosure(self, subject: str = "") -> list[Disclosure]:
        """What was disclosed about a subject, or about all of them together; the look is an entry itself."""
        return ask_disclosure(self, subject)

    @property
    def _stub(self) -> audit_pb2_grpc.AuditServiceStub:
        return audit_pb2_grpc.AuditServiceStub(self.channel)


def check_sum(sums: Counter[tuple[str, str, int]], decision: Decision, time: datetime) -> None:
    """Follows the disclosed bits from decision to decision.

    Args:
        sums: of the entries before, by subject tag, institution and year; the decision is added.
        decision: the next one of the log.
        time: its entry's.

    Raises:
        ProofInvalid: the sum it names is not that of its decisions: somebody lowered it in between.
    """
    account = decision.subject_tag, decision.institution, time.year
    sums[account] += decision.bits_milli
    if sums[account] != decision.bits_total_milli:
        public = f"decision {decision.seq} of {decision.institution} names a wrong sum of disclosed bits"
        raise ProofInvalid("bits_total_milli", public=public)


def verify_entry(entry: LogEntry, policy: Policy) -> None:
    """Checks an entry's proof against a policy, offline; raises ProofInvalid."""
    proof = TlogProof.parse(entry.proof)
    if proof.index != entry.index:
        raise ProofInvalid("index", public="the proof is for another index")
    proof.verify_inclusion(entry.body)
    policy.verify(proof.checkpoint)
