"""Bounds of the auditors' service: exports and heavy reads at once, parts of a file, and what a failed record means."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from heixia.audit.v1 import audit_pb2 as pb
from sqlalchemy import Engine

from audit.errors import LedgerClosed
from audit.ledger import Ledger
from audit.schema import open_engine
from audit.tiles import Tile
from enclave_api.audit_desk import READS_MAX, AuditDesk
from enclave_api.errors import Busy
from enclave_api.identity import Principal, Role
from enclave_api.interceptors import Context, _caller
from enclave_api.servicers.audit import EXPORTS_MAX, AuditServicer
from enclave_api.wire_limits import CHUNK_BYTES_MAX
from tests.unit.audit.ledgers import SPENT, open_ledger, spend

CONTEXT = cast("Context", None)  # none of these methods looks at it


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An empty database."""
    made = open_engine(tmp_path / "ledger.db", create=True)
    with made.connect() as connection, connection.begin():
        connection.exec_driver_sql(SPENT)
    yield made
    made.dispose()


@pytest.fixture
def ledger(engine: Engine) -> Iterator[Ledger]:
    """A log of 300 entries."""
    opened = open_ledger(engine)
    for number in range(300):
        opened.append_sync(spend(str(number)))
    yield opened
    opened.close()


@pytest.fixture
def servicer(engine: Engine, ledger: Ledger, tmp_path: Path) -> Iterator[AuditServicer]:
    """The service over them, called by an auditor."""
    desk = AuditDesk(ledger, engine, tmp_path / "i", 64_000, 50)
    _caller.set(Principal(Role.AUDITOR, "audit-office"))
    yield AuditServicer(ledger, desk, lambda subject: "ab" * 16)
    desk.close()


async def test_exports_at_once_are_bounded(servicer: AuditServicer) -> None:
    """One more than may be under way is refused in words; when one ends, the next may begin."""
    streams = [servicer.ExportEntries(pb.ExportEntriesRequest(), CONTEXT) for _ in range(EXPORTS_MAX)]
    for stream in streams:
        assert (await anext(stream)).path == "tile/entries/000"
    with pytest.raises(Busy):
        await anext(servicer.ExportEntries(pb.ExportEntriesRequest(), CONTEXT))
    assert [part.path async for part in streams[0]][-1] == "checkpoint"
    assert [part async for part in servicer.ExportEntries(pb.ExportEntriesRequest(), CONTEXT)]
    await cast("Any", streams[1]).aclose()  # a client that goes away gives its place back
    assert servicer._exports == 0


async def test_reads_at_once_are_bounded(servicer: AuditServicer) -> None:
    """A flood of searches is refused at once instead of waiting without end; afterwards all is as before."""
    request = pb.SearchEntriesRequest(page_size=1)
    made = [servicer.SearchEntries(request, CONTEXT) for _ in range(READS_MAX + 5)]
    answers = await asyncio.gather(*made, return_exceptions=True)
    assert sum(isinstance(answer, Busy) for answer in answers) == 5
    assert (await servicer.SearchEntries(request, CONTEXT)).total > 300


async def test_no_record_no_answer(servicer: AuditServicer, ledger: Ledger) -> None:
    """Where the read cannot be made durable, nothing is told."""
    ledger.close()
    for call in (
        servicer.SearchEntries(pb.SearchEntriesRequest(), CONTEXT),
        servicer.GetStatistics(pb.GetStatisticsRequest(), CONTEXT),
        servicer.ListAnomalies(pb.ListAnomaliesRequest(), CONTEXT),
    ):
        with pytest.raises(LedgerClosed):
            await call
    with pytest.raises(LedgerClosed):
        await anext(servicer.ExportEntries(pb.ExportEntriesRequest(), CONTEXT))


async def test_long_files_come_in_parts(servicer: AuditServicer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle of the longest entries is cut into messages below the limit, and the last part says so."""
    content = bytes(2 * CHUNK_BYTES_MAX + 7)
    source = servicer.desk.source

    def read(tile: Tile) -> bytes:
        return content

    monkeypatch.setattr(source, "read", read)
    parts = []
    async for part in servicer.ExportEntries(pb.ExportEntriesRequest(end=1), CONTEXT):
        parts.append(part)
        if part.last:
            break
    assert [len(part.content) for part in parts] == [CHUNK_BYTES_MAX, CHUNK_BYTES_MAX, 7]
    assert b"".join(part.content for part in parts) == content


async def test_the_desk_follows_until_it_is_stopped(servicer: AuditServicer, ledger: Ledger) -> None:
    """Beside the calls, in slices, and nothing of it is left running."""
    following = asyncio.create_task(servicer.desk.follow())
    size = ledger.size
    while servicer.desk._index.size < size:  # noqa: ASYNC110 - a file that another thread writes
        await asyncio.sleep(0.01)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following


def test_times_are_counted_in_quanta(servicer: AuditServicer) -> None:
    """What is kept is the quantum that an answer left at; the slowest share the last row."""
    for seconds in (0.001, 0.049, 0.054, 0.1499, 0.151, 9_999.0):
        servicer.desk.count_answer("bank", seconds)
    taken = servicer.desk.times.take()
    assert sorted((ms, n) for (_, name, ms), n in taken.items() if name == "bank") == [
        *((50, 3), (100, 1), (150, 1), (3200, 1))
    ]
    assert servicer.desk.times.take() == {}
