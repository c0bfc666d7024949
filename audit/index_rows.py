"""The index's tables, and how a run of entries gets into them: one transaction with the position reached.

posting      (term, chunk) → the positions of the entries that have the term (audit/index_chunks.py)
clock        time → the first entry that is not older; times of a log do not go back, and where one does it counts
             as the latest before it
consent      what the log said of each consent; consent_key leads to it from an id or a hash
authority    authorities that lost their standing, and since which entry
day          what each institution's calls of a UTC day add up to
counter      the rules' counts in the present windows; finding: those that reached a threshold
latency      what the server measured, apart from the log
place        one row: how far the index has read, and the right edge of the tree that those entries make
"""

import json
import sqlite3
from array import array
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final

from audit.edge import Edge
from audit.index_chunks import CHUNK, add_positions
from audit.index_rules import BY_CODE, DAY_MS, NEAR_CAP_PERCENT, clock_sighting, sightings
from audit.index_terms import (
    ANSWERED,
    REFUSED,
    REPEATED,
    ConsentFacts,
    Entry,
    common_members,
    common_terms,
    consent_terms,
    count_of,
    from_ms,
    key_of,
    own_terms,
    read_entry,
    text_of,
)
from audit.merkle import HASH_BYTES, leaf_hash, range_nodes

FORMAT: Final = 1  # of tables, terms, rules and thresholds: an index of another one is built anew
KEYS_MAX: Final = 400_000  # terms, counters and consents held in memory before they are written: some 100 MB

SCHEMA: Final = """
CREATE TABLE posting (key BLOB, chunk INTEGER, positions BLOB NOT NULL, PRIMARY KEY (key, chunk)) WITHOUT ROWID;
CREATE TABLE clock (ms INTEGER PRIMARY KEY, idx INTEGER NOT NULL);
CREATE TABLE consent (granted INTEGER PRIMARY KEY, id TEXT, institution TEXT, products TEXT, tag TEXT, authority TEXT,
    ended INTEGER);
CREATE TABLE consent_key (key BLOB PRIMARY KEY, granted INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE authority (name TEXT PRIMARY KEY, ended INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE day (day TEXT, institution TEXT, what TEXT, n INTEGER NOT NULL, PRIMARY KEY (day, institution, what))
    WITHOUT ROWID;
CREATE TABLE counter (key BLOB PRIMARY KEY, win INTEGER NOT NULL, n INTEGER NOT NULL, first INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE TABLE finding (rule TEXT, fields TEXT, win INTEGER, n INTEGER NOT NULL, first INTEGER NOT NULL,
    last INTEGER NOT NULL, PRIMARY KEY (rule, fields, win)) WITHOUT ROWID;
CREATE INDEX finding_last ON finding (rule, last);
CREATE TABLE latency (day TEXT, institution TEXT, ms INTEGER, n INTEGER NOT NULL, PRIMARY KEY (day, institution, ms))
    WITHOUT ROWID;
CREATE TABLE place (one INTEGER PRIMARY KEY CHECK (one = 1), format INTEGER NOT NULL, budget_milli INTEGER NOT NULL,
    size INTEGER NOT NULL, ms INTEGER NOT NULL, standing INTEGER NOT NULL, edge BLOB NOT NULL);
"""

_POSITIONS: Final = "SELECT positions FROM posting WHERE key = ? AND chunk = ?"
_CONSENT: Final = (
    "SELECT granted, id, institution, products, tag, authority, ended FROM consent"
    " WHERE granted = (SELECT granted FROM consent_key WHERE key = ?)"
)
_END_AUTHORITY: Final = "INSERT OR IGNORE INTO authority VALUES (?, ?)"
_COUNTER: Final = "SELECT win, n, first FROM counter WHERE key = ?"
_ADD_DAY: Final = "INSERT INTO day VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n"
_ADD_FINDING: Final = (
    "INSERT INTO finding VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET n = excluded.n, last = excluded.last"
)
BITS: Final = "bits_milli"

_key = lru_cache(maxsize=16_384)(key_of)  # a subject's terms come again soon or never


@lru_cache(maxsize=16_384)
def _common_keys(*members: str) -> frozenset[bytes]:
    return frozenset(key_of(*term) for term in common_terms(*members))


@dataclass(frozen=True)
class Place:
    """How far an index has read: so many entries, which make the tree of this edge; the latest time among them."""

    edge: Edge
    ms: int
    standing: int  # entries in a row that carry that time

    @property
    def size(self) -> int:
        """Entries read."""
        return self.edge.size


