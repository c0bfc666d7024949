"""Changes as a served enclave makes them, without the enclave: versions, consents, decisions, refusals, revocations.

Each writes the rows that the service's own change writes, through the service's own functions, and logs the same event;
what a model would compute and a bank would sign is made up from numbers. A change that was made before raises `Known`,
so a run that was cut off can be run again, as a client repeats a request that was not answered.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Final

from sqlalchemy import Connection, bindparam, insert, select, update

from audit.errors import CallerError
from audit.event import format_time
from audit.kinds import (
    ConsentGranted,
    ConsentRevoked,
    Decision,
    EnclaveStarted,
    Event,
    Refusal,
    VersionAdmitted,
    VersionApproved,
    VersionPromoted,
    VersionSubmitted,
)
from audit.ledger import Change, Position
from audit.prepared import Prepared
from audit.receipt import limit_commitment, outcome_commitment, outcome_salt
from model_registry import tables as registry
from model_registry.aead import seal
from model_registry.key_epochs import Epoch, begin_epoch, read_epochs
from model_registry.version_history import VersionEvent, note_change
from sandbox import calls, tables
from sandbox.calls import CallKey, Kept
from sandbox.consent_life import Uses
from sandbox.consent_store import spend_use
from sandbox.disclosure import charge, price_milli
from sandbox.subject_keys import ensure_subject_cipher
from sandbox.vault.sealing import VaultKeys, digest

LEVELS: Final = (0, 50_000, 100_000, 200_000, 300_000, 500_000, 800_000, 1_000_000)
PRICE: Final = price_milli(len(LEVELS))
BUDGET_MILLI: Final = 10**9  # never reached: what is measured here is not the budget
MAX_USES: Final = 5
ARTEFACT_BYTES: Final = 1_536  # about what a consent to a handful of datasets has
LIFE: Final = timedelta(days=31)
AUTHORITY: Final = "zhengzhou"
KEYS: Final = VaultKeys(*(bytes([number]) * 32 for number in range(1, 5)))

_GRANT = Prepared(insert(tables.consent))
_ARTEFACT = Prepared(insert(tables.artefact))
_MINE = tables.consent.c.consent_id == bindparam("id")
_STATE = Prepared(select(tables.consent.c.state).where(_MINE))
_REVOKE = Prepared(update(tables.consent).where(_MINE).values(state=bindparam("now")))
_SUBMITTED = select(registry.version.c.state).where(registry.version.c.version == bindparam("name"))
_INDEX = Prepared(select(tables.consent.c.granted_index).where(_MINE))


class Known(CallerError):
    """The change was made before."""


def made_up(*parts: object) -> str:
    """A digest of its own for each list of parts, 64 hex digits."""
    return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()


EVIDENCE: Final = made_up("evidence")
ISOLATION: Final = "one-shot"
KEY_ID: Final = made_up("key")[:16]


def start(connection: Connection, position: Position) -> tuple[Event, None]:
    """What a server's start logs; the first one makes the first epoch of its key."""
    if not read_epochs(connection):
        begin_epoch(connection, Epoch(0, KEY_ID, position.index, position.time))
    return EnclaveStarted(EVIDENCE, "simulated", ISOLATION, "0.1.0", 0, KEY_ID), None


