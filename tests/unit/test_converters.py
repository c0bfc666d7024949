"""Proto ↔ domain: malformed members end here, and every answer has one size class."""

import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from heixia.consent.v1 import consent_pb2
from heixia.precredit.v1 import precredit_pb2
from heixia.registry.v1 import registry_pb2
from hypothesis import given
from hypothesis import strategies as st

from enclave_api import converters, version_converters
from enclave_api.converters import SIZE_CLASS_BYTES, limit_request, limit_response, moment, product, reason, uuid
from enclave_api.errors import RequestInvalid
from model_registry.lifecycle import State as VersionState
from model_registry.manifest import LEVEL_YUAN_MAX
from sandbox.calls import Answer
from sandbox.consent_life import State as ConsentState

UNTIL = datetime(2026, 12, 23, 8, 0, 0, 123_000, tzinfo=UTC)
UUID = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"


def answer(limit: int, entry: int = 1500, proof: int = 900, until: datetime = UNTIL) -> Answer:
    """An answer with an entry and a proof of these sizes."""
    return Answer(limit, until, 7, b"e" * entry, "p" * proof, bytes(32))


@given(
    st.integers(0, LEVEL_YUAN_MAX),
    st.integers(0, LEVEL_YUAN_MAX),
    st.integers(0, 4000),
    st.integers(0, 8000),
    st.datetimes(datetime(2026, 1, 1), datetime(2036, 1, 1), timezones=st.just(UTC)),
)
def test_all_limits_have_one_size(one: int, other: int, entry: int, proof: int, until: datetime) -> None:
    """Whatever the receipt weighs, two answers that differ in their limit alone are equally many bytes on the wire."""
    sizes = {len(limit_response(answer(limit, entry, proof, until)).SerializeToString()) for limit in (0, one, other)}
    assert len(sizes) == 1
    assert sizes.pop() % SIZE_CLASS_BYTES == 0


@pytest.mark.parametrize("power", range(35))
def test_all_magnitudes_have_one_size(power: int) -> None:
    """Around each power of two, where a varint grows."""
    expected = limit_response(answer(0)).ByteSize()
    for limit in (2**power - 1, 2**power, 2**power + 1):
        made = limit_response(answer(limit))
        assert made.ByteSize() == expected
        assert (made.limit.units, made.limit.nanos, made.limit.currency_code) == (limit, 0, "CNY")


def test_padding_is_nought() -> None:
    """Nothing travels in the padding."""
    assert set(limit_response(answer(50_000)).padding) == {0}


BAD_TEXT = ["", " ", "x" * 200, "\0", "é", "A", "../..", "a/b/c", UUID.upper(), UUID + "\n", "{" + UUID + "}"]


@pytest.mark.parametrize("text", BAD_TEXT)
def test_malformed_names_are_request_invalid(text: str) -> None:
    """Ids, products and request members have one form."""
    for check in (lambda t: uuid(t, "request_id"), product):
        with pytest.raises(RequestInvalid):
            check(text)
    good = {"request_id": UUID, "consent_id": UUID, "product": "bank/loan", "subject": "x"}
    for member in ("request_id", "consent_id", "product"):
        with pytest.raises(RequestInvalid):
            limit_request(precredit_pb2.RequestLimitRequest(**{**good, member: text}), "application/portal")


@given(st.text(max_size=80))
def test_what_is_accepted_is_what_was_sent(text: str) -> None:
    """No check tidies up: it returns the very text or refuses."""
    checks: list[tuple[Callable[[str], str], str]] = [
        (lambda t: uuid(t, "x"), r"[0-9a-f-]{36}"),
        (product, r"[a-z0-9-]+/[a-z0-9-]+"),
        (reason, r"[a-z]+(-[a-z]+)*"),
    ]
    for check, shape in checks:
        try:
            assert check(text) == text
        except RequestInvalid:
            continue
        assert re.fullmatch(shape, text)


@pytest.mark.parametrize("text", ["", "Because", "two words", "subject-request ", "a\n", "撤回", "subject_request"])
def test_reasons_are_codes(text: str) -> None:
    """Free text never gets into the log: a reason is one of a closed list."""
    with pytest.raises(RequestInvalid):
        reason(text)
    assert reason("subject-request") == "subject-request"


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1))
def test_any_timestamp_is_a_moment_or_refused(seconds: int, nanos: int) -> None:
    """Nothing that a wire can carry raises anything else."""
    try:
        made = moment(Timestamp(seconds=seconds, nanos=nanos))
    except RequestInvalid:
        return
    assert made.tzinfo is UTC


def test_moments_come_back() -> None:
    """To protobuf and back."""
    assert moment(converters.timestamp(UNTIL)) == UNTIL


def test_every_state_has_its_number_on_the_wire() -> None:
    """No state of a consent or version is without its enum value, and none is UNSPECIFIED."""
    for consent_state in ConsentState:
        assert converters._consent_state(consent_state) != consent_pb2.CONSENT_STATE_UNSPECIFIED
    for version_state in VersionState:
        assert version_converters._state(version_state) != registry_pb2.VERSION_STATE_UNSPECIFIED
