"""Entries: the grammar of every kind, and that nothing else passes."""

import json
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args, get_origin

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from audit import kinds, member
from audit.errors import EventInvalid
from audit.event import decode, encode, format_time, parse_time
from audit.kinds import KINDS, Event
from tests.unit.audit.vectors import START, decision

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    member.Text: TEXTS,
    member.Count: st.integers(0, 2**53 - 1),
    member.Names: st.lists(TEXTS, max_size=3).map(tuple),
    member.Time: TIMES.map(format_time),
    member.Digest: st.binary(min_size=32, max_size=32).map(bytes.hex),
    member.Tag: st.binary(min_size=16, max_size=16).map(bytes.hex),
}


def values_of(annotation: Any) -> st.SearchStrategy[Any]:
    """Draw values that an annotation admits."""
    if annotation in VALUES:
        return VALUES[annotation]
    return st.one_of(*(st.none() if choice is type(None) else VALUES[choice] for choice in get_args(annotation)))


def events() -> st.SearchStrategy[Event]:
    """Draw events of every kind."""
    shapes = [
        st.builds(shape, **{field.name: values_of(field.type) for field in fields(shape)}) for shape in KINDS.values()
    ]
    return st.one_of(*shapes)


def entry_of(event: Event) -> dict[str, Any]:
    """Encode an event and parse it as JSON, to be changed."""
    loaded: dict[str, Any] = json.loads(encode(event, START))
    return loaded


def test_kinds_are_those_of_the_format() -> None:
    """The kinds are exactly the ones that docs/formats.md names."""
    families = {
        "enclave": "started",
        "dataset": "published loaded suspended resumed",
        "consent": "granted revoked paused resumed",
        "version": "submitted admitted refused approved promoted suspended resumed retired",
        "audit": "read exported checked",
        "authority": "revoked",
        "subject": "erased",
        "budget": "changed",
        "config": "changed",
        "rollback": "accepted",
        "key": "rotated destroyed",
    }
    named = {f"{family}.{verb}" for family, verbs in families.items() for verb in verbs.split()}
    assert set(KINDS) == named | {"decision", "refusal"}


@given(events(), TIMES)
def test_decode_undoes_encode(original: Event, time: datetime) -> None:
    """Every event of every kind comes back, with its time cut to milliseconds."""
    body = encode(original, time)
    read, at = decode(body)
    assert read == original
    assert type(read) is type(original)
    assert timedelta() <= time - at < timedelta(milliseconds=1)
    assert encode(read, at) == body


@given(events(), TIMES)
def test_entries_are_canonical_json(original: Event, time: datetime) -> None:
    """An entry is one flat JCS object with kind, version and time."""
    body = encode(original, time)
    loaded = json.loads(body)
    assert rfc8785.dumps(loaded) == body
    assert loaded["kind"] == original.kind
    assert loaded["v"] == original.v
    assert parse_time(loaded["time"]) <= time


@given(events(), st.data())
def test_a_changed_byte_never_reads_as_the_same_event(original: Event, data: st.DataObject) -> None:
    """Whatever byte is changed, the entry is refused or says something else."""
    body = bytearray(encode(original, START))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    try:
        read = decode(bytes(body))
    except EventInvalid:
        return
    assert read != (original, START)
    assert encode(*read) == bytes(body)


@given(st.binary(max_size=200))
def test_noise_is_refused_in_our_words(body: bytes) -> None:
    """No bytes make the decoder raise anything but EventInvalid."""
    with pytest.raises(EventInvalid):
        decode(body)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | TEXTS, st.lists), st.data())
