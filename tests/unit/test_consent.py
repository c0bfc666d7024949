"""The consent artefact: one claim bad at a time, caps, binding, time by an injected clock, the table of its life."""

import json
from base64 import urlsafe_b64decode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, KeySet, OKPKey

from audit.errors import HeixiaError
from model_registry.errors import SignatureInvalid
from model_registry.signing import SigningKey, generate_key, load_key_set, sign_general
from sandbox.consent import (
    CAPS,
    CONSENT_BYTES_MAX,
    SKEW_SECONDS,
    TERMS,
    TYP,
    Consent,
    Terms,
    check_binding,
    check_claims,
    check_fields,
    check_registrable,
    make_consent,
    reverify_consent,
    sign_consent,
    verify_consent,
)
from sandbox.errors import (
    ConsentExpired,
    ConsentFieldsMissing,
    ConsentInvalid,
    ConsentProductMismatch,
    ConsentSubjectMismatch,
)
from sandbox.vault.errors import SubjectInvalid

KEY = generate_key("office")
KEYS = KeySet([OKPKey.import_key(KEY.as_dict(private=False))])
BEGIN = datetime(2026, 11, 23, 8, tzinfo=UTC)
DAY = 86_400
NBF = int(BEGIN.timestamp())


def claims(**changes: Any) -> dict[str, Any]:
    """The claims of a good consent, some changed."""
    good: dict[str, Any] = {
        "schema": "heixia.consent/v1",
        "jti": "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
        "iss": "office",
        "sub": "uscc:91350100M000100Y43",
        "iat": NBF,
        "nbf": NBF,
        "exp": NBF + 31 * DAY,
        "purpose": {"code": "precredit", "text": "x"},
        "institution": "bank",
        "products": ["bank/loan", "bank/other-loan"],
        "data": [{"department": "tax", "names": ["tax.declaration", "tax.invoice.amount"], "why": "x"}],
        "max_uses": 5,
        "fetch": "periodic",
        "notice": {"id": "n", "sha256": "0" * 64, "language": "zh", "method": "app", "shown_at": NBF},
        "separate_consents": ["tax"],
        "withdraw": "x",
        "automated_decision": {"used": True, "contest": "x"},
    }
    return {**good, **changes}


def consent(**changes: Any) -> Consent:
    """A good consent, some claims changed."""
    return make_consent(**claims(**changes))


def test_a_good_consent_comes_back_as_it_was_signed() -> None:
    """Sign, verify, encode agree."""
    made = consent()
    assert verify_consent(sign_consent(made, KEY), KEYS) == (made, None)
    assert made.encode() == rfc8785.dumps(json.loads(made.encode()))


