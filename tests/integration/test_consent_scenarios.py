"""The scenarios that account aggregators are certified by, as far as they have a counterpart here.

Numbers and wording: Sahamati/certification-framework, certification-scenarios/aa.md (ReBIT's API; 1xxx = a consent is
given, 2xxx = data are asked for, 3xxx = notices, 5xxx = whole stories). Theirs answers with HTTP statuses, ours with
codes of the error catalogue; each scenario names the one code that it must end with, and whether the log says so.

Left out because there is no such thing here: handles and notifications (an authority registers what was given
already: 1015-1025, 1034-1040, 30xx), session ids and fetching (one call asks and answers: 2028-2030, 2037-2045), key
material for data in transit (no data leave: 1012, 2011), the sender's clock in a message (2003, 2005).
"""

import json
import sys
import time
import uuid
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from heixia.consent.v1 import consent_pb2
from heixia.precredit.v1 import precredit_pb2, precredit_pb2_grpc

from enclave_api.cli.example import LEVELS
from enclave_api.client.authority import Authority
from enclave_api.client.connection import Refused
from enclave_api.identity import Principal, Role
from model_registry.signing import generate_key
from tests.integration.conftest import PRODUCT, Stage
from tests.integration.test_bad_consents import ask, claims, signed
from tests.room import refused

COMPANIES = count(60)
OTHER = Principal(Role.AUTHORITY, "other-office")
NOW, DAY, QUARTER_S = int(time.time()), 86_400, 900


@pytest.fixture(scope="module")
def stage(stage: Stage) -> Stage:
    """The stage, with a second authority."""
    stage.room.client(Authority, OTHER)
    stage.room.stop()
    stage.room.start()
    return stage


@dataclass(frozen=True)
class Registration:
    """A consent with one claim wrong: what is changed, and the code that refuses it."""

    number: int
    what: str
    changes: dict[str, Any]
    code: str = "consent_invalid"


def _data(**changes: Any) -> list[dict[str, Any]]:
    return [{"department": "tax", "names": ["tax.declaration"], "why": "x", **changes}]


REGISTRATIONS = (
    Registration(1003, "timestamp in another format", {"iat": "2026-11-24T08:00:00Z"}),
    Registration(1004, "another version", {"schema": "heixia.consent/v9"}),
    Registration(1005, "timestamp a quarter of an hour ahead", {"iat": NOW + 2 * QUARTER_S}),
    Registration(1006, "malformed id", {"jti": "not-a-uuid"}),
    Registration(1007, "span that ends before it begins", {"exp": NOW - 60, "nbf": NOW}),
    Registration(1007, "span beyond the purpose's cap", {"exp": NOW + 32 * DAY}),
    Registration(1007, "span that never ends", {"exp": NOW + 10_000 * DAY}),
    Registration(1008, "malformed data consumer", {"institution": "No Such Bank!"}),
    Registration(1008, "another data consumer's product", {"products": ["other-bank/loan"]}),
    Registration(1009, "customer that cannot be", {"sub": "uscc:91350100M000100Y44"}, "subject_invalid"),
    Registration(1009, "customer in another spelling", {"sub": "uscc:91350100m000100y43"}, "subject_invalid"),
    Registration(1010, "purpose that is not served", {"purpose": {"code": "marketing", "text": "x"}}),
    Registration(1010, "purpose whose text was not shown", {"purpose": {"code": "precredit", "text": ""}}),
    Registration(1011, "data of another department than named", {"data": _data(names=["water.usage"])}),
    Registration(1011, "no data at all", {"data": []}),
    Registration(1013, "frequency without a unit", {"frequency": {"value": 1}}),
    Registration(1013, "frequency in a unit that no calendar has", {"frequency": {"unit": "lunar", "value": 1}}),
    Registration(1013, "frequency of nothing", {"frequency": {"unit": "day", "value": 0}}),
    Registration(1013, "monitoring without a frequency", {"purpose": {"code": "monitoring", "text": "x"}}),
    Registration(1014, "everything instead of names", {"data": _data(names=["tax.*"])}),
    Registration(1018, "lapsed before it was registered", {"nbf": NOW - 2 * DAY, "exp": NOW - DAY}, "consent_expired"),
)


