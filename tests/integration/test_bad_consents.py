"""Consents as an attacker would have them: forged, stretched, stale, spent, withdrawn, replayed, raced."""

import base64
import itertools
import json
import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
import rfc8785
from heixia.consent.v1 import consent_pb2
from joserfc.jwk import OKPKey

from enclave_api.cli.example import FIELDS, LEVELS
from enclave_api.client.application import Limit
from enclave_api.client.authority import Authority, Grant, draft_consent
from enclave_api.client.connection import Refused
from enclave_api.identity import Principal, Role
from model_registry.signing import SigningKey, generate_key, sign_general
from sandbox.consent import TYP
from tests.integration.conftest import PRODUCT, Stage
from tests.room import datasets_of, refused

COMPANIES = itertools.count(100)
OTHER = Principal(Role.AUTHORITY, "other-office")
DAY = 86_400


@pytest.fixture(autouse=True)
def _goes_on(stage: Stage) -> Iterator[None]:
    """After each test the next good call is answered."""
    yield
    assert stage.room.answer(stage.world.subjects[next(COMPANIES)], PRODUCT, datasets_of(FIELDS)) in LEVELS


@pytest.fixture(scope="module")
def stage(stage: Stage) -> Stage:
    """The stage, with a second authority that the server knows since its last start."""
    stage.room.client(Authority, OTHER)
    stage.room.stop()
    stage.room.start()
    return stage


def ask(stage: Stage, company: int, consent_id: str, *, product: str = PRODUCT, request_id: str | None = None) -> Limit:
    """One call."""
    subject = stage.world.subjects[company]
    return stage.room.portal.request_limit(
        subject=subject, product=product, consent_id=consent_id, request_id=request_id
    )


def claims(stage: Stage, company: int = 0, **changes: Any) -> dict[str, Any]:
    """The claims of a good consent, some of them changed."""
    grant = Grant(stage.world.subjects[company], "zhongyuan", [PRODUCT], datasets_of(FIELDS))
    made = draft_consent(grant, "consent-office", datetime.now(UTC)).model_dump(
        mode="json", by_alias=True, exclude_none=True
    )
    return {**made, **changes}


