"""No room left on the disk: a clear error, nothing half stored, and the log goes on once there is room."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.faults import inject

ALONE = ["unshare", "--user", "--map-root-user", "--mount"]
PAGES = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55)  # of room: each stops another write


@cache
def refusal() -> str | None:
    """Why no small disk can be mounted here; None where it can."""
    try:
        command = [*ALONE, "mount", "-t", "tmpfs", "none", "/mnt"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        return "no unshare on this machine"
    return f"no mount in a namespace of one's own: {done.stderr.strip()[:100]}" if done.returncode else None


@pytest.mark.skipif(refusal() is not None, reason=str(refusal()))
def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    """Whichever write finds no room: callers are told that the outcome is open, the log that is left has none of it."""
    command = [*ALONE, sys.executable, "-m", "tests.faults.full_disk", str(tmp_path), *map(str, PAGES)]
    done = subprocess.run(command, check=False, cwd=inject.ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-800:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(PAGES)
    assert {one["first"] for one in found} == {"ledger_closed: database_full"}
    assert {one["start"] for one in found} <= {"database_full", "ledger_closed", "answered"}
    answered = [one["answered"] for one in found]
    assert answered == sorted(answered)
    assert answered[0] == 0 < answered[-1]