@pytest.mark.parametrize("case", REGISTRATIONS, ids=lambda case: f"{case.number} {case.what}")
def test_a_consent_with_one_bad_claim_is_refused(stage: Stage, case: Registration) -> None:
    """Signed rightly and wrong in one claim: the code says which law, nothing is stored, nothing is logged."""
    with stage.room.gains(), refused(case.code):
        stage.room.office.register(signed(stage, claims(stage, **case.changes)))


WRONG_TYPE: dict[str, Any] = {
    **dict.fromkeys(("schema", "jti", "iss", "sub", "institution", "fetch", "withdraw"), 7),
    **dict.fromkeys(("iat", "nbf", "exp", "max_uses"), "7"),
    **dict.fromkeys(("purpose", "notice", "automated_decision"), "x"),
    **dict.fromkeys(("products", "data", "separate_consents"), "x"),
}


@pytest.mark.parametrize("member", sorted(WRONG_TYPE))
def test_1002_each_claim_has_one_type(stage: Stage, member: str) -> None:
    """1002: "schematic error for one field each": every claim in turn of a wrong type, and left out."""
    good = claims(stage)
    assert set(good) == set(WRONG_TYPE)
    without = {name: value for name, value in good.items() if name != member}
    for bad in ({**good, member: WRONG_TYPE[member]}, without):
        with stage.room.gains(), refused("consent_invalid"):
            stage.room.office.register(signed(stage, bad))


def test_1001_2001_a_good_consent_is_registered_and_used(stage: Stage) -> None:
    """1001, 1026, 2001, 5001: the whole story without a fault."""
    company = next(COMPANIES)
    with stage.room.gains("consent.granted", changes=["artefact", "consent", "subject_key"]):
        consent_id = stage.consent(company)
    assert stage.room.office.get(consent_id).uses == 0
    assert ask(stage, company, consent_id).yuan in LEVELS
    assert stage.room.office.get(consent_id).uses == 1


@pytest.mark.parametrize(
    ("consent_id", "code"),
    [
        ("", "request_invalid"),
        ("6ba7b810-9dad-41d1-80b4-00c04fd430c", "request_invalid"),
        ("6ba7b810-9dad-41d1-80b4-00c04fd430c89", "request_invalid"),
        ("6ba7b810-9dad-41d1-80b4-00c04fd430c8", "consent_unknown"),
    ],
)
def test_1027_2008_an_id_that_names_nothing(stage: Stage, consent_id: str, code: str) -> None:
    """1027, 2008: empty, a character short, a character long, at random; shown, changed or used."""
    office = stage.room.office
    for change in (office.revoke, office.pause, office.resume):
        with stage.room.gains(), refused(code):
            change(consent_id, "subject-request")
    with stage.room.gains(), refused(code):
        office.get(consent_id)
    with refused(code):
        ask(stage, 0, consent_id)


def test_1028_another_authoritys_consent_looks_like_none(stage: Stage) -> None:
    """1028: who did not register it is told nothing, not even that it is there, and can change nothing."""
    consent_id, other = stage.consent(next(COMPANIES)), stage.room.client(Authority, OTHER)
    for change in (other.revoke, other.pause, other.resume):
        with stage.room.gains(), refused("consent_unknown"):
            change(consent_id, "subject-request")
    with stage.room.gains(), refused("consent_unknown"):
        other.get(consent_id)


def test_1041_a_signature_that_does_not_match(stage: Stage) -> None:
    """1041: signed by a key that is not the authority's, though it says so."""
    with stage.room.gains(), refused("consent_invalid"):
        stage.room.office.register(signed(stage, claims(stage), generate_key("consent-office")))


def _bad_request(stage: Stage, **changes: str) -> None:
    good = {"subject": stage.world.subjects[0], "product": PRODUCT, "consent_id": str(uuid.uuid4())}
    request = precredit_pb2.RequestLimitRequest(**{**good, "request_id": str(uuid.uuid4()), **changes})
    portal = stage.room.portal
    portal.call(precredit_pb2_grpc.PreCreditServiceStub(portal.channel).RequestLimit, request)


