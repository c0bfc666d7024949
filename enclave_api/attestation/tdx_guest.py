"""What a TD report says of its guest, against a policy: debugging, attributes, CPU features, measurements.

Bits of TD_ATTRIBUTES are those of the Intel TDX Module Base Architecture Specification ("ATTRIBUTES"): 7:0 put the
guest under debug (DEBUG and profiling), 31:8 touch its security, 63:32 do not. Bits without a name are reserved.
"""

from collections.abc import Mapping
from typing import Any

from enclave_api.attestation.steps import StepFailed
from enclave_api.attestation.tdx_policy import TdAttribute, TdxPolicy
from enclave_api.attestation.tdx_quote import TdReport

_UNDER_DEBUG = 0xFF
_DEBUG = 0x01
ATTRIBUTE_BITS: Mapping[int, TdAttribute] = {
    16: "ICSSD",
    27: "LASS",
    28: "SEPT_VE_DISABLE",
    29: "MIGRATABLE",
    30: "PKS",
    31: "KL",
    62: "TPA",
    63: "PERFMON",
}
_X87_SSE = 0x03  # the TDX module demands both of every guest
_MEASURED = ("rtmr0", "rtmr1", "rtmr2", "rtmr3", "mr_seam", "mr_config_id", "mr_owner", "mr_owner_config")
_NOTHING = bytes(48)


def check_debug(report: TdReport) -> str:
    """Raises StepFailed where the host may look into the guest; no policy can accept that."""
    bits = _attributes(report)
    if bits & _DEBUG:
        raise StepFailed("TD attribute DEBUG is set: the host can read the guest")
    if bits & _UNDER_DEBUG:
        raise StepFailed("a TD attribute of debugging (bits 1 to 7) is set: the host can profile the guest")
    return "no attribute of debugging is set"


def check_attributes(report: TdReport, policy: TdxPolicy) -> str:
    """Raises StepFailed for attributes that are reserved, not allowed or lacking, and for XFAM beyond policy."""
    bits = _attributes(report)
    reserved = [bit for bit in range(8, 64) if bits >> bit & 1 and bit not in ATTRIBUTE_BITS]
    if reserved:
        raise StepFailed(f"reserved TD attribute (bit {reserved[0]}) is set")
    found = set(attribute_names(report))
    required = set(policy.td_attributes_required)
    for names, told in (
        (found - required - set(policy.td_attributes_allowed), "set, but not allowed"),
        (required - found, "not set"),
    ):
        if names:
            raise StepFailed(f"TD attributes {told}: {', '.join(sorted(names))}")
    _check_xfam(report, policy)
    return ", ".join(sorted(found)) or "none set"


def _check_xfam(report: TdReport, policy: TdxPolicy) -> None:
    xfam = int.from_bytes(report.xfam, "little")
    if xfam & _X87_SSE != _X87_SSE:
        raise StepFailed("XFAM lacks X87 and SSE, which every guest has")
    if policy.xfam_allowed is not None:
        beyond = xfam & ~int.from_bytes(bytes.fromhex(policy.xfam_allowed), "little")
        if beyond:
            raise StepFailed(f"XFAM has bits that are not allowed: {beyond:#x}")


def check_measurements(report: TdReport, policy: TdxPolicy) -> str:
    """Raises StepFailed with the first measurement that is not among the accepted ones."""
    if report.mrtd.hex() not in policy.measurements:
        raise StepFailed(f"MRTD {report.mrtd.hex()[:16]}… is not among the {len(policy.measurements)} accepted")
    judged = [name for name in _MEASURED if getattr(policy, name) is not None]
    for name in judged:
        value: bytes = getattr(report, name)
        if value.hex() not in getattr(policy, name):
            raise StepFailed(f"{name} {value.hex()[:16]}… is not among those accepted")
    service = report.mr_service_td or _NOTHING
    if service.hex() not in (policy.mr_service_td or (_NOTHING.hex(),)):
        raise StepFailed("a service guest is bound that is not accepted (mr_service_td)")
    return ", ".join(("MRTD", *judged))


def _attributes(report: TdReport) -> int:
    return int.from_bytes(report.td_attributes, "little")


def attribute_names(report: TdReport) -> list[str]:
    """Names of the attributes that are set, by bit; debugging and reserved ones have none."""
    return [name for bit, name in ATTRIBUTE_BITS.items() if _attributes(report) >> bit & 1]


def guest_facts(report: TdReport) -> dict[str, Any]:
    """What the report says, for people and programs; bytes as hex."""
    values = {name: value.hex() for name, value in vars(report).items() if value is not None and name != "report_data"}
    return {**values, "td_attribute_names": attribute_names(report), "debug": bool(_attributes(report) & _UNDER_DEBUG)}