def read_place(connection: sqlite3.Connection, budget_milli: int) -> Place | None:
    """Read the place; None where the index is of another format or for another budget.

    Raises:
        ValueError: the row is malformed.
        sqlite3.Error: the file is none of ours.
    """
    stored, budget, size, ms, standing, data = connection.execute(
        "SELECT format, budget_milli, size, ms, standing, edge FROM place"
    ).fetchone() or (None, 0, 0, 0, 0, b"")
    if (stored, budget) != (FORMAT, budget_milli):
        return None
    nodes = range_nodes(0, size)
    if len(data) != HASH_BYTES * len(nodes):
        raise ValueError("the edge has a wrong length")
    hashes = {node: data[at * HASH_BYTES : (at + 1) * HASH_BYTES] for at, node in enumerate(nodes)}
    return Place(Edge(size, hashes), ms, standing)


def write_place(connection: sqlite3.Connection, place: Place, budget_milli: int) -> None:
    """Write the place."""
    edge = b"".join(place.edge.nodes[node] for node in range_nodes(0, place.size))
    row = (FORMAT, budget_milli, place.size, place.ms, place.standing, edge)
    connection.execute("INSERT OR REPLACE INTO place VALUES (1, ?, ?, ?, ?, ?, ?)", row)


class Batch:
    """A run of entries of one chunk on its way into the tables, inside one transaction; `write` ends it.

    What entries change of older rows is read when first needed, kept, and written once.
    """

    def __init__(self, connection: sqlite3.Connection, place: Place, budget_milli: int) -> None:
        self._connection, self._place, self._budget_milli = connection, place, budget_milli
        self._postings: defaultdict[bytes, array[int]] = defaultdict(partial(array, "H"))
        self._clock: list[tuple[int, int]] = []
        self._consents: dict[bytes, ConsentFacts | None] = {}
        self._granted: dict[int, ConsentFacts] = {}  # one object a consent, whichever key led to it
        self._days: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self._counters: dict[bytes, tuple[int, int, int]] = {}
        self._findings: dict[tuple[str, str, int], tuple[int, int, int]] = {}
        self._call_keys: dict[int, frozenset[bytes]] = {}
        self._first = place.size
        self._authorities: dict[str, int] = dict(connection.execute("SELECT name, ended FROM authority"))

    @property
    def place(self) -> Place:
        """The place behind the last entry added."""
        return self._place

    @property
    def full(self) -> bool:
        """Whether so much is held in memory that it should be written."""
        return len(self._postings) + len(self._counters) + len(self._consents) > KEYS_MAX

    def add(self, bodies: Iterable[bytes]) -> None:
        """Take the next entries."""
        index, leaves = self._place.size, []
        ms, standing = self._place.ms, self._place.standing
        for index, body in enumerate(bodies, index):  # noqa: B020 - goes on from the place
            leaves.append(leaf_hash(body))
            entry, at = read_entry(body)
            if at is not None:
                ms, standing = self._tick(index, at, ms, standing)
            self._take(entry, index, ms)
        self._place = Place(self._place.edge.grow(leaves).edge, ms, standing)

    def write(self) -> Place:
        """Write everything and the place reached; the transaction is the caller's to commit."""
        run = self._connection.executemany
        chunk = self._first // CHUNK
        rows = ((key, chunk, self._merged(key, chunk, new)) for key, new in sorted(self._postings.items()))
        run("INSERT OR REPLACE INTO posting VALUES (?, ?, ?)", rows)
        run("INSERT OR IGNORE INTO clock VALUES (?, ?)", self._clock)
        run(_ADD_DAY, [(*key, n) for key, n in sorted(self._days.items())])
        run("INSERT OR REPLACE INTO counter VALUES (?, ?, ?, ?)", [(k, *v) for k, v in sorted(self._counters.items())])
        run(_ADD_FINDING, [(*key, *value) for key, value in self._findings.items()])
        write_place(self._connection, self._place, self._budget_milli)
        return self._place

    def _merged(self, key: bytes, chunk: int, new: "array[int]") -> bytes:
        if chunk * CHUNK >= self._first:  # it begins in this batch
            return add_positions(b"", new)
        row = self._connection.execute(_POSITIONS, (key, chunk)).fetchone()
        return add_positions(row[0] if row else b"", new)

    def _tick(self, index: int, at: int, ms: int, standing: int) -> tuple[int, int]:
        standing = standing + 1 if at == ms else 1
        if index and (code := clock_sighting(at, ms, standing)):
            self._count(code, (), 1, index, max(at, ms))
        if at > ms or not index:
            self._clock.append((at, index))
        return max(at, ms), standing

    def _take(self, entry: Entry, index: int, ms: int) -> None:
        self._follow_consents(entry, index)
        consent = self._consent_of(entry)
        position = index % CHUNK
        keys = _common_keys(*common_members(entry)).union([_key(*term) for term in own_terms(entry)])
        if consent is not None:
            keys |= self._keys_of(consent, entry["kind"])
        for key in keys:
            self._postings[key].append(position)
        for code, fields, weight in sightings(entry, consent, index):
            self._count(code, fields, weight, index, ms)
        self._add_day(entry, ms)

    def _keys_of(self, consent: ConsentFacts, kind: str) -> frozenset[bytes]:
        if kind.startswith("consent."):
            return frozenset(key_of(*term) for term in consent_terms(consent, kind))
        if consent.granted not in self._call_keys:
            self._call_keys[consent.granted] = frozenset(key_of(*term) for term in consent_terms(consent, kind))
        return self._call_keys[consent.granted]

    def _count(self, code: str, fields: tuple[str, ...], weight: int, index: int, ms: int) -> None:
        rule = BY_CODE[code]
        threshold = rule.threshold or self._budget_milli * NEAR_CAP_PERCENT // 100
        if not threshold:  # no budget is known
            return
        key = key_of(code, "\0".join(fields))
        before = self._counters.get(key) or self._connection.execute(_COUNTER, (key,)).fetchone()
        window, n, first = rule.window(ms), weight, index
        if before is not None and before[0] == window:
            n, first = before[1] + weight, before[2]
        self._counters[key] = window, n, first
        if n >= threshold:
            self._findings[code, json.dumps(fields), window] = n, first, index

    def _add_day(self, entry: Entry, ms: int) -> None:
        day, institution = _day(ms // DAY_MS), text_of(entry, "institution")
        if entry["kind"] == "decision":
            bits = count_of(entry, "bits_milli")
            self._days[day, institution, ANSWERED] += 1
            self._days[day, institution, BITS] += bits
            if not bits:
                self._days[day, institution, REPEATED] += 1
        elif entry["kind"] == "refusal":
            self._days[day, institution, f"{REFUSED}:{text_of(entry, 'code')}"] += 1

    def _follow_consents(self, entry: Entry, index: int) -> None:
        kind = entry["kind"]
        if kind == "consent.granted":
            self._grant(entry, index)
            self._end(text_of(entry, "replaces"), index)
        elif kind == "consent.revoked":
            self._end(text_of(entry, "consent"), index)
        elif kind == "authority.revoked":
            self._authorities.setdefault(text_of(entry, "authority"), index)
            self._connection.execute(_END_AUTHORITY, (text_of(entry, "authority"), index))

    def _grant(self, entry: Entry, index: int) -> None:
        products = entry.get("products")
        named = tuple(p for p in products if isinstance(p, str)) if isinstance(products, list) else ()
        names = ("consent", "institution", "subject_tag", "authority")
        own, institution, tag, authority = (text_of(entry, name) for name in names)
        row = (index, own, institution, json.dumps(named), tag, authority)
        self._connection.execute("INSERT INTO consent VALUES (?, ?, ?, ?, ?, ?, NULL)", row)
        for name in ("consent", "consent_hash"):  # the first grant of an id or a hash is the one that counts
            key = key_of(name, text_of(entry, name))
            self._connection.execute("INSERT OR IGNORE INTO consent_key VALUES (?, ?)", (key, index))
            self._consents.pop(key, None)

    def _end(self, consent_id: str, index: int) -> None:
        consent = self._stored(key_of("consent", consent_id)) if consent_id else None
        if consent is not None and consent.ended is None:
            consent.ended = index
            self._connection.execute("UPDATE consent SET ended = ? WHERE granted = ?", (index, consent.granted))

    def _consent_of(self, entry: Entry) -> ConsentFacts | None:
        for name in ("consent", "consent_hash"):
            if named := text_of(entry, name):
                consent = self._stored(key_of(name, named))
                break
        else:
            return None
        if consent is not None and consent.ended is None:
            ended = self._authorities.get(consent.authority, -1)
            consent.ended = ended if ended > consent.granted else None
        return consent

    def _stored(self, key: bytes) -> ConsentFacts | None:
        if key not in self._consents:
            row = self._connection.execute(_CONSENT, (key,)).fetchone()
            self._consents[key] = None if row is None else self._granted.setdefault(row[0], _facts(*row))
        return self._consents[key]


def _facts(granted: int, own: str, institution: str, products: str, *rest: Any) -> ConsentFacts:
    return ConsentFacts(granted, own, institution, tuple(json.loads(products)), *rest)


@lru_cache(maxsize=64)
def _day(number: int) -> str:
    return from_ms(number * DAY_MS).date().isoformat()
