"""The room of tests: answers are not held back unless a test asks for it, and what is stored can be looked at."""

import hashlib
import json
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from audit.event import decode
from audit.kinds import Decision
from enclave_api.cli import room
from enclave_api.cli.room import ACCEPT, ALICE, AUDITOR, BOB, OFFICE, OPERATOR, PORTAL, datasets_of
from enclave_api.client.connection import Refused
from enclave_api.error_catalog import CATALOG

__all__ = [
    "ACCEPT",
    "ALICE",
    "AUDITOR",
    "BOB",
    "OFFICE",
    "OPERATOR",
    "PORTAL",
    "Room",
    "datasets_of",
    "log_url",
    "refused",
]


class Room(room.Room):
    """A room whose answers leave at once, and whose models have time on a crowded machine."""

    @classmethod
    def make(cls, folder: Path, *, catalog: Path | None = None, **settings: int | str) -> Self:
        """Makes a home below `folder`; `settings` replace lines of its heixia.toml."""
        quantum = int(settings.get("release_quantum_ms", 0))
        given = {"release_quantum_ms": quantum, "score_deadline_ms": quantum // 2 or 1000, **settings}
        return super().make(folder, catalog=catalog, **given)

    def answer(self, subject: str, product: str, names: Sequence[str]) -> int:
        """Consents and asks once, as an honest pair would; returns the limit in yuan."""
        consent_id = self.consent(subject, product, names)
        return self.portal.request_limit(subject=subject, product=product, consent_id=consent_id).yuan

    def read_database(self) -> sqlite3.Connection:
        """The database file beside the server, to read alone."""
        return sqlite3.connect(f"file:{self.home.database}?mode=ro", uri=True)

    def entries(self, first: int = 0) -> list[dict[str, Any]]:
        """The log's entries from an index on; reading them here leaves no entry."""
        with closing(self.read_database()) as database:
            rows = database.execute("SELECT body FROM entry WHERE idx >= ? ORDER BY idx", (first,)).fetchall()
        return [json.loads(body) for (body,) in rows]

    def projections(self) -> dict[str, str]:
        """A digest of each table of state; the log's own tables are left out."""
        with closing(self.read_database()) as database:
            names = {name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            wanted = sorted(names - {"entry", "subtree", "head"})
            rows = {name: sorted(map(repr, database.execute(f'SELECT * FROM "{name}"'))) for name in wanted}
        return {name: hashlib.sha256("\n".join(found).encode()).hexdigest() for name, found in rows.items()}

    @contextmanager
    def gains(self, *kinds: str, changes: Collection[str] = ()) -> Iterator[None]:
        """What happens inside adds entries of exactly these kinds, and changes exactly these tables."""
        size, before = len(self.entries()), self.projections()
        yield
        assert [entry["kind"] for entry in self.entries(size)] == list(kinds)
        after = self.projections()
        assert {name for name in after if after[name] != before[name]} == set(changes)


def log_url(room: room.Room) -> str:
    """Where a server just started with `--log-listen` shows its log."""
    assert room.process is not None
    assert room.process.stdout is not None
    line = room.process.stdout.readline()
    assert line.startswith("log at ")
    return line.split()[-1]


@contextmanager
def refused(*codes: str) -> Iterator[None]:
    """What happens inside is refused with one of these codes, and status and text are the catalogue's."""
    with pytest.raises(Refused) as refusal:
        yield
    error = refusal.value
    assert error.code in codes, f"refused with {error.code} ({error.status}), not {codes}: {error.public[:200]}"
    assert error.status == CATALOG[error.code].status.name
    assert error.public.startswith(CATALOG[error.code].text.rstrip("."))


def decision_of(entry: bytes) -> Decision:
    """The decision in an entry's bytes."""
    event, _ = decode(entry)
    assert isinstance(event, Decision)
    return event
