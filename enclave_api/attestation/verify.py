"""Evidence held against a policy, step by step and offline: each step passed, failed or was skipped, with the reason.

Order: the hardware's own steps (chain → signature → debug, TCB → measurement) → report data = claims → nonce → key →
code → configuration → TLS key = connection → walls → isolation → age → not simulated.
"""

import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from enclave_api.attestation import claims as about
from enclave_api.attestation import verify_sev_snp, verify_tdx
from enclave_api.attestation.claims import Claims, read_claims
from enclave_api.attestation.evidence import SEV_SNP, SIMULATED, TDX, Evidence, evidence_hash, report_data
from enclave_api.attestation.hardware import HardwareVerdict, Material, merged
from enclave_api.attestation.policy import Policy
from enclave_api.attestation.steps import Step, StepFailed, run_step, skipped
from enclave_api.errors import EvidenceRefused
from model_registry.bundle import RecipientKey

_NOTHING = Material()
_BARE = "a bare report makes no claims"
CLAIMS_STEPS = (
    "nonce is ours",
    "key matches its id",
    "code digest accepted",
    "configuration accepted",
    "TLS key = connection",
    "walls acceptable",
    "isolation acceptable",
    "age acceptable",
)


@dataclass(frozen=True)
class Verdict:
    """The steps, and what they found.

    Attributes:
        steps: in the order in which they are told.
        claims: the claims' members; {} where they could not be read, or there are none.
        facts: what the hardware's report says: measurement, TCB, debug bit …
        required: names of steps that must have passed: the evidence is refused where one was skipped or never run.
    """

    steps: tuple[Step, ...]
    claims: Claims
    facts: Mapping[str, Any] = field(default_factory=dict)
    required: frozenset[str] = frozenset()

    @property
    def refusal(self) -> Step | None:
        """The first step that failed, or else a required one that did not pass; None = accepted."""
        failed = [step for step in self.steps if step.outcome == "failed"]
        open_ = self.required - {step.name for step in self.steps if step.outcome == "passed"}
        return next(
            iter([*failed, *(Step(name, "failed", "required, and was not checked") for name in sorted(open_))]), None
        )

    @property
    def accepted(self) -> bool:
        """Whether no step failed and every required one passed."""
        return self.refusal is None

    @property
    def evidence_hash(self) -> str:
        """What decisions of this enclave name; "" where the claims could not be read."""
        return evidence_hash(self.claims) if self.claims else ""

    def require(self) -> None:
        """Raises EvidenceRefused, naming the step and its reason, unless accepted."""
        if (step := self.refusal) is not None:
            raise EvidenceRefused(step.name, public=f"{step.name}: {step.reason}")

    def recipient(self) -> RecipientKey:
        """The key to seal to; raises EvidenceRefused where the evidence is not accepted."""
        self.require()
        return RecipientKey(bytes.fromhex(self.claims["hpke_key"]))


def verify_evidence(
    evidence: Evidence,
    nonce: bytes | None,
    policy: Policy,
    *,
    at: datetime,
    tls_key_hash: str | None = None,
    material: Material = _NOTHING,
) -> Verdict:
    """Checks evidence offline; never raises for evidence, however malformed: it fails steps instead.

    Args:
        evidence: claims and report, from a connection or a file.
        nonce: what the caller asked with; None = the caller did not ask, and no freshness is shown.
        policy: what must hold.
        at: the time of verification, with its zone: certificates, revocation lists and the age are judged by it.
        tls_key_hash: SHA-256, hex, of the SubjectPublicKeyInfo that the connection's other end proved; None = there
            is no connection.
        material: certificates, revocation lists and collateral of the caller's, beside the evidence's own.
    """
    hardware = _hardware(
        evidence.format, evidence.report, merged((Material(evidence.certificates), material)), policy, at
    )
    claims = read_claims(evidence.claims)
    bound = partial(_check_report_data, hardware.report_data, report_data(evidence.claims), "SHA-512 of the claims")
    vouching = (
        run_step("claims readable", partial(about.check_readable, claims)),
        *hardware.steps,
        run_step("report data = claims", bound),
    )
    judged = (
        *_claims_steps(claims, nonce, policy, at, tls_key_hash, evidence.format),
        _not_simulated(evidence.format, policy),
    )
    return Verdict((*vouching, *_vouched(vouching, judged)), claims, hardware.facts, _required(evidence.format))


