"""Both verdicts on a log in one reading: integrity (audit/fsck.py), completeness (sandbox/replay)."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from audit.errors import ProofInvalid
from audit.findings import Findings, Verdict
from audit.fsck import Integrity, check_log, check_published
from audit.kinds import Event
from audit.note import NOTE_BYTES_MAX
from audit.policy import NONE, Policy
from audit.snapshot import SnapshotSource, check_rows, open_snapshot
from audit.source import FolderSource, LogSource
from audit.tiles import TILE_WIDTH, Tile
from enclave_api.home import Home
from sandbox.replay.fold import Replay
from sandbox.replay.rows import CallRows, check_tables

SCHEMA = "heixia.fsck/v1"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Report:
    """The two verdicts on a log, and on how much of it."""

    integrity: Integrity
    completeness: Findings
    first: int

    @property
    def verdicts(self) -> tuple[Verdict, Verdict]:
        """Integrity, completeness."""
        return self.integrity.findings.verdict, self.completeness.verdict

    @property
    def first_bad(self) -> int | None:
        """The lowest index of an entry that either check found something at."""
        known = (self.integrity.findings.first_bad, self.completeness.first_bad)
        return min((index for index in known if index is not None), default=None)

    @property
    def exit_code(self) -> int:
        """0 = both sound; 1 = one is broken; 2 = one could not be checked and none is known to be broken."""
        if Verdict.BROKEN in self.verdicts:
            return 1
        return 2 if Verdict.UNCHECKED in self.verdicts else 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON: docs/fsck.md."""
        signed = self.integrity.checkpoint
        return {
            "schema": SCHEMA,
            "size": signed.size if signed else None,
            "root": signed.root.hex() if signed else None,
            "origin": signed.origin if signed else None,
            "first": self.first,
            "entries": self.integrity.entries,
            "first_bad": self.first_bad,
            "integrity": _told(self.integrity.findings),
            "completeness": _told(self.completeness),
        }


def check_source(
    source: LogSource, policy: Policy, progress: Progress, first: int = 0, end: int | None = None
) -> Report:
    """Check a log that was exported or is served, or a part of it; raises EntryUnknown where there is no checkpoint."""
    replay = Replay()
    take = replay.take if first == 0 else _ignore
    integrity = check_log(source, policy, take, first=first, end=end, progress=progress)
    return _report(integrity, replay, first)


def check_folder(folder: Path, policy: Policy, progress: Progress) -> Report:
    """Check an export as far as it goes: one that holds a single run of a log's entries is taken for a part of it.

    Raises:
        EntryUnknown: there is no checkpoint.
    """
    first, end = _run_in(folder)
    return check_source(FolderSource(folder), policy, progress, first, end)


def _run_in(folder: Path) -> tuple[int, int | None]:
    """The entries whose bundles lie in a folder without a gap; where there are gaps, a whole log with holes in it."""
    found: set[int] = set()
    for path in (folder / "tile" / "entries").rglob("*"):
        with suppress(ProofInvalid):  # somebody's other file, or a folder
            found.add(Tile.parse(path.relative_to(folder).as_posix()).index)
    if not found or len(found) <= max(found) - min(found):
        return 0, None
    return min(found) * TILE_WIDTH, (max(found) + 1) * TILE_WIDTH


def check_home(home: Home, policy: Policy, progress: Progress) -> Report:
    """Check the log in a home's database and every table beside it, as of one moment; nothing is written.

    Raises:
        EntryUnknown, DatabaseMissing, DatabaseUnreadable, DatabaseVersionUnknown, LedgerBusy: could not be checked.
    """
    # Read first: what is published later belongs to a later state than the snapshot.
    published = _published(home)
    with open_snapshot(home.database) as connection:
        replay = Replay()
        calls = CallRows(connection, replay.findings)

        def take(index: int, event: Event, time: datetime) -> None:
            replay.take(index, event, time)
            calls.take(index, event)

        source = SnapshotSource(connection)
        integrity = check_log(source, replace(policy, quorum=NONE), take, progress=progress)
        check_rows(connection, integrity)
        check_published(source, policy, published, integrity)
        report = _report(integrity, replay, 0)
        if not report.completeness.cut:  # tables say what became of all entries, not of some
            calls.finish()
            check_tables(connection, replay.room, replay.findings)
    return report


def _published(home: Home) -> str | None:
    try:
        with home.policy.with_name("checkpoint").open("rb") as file:
            return file.read(NOTE_BYTES_MAX + 1).decode(errors="replace")
    except FileNotFoundError:
        return None


def _ignore(*_: object) -> None:
    return


def _report(integrity: Integrity, replay: Replay, first: int) -> Report:
    size = integrity.checkpoint.size if integrity.checkpoint else None
    if first:
        replay.findings.cut = f"a part from entry {first} on tells nothing of what came before it"
    elif size is None or integrity.whole_until < size:
        replay.findings.cut = f"judged up to entry {integrity.whole_until} alone: the ones after it are not all there"
    if size is not None and integrity.entries < size and not integrity.findings.total:
        integrity.findings.lacks(f"{size - integrity.entries} of the log's {size} entries: this part has not got them")
    return Report(integrity, replay.findings, first)


def _told(findings: Findings) -> dict[str, Any]:
    return {
        "verdict": findings.verdict,
        "first_bad": findings.first_bad,
        "cut": findings.cut,
        "total": findings.total,
        "counts": dict(sorted(findings.counts.items())),
        "findings": [asdict(one) for one in findings.listed],
        "unjudged": findings.unjudged,
    }