@dataclass(frozen=True)
class Product:
    """A product and its one version."""

    institution: str

    @cached_property
    def name(self) -> str:
        """As the log names it."""
        return f"{self.institution}/loan"

    @cached_property
    def version(self) -> str:
        """Its champion."""
        return f"{self.name}@1"

    @cached_property
    def bundle_hash(self) -> str:
        """Of what stands for the sealed bundle."""
        return hashlib.sha256(self._ciphertext).hexdigest()

    @cached_property
    def rules_hash(self) -> str:
        """Of its rules."""
        return made_up("rules", self.version)

    @cached_property
    def field_set_hash(self) -> str:
        """Of the fields that it reads."""
        return made_up("fields", self.name)

    @cached_property
    def _ciphertext(self) -> bytes:
        return made_up("bundle", self.version).encode()

    @cached_property
    def _manifest(self) -> str:
        return made_up("manifest", self.version)

    def launch(self) -> list[Change[None]]:
        """The changes that make the version champion, in order."""
        return [_noted(step) for step in (self._submit, self._admit, self._approve, self._promote)]

    def _submit(self, connection: Connection, position: Position) -> tuple[VersionEvent, None]:
        if connection.execute(_SUBMITTED, {"name": self.version}).first() is not None:
            raise Known
        by = f"institution/{self.institution}/alice"
        row = {"version": self.version, "institution": self.institution, "product": self.name, "number": 1}
        row |= {"state": "submitted", "manifest_jws": self._manifest, "bundle_hash": self.bundle_hash}
        row |= {"model_hash": made_up("model", self.version), "rules_hash": self.rules_hash}
        row |= {"submitted_by": by, "submitted_at": int(position.time.timestamp() * 1000), "reasons": b""}
        connection.execute(insert(registry.version).values(row))
        bundle = {"version": self.version, "ciphertext": self._ciphertext}
        connection.execute(insert(registry.bundle).values(bundle))
        key = {"version": self.version, "key_id": KEY_ID, "sealed": b""}
        connection.execute(insert(registry.bundle_key).values(key))
        return self._submitted(by), None

    def _submitted(self, by: str) -> VersionSubmitted:
        return VersionSubmitted(
            institution=self.institution,
            version=self.version,
            manifest_hash=hashlib.sha256(self._manifest.encode()).hexdigest(),
            bundle_hash=self.bundle_hash,
            model_hash=made_up("model", self.version),
            rules_hash=self.rules_hash,
            by=by,
            model_of=None,
        )

    def _admit(self, connection: Connection, _: Position) -> tuple[VersionEvent, None]:
        self._move(connection, "submitted", "admitted")
        return VersionAdmitted(self.version), None

    def _approve(self, connection: Connection, _: Position) -> tuple[VersionEvent, None]:
        by = f"institution/{self.institution}/bob"
        self._move(connection, "admitted", "approved", approved_by=by)
        return VersionApproved(self.version, by), None

    def _promote(self, connection: Connection, position: Position) -> tuple[VersionEvent, None]:
        promotion = registry.promotion
        if connection.execute(select(promotion).where(promotion.c.version == self.version)).first() is not None:
            raise Known
        at = int(position.time.timestamp() * 1000)
        row = {"idx": position.index, "product": self.name, "version": self.version, "at": at}
        connection.execute(insert(promotion).values(row))
        return VersionPromoted(self.version, f"institution/{self.institution}/alice", None, None), None

    def _move(self, connection: Connection, before: str, after: str, **rest: str) -> None:
        mine = (registry.version.c.version == self.version) & (registry.version.c.state == before)
        if connection.execute(update(registry.version).where(mine).values(state=after, **rest)).rowcount == 0:
            raise Known


def _noted(step: Callable[[Connection, Position], tuple[VersionEvent, None]]) -> Change[None]:
    """A change of a version with its row in the product's history."""

    def change(connection: Connection, position: Position) -> tuple[VersionEvent, None]:
        event, _ = step(connection, position)
        note_change(connection, position.index, position.time, event)
        return event, None

    return change


