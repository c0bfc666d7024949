"""Entries of the log written and read: typed events as bytes.

An entry is one RFC 8785 JSON object of at most 65,535 bytes: `kind`, `v`, `time`, then the members of that kind,
flat (audit/kinds.py). Encoding and decoding apply the same checks, so what could not be read back cannot be written.
Unknown kinds, versions and members are refused, never skipped.
"""

import json
from dataclasses import fields
from datetime import datetime
from typing import Any, Final

from audit.errors import EventInvalid
from audit.kinds import KINDS, Event
from audit.member import Member, floor_time, format_time, parse_time, refused

__all__ = ["ENTRY_BYTES_MAX", "canonical", "decode", "encode", "floor_time", "format_time", "parse_time"]

ENTRY_BYTES_MAX: Final = 65_535  # the length before an entry in a tlog-tiles bundle is a uint16

_JSON: Final = json.JSONDecoder()

# For what an entry may hold (a flat object with ASCII names; strings, whole numbers below 2**53, null, arrays of
# strings) this is RFC 8785, and five times as fast as the general one: tests/unit/audit/test_canonical.py.
_JCS: Final = json.JSONEncoder(ensure_ascii=False, check_circular=False, sort_keys=True, separators=(",", ":"))

_MEMBERS: Final = {kind: tuple(Member.of(field) for field in fields(shape)) for kind, shape in KINDS.items()}
_NAMES: Final = {
    kind: {"kind", "v", "time", *(member.name for member in members)} for kind, members in _MEMBERS.items()
}


def encode(event: Event, time: datetime) -> bytes:
    """Write an event and its moment (cut to milliseconds) as the bytes of an entry.

    Raises:
        EventInvalid: a member of a wrong type or form, or more than 65,535 bytes.
    """
    entry: dict[str, Any] = {"kind": event.kind, "v": event.v, "time": format_time(time)}
    for member in _MEMBERS[event.kind]:
        entry[member.name] = value = getattr(event, member.name)
        member.admit(value)
    return canonical(entry)


def decode(body: bytes) -> tuple[Event, datetime]:
    """Read the bytes of an entry; `encode` of the result gives the same bytes.

    Raises:
        EventInvalid: not canonical JSON of a known kind, version and shape.
    """
    if len(body) > ENTRY_BYTES_MAX:
        raise EventInvalid("an entry above 65,535 bytes")
    entry = _parse(body)
    kind = entry.get("kind")
    shape = KINDS.get(kind) if isinstance(kind, str) else None
    if shape is None:
        raise EventInvalid("an entry of an unknown kind")
    if type(entry.get("v")) is not int or entry["v"] != shape.v:
        raise EventInvalid("an entry of an unknown version")
    if entry.keys() != _NAMES[shape.kind]:
        raise EventInvalid(f"an entry of kind {shape.kind} lacks members or has unknown ones")
    if type(entry["time"]) is not str:
        raise EventInvalid("the time of an entry is no string")
    time = parse_time(entry["time"])
    values = []
    for name, nullable, check in _MEMBERS[shape.kind]:
        value = entry[name]
        if type(value) is list:
            value = tuple(value)
        if not (check(value) or (value is None and nullable)):
            raise refused(name)
        values.append(value)
    # One comparison refuses white space, key order, escapes, number forms and doubled members alike.
    if canonical(entry) != body:
        raise EventInvalid("an entry is not canonical")
    return shape(*values), time


def _parse(body: bytes) -> dict[str, Any]:
    try:
        entry, _ = _JSON.raw_decode(body.decode("utf-8"))  # what follows it, the comparison in `decode` refuses
    except (ValueError, RecursionError) as error:
        raise EventInvalid("an entry is not JSON") from error
    if not isinstance(entry, dict):
        raise EventInvalid("an entry is no JSON object")
    return entry


def canonical(entry: dict[str, Any]) -> bytes:
    """Write an entry's members as RFC 8785 JSON.

    Raises:
        EventInvalid: text that is not Unicode, or more than 65,535 bytes.
    """
    try:
        body = _JCS.encode(entry).encode()
    except UnicodeEncodeError as error:
        raise EventInvalid("an entry holds text that is not Unicode") from error
    if len(body) > ENTRY_BYTES_MAX:
        raise EventInvalid("an entry above 65,535 bytes")
    return body
