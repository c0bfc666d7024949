"""What a company sees of itself: its consents, who used its data, receipts; and who else may."""

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.policy import Policy
from audit.receipt import verify_receipt
from enclave_api.cli.example import FIELDS, LEVELS
from enclave_api.cli.main import app
from enclave_api.client.authority import Authority
from enclave_api.client.connection import Refused
from enclave_api.client.subject import Subject
from enclave_api.identity import Principal, Role
from sandbox.disclosure import price_milli
from tests.integration.conftest import PRODUCT, Stage
from tests.room import ALICE, AUDITOR, OFFICE, OPERATOR, PORTAL, refused
from tests.subjects import as_subject, credentials_of

STRANGER = Principal(Role.AUTHORITY, "other-office")
DEPARTMENTS = tuple(sorted({name.partition(".")[0] for name in FIELDS}))
NEVER = 299  # a company that nobody asks about


def ask(stage: Stage, company: int, consent_id: str) -> int:
    """Asks for a limit once."""
    subject = stage.world.subjects[company]
    return stage.room.portal.request_limit(subject=subject, product=PRODUCT, consent_id=consent_id).yuan


def refusal_of(attempt: Callable[[], object]) -> tuple[str, str]:
    """Code and text of a refusal."""
    with pytest.raises(Refused) as refusal:
        attempt()
    return str(getattr(refusal.value, "code", "")), refusal.value.public


def test_a_company_sees_every_use(stage: Stage, tmp_path: Path) -> None:
    """When, bank, product, purpose, departments, what came of it, bits, consent and entry; without leaving a trace."""
    subject, first = stage.world.subjects[200], stage.consent(200, uses=2)
    limits = [ask(stage, 200, first), ask(stage, 200, first)]
    second = stage.consent(200)
    limits.append(ask(stage, 200, second))
    ask(stage, 201, stage.consent(201))
    entries = stage.room.entries()
    mine = [(i, e) for i, e in enumerate(entries) if e["kind"] == "decision"][-4:-1]
    with as_subject(stage.room, subject, tmp_path) as company, stage.room.gains():
        page = company.uses(subject)
    assert (page.total, page.token) == (3, "")
    assert page.since.isoformat(timespec="milliseconds").replace("+00:00", "Z") == entries[0]["time"]
    assert [use.index for use in page.uses] == [index for index, _ in reversed(mine)]
    for use, (_, entry), limit in zip(page.uses, reversed(mine), reversed(limits), strict=True):
        assert use.at == datetime.fromisoformat(entry["time"])
        assert (use.institution, use.product, use.purpose) == ("zhongyuan", PRODUCT, "precredit")
        assert use.departments == DEPARTMENTS
        assert use.outcome == ("offer" if limit else "no offer")
        assert use.bits_milli == entry["bits_milli"]
    assert [use.consent_id for use in page.uses] == [second, first, first]
    assert [use.bits_milli for use in page.uses] == [0, 0, price_milli(len(LEVELS))]


def test_both_outcomes_are_told_apart(stage: Stage) -> None:
    """Among many companies some get an offer and some none, and each is told which."""
    office = stage.room.client(Subject, OFFICE)
    told: dict[str, set[bool]] = {}
    for company in range(210, 230):
        limit = ask(stage, company, stage.consent(company))
        (use,) = office.uses(stage.world.subjects[company]).uses
        told.setdefault(use.outcome, set()).add(bool(limit))
    assert told == {"offer": {True}, "no offer": {False}}


def test_a_company_sees_its_consents(stage: Stage, tmp_path: Path) -> None:
    """Each with its state as of now, its authority and whose data it opens, newest first."""
    subject = stage.world.subjects[230]
    narrow = stage.room.consent(subject, PRODUCT, ["tax.declaration"])
    used = stage.consent(230)
    ask(stage, 230, used)
    paused = stage.consent(230, uses=2)
    stage.room.office.pause(paused, "subject-request")
    with as_subject(stage.room, subject, tmp_path) as company, stage.room.gains():
        found = company.consents(subject)
    assert [one.consent.consent_id for one in found] == [paused, used, narrow]
    assert [one.consent.state for one in found] == [2, 4, 1]
    assert [tuple(one.departments) for one in found] == [DEPARTMENTS, DEPARTMENTS, ("tax",)]
    assert {(one.authority, one.erased) for one in found} == {("consent-office", False)}


def test_a_company_revokes_its_own_consents_alone(stage: Stage, tmp_path: Path) -> None:
    """The entry says `subject` and no more; another company's consent looks like one that never was."""
    subject, mine, other = stage.world.subjects[231], stage.consent(231), stage.consent(232)
    with as_subject(stage.room, subject, tmp_path) as company:
        with stage.room.gains("consent.revoked", changes={"consent"}):
            done = company.revoke(mine)
        entry = stage.room.entries()[done.index]
        assert (entry["consent"], entry["by"], entry["reason"]) == (mine, "subject", "subject-request")
        with refused("consent_revoked"):
            ask(stage, 231, mine)
        with stage.room.gains():
            texts = [refusal_of(partial(company.revoke, name)) for name in (other, str(uuid.uuid4()))]
            assert texts[0] == texts[1]
            assert texts[0][0] == "consent_unknown"
            with refused("consent_transition"):
                company.revoke(mine)
            with refused("request_invalid"):
                company.revoke(mine, "because of 张三")
    assert ask(stage, 232, other) >= 0


