"""Evidence of hardware to verify again and again: a made-up SEV-SNP machine's, every step of which passes."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

from enclave_api.attestation.evidence import EnclaveFacts, Evidence, code_digest, report_data
from enclave_api.attestation.policy import Policy
from enclave_api.attestation.verify import Verdict, verify_evidence
from enclave_api.keys import Keys
from sandbox.jail.required import REQUIRED
from tests.unit.snp_machine import AT, Machine

NONCE = bytes(32)


def sev_snp(facts: EnclaveFacts) -> Callable[[], Verdict]:
    """One verification: chain of RSA-4096 signatures, the report's ECDSA P-384, every claim of `facts`.

    The made-up vendor's keys take seconds to make; that is done here, not in what is returned.
    """
    claims = facts.claims(NONCE, AT)
    machine = Machine(members={0x50: report_data(claims)})
    evidence = Evidence(claims, "sev-snp", machine.report(), machine.material().certificates)
    policy = Policy(sev_snp=machine.policy(), code_digests=(facts.code_digest,), age_minutes_max=10)

    def verify() -> Verdict:
        return verify_evidence(evidence, NONCE, policy, at=AT, tls_key_hash=facts.tls_key_hash)

    verify().require()
    return verify


def any_facts() -> EnclaveFacts:
    """An enclave's facts, where none is at hand."""
    walls = {name: {"on": True, "why": "built"} for name in REQUIRED}
    digest = hashlib.sha256(b"").hexdigest()
    started = datetime(2026, 5, 1, tzinfo=UTC)
    recipient = Keys.from_root(bytes(32)).recipient(0).public()
    return EnclaveFacts(recipient, 0, "vkey", digest, code_digest(), digest, "one-shot", walls, started)