SCOPE = claims()["data"][0]
WRONG: dict[str, dict[str, Any]] = {
    "schema": {"schema": "heixia.consent/v2"},
    "jti upper case": {"jti": "6BA7B810-9DAD-41D1-80B4-00C04FD430C8"},
    "jti version 1": {"jti": "6ba7b810-9dad-11d1-80b4-00c04fd430c8"},
    "jti with line": {"jti": "6ba7b810-9dad-41d1-80b4-00c04fd430c8\n"},
    "iss": {"iss": "Office"},
    "iat text": {"iat": str(NBF)},
    "iat fraction": {"iat": NBF + 0.5},
    "exp before nbf": {"exp": NBF - 1},
    "exp is nbf": {"exp": NBF},
    "exp a second late": {"exp": NBF + 31 * DAY + 1},
    "purpose unknown": {"purpose": {"code": "marketing", "text": "x"}},
    "purpose without its frequency": {"purpose": {"code": "monitoring", "text": "x"}},
    "frequency of a one-time fetch": {"max_uses": 1, "fetch": "one-time", "frequency": {"unit": "day", "value": 1}},
    "replaces no id": {"replaces": "the-old-one"},
    "cnf no thumbprint": {"cnf": {"jkt": "x"}},
    "cnf a key": {"cnf": {"jwk": {}}},
    "purpose untold": {"purpose": {"code": "precredit", "text": ""}},
    "institution": {"institution": "other-bank"},
    "products none": {"products": []},
    "products other's": {"products": ["bank/loan", "other-bank/loan"]},
    "products many": {"products": [f"bank/loan-{n}" for n in range(21)]},
    "products version": {"products": ["bank/loan@1"]},
    "data none": {"data": []},
    "data no name": {"data": [{**SCOPE, "names": []}]},
    "data wildcard": {"data": [{**SCOPE, "names": ["tax.*"]}]},
    "data department": {"data": [{**SCOPE, "names": ["tax"]}]},
    "data other's": {"data": [{**SCOPE, "names": ["water.usage"]}]},
    "data look-alike": {"data": [{**SCOPE, "names": ["taxi.rides"]}]},
    "data no reason": {"data": [{**SCOPE, "why": ""}]},
    "uses none": {"max_uses": 0},
    "uses many": {"max_uses": 6},
    "uses truth": {"max_uses": True},
    "one-time twice": {"max_uses": 2, "fetch": "one-time"},
    "fetch": {"fetch": "always"},
    "notice hash": {"notice": {**claims()["notice"], "sha256": "0"}},
    "separate none": {"separate_consents": []},
    "withdraw": {"withdraw": ""},
    "no machine": {"automated_decision": {"used": False, "contest": "x"}},
    "period empty": {"data_period": {"from": NBF, "to": NBF}},
    "period backwards": {"data_period": {"from": NBF, "to": NBF - DAY}},
    "period open": {"data_period": {"from": NBF}},
    "period text": {"data_period": {"from": "2026-01-01", "to": "2026-12-31"}},
    "period null": {"data_period": {"from": None, "to": NBF}},
    "extra": {"scope": "everything"},
}


@pytest.mark.parametrize("name", WRONG)
def test_one_bad_claim_is_consent_invalid(name: str) -> None:
    """Whether made here or signed elsewhere."""
    with pytest.raises(ConsentInvalid):
        consent(**WRONG[name])
    raw = sign_general(rfc8785.dumps(claims(**WRONG[name])), [KEY], TYP)
    with pytest.raises(ConsentInvalid):
        verify_consent(raw, KEYS)


@pytest.mark.parametrize("member", sorted(set(claims()) - {"schema"}))
def test_a_missing_claim_is_consent_invalid(member: str) -> None:
    """Nothing that a subject agreed to has a default."""
    left = {name: value for name, value in claims().items() if name != member}
    with pytest.raises(ConsentInvalid) as refusal:
        make_consent(**left)
    assert member in refusal.value.public


@pytest.mark.parametrize(
    "subject", ["", "uscc:91350100M000100Y44", "uscc:91350100m000100y43", "ric:110101199003074518"]
)
def test_a_subject_is_checked(subject: str) -> None:
    """Wrong check characters and other spellings name nobody."""
    with pytest.raises((SubjectInvalid, ConsentInvalid)):
        consent(sub=subject)


@pytest.mark.parametrize("number", [2**53, 2**60, -(2**60), 10**30, -(10**15), 253402300800])
def test_numbers_that_no_calendar_has_are_consent_invalid(number: int) -> None:
    """Times beyond RFC 8785 or beyond the year 9999 are the authority's fault; what is let in can be written down."""
    notice = {**claims()["notice"], "shown_at": number}
    for changes in ({"iat": number}, {"nbf": number, "exp": number + 10}, {"notice": notice}):
        text = json.dumps(claims(**changes), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        try:
            made, _ = verify_consent(sign_general(text, [KEY], TYP), KEYS)
        except ConsentInvalid:
            continue
        for time in (made.nbf, made.exp):
            datetime.fromtimestamp(time, UTC)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        b'{"payload":"","signatures":[]}',
        b'{"payload":"e30","signatures":[{}]}',
        b'{"payload":1,"signatures":[{"protected":"e30","signature":""}]}',
        b'{"payload":"e30","signatures":"ab"}',
        b'{"payload":"e30","signatures":{"0":1}}',
        b"[" * 50_000,
        b'{"a":' * 20_000,
        b"x" * (CONSENT_BYTES_MAX + 1),
    ],
    ids=lambda raw: raw[:24].decode("latin-1"),
)
def test_bytes_that_are_no_consent_are_consent_invalid(raw: bytes) -> None:
    """Other shapes, depth without end, sizes above the limit."""
    with pytest.raises(ConsentInvalid):
        verify_consent(raw, KEYS)