def test_a_receipt_is_opened_for_the_company_alone(stage: Stage, tmp_path: Path) -> None:
    """Its own receipt is the caller's, opening and all; an authority gets what proves the call, without the limit."""
    subject = stage.world.subjects[233]
    kept = stage.room.portal.request_limit(subject=subject, product=PRODUCT, consent_id=stage.consent(233))
    index = len(stage.room.entries()) - 1
    policy = Policy.parse(stage.room.home.policy.read_text())
    with as_subject(stage.room, subject, tmp_path) as company:
        mine = company.receipt(subject, index)
        assert (mine.entry, mine.opening) == (kept.receipt.entry, kept.receipt.opening)
        with refused("entry_unknown"):
            company.receipt(subject, 0)
    with stage.room.gains("audit.read"):
        seen = stage.room.client(Subject, OFFICE).receipt(subject, index)
    assert (seen.entry, seen.opening) == (kept.receipt.entry, None)
    for receipt in (mine, seen):
        assert all(step.ok for step in verify_receipt(receipt, policy))


def test_no_receipt_of_another_company(stage: Stage, tmp_path: Path) -> None:
    """An index that is another's use is refused like one that is no use at all."""
    ask(stage, 234, stage.consent(234))
    index = len(stage.room.entries()) - 1
    stage.consent(235)
    with as_subject(stage.room, stage.world.subjects[235], tmp_path) as company, refused("entry_unknown"):
        company.receipt(stage.world.subjects[235], index)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_pages_add_up(stage: Stage, size: int) -> None:
    """Whatever the size of a page, all of them together are every use, once, newest first."""
    subject, office = stage.world.subjects[236], stage.room.client(Subject, OFFICE)
    if not [e for e in stage.room.entries() if e["kind"] == "consent.granted" and e["max_uses"] == 5]:
        consent_id = stage.consent(236, uses=5)
        for _ in range(5):
            ask(stage, 236, consent_id)
    whole = office.uses(subject).uses
    pages, token = [], ""
    while True:
        page = office.uses(subject, size=size, token=token)
        pages.append(page.uses)
        assert page.total == 5
        if not (token := page.token):
            break
    assert len(whole) == 5
    assert [use for page in pages for use in page] == list(whole)
    assert [len(page) for page in pages[:-1]] == [size] * (len(pages) - 1)
    assert list(office.all_uses(subject)) == list(whole)


@pytest.mark.parametrize("token", ["x", "0", "ff" * 8, "00" * 9, "00000000000000zz", "-000000000000001"])
def test_a_made_up_page_is_refused(stage: Stage, token: str) -> None:
    """Only what was handed out is taken back; too large a page is refused too."""
    stage.consent(237)
    office = stage.room.client(Subject, OFFICE)
    with stage.room.gains():
        with refused("request_invalid"):
            office.uses(stage.world.subjects[237], token=token)
        with refused("request_invalid"):
            office.uses(stage.world.subjects[237], size=501)


def test_looks_of_an_authority_are_entries(stage: Stage) -> None:
    """Each names the tag, and what was looked at."""
    subject, office = stage.world.subjects[238], stage.room.client(Subject, OFFICE)
    ask(stage, 238, stage.consent(238))
    index = len(stage.room.entries()) - 1
    tag = stage.room.entries()[-1]["subject_tag"]
    with stage.room.gains(*["audit.read"] * 3):
        office.consents(subject)
        office.uses(subject)
        office.receipt(subject, index)
    reads = stage.room.entries()[-3:]
    assert [entry["what"] for entry in reads] == [f"consents {tag}", f"uses {tag}", f"receipt {index} {tag}"]
    assert {entry["by"] for entry in reads} == {str(OFFICE)}


def doors(client: Subject, subject: str) -> list[Callable[[], object]]:
    """Everything that may be asked about a subject."""
    return [
        lambda: client.consents(subject),
        lambda: client.uses(subject),
        lambda: client.receipt(subject, 1),
        lambda: client.erase(subject),
    ]


@pytest.mark.parametrize(
    ("principal", "code"),
    [
        (ALICE, "permission_refused"),
        (PORTAL, "permission_refused"),
        (AUDITOR, "permission_refused"),
        (OPERATOR, "permission_refused"),
        (Principal(Role.STEWARD, "tax"), "permission_refused"),
        (STRANGER, "consent_unknown"),
    ],
)
def test_nobody_else_looks_or_erases(stage: Stage, principal: Principal, code: str) -> None:
    """Not the bank, the application, auditor, operator, a department; nor an authority without a consent of it."""
    stage.consent(239)
    client = stage.room.client(Subject, principal)
    with stage.room.gains():
        for door in doors(client, stage.world.subjects[239]):
            with refused(code):
                door()


