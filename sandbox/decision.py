"""The way of a call: from a request to one number and its proof. Read this file first.

(1) Same request id as before → the same answer, nothing charged.
(2) Consent: verified again, bound to this subject, product and time, its state active, a use left.
(3) The product's champion, not suspended; the fields it reads are consented to, their datasets open.
(4) Join: one range read of the subject's encrypted records, gathered into a vector in manifest order; what is too old,
    or of other days than consented to, is missing. Where no bits are left, nothing is decrypted unless this very input
    (version, record versions) was answered before.
(5) Score in a fresh one-shot process behind the walls: model, then rules. Anything odd = no offer.
(6) Gate: snap down to a level of the published grid; price the answer in bits.
(7) Commit: ONE transaction re-checks consent, champion, datasets and budget, spends a use, charges the bits, appends
    the entry and signs the checkpoint; durable before anything leaves. An input that was answered before gets that
    answer, whatever the model says now, for 0 bits.
(8) Release soon after the next time quantum.

A refusal at any step is itself an entry, and leaves at a quantum too. Calls under one consent go one after another: a
use must be spent before the next call reads anything.
"""

import asyncio
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from weakref import WeakValueDictionary

from sqlalchemy import Connection

from audit.errors import CallerError, HeixiaError, OwnerError
from audit.kinds import Decision
from audit.ledger import Ledger, Position
from audit.receipt import limit_commitment, outcome_commitment, outcome_salt
from model_registry.errors import ProductUnknown, VersionUnknown
from model_registry.version_rows import champion_of, is_suspended
from sandbox import calls
from sandbox.calls import Answer, CallKey, Kept, Known
from sandbox.consent import Consent, check_binding, check_fields
from sandbox.consent_life import check_usable, check_window
from sandbox.consent_store import ConsentRecord, ConsentStore, spend_use
from sandbox.disclosure import Bill, can_pay, charge, price_milli
from sandbox.errors import BudgetSpent, JailUnavailable, RequestIdReused, VersionSuspended
from sandbox.gate import release_delay, snap
from sandbox.jail.status import ScoreStatus
from sandbox.vault.datasets import check_open
from sandbox.vault.sealing import digest
from sandbox.vault.subject import parse_subject
from sandbox.vault.vault import Joined, RecordVersions, Vault
from sandbox.versions import ReadyVersion, Versions

CHAMPION_RETRIES = 3  # a promotion during a call sends it through the new champion; more than a few is no accident
DAY_MS = 86_400_000
_CHANCE = random.SystemRandom()


@dataclass(frozen=True)
class LimitRequest:
    """Who asks for which limit."""

    request_id: str
    consent_id: str
    subject: str
    product: str
    caller: str


@dataclass(frozen=True)
class DecisionSettings:
    """What the operator sets: release quantum (ms), budget (thousandths of a bit a subject, institution and year)."""

    release_quantum_ms: int
    budget_milli: int


@dataclass(frozen=True)
class Enclave:
    """What every decision names about the room it was made in."""

    evidence_hash: str
    evidence_format: str
    isolation: str


@dataclass(frozen=True)
class _Call:
    """A call that has come as far as its commit."""

    known: Known
    request_digest: str
    tag: str
    record: ConsentRecord
    version: ReadyVersion
    read: str
    limit: int


class _AnsweredMeanwhile(HeixiaError):
    """The same request id was answered between steps 1 and 7."""


class _ChampionChanged(HeixiaError):
    """Another version became champion between steps 3 and 7."""


