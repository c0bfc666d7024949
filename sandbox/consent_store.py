"""Consents as the ledger keeps them: registered, changed, read back and verified again at every use."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from joserfc.jwk import KeySet
from sqlalchemy import Connection, Engine, bindparam, insert, select, update

from audit.event import ConsentGranted, ConsentPaused, ConsentResumed, ConsentRevoked, Event, format_time
from audit.ledger import Ledger, Position
from audit.prepared import Prepared
from model_registry.aead import seal, unseal
from model_registry.errors import StoredValueCorrupt
from sandbox import tables
from sandbox.consent import (
    Change,
    Consent,
    State,
    check_registrable,
    check_usable,
    next_state,
    reverify_consent,
    shown_state,
    verify_consent,
)
from sandbox.errors import ConsentDuplicate, ConsentNotYours, ConsentUnknown
from sandbox.subject_keys import check_not_erased, ensure_subject_cipher, subject_cipher
from sandbox.vault.sealing import VaultKeys

_CONSENT = Prepared(select(tables.consent).where(tables.consent.c.consent_id == bindparam("id")))
_REGISTERED = select(tables.consent.c.consent_id).where(
    (tables.consent.c.subject_tag == bindparam("tag")) & (tables.consent.c.authority == bindparam("authority"))
)
_ARTEFACT = Prepared(select(tables.artefact.c.body).where(tables.artefact.c.consent_id == bindparam("id")))
_SPEND = Prepared(
    update(tables.consent).where(tables.consent.c.consent_id == bindparam("id")).values(uses=bindparam("spent"))
)
_EVENTS = {Change.PAUSE: ConsentPaused, Change.RESUME: ConsentResumed, Change.REVOKE: ConsentRevoked}


@dataclass(frozen=True)
class ConsentRecord:
    """Where a consent stands: what its log entries say, without the artefact."""

    consent_id: str
    consent_hash: str
    institution: str
    products: tuple[str, ...]
    purpose: str
    state: State
    not_before: int
    expires: int
    uses: int
    max_uses: int
    granted_index: int


def consent_hash(raw: bytes) -> str:
    """How the log names a consent: SHA-256, hex, of the signed artefact's bytes.

    The claims alone would not do: but for the subject they are in the log or alike for everybody, and credit codes are
    public, so a bare hash of them could be tried out. The signature is what nobody else has.
    """
    return hashlib.sha256(raw).hexdigest()


@dataclass(frozen=True)
class ConsentStore:
    """The consents of one enclave; `authorities` are the public keys of the consent authorities."""

    ledger: Ledger
    engine: Engine
    keys: VaultKeys
    authorities: KeySet

    async def register(self, raw: bytes, authority: str) -> ConsentRecord:
        """Verifies and registers a signed consent.

        Raises:
            ConsentInvalid: signature, claims or caps.
            ConsentNotYours: signed by another authority than the caller.
            ConsentDuplicate: its id is registered already.
        """
        consent = verify_consent(raw, self.authorities)
        if consent.iss != authority:
            raise ConsentNotYours("issuer", public="the consent was signed by another authority")

        def change(connection: Connection, position: Position) -> tuple[Event, None]:
            check_registrable(consent, position.time)
            if _row(connection, consent.jti) is not None:
                raise ConsentDuplicate("jti")
            tag = self.keys.subject_tag(consent.sub)
            cipher = ensure_subject_cipher(connection, self.keys, tag)
            connection.execute(insert(tables.consent).values(_columns(consent, raw, tag, position.index)))
            body = seal(cipher, raw, consent.jti.encode())
            connection.execute(insert(tables.artefact).values(consent_id=consent.jti, body=body))
            return _granted(consent, raw, tag), None

        done = await self.ledger.append(change)
        return self.get(consent.jti, authority, done.time)

    async def change(
        self, consent_id: str, what: Change, authority: str, by: str, reason: str
    ) -> tuple[ConsentRecord, int]:
        """Pauses, resumes or revokes; returns when durable, with the index of the entry.

        The artefact is not looked at: a revocation must succeed although its authority's key is no longer trusted.

        Raises:
            ConsentUnknown: no such consent of this authority.
            ConsentTransition: its state does not allow that.
        """

        def apply(connection: Connection, _: Position) -> tuple[Event, None]:
            row = _own(connection, consent_id, authority)
            state = next_state(State(row.state), what)
            mine = tables.consent.c.consent_id == consent_id
            connection.execute(update(tables.consent).where(mine).values(state=state))
            return _EVENTS[what](consent=consent_id, by=by, reason=reason), None

        done = await self.ledger.append(apply)
        return self.get(consent_id, authority, done.time), done.index

    def get(self, consent_id: str, authority: str, now: datetime) -> ConsentRecord:
        """A consent of this authority as it stands now; raises ConsentUnknown."""
        with self.engine.connect() as connection:
            row = _own(connection, consent_id, authority)
        return _record(row, shown_state(State(row.state), row.uses, row.max_uses, row.expires, now))

    def check_acts_for(self, authority: str, tag: str) -> None:
        """Whose consent an authority registered, whatever became of it, it acts for; raises ConsentUnknown."""
        with self.engine.connect() as connection:
            if connection.execute(_REGISTERED, {"tag": tag, "authority": authority}).first() is None:
                raise ConsentUnknown("disclosure", public="your authority registered none of this subject")

    def of_subject(self, tag: str, now: datetime) -> list[ConsentRecord]:
        """Every consent of a subject as it stands now, newest first."""
        columns = tables.consent.c
        query = select(tables.consent).where(columns.subject_tag == tag).order_by(columns.granted_index.desc())
        with self.engine.connect() as connection:
            rows = connection.execute(query).all()
        return [_record(r, shown_state(State(r.state), r.uses, r.max_uses, r.expires, now)) for r in rows]

    def for_use(self, connection: Connection, consent_id: str) -> tuple[Consent, ConsentRecord]:
        """A consent for a call, its signature and caps verified again. Whether it may be used, the caller checks.

        The row's columns are for changing and finding; what was signed must stand in them unchanged.

        Raises:
            ConsentUnknown, ConsentInvalid, SubjectErased.
            StoredValueCorrupt: the row says other than the signed claims.
        """
        row = _row(connection, consent_id)
        if row is None:
            raise ConsentUnknown("no such consent")
        check_not_erased(connection, row.subject_tag, row.granted_index)
        cipher = subject_cipher(connection, self.keys, row.subject_tag)
        sealed = _ARTEFACT.scalar(connection, id=consent_id)
        if sealed is None:
            raise StoredValueCorrupt("a consent without its artefact")
        raw = unseal(cipher, sealed, consent_id.encode())
        consent, _ = reverify_consent(raw, self.authorities)
        signed = _columns(consent, raw, row.subject_tag, row.granted_index)
        if any(signed[name] != getattr(row, name) for name in signed.keys() - {"state", "uses"}):
            raise StoredValueCorrupt("a consent's row is not what was signed")
        return consent, _record(row, State(row.state))


def spend_use(connection: Connection, consent_id: str, max_uses: int) -> int:
    """Spends a use inside the commit of a decision; returns which use it was, from 1.

    Args:
        connection: of the ledger's transaction.
        consent_id: the consent.
        max_uses: as signed; the row's own number is not asked.

    Raises:
        ConsentPaused, ConsentRevoked, ConsentExhausted: the state at this index, whatever it was before.
    """
    row = _row(connection, consent_id)
    if row is None:
        raise ConsentUnknown("no such consent")
    check_usable(State(row.state), row.uses, max_uses)
    _SPEND.run(connection, id=consent_id, spent=row.uses + 1)
    return int(row.uses) + 1


def _row(connection: Connection, consent_id: str) -> Any:
    return _CONSENT.one(connection, id=consent_id)


def _own(connection: Connection, consent_id: str, authority: str) -> Any:
    row = _row(connection, consent_id)
    # Another authority's consent looks the same as none.
    if row is None or row.authority != authority:
        raise ConsentUnknown("no such consent of this authority")
    return row


def _columns(consent: Consent, raw: bytes, tag: str, index: int) -> dict[str, object]:
    return {
        "consent_id": consent.jti,
        "consent_hash": consent_hash(raw),
        "authority": consent.iss,
        "institution": consent.institution,
        "products": json.dumps(consent.products),
        "purpose": consent.purpose.code,
        "subject_tag": tag,
        "state": State.GRANTED,
        "not_before": consent.nbf,
        "expires": consent.exp,
        "uses": 0,
        "max_uses": consent.max_uses,
        "granted_index": index,
    }


def _record(row: Any, state: State) -> ConsentRecord:
    return ConsentRecord(
        consent_id=row.consent_id,
        consent_hash=row.consent_hash,
        institution=row.institution,
        products=tuple(json.loads(row.products)),
        purpose=row.purpose,
        state=state,
        not_before=row.not_before,
        expires=row.expires,
        uses=row.uses,
        max_uses=row.max_uses,
        granted_index=row.granted_index,
    )


def _granted(consent: Consent, raw: bytes, tag: str) -> ConsentGranted:
    return ConsentGranted(
        consent=consent.jti,
        consent_hash=consent_hash(raw),
        authority=consent.iss,
        institution=consent.institution,
        products=consent.products,
        purpose=consent.purpose.code,
        subject_tag=tag,
        field_set_hash=consent.field_set_hash,
        not_before=format_time(datetime.fromtimestamp(consent.nbf, UTC)),
        expires=format_time(datetime.fromtimestamp(consent.exp, UTC)),
        max_uses=consent.max_uses,
        frequency_unit=None,
        frequency=None,
        replaces=None,
    )
