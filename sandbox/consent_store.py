"""Consents as the ledger keeps them: registered, changed, read back and verified again at every use."""

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from joserfc.jwk import KeySet
from sqlalchemy import Connection, Engine, bindparam, insert, select, update

from audit.event import format_time
from audit.kinds import AuthorityRevoked, ConsentGranted, ConsentPaused, ConsentResumed, ConsentRevoked, Event
from audit.ledger import Ledger, Position
from audit.prepared import Prepared
from model_registry.aead import seal, unseal
from model_registry.errors import StoredValueCorrupt
from model_registry.signing import organisation_of
from sandbox import tables
from sandbox.consent import TERMS, Consent, Terms, check_registrable, reverify_consent, verify_consent
from sandbox.consent_life import TRANSITIONS, Change, State, Uses, check_usable, next_state, shown_state
from sandbox.errors import (
    AuthorityAlreadyRevoked,
    AuthorityHasNoStanding,
    AuthorityUnknown,
    ConsentDuplicate,
    ConsentNotYours,
    ConsentUnknown,
    SubjectErased,
)
from sandbox.subject_keys import ensure_subject_cipher, subject_cipher
from sandbox.vault.sealing import VaultKeys

_REVOKED, _ERASED = tables.revoked_authority.c, tables.erased_subject.c
# A consent with what ended it from outside, in one statement: two more in every call would be felt.
_WHOLE = (
    select(tables.consent, _REVOKED.idx.label("invalidated"), _ERASED.idx.label("erased"))
    .outerjoin_from(tables.consent, tables.revoked_authority, _REVOKED.authority == tables.consent.c.authority)
    .outerjoin(tables.erased_subject, _ERASED.subject_tag == tables.consent.c.subject_tag)
)
_CONSENT = Prepared(_WHOLE.where(tables.consent.c.consent_id == bindparam("id")))
_REGISTERED = select(tables.consent.c.consent_id).where(
    (tables.consent.c.subject_tag == bindparam("tag")) & (tables.consent.c.authority == bindparam("authority"))
)
_ARTEFACT = Prepared(select(tables.artefact.c.body).where(tables.artefact.c.consent_id == bindparam("id")))
_SPEND = Prepared(
    update(tables.consent)
    .where(tables.consent.c.consent_id == bindparam("id"))
    .values(uses=bindparam("spent"), period=bindparam("in_unit"), period_uses=bindparam("spent_in_unit"))
)
_CHANGING = frozenset({"state", "uses", "period", "period_uses"})  # columns that a registered consent's row may change
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
    quota: Uses
    granted_index: int

    @property
    def uses(self) -> int:
        """Uses spent."""
        return self.quota.spent

    @property
    def max_uses(self) -> int:
        """Uses allowed."""
        return self.quota.allowed


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
    terms: Terms = TERMS

    async def register(self, raw: bytes, authority: str) -> ConsentRecord:
        """Verifies and registers a signed consent; one that it replaces ends with it.

        Raises:
            ConsentInvalid: signature, claims or caps.
            ConsentNotYours: signed by another authority than the caller.
            ConsentDuplicate: its id is registered already.
            AuthorityHasNoStanding: the authority was revoked.
            ConsentUnknown, ConsentTransition: what it replaces is not there, or at an end.
        """
        consent, retires = verify_consent(raw, self.authorities, self.terms)
        if consent.iss != authority:
            raise ConsentNotYours("issuer", public="the consent was signed by another authority")

        def change(connection: Connection, position: Position) -> tuple[Event, None]:
            check_registrable(consent, position.time, retires)
            if _is_revoked(connection, authority):
                raise AuthorityHasNoStanding("register")
            if _row(connection, consent.jti) is not None:
                raise ConsentDuplicate("jti")
            tag = self.keys.subject_tag(consent.sub)
            if consent.replaces is not None:
                _supersede(connection, consent, tag)
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
            _set_state(connection, consent_id, next_state(_state(row), what))
            return _EVENTS[what](consent=consent_id, by=by, reason=reason), None

        done = await self.ledger.append(apply)
        return self.get(consent_id, authority, done.time), done.index

    def get(self, consent_id: str, authority: str, now: datetime) -> ConsentRecord:
        """A consent of this authority as it stands now; raises ConsentUnknown."""
        with self.engine.connect() as connection:
            row = _own(connection, consent_id, authority)
        return _record(row, _shown(row, now))

    async def revoke_authority(self, authority: str, by: str, reason: str) -> int:
        """Ends an authority's standing; returns the index of its entry: none above it uses a consent of its own.

        Raises:
            AuthorityUnknown: nobody of that name has a key or registered a consent: a slip must not look like success.
            AuthorityAlreadyRevoked: it has none any more.
        """

        def change(connection: Connection, position: Position) -> tuple[Event, None]:
            if _is_revoked(connection, authority):
                raise AuthorityAlreadyRevoked("revoked")
            if not self._knows(connection, authority):
                raise AuthorityUnknown("revoke")
            connection.execute(insert(tables.revoked_authority).values(authority=authority, idx=position.index))
            return AuthorityRevoked(authority=authority, by=by, reason=reason), None

        return (await self.ledger.append(change)).index

    def _knows(self, connection: Connection, authority: str) -> bool:
        if any(organisation_of(str(key.kid)) == authority for key in self.authorities.keys):
            return True
        registered = select(tables.consent.c.consent_id).where(tables.consent.c.authority == authority).limit(1)
        return connection.execute(registered).first() is not None

    def check_acts_for(self, authority: str, tag: str) -> None:
        """Whose consent an authority registered, whatever became of it, it acts for while it has standing.

        Raises:
            ConsentUnknown: it registered none.
            AuthorityHasNoStanding: it was revoked.
        """
        with self.engine.connect() as connection:
            check_acts_for(connection, authority, tag)

    def of_subject(self, tag: str, now: datetime, most: int) -> list[ConsentRecord]:
        """The newest consents of a subject as they stand now, newest first."""
        columns = tables.consent.c
        query = _WHOLE.where(columns.subject_tag == tag).order_by(columns.granted_index.desc()).limit(most)
        with self.engine.connect() as connection:
            rows = connection.execute(query).all()
        return [_record(row, _shown(row, now)) for row in rows]

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
        _check_not_erased(row)
        raw = self._open(connection, row)
        consent, _ = reverify_consent(raw, self.authorities, self.terms)
        signed = _columns(consent, raw, row.subject_tag, row.granted_index)
        if any(signed[name] != getattr(row, name) for name in signed.keys() - _CHANGING):
            raise StoredValueCorrupt("a consent's row is not what was signed")
        return consent, _record(row, _state(row))

    def _open(self, connection: Connection, row: Any) -> bytes:
        cipher = subject_cipher(connection, self.keys, row.subject_tag)
        sealed = _ARTEFACT.scalar(connection, id=row.consent_id)
        if sealed is None:
            raise StoredValueCorrupt("a consent without its artefact")
        try:
            return unseal(cipher, sealed, row.consent_id.encode())
        except StoredValueCorrupt:
            # The subject may have been erased, and have come back with another key, since its row was read.
            _check_not_erased(_row(connection, row.consent_id))
            raise


