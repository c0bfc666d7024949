"""Rows of versions: read, written, told as a Version. What the registry's changes are made of."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Row, bindparam, func, insert, select

from audit.kinds import VersionSubmitted
from audit.prepared import Prepared
from model_registry import tables
from model_registry.bundle import SealedBundle
from model_registry.errors import Reason, TransitionRefused, VersionUnknown
from model_registry.lifecycle import LIVING, State, may_hold
from model_registry.manifest import Manifest, departments_of, manifest_hash
from model_registry.version_history import Reign, approvals, reign_of

_PROMOTED = tables.promotion.c
_NEWEST = select(func.max(_PROMOTED.idx)).where(_PROMOTED.product == bindparam("of")).scalar_subquery()
_CHAMPION = Prepared(select(_PROMOTED.version).where(_PROMOTED.idx == _NEWEST))
_SUSPENSION = Prepared(select(tables.suspension.c.by).where(tables.suspension.c.version == bindparam("name")))

VersionRow = Row[tuple[object, ...]]


@dataclass(frozen=True)
class Version:
    """A version as its institution sees it. `state` has what is laid over it, `beneath` has not; times: Unix ms."""

    version: str
    institution: str
    product: str
    state: State
    beneath: State
    suspended_by: tuple[str, ...]  # role/organisation
    manifest_jws: str
    bundle_hash: str
    model_hash: str
    rules_hash: str
    model_of: str
    submitted_by: str
    submitted_at: int
    approved_by: str
    approved_at: int | None
    champion_since: int | None
    reasons: tuple[Reason, ...]

    @property
    def manifest_hash(self) -> str:
        """SHA-256 of the manifest JWS, hex."""
        return manifest_hash(self.manifest_jws).hex()


@dataclass(frozen=True)
class Product:
    """A product: its champion (None = none yet), who holds that back, and how many versions could run."""

    product: str
    champion: str | None
    suspended_by: tuple[str, ...]
    versions: int


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


def holders_of(connection: Connection, name: str) -> list[str]:
    """Who holds a version back in this transaction, as `role/organisation`."""
    holds = tables.suspension.c
    return list(connection.scalars(select(holds.by).where(holds.version == name).order_by(holds.by)))


def check_own(name: str, institution: str) -> None:
    """Raises VersionUnknown for another institution's name, which says whose it is: nothing is looked up for it.

    So a version of another bank costs as much time as one that does not exist.
    """
    if name.partition("/")[0] != institution:
        raise VersionUnknown("another institution's")


def row_of(connection: Connection, name: str) -> VersionRow:
    """A version's row; raises VersionUnknown."""
    row = connection.execute(select(tables.version).where(tables.version.c.version == name)).one_or_none()
    if row is None:
        raise VersionUnknown("no such version")
    return row


def own_row(connection: Connection, name: str, institution: str) -> VersionRow:
    """The row of an institution's own version; raises VersionUnknown."""
    check_own(name, institution)
    row = row_of(connection, name)
    if row.institution != institution:
        raise VersionUnknown("another institution's")
    return row


def held_row(connection: Connection, name: str, holder: str) -> VersionRow:
    """The row of a version that `holder` (`role/organisation`) may hold back; raises VersionUnknown."""
    row = row_of(connection, name)
    departments = departments_of(row.manifest_jws) if holder.startswith("steward/") else frozenset[str]()
    if not may_hold(holder, row.institution, departments):
        raise VersionUnknown("not theirs to hold")
    return row


def state_of(connection: Connection, row: VersionRow) -> State:
    """Where a version stands, apart from suspensions."""
    return State.CHAMPION if champion_of(connection, row.product) == row.version else State(row.state)


def next_number(connection: Connection, product: str) -> int:
    """The product's next version number: from 1, no gaps, never reused."""
    newest = connection.scalar(select(func.max(tables.version.c.number)).where(tables.version.c.product == product))
    return (newest or 0) + 1


