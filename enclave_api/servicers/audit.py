"""The log, for auditors. Every read is itself an entry, durable before the answer leaves."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from heixia.audit.v1 import audit_pb2 as pb
from heixia.audit.v1 import audit_pb2_grpc as rpc
from sqlalchemy import Connection

from audit.event import format_time
from audit.export import files_of
from audit.index_filter import Filter
from audit.index_terms import from_ms
from audit.kinds import AuditExported, AuditRead, Event
from audit.ledger import Ledger, Position
from audit.note import head_of
from audit.source import LogSource
from audit.tiles import Tile
from enclave_api import audit_converters, converters
from enclave_api.audit_desk import AuditDesk
from enclave_api.errors import Busy, RequestInvalid
from enclave_api.interceptors import Context, caller
from enclave_api.wire_limits import CHUNK_BYTES_MAX

PAGE_DEFAULT = 100
PAGE_MAX = 1000
PAGE_BYTES_MAX = 1024 * 1024  # entries are about 1.5 kB, at most 64 KiB: a page stays below the message limit
HITS_DEFAULT = 50
HITS_MAX = 200  # each with some twenty hashes
EXPORTS_MAX = 2  # under way at once: each reads the whole log from the disk that calls commit to


@dataclass
class AuditServicer(rpc.AuditServiceServicer):
    """AuditService. `tag_of` turns a subject into its tag."""

    ledger: Ledger
    desk: AuditDesk
    tag_of: Callable[[str], str]
    _exports: int = field(default=0)

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

    async def SearchEntries(self, request: pb.SearchEntriesRequest, context: Context) -> pb.SearchEntriesResponse:
        """A page of hits, newest first, each with its proof; the search is an entry itself."""
        wanted = audit_converters.search_filter(request.filter, self.tag_of)
        count = request.page_size or HITS_DEFAULT
        if count > HITS_MAX:
            raise RequestInvalid("page_size", public=f"page_size is at most {HITS_MAX}")
        note = self.ledger.published if request.published else self.ledger.checkpoint
        found = await self.desk.search(note, wanted, request.page_token, count, request.proof_size)
        await record_read(self.ledger, f"search {wanted.text} total={found.total} page={len(found.hits)}")
        return audit_converters.search_response(wanted, found)

    async def GetStatistics(self, request: pb.GetStatisticsRequest, context: Context) -> pb.GetStatisticsResponse:
        """Calls of institutions by day; the look is an entry itself."""
        wanted = Filter(institution=request.institution)
        days, more, size = await self.desk.statistics(request.institution or None, request.first_day, request.last_day)
        await record_read(self.ledger, f"statistics {wanted.text} days={len(days)}")
        return pb.GetStatisticsResponse(days=map(audit_converters.day, days), more=more, size=size)

    async def ListAnomalies(self, request: pb.ListAnomaliesRequest, context: Context) -> pb.ListAnomaliesResponse:
        """What to look at first; the look is an entry itself."""
        since = Filter(since=audit_converters.moment_ms(request.since) if request.HasField("since") else None).since
        found, size = await self.desk.anomalies(since)
        what = "anomalies" if since is None else f"anomalies since={format_time(from_ms(since))}"
        await record_read(self.ledger, what)
        return audit_converters.anomalies_response(found, size)

    async def ExportEntries(
        self, request: pb.ExportEntriesRequest, context: Context
    ) -> AsyncIterator[pb.ExportEntriesResponse]:
        """The files of a log, or of a part of it; the export is an entry itself, durable before the first file."""
        if self._exports >= EXPORTS_MAX:
            raise Busy("exports")
        self._exports += 1
        try:
            source = _Frozen(self.desk.source, self.ledger.published)
            size = head_of(source.note).size
            end = request.end or size
            if not request.first < end <= size or request.held > size:
                raise RequestInvalid("range", public=f"the log has {size} entries; nothing else can be exported")
            files = files_of(source, request.first, end, held=request.held)
            by = str(caller())
            await _record(self.ledger, AuditExported(by=by, what="tiles", first=request.first, last=end - 1))
            while (file := await self.desk.reads.step(lambda: next(files, None))) is not None:
                for part in _parts(*file):
                    yield part
        finally:
            self._exports -= 1

    async def GetConsistencyProof(
        self, request: pb.GetConsistencyProofRequest, context: Context
    ) -> pb.GetConsistencyProofResponse:
        """That an older log is a prefix of today's."""
        proof, checkpoint = self.ledger.prove_consistency(request.old_size)
        return pb.GetConsistencyProofResponse(proof=proof, checkpoint=checkpoint)


@dataclass(frozen=True)
class _Frozen:
    """A source whose checkpoint stays as it was when an export began."""

    source: LogSource
    note: str

    def checkpoint(self) -> str:
        return self.note

    def read(self, tile: Tile) -> bytes:
        return self.source.read(tile)


async def record_read(ledger: Ledger, what: str) -> None:
    """Appends who looked at what; returns when durable."""
    await _record(ledger, AuditRead(by=str(caller()), what=what))


async def _record(ledger: Ledger, event: Event) -> None:
    def change(_: Connection, __: Position) -> tuple[Event, None]:
        return event, None

    await ledger.append(change)


def _parts(path: str, content: bytes) -> Iterator[pb.ExportEntriesResponse]:
    for at in range(0, max(len(content), 1), CHUNK_BYTES_MAX):
        part = content[at : at + CHUNK_BYTES_MAX]
        yield pb.ExportEntriesResponse(path=path, content=part, last=at + CHUNK_BYTES_MAX >= len(content))
