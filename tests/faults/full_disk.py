"""A disk that fills up: run in a mount namespace of its own, this program makes a small one, fills it, and frees it.

Says one JSON line for each amount of room: how many changes were answered, how the first that was not ended, and what a
start on the full disk says. It ends with an error where the log is not whole then, or does not go on with room.
"""

import asyncio
import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from audit.errors import HeixiaError
from audit.ledger import Ledger
from audit.schema import translate
from tests.faults.story import CALLS, open_story, play
from tests.faults.verdict import check_whole, require

PAGE = 4096
DISK = "size=2m"


def fill(ledger: Ledger) -> tuple[int, str]:
    """Appends until a change is not answered: how many were, what the caller is told and why."""
    answered = 0
    while True:
        try:
            ledger.append_sync(CALLS[answered % len(CALLS)].refuse)
        except HeixiaError as error:
            return answered, f"{error.code}: {translate(error.__cause__ or error).code}"
        answered += 1


def start(folder: Path) -> str:
    """Opens the log on the full disk and appends once: the code of the error, or `answered`."""
    try:
        engine, ledger = open_story(folder, checkpoint_pages=0)
    except HeixiaError as error:
        return error.code
    try:
        ledger.append_sync(CALLS[0].refuse)
    except HeixiaError as error:
        return error.code
    finally:
        ledger.close()
        engine.dispose()
    return "answered"


def run(folder: Path, room: int) -> dict[str, object]:
    """One log on a disk that has so many bytes of room once its first entries are there."""
    engine, ledger = open_story(folder, checkpoint_pages=0)
    asyncio.run(play(ledger, lambda _: None))
    before, stat = ledger.size, os.statvfs(folder)
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(stat.f_bavail * stat.f_frsize - room))
    answered, first = fill(ledger)
    ledger.close()
    engine.dispose()
    again = start(folder)
    ballast.unlink()
    engine, ledger = open_story(folder)
    with closing(ledger):
        check_whole(engine, ledger)
        require(ledger.size == before + answered + (again == "answered"), "entries beside those that were answered")
        ledger.append_sync(CALLS[0].refuse)
        check_whole(engine, ledger)
    engine.dispose()
    return {"answered": answered, "first": first, "start": again}


if __name__ == "__main__":
    base = Path(sys.argv[1])
    for pages in map(int, sys.argv[2:]):
        disk = base / str(pages)  # each its own place: a connection that closes late removes its WAL by name
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", DISK, "none", str(disk)], check=True)
        sys.stdout.write(json.dumps(run(disk, pages * PAGE)) + "\n")