@pytest.mark.parametrize(
    ("member", "value", "code"),
    [
        ("request_id", "", "request_invalid"),
        ("request_id", "x" * 36, "request_invalid"),
        ("consent_id", "", "request_invalid"),
        ("product", "", "request_invalid"),
        ("product", PRODUCT + "@1", "request_invalid"),
        ("subject", "", "subject_invalid"),
        ("subject", "91350100M000100Y43", "subject_invalid"),
        ("subject", "uscc:91350100M000100Y44", "subject_invalid"),
    ],
)
def test_2002_2006_each_member_of_a_request_has_one_form(stage: Stage, member: str, value: str, code: str) -> None:
    """2002, 2006: one member malformed at a time; no consent is looked at."""
    with refused(code):
        _bad_request(stage, **{member: value})


def test_2010_details_of_another_data_consumer(stage: Stage) -> None:
    """2010: a consent for one product asked for another's, of the same bank or another."""
    company = next(COMPANIES)
    consent_id = stage.consent(company)
    for product in ("zhongyuan/other-loan", "other-bank/quick-loan"):
        with stage.room.gains("refusal"), refused("consent_product_mismatch"):
            ask(stage, company, consent_id, product=product)
    with stage.room.gains("refusal"), refused("consent_subject_mismatch"):
        ask(stage, next(COMPANIES), consent_id)


STATES = {
    "1030 2014 2031": ("pause", "paused", "consent_paused"),
    "1031 2015 2032": ("revoke", "revoked", "consent_revoked"),
    "renewed": ("renew", "superseded", "consent_superseded"),
}


@pytest.mark.parametrize("name", STATES)
def test_2014_2015_a_consent_that_is_not_active(stage: Stage, name: str) -> None:
    """2014, 2015, 2031, 2032 (one call asks and fetches): the state is shown, and each use gets its own code."""
    change, shown, code = STATES[name]
    company, office = next(COMPANIES), stage.room.office
    consent_id = stage.consent(company, uses=5)
    if change == "renew":
        office.register(signed(stage, claims(stage, company, replaces=consent_id)))
    else:
        getattr(office, change)(consent_id, "subject-request")
    assert state(stage, consent_id) == shown
    for _ in range(2):
        with stage.room.gains("refusal", changes=["sequence"]), refused(code):
            ask(stage, company, consent_id)


def state(stage: Stage, consent_id: str) -> str:
    """The state that its authority is shown."""
    name: str = consent_pb2.ConsentState.Name(stage.room.office.get(consent_id).state)
    return name.removeprefix("CONSENT_STATE_").lower()


def test_2017_more_often_than_consented(stage: Stage) -> None:
    """2017: twice a day was consented to; the third use of the day is refused, with uses left in all."""
    company = next(COMPANIES)
    often = {"frequency": {"unit": "day", "value": 2}, "fetch": "periodic", "max_uses": 5}
    consent_id = stage.room.office.register(signed(stage, claims(stage, company, **often))).consent_id
    for _ in range(2):
        assert ask(stage, company, consent_id).yuan in LEVELS
    with stage.room.gains("refusal", changes=["sequence"]), refused("consent_too_frequent"):
        ask(stage, company, consent_id)
    assert (stage.room.office.get(consent_id).uses, state(stage, consent_id)) == (2, "granted")


def test_2018_a_one_time_consent_used_twice(stage: Stage) -> None:
    """2018: the second use is refused and the state says why; the same request again is no use."""
    company, request_id = next(COMPANIES), str(uuid.uuid4())
    consent_id = stage.consent(company)
    first = ask(stage, company, consent_id, request_id=request_id)
    assert ask(stage, company, consent_id, request_id=request_id).receipt.entry == first.receipt.entry
    with stage.room.gains("refusal", changes=["sequence"]), refused("consent_exhausted"):
        ask(stage, company, consent_id)
    assert state(stage, consent_id) == "exhausted"


def test_3010_details_of_another_data_provider(stage: Stage) -> None:
    """3010: the consent names the tax office; what the product reads of others is refused before it is read."""
    company = next(COMPANIES)
    narrow = stage.room.consent(stage.world.subjects[company], PRODUCT, ["tax.declaration"])
    with stage.room.gains("refusal", changes=["sequence"]), refused("consent_fields_missing"):
        ask(stage, company, narrow)
    assert stage.room.office.get(narrow).uses == 0


