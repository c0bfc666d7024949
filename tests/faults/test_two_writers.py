"""Two processes on one log at the same time: one history, every change once."""

import subprocess
import sys
from pathlib import Path

from tests.faults import inject
from tests.faults.story import CALLS, CONSENTS, open_story
from tests.faults.verdict import Told, check


def test_two_processes_append_to_one_log(tmp_path: Path) -> None:
    """Each takes over what the other wrote; what one has made the other finds known, and both tell the truth."""
    anchors = [tmp_path / name for name in ("anchor", "other")]
    for folder in anchors:
        folder.mkdir()
    engine, ledger = open_story(tmp_path)  # made once: two that make it at the same moment is nobody's case
    ledger.close()
    engine.dispose()
    told = Told()
    for _ in range(2):  # the second pair comes to a finished log and makes none of it again
        running = [_start(tmp_path, anchor) for anchor in anchors]
        for one in running:
            out, err = one.communicate(timeout=60)
            assert one.returncode == 0, err
            mine = Told.parse(out.splitlines())
            # Each has its own start, and refuses anew what is asked of it.
            decided = {name for name in mine.made if not name.startswith("refusal") and name != "launch 0"}
            assert not decided & told.made.keys()
            told.made |= {name: mine.made[name] for name in decided}
    assert len(told.made) == 4 + len(CONSENTS) + 5 * len(CONSENTS) < 4 + len(CONSENTS) + len(CALLS)
    check(tmp_path, told)


def _start(folder: Path, anchor: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.faults.story", str(folder), str(anchor)]
    return subprocess.Popen(command, cwd=inject.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
