"""Datasets as the ledger keeps them: published by their steward, loaded whole or not at all, stopped at once."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, Row, bindparam, insert, select, update

from audit.errors import LedgerBusy
from audit.event import format_time
from audit.kinds import DatasetLoaded, DatasetPublished, DatasetResumed, DatasetSuspended, Event
from audit.ledger import Ledger, Position
from audit.prepared import Prepared
from sandbox import tables
from sandbox.errors import DatasetClosed, DatasetNotYours, LoadInvalid
from sandbox.vault import vault as store
from sandbox.vault.catalog import Dataset, layout_hash
from sandbox.vault.errors import RecordInvalid
from sandbox.vault.record import RecordLayout
from sandbox.vault.subject_columns import first_invalid_subject

LOAD_ROWS_MAX = 200_000  # a load is one transaction held in memory: about 150 MB; split larger tables

PUBLISHED, SUSPENDED, DESCRIBED = "published", "suspended", "described"

# All of them, some dozens: fewer to read than a list of names is to bind.
_OPEN = Prepared(
    select(tables.dataset.c.name, tables.dataset.c.layout_hash).where(tables.dataset.c.state == bindparam("now"))
)


@dataclass(frozen=True)
class DatasetStatus:
    """A dataset of the catalogue and where it stands."""

    dataset: Dataset
    state: str


@dataclass
class Load:
    """A load under way: checked and encrypted chunk by chunk, stored only when complete."""

    dataset: Dataset
    number: int
    event_at: int
    known_at: int
    expected: int
    rows: list[store.Row] = field(default_factory=list)
    keys: set[bytes] = field(default_factory=set)


@dataclass(frozen=True)
class Datasets:
    """The datasets of one enclave."""

    ledger: Ledger
    engine: Engine
    vault: store.Vault

    def status(self) -> list[DatasetStatus]:
        """Every dataset of the catalogue, in its order."""
        with self.engine.connect() as connection:
            rows = {row.name: row for row in connection.execute(select(tables.dataset))}
        return [DatasetStatus(d, _state(d, rows.get(d.name))) for d in self.vault.catalog.datasets.values()]

    def get(self, name: str) -> DatasetStatus:
        """One dataset of the catalogue; raises DatasetUnknown."""
        return self._status(self.vault.catalog.dataset(name))

    async def publish(self, name: str, layout: str, department: str, by: str) -> DatasetStatus:
        """Opens a dataset, or opens it again after its layout changed.

        Raises:
            DatasetUnknown, DatasetNotYours; LoadInvalid: the steward means another layout than the enclave's catalogue.
        """
        dataset = self._own(name, department)
        self._check_layout(dataset, layout)

        def change(connection: Connection, _: Position) -> tuple[Event, None]:
            row = _row(connection, name)
            if row is None:
                values = {"name": name, "state": PUBLISHED, "layout_hash": layout, "loads": 0, "rows": 0}
                connection.execute(insert(tables.dataset).values(values))
            elif row.layout_hash != layout:
                # Records packed in the old layout would be read wrongly: they stay in history alone.
                connection.execute(tables.current.delete().where(tables.current.c.dataset == name))
                connection.execute(
                    update(tables.dataset).where(tables.dataset.c.name == name).values(layout_hash=layout)
                )
            catalog_hash = self.vault.catalog.digest()
            return DatasetPublished(dataset=name, by=by, fields=len(dataset.fields), catalog_hash=catalog_hash), None

        await self.ledger.append(change)
        return self._status(dataset)

    async def switch(self, name: str, department: str, by: str, reason: str, *, suspend: bool) -> DatasetStatus:
        """Stops or reopens a dataset at once; raises DatasetUnknown, DatasetNotYours, DatasetClosed (not published)."""
        dataset = self._own(name, department)

        def change(connection: Connection, _: Position) -> tuple[Event, None]:
            if _row(connection, name) is None:
                raise DatasetClosed("not published", public="the dataset is not published")
            state = SUSPENDED if suspend else PUBLISHED
            connection.execute(update(tables.dataset).where(tables.dataset.c.name == name).values(state=state))
            kind = DatasetSuspended if suspend else DatasetResumed
            return kind(dataset=name, by=by, reason=reason), None

        await self.ledger.append(change)
        return self._status(dataset)

    def begin(self, name: str, layout: str, department: str, event_at: datetime, rows: int, now: datetime) -> Load:
        """Begins a load.

        Raises:
            DatasetUnknown, DatasetNotYours, DatasetClosed; LoadInvalid: layout, number of rows, or a day in the future.
        """
        dataset = self._own(name, department)
        self._check_layout(dataset, layout)
        if not 1 <= rows <= LOAD_ROWS_MAX:
            raise LoadInvalid("rows", public=f"1 to {LOAD_ROWS_MAX:,} rows a load; split larger tables")
        if event_at > now:
            raise LoadInvalid("event_at", public="the day the values describe lies in the future")
        with self.engine.connect() as connection:
            row = _row(connection, name)
            if row is None or row.layout_hash != layout:
                raise DatasetClosed("not published", public="publish the dataset first")
        return Load(dataset, row.loads + 1, _milli(event_at), _milli(now), rows)

    def add(self, load: Load, subjects: Sequence[str], records: bytes) -> None:
        """Checks and encrypts a chunk of rows; raises LoadInvalid, naming row and field, never a value."""
        layout = RecordLayout.of(load.dataset)
        before = len(load.rows)
        if before + len(subjects) > load.expected or len(records) != len(subjects) * layout.width:
            raise LoadInvalid("chunk size", public="subjects and record bytes do not match the header")
        try:
            layout.validate(records, len(subjects))
        except RecordInvalid as error:
            raise LoadInvalid("record", public=f"after row {before}: {error}") from error
        width = layout.width
        packed = (records[i : i + width] for i in range(0, len(records), width))
        if (bad := first_invalid_subject(subjects)) is not None:
            raise LoadInvalid("subject", public=f"row {before + bad + 1}: not a valid credit code or identity number")
        pairs = zip(subjects, packed, strict=True)
        rows = self.vault.seal_rows(load.dataset.name, load.number, load.event_at, load.known_at, pairs)
        load.keys.update(row[0] for row in rows)
        load.rows.extend(rows)
        if len(load.keys) != len(load.rows):
            raise LoadInvalid("duplicate", public=f"a subject stands twice, up to row {len(load.rows)}")

    async def finish(self, load: Load, by: str) -> tuple[int, int]:
        """Stores a complete load in one transaction; returns its number and the index of its entry.

        Raises:
            LoadInvalid: rows are missing.
            LedgerBusy: another load of the dataset was stored meanwhile; repeat.
        """
        if len(load.rows) != load.expected:
            raise LoadInvalid("cut", public=f"{load.expected:,} rows announced, {len(load.rows):,} sent")
        name = load.dataset.name

        def change(connection: Connection, _: Position) -> tuple[Event, None]:
            row = _row(connection, name)
            if row is None or row.loads + 1 != load.number or row.layout_hash != layout_hash(load.dataset):
                raise LedgerBusy("another load came first")
            store.store_rows(connection, load.rows)
            mine = tables.dataset.c.name == name
            counts = {"loads": load.number, "rows": len(load.rows)}
            connection.execute(update(tables.dataset).where(mine).values(counts))
            return _loaded(load, by), None

        done = await self.ledger.append(change)
        return load.number, done.index

    def _own(self, name: str, department: str) -> Dataset:
        dataset = self.vault.catalog.dataset(name)
        if dataset.department != department:
            raise DatasetNotYours("department", public=f"it belongs to {dataset.department}")
        return dataset

    def _check_layout(self, dataset: Dataset, layout: str) -> None:
        if layout != layout_hash(dataset):
            raise LoadInvalid("layout", public="your catalogue describes other fields than the enclave's")

    def _status(self, dataset: Dataset) -> DatasetStatus:
        with self.engine.connect() as connection:
            return DatasetStatus(dataset, _state(dataset, _row(connection, dataset.name)))


def check_open(connection: Connection, names: Iterable[str], hashes: dict[str, str]) -> None:
    """Every dataset must be published in today's layout and not suspended; raises DatasetClosed naming the first."""
    published = dict(_OPEN.all(connection, now=PUBLISHED))
    for name in names:
        if published.get(name) != hashes[name]:
            raise DatasetClosed(name, public=name)


def _state(dataset: Dataset, row: Row[tuple[object, ...]] | None) -> str:
    return DESCRIBED if row is None or row.layout_hash != layout_hash(dataset) else str(row.state)


def _row(connection: Connection, name: str) -> Row[tuple[object, ...]] | None:
    return connection.execute(select(tables.dataset).where(tables.dataset.c.name == name)).one_or_none()


def _loaded(load: Load, by: str) -> DatasetLoaded:
    # Over the sealed bodies: their random nonces keep anyone from guessing records behind the hash.
    content = hashlib.sha256()
    for row in load.rows:
        content.update(row[5])
    return DatasetLoaded(
        dataset=load.dataset.name,
        by=by,
        load=load.number,
        rows=len(load.rows),
        content_hash=content.hexdigest(),
        event_at=format_time(datetime.fromtimestamp(load.event_at / 1000, UTC)),
    )


def _milli(time: datetime) -> int:
    return int(time.timestamp() * 1000)