def verify_report(
    form: str, report: bytes, policy: Policy, *, at: datetime, material: Material, expected: bytes | None = None
) -> Verdict:
    """Checks a bare hardware report or quote, of whatever origin; the steps about claims are skipped.

    Args:
        form: `sev-snp` or `tdx`.
        report: its bytes.
        policy: its table for the format.
        at: the time of verification, with its zone.
        material: certificates, revocation lists, collateral.
        expected: the 64 bytes of report data it must carry; None = any.
    """
    hardware = _hardware(form, report, material, policy, at)
    data = skipped("report data as expected", "no report data was asked for")
    if expected is not None:
        check = partial(_check_report_data, hardware.report_data, expected, "the 64 bytes asked for")
        data = run_step("report data as expected", check)
    claims = (skipped(name, _BARE) for name in CLAIMS_STEPS)
    steps = (*hardware.steps, data, *claims, *_vouched(hardware.steps, (_not_simulated(form, policy),)))
    return Verdict(steps, {}, hardware.facts, _required(form))


def _vouched(vouching: Sequence[Step], judged: Sequence[Step]) -> Sequence[Step]:
    # a fault is told in any case; that there is none, only of claims that the report vouches for
    broken = next((step.name for step in vouching if step.outcome == "failed"), "")
    if not broken:
        return judged
    return [skipped(step.name, f"hangs on: {broken}") if step.outcome == "passed" else step for step in judged]


def _hardware(form: str, report: bytes, material: Material, policy: Policy, at: datetime) -> HardwareVerdict:
    if form == SIMULATED:
        return HardwareVerdict((skipped("report signature", "simulated evidence is signed by nobody"),), report)
    if form == SEV_SNP and policy.sev_snp:
        return verify_sev_snp.verify_sev_snp(report, material, policy.sev_snp, at)
    if form == TDX and policy.tdx:
        return verify_tdx.verify_tdx(report, material, policy.tdx, at)
    if form in (SEV_SNP, TDX):
        return HardwareVerdict((Step("format accepted", "failed", f"the policy has no table [{form}]"),))
    return HardwareVerdict((Step("format accepted", "failed", f"no such format: {ascii(form)[:40]}"),))


def _check_report_data(found: bytes, expected: bytes, what: str) -> str:
    if not found:
        raise StepFailed("the report's data could not be read")
    if not hmac.compare_digest(found, expected):
        raise StepFailed(f"the report was made over other data than {what}")
    return what


def _required(form: str) -> frozenset[str]:
    # A verifier skips what hangs on a failed step; were it to skip one of these for another reason, it proved nothing.
    return frozenset(_STEPS.get(form, ())) - _MAY_BE_SKIPPED


_STEPS = {SEV_SNP: verify_sev_snp.STEPS, TDX: verify_tdx.STEPS}
_MAY_BE_SKIPPED = {verify_sev_snp.REVOKED, verify_sev_snp.CHIP, verify_tdx.REVOKED}
_NOT_ASKED = "you did not ask for this evidence: it shows no freshness to you"
_NO_CONNECTION = "there is no connection to compare with"
_NO_CODE = "the policy names no code digest, and nobody vouches for the one claimed"
_NO_CONFIG = "the policy names no configuration digest"
_NO_AGE = "the policy sets no maximum age"


def _claims_steps(
    claims: Claims, nonce: bytes | None, policy: Policy, at: datetime, tls_key_hash: str | None, form: str
) -> tuple[Step, ...]:
    # what makes a step superfluous, else its check
    age = policy.age_minutes_max
    checks: tuple[str | Callable[[], str], ...] = (
        _NOT_ASKED if nonce is None else partial(about.check_nonce, claims, nonce),
        partial(about.check_key, claims),
        _NO_CODE if form == SIMULATED and not policy.code_digests else partial(about.check_code, claims, policy, form),
        partial(about.check_config, claims, policy.config_digests) if policy.config_digests else _NO_CONFIG,
        _NO_CONNECTION if tls_key_hash is None else partial(about.check_tls, claims, tls_key_hash),
        partial(about.check_walls, claims, policy),
        partial(about.check_isolation, claims, policy),
        _NO_AGE if age is None else partial(about.check_age, claims, age, at),
    )
    named = zip(CLAIMS_STEPS, checks, strict=True)
    return tuple(skipped(name, c) if isinstance(c, str) else run_step(name, c) for name, c in named)


def _not_simulated(form: str, policy: Policy) -> Step:
    name = "not simulated"
    if form != SIMULATED:
        return Step(name, "passed", ascii(form)[1:40].rstrip("'"))
    if policy.simulated is None:
        way = "accept_simulated = true in the policy file, or --accept-simulated without one"
        return Step(name, "failed", f"no hardware vouches for this enclave; for practice accept it: {way}")
    return Step(name, "passed", "SIMULATED, accepted because you said so")
