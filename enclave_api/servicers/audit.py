"""The log. Search, export, statistics and anomalies are not served yet (docs/status.md)."""

from dataclasses import dataclass
from itertools import accumulate

from heixia.audit.v1 import audit_pb2 as pb
from heixia.audit.v1 import audit_pb2_grpc as rpc
from sqlalchemy import Connection

from audit.event import AuditRead
from audit.ledger import Ledger, Position
from enclave_api import converters
from enclave_api.errors import RequestInvalid
from enclave_api.interceptors import Context, caller, not_served, not_served_stream

PAGE_DEFAULT = 100
PAGE_MAX = 1000
PAGE_BYTES_MAX = 1024 * 1024  # entries are about 1.5 kB, at most 64 KiB: a page stays below the message limit


@dataclass
class AuditServicer(rpc.AuditServiceServicer):
    """AuditService."""

    ledger: Ledger

    ExportEntries = not_served_stream
    GetStatistics = not_served
    ListAnomalies = not_served
    SearchEntries = not_served

    async def GetCheckpoint(self, request: pb.GetCheckpointRequest, context: Context) -> pb.GetCheckpointResponse:
        """The newest checkpoint that the policy's quorum cosigned; where it asks for none, the newest signed one."""
        return pb.GetCheckpointResponse(checkpoint=self.ledger.published)

    async def GetEntry(self, request: pb.GetEntryRequest, context: Context) -> pb.GetEntryResponse:
        """One entry with its proof; the read is an entry itself."""
        body, proof = self.ledger.entry(request.index), self.ledger.prove(request.index)
        await record_read(self.ledger, f"entry {request.index}")
        return pb.GetEntryResponse(entry=converters.entry(request.index, body), proof=proof)

    async def ListEntries(self, request: pb.ListEntriesRequest, context: Context) -> pb.ListEntriesResponse:
        """A page of the log; the read is an entry itself."""
        count = request.page_size or PAGE_DEFAULT
        if count > PAGE_MAX:
            raise RequestInvalid("page_size", public=f"page_size is at most {PAGE_MAX}")
        size = self.ledger.size
        found = self.ledger.entries(request.first, count)
        await record_read(self.ledger, f"entries {request.first}+{count}")
        ends = accumulate(len(body) for _, body in found)
        fitting = [item for item, end in zip(found, ends, strict=True) if end <= PAGE_BYTES_MAX]
        return pb.ListEntriesResponse(entries=[converters.entry(i, body) for i, body in fitting], size=size)

    async def GetConsistencyProof(
        self, request: pb.GetConsistencyProofRequest, context: Context
    ) -> pb.GetConsistencyProofResponse:
        """That an older log is a prefix of today's."""
        proof, checkpoint = self.ledger.prove_consistency(request.old_size)
        return pb.GetConsistencyProofResponse(proof=proof, checkpoint=checkpoint)


async def record_read(ledger: Ledger, what: str) -> None:
    """Appends who looked at what; returns when durable."""
    by = str(caller())

    def change(_: Connection, __: Position) -> tuple[AuditRead, None]:
        return AuditRead(by=by, what=what), None

    await ledger.append(change)
