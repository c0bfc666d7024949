"""What happened to a product's versions, as rows beside the log: who was champion when, and every change."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select

from audit.kinds import (
    VersionAdmitted,
    VersionApproved,
    VersionPromoted,
    VersionRefused,
    VersionResumed,
    VersionRetired,
    VersionSubmitted,
    VersionSuspended,
)
from model_registry import tables

VersionEvent = (
    VersionSubmitted
    | VersionAdmitted
    | VersionRefused
    | VersionApproved
    | VersionPromoted
    | VersionSuspended
    | VersionResumed
    | VersionRetired
)


@dataclass(frozen=True)
class Reign:
    """That a version became champion: the entry that says so, and its time in Unix milliseconds."""

    version: str
    index: int
    at: int


@dataclass(frozen=True)
class Noted:
    """A change of a version: its entry's index, kind and time (Unix milliseconds), who, and why where that is said."""

    index: int
    version: str
    kind: str
    by: str
    why: str
    at: int


def note_of(event: VersionEvent) -> tuple[str, str]:
    """Who changed a version (empty = the inspection) and why, as the row and the log tell it."""
    why = getattr(event, "code", "") or getattr(event, "reason", "")
    return getattr(event, "by", ""), why


def note_change(connection: Connection, index: int, time: datetime, event: VersionEvent) -> None:
    """Writes the row of a change, inside the ledger's transaction."""
    by, why = note_of(event)
    product, at = event.version.rpartition("@")[0], int(time.timestamp() * 1000)
    row = {"idx": index, "product": product, "version": event.version, "kind": event.kind, "by": by, "why": why}
    connection.execute(insert(tables.version_change).values({**row, "at": at}))


def history(connection: Connection, product: str, before: int | None, count: int) -> Sequence[Noted]:
    """A product's changes with indexes below `before` (None = all), newest first."""
    table = tables.version_change.c
    query = select(table.idx, table.version, table.kind, table.by, table.why, table.at).where(table.product == product)
    if before is not None:
        query = query.where(table.idx < before)
    return [Noted(*row) for row in connection.execute(query.order_by(table.idx.desc()).limit(count))]


def approvals(connection: Connection, product: str) -> dict[str, int]:
    """When each of a product's versions was approved, in Unix milliseconds."""
    table = tables.version_change.c
    query = select(table.version, table.at).where(table.product == product, table.kind == VersionApproved.kind)
    return {row.version: row.at for row in connection.execute(query)}


def reign_of(connection: Connection, product: str, at_ms: int | None = None) -> Reign | None:
    """Who was champion at a time (None = now), by the newest promotion until then; None where there was none."""
    table = tables.promotion.c
    query = select(table.version, table.idx, table.at).where(table.product == product)
    if at_ms is not None:
        query = query.where(table.at <= at_ms)
    row = connection.execute(query.order_by(table.idx.desc()).limit(1)).one_or_none()
    return Reign(row.version, row.idx, row.at) if row else None


def reign_after(connection: Connection, product: str, index: int) -> Reign | None:
    """The first promotion with a higher index; None where there is none."""
    table = tables.promotion.c
    query = select(table.version, table.idx, table.at).where(table.product == product, table.idx > index)
    row = connection.execute(query.order_by(table.idx).limit(1)).one_or_none()
    return Reign(row.version, row.idx, row.at) if row else None