@dataclass(frozen=True)
class Consent:
    """Consent number `number` of company number `company` to a product."""

    number: int
    company: int
    product: Product

    @cached_property
    def id(self) -> str:
        """A UUID of version 4."""
        it = made_up("consent", self.number)
        return f"{it[:8]}-{it[8:12]}-4{it[13:16]}-8{it[17:20]}-{it[20:32]}"

    @cached_property
    def tag(self) -> str:
        """The company's, as the log names it."""
        return made_up("company", self.company)[:32]

    @cached_property
    def hash(self) -> str:
        """Of the signed artefact."""
        return made_up("artefact", self.number)

    def grant(self, connection: Connection, position: Position) -> tuple[Event, None]:
        """Registers it."""
        if _STATE.scalar(connection, id=self.id) is not None:
            raise Known
        cipher = ensure_subject_cipher(connection, KEYS, self.tag)
        begins = int(position.time.timestamp())
        expires = begins + int(LIFE.total_seconds())
        _GRANT.run(connection, **self._row(begins, expires, position.index))
        artefact = self.hash.encode() * (ARTEFACT_BYTES // len(self.hash))
        _ARTEFACT.run(connection, consent_id=self.id, body=seal(cipher, artefact, self.id.encode()))
        return self._granted(begins, expires), None

    def revoke(self, connection: Connection, _: Position) -> tuple[Event, None]:
        """Ends it."""
        if _STATE.scalar(connection, id=self.id) != "granted":
            raise Known
        _REVOKE.run(connection, id=self.id, now="revoked")
        return ConsentRevoked(consent=self.id, by=f"authority/{AUTHORITY}", reason="withdrawn"), None

    def _row(self, begins: int, expires: int, index: int) -> dict[str, object]:
        row: dict[str, object] = dict.fromkeys(column.name for column in tables.consent.columns)
        row |= {"consent_id": self.id, "consent_hash": self.hash, "authority": AUTHORITY, "state": "granted"}
        row |= {"institution": self.product.institution, "products": f'["{self.product.name}"]'}
        row |= {"purpose": "precredit", "subject_tag": self.tag, "not_before": begins, "expires": expires}
        return row | {"uses": 0, "max_uses": MAX_USES, "granted_index": index, "period_uses": 0}

    def _granted(self, begins: int, expires: int) -> ConsentGranted:
        return ConsentGranted(
            consent=self.id,
            consent_hash=self.hash,
            authority=AUTHORITY,
            institution=self.product.institution,
            products=(self.product.name,),
            purpose="precredit",
            subject_tag=self.tag,
            field_set_hash=self.product.field_set_hash,
            not_before=format_time(datetime.fromtimestamp(begins, UTC)),
            expires=format_time(datetime.fromtimestamp(expires, UTC)),
            max_uses=MAX_USES,
            frequency_unit=None,
            frequency=None,
            replaces=None,
        )


@dataclass(frozen=True)
class Call:
    """Call number `number`, under a consent."""

    number: int
    consent: Consent

    @cached_property
    def request_hash(self) -> str:
        """As the log names it."""
        return digest(self.caller.encode(), str(self.number).encode())

    @cached_property
    def caller(self) -> str:
        """The institution's application."""
        return f"application/{self.consent.product.institution}/portal"

    def decide(self, connection: Connection, position: Position) -> tuple[Decision, Kept]:
        """What step 7 of a call does: spend a use, charge the bits, take a number, keep the answer."""
        consent, product = self.consent, self.consent.product
        request_hash = self.request_hash
        if calls.find(connection, request_hash) is not None:
            raise Known
        use = spend_use(connection, consent.id, Uses(0, MAX_USES), position.time)
        input_hash = KEYS.input_hash(consent.tag.encode(), product.version.encode(), str(self.number).encode())
        calls.limit_for(connection, KEYS, input_hash)  # never answered before, and looked for all the same
        bill = {"tag": consent.tag, "institution": product.institution, "year": position.time.year}
        total = charge(connection, **bill, price=PRICE, budget=BUDGET_MILLI)  # type: ignore[arg-type]
        number = calls.next_number(connection, product.institution)
        salt = bytes.fromhex(made_up("salt", self.number))
        kept = Kept(LEVELS[self.number % len(LEVELS)], salt, position.time + LIFE)
        key = CallKey(request_hash, made_up("request", self.number), input_hash, position.index, consent.tag)
        calls.keep(connection, KEYS, key, kept)
        granted = int(_INDEX.scalar(connection, id=consent.id))
        return self._decision(kept, granted, use=use, total=total, seq=number), kept

    def refuse(self, connection: Connection, _: Position) -> tuple[Event, None]:
        """What a law stopped."""
        product = self.consent.product
        return (
            Refusal(
                code=("consent_exhausted", "product_unknown", "budget_spent")[self.number % 3],
                caller=self.caller,
                request_hash=self.request_hash,
                institution=product.institution,
                product=product.name,
                version=product.version,
                consent_hash=self.consent.hash,
                subject_tag=self.consent.tag,
                seq=calls.next_number(connection, product.institution),
            ),
            None,
        )

    def _decision(self, kept: Kept, granted: int, *, use: int, total: int, seq: int) -> Decision:
        consent, product = self.consent, self.consent.product
        return Decision(
            request_hash=self.request_hash,
            caller=self.caller,
            institution=product.institution,
            product=product.name,
            version=product.version,
            bundle_hash=product.bundle_hash,
            rules_hash=product.rules_hash,
            evidence_hash=EVIDENCE,
            evidence_format="simulated",
            consent_hash=consent.hash,
            consent_index=granted,
            use=use,
            max_uses=MAX_USES,
            subject_tag=consent.tag,
            field_set_hash=product.field_set_hash,
            records_hash=made_up("records", self.number),
            outcome=outcome_commitment(outcome_salt(kept.salt), "offer" if kept.limit else "none"),
            limit=limit_commitment(kept.salt, kept.limit),
            bits_milli=PRICE,
            bits_total_milli=total,
            isolation=ISOLATION,
            seq=seq,
        )
