"""The HPKE key's life in a serving process: rotated by an operator, its older epochs destroyed at their date.

What the log says is the truth. A rotation is one transaction: entry, epoch, and the keys of all stored bundles sealed
anew (model_registry/resealing.py). A destruction is two steps that no transaction spans: first the keeper forgets, then
the entry says so. Whoever is killed between them finds at the next start a keeper that is ahead of the log by epochs
whose date has come, and writes the entries that are missing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection, Engine

from audit.errors import HeixiaError
from audit.event import format_time
from audit.kinds import KeyDestroyed, KeyRotated
from audit.ledger import Ledger, Position
from enclave_api.attestation.evidence import EnclaveFacts
from enclave_api.epoch_checks import check_epochs, find_unsaid
from enclave_api.errors import RotationRefused
from enclave_api.keeper import Keeper
from enclave_api.key_ring import KeyRing
from model_registry import resealing
from model_registry.bundle import RecipientKey
from model_registry.errors import StoredValueCorrupt
from model_registry.key_epochs import Epoch, begin_epoch, end_epoch, read_epochs

LIVING_MAX = 16  # epochs at once: each is tried by nobody, but all are derived at a start
CHECK_INTERVAL_S = 3600.0  # dates are days away; a key past its date is taken by nobody meanwhile

_log = structlog.get_logger("heixia")


@dataclass
class KeyEpochs:
    """Rotates, destroys. `facts` are the evidence's, of the newest key; `tell_decisions` gets a new evidence hash."""

    keeper: Keeper
    ledger: Ledger
    engine: Engine
    ring: KeyRing
    clock: Callable[[], datetime]
    facts: EnclaveFacts
    tell_decisions: Callable[[str], None] = lambda _: None
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _running: set[asyncio.Task[Epoch]] = field(default_factory=set)

    def list(self) -> list[Epoch]:
        """Every epoch, oldest first."""
        with self.engine.connect() as connection:
            return read_epochs(connection)

    async def rotate(self, by: str, seen_key_id: str, overlap: timedelta) -> Epoch:
        """Makes a new key the newest; returns its epoch when everything is durable.

        Args:
            by: the operator, for the log.
            seen_key_id: the key that the operator takes for the newest, so that a repeated call rotates once.
            overlap: how long the older keys are accepted; 0 = destroyed at once.

        Raises:
            RotationRefused, LedgerBusy: nothing was changed.
        """
        # A caller who leaves must not leave evidence of the old key behind: it is one task, which it only waits for.
        task = asyncio.create_task(self._rotate(by, seen_key_id, overlap))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _rotate(self, by: str, seen_key_id: str, overlap: timedelta) -> Epoch:
        async with self._turn:
            number = self._next(seen_key_id)
            # (1) The new key, and every stored bundle's key sealed to it, without a lock.
            secret = await asyncio.to_thread(self.keeper.keys.recipient, number)
            key, facts = secret.public(), replace(self.facts, recipient=secret.public(), epoch=number)
            prepared = await asyncio.to_thread(self._prepare, key)
            # (2) Whoever reads a row right after the commit must be able to open it.
            self.ring.expect(secret)

            def change(connection: Connection, position: Position) -> tuple[KeyRotated, Epoch]:
                until = position.time + overlap
                epoch = Epoch(number, key.key_id, position.index, position.time)
                resealing.apply(connection, prepared, self.ring, key)
                begin_epoch(connection, epoch, until)
                # Last: the decisions behind this entry in the same transaction name the new evidence already.
                self.tell_decisions(facts.evidence_hash)
                return KeyRotated(number, key.key_id, facts.evidence_hash, by, format_time(until)), epoch

            # (3) Durable, and then shown.
            try:
                epoch = (await self.ledger.append(change)).value
                self.facts = facts
            except Exception:
                self.tell_decisions(self.facts.evidence_hash)
                raise
            finally:
                self.ring.hold(self.keeper.keys, self.list())
            _log.info("key rotated", epoch=number, key_id=key.key_id, bundles=len(prepared))
        await self._try_destroy()
        return epoch

    def _next(self, seen_key_id: str) -> int:
        epochs = self.list()
        if epochs[-1].key_id != seen_key_id:
            public = f"the newest key is {epochs[-1].key_id}: it was rotated meanwhile; look again"
            raise RotationRefused("rotated meanwhile", public=public)
        if sum(one.alive for one in epochs) >= LIVING_MAX:
            public = f"{LIVING_MAX} keys are alive: wait until older ones are destroyed (`heixia keys list`)"
            raise RotationRefused("too many", public=public)
        return epochs[-1].number + 1

    def _prepare(self, key: RecipientKey) -> Sequence[resealing.Resealed]:
        try:
            return resealing.prepare(self.engine, self.ring, key)
        except StoredValueCorrupt as error:
            raise RotationRefused("bundle", public=error.public) from error

    async def destroy_due(self) -> None:
        """Destroys what is past its date: the keeper's secrets first, then an entry for each.

        Raises:
            HomeInvalid: the keeper could not; it is tried again.
            StoredValueCorrupt: a stored bundle is sealed to such a key, which only an edited row can be.
        """
        async with self._turn:
            epochs = self.list()
            due = [one for one in epochs if one.alive and one.due(self.clock())]
            if not due:
                return
            self._check_unused(due)
            keys = await asyncio.to_thread(self.keeper.advance, due[-1].number + 1)
            self.ring.hold(keys, epochs)
            await self._record(due)

    def _check_unused(self, due: Sequence[Epoch]) -> None:
        with self.engine.connect() as connection:
            if names := resealing.sealed_to(connection, [one.key_id for one in due]):
                raise StoredValueCorrupt(f"{names[0]} is sealed to a key that is to be destroyed")

    async def _record(self, gone: Sequence[Epoch]) -> None:
        for one in gone:

            def change(connection: Connection, position: Position, one: Epoch = one) -> tuple[KeyDestroyed, None]:
                end_epoch(connection, one.number, position.index)
                return KeyDestroyed(one.number, one.key_id), None

            await self.ledger.append(change)
            _log.info("key destroyed", epoch=one.number, key_id=one.key_id)

    def check(self) -> Sequence[Epoch]:
        """At a start, before anything is written: is the keeper of this home and of the log's time?

        Returns:
            Epochs that the keeper destroyed and no entry says so yet.

        Raises:
            EpochDiffers, RootForeign, LedgerCorrupt.
        """
        epochs = self.list()
        check_epochs(self.ledger, epochs)
        unsaid = find_unsaid(self.keeper.keys, epochs, max(self.clock(), self.ledger.time))
        first = Epoch(0, self.facts.recipient.key_id, 0, self.clock())  # the first start's entry makes it
        self.ring.hold(self.keeper.keys, epochs or [first])
        return unsaid

    async def settle(self, unsaid: Sequence[Epoch]) -> None:
        """At a start: says what a crash left unsaid, and destroys what is due."""
        await self._record(unsaid)
        await self._try_destroy()

    async def run_forever(self) -> None:
        """Destroys what is due, hourly, until cancelled."""
        while True:
            await self.sleep(CHECK_INTERVAL_S)
            await self._try_destroy()

    async def _try_destroy(self) -> None:
        try:
            await self.destroy_due()
        except HeixiaError as error:  # a closed ledger ends the server anyway; a key past its date is taken by nobody
            _log.error("a key past its date is not destroyed", code=error.code, reason=error.public or str(error))
