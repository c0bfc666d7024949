"""The status of a platform, its TDX module and its quoting enclave, as Intel's rules have it.

The rules are those of Intel's Provisioning Certification Service API, version 4 ("Get TDX TCB Info", appendix on TCB
status determination), and for relaunches those of the TD report of TDX 1.5: levels are tried from the highest to the
lowest, the first that is met counts.
"""

from collections.abc import Sequence

from enclave_api.attestation.steps import StepFailed
from enclave_api.attestation.tdx_pck import Platform
from enclave_api.attestation.tdx_policy import QePin
from enclave_api.attestation.tdx_quote import QeReport, TdReport
from enclave_api.attestation.tdx_statements import (
    Component,
    EnclaveLevel,
    ModuleIdentity,
    PlatformLevel,
    QeIdentity,
    TcbInfo,
)

UP_TO_DATE, OUT_OF_DATE, REVOKED = "UpToDate", "OutOfDate", "Revoked"
_OUTDATED = {
    "UpToDate": OUT_OF_DATE,
    "SWHardeningNeeded": OUT_OF_DATE,
    "ConfigurationNeeded": "OutOfDateConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded": "OutOfDateConfigurationNeeded",
}
_CONFIGURATION = ("ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded", "OutOfDateConfigurationNeeded")
_QE_DEBUG = 0x02  # SGX ATTRIBUTES.FLAGS.DEBUG
_NAMED = 4  # shortfalls that a reason names


def merged(status: str, part: str) -> str:
    """The status of a whole with a status, when a part (module, quoting enclave) has another.

    A part is up to date, out of date or revoked; a status that parts do not have counts as out of date.
    """
    if part == UP_TO_DATE:
        return status
    return REVOKED if part == REVOKED else _OUTDATED.get(status, status)


def check_qe(report: QeReport, identity: QeIdentity) -> EnclaveLevel:
    """The level of the quoting enclave; raises StepFailed where it is another enclave, can be debugged, or too old."""
    _check_enclave(report, identity.mrsigner, identity.isvprodid)
    if not _under_mask(report.misc_select, identity.miscselect, identity.miscselect_mask):
        raise StepFailed("the quoting enclave's MISCSELECT is another")
    if not _under_mask(report.attributes, identity.attributes, identity.attributes_mask):
        raise StepFailed("the quoting enclave's attributes are others")
    return _enclave_level(identity.tcb_levels, report.isv_svn, "the quoting enclave")


def check_pinned_qe(report: QeReport, pin: QePin) -> None:
    """Raises StepFailed where the quoting enclave is not the one that the policy names, can be debugged, or too old."""
    _check_enclave(report, pin.mr_signer, pin.isv_prod_id)
    if report.isv_svn < pin.isv_svn_min:
        raise StepFailed(f"the quoting enclave has ISVSVN {report.isv_svn}; the policy asks for {pin.isv_svn_min}")


def _check_enclave(report: QeReport, mr_signer: str, isv_prod_id: int) -> None:
    if report.attributes[0] & _QE_DEBUG:
        raise StepFailed("the quoting enclave can be debugged")
    if report.mr_signer.hex() != mr_signer:
        raise StepFailed("the quoting enclave is signed by another (MRSIGNER)")
    if report.isv_prod_id != isv_prod_id:
        raise StepFailed(f"the quoting enclave has product id {report.isv_prod_id}, not {isv_prod_id}")


def _under_mask(value: bytes, expected: str, mask: str) -> bool:
    return bytes(a & b for a, b in zip(value, bytes.fromhex(mask), strict=True)) == bytes.fromhex(expected)


def _enclave_level(levels: Sequence[EnclaveLevel], isv_svn: int, what: str) -> EnclaveLevel:
    for level in sorted(levels, key=lambda one: one.tcb.isvsvn, reverse=True):
        if isv_svn >= level.tcb.isvsvn:
            return level
    raise StepFailed(f"{what} has ISVSVN {isv_svn}, below every level")


