"""Holds the tables of state against the replay: every row, no more, no fewer.

Nothing of a stored row is repeated in a finding: it may have been edited, and hold anything.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from audit.findings import Findings
from audit.kinds import Decision
from audit.prepared import driver
from model_registry.errors import ManifestInvalid
from model_registry.manifest import departments_of
from sandbox.replay.state import Room
from sandbox.replay.versions import kept_bundles
from sandbox.vault.datasets import PUBLISHED, SUSPENDED

Key = tuple[object, ...]
Said = tuple[Key, Sequence[object], int]  # key, values, the entry that said it last

UNJUDGED = (
    "sealed bodies (limits, artefacts, records, reasons): they open under the enclave's keys alone",
    "the vault's records and the layout hashes of datasets: the log has a hash of each load",
)


@dataclass(frozen=True)
class Table:
    """A table, its key and the columns that the log speaks of; `read` turns a stored row into what the log says."""

    name: str
    key: tuple[str, ...]
    values: tuple[str, ...]
    said: Callable[[Room], Iterable[Said]]
    read: Callable[[Sequence[Any]], Sequence[object]] = lambda values: values


def check_tables(connection: Connection, room: Room, findings: Findings) -> None:
    """Compare every table but `call` (`CallRows`), inside the snapshot that the log was read from."""
    for table in TABLES:
        _compare(connection, table, room, findings)
    _check_stewards(connection, room, findings)
    for what in UNJUDGED:
        findings.lacks(what)


class CallRows:
    """Compares `call` while the log is read: a row for each decision, in order, so that none need be kept in mind."""

    def __init__(self, connection: Connection, findings: Findings) -> None:
        query = "SELECT idx, subject_tag, request_hash FROM call ORDER BY idx"
        self._rows: Iterator[Sequence[object]] = iter(driver(connection).execute(query))
        self._findings = findings
        self._next = next(self._rows, None)

    def take(self, index: int, event: object) -> None:
        """Compare the row of the next entry, where it is a decision."""
        if isinstance(event, Decision):
            self._skip(index)
            if self._next is None or self._next[0] != index:
                self._findings.add("row_missing", index, "call")
                return
            if tuple(self._next[1:]) != (event.subject_tag, event.request_hash):
                self._findings.add("row_differs", index, "call")
            self._next = next(self._rows, None)

    def finish(self) -> None:
        """Say what rows are left over."""
        self._skip(None)

    def _skip(self, index: int | None) -> None:
        while self._next is not None and (index is None or not isinstance(at := self._next[0], int) or at < index):
            self._findings.add("row_superfluous", None, "call")
            self._next = next(self._rows, None)


def _compare(connection: Connection, table: Table, room: Room, findings: Findings) -> None:
    said = {key: (tuple(values), touched) for key, values, touched in table.said(room)}
    columns = ", ".join(f'"{name}"' for name in (*table.key, *table.values))
    width, superfluous = len(table.key), 0
    for row in driver(connection).execute(f'SELECT {columns} FROM "{table.name}"'):  # noqa: S608
        expected = said.pop(row[:width], None)
        if expected is None:
            superfluous += 1
        elif tuple(table.read(row[width:])) != expected[0]:
            findings.add("row_differs", expected[1], table.name)
    for _, touched in sorted(said.values(), key=lambda one: one[1]):
        findings.add("row_missing", touched, table.name)
    if superfluous:
        findings.add("row_superfluous", None, table.name, str(superfluous))


def _check_stewards(connection: Connection, room: Room, findings: Findings) -> None:
    """A department stops only what reads its data: the manifest says, whose hash the log has."""
    query = 'SELECT manifest_jws FROM "version" WHERE version = ?'
    for name, now in room.versions.items():
        for department, index in now.stewards:
            row = driver(connection).execute(query, (name,)).fetchone()
            if row is not None and department not in _departments(row[0]):
                findings.add("version_steward", index)


def _departments(manifest_jws: object) -> frozenset[str]:
    try:
        return departments_of(str(manifest_jws))
    except ManifestInvalid:  # an edited row, which the comparison of tables has told already
        return frozenset()


def _consents(room: Room) -> Iterator[Said]:
    for name, now in room.consents.items():
        whole = (
            *(now.consent_hash, now.authority, now.institution, json.dumps(now.products), now.purpose),
            *(now.subject_tag, now.state, int(now.not_before.timestamp()), int(now.expires.timestamp())),
            *(now.uses, now.max_uses, now.index, now.unit, now.frequency, now.period, now.period_uses, now.replaces),
        )
        yield (name,), whole, now.touched


def _versions(room: Room) -> Iterator[Said]:
    for name, now in room.versions.items():
        sent = now.submitted
        product, _, number = name.rpartition("@")
        state = (sent.institution, product, int(number) if number.isdecimal() else -1, now.state, sent.bundle_hash)
        parts = (sent.model_hash, sent.rules_hash, sent.model_of)
        people = (sent.by, int(now.at.timestamp() * 1000), now.approved_by, sent.manifest_hash)
        yield (name,), (*state, *parts, *people), now.touched


def _manifest_hashed(row: Sequence[Any]) -> Sequence[object]:
    return *row[:-1], hashlib.sha256(str(row[-1]).encode()).hexdigest()


def _bundles(room: Room) -> Iterator[Said]:
    kept = kept_bundles(room)
    for name, now in room.versions.items():
        if name in kept:
            yield (name,), (now.submitted.bundle_hash,), now.touched


def _history(room: Room) -> Iterator[Said]:
    for one in room.history:
        product, at = one.version.rpartition("@")[0], int(one.at.timestamp() * 1000)
        yield (one.index,), (product, one.version, one.kind, one.by, one.why, at), one.index


def _bundle_hashed(row: Sequence[Any]) -> Sequence[object]:
    return (hashlib.sha256(row[0]).hexdigest() if isinstance(row[0], bytes) else "",)


def _bundle_keys(room: Room) -> Iterator[Said]:
    kept = kept_bundles(room)
    for name, now in room.versions.items():
        if name in kept and room.keys:
            newest = room.keys[-1]
            yield (name,), (newest.key_id,), max(now.touched, newest.index)


def _keys(room: Room) -> Iterator[Said]:
    for now in room.keys:
        until = None if now.until is None else _ms(now.until)
        yield (now.epoch,), (now.key_id, now.index, _ms(now.at), until, now.destroyed), now.touched


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _datasets(room: Room) -> Iterator[Said]:
    for name, now in room.datasets.items():
        yield (name,), (SUSPENDED if now.suspended else PUBLISHED, now.loads, now.rows), now.touched


_CONSENT_COLUMNS = (
    *("consent_hash", "authority", "institution", "products", "purpose", "subject_tag", "state", "not_before"),
    *("expires", "uses", "max_uses", "granted_index", "frequency_unit", "frequency", "period", "period_uses"),
    "replaces",
)
_VERSION_COLUMNS = (
    *("institution", "product", "number", "state", "bundle_hash", "model_hash", "rules_hash", "model_of"),
    *("submitted_by", "submitted_at", "approved_by", "manifest_jws"),
)

TABLES = (
    Table("consent", ("consent_id",), _CONSENT_COLUMNS, _consents),
    Table(
        "artefact",
        ("consent_id",),
        (),
        lambda room: (((name,), (), now.index) for name, now in room.consents.items()),
    ),
    Table(
        "revoked_authority",
        ("authority",),
        ("idx",),
        lambda room: (((name,), (index,), index) for name, index in room.authorities_revoked.items()),
    ),
    Table(
        "subject_key", ("subject_tag",), (), lambda room: (((tag,), (), index) for tag, index in room.subjects.items())
    ),
    Table(
        "erased_subject",
        ("subject_tag",),
        ("idx",),
        lambda room: (((tag,), (index,), index) for tag, index in room.erased.items()),
    ),
    Table("version", ("version",), _VERSION_COLUMNS, _versions, _manifest_hashed),
    Table("bundle", ("version",), ("ciphertext",), _bundles, _bundle_hashed),
    Table("version_change", ("idx",), ("product", "version", "kind", "by", "why", "at"), _history),
    Table("bundle_key", ("version",), ("key_id",), _bundle_keys),
    Table("key_epoch", ("epoch",), ("key_id", "made_index", "made_at", "destroy_at", "destroyed_index"), _keys),
    Table(
        "promotion",
        ("idx",),
        ("product", "version", "at"),
        lambda room: (
            ((one.index,), (one.product, one.version, int(one.at.timestamp() * 1000)), one.index)
            for one in room.promotions
        ),
    ),
    Table(
        "suspension",
        ("version", "by"),
        (),
        lambda room: (
            ((name, holder), (), index) for name, now in room.versions.items() for holder, index in now.holders.items()
        ),
    ),
    Table("dataset", ("name",), ("state", "loads", "rows"), _datasets),
    Table(
        "sequence",
        ("institution",),
        ("seq",),
        lambda room: (((name,), (last.value,), last.touched) for name, last in room.sequences.items()),
    ),
    Table(
        "budget",
        ("subject_tag", "institution", "year"),
        ("bits_milli",),
        # A year in which every answer was free has no row.
        lambda room: ((key, (sum_.value,), sum_.touched) for key, sum_ in room.budgets.items() if sum_.value),
    ),
)
