"""The findings of the rules (audit/index_rules.py) as an auditor reads them: gravest first, in plain words."""

import json
import sqlite3
from dataclasses import dataclass
from typing import Final

from audit.index_rules import RULES, Rule
from audit.index_search import first_since, search_terms, time_of
from audit.index_terms import Term

PER_RULE_MAX: Final = 50  # findings told of one rule, newest first; how many there are is told as well
INDEXES_MAX: Final = 20  # entries named by one finding, newest first; a search with its terms finds the others

_SEEN: Final = "FROM finding WHERE rule = ? AND last >= ? AND first < ?"
_COUNT: Final = f"SELECT count(*) {_SEEN}"
_NEWEST: Final = f"SELECT fields, n, first, last {_SEEN} ORDER BY last DESC LIMIT {PER_RULE_MAX}"


@dataclass(frozen=True)
class Anomaly:
    """Something to look at.

    Attributes:
        code: the rule's.
        severity: `grave`, `suspect` or `notice`.
        text: in words, without a subject's tag.
        terms: what to search for to see the entries: fields and values of a filter.
        indexes: the newest entries that it rests on.
        first_ms: when it began and, `last_ms`, was last seen; Unix milliseconds.
        last_ms: see first_ms.
    """

    code: str
    severity: str
    text: str
    terms: tuple[Term, ...]
    indexes: tuple[int, ...]
    first_ms: int
    last_ms: int


@dataclass(frozen=True)
class Anomalies:
    """What was found, gravest rule first and newest first within it; `counts` has every rule's number of findings."""

    found: list[Anomaly]
    counts: dict[str, int]


def anomalies(connection: sqlite3.Connection, *, since_ms: int, size: int) -> Anomalies:
    """List what was seen at or after a time among the first `size` entries."""
    first = first_since(connection, since_ms, size)
    found: list[Anomaly] = []
    counts: dict[str, int] = {}
    for rule in RULES:
        seen = (rule.code, first, size)
        if count := connection.execute(_COUNT, seen).fetchone()[0]:
            counts[rule.code] = count
            found.extend(_anomaly(connection, rule, *row) for row in connection.execute(_NEWEST, seen).fetchall())
    return Anomalies(found, counts)


def _anomaly(connection: sqlite3.Connection, rule: Rule, fields: str, n: int, first: int, last: int) -> Anomaly:
    key = dict(zip(rule.fields, json.loads(fields), strict=True))
    terms = tuple((name, value) for name, value in key.items() if value)
    named = {name: value or "somebody" for name, value in key.items()}
    text = rule.text.format(**named, count=n, times="once" if n == 1 else f"{n} times", bits=f"{n / 1000:g}")
    indexes = _indexes(connection, rule, terms, first, last)
    moments = time_of(connection, first), time_of(connection, last)
    return Anomaly(rule.code, rule.severity, text, terms, indexes, *moments)


def _indexes(
    connection: sqlite3.Connection, rule: Rule, terms: tuple[Term, ...], first: int, last: int
) -> tuple[int, ...]:
    wanted = (*terms, *rule.also)
    if not wanted:
        return (first,) if first == last else (last, first)
    page = search_terms(connection, wanted, first=first, end=last + 1, before=last + 1, count=INDEXES_MAX)
    return tuple(page.indexes)
