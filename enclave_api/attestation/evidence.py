"""Evidence: what the enclave claims, and the report that vouches for it (docs/formats.md, "Evidence").

The report's 64-byte report data are SHA-512 of the claims, so the claims are as trustworthy as the report: with a TEE
the CPU's vendor vouches, with `simulated` nobody does, and everything says so.
"""

import hashlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any

import rfc8785

from audit.event import format_time
from model_registry.bundle import SUITE_NAME, RecipientKey
from sandbox.jail.required import isolation

SCHEMA = "heixia.evidence/v1"
SIMULATED = "simulated"
SEV_SNP = "sev-snp"
TDX = "tdx"
NONCE_BYTES = 32


@dataclass(frozen=True)
class Evidence:
    """Claims (RFC 8785 JSON), format, report and the certificates that sign the report (DER)."""

    claims: bytes
    format: str
    report: bytes
    certificates: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class EnclaveFacts:
    """What stays the same until the key is rotated or the server stops; the claims are these, a nonce and a time."""

    recipient: RecipientKey
    epoch: int
    ledger_vkey: str
    tls_key_hash: str
    code_digest: str
    config_digest: str
    mode: str
    walls: Mapping[str, Mapping[str, Any]]
    started: datetime
    format: str = SIMULATED

    @property
    def isolation(self) -> str:
        """The isolation in force, by the name that evidence, the log and receipts use."""
        return isolation(self.mode, self.walls)

    @property
    def evidence_hash(self) -> str:
        """What every decision names: the claims without what differs from one asking to the next."""
        return evidence_hash(self._members())

    def claims(self, nonce: bytes, issued: datetime) -> bytes:
        """The claims over a nonce, made at a time, as RFC 8785 JSON."""
        return rfc8785.dumps({**self._members(), "nonce": nonce.hex(), "issued": format_time(issued)})

    def _members(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "hpke_key": self.recipient.raw.hex(),
            "hpke_key_id": self.recipient.key_id,
            "hpke_epoch": self.epoch,
            "hpke_suite": SUITE_NAME,
            "ledger_vkey": self.ledger_vkey,
            "tls_key_hash": self.tls_key_hash,
            "code_digest": self.code_digest,
            "config_digest": self.config_digest,
            "isolation": self.isolation,
            "walls": {name: dict(wall) for name, wall in self.walls.items()},
            "versions": _versions(),
            "started": format_time(self.started),
        }


@cache
def _versions() -> dict[str, str]:
    # read from files, and asked for with every evidence
    return {name: importlib.metadata.version(name) for name in ("cryptography", "onnxruntime")}


def evidence_hash(claims: Mapping[str, Any]) -> str:
    """SHA-256, hex, of the claims without `nonce` and `issued`, as RFC 8785 JSON."""
    kept = {name: value for name, value in claims.items() if name not in ("nonce", "issued")}
    return hashlib.sha256(rfc8785.dumps(kept)).hexdigest()


def report_data(claims: bytes) -> bytes:
    """The 64 bytes that a report must carry: SHA-512 of the claims."""
    return hashlib.sha512(claims).digest()


def code_digest() -> str:
    """SHA-256, hex, over the installed Python files of the four packages and the generated code, in path order."""
    state = hashlib.sha256()
    for package in ("audit", "enclave_api", "heixia", "model_registry", "sandbox"):
        root = files(package)
        found = sorted((str(p.relative_to(root)), p) for p in root.rglob("*.py"))  # type: ignore[attr-defined]
        for name, path in found:
            content = path.read_bytes()
            state.update(f"{package}/{name} {len(content)}\n".encode() + content)
    return state.hexdigest()
