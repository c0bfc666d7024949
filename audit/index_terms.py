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

_COMMON: Final = ("kind", "institution", "product", "version", "previous", "code", "by", "caller", "authority")
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
        entry = json.loads(body.decode())
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
    yield from common_terms(*common_members(entry))
    yield from own_terms(entry)
    if consent is not None:
        yield from consent_terms(consent, entry["kind"])


def common_members(entry: Entry) -> tuple[str, ...]:
    """The members that many entries have alike, for `common_terms`; "" where one is missing or no text."""
    repeated = "0" if entry.get("bits_milli") == 0 else ""
    return (*[value if type(value) is str else "" for value in map(entry.get, _COMMON)], repeated)


def common_terms(*members: str) -> tuple[Term, ...]:
    """The terms that follow from `common_members`."""
    kind, institution, product, version, previous, code, by, caller, authority, repeated = members
    found = [("kind", kind), ("institution", institution), ("product", product), ("code", code)]
    if kind != "enclave.started":  # its version is the program's
        for name in (version, previous):
            of = name.rpartition("@")[0]
            found += [("version", name), ("product", of), ("institution", of.partition("/")[0])]
    granted_by = f"authority/{authority}" if authority and kind == "consent.granted" else ""
    for who in (by, caller, granted_by):
        # role/organisation/person is found by its organisation too
        found += [("caller", who), ("caller", "/".join(who.split("/")[:2]))]
    outcome = {"decision": ANSWERED, "refusal": REFUSED}.get(kind, "")
    found += [("outcome", outcome), ("outcome", REPEATED if outcome == ANSWERED and repeated else "")]
    return tuple(term for term in found if term[1])


def own_terms(entry: Entry) -> Iterator[Term]:
    """The terms of an entry's other members."""
    products = entry.get("products")
    if isinstance(products, list):
        for product in products:
            yield from _texts("product", product)
    yield from _texts("subject", entry.get("subject_tag"))
    for name in ("consent", "replaces"):
        yield from _texts("consent", entry.get(name))


def consent_terms(consent: ConsentFacts, kind: str) -> Iterator[Term]:
    """The terms that follow for an entry of a kind from the consent that it names."""
    yield from _texts("consent", consent.id)
    yield from _texts("institution", consent.institution)
    yield from _texts("subject", consent.tag)
    if kind.startswith("consent."):  # a call is about the one product that it asked for
        for product in consent.products:
            yield from _texts("product", product)


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


_UNREADABLE: Final = ({"kind": UNREADABLE}, None)
