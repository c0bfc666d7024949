"""What an entry can be found by: its terms, pairs of a field and a value.

The index is told every entry's terms, a search asks for those of its filter; both come from here, so they cannot
disagree. Members are taken as they come: an export may be anybody's, and what cannot be read is a term as well
(kind `unreadable`) rather than an entry that no search finds.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final

from audit.errors import EventInvalid
from audit.event import parse_time
from audit.member import INTEGER_MAX

UNREADABLE: Final = "unreadable"  # the kind of an entry that is no JSON object with a kind and a time
ANSWERED: Final = "answered"
REFUSED: Final = "refused"
REPEATED: Final = "repeated"  # answered for 0 bits: the answer that this input had before
OUTCOMES: Final = (ANSWERED, REFUSED, REPEATED)
FIELDS: Final = ("institution", "product", "version", "consent", "subject", "kind", "outcome", "code", "caller")
KEY_BYTES: Final = 16  # of BLAKE2b: two values of one key would be found as one, and nobody finds such two

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)

Entry = Mapping[str, Any]
Term = tuple[str, str]


@dataclass
class ConsentFacts:
    """What the log said of a consent so far; `ended` is the index of the entry that ended it for good."""

    granted: int
    id: str
    institution: str
    products: tuple[str, ...]
    tag: str
    authority: str
    ended: int | None = None


def read_entry(body: bytes) -> tuple[Entry, int | None]:
    """Read an entry's members and its time in Unix milliseconds; (kind `unreadable`, None) where that cannot be."""
    try:
        entry = json.loads(body)
        if b"\\u" in body:
            json.dumps(entry, ensure_ascii=False).encode()  # half a character is no text
        return (entry, to_ms(parse_time(entry["time"]))) if isinstance(entry["kind"], str) else _UNREADABLE
    except (ValueError, RecursionError, LookupError, TypeError, EventInvalid):
        return _UNREADABLE


def to_ms(time: datetime) -> int:
    """A moment in Unix milliseconds, cut down."""
    return (time - _EPOCH) // _MILLISECOND


def from_ms(ms: int) -> datetime:
    """The moment of Unix milliseconds."""
    return _EPOCH + ms * _MILLISECOND


def terms_of(entry: Entry, consent: ConsentFacts | None) -> Iterator[Term]:
    """List an entry's terms; one may come twice.

    Args:
        entry: its members.
        consent: the consent that it names by id or hash, where the log granted one.
    """
    kind = entry["kind"]
    yield "kind", kind
    yield from _texts("institution", entry.get("institution"))
    yield from _texts("product", entry.get("product"))
    if kind != "enclave.started":  # its version is the program's
        for name in ("version", "previous"):
            yield from _version_terms(entry.get(name))
    products = entry.get("products")
    if isinstance(products, list):
        for product in products:
            yield from _texts("product", product)
    yield from _texts("subject", entry.get("subject_tag"))
    yield from _texts("code", entry.get("code"))
    yield from _caller_terms(entry)
    yield from _outcome_terms(entry)
    for name in ("consent", "replaces"):
        yield from _texts("consent", entry.get(name))
    if consent is not None:
        yield "consent", consent.id
        yield "institution", consent.institution
        yield "subject", consent.tag
        if kind.startswith("consent."):  # a call is about the one product that it asked for
            for product in consent.products:
                yield "product", product


def key_of(field: str, value: str) -> bytes:
    """The 16 bytes under which a term stands in the index."""
    return blake2b(f"{field}\0{value}".encode(errors="surrogatepass"), digest_size=KEY_BYTES).digest()


def text_of(entry: Entry, name: str) -> str:
    """A member that is a text; "" where it is none."""
    value = entry.get(name)
    return value if isinstance(value, str) else ""


def count_of(entry: Entry, name: str) -> int:
    """A member that is a count; 0 where it is none."""
    value = entry.get(name)
    return value if type(value) is int and 0 <= value <= INTEGER_MAX else 0


def _texts(field: str, value: object) -> Iterator[Term]:
    if isinstance(value, str) and value:
        yield field, value


def _version_terms(version: object) -> Iterator[Term]:
    if isinstance(version, str) and version:
        product = version.rpartition("@")[0]
        yield "version", version
        yield from _texts("product", product)
        yield from _texts("institution", product.partition("/")[0])


def _caller_terms(entry: Entry) -> Iterator[Term]:
    for name in ("by", "caller"):
        value = entry.get(name)
        if isinstance(value, str) and value:
            yield "caller", value
            parts = value.split("/")
            if len(parts) > 2:  # role/organisation/person is found by its organisation too
                yield "caller", "/".join(parts[:2])
    if isinstance(entry.get("authority"), str) and entry["kind"] == "consent.granted":
        yield "caller", f"authority/{entry['authority']}"


def _outcome_terms(entry: Entry) -> Iterator[Term]:
    if entry["kind"] == "decision":
        yield "outcome", ANSWERED
        if entry.get("bits_milli") == 0:
            yield "outcome", REPEATED
    elif entry["kind"] == "refusal":
        yield "outcome", REFUSED


_UNREADABLE: Final = ({"kind": UNREADABLE}, None)
