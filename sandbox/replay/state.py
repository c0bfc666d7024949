"""What the log says that is so: the state that the tables must be equal to. `touched` = the entry that said it last."""

from dataclasses import dataclass, field
from datetime import datetime
from sys import intern

from audit.event import parse_time
from audit.kinds import ConsentGranted, VersionSubmitted
from model_registry.lifecycle import State as VersionState
from sandbox.consent_life import State as ConsentState


@dataclass(slots=True)
class ConsentNow:
    """A consent's terms, where it stands, and how far it is used up. Texts are shared: there are many consents."""

    consent_hash: str
    authority: str
    institution: str
    products: tuple[str, ...]
    purpose: str
    subject_tag: str
    not_before: datetime
    expires: datetime
    max_uses: int
    unit: str | None
    frequency: int | None
    replaces: str | None
    index: int
    touched: int
    state: ConsentState = ConsentState.GRANTED
    uses: int = 0
    period: str | None = None
    period_uses: int = 0

    @classmethod
    def of(cls, event: ConsentGranted, index: int) -> "ConsentNow":
        """A consent as it was registered."""
        return cls(
            event.consent_hash,
            intern(event.authority),
            intern(event.institution),
            tuple(map(intern, event.products)),
            intern(event.purpose),
            intern(event.subject_tag),
            parse_time(event.not_before),
            parse_time(event.expires),
            event.max_uses,
            event.frequency_unit and intern(event.frequency_unit),
            event.frequency,
            event.replaces,
            index,
            index,
        )


@dataclass(slots=True)
class VersionNow:
    """A version; `holders` (`role/organisation`) hold it back; `price` = of its answers, once one is known.

    `stewards` = the departments that ever held it back or let it go, with the entry: whether it reads their data, its
    manifest says, which the log does not have.
    """

    submitted: VersionSubmitted
    at: datetime
    touched: int
    state: VersionState = VersionState.SUBMITTED
    approved_by: str | None = None
    holders: dict[str, int] = field(default_factory=dict)
    stewards: list[tuple[str, int]] = field(default_factory=list)
    price: int = 0


@dataclass(slots=True)
class KeyNow:
    """An HPKE key: its epoch, since which entry, until when it lives where a newer one is there, what destroyed it."""

    epoch: int
    key_id: str
    index: int
    at: datetime
    touched: int
    until: datetime | None = None
    destroyed: int | None = None


@dataclass(slots=True)
class DatasetNow:
    """A dataset."""

    touched: int
    suspended: bool = False
    loads: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Promotion:
    """That a version became champion."""

    index: int
    product: str
    version: str
    at: datetime


@dataclass(frozen=True, slots=True)
class VersionNoted:
    """A line of a product's history."""

    index: int
    version: str
    kind: str
    by: str
    why: str
    at: datetime


@dataclass(slots=True)
class Counted:
    """A number that only grows, and the entry that said it last."""

    value: int
    touched: int


Account = tuple[str, str, int]  # subject tag, institution, calendar year (UTC)


@dataclass
class Room:
    """All of it."""

    consents: dict[str, ConsentNow] = field(default_factory=dict)
    by_index: dict[int, ConsentNow] = field(default_factory=dict)
    authorities_revoked: dict[str, int] = field(default_factory=dict)
    subjects: dict[str, int] = field(default_factory=dict)  # tags that have a key, and the entry since
    erased: dict[str, int] = field(default_factory=dict)  # tag → the entry that erased it last
    versions: dict[str, VersionNow] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)  # product → number of its newest version
    promotions: list[Promotion] = field(default_factory=list)
    champions: dict[str, Promotion] = field(default_factory=dict)  # product → the newest
    history: list[VersionNoted] = field(default_factory=list)
    datasets: dict[str, DatasetNow] = field(default_factory=dict)
    sequences: dict[str, Counted] = field(default_factory=dict)
    budgets: dict[Account, Counted] = field(default_factory=dict)
    answered: dict[str, set[str]] = field(default_factory=dict)  # version → tags of subjects it has answered about
    evidence: tuple[str, str, str] | None = None  # hash, format, isolation: of the last start or rotation
    keys: list[KeyNow] = field(default_factory=list)  # oldest epoch first


def is_of(by: str, role: str, organisation: str) -> bool:
    """Whether who acted, `<role>/<organisation>[/<person>]`, is of an organisation."""
    return by.split("/")[:2] == [role, organisation]
