"""What a search asks for, in a form that may stand in the log, and where its next page begins.

A filter's values are of the grammars that entries use (docs/formats.md, "Names"): nothing else could be found, and a
name or an identity number put into the wrong field must not get into the log for good through `audit.read`.
"""

import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self

from audit.errors import SearchInvalid
from audit.event import format_time
from audit.index_terms import FIELDS, OUTCOMES, UNREADABLE, Term, from_ms
from audit.kinds import KINDS

_PRODUCT: Final = r"[a-z][a-z0-9-]{1,62}/[a-z][a-z0-9-]{1,62}"
_GRAMMAR: Final = {
    "institution": (r"[a-z][a-z0-9-]{1,62}", "a name such as zhongyuan"),
    "product": (_PRODUCT, "<institution>/<name>"),
    "version": (_PRODUCT + r"@[1-9][0-9]{0,8}", "<institution>/<name>@<number>"),
    "consent": (r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "a lower-case UUID"),
    "subject": (r"[0-9a-f]{32}", "a tag of 32 hex digits"),
    "kind": ("|".join(map(re.escape, [*KINDS, UNREADABLE])), f"one of: {', '.join(KINDS)}, {UNREADABLE}"),
    "outcome": ("|".join(OUTCOMES), f"one of: {', '.join(OUTCOMES)} (offer or none is a commitment: nobody reads it)"),
    "code": (r"[a-z][a-z0-9_]{1,63}", "a code of the error catalogue such as consent_revoked"),
    "caller": (
        r"subject|(?:institution|application|authority|steward|auditor|operator)/[a-z][a-z0-9_-]{1,62}"
        r"(?:/[a-z0-9._-]{1,63})?|[a-z][a-z0-9-]{1,62}",  # or a part of the service by its own name
        "<role>/<organisation>[/<person>]",
    ),
}
_MS_MAX: Final = 253_402_300_799_999  # the last millisecond of the year 9999
_CURSOR: Final = struct.Struct(">B8sQQ")
_CURSOR_VERSION: Final = 1


@dataclass(frozen=True)
class Filter:
    """Every member that is not empty must match.

    `subject` is a tag. `caller` without a person finds every person of the organisation. `since` is included, `until`
    is not; both in Unix milliseconds.

    Raises:
        SearchInvalid: a value that no entry can have.
    """

    institution: str = ""
    product: str = ""
    version: str = ""
    consent: str = ""
    subject: str = ""
    kind: str = ""
    outcome: str = ""
    code: str = ""
    caller: str = ""
    since: int | None = None
    until: int | None = None

    def __post_init__(self) -> None:
        for name, value in self.terms:
            pattern, shape = _GRAMMAR[name]
            if not re.fullmatch(pattern, value):
                raise SearchInvalid(name, public=f"{name} must be {shape}")
        for name, moment in (("since", self.since), ("until", self.until)):
            if moment is not None and not 0 <= moment <= _MS_MAX:
                raise SearchInvalid(name, public=f"{name} must lie between 1970 and 9999")

    @property
    def terms(self) -> Iterator[Term]:
        """The terms that a hit has, all of them."""
        return ((name, value) for name in FIELDS if (value := getattr(self, name)))

    @property
    def text(self) -> str:
        """The one short form of a filter, such as `institution=bank kind=refusal since=2026-11-01T00:00:00.000Z`."""
        parts = [f"{name}={value}" for name, value in self.terms]
        for name, moment in (("since", self.since), ("until", self.until)):
            if moment is not None:
                parts.append(f"{name}={format_time(from_ms(moment))}")
        return " ".join(parts) or "all"


@dataclass(frozen=True)
class Cursor:
    """Where a search goes on: below entry `before`, in the log as it was at the first page (`size` entries)."""

    size: int
    before: int

    def token(self, wanted: Filter) -> str:
        """Write it for the caller to bring back; good for this very filter."""
        packed = _CURSOR.pack(_CURSOR_VERSION, _digest(wanted), self.size, self.before)
        return urlsafe_b64encode(packed).rstrip(b"=").decode()

    @classmethod
    def parse(cls, token: str, wanted: Filter, size: int) -> Self:
        """Read a token; it grants nothing that the filter without it would not.

        Raises:
            SearchInvalid: no token, another search's, or of a longer log than this one of `size` entries.
        """
        try:
            packed = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
            version, digest, then, before = _CURSOR.unpack(packed)
        except (ValueError, struct.error) as error:
            raise SearchInvalid("page token", public="that is no page token") from error
        cursor = cls(then, before)
        if version != _CURSOR_VERSION or digest != _digest(wanted) or not before <= then <= size:
            raise SearchInvalid("page token", public="the page token belongs to another search")
        if cursor.token(wanted) != token:
            raise SearchInvalid("page token", public="that is no page token")
        return cursor


def _digest(wanted: Filter) -> bytes:
    return sha256(wanted.text.encode()).digest()[:8]