def test_values_of_other_types_are_refused_or_kept(value: Any, data: st.DataObject) -> None:
    """Any JSON value in place of any member is refused in our words, or is one that the member admits."""
    entry = entry_of(data.draw(events()))
    entry[data.draw(st.sampled_from(sorted(entry)))] = value
    body = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    try:
        read = decode(body)
    except EventInvalid:
        return
    assert encode(*read) == body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'"decision"',
        b"[" * 60_000,
        b'{"v":' + b"9" * 5_000 + b"}",
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\x00}\x00",
        b'{"kind":"decision","v":1}',
        b'{"kind":["decision"],"time":"2026-11-23T08:00:00.000Z","v":1}',
        b'{"kind":"version.admitted","time":"2026-11-23T08:00:00.000Z","v":1,"version":"\\ud800"}',
        b'{"kind":"version.admitted","kind":"version.admitted","time":"2026-11-23T08:00:00.000Z","v":1,"version":"x"}',
        b'{"kind":"version.admitted","time":"2026-11-23T08:00:00.000Z","v":1,"version":"\\u0078"}',
        b'{"kind":"version.admitted","time":"2026-11-23T08:00:00.000Z","version":"x","v":1}',
        b'{"kind":"version.admitted","time":"2026-11-23T08:00:00.000Z","v":1,"version":"x"}\n',
        b'{"kind":"version.admitted","time":"2026-11-23T08:00:00.000Z","v":1.0,"version":"x"}',
        b'{"kind":"version.admitted","time":"2026-11-23T08:00:00.000Z","v":true,"version":"x"}',
        b'{"kind":"version.admitted","time":"2026-11-23T08:00:00.000Z","v":2,"version":"x"}',
        b'{"kind":"version.admitted","time":"2026-11-23T08:00:00Z","v":1,"version":"x"}',
        b'{"kind":"version.admitted","time":"2026-02-30T08:00:00.000Z","v":1,"version":"x"}',
        b'{"kind":"version.admitted","time":1,"v":1,"version":"x"}',
        b'{"kind":"version.admitted","more":1,"time":"2026-11-23T08:00:00.000Z","v":1,"version":"x"}',
        b'{"kind":"version.burnt","time":"2026-11-23T08:00:00.000Z","v":1,"version":"x"}',
        b'{"kind":"version.admitted","time":"2026-11-23T08:00:00.000Z","v":1,"version":null}',
    ],
)
def test_malformed_entries(body: bytes) -> None:
    """Each way to write an entry wrongly is refused."""
    with pytest.raises(EventInvalid):
        decode(body)


def test_the_well_formed_twin_passes() -> None:
    """The entry that the malformed ones derive from is a good one."""
    body = b'{"kind":"version.admitted","time":"2026-11-23T08:00:00.000Z","v":1,"version":"x"}'
    assert decode(body) == (kinds.VersionAdmitted("x"), START)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "150000"),
        ("limit", 150_000),
        ("outcome", "offer"),
        ("limit", "AB" * 32),
        ("subject_tag", "uscc:91410100MA40000000"),
        ("consent_hash", None),
        ("seq", -1),
        ("seq", 2**53),
        ("seq", True),
        ("seq", 1.0),
        ("product", 5),
        ("product", b"bank/loan"),
        ("product", "\ud800"),
        ("caller", "x" * 65_000),
    ],
)
def test_wrong_members_are_never_written(name: str, value: Any) -> None:
    """A limit in the clear, a subject for a tag, a wrong type or too much text cannot enter the log."""
    with pytest.raises(EventInvalid):
        encode(decision(**{name: value}), START)


def test_refusals_keep_the_value_to_themselves() -> None:
    """The message names the member and not what stood in it."""
    with pytest.raises(EventInvalid) as refused:
        encode(decision(limit="150000"), START)
    assert "limit" in str(refused.value)
    assert "150000" not in str(refused.value)


def test_entry_of_65535_bytes_is_the_largest() -> None:
    """The bound is that of an entry bundle's length prefix, to the byte."""
    room = 65_535 - len(encode(decision(caller=""), START))
    assert len(encode(decision(caller="x" * room), START)) == 65_535
    with pytest.raises(EventInvalid):
        encode(decision(caller="x" * (room + 1)), START)


def test_null_stands_only_where_it_may() -> None:
    """A refusal may lack version, consent and tag; it may not lack its code."""
    tagged = kinds.Refusal("c", "a", "ab" * 32, "bank", "bank/loan", None, None, None, 1)
    assert decode(encode(tagged, START)) == (tagged, START)
    with pytest.raises(EventInvalid):
        encode(replace(tagged, code=None), START)  # type: ignore[arg-type]


@given(TIMES, st.integers(-14, 14))
def test_times_are_utc_and_monotonic(time: datetime, hours: int) -> None:
    """The same moment reads the same from every zone, and text order is time order."""
    elsewhere = time.astimezone(timezone(timedelta(hours=hours)))
    assert format_time(elsewhere) == format_time(time)
    assert format_time(time) <= format_time(time + timedelta(milliseconds=1))


@pytest.mark.parametrize(
    "text", ["", "2026-11-23T08:00:00.000+00:00", "2026-13-01T00:00:00.000Z", "２026-11-23T08:00:00.000Z"]
)
def test_other_spellings_of_time_are_refused(text: str) -> None:
    """One moment has one spelling."""
    with pytest.raises(EventInvalid):
        parse_time(text)


def test_a_time_without_zone_is_refused() -> None:
    """Nobody knows what moment a zoneless time means."""
    with pytest.raises(EventInvalid):
        format_time(START.replace(tzinfo=None))


def test_annotations_are_members() -> None:
    """Every member of every kind is of a type of audit/member.py, or one of them or null."""
    for shape in KINDS.values():
        for field in fields(shape):
            assert field.type in VALUES or get_origin(field.type) is not None
