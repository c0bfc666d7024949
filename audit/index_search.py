"""What the index is asked: hits newest first with their total, calls of a day, measured times.

Every function reads one state of the index through the connection that it is given (audit/index.py: `Index.ask`).
"""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from audit.index_chunks import CHUNK, descending, unpack_bits, window
from audit.index_filter import Filter
from audit.index_rows import BITS
from audit.index_terms import ANSWERED, REFUSED, REPEATED, Term, key_of

_CHUNKS: Final = "SELECT count(*) FROM posting WHERE key = ? AND chunk BETWEEN ? AND ?"
_ROWS: Final = "SELECT chunk, positions FROM posting WHERE key = ? AND chunk BETWEEN ? AND ? ORDER BY chunk DESC"
_ROW: Final = "SELECT positions FROM posting WHERE key = ? AND chunk = ?"
_FIRST_SINCE: Final = "SELECT idx FROM clock WHERE ms >= ? ORDER BY ms LIMIT 1"


@dataclass(frozen=True)
class Page:
    """Indexes of hits, newest first, and how many entries match in all."""

    indexes: list[int]
    total: int


@dataclass
class Day:
    """What an institution's calls of a UTC day add up to; "" = the calls whose institution was not known.

    `answered_ms` is apart from the log: time that answers took, in whole release quanta, → how many; as the server
    measured it, provable by nobody.
    """

    day: str
    institution: str
    answered: int = 0
    repeated: int = 0
    bits_milli: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    answered_ms: dict[int, int] = field(default_factory=dict)


def search(connection: sqlite3.Connection, wanted: Filter, *, size: int, before: int, count: int) -> Page:
    """Find the newest `count` hits below entry `before` among the first `size` entries, and count all hits.

    Time is of the chunks (65,536 entries) that hold the rarest of the filter's terms, whatever the number of hits.
    """
    first, end = _range(connection, wanted, size)
    return search_terms(connection, wanted.terms, first=first, end=end, before=before, count=count)


def search_terms(
    connection: sqlite3.Connection, terms: Iterable[Term], *, first: int, end: int, before: int, count: int
) -> Page:
    """Find the entries first .. end - 1 that have all terms; as `search`."""
    found: list[int] = []
    total = 0
    for chunk, bits in _common(connection, [key_of(*term) for term in terms], first, end):
        total += bits.bit_count()
        if len(found) < count and chunk * CHUNK < before:
            page = descending(bits & window(chunk, first, before), count - len(found))
            found.extend(chunk * CHUNK + at for at in page)
    return Page(found, total)


def time_of(connection: sqlite3.Connection, index: int) -> int:
    """The log's time at an entry, in Unix milliseconds; 0 where no entry before it told one."""
    row = connection.execute("SELECT max(ms) FROM clock WHERE idx <= ?", (index,)).fetchone()
    return int(row[0] or 0)


def first_since(connection: sqlite3.Connection, ms: int, size: int) -> int:
    """The first entry at or after a time; `size` where there is none."""
    row = connection.execute(_FIRST_SINCE, (ms,)).fetchone()
    return size if row is None else min(int(row[0]), size)


def statistics(
    connection: sqlite3.Connection, institution: str | None, first_day: str, last_day: str, most: int
) -> tuple[list[Day], bool]:
    """Add up calls by day and institution, newest day first.

    Args:
        connection: of the index.
        institution: this one's alone; None = every one's.
        first_day: `YYYY-MM-DD`, included.
        last_day: likewise.
        most: at most so many days of institutions.

    Returns:
        The days, and whether there are more.
    """
    days: dict[tuple[str, str], Day] = {}
    for table in ("day", "latency"):
        query = f"SELECT * FROM {table} WHERE day BETWEEN ? AND ?"  # noqa: S608 - one of two names
        arguments: tuple[str, ...] = (first_day, last_day)
        if institution is not None:
            query, arguments = f"{query} AND institution = ?", (*arguments, institution)
        for day, name, what, n in connection.execute(f"{query} ORDER BY day DESC, institution", arguments):
            if (day, name) not in days and len(days) > most:
                break
            _add(days.setdefault((day, name), Day(day, name)), what, n)
    newest = sorted(days.values(), key=lambda day: day.institution)
    newest.sort(key=lambda day: day.day, reverse=True)
    return newest[:most], len(newest) > most


def _add(day: Day, what: str | int, n: int) -> None:
    if isinstance(what, int):
        day.answered_ms[what] = n
    elif what == ANSWERED:
        day.answered = n
    elif what == REPEATED:
        day.repeated = n
    elif what == BITS:
        day.bits_milli = n
    else:
        day.refused[what.removeprefix(f"{REFUSED}:")] = n


def _range(connection: sqlite3.Connection, wanted: Filter, size: int) -> tuple[int, int]:
    first = 0 if wanted.since is None else first_since(connection, wanted.since, size)
    end = size if wanted.until is None else first_since(connection, wanted.until, size)
    return first, end


def _common(connection: sqlite3.Connection, keys: list[bytes], first: int, end: int) -> Iterator[tuple[int, int]]:
    """List the chunks, newest first, and in each the entries of first .. end - 1 that have all keys."""
    if end <= first:
        return
    low, high = first // CHUNK, (end - 1) // CHUNK
    if not keys:
        yield from ((chunk, window(chunk, first, end)) for chunk in range(high, low - 1, -1))
        return
    rarest, *others = sorted(keys, key=lambda key: connection.execute(_CHUNKS, (key, low, high)).fetchone()[0])
    for chunk, data in connection.execute(_ROWS, (rarest, low, high)):
        bits = unpack_bits(data) & window(chunk, first, end)
        for key in others:
            if not bits:
                break
            row = connection.execute(_ROW, (key, chunk)).fetchone()
            bits &= unpack_bits(row[0]) if row else 0
        if bits:
            yield chunk, bits
