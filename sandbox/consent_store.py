"""Consents as the ledger keeps them: registered, changed, read back and verified again at every use."""

from dataclasses import dataclass
from datetime import UTC, datetime

from joserfc.jwk import KeySet
from sqlalchemy import Connection, Engine, Row, bindparam, insert, select, update

from audit.event import ConsentGranted, ConsentPaused, ConsentResumed, ConsentRevoked, Event, format_time
from audit.ledger import Ledger, Position
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
from sandbox.subject_keys import ensure_subject_cipher, subject_cipher
from sandbox.vault.sealing import VaultKeys, seal, unseal

# Built once: SQLAlchemy spends more on building a statement than SQLite on running it.
_CONSENT = select(tables.consent).where(tables.consent.c.consent_id == bindparam("id"))
_ARTEFACT = select(tables.artefact.c.body).where(tables.artefact.c.consent_id == bindparam("id"))
_SPEND = update(tables.consent).where(tables.consent.c.consent_id == bindparam("id")).values(uses=bindparam("spent"))
_EVENTS = {Change.PAUSE: ConsentPaused, Change.RESUME: ConsentResumed, Change.REVOKE: ConsentRevoked}


@dataclass(frozen=True)
class StoredConsent:
    """A consent with where it stands."""

    consent: Consent
    consent_hash: str
    state: State
    uses: int
    granted_index: int


@dataclass(frozen=True)
class ConsentStore:
    """The consents of one enclave; `authorities` are the public keys of the consent authorities."""

    ledger: Ledger
    engine: Engine
    keys: VaultKeys
    authorities: KeySet

    async def register(self, raw: bytes, authority: str) -> StoredConsent:
        """Verifies and registers a signed consent.

        Raises:
            ConsentInvalid: signature, claims or caps.
            ConsentNotYours: signed by another authority than the caller.
            ConsentDuplicate: its id is registered already.
        """
        consent = verify_consent(raw, self.authorities)
        if consent.iss != authority:
            raise ConsentNotYours("issuer", public="the consent was signed by another authority")

        def change(connection: Connection, position: Position) -> tuple[ConsentGranted, StoredConsent]:
            check_registrable(consent, position.time)
            if _row(connection, consent.jti) is not None:
                raise ConsentDuplicate("jti")
            tag = self.keys.subject_tag(consent.sub)
            cipher = ensure_subject_cipher(connection, self.keys, tag)
            connection.execute(
                insert(tables.consent).values(
                    consent_id=consent.jti,
                    consent_hash=consent.consent_hash,
                    authority=authority,
                    institution=consent.institution,
                    subject_tag=tag,
                    state=State.GRANTED,
                    expires=consent.exp,
                    uses=0,
                    max_uses=consent.max_uses,
                    granted_index=position.index,
                )
            )
            body = seal(cipher, raw, consent.jti.encode())
            connection.execute(insert(tables.artefact).values(consent_id=consent.jti, body=body))
            event = _granted(consent, tag)
            return event, StoredConsent(consent, event.consent_hash, State.GRANTED, 0, position.index)

        return (await self.ledger.append(change)).value

    async def change(self, consent_id: str, what: Change, authority: str, reason: str) -> tuple[StoredConsent, int]:
        """Pauses, resumes or revokes; returns when durable, with the index of the entry.

        Raises:
            ConsentUnknown: no such consent of this authority.
            ConsentTransition: its state does not allow that.
        """

        def apply(connection: Connection, _: Position) -> tuple[Event, StoredConsent]:
            row = self._own(connection, consent_id, authority)
            state = next_state(State(row.state), what)
            mine = tables.consent.c.consent_id == consent_id
            connection.execute(update(tables.consent).where(mine).values(state=state))
            event = _EVENTS[what](consent=consent_id, by=f"authority/{authority}", reason=reason)
            return event, self._stored(connection, row, state)

        done = await self.ledger.append(apply)
        return done.value, done.index

    def get(self, consent_id: str, authority: str, now: datetime) -> StoredConsent:
        """A consent of this authority as it stands now; raises ConsentUnknown."""
        with self.engine.connect() as connection:
            row = self._own(connection, consent_id, authority)
            state = shown_state(State(row.state), row.uses, row.max_uses, row.expires, now)
            return self._stored(connection, row, state)

    def for_use(self, connection: Connection, consent_id: str) -> StoredConsent:
        """A consent for a call, its signature and caps verified again. Whether it may be used, the caller checks.

        Raises:
            ConsentUnknown, ConsentInvalid.
        """
        row = _row(connection, consent_id)
        if row is None:
            raise ConsentUnknown("no such consent")
        return self._stored(connection, row, State(row.state))

    def _own(self, connection: Connection, consent_id: str, authority: str) -> Row[tuple[object, ...]]:
        row = _row(connection, consent_id)
        # Another authority's consent looks the same as none.
        if row is None or row.authority != authority:
            raise ConsentUnknown("no such consent of this authority")
        return row

    def _stored(self, connection: Connection, row: Row[tuple[object, ...]], state: State) -> StoredConsent:
        cipher = subject_cipher(connection, self.keys, row.subject_tag)
        body = connection.execute(_ARTEFACT, {"id": row.consent_id}).scalar_one()
        consent, _ = reverify_consent(unseal(cipher, body, row.consent_id.encode()), self.authorities)
        return StoredConsent(consent, row.consent_hash, state, row.uses, row.granted_index)


def spend_use(connection: Connection, consent_id: str) -> int:
    """Spends a use inside the commit of a decision; returns which use it was, from 1.

    Raises:
        ConsentPaused, ConsentRevoked, ConsentExhausted: the state at this index, whatever it was before.
    """
    row = _row(connection, consent_id)
    if row is None:
        raise ConsentUnknown("no such consent")
    check_usable(State(row.state), row.uses, row.max_uses)
    connection.execute(_SPEND, {"id": consent_id, "spent": row.uses + 1})
    return int(row.uses) + 1


def _row(connection: Connection, consent_id: str) -> Row[tuple[object, ...]] | None:
    return connection.execute(_CONSENT, {"id": consent_id}).one_or_none()


def _granted(consent: Consent, tag: str) -> ConsentGranted:
    return ConsentGranted(
        consent=consent.jti,
        consent_hash=consent.consent_hash,
        authority=consent.iss,
        institution=consent.institution,
        products=consent.products,
        purpose=consent.purpose.code,
        subject_tag=tag,
        field_set_hash=consent.field_set_hash,
        not_before=format_time(datetime.fromtimestamp(consent.nbf, UTC)),
        expires=format_time(datetime.fromtimestamp(consent.exp, UTC)),
        max_uses=consent.max_uses,
    )
