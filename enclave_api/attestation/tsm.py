"""Reports of real hardware through Linux' configfs-tsm, SEV-SNP and TDX alike.

Source: the kernel's Documentation/ABI/testing/configfs-tsm-report, Linux 6.7 and newer. A folder is an order: made,
given 64 bytes (`inblob`), read (`outblob`, and `auxblob` where there is one), removed. Each write counts up
`generation`; where it moved further than we wrote, somebody else wrote into our folder.
"""

import errno
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from enclave_api.attestation.evidence import SEV_SNP, TDX
from enclave_api.errors import EvidenceUnavailable

REPORTS = Path("/sys/kernel/config/tsm/report")
FORMATS = {"sev_guest": SEV_SNP, "tdx_guest": TDX}  # `provider` → what we call its reports
DATA_BYTES = 64  # the kernel takes at most that, both formats carry exactly that
BLOB_BYTES_MAX = 128 * 1024  # a quote has 8 KiB, a certificate table 16; TDX lets a host send up to 128
LINE_BYTES_MAX = 4096  # a text attribute is one page
ATTEMPTS = 6
PAUSE_S = 0.02  # before the second attempt, doubled before each further one: 0.6 s in all
# another order is under way, or the firmware was; everything else stays as it is
_PASSING = (errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT, errno.EEXIST)
_REMEDIES = {
    errno.ENOENT: "this kernel has no configfs-tsm: Linux 6.7 or newer in a confidential VM, CONFIG_TSM_REPORTS, the"
    " module sev-guest or tdx-guest loaded, configfs mounted at /sys/kernel/config",
    errno.ENXIO: "configfs-tsm is there, but no hardware behind it: load the module sev-guest or tdx-guest",
    errno.EACCES: "the server's user may not write there: serve as root of the VM, or change owner and mode of it",
}
_REMEDIES[errno.EPERM] = _REMEDIES[errno.EROFS] = _REMEDIES[errno.EACCES]


@dataclass(frozen=True)
class TsmReport:
    """What the hardware said.

    Attributes:
        provider: the kernel's name of the format.
        report: SEV-SNP report or TDX quote.
        auxiliary: SEV-SNP: the certificate table that the host gave along; else empty.
    """

    provider: str
    report: bytes
    auxiliary: bytes


@dataclass(frozen=True)
class ReportFolder:
    """The folder of configfs: plain files, opened, read and written whole. Raises OSError as the kernel does."""

    root: Path = REPORTS

    def make(self, name: str) -> None:
        """Makes an order; the kernel fills it with attributes."""
        (self.root / name).mkdir()

    def remove(self, name: str) -> None:
        """Removes an order, attributes and all."""
        (self.root / name).rmdir()

    def write(self, name: str, attribute: str, content: bytes) -> None:
        """Writes an attribute in one piece: configfs takes the bytes of one opening together."""
        descriptor = os.open(self.root / name / attribute, os.O_WRONLY)
        try:
            if os.write(descriptor, content) != len(content):
                raise OSError(errno.EIO, "not all was taken", attribute)
        finally:
            os.close(descriptor)

    def read(self, name: str, attribute: str, bytes_max: int) -> bytes:
        """Reads an attribute to its end, in however many pieces it comes; OSError EFBIG beyond `bytes_max`."""
        descriptor, pieces, left = os.open(self.root / name / attribute, os.O_RDONLY), [], bytes_max + 1
        try:
            while left > 0 and (piece := os.read(descriptor, left)):
                pieces.append(piece)
                left -= len(piece)
        finally:
            os.close(descriptor)
        if left <= 0:
            raise OSError(errno.EFBIG, f"more than {bytes_max} bytes", attribute)
        return b"".join(pieces)


def take_report(
    data: bytes, folder: ReportFolder, *, pause: Callable[[float], None] = time.sleep, attempts: int = ATTEMPTS
) -> TsmReport:
    """A report over 64 bytes, from the hardware of this machine. Blocks; at most one caller should ask at a time.

    Args:
        data: the report data.
        folder: where orders are made.
        pause: waits so many seconds; between attempts alone.
        attempts: how often to try where another writer, or the firmware, is in the way.

    Raises:
        EvidenceUnavailable: no hardware, no right to use it, or it stayed busy; the public text says what to do.
    """
    why = "another writer is always in the way"
    for attempt in range(attempts):
        if attempt:
            pause(PAUSE_S * 2 ** (attempt - 1))
        try:
            found = _order(data, folder, f"heixia-{os.getpid()}-{secrets.token_hex(4)}")
        except OSError as error:
            if error.errno not in _PASSING:
                raise EvidenceUnavailable("tsm", public=_words(folder, error)) from error
            why = os.strerror(error.errno)
            continue
        if found is not None:
            return found
    raise EvidenceUnavailable("busy", public=f"{folder.root}: {why}, {attempts} times; repeat later")


def format_of(report: TsmReport) -> str:
    """The evidence's format of a report; raises EvidenceUnavailable for a provider that banks' clients cannot judge."""
    if (form := FORMATS.get(report.provider)) is None:
        known = ", ".join(FORMATS)
        raise EvidenceUnavailable(
            "provider", public=f"configfs-tsm speaks for {ascii(report.provider)[:40]}, not {known}"
        )
    return form


def _order(data: bytes, folder: ReportFolder, name: str) -> TsmReport | None:
    # None: somebody else wrote into the order meanwhile
    folder.make(name)
    try:
        provider = folder.read(name, "provider", LINE_BYTES_MAX).decode("ascii", "replace").strip()
        before = _number(folder, name, "generation")
        writes = _write(data, folder, name)
        report = folder.read(name, "outblob", BLOB_BYTES_MAX)
        auxiliary = _read_if_there(folder, name, "auxblob")
        if _number(folder, name, "generation") != before + writes:
            return None
    finally:
        with suppress(OSError):  # what the order said, or failed with, matters more
            folder.remove(name)
    if data not in report:
        raise OSError(errno.EIO, "the report is not over what was asked", "outblob")
    return TsmReport(provider, report, auxiliary)


def _write(data: bytes, folder: ReportFolder, name: str) -> int:
    # A guest that does not own its highest privilege level (SEV-SNP under a paravisor) must ask at its own.
    floor = _read_if_there(folder, name, "privlevel_floor").strip()
    writes = 1
    if floor not in (b"", b"0"):
        folder.write(name, "privlevel", floor)
        writes = 2
    folder.write(name, "inblob", data)
    return writes


def _read_if_there(folder: ReportFolder, name: str, attribute: str) -> bytes:
    try:
        return folder.read(name, attribute, BLOB_BYTES_MAX)
    except FileNotFoundError:
        return b""


def _number(folder: ReportFolder, name: str, attribute: str) -> int:
    text = folder.read(name, attribute, LINE_BYTES_MAX).strip()
    if not text.isdigit() or len(text) > 20:
        raise OSError(errno.EIO, "not a number", attribute)
    return int(text)


def _words(folder: ReportFolder, error: OSError) -> str:
    # what the kernel says, where, and what to do about it
    said = f"{folder.root}: {error.strerror or error}"
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{said}; {remedy}" if remedy else said