def test_a_company_is_nobody_to_another(stage: Stage, tmp_path: Path) -> None:
    """Its certificate opens nothing but its own; an authority asks nothing of whom it never registered."""
    stage.consent(240)
    with as_subject(stage.room, stage.world.subjects[241], tmp_path) as company, stage.room.gains():
        for door in doors(company, stage.world.subjects[240]):
            with refused("permission_refused"):
                door()
        for door in doors(company, "uscc:0"):
            with refused("subject_invalid"):
                door()
    for door in doors(stage.room.client(Subject, OFFICE), stage.world.subjects[NEVER]):
        with refused("consent_unknown"):
            door()


def test_a_subject_grants_nothing(stage: Stage, tmp_path: Path) -> None:
    """Its certificate revokes and erases; to register, pause, resume it takes an authority."""
    consent_id = stage.consent(242)
    folder = credentials_of(stage.room, stage.world.subjects[242], tmp_path)
    with Authority.connect(stage.room.server, folder) as client, stage.room.gains():
        attempts: list[Callable[[], object]] = [
            lambda: client.register(b"{}"),
            lambda: client.get(consent_id),
            lambda: client.pause(consent_id, "subject-request"),
            lambda: client.resume(consent_id, "subject-request"),
        ]
        for door in attempts:
            with refused("permission_refused"):
                door()


def test_a_company_without_any_use(stage: Stage, tmp_path: Path) -> None:
    """It is told that there are none, and since when there could be."""
    subject = stage.world.subjects[NEVER]
    with as_subject(stage.room, subject, tmp_path) as company:
        page = company.uses(subject)
        assert (page.uses, page.total, page.token) == ((), 0, "")
        assert page.since < datetime.now(UTC)
        assert company.consents(subject) == []
        with refused("subject_unknown"):
            company.erase(subject)


def test_commands_of_a_company(stage: Stage, tmp_path: Path) -> None:
    """In words for people, JSON for programs; receipts that `heixia verify` takes; its own name need not be typed."""
    subject, consent_id = stage.world.subjects[243], stage.consent(243, uses=2)
    limit = ask(stage, 243, consent_id)
    index = len(stage.room.entries()) - 1
    me = ["--server", stage.room.server, "--as", str(credentials_of(stage.room, subject, tmp_path))]

    def run(*words: str) -> str:
        done = CliRunner().invoke(app, ["subject", *words, *me])
        assert done.exit_code == 0, done.output
        assert subject not in done.output
        return done.stdout

    said = run("uses")
    assert f"zhongyuan had {PRODUCT} computed from the data of {', '.join(DEPARTMENTS)} for precredit" in said
    assert ("an offer was made" if limit else "no offer was made") in said
    assert "1 use in all. The log goes back to 20" in said
    (use,) = map(json.loads, run("uses", "--json").splitlines())
    assert (use["index"], use["departments"], use["consent_id"]) == (index, list(DEPARTMENTS), consent_id)
    (listed,) = map(json.loads, run("consents", "--json").splitlines())
    assert (listed["consent_id"], listed["state"], listed["uses"], listed["max_uses"]) == (consent_id, "granted", 1, 2)
    assert consent_id in run("consents")
    (kept,) = map(json.loads, run("receipts", str(tmp_path / "kept"), "--json").splitlines())
    assert Path(kept["receipt"]).stat().st_mode & 0o077 == 0
    assert kept == {"index": index, "receipt": str(tmp_path / "kept" / f"{index}.json"), "limit_yuan": limit}
    checked = CliRunner().invoke(app, ["verify", kept["receipt"], "--policy", str(stage.room.home.policy)])
    assert checked.exit_code == 0, checked.output
    assert json.loads(run("revoke", consent_id, "--json"))["revoked"] == consent_id
    assert "revoked" in run("consents")
    assert "zhongyuan" in run("disclosure")
    office = ["--server", stage.room.server, "--as", str(stage.room.home.client(OFFICE))]
    shown = CliRunner().invoke(app, ["subject", "receipts", str(tmp_path / "other"), subject, *office])
    assert (shown.exit_code, "not shown" in shown.stdout) == (0, True)
    nobody = CliRunner().invoke(app, ["subject", "uses", *office])
    assert (nobody.exit_code, "name the subject" in nobody.stderr) == (1, True)


def test_data_that_a_consent_names_by_field(stage: Stage) -> None:
    """Its department is told, where the consent names a field of it alone."""
    office, subject = stage.room.client(Subject, OFFICE), stage.world.subjects[244]
    stage.room.consent(subject, PRODUCT, ["tax.declaration.sales_12m"])
    (found,) = office.consents(subject)
    assert list(found.departments) == ["tax"]