@dataclass
class Decider:
    """Answers requests for limits. `observe(step, seconds)` gets the time each step took, for metrics and bench.

    `reader` is asked prepared statements alone: each sees what is committed at its moment, and the commit asks again.
    """

    ledger: Ledger
    reader: Connection
    vault: Vault
    consents: ConsentStore
    versions: Versions
    settings: DecisionSettings
    enclave: Enclave
    clock: Callable[[], datetime]
    observe: Callable[[str, float], None] = field(default=lambda *_: None)
    _in_turn: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    async def decide(self, request: LimitRequest) -> Answer:
        """Answers one request.

        Raises:
            CallerError: a law refuses the call; the refusal is in the log.
            ServiceError: nothing was decided; the same request may be repeated.
        """
        began = time.monotonic()
        request_hash = digest(request.caller.encode(), request.request_id.encode())
        known = Known(request_hash, request.caller)
        try:
            async with self._in_turn.setdefault(request.consent_id, asyncio.Lock()):
                return await self._decide(request, known)
        except (CallerError, JailUnavailable) as refusal:
            await calls.log_refusal(self.ledger, known, refusal.code)
            raise
        finally:
            # (8) Release at the next time quantum.
            elapsed_s = time.monotonic() - began
            await asyncio.sleep(release_delay(elapsed_s, self.settings.release_quantum_ms, _CHANCE.random()))

    async def _decide(self, request: LimitRequest, known: Known) -> Answer:
        parse_subject(request.subject)
        tag = self.vault.keys.subject_tag(request.subject)
        request_digest = digest(request.consent_id.encode(), tag.encode(), request.product.encode())
        for _ in range(CHAMPION_RETRIES):
            # (1) Same request id as before.
            if (answer := self._answered(self.reader, known.request_hash, request_digest)) is not None:
                return answer
            # (2) Consent.
            consent, record = self._consent(self.reader, request, known, tag)
            # (3) Champion, fields, datasets.
            name = self._champion(self.reader, request.product, known)
            try:
                version = await self._ready(name)
                payable = self._check_data(version, consent, tag)
                # (4) Join.
                joined = self._join(consent, version, tag, payable)
                # (5) Score, (6) gate.
                limit = snap(await self._score(version, joined), version.manifest.levels)
            except JailUnavailable:
                if champion_of(self.reader, request.product) == name:
                    raise
                continue  # replaced and retired meanwhile: once more, through the new champion
            # (7) Commit.
            read = _told(version, joined.versions)
            try:
                return await self._commit(_Call(known, request_digest, tag, record, version, read, limit))
            except (_AnsweredMeanwhile, _ChampionChanged):
                continue
        raise JailUnavailable("the champion changed again and again")

    def _answered(self, connection: Connection, request_hash: str, request_digest: str) -> Answer | None:
        row = calls.find(connection, request_hash)
        if row is None:
            return None
        if row.request_digest != request_digest:
            raise RequestIdReused("other members")
        return calls.recall(connection, self.vault.keys, self.ledger, row)

    def _consent(
        self, connection: Connection, request: LimitRequest, known: Known, tag: str
    ) -> tuple[Consent, ConsentRecord]:
        began = time.perf_counter()
        consent, record = self.consents.for_use(connection, request.consent_id)
        check_binding(consent, subject=request.subject, product=request.product)
        known.institution, known.product = record.institution, request.product
        known.consent_hash = record.consent_hash
        now = self.clock()
        check_window(consent.nbf, consent.exp, now)
        check_usable(record.state, record.quota, now)
        known.subject_tag = tag
        self.observe("consent", time.perf_counter() - began)
        return consent, record

    def _champion(self, connection: Connection, product: str, known: Known) -> str:
        name = champion_of(connection, product)
        if name is None:
            raise ProductUnknown("no champion")
        known.version = name
        if is_suspended(connection, name):
            raise VersionSuspended("champion")
        return name

    async def _ready(self, name: str) -> ReadyVersion:
        try:
            return await self.versions.ready(name)
        except (OwnerError, VersionUnknown) as error:  # the institution's affair, none of the application's
            raise JailUnavailable(f"the champion does not load: {error.code}") from error

    def _check_data(self, version: ReadyVersion, consent: Consent, tag: str) -> bool:
        """Whether a new answer could be paid as things stand; the commit decides."""
        began = time.perf_counter()
        check_fields(consent, version.manifest.field_names)
        check_open(self.reader, version.plan.datasets, version.layouts)
        payable = can_pay(self.reader, **self._bill(version, tag, max(self.clock(), self.ledger.time)))
        self.observe("champion", time.perf_counter() - began)
        return payable

    def _bill(self, version: ReadyVersion, tag: str, now: datetime, *, known: bool = False) -> Bill:
        return {
            "tag": tag,
            "institution": version.manifest.institution,
            "year": now.year,
            "price": 0 if known else price_milli(len(version.manifest.levels)),
            "budget": self.settings.budget_milli,
        }

    def _join(self, consent: Consent, version: ReadyVersion, tag: str, payable: bool) -> Joined:
        began = time.perf_counter()
        oldest = int(self.clock().timestamp() * 1000) - version.manifest.data_max_age_days * DAY_MS
        first, before = consent.period_ms

        def admit(versions: RecordVersions) -> None:
            if not payable:
                input_hash = self._input_hash(tag, version, _told(version, versions))
                if calls.limit_for(self.reader, self.vault.keys, input_hash) is None:
                    raise BudgetSpent("disclosure budget")

        joined = self.vault.join(version.plan, consent.sub, max(oldest, first), admit, before)
        self.observe("join", time.perf_counter() - began)
        return joined

    def _input_hash(self, tag: str, version: ReadyVersion, read: str) -> str:
        return self.vault.keys.input_hash(tag.encode(), version.name.encode(), read.encode())

    async def _score(self, version: ReadyVersion, joined: Joined) -> float:
        began = time.perf_counter()
        # A subject without any record is scored too, so that its call costs the same; the result is then dropped.
        answer = await self.versions.pool.score(version.name, joined.vector)
        self.observe("score", time.perf_counter() - began)
        return answer.value if joined.found and answer.status is ScoreStatus.OK else 0.0

    async def _commit(self, call: _Call) -> Answer:
        began = time.perf_counter()

        def change(connection: Connection, position: Position) -> tuple[Decision, Kept]:
            manifest = call.version.manifest
            if calls.find(connection, call.known.request_hash) is not None:
                raise _AnsweredMeanwhile
            use = spend_use(connection, call.record.consent_id, call.record.quota, position.time)
            check_window(call.record.not_before, call.record.expires, position.time)
            if self._champion(connection, manifest.product, call.known) != call.version.name:
                raise _ChampionChanged
            check_open(connection, call.version.plan.datasets, call.version.layouts)
            input_hash = self._input_hash(call.tag, call.version, call.read)
            before = calls.limit_for(connection, self.vault.keys, input_hash)
            bill = self._bill(call.version, call.tag, position.time, known=before is not None)
            total = charge(connection, **bill)
            number = calls.next_number(connection, manifest.institution)
            limit = call.limit if before is None else before
            kept = Kept(limit, os.urandom(32), position.time + timedelta(days=manifest.limit_valid_days))
            key = CallKey(call.known.request_hash, call.request_digest, input_hash, position.index, call.tag)
            calls.keep(connection, self.vault.keys, key, kept)
            return _entry(call, self.enclave, kept, use=use, bits=(bill["price"], total), number=number), kept

        done = await self.ledger.append(change)
        self.observe("commit", time.perf_counter() - began)
        kept = done.value
        return Answer(kept.limit, kept.valid_until, done.index, done.body, done.proof, kept.salt)


