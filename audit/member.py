"""The types that members of an entry may have, each with its check.

A member's annotation is its grammar: `Digest` is a `str` to a type checker and sixty-four lower-case hex digits
to `audit.event`. Free text cannot stand where a digest, a tag or a commitment belongs, which is how the log stays
free of limits, names and subjects.
"""

import re
from collections.abc import Callable
from dataclasses import Field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, NamedTuple, get_args, get_origin

from audit.errors import EventInvalid

INTEGER_MAX: Final = 2**53 - 1  # RFC 8785 numbers are IEEE doubles: beyond this two readers may disagree
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
# Hours up to 23: later Pythons read 24:00 as the next day, and a moment has one spelling.
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_TAG: Final = re.compile(r"[0-9a-f]{32}")


def floor_time(time: datetime) -> datetime:
    """Return the same moment in UTC, cut down to whole milliseconds.

    Raises:
        EventInvalid: the time has no zone.
    """
    if time.tzinfo is None:
        raise EventInvalid("a time without a zone")
    return _EPOCH + (time - _EPOCH) // _MILLISECOND * _MILLISECOND


def format_time(time: datetime) -> str:
    """Write a moment as RFC 3339 UTC, `2026-11-23T08:00:00.000Z`; anything finer than milliseconds is cut off.

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
    return type(value) is int and 0 <= value <= INTEGER_MAX  # type(): a bool is an int to isinstance


def _is_names(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, str) for item in value)


def _is_time(value: object) -> bool:
    return isinstance(value, str) and bool(parse_time(value))


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _is_tag(value: object) -> bool:
    return isinstance(value, str) and _TAG.fullmatch(value) is not None


Text = Annotated[str, _is_text]
Count = Annotated[int, _is_count]  # 0 .. 2**53 - 1
Names = Annotated[tuple[str, ...], _is_names]  # a JSON array of strings
Time = Annotated[str, _is_time]  # as format_time writes it
Digest = Annotated[str, _is_digest]  # 32 bytes (SHA-256, or a commitment made with it) as 64 lower-case hex digits
Tag = Annotated[str, _is_tag]  # HMAC-SHA-256 cut to 16 bytes, as 32 lower-case hex digits


def refused(name: str) -> EventInvalid:
    """The error for a member, naming it and never its value."""
    return EventInvalid(f"member {name} has a wrong type or form")


class Member(NamedTuple):
    """One member of a kind: its name, whether null may stand for it, and its check."""

    name: str
    nullable: bool
    check: Callable[[object], bool]

    @classmethod
    def of(cls, field: "Field[Any]") -> "Member":
        """Compile the annotation of a dataclass field: one of the types above, or one of them `| None`."""
        choices = [field.type] if get_origin(field.type) is Annotated else list(get_args(field.type))
        (typed,) = (choice for choice in choices if choice is not type(None))
        return cls(field.name, type(None) in choices, get_args(typed)[1])

    def admit(self, value: object) -> None:
        """Refuse a value that is not of this member's type.

        Raises:
            EventInvalid: naming the member, never the value.
        """
        if not (self.check(value) or (value is None and self.nullable)):
            raise refused(self.name)
