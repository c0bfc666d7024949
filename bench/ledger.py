"""The ledger's figures: `python -m bench.ledger [--entries N]`, and part of `make bench`.

Durable appends (bench/appends.py); then a log of a million entries as a service leaves it (bench/history.py): proofs at
growing sizes, the whole check, searches by every filter, memory, bytes a entry. Everything lies in a folder that is
thrown away; where it should lie on another disk, set TMPDIR.
"""

import argparse
import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine
from sqlalchemy import text as sql

from audit.event import decode
from audit.export import files_of, write_file
from audit.findings import Verdict
from audit.index import Index
from audit.index_filter import Filter
from audit.kinds import ConsentGranted, Decision
from audit.ledger import Ledger
from audit.note import head_of
from audit.schema import open_engine
from audit.search import Searcher
from audit.source import DatabaseSource
from bench import appends
from bench.history import BEGAN, ORIGIN, SIGNER, TRUST, build
from bench.report import Figure, show, write
from enclave_api.fsck import check_home
from enclave_api.home import Home

ENTRIES: Final = 1_000_000
PROOFS, SEARCHES, PAGE = 200, 20, 50
LARGE: Final = 100_000  # from here on a log is checked and searched
PAGE_BYTES: Final = 1024 * 1024
EXPORTED: Final = 100_000  # entries of the exported part: what is counted is bytes an entry
MIB: Final = 1024 * 1024


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(prog="python -m bench.ledger", description=__doc__)
    parser.add_argument("--entries", type=int, default=ENTRIES, help="of the large log; default: a million")
    found = figures(parser.parse_args().entries)
    write(found, Path("build/bench.json"))
    show([figure for figure in found if figure.unit == "×"], [figure for figure in found if figure.unit != "×"])


def figures(entries: int = ENTRIES) -> list[Figure]:
    """Every figure of the ledger."""
    with tempfile.TemporaryDirectory(prefix="heixia-bench-") as folder:
        return [*appends.figures(Path(folder)), *_large(Path(folder), entries)]


def _large(folder: Path, entries: int) -> Iterator[Figure]:
    path = Home(folder).database
    sizes = [10**power for power in range(3, 10) if 10**power <= entries] or [entries]
    began, built = time.perf_counter(), 0.0
    for size, engine in build(path, sizes):
        built += time.perf_counter() - began
        yield from _proofs(engine, size)
        if size >= LARGE:
            yield from _checked(path, size, last=size == sizes[-1])
            yield from _searched(path, folder / f"index-{size}", size)
        began = time.perf_counter()
    note = f"the log and every table, in batches of thousands; {built:.0f} s"
    yield Figure("build_entries_per_s", sizes[-1] / built, "entries/s", note)
    yield from _bytes(path, folder, sizes[-1])


