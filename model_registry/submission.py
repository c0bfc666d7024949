"""Versions on their way in: verified, opened, stored, inspected; and opened again whenever they are loaded.

Every change is an entry of the log and rows here in one transaction (`Submissions.append`).
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TypeVar

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from joserfc.jwk import KeySet
from sqlalchemy import Connection, Engine, select, update

from audit.errors import OwnerError, ServiceError
from audit.kinds import VersionAdmitted, VersionRefused
from audit.ledger import Ledger, Position
from model_registry import tables
from model_registry.aead import seal, unseal
from model_registry.bundle import RecipientSecret, SealedBundle, open_ciphertext, open_uploaded
from model_registry.derivation import check_derived
from model_registry.errors import (
    FourEyesRequired,
    ManifestInvalid,
    ModelRefused,
    Reason,
    StoredValueCorrupt,
    TransitionRefused,
    VersionUnknown,
)
from model_registry.lifecycle import Change, State, next_state, stored
from model_registry.manifest import Manifest, manifest_hash, verify_manifest
from model_registry.resealing import keep_key, stored_key
from model_registry.version_history import VersionEvent, note_change
from model_registry.version_room import check_room, drop_unneeded
from model_registry.version_rows import (
    Version,
    VersionRow,
    bound_digest,
    check_own,
    holders_of,
    insert_version,
    next_number,
    own_row,
    row_of,
    state_of,
    submitted,
    versions_of,
)

T = TypeVar("T")
Said = tuple[VersionEvent, T]

# manifest, content, content of the bundle that holds the model (empty = the first does) -> reasons against it
Inspect = Callable[[Manifest, bytes, bytes], Awaitable[Sequence[Reason]]]


@dataclass(frozen=True)
class Opened:
    """A stored bundle, opened: what really is in it, whatever the table says.

    Attributes:
        manifest: verified.
        content: in the clear, not parsed.
        bundle_hash, rules_hash: as decisions name them.
        base: content of the bundle that holds the model, where that is another version's; else empty.
    """

    manifest: Manifest
    content: bytes
    bundle_hash: str
    rules_hash: str
    base: bytes = b""


@dataclass(frozen=True)
class _Upload:
    """A bundle that opened: what is stored of it, and what is inspected."""

    bundle: SealedBundle
    bundle_hash: str
    manifest: Manifest
    content: bytes
    key: bytes = field(repr=False)
    by: str
    model_of: str = ""
    base: bytes = b""


@dataclass(frozen=True)
class Submissions:
    """What comes into the enclave, and how it is opened again.

    `notes` seals the reasons of refusals, which quote the bank's model and rules.
    """

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
        upload = await self._opened(bundle, institution, by)
        return await self._submit(upload, inspect, lambda _: None)

    async def replace_rules(
        self, name: str, bundle: SealedBundle, institution: str, by: str, inspect: Inspect
    ) -> Version:
        """Stores new rules for a version's model as the product's next version, and has both inspected together.

        Args:
            name: the version whose model they are for; admitted or approved, held back by nobody else.
            bundle: holds rules and parity samples, no model; its manifest has the model's digest.
            institution: the caller's.
            by: who submits, for the log.
            inspect: as for `submit`.

        Raises:
            VersionUnknown, TransitionRefused: no such version, or none to go on from; and whatever `submit` raises.
        """
        check_own(name, institution)
        with self.engine.connect() as connection:
            base = self._derivable(connection, name, institution)
        upload = await self._opened(bundle, institution, by)
        declared = verify_manifest(base.manifest_jws, self.institutions, self.levels_max)
        check_derived(upload.manifest, declared, name)
        model_of = base.model_of or name
        model = await asyncio.to_thread(self._open_stored, model_of)
        upload = replace(upload, model_of=model_of, base=model.content)
        return await self._submit(upload, inspect, lambda now: self._derivable(now, name, institution))

    async def _opened(self, bundle: SealedBundle, institution: str, by: str) -> _Upload:
        check_person(by)
        manifest = verify_manifest(bundle.manifest_jws, self.institutions, self.levels_max)
        if manifest.institution != institution:
            raise ManifestInvalid("institution", public="the product belongs to another institution")
        content, key = await asyncio.to_thread(open_uploaded, bundle, manifest, self.secrets)
        return _Upload(bundle, await asyncio.to_thread(lambda: bundle.bundle_hash), manifest, content, key, by)

    async def _submit(self, upload: _Upload, inspect: Inspect, check: Callable[[Connection], object]) -> Version:
        # A caller who leaves, even in the instant between commit and inspection, must not leave a version behind that
        # nobody judges: from storing to judging it is one task, which the caller only waits for.
        task = asyncio.create_task(self._store_and_inspect(upload, inspect, check))
        self._inspections.add(task)
        task.add_done_callback(self._inspections.discard)
        name, reasons = await asyncio.shield(task)
        if reasons:
            raise ModelRefused(reasons, name)
        return self.get(name, upload.manifest.institution)

    async def _store_and_inspect(
        self, upload: _Upload, inspect: Inspect, check: Callable[[Connection], object]
    ) -> tuple[str, Sequence[Reason]]:
        manifest, bundle = upload.manifest, upload.bundle

        def change(connection: Connection, position: Position) -> Said[str]:
            check(connection)
            at = int(position.time.timestamp() * 1000)
            check_room(connection, manifest.institution, len(bundle.ciphertext), at)
            name = f"{manifest.product}@{next_number(connection, manifest.product)}"
            jws, reasons = bundle.manifest_jws, seal(self.notes, b"[]", name.encode())
            event = submitted(name, manifest, jws, upload.bundle_hash, upload.by, upload.model_of)
            insert_version(connection, event, manifest.product, bundle, position.time, reasons)
            keep_key(connection, name, upload.key, manifest_hash(jws), self.secrets)
            return event, name

        name = await self.append(change)
        return name, await self._inspect(name, manifest, upload.content, upload.base, inspect)

    async def append(self, change: Callable[[Connection, Position], Said[T]]) -> T:
        """Makes a change of a version, and writes it into the product's history with its entry."""
        return (await self.ledger.append(self.noted(change))).value

    def noted(self, change: Callable[[Connection, Position], Said[T]]) -> Callable[[Connection, Position], Said[T]]:
        """A change that writes itself into the product's history."""

        def both(connection: Connection, position: Position) -> Said[T]:
            event, value = change(connection, position)
            note_change(connection, position.index, position.time, event)
            return event, value

        return both

    async def finish_inspections(self, inspect: Inspect) -> None:
        """Inspects what a stop of the service left submitted; a bundle that does not open is refused."""
        with self.engine.connect() as connection:
            rows = connection.execute(select(tables.version).where(tables.version.c.state == State.SUBMITTED)).all()
        for row in rows:
            try:
                opened = await asyncio.to_thread(self.open_content, row.version)
            except (OwnerError, StoredValueCorrupt, VersionUnknown) as error:
                await self._judge(row.version, [Reason(error.code, "bundle", "the stored bundle does not open")])
            else:
                await self._inspect(row.version, opened.manifest, opened.content, opened.base, inspect)

    async def _inspect(
        self, name: str, manifest: Manifest, content: bytes, base: bytes, inspect: Inspect
    ) -> Sequence[Reason]:
        try:
            reasons = await inspect(manifest, content, base)
        except ServiceError as error:
            reasons = [Reason(error.code, "inspection", "the enclave could not inspect it; submit it again")]
        await self._judge(name, reasons)
        return reasons

    async def _judge(self, name: str, reasons: Sequence[Reason]) -> None:
        noted = seal(self.notes, json.dumps([asdict(reason) for reason in reasons]).encode(), name.encode())

        def change(connection: Connection, _: Position) -> Said[None]:
            row = row_of(connection, name)
            self.set_state(connection, row, Change.REFUSE if reasons else Change.ADMIT, reasons=noted)
            if reasons:
                drop_unneeded(connection, row)
                return VersionRefused(version=name, code=reasons[0].code), None
            return VersionAdmitted(version=name), None

        await self.append(change)

    def get(self, name: str, institution: str) -> Version:
        """One version of an institution; raises VersionUnknown."""
        check_own(name, institution)
        with self.engine.connect() as connection:
            row = own_row(connection, name, institution)
            (found,) = versions_of(connection, row.product, [row])
        noted = json.loads(unseal(self.notes, row.reasons, name.encode()))
        return replace(found, reasons=tuple(Reason(**reason) for reason in noted))

    def open_content(self, name: str) -> Opened:
        """Opens a stored bundle inside the enclave.

        Raises:
            VersionUnknown: none, or its bundle is not kept.
            SignatureInvalid, ManifestInvalid, BundleInvalid: it does not open any more.
            StoredValueCorrupt: it opens, but is not the one submitted as this version.
        """
        opened = self._open_stored(name)
        with self.engine.connect() as connection:
            model_of = row_of(connection, name).model_of
        # Whatever the row says: the manifest has the model's digest, and behind the walls it is compared.
        return replace(opened, base=self._open_stored(model_of).content) if model_of else opened

    def _open_stored(self, name: str) -> Opened:
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

    def set_state(self, connection: Connection, row: VersionRow, what: Change, **values: object) -> None:
        """Moves a version along the table of its life, inside the ledger's transaction; raises TransitionRefused."""
        state = stored(next_state(state_of(connection, row), what))
        mine = tables.version.c.version == row.version
        connection.execute(update(tables.version).where(mine).values(state=state, **values))

    def _derivable(self, connection: Connection, name: str, institution: str) -> VersionRow:
        row = own_row(connection, name, institution)
        next_state(state_of(connection, row), Change.DERIVE)
        # The bank may mend what it stopped itself; what others stopped does not live on under another number.
        held = {*holders_of(connection, name), *holders_of(connection, row.model_of or name)}
        if others := held - {f"institution/{institution}"}:
            raise TransitionRefused("held back", public=f"its model is held back by {', '.join(sorted(others))}")
        return row


def check_person(by: str) -> None:
    """Raises FourEyesRequired where a caller's certificate names nobody: two pairs of eyes need two persons."""
    if by.count("/") < 2:
        raise FourEyesRequired("no person", public="your certificate names no person")
