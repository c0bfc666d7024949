"""Durable appends: how many changes a second the ledger takes, beside what the disk and SQLite do by themselves.

A change is what step 7 of a call does (bench/changes.py): a use spent, bits charged, a number taken, the sealed answer
kept, and the entry of about 1.1 KB: seven reads and five rows. An append ends when its writer has its answer, with its
proof; before that COMMIT has synced SQLite's write-ahead log (WAL, synchronous=FULL): one fdatasync a batch.

Beside it, on the same file system in the same run: the same change and the same entry row, each in a transaction of its
own, by one thread that does nothing else, without tree, signature or proof; a bare INSERT of the entry row and COMMIT;
the same rows in transactions of 128, which is what SQLite alone would let a group commit reach; and fdatasync.
"""

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine

from audit.batch import BatchWriter, Position
from audit.event import encode
from audit.ledger import Change, Ledger
from audit.merkle import leaf_hash
from audit.prepared import driver
from audit.schema import open_engine, writer
from bench.changes import MAX_USES, Call, Consent, Product, start
from bench.history import ORIGIN, SIGNER, append
from bench.load import Result, drive
from bench.report import Figure

WRITERS: Final = {1: 1_500, 16: 6_000, 128: 16_000}  # waiting at a time → appends
SINGLE: Final = 3_000
GROUP: Final = 128
GROUPED: Final = GROUP * 40
FLUSH_MS: Final = 2  # what a disk without a cache that survives a power cut takes, or one over a network
_ENTRY: Final = "INSERT INTO entry (idx, leaf, body) VALUES (?, ?, ?)"


def figures(folder: Path) -> list[Figure]:
    """Every figure of this file, on databases in `folder`."""
    return [*_here(folder), *_slow(folder)]


def _here(folder: Path) -> list[Figure]:
    engine = open_engine(folder / "appends.db", create=True)
    calls = _calls(engine, sum(WRITERS.values()) + SINGLE + GROUPED)
    found = list(_appends(engine, calls, folder))
    single, grouped = (_alone(engine, calls, count, group) for count, group in ((SINGLE, 1), (GROUPED, GROUP)))
    engine.dispose()
    most = next(figure.value for figure in found if figure.name == f"appends_per_s_w{GROUP}")
    rows = _bare_rows(folder)
    return [
        Figure("group_commit_ratio", most / single, "×", "appends with 128 waiting / one such change a commit"),
        *found,
        Figure("single_commits_per_s", single, "commits/s", "the same change and entry row, one a commit, no tree"),
        Figure("single_rows_per_s", rows, "commits/s", "one INSERT of an entry row and COMMIT, bare sqlite3"),
        Figure("grouped_rows_per_s", grouped, "changes/s", "the same change, 128 a commit, no tree, nobody waiting"),
        _syncs(folder),
    ]