def _proofs(engine: Engine, size: int) -> Iterator[Figure]:
    with closing(Ledger.open(engine, SIGNER, ORIGIN, lambda: datetime.now(UTC))) as ledger:
        chance, times, length = random.Random(size), [], 0
        for _ in range(PROOFS):
            index = chance.randrange(size)
            began = time.perf_counter()
            length = max(length, len(ledger.prove(index)))
            times.append((time.perf_counter() - began) * 1000)
    name = _name(size)
    yield Figure(f"proof_p50_ms_{name}", sorted(times)[PROOFS // 2], "ms", "of a random entry, read and verified")
    yield Figure(f"proof_bytes_{name}", length, "bytes", "the longest tlog-proof, its checkpoint included")


def _checked(path: Path, size: int, *, last: bool) -> Iterator[Figure]:
    told, name = apart(_check, path), _name(size)
    note = f"{size:,} entries, both verdicts and every table, one process"
    yield Figure("fsck_entries_per_s" + ("" if last else f"_{name}"), size / told.value, "entries/s", note)
    yield Figure(f"fsck_memory_mib_{name}", told.grown_mib, "MiB", "that the process grows by")


def _searched(path: Path, index: Path, size: int) -> Iterator[Figure]:
    built = apart(_index, path, index)
    yield Figure(f"index_entries_per_s_{_name(size)}", size / built.value, "entries/s", "building the search index")
    told = apart(_search, path, index)
    note = f"a page of {PAGE}, counted in all, each hit read and proved"
    for name, milliseconds in told.value.items():
        yield Figure(f"search_p50_ms_{_name(size)}_{name}", milliseconds, "ms", note)
    yield Figure(f"search_p50_ms_{_name(size)}", max(told.value.values()), "ms", "the slowest filter's median")
    yield Figure(f"search_memory_mib_{_name(size)}", told.grown_mib, "MiB", "that the process grows by")
    yield Figure(f"index_bytes_per_entry_{_name(size)}", index.stat().st_size / size, "bytes", "search index")


def _bytes(path: Path, folder: Path, size: int) -> Iterator[Figure]:
    engine = open_engine(path, create=False)
    with engine.connect() as connection:
        connection.execute(sql("PRAGMA wal_checkpoint(TRUNCATE)"))
        body = connection.execute(sql("SELECT sum(length(body)) FROM entry")).scalar_one()
        log = "SELECT sum(pgsize) FROM dbstat WHERE name IN ('entry', 'subtree', 'sqlite_autoindex_subtree_1')"
        rows = connection.execute(sql(log)).scalar_one() if _has_dbstat(engine) else None
    exported = folder / "export"
    end = min(size, EXPORTED)
    for name, data in files_of(DatabaseSource(engine), 0, end):
        write_file(exported, name, data)
    files = sum(file.stat().st_blocks * 512 for file in exported.rglob("*") if file.is_file())
    yield Figure("entry_bytes", body / size, "bytes", "mean length of an entry")
    yield Figure("database_bytes_per_entry", path.stat().st_size / size, "bytes", "log and every table of state")
    if rows is not None:
        yield Figure("log_bytes_per_entry", rows / size, "bytes", "the log's own tables in it")
    yield Figure("export_bytes_per_entry", files / end, "bytes", f"blocks on disk, of {end:,} entries")
    engine.dispose()


def _has_dbstat(engine: Engine) -> bool:
    with engine.connect() as connection:
        options = connection.execute(sql("PRAGMA compile_options")).scalars().all()
    return "ENABLE_DBSTAT_VTAB" in options


def _name(size: int) -> str:
    power = len(str(size)) - 1
    return f"1e{power}" if size == 10**power else str(size)


# --- each in a process of its own, whose memory is then its own too ---------------------------------------------------


@dataclass(frozen=True)
class Apart:
    """What a process found, and how much its resident memory grew at most while it did."""

    value: Any
    grown_mib: float


def apart(work: Callable[..., Any], *args: Path) -> Apart:
    """Does something in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (work, *args))


def _measured(work: Callable[..., Any], *args: Path) -> Apart:
    before = _status("VmRSS")
    value = work(*args)
    return Apart(value, (_status("VmHWM") - before) / 1024)


def _status(name: str) -> int:
    """KiB of a line of /proc/self/status; VmHWM is the most that was resident at once."""
    lines = dict(line.partition(":")[::2] for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0])


def _check(path: Path) -> float:
    began = time.perf_counter()
    report = check_home(Home(path.parent), TRUST, lambda *_: None)
    if report.verdicts != (Verdict.SOUND, Verdict.SOUND):
        raise RuntimeError(f"the made log is not sound: {report.as_dict()}")
    return time.perf_counter() - began


def _index(path: Path, index_path: Path) -> float:
    source = DatabaseSource(open_engine(path, create=False))
    began = time.perf_counter()
    with closing(Index(index_path, source)) as index:
        index.follow(head_of(source.checkpoint()))
    return time.perf_counter() - began


def _search(path: Path, index_path: Path) -> dict[str, float]:
    engine = open_engine(path, create=False)
    source = DatabaseSource(engine)
    found = {}
    ledger = Ledger.open(engine, SIGNER, ORIGIN, lambda: datetime.now(UTC))
    with closing(ledger), closing(Index(index_path, source)) as index:
        searcher = Searcher(index, source, ledger.entry, PAGE_BYTES)
        for name, wanted in _filters(ledger).items():
            times = []
            for _ in range(SEARCHES):
                began = time.perf_counter()
                hits = searcher.find(ledger.checkpoint, wanted, "", PAGE).hits
                times.append((time.perf_counter() - began) * 1000)
            if not hits:
                raise RuntimeError(f"nothing was found by {wanted.text}")
            found[name] = sorted(times)[SEARCHES // 2]
    engine.dispose()
    return found


def _filters(ledger: Ledger) -> dict[str, Filter]:
    """One of each kind, with values that entries in the middle of the log have."""
    events = [decode(body)[0] for _, body in ledger.entries(ledger.size // 2, 500)]
    decision = next(event for event in events if isinstance(event, Decision))
    granted = next(event for event in events if isinstance(event, ConsentGranted))
    since, until = int(BEGAN.timestamp() * 1000), int(ledger.time.timestamp() * 1000)
    third = (until - since) // 3
    return {
        "all": Filter(),
        "institution": Filter(institution=decision.institution),
        "product": Filter(product=decision.product),
        "version": Filter(version=decision.version),
        "consent": Filter(consent=granted.consent),
        "subject": Filter(subject=decision.subject_tag),
        "kind": Filter(kind="refusal"),
        "code": Filter(code="consent_exhausted"),
        "caller": Filter(caller=decision.caller),
        "time": Filter(since=since + third, until=since + 2 * third),
        "three": Filter(institution=decision.institution, kind="refusal", code="budget_spent", since=since + third),
    }


if __name__ == "__main__":
    main()
