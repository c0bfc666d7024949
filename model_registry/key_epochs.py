"""Rows of key epochs: which HPKE key banks seal to, which older ones are alive, until when.

Epochs are destroyed in their order, for each one's secret makes the next one's. A newer epoch never outlives a date
that was set for an older one by being rotated sooner: a rotation may only bring the dates of older epochs forward.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, func, insert, or_, select, update

from audit.event import floor_time
from model_registry.tables import key_epoch

OVERLAP_DAYS_MAX = 366  # a bank that has not fetched evidence for a year has other things to look into


@dataclass(frozen=True)
class Epoch:
    """One HPKE key's time: since which entry, until when it is accepted (None = it is the newest), what ended it."""

    number: int
    key_id: str
    made_index: int
    made_at: datetime
    destroy_at: datetime | None = None
    destroyed_index: int | None = None

    @property
    def alive(self) -> bool:
        """Whether the log says that its secret is still kept."""
        return self.destroyed_index is None

    def due(self, now: datetime) -> bool:
        """Whether its date has come."""
        return self.destroy_at is not None and self.destroy_at <= now


def read_epochs(connection: Connection) -> list[Epoch]:
    """Every epoch, oldest first; none before the first start."""
    rows = connection.execute(select(key_epoch).order_by(key_epoch.c.epoch)).all()
    return [
        Epoch(r.epoch, r.key_id, r.made_index, _moment(r.made_at), r.destroy_at and _moment(r.destroy_at), r[5])
        for r in rows
    ]


def newest_key_id(connection: Connection) -> str:
    """The key id of the newest epoch."""
    newest = select(func.max(key_epoch.c.epoch)).scalar_subquery()
    return str(connection.execute(select(key_epoch.c.key_id).where(key_epoch.c.epoch == newest)).scalar_one())


def begin_epoch(connection: Connection, epoch: Epoch, older_until: datetime | None = None) -> None:
    """Writes a new epoch; all older ones end at `older_until`, or before that where it was said so before."""
    if older_until is not None:
        at = _ms(older_until)
        later = or_(key_epoch.c.destroy_at.is_(None), key_epoch.c.destroy_at > at)
        connection.execute(update(key_epoch).where(key_epoch.c.destroyed_index.is_(None), later).values(destroy_at=at))
    row = {"epoch": epoch.number, "key_id": epoch.key_id, "made_index": epoch.made_index, "made_at": _ms(epoch.made_at)}
    connection.execute(insert(key_epoch).values(row))


def end_epoch(connection: Connection, number: int, index: int) -> None:
    """Writes that an epoch was destroyed by the entry at `index`."""
    connection.execute(update(key_epoch).where(key_epoch.c.epoch == number).values(destroyed_index=index))


def _ms(moment: datetime) -> int:
    return round(floor_time(moment).timestamp() * 1000)


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
