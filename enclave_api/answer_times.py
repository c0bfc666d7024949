"""How long answers took, as this server measured it: counted in memory, kept in the index file now and then.

The log holds no durations on purpose. What is counted here is what the caller saw, in whole release quanta,
added up over an institution's day: an auditor learns nothing from it that an application does not know. It is no part
of the log and no entry proves it.
"""

import sqlite3
import threading
from collections import Counter
from datetime import datetime
from typing import Final

QUANTUM_DEFAULT_MS: Final = 50  # where answers leave at once, which is not for production
QUANTA_MAX: Final = 64  # a row of the last one holds everything slower

Measured = Counter[tuple[str, str, int]]  # day, institution, milliseconds → answers

_ADD: Final = "INSERT INTO latency VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n"


class AnswerTimes:
    """Counts of answers; `add` is cheap enough for every call."""

    def __init__(self, quantum_ms: int) -> None:
        self._quantum_ms = quantum_ms or QUANTUM_DEFAULT_MS
        self._counts: Measured = Counter()
        self._turn = threading.Lock()

    def add(self, institution: str, seconds: float, now: datetime) -> None:
        """Count an answer for an institution that the answer proves to exist: nobody fills memory with names."""
        # Cut down: an answer leaves at a quantum, or a little later by chance.
        quanta = min(max(int(seconds * 1000) // self._quantum_ms, 1), QUANTA_MAX)
        with self._turn:
            self._counts[now.date().isoformat(), institution, quanta * self._quantum_ms] += 1

    def take(self) -> Measured:
        """Take out what was counted."""
        with self._turn:
            taken, self._counts = self._counts, Counter()
        return taken

    @staticmethod
    def keep(connection: sqlite3.Connection, measured: Measured) -> None:
        """Write counts into the index file."""
        connection.executemany(_ADD, [(*key, n) for key, n in measured.items()])
