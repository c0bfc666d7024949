"""SEV-SNP reports verified offline, step by step (docs/formats.md, "Evidence").

Steps that read the report's members hang on its signature: of a report that nobody signed nothing is said to have
passed. Skipped rather than passed are also revocation where no list is given, and chips where the policy names none.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from enclave_api.attestation import sev_snp_checks as checks
from enclave_api.attestation.hardware import HardwareVerdict, Material
from enclave_api.attestation.sev_snp_certificates import (
    Endorsement,
    certificate_table,
    endorsement_of,
    is_endorsement,
    issuing_line,
)
from enclave_api.attestation.sev_snp_policy import SevSnpPolicy, TcbFloor
from enclave_api.attestation.sev_snp_report import Product, SnpReport, parse_report, tcb_of
from enclave_api.attestation.steps import Step, StepFailed, StepSkipped, run_step, skipped
from enclave_api.attestation.x509_chain import (
    Chain,
    chain_to_root,
    check_not_revoked,
    fingerprint,
    name_of,
    readable_certificates,
)

__all__ = ["STEPS", "SevSnpPolicy", "TcbFloor", "certificate_table", "verify_sev_snp"]

READABLE = "report readable"
CHAIN = "chain to the vendor's root"
REVOKED = "not revoked"
AGREES = "certificate matches report"
SIGNATURE = "report signature"
DEBUG = "debug off"
VMPL = "VMPL accepted"
TCB = "TCB floor met"
GUEST = "guest policy accepted"
MEASUREMENT = "measurement accepted"
CHIP = "chip accepted"
STEPS = (READABLE, CHAIN, REVOKED, AGREES, SIGNATURE, DEBUG, VMPL, TCB, GUEST, MEASUREMENT, CHIP)
"""Names of the steps, in the order in which they are told."""

_SIGNED = (REVOKED, SIGNATURE)


@dataclass(frozen=True)
class _Signer:
    """Whose key is to have signed the report: an endorsed key with a chain to a root of the policy."""

    endorsement: Endorsement
    chain: Chain
    product: Product


def verify_sev_snp(report: bytes, material: Material, policy: SevSnpPolicy, at: datetime) -> HardwareVerdict:
    """Verifies a report of 1,184 bytes at a time; its report data are returned, not judged.

    Never raises for evidence, however malformed: it fails the step, and skips those that hang on it.

    Args:
        report: ATTESTATION_REPORT as the firmware wrote it.
        material: VCEK or VLEK, ASK or ASVK, ARK, in any order and among others; revocation lists.
        policy: what is accepted.
        at: the time at which certificates and lists must be valid; with a time zone.
    """
    try:
        read = parse_report(report)
    except StepFailed as error:
        return HardwareVerdict(_stopped([], READABLE, error))
    steps = [Step(READABLE, "passed", f"version {read.version}, SIGNING_KEY is {read.signer}")]
    try:
        signer = _find_signer(read, material, policy, at)
    except StepFailed as error:
        return HardwareVerdict(_stopped(steps, CHAIN, error), read.report_data, _facts(read, read.product))
    issuers = " by ".join(name_of(certificate) for certificate in signer.chain)
    steps.append(Step(CHAIN, "passed", f"{issuers}, the policy's {fingerprint(signer.chain[-1])[:16]}…"))
    blocked: set[str] = set()
    for name, check, needs in _table(read, signer, material, policy, at):
        missing = next((need for need in needs if need in blocked), None)
        steps.append(skipped(name, f"hangs on: {missing}") if missing else run_step(name, check))
        if missing or steps[-1].outcome == "failed":
            blocked.add(name)
    return HardwareVerdict(tuple(steps), read.report_data, _facts(read, signer.product))


def _stopped(steps: Sequence[Step], name: str, error: StepFailed) -> tuple[Step, ...]:
    rest = STEPS[STEPS.index(name) + 1 :]
    return (*steps, Step(name, "failed", str(error)), *(skipped(one, f"hangs on: {name}") for one in rest))


def _table(
    read: SnpReport, signer: _Signer, material: Material, policy: SevSnpPolicy, at: datetime
) -> tuple[tuple[str, Callable[[], str], tuple[str, ...]], ...]:
    """Each step after the chain's: its name, its check, and the steps without which it is not made."""
    return (
        (REVOKED, partial(_check_revoked, signer.chain, material, policy, at), ()),
        (AGREES, partial(checks.check_agreement, read, signer.endorsement, signer.product), ()),
        (SIGNATURE, partial(check_signature, read, signer.chain[0]), ()),
        (DEBUG, partial(checks.check_debug, read), _SIGNED),
        (VMPL, partial(checks.check_vmpl, read, policy), _SIGNED),
        (TCB, partial(checks.check_tcb, read, policy, signer.product), (*_SIGNED, AGREES)),
        (GUEST, partial(checks.check_policy, read, policy), _SIGNED),
        (MEASUREMENT, partial(checks.check_measurement, read, policy), _SIGNED),
        (CHIP, partial(checks.check_chip, read, policy, signer.endorsement), (*_SIGNED, AGREES)),
    )


