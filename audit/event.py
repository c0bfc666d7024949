"""Typed events: what an entry of the log may say, and nothing else.

An entry is one RFC 8785 JSON object: `kind`, `v`, `time`, then the members of that kind, flat. Each kind is one frozen
dataclass below; its annotations are the whole grammar. Encoding and decoding use the same checks, so what cannot be
read back cannot be written, and free text cannot stand where a digest, a tag or a commitment belongs: that is how the
log stays free of limits, names and subjects.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from json import loads
from typing import Annotated, ClassVar, Final, get_type_hints

import rfc8785

from audit.errors import EventInvalid

ENTRY_BYTES_MAX: Final = 65_535  # the length prefix in a tlog-tiles entry bundle is a uint16
VERSION: Final = 1
_INTEGER_MAX: Final = 2**53 - 1  # RFC 8785 numbers are IEEE doubles; beyond this two readers may disagree
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_TAG: Final = re.compile(r"[0-9a-f]{32}")


def floor_time(time: datetime) -> datetime:
    """Cut an aware time down to whole milliseconds, in UTC."""
    if time.tzinfo is None:
        raise EventInvalid("a time without a zone")
    return _EPOCH + (time - _EPOCH) // _MILLISECOND * _MILLISECOND


def format_time(time: datetime) -> str:
    """Write a time as RFC 3339 UTC with milliseconds, `2026-11-23T08:00:00.000Z`; anything finer is cut off.

    Raises:
        EventInvalid: the time has no zone.
    """
    return floor_time(time).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def parse_time(text: str) -> datetime:
    """Read what `format_time` writes, and nothing else.

    Raises:
        EventInvalid: another shape, or no such moment.
    """
    if not _TIME.fullmatch(text):
        raise EventInvalid("a time is not RFC 3339 UTC with milliseconds")
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise EventInvalid("a time names no moment") from error


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _INTEGER_MAX


def _is_names(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, str) for item in value)


def _is_time(value: object) -> bool:
    return isinstance(value, str) and format_time(parse_time(value)) == value


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _is_tag(value: object) -> bool:
    return isinstance(value, str) and _TAG.fullmatch(value) is not None


type_Check = Callable[[object], bool]
Text = Annotated[str, _is_text]
Count = Annotated[int, _is_count]  # 0 .. 2**53 - 1
Names = Annotated[tuple[str, ...], _is_names]
Time = Annotated[str, _is_time]  # format_time
Digest = Annotated[str, _is_digest]  # SHA-256, 64 lower-case hex digits
Tag = Annotated[str, _is_tag]  # HMAC-SHA-256 cut to 16 bytes, 32 lower-case hex digits