def insert_version(
    connection: Connection, event: VersionSubmitted, product: str, bundle: SealedBundle, time: datetime, reasons: bytes
) -> None:
    """Writes a submitted version and its ciphertext, inside the ledger's transaction; resealing.keep_key its key."""
    connection.execute(
        insert(tables.version).values(
            version=event.version,
            institution=event.institution,
            product=product,
            number=int(event.version.rpartition("@")[2]),
            state=State.SUBMITTED,
            manifest_jws=bundle.manifest_jws,
            bundle_hash=event.bundle_hash,
            model_hash=event.model_hash,
            rules_hash=event.rules_hash,
            model_of=event.model_of,
            submitted_by=event.by,
            submitted_at=int(time.timestamp() * 1000),
            reasons=reasons,
        )
    )
    connection.execute(insert(tables.bundle).values(version=event.version, ciphertext=bundle.ciphertext))


def submitted(name: str, manifest: Manifest, jws: str, bundle_hash: str, by: str, model_of: str) -> VersionSubmitted:
    """The entry that says a bundle was submitted."""
    return VersionSubmitted(
        institution=manifest.institution,
        version=name,
        manifest_hash=manifest_hash(jws).hex(),
        bundle_hash=bundle_hash,
        model_hash=bound_digest(jws, manifest.digests.model),
        rules_hash=bound_digest(jws, manifest.digests.rules),
        by=by,
        model_of=model_of or None,
    )


def products_of(connection: Connection, institution: str, count: int) -> list[Product]:
    """An institution's products by name, the first `count`."""
    table = tables.version.c
    living = func.count().filter(table.state.in_(LIVING))
    query = select(table.product, living).where(table.institution == institution).group_by(table.product)
    made = []
    for name, number in connection.execute(query.order_by(table.product).limit(count)):
        champion = champion_of(connection, name)
        made.append(Product(name, champion, tuple(holders_of(connection, champion or "")), number))
    return made


def versions_of(connection: Connection, product: str, rows: Sequence[VersionRow]) -> list[Version]:
    """Rows of one product as its institution sees them, without reasons."""
    reign, approved = reign_of(connection, product), approvals(connection, product)
    holds = tables.suspension.c
    mine = select(tables.version.c.version).where(tables.version.c.product == product)
    held: dict[str, list[str]] = {}
    for name, by in connection.execute(select(holds.version, holds.by).where(holds.version.in_(mine))):
        held.setdefault(name, []).append(by)
    return [_version(row, reign, sorted(held.get(row.version, [])), approved.get(row.version)) for row in rows]


def _version(row: VersionRow, reign: Reign | None, held: Sequence[str], approved_at: int | None) -> Version:
    leads = reign is not None and reign.version == row.version
    beneath = State.CHAMPION if leads else State(row.state)
    return Version(
        version=row.version,
        institution=row.institution,
        product=row.product,
        state=State.SUSPENDED if held else beneath,
        beneath=beneath,
        suspended_by=tuple(held),
        manifest_jws=row.manifest_jws,
        bundle_hash=row.bundle_hash,
        model_hash=row.model_hash,
        rules_hash=row.rules_hash,
        model_of=row.model_of or "",
        submitted_by=row.submitted_by,
        submitted_at=row.submitted_at,
        approved_by=row.approved_by or "",
        approved_at=approved_at,
        champion_since=reign.at if reign is not None and leads else None,
        reasons=(),
    )


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


def earlier(connection: Connection, product: str, name: str, present: str) -> str:
    """A version named for a rollback; raises VersionUnknown (not of the product), TransitionRefused (not earlier)."""
    row = row_of(connection, name)
    if row.product != product:
        raise VersionUnknown("another product's")
    if row.number >= row_of(connection, present).number:
        public = f"{name} is not earlier than the champion, {present}; promote it instead"
        raise TransitionRefused("not earlier", public=public)
    return name
