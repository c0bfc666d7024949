"""What a report must say: a check tells why it passed, or raises StepFailed, or StepSkipped where nothing is asked."""

from enclave_api.attestation.sev_snp_certificates import Endorsement
from enclave_api.attestation.sev_snp_policy import PLATFORM_BITS, SevSnpPolicy
from enclave_api.attestation.sev_snp_report import Product, SnpReport, Tcb, tcb_of
from enclave_api.attestation.steps import StepFailed, StepSkipped

_LINES = ("Milan", "Genoa", "Turin")


def tcbs_of(report: SnpReport, product: Product) -> dict[str, Tcb]:
    """The four TCB_VERSIONs of a report by their names; raises StepFailed where one is not of the product's layout."""
    versions = {
        "REPORTED_TCB": report.reported_tcb,
        "COMMITTED_TCB": report.committed_tcb,
        "CURRENT_TCB": report.current_tcb,
        "LAUNCH_TCB": report.launch_tcb,
    }
    return {name: tcb_of(raw, has_fmc=product == "Turin") for name, raw in versions.items()}


def check_agreement(report: SnpReport, endorsement: Endorsement, product: Product) -> str:
    """The certificate was issued for this chip, at this TCB, of this line.

    A VCEK is derived from the chip's secret and REPORTED_TCB, so every part must be equal; a higher one will not do. A
    host may mask CHIP_ID with zeros: the chip is then the one that the VCEK names, as its key signed.
    """
    for line, source in ((report.product, "the report"), (endorsement.line, "the certificate's product name")):
        if line in _LINES and line != product:
            raise StepFailed(f"{source} says {line}, its issuer signs for {product}")
    reported = tcb_of(report.reported_tcb, has_fmc=product == "Turin")
    differing = [part for part in vars(reported) if getattr(reported, part) != getattr(endorsement.tcb, part)]
    if differing:
        part = differing[0]
        ours, theirs = getattr(reported, part), getattr(endorsement.tcb, part)
        raise StepFailed(f"REPORTED_TCB has {part} {ours}, the {endorsement.kind} is for {theirs}")
    if endorsement.kind == "VLEK":
        return f"{endorsement.product_name} at the provider {endorsement.csp_id}, every part of REPORTED_TCB"
    if any(report.chip_id) and report.chip_id != endorsement.chip_id:
        raise StepFailed("the VCEK is of another chip than CHIP_ID says")
    chip = endorsement.chip_id.hex()[:16]
    return f"{endorsement.product_name}, chip {chip}…, every part of REPORTED_TCB"


def check_debug(report: SnpReport) -> str:
    """Bit 19 of the guest's policy; no policy of ours can accept it."""
    if report.policy.debug_allowed:
        raise StepFailed("the guest may be debugged: the host can read its memory")
    return "the host may not debug the guest"


def check_vmpl(report: SnpReport, policy: SevSnpPolicy) -> str:
    """Who in the guest asked: a higher number is a lower privilege; the host's own requests have 0xFFFFFFFF."""
    if report.vmpl > policy.vmpl_max:
        raise StepFailed(f"asked for at VMPL {report.vmpl}, accepted is {policy.vmpl_max} at most")
    return f"asked for at VMPL {report.vmpl}"


def check_tcb(report: SnpReport, policy: SevSnpPolicy, product: Product) -> str:
    """The floor holds for each of the four TCB_VERSIONs, part by part.

    - REPORTED_TCB is what the signing key was derived from: older firmware cannot have that key;
    - COMMITTED_TCB is what the machine can still be rolled back to, with the guest in it;
    - CURRENT_TCB is what runs now;
    - LAUNCH_TCB is what measured the guest: weak firmware could have measured what was not there.

    A line of processors that the policy names no floor for is refused.
    """
    floor = policy.minimum_tcb.get(product)
    if floor is None:
        raise StepFailed(f"the policy has no minimum_tcb for {product}")
    versions = tcbs_of(report, product)
    for name, version in versions.items():
        low = version.below(floor.tcb)
        if low:
            have, least = getattr(version, low[0]), getattr(floor.tcb, low[0])
            raise StepFailed(f"{name} has {low[0]} {have}, asked for is {least}")
    shown = ", ".join(f"{part} {number}" for part, number in vars(versions["REPORTED_TCB"]).items())
    return f"{product}: {shown}"


def check_policy(report: SnpReport, policy: SevSnpPolicy) -> str:
    """What the guest was launched with, and what the machine has on."""
    wrong = [reason for reason, fails in _policy_faults(report, policy) if fails]
    if wrong:
        raise StepFailed("; ".join(wrong))
    return f"guest policy {report.policy.raw:#x}, platform {report.platform_info:#x}"


def _policy_faults(report: SnpReport, policy: SevSnpPolicy) -> list[tuple[str, bool]]:
    guest, keys, host_data = report.policy, policy.id_key_digests, policy.host_data
    missing = [name for name in policy.require_platform if not report.platform_has(PLATFORM_BITS[name])]
    asked = policy.require_mitigations
    mitigated = all(vector & asked == asked for vector in report.mitigations or (0,))
    return [
        ("a migration agent may move the guest", guest.migration_agent_allowed and not policy.accept_migration_agent),
        ("the guest may run with SMT", guest.smt_allowed and policy.require_no_smt),
        ("SMT is on", report.platform_has(0) and policy.require_no_smt),
        (f"guest SVN {report.guest_svn} is too low", report.guest_svn < policy.minimum_guest_svn),
        ("HOST_DATA is another one", host_data is not None and report.host_data.hex() != host_data),
        ("the ID block's key is not accepted", keys is not None and report.id_key_digest.hex() not in keys),
        (f"the machine has off: {', '.join(missing)}", bool(missing)),
        ("mitigations are missing, or the report is too old to tell", not mitigated),
    ]


def check_measurement(report: SnpReport, policy: SevSnpPolicy) -> str:
    """MEASUREMENT of the launch is one of the policy's."""
    if report.measurement.hex() not in policy.measurements:
        raise StepFailed(f"measurement {report.measurement.hex()} is not in the policy")
    return report.measurement.hex()


def check_chip(report: SnpReport, policy: SevSnpPolicy, endorsement: Endorsement) -> str:
    """A VLEK's provider is one of the policy's, or else the chip is; raises StepSkipped where it names neither."""
    if policy.chips is None and policy.csp_ids is None:
        raise StepSkipped("the policy names neither chips nor providers")
    if endorsement.kind == "VLEK" and policy.csp_ids is not None:
        if endorsement.csp_id not in policy.csp_ids:
            raise StepFailed(f"the provider {endorsement.csp_id} is not in the policy")
        return f"provider {endorsement.csp_id}"
    if policy.chips is None:
        raise StepFailed("the policy names providers alone, and a VCEK tells none")
    chip = (endorsement.chip_id or report.chip_id).hex()
    if chip not in policy.chips:
        raise StepFailed(f"the chip {chip[:16]}… is not in the policy")
    return f"chip {chip[:16]}…"