def check_module(report: TdReport, info: TcbInfo) -> EnclaveLevel | None:
    """The level of the TDX module; None for major version 0, whose levels are the platform's.

    Raises StepFailed where it is not Intel's, has other attributes, is of an unknown version, or too old.
    """
    svn, version = report.tee_tcb_svn[:2]
    identity = _module_identity(info, version) if version else None
    module = identity or info.tdx_module
    if report.mr_signer_seam.hex() != module.mrsigner:
        raise StepFailed("the TDX module is signed by another (MRSIGNERSEAM)")
    strange = int.from_bytes(report.seam_attributes, "big") & ~int(module.attributes_mask, 16)
    if strange or not _under_mask(report.seam_attributes, module.attributes, module.attributes_mask):
        raise StepFailed("the TDX module's attributes are others (SEAMATTRIBUTES)")
    return _enclave_level(identity.tcb_levels, svn, f"the TDX module {identity.id}") if identity else None


def _module_identity(info: TcbInfo, version: int) -> ModuleIdentity:
    for identity in info.tdx_module_identities:
        if identity.id == f"TDX_{version:02X}":
            return identity
    raise StepFailed(f"the TCB info knows no TDX module of major version {version}")


def _sorted(info: TcbInfo) -> list[PlatformLevel]:
    return sorted(info.tcb_levels, key=lambda level: level.order, reverse=True)


def platform_level(info: TcbInfo, platform: Platform, tee_tcb_svn: bytes) -> PlatformLevel:
    """The level that CPU, certifying enclave and TDX meet; raises StepFailed, with what is lacking, for none."""
    lacking: list[str] = []
    for level in _sorted(info):
        lacking = _cpu_lacks(level, platform) + _tdx_lacks(level, tee_tcb_svn)
        if not lacking:
            return level
    raise StepFailed(f"no TCB level is met; for the lowest: {', '.join(lacking[:_NAMED])}")


def _cpu_lacks(level: PlatformLevel, platform: Platform) -> list[str]:
    short = [] if platform.pce_svn >= level.tcb.pcesvn else [f"PCESVN {platform.pce_svn} < {level.tcb.pcesvn}"]
    return _lacks("component", platform.components, level.tcb.sgxtcbcomponents) + short


def _tdx_lacks(level: PlatformLevel, tee_tcb_svn: bytes) -> list[str]:
    # of major version 1 and later the first two bytes are the module's, judged by its own identity
    first = 2 if tee_tcb_svn[1] else 0
    return _lacks("TDX component", tee_tcb_svn, level.tcb.tdxtcbcomponents, first)


def _lacks(what: str, has: Sequence[int], asked: Sequence[Component], first: int = 0) -> list[str]:
    pairs = list(enumerate(zip(has, asked, strict=True), 1))[first:]
    return [f"{what} {number} {have} < {wanted.svn}" for number, (have, wanted) in pairs if have < wanted.svn]


def overall_status(info: TcbInfo, platform: Platform, report: TdReport, module: str, enclave: str) -> str:
    """The status of all together, from the statuses of module and quoting enclave; raises StepFailed for no level."""
    status = merged(platform_level(info, platform, report.tee_tcb_svn).tcb_status, module)
    if report.tee_tcb_svn2 is not None and module == OUT_OF_DATE and enclave == UP_TO_DATE:
        status = _relaunched(info, platform, report.tee_tcb_svn2, status)
    return merged(status, enclave)


def _relaunched(info: TcbInfo, platform: Platform, svn2: bytes, status: str) -> str:
    """The machine has a new TDX module by now (TEE_TCB_SVN2), but the guest was started on the old one."""
    cpu = next(level.tcb_status for level in _sorted(info) if not _cpu_lacks(level, platform))
    if status not in (OUT_OF_DATE, "OutOfDateConfigurationNeeded") or cpu not in _OUTDATED:
        return status
    latest = [component.svn for component in _sorted(info)[0].tcb.tdxtcbcomponents]
    if svn2[1]:
        latest[0] = max(level.tcb.isvsvn for level in _module_identity(info, svn2[1]).tcb_levels)
    if svn2[0] < latest[0] or svn2[2] < latest[2]:
        return status
    needed = status in _CONFIGURATION or cpu in _CONFIGURATION
    return "TDRelaunchAdvisedConfigurationNeeded" if needed else "TDRelaunchAdvised"
