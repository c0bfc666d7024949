"""The consent artefact: one claim bad at a time, caps, binding, time by an injected clock, the table of its life."""

import json
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import KeySet, OKPKey

from audit.errors import HeixiaError
from model_registry.signing import generate_key, sign_general
from sandbox.consent import (
    CAPS,
    CONSENT_BYTES_MAX,
    SKEW_SECONDS,
    TRANSITIONS,
    TYP,
    Change,
    Consent,
    State,
    check_binding,
    check_fields,
    check_registrable,
    check_usable,
    check_window,
    make_consent,
    next_state,
    shown_state,
    sign_consent,
    verify_consent,
)
from sandbox.errors import (
    ConsentExhausted,
    ConsentExpired,
    ConsentFieldsMissing,
    ConsentInvalid,
    ConsentNotYetValid,
    ConsentPaused,
    ConsentProductMismatch,
    ConsentRevoked,
    ConsentSubjectMismatch,
    ConsentTransition,
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
    assert verify_consent(sign_consent(made, [KEY]), KEYS) == made
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
    "purpose not served": {"purpose": {"code": "monitoring", "text": "x"}},
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
            made = verify_consent(sign_general(text, [KEY], TYP), KEYS)
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
    raw = bytearray(sign_consent(consent(), [KEY]))
    raw[position % len(raw)] ^= flip
    try:
        assert verify_consent(bytes(raw), KEYS) == consent()
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
    ):
        with pytest.raises(ConsentInvalid):
            verify_consent(sign_general(body, keys, TYP), known)
    assert verify_consent(sign_general(body, [KEY, other], TYP), both) == consent()


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
    """31 days and 5 uses for `precredit`, reached and not passed."""
    assert {code: (cap.days, cap.uses) for code, cap in CAPS.items()} == {"precredit": (31, 5)}
    assert consent(max_uses=5, exp=NBF + 31 * DAY).max_uses == 5


def test_the_window_is_closed_at_its_begin_and_open_at_its_end() -> None:
    """By an injected clock: a second before, at the begin, a moment before the end, at the end."""
    made, end = consent(), BEGIN + timedelta(days=31)
    check_window(made.nbf, made.exp, BEGIN)
    check_window(made.nbf, made.exp, end - timedelta(milliseconds=1))
    with pytest.raises(ConsentNotYetValid):
        check_window(made.nbf, made.exp, BEGIN - timedelta(milliseconds=1))
    for late in (end, end + timedelta(days=1000)):
        with pytest.raises(ConsentExpired):
            check_window(made.nbf, made.exp, late)


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


@pytest.mark.parametrize(("state", "change"), list(product(State, Change)))
def test_the_table_is_the_life_of_a_consent(state: State, change: Change) -> None:
    """Granted ↔ paused, both → revoked; from an end nothing leads anywhere."""
    expected = {
        (State.GRANTED, Change.PAUSE): State.PAUSED,
        (State.PAUSED, Change.RESUME): State.GRANTED,
        (State.GRANTED, Change.REVOKE): State.REVOKED,
        (State.PAUSED, Change.REVOKE): State.REVOKED,
    }
    assert dict(TRANSITIONS) == expected
    if (state, change) in expected:
        assert next_state(state, change) is expected[state, change]
    else:
        with pytest.raises(ConsentTransition):
            next_state(state, change)


def test_only_a_granted_consent_with_a_use_left_may_be_used() -> None:
    """Each state and each number of uses."""
    check_usable(State.GRANTED, 4, 5)
    for uses in (5, 6):
        with pytest.raises(ConsentExhausted):
            check_usable(State.GRANTED, uses, 5)
    with pytest.raises(ConsentPaused):
        check_usable(State.PAUSED, 0, 5)
    for ended in set(State) - {State.GRANTED, State.PAUSED}:
        with pytest.raises(ConsentRevoked):
            check_usable(ended, 0, 5)


def test_expiry_and_exhaustion_are_computed_never_stored() -> None:
    """Shown by clock and count for a granted consent alone."""
    end = NBF + DAY
    before, after = datetime.fromtimestamp(end - 1, UTC), datetime.fromtimestamp(end, UTC)
    assert shown_state(State.GRANTED, 0, 1, end, before) is State.GRANTED
    assert shown_state(State.GRANTED, 1, 1, end, before) is State.EXHAUSTED
    assert shown_state(State.GRANTED, 1, 1, end, after) is State.EXPIRED
    for other in set(State) - {State.GRANTED}:
        assert shown_state(other, 1, 1, end, after) is other