def spend_use(connection: Connection, consent_id: str, signed: Uses, now: datetime) -> int:
    """Spends a use inside the commit of a decision; returns which use it was, from 1.

    Args:
        connection: of the ledger's transaction.
        consent_id: the consent.
        signed: how many uses were signed for; the row's own numbers are not asked.
        now: the entry's time.

    Raises:
        ConsentRefused: what the state at this index does not allow, whatever it was before.
        SubjectErased: the subject was erased since it consented.
    """
    row = _row(connection, consent_id)
    if row is None:
        raise ConsentUnknown("no such consent")
    _check_not_erased(row)
    quota = replace(signed, spent=row.uses, period=row.period, in_period=row.period_uses)
    check_usable(_state(row), quota, now)
    spent = quota.spend_at(now)
    _SPEND.run(connection, id=consent_id, spent=spent.spent, in_unit=spent.period, spent_in_unit=spent.in_period)
    return spent.spent


def check_acts_for(connection: Connection, authority: str, tag: str) -> None:
    """As ConsentStore.check_acts_for; for what an authority changes, inside the transaction that changes it."""
    if _is_revoked(connection, authority):
        raise AuthorityHasNoStanding("act")
    if connection.execute(_REGISTERED, {"tag": tag, "authority": authority}).first() is None:
        raise ConsentUnknown("disclosure", public="your authority registered none of this subject")


def _supersede(connection: Connection, consent: Consent, tag: str) -> None:
    old = _own(connection, str(consent.replaces), consent.iss)
    if (old.subject_tag, old.institution, old.purpose) != (tag, consent.institution, consent.purpose.code):
        raise ConsentUnknown("replaces", public="`replaces` is for another subject, institution or purpose")
    _set_state(connection, old.consent_id, next_state(_state(old), Change.SUPERSEDE))


def _set_state(connection: Connection, consent_id: str, state: State) -> None:
    mine = tables.consent.c.consent_id == consent_id
    connection.execute(update(tables.consent).where(mine).values(state=state))


def _is_revoked(connection: Connection, authority: str) -> bool:
    return connection.execute(select(_REVOKED.idx).where(_REVOKED.authority == authority)).first() is not None


def _state(row: Any) -> State:
    """Where a row's consent stands: an authority's revocation ends those of its consents that had not ended before."""
    stored = State(row.state)
    if row.invalidated is None or (stored, Change.INVALIDATE) not in TRANSITIONS:
        return stored
    return next_state(stored, Change.INVALIDATE)


def _shown(row: Any, now: datetime) -> State:
    return shown_state(_state(row), _quota(row), row.expires, now)


def _check_not_erased(row: Any) -> None:
    if row.erased is not None and row.erased > row.granted_index:
        raise SubjectErased("erased since")


def _quota(row: Any) -> Uses:
    return Uses(row.uses, row.max_uses, row.frequency_unit, row.frequency, row.period, row.period_uses)


def _row(connection: Connection, consent_id: str) -> Any:
    return _CONSENT.one(connection, id=consent_id)


def _own(connection: Connection, consent_id: str, authority: str) -> Any:
    row = _row(connection, consent_id)
    # Another authority's consent looks the same as none.
    if row is None or row.authority != authority:
        raise ConsentUnknown("no such consent of this authority")
    return row


def _columns(consent: Consent, raw: bytes, tag: str, index: int) -> dict[str, object]:
    often = consent.frequency
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
        "frequency_unit": None if often is None else often.unit,
        "frequency": None if often is None else often.value,
        "period": None,
        "period_uses": 0,
        "replaces": consent.replaces,
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
        quota=_quota(row),
        granted_index=row.granted_index,
    )


def _granted(consent: Consent, raw: bytes, tag: str) -> ConsentGranted:
    often = consent.frequency
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
        frequency_unit=None if often is None else often.unit,
        frequency=None if often is None else often.value,
        replaces=consent.replaces,
    )
