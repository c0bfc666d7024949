"""What a subject may know about itself: its consents, who used its data, and what proves it.

Who asks has been looked at above. Everything here reads what belongs to one subject tag, newest first, as of the log's
last commit; it takes disk reads for each use, so it is run in a thread.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

from joserfc.util import urlsafe_b64decode
from sqlalchemy import Connection, Select, bindparam, func, select

from audit import event, kinds
from audit.errors import EntryUnknown
from audit.ledger import Ledger
from audit.receipt import OFFER, Opening
from model_registry.aead import unseal
from model_registry.errors import StoredValueCorrupt
from sandbox import calls, tables
from sandbox.consent_life import Change
from sandbox.consent_store import ConsentRecord, ConsentStore, consent_hash
from sandbox.errors import ConsentUnknown, SubjectErased
from sandbox.subject_keys import check_not_erased, erased_at, subject_cipher
from sandbox.vault.sealing import VaultKeys

_CALLS = tables.call.c
_OF_SUBJECT = (_CALLS.subject_tag == bindparam("tag")) & (_CALLS.idx < bindparam("before"))
_PAGE = select(tables.call).where(_OF_SUBJECT).order_by(_CALLS.idx.desc()).limit(bindparam("count"))
_TOTAL = select(func.count()).where(_OF_SUBJECT)
_USE = select(tables.call).where((_CALLS.subject_tag == bindparam("tag")) & (_CALLS.idx == bindparam("index")))
_CONSENTS_AT = (
    select(tables.consent, tables.artefact.c.body)
    .join(tables.artefact, tables.artefact.c.consent_id == tables.consent.c.consent_id)
    .where(tables.consent.c.subject_tag == bindparam("tag"))
    .where(tables.consent.c.granted_index.in_(bindparam("indexes", expanding=True)))
)
LISTED_MAX = 500  # consents in one answer: some 400 bytes each, and a message has 2 MiB
_AT_ONCE = 16  # texts in memory: one may have 128 KiB, and an authority can register any number about a subject
_AUTHORITY = select(tables.consent.c.authority).where(
    (tables.consent.c.consent_id == bindparam("id")) & (tables.consent.c.subject_tag == bindparam("tag"))
)


class Outcome(StrEnum):
    """What came of a use, as far as its subject is told."""

    OFFER = "offer"
    NO_OFFER = "no_offer"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Use:
    """One use of a subject's data; `departments` and `outcome` are unknown where its key was destroyed since."""

    at: datetime
    institution: str
    product: str
    purpose: str
    consent_id: str
    departments: tuple[str, ...]
    outcome: Outcome
    bits_milli: int
    index: int


@dataclass(frozen=True)
class UsePage:
    """Some uses, newest first; `more` = there are older ones; `total` = uses in all."""

    uses: tuple[Use, ...]
    more: bool
    total: int


@dataclass(frozen=True)
class SubjectConsent:
    """A consent as its subject sees it; `erased` = its text went with the key, and it permits nothing."""

    record: ConsentRecord
    authority: str
    departments: tuple[str, ...]
    erased: bool


@dataclass(frozen=True)
class Proof:
    """The parts of a receipt; the opening is None where the subject was erased since."""

    entry: bytes
    proof: str
    opening: Opening | None


