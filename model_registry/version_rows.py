"""Rows of versions: read, written, told as a Version. What the registry's changes are made of."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Row, bindparam, func, insert, select

from audit.event import VersionSubmitted
from audit.prepared import Prepared
from model_registry import tables
from model_registry.bundle import SealedBundle
from model_registry.errors import Reason, VersionUnknown
from model_registry.lifecycle import State
from model_registry.manifest import Manifest, manifest_hash

_PROMOTED = tables.promotion.c
_NEWEST = select(func.max(_PROMOTED.idx)).where(_PROMOTED.product == bindparam("of")).scalar_subquery()
_CHAMPION = Prepared(select(_PROMOTED.version).where(_PROMOTED.idx == _NEWEST))
_SUSPENSION = Prepared(select(tables.suspension.c.by).where(tables.suspension.c.version == bindparam("name")))


@dataclass(frozen=True)
class Version:
    """A version as its institution sees it."""

    version: str
    institution: str
    product: str
    state: State
    manifest_jws: str
    bundle_hash: str
    submitted_by: str
    submitted_at: int
    approved_by: str
    reasons: tuple[Reason, ...]

    @property
    def manifest_hash(self) -> str:
        """SHA-256 of the manifest JWS, hex."""
        return manifest_hash(self.manifest_jws).hex()


def bound_digest(manifest_jws: str, digest: str) -> str:
    """How the log names a model or rules: SHA-256(manifest JWS ‖ digest), hex.

    Short rules could be guessed from their bare digest; the JWS carries a signature that nobody else has.
    """
    return hashlib.sha256(manifest_jws.encode() + digest.encode()).hexdigest()


def champion_of(connection: Connection, product: str) -> str | None:
    """The product's champion in this transaction; None where it has none."""
    found: str | None = _CHAMPION.scalar(connection, of=product)
    return found


def is_suspended(connection: Connection, name: str) -> bool:
    """Whether a version is suspended in this transaction."""
    return _SUSPENSION.scalar(connection, name=name) is not None


def row_of(connection: Connection, name: str) -> Row[tuple[object, ...]]:
    """A version's row; raises VersionUnknown."""
    row = connection.execute(select(tables.version).where(tables.version.c.version == name)).one_or_none()
    if row is None:
        raise VersionUnknown("no such version")
    return row


def next_number(connection: Connection, product: str) -> int:
    """The product's next version number: from 1, no gaps, never reused."""
    newest = connection.scalar(select(func.max(tables.version.c.number)).where(tables.version.c.product == product))
    return (newest or 0) + 1


def insert_version(
    connection: Connection,
    name: str,
    number: int,
    manifest: Manifest,
    bundle: SealedBundle,
    bundle_hash: str,
    by: str,
    time: datetime,
    reasons: bytes,
) -> None:
    """Writes a submitted version and its ciphertext, inside the ledger's transaction; resealing.keep_key its key."""
    connection.execute(
        insert(tables.version).values(
            version=name,
            institution=manifest.institution,
            product=manifest.product,
            number=number,
            state=State.SUBMITTED,
            manifest_jws=bundle.manifest_jws,
            bundle_hash=bundle_hash,
            submitted_by=by,
            submitted_at=int(time.timestamp() * 1000),
            reasons=reasons,
        )
    )
    connection.execute(insert(tables.bundle).values(version=name, ciphertext=bundle.ciphertext))


def submitted(name: str, manifest: Manifest, bundle: SealedBundle, bundle_hash: str, by: str) -> VersionSubmitted:
    """The entry that says a bundle was submitted."""
    return VersionSubmitted(
        institution=manifest.institution,
        version=name,
        manifest_hash=manifest_hash(bundle.manifest_jws).hex(),
        bundle_hash=bundle_hash,
        model_hash=bound_digest(bundle.manifest_jws, manifest.digests.model),
        rules_hash=bound_digest(bundle.manifest_jws, manifest.digests.rules),
        by=by,
    )


def version_of(connection: Connection, row: Row[tuple[object, ...]], reasons: Sequence[dict[str, str]]) -> Version:
    """A row as its institution sees it: champion and suspended are laid over its state."""
    state = State(row.state)
    if champion_of(connection, row.product) == row.version:
        state = State.CHAMPION
    if is_suspended(connection, row.version):
        state = State.SUSPENDED
    return Version(
        version=row.version,
        institution=row.institution,
        product=row.product,
        state=state,
        manifest_jws=row.manifest_jws,
        bundle_hash=row.bundle_hash,
        submitted_by=row.submitted_by,
        submitted_at=row.submitted_at,
        approved_by=row.approved_by or "",
        reasons=tuple(Reason(**reason) for reason in reasons),
    )


def held_row(connection: Connection, name: str, holder: str) -> Row[tuple[object, ...]]:
    """The row of a version that `holder` (`role/organisation`) may hold back; raises VersionUnknown."""
    row = row_of(connection, name)
    if holder.startswith("institution/") and holder != f"institution/{row.institution}":
        raise VersionUnknown("another institution's")
    return row


def champion_before(connection: Connection, product: str, present: str) -> str | None:
    """The newest version older than `present` that has been champion and may be again; None where there is none."""
    table, held = tables.version, select(tables.suspension.c.version)
    older = select(table.c.number).where(table.c.version == present).scalar_subquery()
    promoted = select(tables.promotion.c.version).where(tables.promotion.c.product == product)
    query = select(table.c.version).where(
        table.c.product == product,
        table.c.number < older,
        table.c.state == State.APPROVED,
        table.c.version.in_(promoted),
        table.c.version.not_in(held),
    )
    return connection.scalar(query.order_by(table.c.number.desc()).limit(1))