@given(st.integers(0), st.integers(1, 255))
def test_a_flipped_byte_is_refused_or_changes_nothing(position: int, flip: int) -> None:
    """No changed byte gives other claims."""
    raw = bytearray(sign_consent(consent(), KEY))
    raw[position % len(raw)] ^= flip
    try:
        assert verify_consent(bytes(raw), KEYS) == (consent(), None)
    except HeixiaError as error:
        assert isinstance(error, ConsentInvalid)  # noqa: PT017


def test_signatures_of_others_are_refused() -> None:
    """Strangers, known names with other keys, an authority for another, a second signature by nobody."""
    other = generate_key("other-office")
    both = KeySet([KEY, other])
    body = consent().encode()
    for keys, known in (
        ([generate_key("office", 2)], KEYS),
        ([OKPKey.generate_key("Ed25519", {"kid": "office/1"})], KEYS),
        ([other], both),
        ([other, KEY], both),
        ([KEY, generate_key("nobody")], both),
        ([KEY, KEY, KEY], both),
        ([KEY, other], both),  # a second signature is the subject's own, of no other authority
    ):
        with pytest.raises(ConsentInvalid):
            verify_consent(sign_general(body, keys, TYP), known)


def test_other_spellings_are_refused() -> None:
    """The claims are signed in one spelling."""
    for text in (json.dumps(claims()), " " + consent().encode().decode()):
        with pytest.raises(ConsentInvalid):
            verify_consent(sign_general(text.encode(), [KEY], TYP), KEYS)


def test_refusals_hold_no_claim() -> None:
    """Subjects and texts stand in no refusal."""
    for changes in ({"exp": "91350100M000100Y43"}, {"sub": "uscc:91350100M000100Y44"}):
        with pytest.raises(HeixiaError) as refusal:
            consent(**changes)
        assert "91350100M" not in str(refusal.value) + refusal.value.public


def test_the_caps_are_those_of_the_formats() -> None:
    """31 days and 5 uses for `precredit`; a year and 31 uses a month for `monitoring`; reached and not passed."""
    assert {code: (cap.days, cap.uses) for code, cap in CAPS.items()} == {
        "precredit": (31, 5),
        "monitoring": (365, 403),
    }
    assert consent(max_uses=5, exp=NBF + 31 * DAY).max_uses == 5
    assert monitoring().frequency is not None
    wrong: list[dict[str, Any]] = [
        {"exp": NBF + 365 * DAY + 1},
        {"max_uses": 404},
        {"frequency": None},
        {"fetch": "one-time", "max_uses": 1},
        *({"frequency": {"unit": unit, "value": most + 1}} for unit, most in (CAPS["monitoring"].often or {}).items()),
        *({"frequency": {"unit": unit, "value": 1}} for unit in ("year", "hour", "Month")),
        *({"frequency": {"unit": "month", "value": value}} for value in (0, -1, 1.5, "1")),
    ]
    for changes in wrong:
        with pytest.raises(ConsentInvalid):
            monitoring(**changes)


def monitoring(**changes: Any) -> Consent:
    """A good consent for a year of looks, some claims changed."""
    year: dict[str, Any] = {
        "purpose": {"code": "monitoring", "text": "x"},
        "exp": NBF + 365 * DAY,
        "max_uses": 403,
        "frequency": {"unit": "month", "value": 31},
    }
    return consent(**{**year, **changes})


