"""Reports through configfs-tsm, from a folder that behaves like the kernel's."""

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from enclave_api.attestation.evidence import report_data
from enclave_api.attestation.hardware_attester import WAITING_MAX, HardwareAttester
from enclave_api.attestation.tsm import ATTEMPTS, BLOB_BYTES_MAX, ReportFolder, TsmReport, format_of, take_report
from enclave_api.errors import Busy, EvidenceUnavailable
from tests.tsm_kernel import Kernel, echo

DATA = bytes(range(64))


def failing(number: int) -> OSError:
    """The kernel's error."""
    return OSError(number, os.strerror(number))


def ask(kernel: ReportFolder) -> tuple[TsmReport, list[float]]:
    """A report, and the pauses that were made for it."""
    pauses: list[float] = []
    return take_report(DATA, kernel, pause=pauses.append), pauses


def refusal(kernel: ReportFolder) -> str:
    """What is said where there is no report."""
    with pytest.raises(EvidenceUnavailable) as caught:
        ask(kernel)
    return caught.value.public


def test_a_report_is_taken_and_the_order_removed(tmp_path: Path) -> None:
    """One write of the 64 bytes; report, table and provider come back; nothing stays in the folder."""
    kernel = Kernel(tmp_path, answer=lambda data: (echo(data)[0], b"table"))
    assert ask(kernel) == (TsmReport("sev_guest", echo(DATA)[0], b"table"), [])
    assert kernel.written == [("inblob", DATA)]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("piece", [1, 7, 4096])
def test_short_reads_are_put_together(tmp_path: Path, piece: int) -> None:
    """However few bytes a read gives, the report is whole."""
    kernel = Kernel(tmp_path, "tdx_guest", answer=lambda data: (data + bytes(5000), b""), piece=piece)
    report, _ = ask(kernel)
    assert report.report == DATA + bytes(5000)
    assert format_of(report) == "tdx"


@pytest.mark.parametrize(("floor", "writes"), [(None, 1), (0, 1), (2, 2)])
def test_a_guest_asks_at_the_level_it_has(tmp_path: Path, floor: int | None, writes: int) -> None:
    """Where the kernel names a privilege level above 0, it is written before the data, and counted."""
    kernel = Kernel(tmp_path, floor=floor)
    ask(kernel)
    assert kernel.written == [*([("privlevel", b"2")] if floor == 2 else []), ("inblob", DATA)]
    assert len(kernel.written) == writes


def test_another_writer_is_noticed(tmp_path: Path) -> None:
    """A generation that moved further than our writes: the report is thrown away and asked for anew, in a new order."""
    kernel = Kernel(tmp_path)
    kernel.faults["outblob"] = [kernel.count]
    report, pauses = ask(kernel)
    assert report.report == echo(DATA)[0]
    assert len(pauses) == 1
    assert len(set(kernel.orders)) == 2
    assert list(tmp_path.iterdir()) == []


def test_another_writer_without_end_is_given_up(tmp_path: Path) -> None:
    """After so many attempts the caller is told, with pauses that grow; no order stays."""
    kernel = Kernel(tmp_path)
    kernel.faults["outblob"] = [kernel.count] * 100
    pauses: list[float] = []
    with pytest.raises(EvidenceUnavailable) as caught:
        take_report(DATA, kernel, pause=pauses.append)
    assert "another writer" in caught.value.public
    assert len(kernel.orders) == ATTEMPTS
    assert pauses == sorted(pauses)
    assert sum(pauses) < 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("touched", ["make", "inblob", "outblob", "auxblob", "generation"])
@pytest.mark.parametrize("number", [errno.EBUSY, errno.EAGAIN, errno.ETIMEDOUT])
def test_a_busy_machine_is_asked_again(tmp_path: Path, touched: str, number: int) -> None:
    """Busy at any touch: again, and no order stays behind."""
    kernel = Kernel(tmp_path)
    kernel.faults[touched] = [failing(number), failing(number)]
    report, pauses = ask(kernel)
    assert report.report == echo(DATA)[0]
    assert len(pauses) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("touched", ["provider", "inblob", "outblob", "generation"])
@pytest.mark.parametrize("number", [errno.EIO, errno.EINVAL, errno.ENXIO])
def test_a_failure_is_told_at_once(tmp_path: Path, touched: str, number: int) -> None:
    """What does not pass is not tried again; the kernel's word is in the text, and the order is gone."""
    kernel = Kernel(tmp_path)
    kernel.faults[touched] = [failing(number)]
    assert os.strerror(number) in refusal(kernel)
    assert len(kernel.orders) == 1
    assert list(tmp_path.iterdir()) == []