def signed(stage: Stage, members: Mapping[str, Any], *keys: SigningKey) -> bytes:
    """Claims signed by the office or by other keys; in the canonical form where JSON numbers allow one."""
    try:
        payload = rfc8785.dumps(dict(members))
    except rfc8785.CanonicalizationError:
        payload = json.dumps(members, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
    return sign_general(payload, keys or [stage.room.office.credentials.signing_key()], TYP)


NOW = int(time.time())
BAD_CLAIMS: dict[str, tuple[dict[str, Any], str]] = {
    "over already": ({"nbf": NOW - 2 * DAY, "exp": NOW - DAY}, "consent_expired"),
    "made in the future": ({"iat": NOW + DAY}, "consent_invalid"),
    "longer than a month": ({"exp": NOW + 32 * DAY}, "consent_invalid"),
    "ends before it begins": ({"nbf": NOW + DAY, "exp": NOW + DAY - 1}, "consent_invalid"),
    "six uses": ({"max_uses": 6, "fetch": "periodic"}, "consent_invalid"),
    "no use": ({"max_uses": 0}, "consent_invalid"),
    "one-time, twice": ({"max_uses": 2, "fetch": "one-time"}, "consent_invalid"),
    "purpose not served": ({"purpose": {"code": "marketing", "text": "x"}}, "consent_invalid"),
    "purpose with higher caps": ({"purpose": {"code": "monitoring", "text": "x"}}, "consent_invalid"),
    "another bank's product": ({"products": ["other-bank/loan"]}, "consent_invalid"),
    "no product": ({"products": []}, "consent_invalid"),
    "product with a version": ({"products": [PRODUCT + "@1"]}, "consent_invalid"),
    "no data": ({"data": []}, "consent_invalid"),
    "wildcard data": ({"data": [{"department": "tax", "names": ["tax.*"], "why": "x"}]}, "consent_invalid"),
    "another department's data": (
        {"data": [{"department": "tax", "names": ["water.usage"], "why": "x"}]},
        "consent_invalid",
    ),
    "no machine decides": ({"automated_decision": {"used": False, "contest": "x"}}, "consent_invalid"),
    "wrong check character": ({"sub": "uscc:91350100M000100Y44"}, "subject_invalid"),
    "subject in lower case": ({"sub": "uscc:91350100m000100y43"}, "subject_invalid"),
    "id of another version": ({"jti": "6ba7b810-9dad-11d1-80b4-00c04fd430c8"}, "consent_invalid"),
    "another schema": ({"schema": "heixia.consent/v2"}, "consent_invalid"),
    "unknown member": ({"scope": "everything"}, "consent_invalid"),
    "text for a number": ({"exp": str(NOW + DAY)}, "consent_invalid"),
    "fraction for a number": ({"max_uses": 1.5}, "consent_invalid"),
    "truth for a number": ({"max_uses": True}, "consent_invalid"),
    "null": ({"exp": None}, "consent_invalid"),
    "another issuer": ({"iss": "other-office"}, "consent_invalid"),
    # numbers that JSON can say and calendars cannot
    "beyond RFC 8785": ({"nbf": 2**60, "exp": 2**60 + 10}, "consent_invalid"),
    "issued beyond RFC 8785": ({"iat": -(2**60)}, "consent_invalid"),
    "in the year ten thousand": ({"nbf": 253402300800, "exp": 253402300900}, "consent_invalid"),
    "in no year": ({"nbf": 2**52, "exp": 2**52 + 10}, "consent_invalid"),
    "endless": ({"max_uses": float("inf")}, "consent_invalid"),
    "notice shown beyond numbers": (
        {"notice": {"id": "x", "sha256": "0" * 64, "language": "zh", "method": "x", "shown_at": 2**70}},
        "consent_invalid",
    ),
    "unknown member with a long name": ({"x" * 20_000: 1}, "consent_invalid"),
}


@pytest.mark.parametrize("name", BAD_CLAIMS)
def test_a_bad_claim_is_refused(stage: Stage, name: str) -> None:
    """One claim wrong at a time, signed by the right authority: not registered, and the code says what it is."""
    changes, code = BAD_CLAIMS[name]
    with stage.room.gains(), refused(code):
        stage.room.office.register(signed(stage, claims(stage, **changes)))


def test_bytes_that_are_no_consent_are_refused(stage: Stage) -> None:
    """Noise, JSON of other shapes, depth without end, sizes above the limit."""
    good = json.loads(signed(stage, claims(stage)))
    shapes: list[object] = [None, 1, "x", [], {}, {"payload": 1, "signatures": [{}]}, {**good, "signatures": []}]
    shapes += [{**good, "signatures": good["signatures"] * 3}, {**good, "payload": ""}, {**good, "x": 1}]
    shapes += [{**good, "signatures": [{**good["signatures"][0], "header": {"kid": "consent-office/1"}}]}]
    bodies = [b"", b"\xff", b"{", b"x" * 140_000, *(json.dumps(shape).encode() for shape in shapes)]
    wrong = []
    for body in bodies:
        with stage.room.gains():
            try:
                stage.room.office.register(body)
                wrong.append((body[:40], "accepted"))
            except Refused as error:
                if error.code != "consent_invalid":
                    wrong.append((body[:40], error.code))
    assert wrong == []


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_json_without_a_floor_is_refused(stage: Stage, opening: bytes) -> None:
    """JSON nested deeper than any parser goes is the sender's fault."""
    with stage.room.gains(), refused("consent_invalid"):
        stage.room.office.register(opening * 20_000)


def test_signatures_of_others_are_refused(stage: Stage) -> None:
    """A stranger's key, a stranger's key under the office's name, another authority's, and a bank's."""
    office = stage.room.office
    bank = stage.room.alice.credentials.signing_key()
    other = stage.room.client(Authority, OTHER).credentials.signing_key()
    mine = office.credentials.signing_key()
    strangers: list[tuple[SigningKey, ...]] = [
        (generate_key("stranger"),),
        (generate_key("consent-office"),),
        (OKPKey.generate_key("Ed25519", {"kid": "consent-office/1"}),),
        (bank,),
        (other,),
        (other, mine),
        (mine, generate_key("consent-office", 2)),
    ]
    for keys in strangers:
        with stage.room.gains(), refused("consent_invalid"):
            office.register(signed(stage, claims(stage), *keys))
    with stage.room.gains(), refused("consent_invalid"):
        office.register(sign_general(rfc8785.dumps(claims(stage)), [mine], "heixia-manifest+jws"))


def test_another_authoritys_consent_is_not_registered_for_it(stage: Stage) -> None:
    """What the other office signed itself, this office cannot register, nor the other way round."""
    other = stage.room.client(Authority, OTHER)
    theirs = signed(stage, claims(stage, iss="other-office"), other.credentials.signing_key())
    with stage.room.gains(), refused("consent_not_yours"):
        stage.room.office.register(theirs)
    with stage.room.gains(), refused("consent_not_yours"):
        other.register(signed(stage, claims(stage)))


def test_tampered_claims_are_refused(stage: Stage) -> None:
    """Any claim changed after signing breaks the signature."""
    good = json.loads(signed(stage, claims(stage)))
    tampered: dict[str, Any] = {"max_uses": 5, "exp": NOW + 30 * DAY, "sub": stage.world.subjects[9]}
    for name, value in tampered.items():
        payload = base64.urlsafe_b64encode(rfc8785.dumps(claims(stage, **{name: value}))).decode().rstrip("=")
        with stage.room.gains(), refused("consent_invalid"):
            stage.room.office.register(json.dumps({**good, "payload": payload}).encode())


def test_unsigned_consents_are_refused(stage: Stage) -> None:
    """`alg: none`, symmetric algorithms and extra header members are not signatures."""

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    payload = base64.urlsafe_b64encode(rfc8785.dumps(claims(stage))).decode().rstrip("=")
    for header in (
        {"alg": "none", "kid": "consent-office/1", "typ": TYP},
        {"alg": "HS256", "kid": "consent-office/1", "typ": TYP},
        {"alg": "EdDSA", "kid": "consent-office/1", "typ": TYP, "jwk": {"kty": "OKP"}},
        {"alg": "EdDSA", "kid": "consent-office/1", "typ": TYP, "b64": False, "crit": ["b64"]},
        {"alg": "EdDSA", "typ": TYP},
        {"alg": "EdDSA", "kid": ["consent-office/1"], "typ": TYP},
    ):
        for signature in ("", "AAAA", base64.urlsafe_b64encode(bytes(64)).decode().rstrip("=")):
            body = {"payload": payload, "signatures": [{"protected": part(header), "signature": signature}]}
            with stage.room.gains(), refused("consent_invalid"):
                stage.room.office.register(json.dumps(body).encode())


def test_a_doubled_id_is_refused(stage: Stage) -> None:
    """The same consent again, and another one under its id, by its authority or another: nothing is overwritten."""
    first = claims(stage, 1)
    stage.room.office.register(signed(stage, first))
    other = stage.room.client(Authority, OTHER)
    again = claims(stage, 2, jti=first["jti"], max_uses=5, fetch="periodic")
    with stage.room.gains():
        for members in (first, again):
            with refused("consent_duplicate"):
                stage.room.office.register(signed(stage, members))
        with refused("consent_duplicate"):
            other.register(signed(stage, {**again, "iss": "other-office"}, other.credentials.signing_key()))


def test_uses_beyond_the_consent_are_refused(stage: Stage) -> None:
    """Wrong subject, wrong bank's product, unknown consent: each refused with its law, and only the law is logged."""
    consent_id = stage.consent(3)
    cases = [
        ({"company": 4, "consent_id": consent_id}, "consent_subject_mismatch"),
        ({"company": 3, "consent_id": consent_id, "product": "zhongyuan/other-loan"}, "consent_product_mismatch"),
        ({"company": 3, "consent_id": consent_id, "product": "other-bank/loan"}, "consent_product_mismatch"),
        ({"company": 3, "consent_id": str(uuid.uuid4())}, "consent_unknown"),
    ]
    for members, code in cases:
        with stage.room.gains("refusal"), refused(code):
            ask(stage, **members)  # type: ignore[arg-type]
        entry = stage.room.entries()[-1]
        assert (entry["code"], entry["subject_tag"], entry["seq"]) == (code, None, 0)
    assert ask(stage, 3, consent_id).yuan in LEVELS


def test_products_without_a_champion_are_refused(stage: Stage) -> None:
    """A consent for a product that nobody has launched opens nothing."""
    subject, product = stage.world.subjects[5], "zhongyuan/not-launched"
    consent_id = stage.room.consent(subject, product, datasets_of(FIELDS))
    with stage.room.gains("refusal", changes=["sequence"]), refused("product_unknown"):
        ask(stage, 5, consent_id, product=product)


def test_fields_that_are_not_named_are_not_read(stage: Stage) -> None:
    """A consent for fewer datasets, or single fields, than the champion reads is refused before any data is read."""
    for names in (datasets_of(FIELDS)[1:], list(FIELDS[:-1]), ["tax.declaration"]):
        consent_id = stage.room.consent(stage.world.subjects[6], PRODUCT, names)
        with stage.room.gains("refusal", changes=["sequence"]), refused("consent_fields_missing"):
            ask(stage, 6, consent_id)


def test_not_yet_valid_and_expired(stage: Stage) -> None:
    """A consent opens nothing before its time, and nothing after it."""
    future = claims(stage, 7, nbf=NOW + DAY, exp=NOW + 2 * DAY)
    stage.room.office.register(signed(stage, future))
    with stage.room.gains("refusal", changes=["sequence"]), refused("consent_not_yet_valid"):
        ask(stage, 7, future["jti"])
    short = claims(stage, 7, exp=int(time.time()) + 2)
    stage.room.office.register(signed(stage, short))
    while stage.room.office.get(short["jti"]).state != consent_pb2.CONSENT_STATE_EXPIRED:
        pass
    with stage.room.gains("refusal", changes=["sequence"]), refused("consent_expired"):
        ask(stage, 7, short["jti"])


def test_paused_resumed_revoked(stage: Stage) -> None:
    """What is paused may not be used until resumed; what is revoked stays so, whatever is tried."""
    consent_id, office = stage.consent(8, uses=5), stage.room.office
    office.pause(consent_id, "subject-request")
    with stage.room.gains("refusal", changes=["sequence"]), refused("consent_paused"):
        ask(stage, 8, consent_id)
    with stage.room.gains(), refused("consent_transition"):
        office.pause(consent_id, "subject-request")
    office.resume(consent_id, "subject-request")
    assert ask(stage, 8, consent_id).yuan in LEVELS
    office.revoke(consent_id, "subject-request")
    for change in (office.pause, office.resume, office.revoke):
        with stage.room.gains(), refused("consent_transition"):
            change(consent_id, "subject-request")
    with stage.room.gains("refusal", changes=["sequence"]), refused("consent_revoked"):
        ask(stage, 8, consent_id)


@pytest.mark.parametrize("reason", ["", "He changed his mind", "UPPER", "x" * 65, "a\nb", "撤回"])
def test_reasons_are_codes(stage: Stage, reason: str) -> None:
    """Free text cannot get into the log through a reason."""
    with stage.room.gains(), refused("request_invalid"):
        stage.room.office.revoke(str(uuid.uuid4()), reason)


def test_used_up_and_replayed(stage: Stage) -> None:
    """A spent consent is refused for a fresh request id, and repeats the answer for the old one."""
    consent_id, request_id = stage.consent(9), str(uuid.uuid4())
    first = ask(stage, 9, consent_id, request_id=request_id)
    with stage.room.gains("refusal", changes=["sequence"]), refused("consent_exhausted"):
        ask(stage, 9, consent_id)
    with stage.room.gains():
        assert ask(stage, 9, consent_id, request_id=request_id).receipt.entry == first.receipt.entry
    with stage.room.gains("refusal"), refused("request_id_reused"):
        ask(stage, 10, consent_id, request_id=request_id)


@pytest.mark.parametrize(
    "change", ["max_uses = 99", "expires = expires + 99", "not_before = 0", "institution = 'other'", "products = '[]'"]
)
def test_a_stretched_row_permits_nothing(stage: Stage, change: str) -> None:
    """Whoever edits the database cannot give a consent more than was signed."""
    consent_id = stage.consent(13)
    with closing(sqlite3.connect(stage.room.home.database)) as database, database:
        database.execute(f"UPDATE consent SET {change} WHERE consent_id = ?", (consent_id,))
    with stage.room.gains(), refused("stored_value_corrupt"):
        ask(stage, 13, consent_id)


def test_the_budget_stops_what_consents_allow(stage: Stage) -> None:
    """Bits about one company to one bank are bounded, however many consents it signs and however often data change."""
    ended, bits = "", list[int]()
    while not ended and len(bits) < 30:
        stage.room.load(stage.world, ["tax.declaration"])  # or the answer would be the stored one, for nothing
        try:
            ask(stage, 12, stage.consent(12))
        except Refused as error:
            ended = error.code
        else:
            bits.append(stage.room.entries()[-1]["bits_total_milli"])
    assert ended == "budget_spent"
    assert bits == [3460 * n for n in range(1, 19)]


def test_what_is_refused_tells_nobody_whom_it_was_about(stage: Stage) -> None:
    """Neither log nor server's words hold a subject, whatever was tried in this file."""
    text = stage.room.log.read_text() + json.dumps(stage.room.entries())
    assert [s for s in stage.world.subjects if s in text or s.partition(":")[2] in text] == []