def test_an_enclave_may_ask_for_less() -> None:
    """Caps of an enclave's own are held at every use; what it does not serve is refused."""
    tight = Terms({"precredit": replace(CAPS["precredit"], uses=2)})
    check_claims(consent(max_uses=2), tight)
    for too_much in (consent(max_uses=3), monitoring()):
        check_claims(too_much, TERMS)
        with pytest.raises(ConsentInvalid):
            check_claims(too_much, tight)


def test_claims_that_are_not_made_are_left_out() -> None:
    """A consent without the optional claims has the bytes that it had before there were any."""
    assert set(json.loads(consent().encode())) == set(claims())
    made = monitoring(replaces="6ba7b810-9dad-41d1-80b4-00c04fd430c9")
    assert {"frequency", "replaces"} == set(json.loads(made.encode())) - set(claims())


def own_key(kind: str) -> SigningKey:
    """A company's own key, which no set knows."""
    return OKPKey.generate_key("Ed25519") if kind == "Ed25519" else ECKey.generate_key("P-256")


def test_a_subjects_key_is_of_a_named_curve() -> None:
    """An Ed448 key signs nothing that counts, though EdDSA is its algorithm too."""
    key = OKPKey.generate_key("Ed448")
    with pytest.raises(ConsentInvalid):
        verify_consent(sign_consent(consent(cnf={"jkt": key.thumbprint()}), KEY, key), KEYS)


@pytest.mark.parametrize("kind", ["Ed25519", "P-256"])
def test_the_subject_signs_beside_the_authority(kind: str) -> None:
    """Its key travels in the signature's header, and `cnf` names it; an enclave may ask for that."""
    key = own_key(kind)
    made = consent(cnf={"jkt": key.thumbprint()})
    raw = sign_consent(made, KEY, key)
    required = Terms(CAPS, subject_signature=True)
    assert verify_consent(raw, KEYS, required) == (made, None)
    assert reverify_consent(raw, KEYS)[1].own == key.thumbprint()
    assert "d" not in json.loads(base64url(json.loads(raw)["signatures"][1]["protected"]))["jwk"]
    with pytest.raises(ConsentInvalid, match="cnf"):
        verify_consent(sign_consent(consent(), KEY), KEYS, required)


def test_a_subjects_signature_and_its_claim_belong_together() -> None:
    """Another key's signature, none, one that nobody claimed, one over other claims, one with members of its own."""
    key, other = own_key("Ed25519"), own_key("P-256")
    made = consent(cnf={"jkt": key.thumbprint()})
    good = json.loads(sign_consent(made, KEY, key))
    second = json.loads(sign_general(made.encode(), [KEY], TYP, other))["signatures"][1]
    plain = json.loads(sign_consent(consent(), KEY))
    elsewhere = json.loads(sign_general(consent(max_uses=1).encode(), [KEY], TYP, key))["signatures"][1]
    bad = [
        {**good, "signatures": [good["signatures"][0], second]},
        {**good, "signatures": good["signatures"][:1]},
        {**good, "signatures": good["signatures"][::-1]},
        {**good, "signatures": good["signatures"][1:]},
        {**plain, "signatures": [plain["signatures"][0], good["signatures"][1]]},
        {**good, "signatures": [good["signatures"][0], elsewhere]},
        {**good, "signatures": [good["signatures"][0], {**good["signatures"][1], "header": {}}]},
        {**good, "signatures": [*good["signatures"], good["signatures"][1]]},
    ]
    for wrong in bad:
        with pytest.raises(ConsentInvalid):
            verify_consent(json.dumps(wrong).encode(), KEYS)
    for without in (None, other):
        with pytest.raises(ConsentInvalid):
            sign_consent(made, KEY, without)