def _told(version: ReadyVersion, versions: RecordVersions) -> str:
    """The record versions that were read, as docs/formats.md writes them; 0 = no record."""
    return "\n".join(f"{name} {load or 0}" for name, load in zip(version.plan.datasets, versions, strict=True))


def _entry(call: _Call, enclave: Enclave, kept: Kept, *, use: int, bits: tuple[int, int], number: int) -> Decision:
    version, record = call.version, call.record
    return Decision(
        request_hash=call.known.request_hash,
        caller=call.known.caller,
        institution=version.manifest.institution,
        product=version.manifest.product,
        version=version.name,
        bundle_hash=version.bundle_hash,
        rules_hash=version.rules_hash,
        evidence_hash=enclave.evidence_hash,
        evidence_format=enclave.evidence_format,
        consent_hash=record.consent_hash,
        consent_index=record.granted_index,
        use=use,
        max_uses=record.max_uses,
        subject_tag=call.tag,
        field_set_hash=version.manifest.field_set_hash,
        records_hash=digest(kept.salt, call.read.encode()),
        outcome=outcome_commitment(outcome_salt(kept.salt), "offer" if kept.limit else "none"),
        limit=limit_commitment(kept.salt, kept.limit),
        bits_milli=bits[0],
        bits_total_milli=bits[1],
        isolation=enclave.isolation,
        seq=number,
    )