@dataclass
class SubjectView:
    """Serves subjects, by their tags."""

    consents: ConsentStore

    @cached_property
    def since(self) -> datetime:
        """When the log's first entry was written: nothing older is known."""
        return event.decode(self._ledger.entry(0))[1]

    def list_consents(self, tag: str, now: datetime) -> list[SubjectConsent]:
        """The newest consents, at most LISTED_MAX, newest first."""
        records = self.consents.of_subject(tag, now, LISTED_MAX)
        with self.consents.engine.connect() as connection:
            wanted = {"tag": tag, "indexes": [record.granted_index for record in records]}
            known = {one.consent_id: one for one in self._known(connection, _CONSENTS_AT, wanted)}
            erased = erased_at(connection, tag)
        return [
            SubjectConsent(
                record=record,
                authority=known[record.consent_id].authority,
                departments=known[record.consent_id].departments,
                erased=record.granted_index < erased,
            )
            for record in records
        ]

    def list_uses(self, tag: str, count: int, before: int | None = None) -> UsePage:
        """Up to `count` uses whose entries come before index `before`."""
        size = self._ledger.size  # a call committed this instant is one of the next look
        end = size if before is None else min(before, size)
        with self.consents.engine.connect() as connection:
            rows = connection.execute(_PAGE, {"tag": tag, "before": end, "count": count + 1}).all()
            total = connection.execute(_TOTAL, {"tag": tag, "before": size}).scalar_one()
            told = [self._told(row) for row in rows[:count]]
            wanted = {"tag": tag, "indexes": sorted({decision.consent_index for decision, _ in told})}
            consents = {one.granted_index: one for one in self._known(connection, _CONSENTS_AT, wanted)}
            uses = tuple(
                self._use(connection, row, *what, consents) for row, what in zip(rows[:count], told, strict=True)
            )
        return UsePage(uses, len(rows) > count, total)

    def prove(self, tag: str, index: int) -> Proof:
        """What proves one use; raises EntryUnknown where entry `index` is none of this subject's uses."""
        with self.consents.engine.connect() as connection:
            row = connection.execute(_USE, {"tag": tag, "index": index}).one_or_none()
            if row is None or index >= self._ledger.size:
                raise EntryUnknown("no use of this subject")
            kept = calls.opened(connection, self._keys, row)
        opening = None if kept is None else Opening(kept.salt, kept.limit)
        return Proof(self._ledger.entry(index), self._ledger.prove(index), opening)

    async def revoke(self, tag: str, consent_id: str, by: str, reason: str) -> tuple[ConsentRecord, int]:
        """Revokes a consent of this subject; returns when durable, with the index of the entry.

        Raises:
            ConsentUnknown: no such consent of this subject; another's looks the same as none.
            ConsentTransition: it ended already.
        """
        with self.consents.engine.connect() as connection:
            authority = connection.execute(_AUTHORITY, {"id": consent_id, "tag": tag}).scalar_one_or_none()
        if authority is None:
            raise ConsentUnknown("no such consent of this subject")
        return await self.consents.change(consent_id, Change.REVOKE, authority, by, reason)

    def _told(self, row: Any) -> tuple[kinds.Decision, datetime]:
        told, at = event.decode(self._ledger.entry(row.idx))
        if not isinstance(told, kinds.Decision) or told.subject_tag != row.subject_tag:
            raise StoredValueCorrupt("an answer is kept under an entry that is not its decision")
        return told, at

    def _use(
        self, connection: Connection, row: Any, told: kinds.Decision, at: datetime, consents: "Mapping[int, _Known]"
    ) -> Use:
        kept = calls.opened(connection, self._keys, row)
        consent = consents.get(told.consent_index)
        if consent is None:
            raise StoredValueCorrupt("a decision names a consent that is not its subject's")
        return Use(
            at=at,
            institution=told.institution,
            product=told.product,
            purpose=consent.purpose,
            consent_id=consent.consent_id,
            departments=consent.departments,
            outcome=_outcome(kept),
            bits_milli=told.bits_milli,
            index=row.idx,
        )

    def _known(self, connection: Connection, query: Select[Any], wanted: Mapping[str, Any]) -> "Iterator[_Known]":
        """Consents by their rows, one after another: no more than a few texts are held at a time."""
        for row in connection.execute(query, wanted).yield_per(_AT_ONCE):
            departments = _departments(connection, self._keys, row)
            yield _Known(row.granted_index, row.consent_id, row.authority, row.purpose, departments)

    @property
    def _ledger(self) -> Ledger:
        return self.consents.ledger

    @property
    def _keys(self) -> VaultKeys:
        return self.consents.keys


@dataclass(frozen=True)
class _Known:
    """What is shown of a consent's text, without the text."""

    granted_index: int
    consent_id: str
    authority: str
    purpose: str
    departments: tuple[str, ...]


def _departments(connection: Connection, keys: VaultKeys, row: Any) -> tuple[str, ...]:
    """Whose data a consent opens, by its signed text; none where that is erased.

    The signature was verified when it was registered, under a key that may not be trusted any more: here the hash that
    the log has is enough.
    """
    try:
        check_not_erased(connection, row.subject_tag, row.granted_index)
        raw = unseal(subject_cipher(connection, keys, row.subject_tag), row.body, row.consent_id.encode())
    except SubjectErased:
        return ()
    if consent_hash(raw) != row.consent_hash:
        raise StoredValueCorrupt("a consent's text is not what was registered")
    claims = json.loads(urlsafe_b64decode(json.loads(raw)["payload"].encode()))
    return tuple(dict.fromkeys(scope["department"] for scope in claims["data"]))


def _outcome(kept: calls.Kept | None) -> Outcome:
    if kept is None:
        return Outcome.UNKNOWN
    return Outcome.OFFER if Opening(kept.salt, kept.limit).outcome == OFFER else Outcome.NO_OFFER
