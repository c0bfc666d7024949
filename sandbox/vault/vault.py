"""The encrypted store of records and the one hot read: a subject's datasets in one range, gathered into a vector.

A record's associated data are its key columns, so a row cannot be moved to another subject, dataset, version or time.
The hot read uses the raw driver, because it is every call's; everything else goes through SQLAlchemy Core.
"""

import math
import struct
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine

from model_registry.aead import seal, unseal
from sandbox.vault.catalog import Catalog, FieldType
from sandbox.vault.moments import FOREVER_MS
from sandbox.vault.record import Gather, RecordLayout
from sandbox.vault.sealing import VaultKeys

_BOUND = struct.Struct(">qqq")
_COLUMNS = "(subject_key, dataset, version, event_at, known_at, body) VALUES (?, ?, ?, ?, ?, ?)"


Row = tuple[bytes, str, int, int, int, bytes]
RecordVersions = tuple[int | None, ...]


@dataclass(frozen=True)
class JoinPlan:
    """A model's field list, compiled once: which slots of which datasets go where in the vector."""

    width: int
    datasets: tuple[str, ...]
    parts: Mapping[str, tuple[Gather, tuple[int, ...]]]
    sql: str


@dataclass(frozen=True)
class Joined:
    """A subject's vector.

    Attributes:
        vector: float64, little endian, in the manifest's field order; NaN = missing.
        versions: for each dataset of the plan the version read, None where there is none or it is too old.
    """

    vector: bytes
    versions: RecordVersions

    @property
    def found(self) -> bool:
        """Whether any record was there."""
        return any(version is not None for version in self.versions)


def compile_plan(catalog: Catalog, fields: Sequence[str]) -> JoinPlan:
    """Compiles a field list; raises FieldUnknown, DatasetUnknown where the catalogue lacks one."""
    positions: dict[str, list[int]] = {}
    for position, field in enumerate(fields):
        positions.setdefault(catalog.dataset_of(field).name, []).append(position)
    parts = {}
    for name, places in positions.items():
        gather = RecordLayout.of(catalog.dataset(name)).compile([fields[p] for p in places])
        parts[name] = (gather, tuple(places))
    marks = ", ".join("?" * len(parts))
    sql = (
        f"SELECT dataset, version, event_at, known_at, body FROM current WHERE subject_key = ? AND dataset IN ({marks})"  # noqa: S608
    )
    return JoinPlan(len(fields), tuple(parts), parts, sql)


class Vault:
    """Records under keys that only the enclave has."""

    def __init__(self, engine: Engine, keys: VaultKeys, catalog: Catalog) -> None:
        """Opens the reader's connection; used from one thread (the event loop's) alone."""
        self.keys = keys
        self.catalog = catalog
        self._pooled = engine.raw_connection()
        self._reader: Any = self._pooled.driver_connection

    def close(self) -> None:
        """Gives the reader's connection back."""
        self._pooled.close()

    def join(
        self,
        plan: JoinPlan,
        subject: str,
        oldest_ms: int,
        admit: Callable[[RecordVersions], None] = lambda _: None,
        before_ms: int = FOREVER_MS,
    ) -> Joined:
        """Reads and gathers a subject's records.

        Args:
            plan: of the version.
            subject: checked subject.
            oldest_ms: records whose values describe a day before this (Unix milliseconds) count as missing.
            admit: called with the versions that were read before any of them is decrypted; it may raise to stop that.
            before_ms: records of a day from this on (Unix milliseconds) count as missing too.

        Raises:
            StoredValueCorrupt: a record does not open.
        """
        key = self.keys.row_key(subject)
        values = [math.nan] * plan.width
        rows = [row for row in self._reader.execute(plan.sql, (key, *plan.datasets)) if oldest_ms <= row[2] < before_ms]
        found = {dataset: version for dataset, version, *_ in rows}
        versions = tuple(found.get(name) for name in plan.datasets)
        admit(versions)
        for dataset, version, event_at, known_at, body in rows:
            record = unseal(self.keys.record_cipher(dataset), body, _bound(key, dataset, version, event_at, known_at))
            gather, places = plan.parts[dataset]
            for place, value in zip(places, gather.read(record), strict=True):
                values[place] = value
        return Joined(array("d", values).tobytes(), versions)

    def seal_rows(
        self, dataset: str, version: int, event_at: int, known_at: int, rows: Iterable[tuple[str, bytes]]
    ) -> list[Row]:
        """Encrypts packed records for storage; times in Unix milliseconds."""
        cipher, sealed = self.keys.record_cipher(dataset), []
        for subject, record in rows:
            key = self.keys.row_key(subject)
            body = seal(cipher, record, _bound(key, dataset, version, event_at, known_at))
            sealed.append((key, dataset, version, event_at, known_at, body))
        return sealed


def store_rows(connection: Connection, rows: Sequence[Row]) -> None:
    """Writes sealed rows to `history` and makes them current, inside the ledger's transaction."""
    connection.exec_driver_sql(f"INSERT INTO history {_COLUMNS}", list(rows))
    connection.exec_driver_sql(f"INSERT OR REPLACE INTO current {_COLUMNS}", list(rows))


def code_lists(catalog: Catalog, fields: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The closed code list of each category among the fields."""
    return {name: f.codes for name in fields if (f := catalog.field(name)).type is FieldType.CATEGORY}


def _bound(key: bytes, dataset: str, version: int, event_at: int, known_at: int) -> bytes:
    return key + _BOUND.pack(version, event_at, known_at) + dataset.encode()
