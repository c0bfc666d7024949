"""What leaves beside the number: nothing by size, nothing by hash; and who may see how much left."""

import hashlib
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from enclave_api.cli.example import FIELDS, LEVELS
from enclave_api.cli.main import app
from enclave_api.client.authority import Grant
from enclave_api.client.connection import Refused
from enclave_api.client.subject import Subject
from enclave_api.identity import Principal, Role
from sandbox.consent import reverify_consent
from sandbox.disclosure import price_milli
from tests.integration.conftest import PRODUCT, Stage
from tests.room import ALICE, AUDITOR, OFFICE, OPERATOR, PORTAL, Room, datasets_of, refused
from tests.subjects import as_subject

PRICE = price_milli(len(LEVELS))


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
    consent, signed = reverify_consent(raw, stage.room.home.trusted(Role.AUTHORITY))
    index = office.register(raw).granted_index
    told = json.loads(stage.room.auditor.entry(index).body)
    assert told["consent"] == consent.jti
    assert told["consent_hash"] == hashlib.sha256(raw).hexdigest()
    assert told["consent_hash"] != hashlib.sha256(signed.payload).hexdigest()


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


@pytest.fixture
def asked(stage: Stage) -> str:
    """A company that asked once, and so was told about."""
    subject = stage.world.subjects[130]
    stage.room.portal.request_limit(subject=subject, product=PRODUCT, consent_id=stage.consent(130, uses=5))
    return subject


def test_a_company_sees_what_was_told_about_it(stage: Stage, asked: str, tmp_path: Path) -> None:
    """Its own sum, its budget and what is left, without an entry; about any other company it is refused."""
    with as_subject(stage.room, asked, tmp_path) as company, stage.room.gains():
        (told,) = company.disclosure(asked)
        for other, code in ((stage.world.subjects[131], "permission_refused"), ("", "subject_invalid")):
            with refused(code):
                company.disclosure(other)
    assert (told.institution, told.year, told.subjects) == ("zhongyuan", datetime.now(UTC).year, 1)
    assert (told.spent_milli, told.left_milli) == (PRICE, 64_000 - PRICE)


def test_an_authority_sees_those_alone_whose_consent_it_registered(stage: Stage, asked: str) -> None:
    """With a consent, even a revoked one, the sums; without one nothing, not even whether there are any."""
    office = stage.room.client(Subject, OFFICE)
    with stage.room.gains("audit.read"):
        (told,) = office.disclosure(asked)
    assert told.spent_milli == PRICE
    stranger = stage.room.client(Subject, Principal(Role.AUTHORITY, "other-office"))
    with stage.room.gains():
        for client, subject in ((stranger, asked), (office, stage.world.subjects[290])):
            with refused("consent_unknown"):
                client.disclosure(subject)
        with refused("subject_invalid"):
            office.disclosure("")
    stage.room.office.revoke(stage.consent(132), "subject-request")
    assert office.disclosure(stage.world.subjects[132]) == []


def test_an_auditor_sees_any_sum_and_the_log_says_so(stage: Stage, asked: str) -> None:
    """The look is an entry that names the tag, never the company; without a company the sums over all."""
    with stage.room.gains("audit.read", "audit.read", "audit.read"):
        (told,) = stage.room.auditor.disclosure(asked)
        assert stage.room.auditor.disclosure("uscc:91350100M000100Y43") == []
        (total,) = stage.room.auditor.disclosure()
    one, _, all_ = stage.room.entries()[-3:]
    decisions = [e for e in stage.room.entries() if e["kind"] == "decision"]
    assert one["what"] == f"disclosure {decisions[-1]['subject_tag']}"
    assert (one["by"], all_["what"]) == (str(AUDITOR), "disclosure of all subjects")
    assert told.spent_milli == PRICE
    assert total.spent_milli == sum(e["bits_milli"] for e in decisions)
    assert total.subjects == len({e["subject_tag"] for e in decisions})
    with refused("subject_invalid"):
        stage.room.auditor.disclosure("uscc:0")


@pytest.mark.parametrize("principal", [ALICE, PORTAL, OPERATOR, Principal(Role.STEWARD, "tax")])
def test_nobody_else_sees_a_sum(stage: Stage, asked: str, principal: Principal) -> None:
    """Neither the bank it was told to, nor the application, the operator, a department."""
    with stage.room.gains(), refused("permission_refused"):
        stage.room.client(Subject, principal).disclosure(asked)


def test_sums_are_shown_by_command(stage: Stage, asked: str) -> None:
    """A table for people, JSON for programs; the auditor's command also without a company."""
    line = {"institution": "zhongyuan", "year": datetime.now(UTC).year, "bits_spent": PRICE / 1000, "subjects": 1}
    line |= {"bits_left": (64_000 - PRICE) / 1000, "bits_budget": 64.0}
    server = ["--server", stage.room.server, "--as"]
    for group, principal in (("subject", OFFICE), ("audit", AUDITOR)):
        words = [group, "disclosure", asked, *server, str(stage.room.home.client(principal))]
        assert json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout) == line
        shown = CliRunner().invoke(app, words).stdout
        assert "zhongyuan" in shown
        assert f"{PRICE / 1000}" in shown
    none = ["audit", "disclosure", "uscc:91350100M000100Y43", *server, str(stage.room.home.client(AUDITOR))]
    assert CliRunner().invoke(app, none).stdout == "nothing was disclosed\n"
    assert CliRunner().invoke(app, [*none, "--json"]).stdout == ""
    total = CliRunner().invoke(app, ["audit", "disclosure", *server, str(stage.room.home.client(AUDITOR)), "--json"])
    assert json.loads(total.stdout)["subjects"] > 1
    nobody = CliRunner().invoke(app, ["subject", "disclosure", asked, *server, str(stage.room.home.client(PORTAL))])
    assert (nobody.exit_code, "[permission_refused]" in nobody.stderr, asked in nobody.stderr) == (1, True, False)


def test_the_auditor_adds_up_the_bits(stage: Stage, asked: str, tmp_path: Path) -> None:
    """A sum lowered under a running server, and put right before its next start, is seen in the log."""
    room = Room.make(tmp_path).start()
    verify = ["audit", "verify", "--policy", str(room.home.policy)]
    try:
        room.load(stage.world, datasets_of(FIELDS))
        room.launch(stage.example)
        room.answer(stage.world.subjects[0], PRODUCT, datasets_of(FIELDS))
        verify += ["--server", room.server, "--as", str(room.home.client(AUDITOR))]
        room.auditor.checkpoint()
        assert CliRunner().invoke(app, verify).exit_code == 0
        with closing(sqlite3.connect(room.home.database)) as database:
            database.execute("UPDATE budget SET bits_milli = 0")
            database.commit()
            room.load(stage.world, datasets_of(FIELDS)[:1])
            room.answer(stage.world.subjects[0], PRODUCT, datasets_of(FIELDS))
            database.execute("UPDATE budget SET bits_milli = ?", (2 * PRICE,))
            database.commit()
        room.stop()
        room.start()
        verify[verify.index("--server") + 1] = room.server
        caught = CliRunner().invoke(app, verify)
        assert (caught.exit_code, "the disclosed bits do not add up" in caught.stderr) == (1, True)
    finally:
        room.stop()
