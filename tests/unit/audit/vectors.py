"""Where the public test vectors lie, and values that the tests of this folder share."""

import json
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from audit.kinds import Decision
from audit.note import NoteSigner

TLOG = Path(__file__).resolve().parents[4] / "shared" / "fixtures" / "crypto" / "tlog"
needs_vectors = pytest.mark.skipif(not TLOG.is_dir(), reason=f"the public vectors are not at {TLOG}")

ORIGIN = "example.com/heixia"
DIGEST = "ab" * 32
START = datetime(2026, 11, 23, 8, tzinfo=UTC)


def examples(section: str) -> list[Any]:
    """Read one section of formats_examples.json; nothing where the vectors are absent."""
    path = TLOG / "formats_examples.json"
    return list(json.loads(path.read_text())[section]) if path.exists() else []


def json_lines(name: str) -> list[Any]:
    """Read a file of JSON lines; nothing where the vectors are absent."""
    path = TLOG / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def signer(name: str = ORIGIN, seed: bytes = b"\x01" * 32) -> NoteSigner:
    """Make a signer that is the same in every run."""
    return NoteSigner.from_seed(name, seed)


def hybrid_signer(name: str = ORIGIN, seed: bytes = b"\x01" * 32) -> NoteSigner:
    """Make the same signer with an ML-DSA-44 key beside the Ed25519 one."""
    return NoteSigner.from_seed(name, seed, seed[::-1])


def go_signer(name: str, encoded: str) -> NoteSigner:
    """Make a signer from Go's private form: base64 of 0x01 || seed."""
    return NoteSigner.from_seed(name, b64decode(encoded)[1:])


class Clock:
    """A clock that advances by a millisecond when asked, or stands where it is put."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        """Tell the time."""
        self.now += timedelta(milliseconds=1)
        return self.now


def decision(seq: int = 1, **changed: Any) -> Decision:
    """Make a plausible decision."""
    members: dict[str, Any] = {
        "request_hash": DIGEST,
        "caller": "application/bank/loans",
        "institution": "bank",
        "product": "bank/loan",
        "version": "bank/loan@1",
        "bundle_hash": DIGEST,
        "rules_hash": DIGEST,
        "evidence_hash": DIGEST,
        "consent_hash": DIGEST,
        "consent_index": 3,
        "use": 1,
        "max_uses": 5,
        "subject_tag": "cd" * 16,
        "field_set_hash": DIGEST,
        "records_hash": DIGEST,
        "outcome": DIGEST,
        "limit": DIGEST,
        "bits_milli": 3000,
        "bits_total_milli": 6000,
        "isolation": "one-shot",
        "evidence_format": "simulated",
        "seq": seq,
    }
    return Decision(**(members | changed))
