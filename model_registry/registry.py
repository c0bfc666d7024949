"""Versions as the ledger keeps them: submit, admit, approve, promote, roll back, suspend, retire.

Every change is an entry of the log and a row here in one transaction. An institution sees its own versions alone:
another's looks the same as none.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from joserfc.jwk import KeySet
from sqlalchemy import Connection, Engine, Row, insert, select, update

from audit.errors import OwnerError, ServiceError
from audit.event import (
    Event,
    VersionAdmitted,
    VersionApproved,
    VersionPromoted,
    VersionRefused,
    VersionResumed,
    VersionRetired,
    VersionSuspended,
)
from audit.ledger import Ledger, Position
from model_registry import tables
from model_registry.aead import seal, unseal
from model_registry.bundle import RecipientSecret, SealedBundle, open_ciphertext, open_uploaded
from model_registry.errors import (
    FourEyesRequired,
    ManifestInvalid,
    ModelRefused,
    ProductUnknown,
    Reason,
    StoredValueCorrupt,
    TransitionRefused,
    VersionUnknown,
)
from model_registry.lifecycle import Change, State, next_state
from model_registry.manifest import Manifest, manifest_hash, verify_manifest
from model_registry.resealing import drop_key, keep_key, stored_key
from model_registry.version_rows import (
    Version,
    bound_digest,
    champion_before,
    champion_of,
    held_row,
    insert_version,
    is_suspended,
    next_number,
    row_of,
    submitted,
    version_of,
)

Inspect = Callable[[Manifest, bytes], Awaitable[Sequence[Reason]]]
Prepare = Callable[[str], Awaitable[object]]


@dataclass(frozen=True)
class Opened:
    """A stored bundle, opened: what really is in it, whatever the table says."""

    manifest: Manifest
    content: bytes
    bundle_hash: str
    rules_hash: str


@dataclass(frozen=True)
class Registry:
    """The versions of one enclave. `notes` seals the reasons of refusals, which quote the bank's model and rules."""

    ledger: Ledger
    engine: Engine
    institutions: KeySet
    secrets: Mapping[str, RecipientSecret]
    notes: AESGCM
    levels_max: int
    _inspections: set[asyncio.Task[tuple[str, Sequence[Reason]]]] = field(default_factory=set)

    async def submit(self, bundle: SealedBundle, institution: str, by: str, inspect: Inspect) -> Version:
        """Stores a sealed bundle as the product's next version and has it inspected.

        Args:
            bundle: as uploaded.
            institution: the caller's; must be the manifest's.
            by: who submits, for the log.
            inspect: runs the inspection behind the walls; no reasons = admitted.

        Raises:
            SignatureInvalid, ManifestInvalid, BundleInvalid, FourEyesRequired: nothing is stored.
            ModelRefused: the version is on record as refused, its bundle is not kept.
        """
        _check_person(by)
        manifest = verify_manifest(bundle.manifest_jws, self.institutions, self.levels_max)
        if manifest.institution != institution:
            raise ManifestInvalid("institution", public="the product belongs to another institution")
        content, key = await asyncio.to_thread(open_uploaded, bundle, manifest, self.secrets)
        bundle_hash = await asyncio.to_thread(lambda: bundle.bundle_hash)

        # A caller who leaves, even in the instant between commit and inspection, must not leave a version behind that
        # nobody judges: from storing to judging it is one task, which the caller only waits for.
        sent = (bundle, bundle_hash, manifest, content, key)
        task = asyncio.create_task(self._store_and_inspect(*sent, by, inspect))
        self._inspections.add(task)
        task.add_done_callback(self._inspections.discard)
        name, reasons = await asyncio.shield(task)
        if reasons:
            raise ModelRefused(reasons, name)
        return self.get(name, institution)

    async def _store_and_inspect(
        self,
        bundle: SealedBundle,
        bundle_hash: str,
        manifest: Manifest,
        content: bytes,
        key: bytes,
        by: str,
        inspect: Inspect,
    ) -> tuple[str, Sequence[Reason]]:
        def change(connection: Connection, position: Position) -> tuple[Event, str]:
            number = next_number(connection, manifest.product)
            name = f"{manifest.product}@{number}"
            reasons = seal(self.notes, b"[]", name.encode())
            insert_version(connection, name, number, manifest, bundle, bundle_hash, by, position.time, reasons)
            keep_key(connection, name, key, manifest_hash(bundle.manifest_jws), self.secrets)
            return submitted(name, manifest, bundle, bundle_hash, by), name

        name = (await self.ledger.append(change)).value
        return name, await self._inspect(name, manifest, content, inspect)

    async def finish_inspections(self, inspect: Inspect) -> None:
        """Inspects what a stop of the service left submitted; a bundle that does not open is refused."""
        with self.engine.connect() as connection:
            rows = connection.execute(select(tables.version).where(tables.version.c.state == State.SUBMITTED)).all()
        for row in rows:
            try:
                opened = await asyncio.to_thread(self.open_content, row.version)
            except (OwnerError, StoredValueCorrupt) as error:
                await self._judge(row.version, [Reason(error.code, "bundle", "the stored bundle does not open")])
            else:
                await self._inspect(row.version, opened.manifest, opened.content, inspect)

    async def _inspect(self, name: str, manifest: Manifest, content: bytes, inspect: Inspect) -> Sequence[Reason]:
        try:
            reasons = await inspect(manifest, content)
        except ServiceError as error:
            reasons = [Reason(error.code, "inspection", "the enclave could not inspect it; submit it again")]
        await self._judge(name, reasons)
        return reasons

    async def _judge(self, name: str, reasons: Sequence[Reason]) -> None:
        what = Change.REFUSE if reasons else Change.ADMIT
        noted = seal(self.notes, json.dumps([asdict(reason) for reason in reasons]).encode(), name.encode())

        def change(connection: Connection, _: Position) -> tuple[Event, None]:
            row = row_of(connection, name)
            values = {"state": next_state(State(row.state), what), "reasons": noted}
            connection.execute(update(tables.version).where(tables.version.c.version == name).values(values))
            if reasons:
                connection.execute(tables.bundle.delete().where(tables.bundle.c.version == name))
                drop_key(connection, name)
                return VersionRefused(version=name, code=reasons[0].code), None
            return VersionAdmitted(version=name), None

        await self.ledger.append(change)

    async def approve(self, name: str, institution: str, by: str) -> Version:
        """Approves an admitted version.

        Raises:
            FourEyesRequired: the submitter approves, or the caller's certificate names no person.
            VersionUnknown, TransitionRefused.
        """
        _check_person(by)

        def change(connection: Connection, _: Position) -> tuple[Event, None]:
            row = self._own(connection, name, institution)
            state = next_state(State(row.state), Change.APPROVE)
            if row.submitted_by == by:
                raise FourEyesRequired("approver", public="another person than the submitter must approve")
            mine = tables.version.c.version == name
            connection.execute(update(tables.version).where(mine).values(state=state, approved_by=by))
            return VersionApproved(version=name, by=by), None

        await self.ledger.append(change)
        return self.get(name, institution)

    async def promote(self, name: str, institution: str, by: str, prepare: Prepare) -> Version:
        """Makes an approved version champion from the next call on; `prepare` loads and warms it first.

        Raises:
            VersionUnknown, TransitionRefused, FourEyesRequired; whatever `prepare` raises (then nothing changed).
        """
        return await self._promote(name, institution, by, prepare, None)

    async def rollback(self, product: str, institution: str, by: str, prepare: Prepare) -> Version:
        """Makes the newest earlier version that has been champion, and still may be, champion again.

        Raises:
            ProductUnknown: the product has no champion, or is another institution's.
            TransitionRefused: there is no earlier one, or the champion changed meanwhile.
        """
        with self.engine.connect() as connection:
            present = champion_of(connection, product)
            if present is None or product.partition("/")[0] != institution:
                raise ProductUnknown("no champion")
            name = champion_before(connection, product, present)
        if name is None:
            raise TransitionRefused("no earlier champion", public="no earlier version may be champion")
        return await self._promote(name, institution, by, prepare, present)

    async def _promote(self, name: str, institution: str, by: str, prepare: Prepare, expected: str | None) -> Version:
        _check_person(by)
        with self.engine.connect() as connection:
            self._promotable(connection, name, institution)
        await prepare(name)

        def change(connection: Connection, position: Position) -> tuple[Event, None]:
            row = self._promotable(connection, name, institution)
            previous = champion_of(connection, row.product)
            if expected is not None and previous != expected:
                raise TransitionRefused("champion changed", public="the champion changed meanwhile; look again")
            at = int(position.time.timestamp() * 1000)
            line = {"idx": position.index, "product": row.product, "version": name, "at": at}
            connection.execute(insert(tables.promotion).values(line))
            return VersionPromoted(version=name, by=by, previous=previous), None

        await self.ledger.append(change)
        return self.get(name, institution)

    async def suspend(self, name: str, holder: str, by: str, reason: str) -> Version:
        """Stops a version at once.

        Args:
            name: the version.
            holder: `role/organisation` that holds it back: `institution/<its own>` or `operator/<any>`.
            by: who, for the log.
            reason: for the log.

        Raises:
            VersionUnknown; TransitionRefused: the holder holds it back already.
        """

        def change(connection: Connection, _: Position) -> tuple[Event, str]:
            row = held_row(connection, name, holder)
            line = {"version": name, "by": holder}
            if connection.execute(insert(tables.suspension).prefix_with("OR IGNORE").values(line)).rowcount == 0:
                raise TransitionRefused("suspended already", public="you suspended the version already")
            return VersionSuspended(version=name, by=by, reason=reason), row.institution

        return self.get(name, (await self.ledger.append(change)).value)

    async def resume(self, name: str, holder: str, by: str, reason: str) -> Version:
        """Lifts the holder's own suspension; others' stay. Raises VersionUnknown, TransitionRefused."""

        def change(connection: Connection, _: Position) -> tuple[Event, str]:
            row = held_row(connection, name, holder)
            mine = (tables.suspension.c.version == name) & (tables.suspension.c.by == holder)
            if connection.execute(tables.suspension.delete().where(mine)).rowcount == 0:
                raise TransitionRefused("not suspended by them", public="not suspended by you")
            return VersionResumed(version=name, by=by, reason=reason), row.institution

        return self.get(name, (await self.ledger.append(change)).value)

    async def retire(self, name: str, institution: str, by: str) -> Version:
        """Ends a version for good; not while it is champion. Raises VersionUnknown, TransitionRefused."""

        def change(connection: Connection, _: Position) -> tuple[Event, None]:
            row = self._own(connection, name, institution)
            if champion_of(connection, row.product) == name:
                raise TransitionRefused("champion", public="promote another version first")
            state = next_state(State(row.state), Change.RETIRE)
            connection.execute(update(tables.version).where(tables.version.c.version == name).values(state=state))
            return VersionRetired(version=name, by=by), None

        await self.ledger.append(change)
        return self.get(name, institution)

    def get(self, name: str, institution: str) -> Version:
        """One version of an institution; raises VersionUnknown."""
        with self.engine.connect() as connection:
            row = self._own(connection, name, institution)
            return version_of(connection, row, json.loads(unseal(self.notes, row.reasons, name.encode())))

    def list(self, product: str, institution: str) -> list[Version]:
        """A product's versions, oldest first and without reasons; empty where it is another institution's."""
        table = tables.version
        query = select(table).where(table.c.product == product, table.c.institution == institution)
        with self.engine.connect() as connection:
            rows = connection.execute(query.order_by(table.c.number)).all()
            return [version_of(connection, row, []) for row in rows]

    def champion_at(self, product: str, at: datetime | None) -> tuple[str, int] | None:
        """Which version was champion at a time (None = now) and the index of the entry that made it so."""
        table = tables.promotion
        query = select(table.c.version, table.c.idx).where(table.c.product == product)
        if at is not None:
            query = query.where(table.c.at <= int(at.timestamp() * 1000))
        with self.engine.connect() as connection:
            row = connection.execute(query.order_by(table.c.idx.desc()).limit(1)).one_or_none()
        return (row.version, row.idx) if row else None

    def open_content(self, name: str) -> Opened:
        """Opens a stored bundle inside the enclave.

        Raises:
            VersionUnknown: none, or its bundle is not kept.
            SignatureInvalid, ManifestInvalid, BundleInvalid: it does not open any more.
            StoredValueCorrupt: it opens, but is not the one submitted as this version.
        """
        with self.engine.connect() as connection:
            row = row_of(connection, name)
            ciphertext = connection.scalar(select(tables.bundle.c.ciphertext).where(tables.bundle.c.version == name))
        if ciphertext is None:
            raise VersionUnknown("no bundle is kept")
        manifest = verify_manifest(row.manifest_jws, self.institutions, self.levels_max)
        bound = manifest_hash(row.manifest_jws)
        content = open_ciphertext(ciphertext, stored_key(self.engine, name, bound, self.secrets), bound, manifest)
        bundle_hash = hashlib.sha256(ciphertext).hexdigest()
        if bundle_hash != row.bundle_hash or manifest.product != row.product:
            raise StoredValueCorrupt("a stored bundle is not the one submitted")
        return Opened(manifest, content, bundle_hash, bound_digest(row.manifest_jws, manifest.digests.rules))

    def _promotable(self, connection: Connection, name: str, institution: str) -> Row[tuple[object, ...]]:
        row = self._own(connection, name, institution)
        next_state(State(row.state), Change.PROMOTE)
        if is_suspended(connection, name):
            raise TransitionRefused("suspended", public="the version is suspended")
        return row

    def _own(self, connection: Connection, name: str, institution: str) -> Row[tuple[object, ...]]:
        row = row_of(connection, name)
        if row.institution != institution:
            raise VersionUnknown("another institution's")
        return row


def _check_person(by: str) -> None:
    if by.count("/") < 2:
        raise FourEyesRequired("no person", public="your certificate names no person")
