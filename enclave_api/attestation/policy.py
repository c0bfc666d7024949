"""What a caller accepts, checked step by step; each step passed, failed or was skipped, with the reason.

Hardware formats (sev-snp, tdx) are verified by a later part of this package; until then they are refused here rather
than waved through.
"""

import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from enclave_api.attestation.evidence import SCHEMA, SIMULATED, Evidence, report_data
from enclave_api.attestation.steps import Outcome, Step
from enclave_api.errors import EvidenceRefused
from model_registry.bundle import RecipientKey
from model_registry.errors import BundleInvalid
from sandbox.jail.required import MODES, REQUIRED, isolation, missing


@dataclass(frozen=True)
class UnsafeAcceptSimulated:
    """Accepts evidence that no hardware vouches for: for development and demonstrations alone."""


@dataclass(frozen=True)
class UnsafeAcceptWeakIsolation:
    """Accepts an enclave that lacks walls: a hostile model can reach more there than docs/threat-model.md says."""


@dataclass(frozen=True)
class UnsafeAcceptWarm:
    """Accepts processes that serve many calls: one call of a version that was taken over may see the next."""


@dataclass(frozen=True)
class Policy:
    """What must hold. Simulated evidence, missing walls and warm isolation are refused unless told otherwise."""

    simulated: UnsafeAcceptSimulated | None = None
    code_digest: str | None = None
    weak_isolation: UnsafeAcceptWeakIsolation | None = None
    warm: UnsafeAcceptWarm | None = None


@dataclass(frozen=True)
class Verdict:
    """The steps, and what the claims say."""

    steps: tuple[Step, ...]
    claims: dict[str, Any]

    @property
    def accepted(self) -> bool:
        """Whether no step failed."""
        return all(step.outcome != "failed" for step in self.steps)

    def recipient(self) -> RecipientKey:
        """The key to seal to; raises EvidenceRefused where a step failed."""
        if not self.accepted:
            failed = next(step for step in self.steps if step.outcome == "failed")
            raise EvidenceRefused(failed.name, public=f"{failed.name}: {failed.reason}")
        return RecipientKey(bytes.fromhex(self.claims["hpke_key"]))


def verify_evidence(evidence: Evidence, nonce: bytes, policy: Policy) -> Verdict:
    """Checks evidence offline; never raises for evidence, however malformed: it fails steps instead."""
    claims = _claims(evidence)
    checks: list[tuple[str, Callable[[], tuple[Outcome, str]]]] = [
        ("claims readable", lambda: _passed(bool(claims), "RFC 8785 JSON of a known schema")),
        ("report signature", lambda: _signature(evidence)),
        ("report data = claims", lambda: _passed(_same(evidence.report[:64], report_data(evidence.claims)), "SHA-512")),
        ("nonce is ours", lambda: _passed(_same(_hex(claims.get("nonce")), nonce), "32 bytes of this call")),
        ("key matches its id", lambda: _passed(_is_key(claims), "an MLKEM768-X25519 key and its SHA-256")),
        ("code digest accepted", lambda: _code(claims, policy)),
        ("TLS key = connection", lambda: ("skipped", "not compared yet by this client")),
        ("walls acceptable", lambda: _walls(claims, policy)),
        ("isolation acceptable", lambda: _isolation(claims, policy)),
        ("not simulated", lambda: _simulated(evidence, policy)),
    ]
    return Verdict(tuple(Step(name, *check()) for name, check in checks), claims)


def _claims(evidence: Evidence) -> dict[str, Any]:
    try:
        claims = json.loads(evidence.claims)
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) and claims.get("schema") == SCHEMA else {}


def _passed(ok: bool, reason: str) -> tuple[Outcome, str]:
    return ("passed" if ok else "failed", reason)


def _same(one: bytes, other: bytes) -> bool:
    return hmac.compare_digest(one, other)


def _hex(text: object) -> bytes:
    try:
        return bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        return b""


def _is_key(claims: dict[str, Any]) -> bool:
    key = RecipientKey(_hex(claims.get("hpke_key")))
    try:
        key.public()
    except BundleInvalid:
        return False
    return key.key_id == claims.get("hpke_key_id")


def _signature(evidence: Evidence) -> tuple[Outcome, str]:
    if evidence.format == SIMULATED:
        return "skipped", "simulated evidence is signed by nobody"
    return "failed", f"this client cannot verify {evidence.format[:32]!r} yet"


def _code(claims: dict[str, Any], policy: Policy) -> tuple[Outcome, str]:
    if policy.code_digest is None:
        return "skipped", "the policy names no code digest"
    return _passed(claims.get("code_digest") == policy.code_digest, "digest of the installed code")


def _walls(claims: dict[str, Any], policy: Policy) -> tuple[Outcome, str]:
    # a name of the server's own invention is a stranger's text: quoted and cut
    lacking = [name if name in REQUIRED else ascii(name)[:40] for name in missing(claims.get("walls"))]
    if not lacking:
        return "passed", f"all {len(claims['walls'])} on"
    told = f"missing: {', '.join(lacking[:40])}"
    if policy.weak_isolation is None:
        return "failed", f"{told}; accept them in the SDK with UnsafeAcceptWeakIsolation"
    return "passed", f"{told}; accepted because you said so"


def _isolation(claims: dict[str, Any], policy: Policy) -> tuple[Outcome, str]:
    said = claims.get("isolation")
    mode = next((mode for mode in MODES if isolation(mode, claims.get("walls")) == said), None)
    if mode is None:
        return "failed", f"the claims call {ascii(said)[:40]} what their walls are not"
    if mode == "warm" and policy.warm is None:
        return "failed", "warm: a process serves many calls; accept it in the SDK with UnsafeAcceptWarm"
    return "passed", str(said)


def _simulated(evidence: Evidence, policy: Policy) -> tuple[Outcome, str]:
    if evidence.format != SIMULATED:
        return "passed", evidence.format[:32]
    if policy.simulated is None:
        return "failed", "no hardware vouches for this enclave; accept it with --accept-simulated"
    return "passed", "SIMULATED, accepted because you said so"
