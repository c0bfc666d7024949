"""What must hold after any fault: the log is whole, state is its replay, what was told is true, and it goes on."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine

from audit.anchor import find_rollback
from audit.event import decode
from audit.findings import Verdict
from audit.kinds import ConsentGranted, Decision, Event, Refusal
from audit.ledger import Ledger
from audit.merkle import leaf_hash
from audit.policy import Policy
from bench.changes import MAX_USES, PRICE
from enclave_api.fsck import check_home
from enclave_api.home import Home
from tests.faults.story import CALLS, CONSENTS, SIGNER, open_story, play

TRUST = Policy((SIGNER.verifier,))
_LAUNCH = ("enclave.started", "version.submitted", "version.admitted", "version.approved", "version.promoted")
_GRANTS = {consent.id: f"grant {consent.number}" for consent in CONSENTS}
_NUMBERS = {call.request_hash: call.number for call in CALLS}


class Broken(AssertionError):
    """A law of the ledger does not hold."""


@dataclass
class Told:
    """What the hurt process said: made (name → index, leaf hash), untouched, unknown; how its start ended."""

    made: dict[str, tuple[int, str]] = field(default_factory=dict)
    untouched: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    start: str = ""
    ended: bool = False

    @classmethod
    def parse(cls, lines: Iterable[str]) -> "Told":
        """Reads its standard output."""
        told = cls()
        for line in lines:
            what, *rest = line.split()
            name = " ".join(rest[:2])
            if what == "made":
                told.made[name] = (int(rest[2]), rest[3])
            elif what in ("untouched", "refused"):
                told.untouched.add(name)
            elif what == "unknown":
                told.unknown.add(name)
            elif what == "start":
                told.start = rest[0]
            elif what == "end":
                told.ended = True
        return told


def require(law: bool, words: str) -> None:
    """Raises Broken where a law does not hold."""
    if not law:
        raise Broken(words)


def check(folder: Path, told: Told) -> int:
    """Checks what a fault left, as a start would find it, then lets the story end; returns the size that was found.

    Raises:
        Broken: naming the law.
        HeixiaError: the log does not open.
    """
    engine, ledger = open_story(folder)
    with closing(ledger):
        events = check_whole(engine, ledger)
        check_told([leaf_hash(body) for _, body in ledger.entries(0, ledger.size)], names_of(events), told)
        if (folder / "anchor" / "checkpoint").exists() or told.made:
            require(find_rollback(ledger, folder / "anchor", SIGNER.verifier) is None, "the anchor is ahead of the log")
        size = ledger.size
        asyncio.run(play(ledger, lambda _: None))
        check_end(check_whole(engine, ledger))
    engine.dispose()
    return size


def check_whole(engine: Engine, ledger: Ledger) -> list[Event]:
    """Both verdicts of the check (docs/fsck.md) on the database, and SQLite's own; returns the events."""
    with engine.connect() as connection:
        require(connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok", "SQLite finds damage")
    report = check_home(Home(Path(str(engine.url.database)).parent), TRUST, lambda *_: None)
    found = [f"{one.code} at {one.index}" for one in (*report.integrity.findings.listed, *report.completeness.listed)]
    require(report.verdicts == (Verdict.SOUND, Verdict.SOUND), f"{report.verdicts}: {found}")
    require(report.integrity.entries == ledger.size, "the ledger knows another size")
    return [decode(body)[0] for _, body in ledger.entries(0, ledger.size)]


def names_of(events: Sequence[Event]) -> list[str]:
    """The changes of the story that the entries stand for."""
    names = []
    for event in events:
        if isinstance(event, ConsentGranted):
            names.append(_GRANTS[event.consent])
        elif isinstance(event, Decision):
            names.append(f"call {_NUMBERS[event.request_hash]}")
        elif isinstance(event, Refusal):
            names.append(f"refusal {_NUMBERS[event.request_hash]}")
        else:
            names.append(f"launch {_LAUNCH.index(event.kind)}")
    return names


def check_told(leaves: Sequence[bytes], names: Sequence[str], told: Told) -> None:
    """What was answered is there, byte for byte and once; what was refused or not begun is not."""
    # A call that is refused again, and a server that starts again, are entries again.
    once = [name for name in names if not name.startswith("refusal") and name != "launch 0"]
    require(len(set(once)) == len(once), "a change was made twice")
    for name, (index, leaf) in told.made.items():
        require(index < len(leaves) and names[index] == name and leaves[index].hex() == leaf, f"{name} is lost")
    require(not told.untouched & set(names), "a change that was refused is there")
    silent = set(names) - told.made.keys() - told.unknown
    # Killed between commit and answer a process says nothing; one that came to its end said everything.
    require(not (told.ended and silent), f"{silent} were made and not told")


def check_end(events: Sequence[Event]) -> None:
    """After all: each use of each consent once, to the last, and the bits of just these answers."""
    uses: dict[int, list[int]] = {}
    for event in events:
        if isinstance(event, Decision):
            uses.setdefault(event.consent_index, []).append(event.use)
    require(list(uses.values()) == [list(range(1, MAX_USES + 1))] * len(CONSENTS), "uses are not 1 to 5 of each")
    require(sum(e.bits_milli for e in events if isinstance(e, Decision)) == PRICE * MAX_USES * len(CONSENTS), "bits")