def _find_signer(read: SnpReport, material: Material, policy: SevSnpPolicy, at: datetime) -> _Signer:
    """VCEK by ASK by ARK, or VLEK by ASVK by ARK, as SIGNING_KEY says; all valid at the time, the ARK in the policy."""
    if read.signer == "VCEK" and read.mask_chip_key:
        raise StepFailed("MASK_CHIP_KEY is set: this machine signs no reports with its VCEK")
    certificates = readable_certificates(material.certificates)
    endorsement = _choose(read, certificates)
    chain = chain_to_root(endorsement.certificate, certificates, set(policy.roots), at)
    if len(chain) != 3:
        raise StepFailed(f"a chain of {len(chain)} certificates; AMD's have 3")
    kind, product = issuing_line(chain[1])
    if kind != read.signer:
        raise StepFailed(f"the {read.signer} is signed by {name_of(chain[1])}, which signs {kind}s")
    return _Signer(endorsement, chain, product)


def _choose(read: SnpReport, certificates: Sequence[x509.Certificate]) -> Endorsement:
    """The certificate for this report among those of its kind: a folder may hold those of many chips and TCBs."""
    reason = ""
    found: list[Endorsement] = []
    for certificate in filter(is_endorsement, certificates):
        try:
            found.append(endorsement_of(certificate))
        except StepFailed as error:
            reason = f": {error}"
    of_kind = [endorsement for endorsement in found if endorsement.kind == read.signer]
    if not of_kind:
        raise StepFailed(f"no readable {read.signer} among the certificates{reason}")
    return min(of_kind, key=partial(_strangeness, read))


def _strangeness(read: SnpReport, endorsement: Endorsement) -> tuple[bool, bool]:
    """Lower for the certificate that was issued for this chip and TCB; every claim is checked afterwards."""
    try:
        other_tcb = tcb_of(read.reported_tcb, has_fmc=endorsement.line == "Turin") != endorsement.tcb
    except StepFailed:
        other_tcb = True
    return endorsement.chip_id != read.chip_id, other_tcb


def _check_revoked(chain: Chain, material: Material, policy: SevSnpPolicy, at: datetime) -> str:
    """AMD's ARK lists revoked ASKs and ASVKs; VCEKs are all numbered 0, and are outdated by their TCB instead."""
    leaf, issuer, root = chain
    listed = check_not_revoked(issuer, root, material.crls, at)
    check_not_revoked(leaf, issuer, material.crls, at)
    if listed:
        return f"{name_of(issuer)} is not in the current list of {name_of(root)}"
    if policy.require_crl:
        raise StepFailed(f"no revocation list of {name_of(root)} is given, and the policy requires one")
    raise StepSkipped(f"no revocation list of {name_of(root)} is given, and the policy requires none")


def check_signature(read: SnpReport, certificate: x509.Certificate) -> str:
    """ECDSA P-384 over bytes 0 to 0x29F with the certificate's key; raises StepFailed."""
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise StepFailed(f"the key of the {read.signer} is not on the curve P-384")
    try:
        key.verify(read.signature, read.signed, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        raise StepFailed(f"not signed by the key of this {read.signer}") from None
    return "ECDSA P-384 with SHA-384 over bytes 0 to 0x29f"


def _facts(read: SnpReport, product: Product | None) -> dict[str, Any]:
    """What the report says, as JSON values; TCB_VERSIONs as their bytes, and by parts where the product is known."""
    try:
        tcb = {name: asdict(version) for name, version in checks.tcbs_of(read, product).items()} if product else {}
    except StepFailed:
        tcb = {}
    return {
        "version": read.version,
        "product": product,
        "signer": read.signer,
        "measurement": read.measurement.hex(),
        "host_data": read.host_data.hex(),
        "id_key_digest": read.id_key_digest.hex(),
        "policy": f"{read.policy.raw:#x}",
        "debug": read.policy.debug_allowed,
        "vmpl": read.vmpl,
        "guest_svn": read.guest_svn,
        "platform_info": f"{read.platform_info:#x}",
        "chip_id": read.chip_id.hex(),
        "current_tcb": read.current_tcb.hex(),
        "reported_tcb": read.reported_tcb.hex(),
        "committed_tcb": read.committed_tcb.hex(),
        "launch_tcb": read.launch_tcb.hex(),
        "tcb": tcb,
        "mitigations": [f"{vector:#x}" for vector in read.mitigations or ()],
    }
