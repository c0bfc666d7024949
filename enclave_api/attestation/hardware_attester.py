"""Evidence of real hardware for a server: one report at a time, off the event loop, bounded in time and in waiting."""

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor

import structlog

from enclave_api.attestation.evidence import SEV_SNP, Evidence, report_data
from enclave_api.attestation.sev_snp_certificates import CertificateTableMalformed, certificate_table
from enclave_api.attestation.tsm import DATA_BYTES, ReportFolder, TsmReport, format_of, take_report
from enclave_api.errors import Busy, EvidenceUnavailable

TIMEOUT_S = 20.0  # a quote takes tens of milliseconds; a host that throttles may hold one for long
WAITING_MAX = 32  # who asks for evidence does so once; more than that is a flood

_log = structlog.get_logger("heixia")


class HardwareAttester:
    """Asks configfs-tsm for a report over each claims. The firmware has one queue: so has this."""

    def __init__(self, folder: ReportFolder) -> None:
        """Asks for a first report.

        Raises:
            EvidenceUnavailable: this machine gives none; the public text says what to do.
        """
        self._folder = folder
        self.format = format_of(take_report(secrets.token_bytes(DATA_BYTES), folder))
        self._one = ThreadPoolExecutor(1, "tsm")
        self._waiting = 0

    async def attest(self, claims: bytes) -> Evidence:
        """Evidence of the claims; raises Busy where too many wait, EvidenceUnavailable where the hardware fails."""
        if self._waiting >= WAITING_MAX:
            raise Busy("evidence", public="too many ask for evidence at once")
        self._waiting += 1
        try:
            asked = asyncio.get_running_loop().run_in_executor(
                self._one, take_report, report_data(claims), self._folder
            )
            found = await asyncio.wait_for(asked, TIMEOUT_S)
        except TimeoutError as error:
            raise EvidenceUnavailable("timeout", public=f"no report within {TIMEOUT_S:.0f} s") from error
        finally:
            self._waiting -= 1
        return Evidence(claims, self.format, found.report, _certificates(self.format, found))

    def close(self) -> None:
        """Lets the thread end; a report under way is not waited for."""
        self._one.shutdown(wait=False, cancel_futures=True)


def _certificates(form: str, found: TsmReport) -> tuple[bytes, ...]:
    # The table comes from the host, which nobody trusts: what cannot be read is left out, and clients bring their own.
    if form != SEV_SNP or not found.auxiliary:
        return ()
    try:
        return certificate_table(found.auxiliary).certificates
    except CertificateTableMalformed as error:
        _log.warning("certificate table unreadable", reason=str(error))
        return ()