def _slow(folder: Path) -> list[Figure]:
    """The ratio where a sync takes `FLUSH_MS` longer, by strace's hand; nothing where there is none."""
    if shutil.which("strace") is None:
        return []
    inside = folder / "slow"
    inside.mkdir()
    command = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fdatasync"]
    command += ["-e", f"inject=fdatasync:delay_enter={FLUSH_MS * 1000}"]
    command += [sys.executable, "-m", "bench.appends", str(inside)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = {one["name"]: one["value"] for one in json.loads(done.stdout)}
    names = ("appends_per_s_w128", "single_commits_per_s", "fdatasync_per_s")
    note = ", ".join(f"{name} {found[name]:,.0f}" for name in names)
    said = f"the same where each sync takes {FLUSH_MS} ms longer: {note}"
    return [Figure("group_commit_ratio_slow_flush", found["group_commit_ratio"], "×", said)]


def _calls(engine: Engine, count: int) -> Iterator[Call]:
    """So many calls, each under a consent that has a use left."""
    batches = BatchWriter(engine, SIGNER, ORIGIN, lambda: datetime.now(UTC))
    product = Product("zhongyuan")
    consents = [Consent(number, number, product) for number in range(-(-count // MAX_USES))]
    append(batches, [start, *product.launch(), *(consent.grant for consent in consents)])
    batches.close()
    # In turns, so that neighbours in a batch are of different companies.
    return (Call(number, consents[number % len(consents)]) for number in range(count))


def _appends(engine: Engine, calls: Iterator[Call], folder: Path) -> Iterator[Figure]:
    ledger = Ledger.open(engine, SIGNER, ORIGIN, lambda: datetime.now(UTC))
    for waiting, count in WRITERS.items():
        todo = [next(calls).decide for _ in range(count)]
        done = asyncio.run(_drive(ledger, todo, waiting))
        note = f"{waiting} waiting; {_where(folder)}, one fdatasync of the WAL a batch"
        yield Figure(f"appends_per_s_w{waiting}", done.per_s, "appends/s", note)
        for share, name in ((0.5, "p50"), (0.99, "p99")):
            figure = f"appends_{name}_ms_w{waiting}"
            yield Figure(figure, done.percentile(share), "ms", "until the answer, with its proof")
    ledger.close()


async def _drive(ledger: Ledger, todo: Sequence[Change[Any]], waiting: int) -> Result:
    return await drive(lambda number: ledger.append(todo[number]), 0, len(todo), waiting)


def _alone(engine: Engine, calls: Iterator[Call], count: int, group: int) -> float:
    """Changes a second, `group` in a transaction; the connection and its settings are the ledger's own."""
    todo = [next(calls).decide for _ in range(count)]
    with writer(engine) as connection:
        index = 1 + int(connection.exec_driver_sql("SELECT max(idx) FROM entry").scalar_one())
        connection.rollback()
        began = time.perf_counter()
        for first in range(0, count, group):
            with connection.begin():
                for at, change in enumerate(todo[first : first + group], index + first):
                    _write(connection, change, at)
        return count / (time.perf_counter() - began)


def _write(connection: Connection, change: Change[Any], index: int) -> None:
    position = Position(index, datetime.now(UTC))
    event, _ = change(connection, position)
    body = encode(event, position.time)
    driver(connection).execute(_ENTRY, (index, leaf_hash(body), body))


def _bare_rows(folder: Path) -> float:
    body = bytes(1_100)
    with closing(sqlite3.connect(folder / "rows.db", isolation_level=None)) as database:
        for statement in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=FULL",
            "CREATE TABLE entry (idx INTEGER PRIMARY KEY, leaf BLOB NOT NULL, body BLOB NOT NULL)",
        ):
            database.execute(statement)
        began = time.perf_counter()
        for index in range(SINGLE):
            database.execute(_ENTRY, (index, bytes(32), body))
        return SINGLE / (time.perf_counter() - began)


def _syncs(folder: Path, pages: int = 10) -> Figure:
    """Fdatasyncs a second of a file that grows by what one change's commit writes to the WAL."""
    data = bytes(pages * 4_120)
    file = os.open(folder / "syncs", os.O_CREAT | os.O_WRONLY)
    try:
        began = time.perf_counter()
        for turn in range(SINGLE):
            os.pwrite(file, data, turn * len(data))
            os.fdatasync(file)
        per_s = SINGLE / (time.perf_counter() - began)
    finally:
        os.close(file)
    return Figure("fdatasync_per_s", per_s, "syncs/s", f"pwrite of {len(data):,} bytes and fdatasync; {_where(folder)}")


def _where(folder: Path) -> str:
    """The file system under a folder, as the kernel names it."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    inside = [(place, kind) for _, place, kind, *_ in mounts if folder.resolve().is_relative_to(place)]
    return max(inside, key=lambda one: len(one[0]))[1] if inside else "unknown file system"


if __name__ == "__main__":
    print(json.dumps([asdict(figure) for figure in _here(Path(sys.argv[1]))]))
