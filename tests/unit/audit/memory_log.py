"""A log in memory, as a source of tiles; and entries of every kind that the index looks into."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from audit.errors import EntryUnknown
from audit.event import encode
from audit.kinds import (
    AuditChecked,
    AuditRead,
    ConsentGranted,
    ConsentRevoked,
    Event,
    Refusal,
    RollbackAccepted,
    VersionPromoted,
)
from audit.merkle import leaf_hash, node_hash, root_hash
from audit.note import Checkpoint
from audit.tiles import ENTRIES, TILE_HEIGHT, TILE_WIDTH, Tile, encode_bundle, encode_tile
from tests.unit.audit.vectors import DIGEST, ORIGIN, START, decision, signer

BANKS = ("bank", "other-bank")
CALLERS = ("application/portal", "application/portal/anna", "application/desk")
CODES = ("consent_revoked", "budget_spent", "jail_unavailable", "consent_unknown")


class MemoryLog:
    """Entries and their tree; `size` may be set back, as by a rollback."""

    def __init__(self, bodies: Iterable[bytes] = ()) -> None:
        self.bodies: list[bytes] = []
        self._nodes: dict[tuple[int, int], bytes] = {}
        self.append(bodies)

    def append(self, bodies: Iterable[bytes]) -> None:
        """Add entries."""
        for body in bodies:
            self._nodes[0, len(self.bodies)] = leaf_hash(body)
            self.bodies.append(body)

    @property
    def head(self) -> Checkpoint:
        """The tree head."""
        size = len(self.bodies)
        return Checkpoint(ORIGIN, size, root_hash(size, self._hash))

    def checkpoint(self) -> str:
        """As LogSource."""
        return signer().sign(self.head.text)

    def read(self, tile: Tile) -> bytes:
        """As LogSource."""
        first, end = tile.index * TILE_WIDTH, tile.index * TILE_WIDTH + tile.width
        if tile.level == ENTRIES:
            if end > len(self.bodies):
                raise EntryUnknown("no such bundle")
            return encode_bundle(self.bodies[first:end])
        return encode_tile([self._hash(tile.level * TILE_HEIGHT, at) for at in range(first, end)])

    def _hash(self, level: int, index: int) -> bytes:
        if (level, index) not in self._nodes:
            children = (self._hash(level - 1, 2 * index + side) for side in (0, 1))
            self._nodes[level, index] = node_hash(*children)
        return self._nodes[level, index]


def tag_of(subject: int) -> str:
    """A subject's tag."""
    return f"{subject:032x}"


def consent_id(number: int) -> str:
    """A consent's id."""
    return f"00000000-0000-4000-8000-{number:012x}"


def consent_hash(number: int) -> str:
    """A consent's hash."""
    return f"{number:064x}"


def granted(number: int, subject: int, bank: str = "bank", **changed: Any) -> ConsentGranted:
    """An entry of a consent for one product of a bank."""
    members: dict[str, Any] = {
        "consent": consent_id(number),
        "consent_hash": consent_hash(number),
        "authority": "consent-office",
        "institution": bank,
        "products": (f"{bank}/loan", f"{bank}/card"),
        "purpose": "precredit",
        "subject_tag": tag_of(subject),
        "field_set_hash": DIGEST,
        "not_before": "2026-11-23T08:00:00.000Z",
        "expires": "2026-12-23T08:00:00.000Z",
        "max_uses": 5,
        "frequency_unit": None,
        "frequency": None,
        "replaces": None,
    }
    return ConsentGranted(**(members | changed))


def revoked(number: int) -> ConsentRevoked:
    """A consent's end."""
    return ConsentRevoked(consent=consent_id(number), by="authority/consent-office", reason="subject-request")


def answered(number: int, subject: int, bank: str = "bank", **changed: Any) -> Event:
    """An answered call under a consent."""
    members = {
        "institution": bank,
        "product": f"{bank}/loan",
        "version": f"{bank}/loan@1",
        "consent_hash": consent_hash(number),
        "subject_tag": tag_of(subject),
    }
    return decision(**(members | changed))


def refusal(code: str, number: int | None = None, caller: str = CALLERS[0], **changed: Any) -> Refusal:
    """A refused call."""
    members: dict[str, Any] = {
        "code": code,
        "caller": caller,
        "request_hash": DIGEST,
        "institution": "bank" if number is not None else "",
        "product": "bank/loan" if number is not None else "",
        "version": None,
        "consent_hash": None if number is None else consent_hash(number),
        "subject_tag": None,
        "seq": 0 if number is None else 1,
    }
    return Refusal(**(members | changed))


def other_kinds() -> list[Event]:
    """One event of each kind that the index treats in its own way, beside calls and consents."""
    return [
        VersionPromoted(version="bank/loan@2", by="institution/bank/bob", previous="bank/loan@1", previous_index=0),
        AuditRead(by="auditor/office", what="entry 1"),
        AuditChecked(by="service", size=3, integrity="sound", completeness="broken", first_bad=2),
        RollbackAccepted(by="operator", reason="log shorter", anchored=None, anchor_hash=None),
    ]


def bodies(events: Iterable[Event], step_ms: int = 1, start: datetime = START) -> list[bytes]:
    """The entries of events, a step apart in time."""
    step = timedelta(milliseconds=step_ms)
    return [encode(event, start + number * step) for number, event in enumerate(events)]