def test_a_retired_key_registers_nothing_new_and_still_verifies_the_old() -> None:
    """Rotation: `exp` of a key ends its new signatures; taking the key out ends the old ones too."""
    public: Any = KEY.as_dict(private=False)
    ending: Any = {**public, "exp": NBF + DAY}
    old = OKPKey.import_key(ending)
    fresh = generate_key("office", 2)
    made, retires = verify_consent(sign_consent(consent(), KEY), KeySet([old, fresh]))
    assert retires == NBF + DAY
    check_registrable(made, BEGIN, retires)
    with pytest.raises(ConsentInvalid, match="retired"):
        check_registrable(made, BEGIN + timedelta(days=1), retires)
    assert verify_consent(sign_consent(consent(), fresh), KeySet([old, fresh])) == (consent(), None)
    with pytest.raises(ConsentInvalid):
        reverify_consent(sign_consent(consent(), KEY), KeySet([fresh]))


def test_a_key_signs_nothing_from_its_end_on_and_a_withdrawn_one_never_signed_anything() -> None:
    """`exp` is held against `iat` at every use; `revoked` ends even what was signed long before."""
    raw, public = sign_consent(consent(), KEY), KEY.as_dict(private=False)

    def keys(**members: Any) -> KeySet:
        return load_key_set(json.dumps({"keys": [{**public, **members}]}))

    assert reverify_consent(raw, keys(exp=NBF + 1))[0] == consent()
    for end in (NBF, NBF - 1, 0):
        with pytest.raises(ConsentInvalid, match="retired"):
            reverify_consent(raw, keys(exp=end))
    for revoked in ({"revoked_at": NBF + DAY, "reason": "compromised"}, {"revoked_at": 0}, {}, True):
        with pytest.raises(ConsentInvalid, match="signature"):
            reverify_consent(raw, keys(revoked=revoked))


@pytest.mark.parametrize("end", ["1790000000", 1.5, None, True, [], {}])
def test_a_key_set_with_an_end_that_is_no_moment_is_refused(end: object) -> None:
    """Read as no end, a key would go on for ever."""
    with pytest.raises(SignatureInvalid):
        load_key_set(json.dumps({"keys": [{**KEY.as_dict(private=False), "exp": end}]}))


def base64url(text: str) -> bytes:
    """What stands in a JWS."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_what_may_be_registered() -> None:
    """Before it begins, yes; after its end or before it was made, beyond the clocks' difference, no."""
    made = consent()
    check_registrable(consent(nbf=NBF + DAY, exp=NBF + 2 * DAY), BEGIN)
    check_registrable(made, BEGIN - timedelta(seconds=SKEW_SECONDS))
    with pytest.raises(ConsentInvalid):
        check_registrable(made, BEGIN - timedelta(seconds=SKEW_SECONDS + 1))
    with pytest.raises(ConsentExpired):
        check_registrable(made, BEGIN + timedelta(days=31))


def test_a_consent_binds_subject_and_product() -> None:
    """Its own subject, one of its products."""
    made = consent()
    for name in made.products:
        check_binding(made, subject=made.sub, product=name)
    for other in ("uscc:91350100M000100Y44", "USCC:91350100M000100Y43", ""):
        with pytest.raises(ConsentSubjectMismatch):
            check_binding(made, subject=other, product="bank/loan")
    for other in ("bank/loa", "bank/loan ", "other-bank/loan", "bank"):
        with pytest.raises(ConsentProductMismatch):
            check_binding(made, subject=made.sub, product=other)


def test_fields_are_named_themselves_or_by_their_dataset() -> None:
    """A field of a named dataset and a named field may be read; neighbours, prefixes and parents may not."""
    made = consent()
    check_fields(made, ["tax.declaration.sales_12m", "tax.invoice.amount"])
    for other in ("tax.invoice.count", "tax.declaration2.x", "tax.declaration", "tax.invoice", "water.usage.paid"):
        if other in made.names:
            continue
        with pytest.raises(ConsentFieldsMissing):
            check_fields(made, ["tax.declaration.sales_12m", other])
