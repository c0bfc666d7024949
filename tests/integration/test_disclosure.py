"""What leaves beside the number: nothing by size, nothing by hash, nothing once the budget is spent."""

import hashlib
import json
import sqlite3
import urllib.request
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from enclave_api.cli.example import FIELDS
from enclave_api.client.authority import Grant
from enclave_api.client.connection import Refused
from enclave_api.identity import Role
from sandbox.consent import reverify_consent
from tests.integration.conftest import PRODUCT, Stage
from tests.room import Room, datasets_of

METRICS = "127.0.0.1:29466"


def test_stored_answers_have_one_length(stage: Stage) -> None:
    """Whoever reads the database cannot tell a large limit from none by the length of what is kept."""
    portal, limits = stage.room.portal, set()
    for company in range(100, 115):
        consent_id = stage.consent(company)
        limits.add(
            portal.request_limit(subject=stage.world.subjects[company], product=PRODUCT, consent_id=consent_id).yuan
        )
    with closing(sqlite3.connect(stage.room.home.database)) as database:
        lengths = {length for (length,) in database.execute("SELECT length(body) FROM call")}
    assert len(limits) > 3
    assert len(lengths) == 1


def test_a_consent_is_not_found_by_trying_companies(stage: Stage) -> None:
    """The log names a consent by its signed bytes: knowing all claims but the company does not help."""
    office = stage.room.office
    raw = office.sign(Grant(stage.world.subjects[120], "zhongyuan", [PRODUCT], ["tax.declaration"]), datetime.now(UTC))
    consent, payload = reverify_consent(raw, stage.room.home.trusted(Role.AUTHORITY))
    index = office.register(raw).granted_index
    told = json.loads(stage.room.auditor.entry(index).body)
    assert told["consent"] == consent.jti
    assert told["consent_hash"] == hashlib.sha256(raw).hexdigest()
    assert told["consent_hash"] != hashlib.sha256(payload).hexdigest()


def test_a_spent_budget_reads_nothing(stage: Stage, tmp_path: Path) -> None:
    """With fewer bits left than an answer costs, no data is joined, no model runs, no use is spent."""
    room = Room.make(tmp_path, budget_bits_per_year=4).start("--metrics", METRICS, "--step-metrics")
    try:
        room.load(stage.world, datasets_of(FIELDS))
        room.launch(stage.example)
        subject = stage.world.subjects[0]
        consent_id = room.consent(subject, PRODUCT, datasets_of(FIELDS), uses=5)
        room.portal.request_limit(subject=subject, product=PRODUCT, consent_id=consent_id)
        for _ in range(3):
            with pytest.raises(Refused) as refusal:
                room.portal.request_limit(subject=subject, product=PRODUCT, consent_id=consent_id)
            assert getattr(refusal.value, "code", "") == "budget_spent"
        with urllib.request.urlopen(f"http://{METRICS}/metrics") as page:
            metrics = page.read().decode()
        for step in ("join", "score", "commit"):
            assert f'heixia_decision_step_seconds_count{{step="{step}"}} 1.0' in metrics
        assert room.office.get(consent_id).uses == 1
    finally:
        room.stop()


def test_a_revocation_needs_no_trusted_key(stage: Stage, tmp_path: Path) -> None:
    """When an authority's key is withdrawn its consents permit nothing, and can still be revoked for good."""
    room = Room.make(tmp_path).start()
    try:
        room.load(stage.world, datasets_of(FIELDS))
        room.launch(stage.example)
        subject = stage.world.subjects[0]
        consent_id = room.consent(subject, PRODUCT, datasets_of(FIELDS), uses=5)
        trust = room.home.path / "trust" / "authorities.jwks"
        known = trust.read_text()
        room.stop()
        trust.write_text('{"keys": []}')
        room.start()
        assert _code(room, subject, consent_id) == "consent_invalid"
        assert room.office.revoke(consent_id, "subject-request").index > 0
        room.stop()
        trust.write_text(known)
        room.start()
        assert _code(room, subject, consent_id) == "consent_revoked"
    finally:
        room.stop()


def _code(room: Room, subject: str, consent_id: str) -> str:
    with pytest.raises(Refused) as refusal:
        room.portal.request_limit(subject=subject, product=PRODUCT, consent_id=consent_id)
    return str(getattr(refusal.value, "code", ""))