def test_5005_paused_then_resumed_works(stage: Stage) -> None:
    """5005: pause and resume as often as one likes; the use is there afterwards, and gone after the end."""
    company = next(COMPANIES)
    consent_id, office = stage.consent(company), stage.room.office
    for _ in range(3):
        office.pause(consent_id, "subject-request")
        with refused("consent_transition"):
            office.pause(consent_id, "subject-request")
        with refused("consent_paused"):
            ask(stage, company, consent_id)
        office.resume(consent_id, "subject-request")
    assert ask(stage, company, consent_id).yuan in LEVELS
    office.revoke(consent_id, "subject-request")
    for change in (office.pause, office.resume, office.revoke):
        with stage.room.gains(), refused("consent_transition"):
            change(consent_id, "subject-request")


def test_2009_a_key_that_was_withdrawn(stage: Stage) -> None:
    """2009: registered while its authority's key was good; the key gone, the consent permits nothing; back, it does."""
    company = next(COMPANIES)
    consent_id = stage.consent(company, uses=2)
    file = stage.room.home.path / "trust" / "authorities.jwks"
    text = file.read_text()
    known = json.loads(text)
    revoked = [{**key, "revoked": {"revoked_at": NOW, "reason": "compromised"}} for key in known["keys"]]
    retired = [{**key, "exp": NOW - DAY} for key in known["keys"]]
    fresh = [generate_key("consent-office", 9).as_dict(private=False)]
    later = [{**key, "exp": NOW + DAY} for key in known["keys"]]
    for keys, works in ((revoked, False), (retired, False), (fresh, False), (later, True)):
        stage.room.stop()
        file.write_text(json.dumps({"keys": keys}))
        stage.room.start()
        if works:
            assert ask(stage, company, consent_id).yuan in LEVELS
            continue
        with stage.room.gains("refusal"), refused("consent_invalid"):
            ask(stage, company, consent_id)
    stage.room.stop()
    file.write_text(text)
    stage.room.start()
    assert ask(stage, company, consent_id).yuan in LEVELS


def test_1032_an_authority_that_lost_its_standing(stage: Stage) -> None:
    """1032 (the link behind a consent is cut): shown as ended, never used, never changed again; others go on."""
    company = next(COMPANIES)
    other = stage.room.client(Authority, OTHER)
    key = other.credentials.signing_key()
    consent_id = other.register(signed(stage, claims(stage, company, iss="other-office"), key)).consent_id
    stage.room.revoke_authority("other-office")
    with stage.room.gains("refusal", changes=["sequence"]), refused("consent_invalidated"):
        ask(stage, company, consent_id)
    with stage.room.gains(), refused("authority_revoked"):
        other.register(signed(stage, claims(stage, company, iss="other-office"), key))
    assert ask(stage, company, stage.consent(company)).yuan in LEVELS


def test_1029_2016_2033_on_another_day(stage: Stage) -> None:
    """1029, 2016, 2033, 2017: a month and more later; what ended is expired, what counts by the month counts anew."""
    once, monthly = next(COMPANIES), next(COMPANIES)
    ended = stage.consent(once, uses=5)
    often = {"frequency": {"unit": "month", "value": 1}, "fetch": "periodic", "max_uses": 12, "exp": NOW + 300 * DAY}
    monitoring = {"purpose": {"code": "monitoring", "text": "x"}, **often}
    goes_on = stage.room.office.register(signed(stage, claims(stage, monthly, **monitoring))).consent_id
    assert ask(stage, monthly, goes_on).yuan in LEVELS
    with refused("consent_too_frequent"):
        ask(stage, monthly, goes_on)
    stage.room.stop()
    stage.room.launcher = [sys.executable, str(Path(__file__).parents[1] / "other_day.py"), "40"]
    stage.room.start()
    assert state(stage, ended) == "expired"
    with stage.room.gains("refusal", changes=["sequence"]), refused("consent_expired"):
        ask(stage, once, ended)
    assert ask(stage, monthly, goes_on).yuan in LEVELS
    with pytest.raises(Refused) as refusal:
        ask(stage, monthly, goes_on)
    assert refusal.value.code == "consent_too_frequent"