def test_missing_hardware_is_said_with_what_to_do(tmp_path: Path) -> None:
    """No configfs-tsm, nothing behind it, no right to write: each has its own words."""
    assert "Linux 6.7" in refusal(ReportFolder(tmp_path / "absent"))
    assert "no hardware behind it" in refusal(Kernel(tmp_path, provider=""))
    kernel = Kernel(tmp_path)
    kernel.faults["make"] = [failing(errno.EACCES)]
    assert "may not write there" in refusal(kernel)


def test_a_report_over_other_data_is_refused(tmp_path: Path) -> None:
    """A host that answers with an old report is found before anybody is given it."""
    kernel = Kernel(tmp_path, answer=lambda _: echo(bytes(64)))
    assert "not over what was asked" in refusal(kernel)


def test_a_report_without_end_is_refused(tmp_path: Path) -> None:
    """More bytes than any report has are not taken; up to the bound they are."""
    kernel = Kernel(tmp_path, answer=lambda data: (data.ljust(BLOB_BYTES_MAX + 1), b""))
    assert f"more than {BLOB_BYTES_MAX} bytes" in refusal(kernel)
    kernel = Kernel(tmp_path, answer=lambda data: (data.ljust(BLOB_BYTES_MAX), b""))
    assert len(ask(kernel)[0].report) == BLOB_BYTES_MAX


def test_an_order_that_cannot_be_removed_spoils_nothing(tmp_path: Path) -> None:
    """The report counts; the order stays for the operator."""
    kernel = Kernel(tmp_path)
    kernel.faults["remove"] = [failing(errno.EBUSY)]
    assert ask(kernel)[0].report == echo(DATA)[0]
    assert [path.name for path in tmp_path.iterdir()] == kernel.orders


def test_an_unknown_provider_is_refused() -> None:
    """A format that no client can judge is not served under another's name."""
    with pytest.raises(EvidenceUnavailable) as caught:
        format_of(TsmReport("arm_cca_guest\x1b[2J", b"", b""))
    assert "arm_cca_guest" in caught.value.public
    assert caught.value.public.isprintable()


def attester(kernel: ReportFolder) -> HardwareAttester:
    """A server's."""
    return HardwareAttester(kernel)


async def test_evidence_is_over_the_claims(tmp_path: Path) -> None:
    """Format, report and claims belong together; a table that cannot be read is left out."""
    kernel = Kernel(tmp_path, answer=lambda data: (echo(data)[0], b"no table"))
    made = attester(kernel)
    evidence = await made.attest(b"claims")
    made.close()
    assert (evidence.format, evidence.claims, evidence.certificates) == ("sev-snp", b"claims", ())
    assert report_data(b"claims") in evidence.report


def held(gate: threading.Event, most: list[int]) -> Callable[[bytes], tuple[bytes, bytes]]:
    """Firmware that answers once the gate is open, and notes how many ask it at a time."""
    now = [0]

    def answer(data: bytes) -> tuple[bytes, bytes]:
        now[0] += 1
        most.append(now[0])
        gate.wait(30)
        now[0] -= 1
        return echo(data)

    return answer


async def test_one_order_at_a_time_and_no_endless_queue(tmp_path: Path) -> None:
    """However many ask, the firmware is asked by one; beyond the queue's length the answer is Busy."""
    gate, most = threading.Event(), list[int]()
    gate.set()
    made = attester(Kernel(tmp_path, answer=held(gate, most)))
    gate.clear()
    asked = [asyncio.ensure_future(made.attest(b"%d" % number)) for number in range(WAITING_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await made.attest(b"one more")
    gate.set()
    answers = await asyncio.gather(*asked)
    assert [answer.claims for answer in answers] == [b"%d" % number for number in range(WAITING_MAX)]
    assert set(most) == {1}
    assert (await made.attest(b"afterwards")).claims == b"afterwards"
    made.close()


async def test_firmware_that_hangs_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time allowed the caller is told; the event loop was free meanwhile."""
    monkeypatch.setattr("enclave_api.attestation.hardware_attester.TIMEOUT_S", 0.05)
    gate = threading.Event()
    gate.set()
    made = attester(Kernel(tmp_path, answer=held(gate, [])))
    gate.clear()
    with pytest.raises(EvidenceUnavailable) as caught:
        await made.attest(b"claims")
    assert "no report within" in caught.value.public
    gate.set()
    made.close()


def test_a_server_without_hardware_is_not_made(tmp_path: Path) -> None:
    """The first report is asked for at the start."""
    with pytest.raises(EvidenceUnavailable):
        attester(Kernel(tmp_path, provider=""))
    with pytest.raises(EvidenceUnavailable):
        attester(Kernel(tmp_path, provider="arm_cca_guest"))
