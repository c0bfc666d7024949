"""Evidence from a file: saved from an enclave, or a bare report or quote of whatever origin."""

from datetime import datetime
from pathlib import Path

from enclave_api.attestation.evidence import SIMULATED
from enclave_api.attestation.hardware import Material
from enclave_api.attestation.material import from_hex, read_bounded
from enclave_api.attestation.policy import Policy
from enclave_api.attestation.saved import SAVED_BYTES_MAX, SCHEMA, load_saved
from enclave_api.attestation.verify import Verdict, verify_evidence, verify_report
from enclave_api.errors import EvidenceUnreadable

HEIXIA = "heixia"
REPORT_BYTES_MAX = 256 * 1024  # as hex text; a report has 1,184 bytes, a quote 5,000


def verify_offline(
    file: Path,
    form: str,
    policy: Policy,
    *,
    at: datetime,
    material: Material,
    report_data: bytes | None = None,
    nonce: bytes | None = None,
) -> Verdict:
    """Judges a file.

    Args:
        file: saved evidence, or a raw report or quote, binary or hex.
        form: `heixia` = saved evidence of any format; else the format it must have.
        policy: what must hold.
        at: the time of verification, with its zone.
        material: certificates, revocation lists, collateral.
        report_data: of a raw report: the 64 bytes it must carry; None = any.
        nonce: of saved evidence: what the caller asked with; None = it shows no freshness.

    Raises:
        EvidenceUnreadable: not such a file, or of another format.
        OSError: it cannot be read.
    """
    if form in (HEIXIA, SIMULATED) or _is_saved(file):
        saved = load_saved(file)
        if form not in (HEIXIA, saved.format):
            raise EvidenceUnreadable("format", public=f"{file}: evidence of format {saved.format}, not {form}")
        if report_data is not None:
            raise EvidenceUnreadable("report data", public=f"{file}: its report data are those of its claims")
        return verify_evidence(saved.evidence(), nonce, policy, at=at, material=material)
    if nonce is not None:
        raise EvidenceUnreadable("nonce", public=f"{file}: a raw report has no nonce; see --report-data")
    report = from_hex(read_bounded(file, REPORT_BYTES_MAX))
    return verify_report(form, report, policy, at=at, material=material, expected=report_data)


def _is_saved(file: Path) -> bool:
    with file.open("rb") as opened:
        start = opened.read(SAVED_BYTES_MAX)
    return start.lstrip().startswith(b"{") and SCHEMA.encode() in start
