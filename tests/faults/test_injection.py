"""Every kind of call that writes, failing or never returning, spread over a short run; `make faults` tries them all."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults import inject
from tests.faults.scenes import SCENES, Scene
from tests.faults.story import WRITERS

needs_strace = pytest.mark.skipif(inject.refusal() is not None, reason=str(inject.refusal()))
EACH = 3  # of a kind and way: a minute on two cores
EXPECTED = {
    "ledger": {"openat", "pwrite64", "fdatasync", "rename", "unlink"},
    "export": {"openat", "write", "fsync", "renameat", "mkdir", "unlink"},
}
BECAME = {"ledger": {"answered", "closed", "not started", "killed"}, "export": {"answered", "refused", "killed"}}


@needs_strace
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_a_hurt_call_leaves_a_whole_log(scene: Scene) -> None:
    """After each the log is whole by both verdicts, what was answered is there, and it goes on."""
    counted = inject.count(scene)
    assert counted.keys() >= EXPECTED[scene.name]
    faults = inject.some_faults(counted, EACH)
    with ThreadPoolExecutor(2) as threads:
        verdicts = list(threads.map(lambda fault: inject.hurt(scene, fault), faults))
    assert [words for words in verdicts if words.startswith("BROKEN")] == []
    assert {*verdicts} - {"not met"} == BECAME[scene.name]  # the faults were real


def syncs_and_answers(folder: Path, writers: int) -> Iterator[str]:
    """What a clean run does, in order: `written` to the WAL, `synced` the WAL, `answered` a change."""
    (folder / "anchor").mkdir(parents=True)
    trace, wal = folder / "trace", "heixia.db-wal"
    command = ["strace", "-f", "-qq", "-y", "-o", str(trace), "-e", "trace=pwrite64,fdatasync,fsync,write"]
    command += [sys.executable, "-m", "tests.faults.story", str(folder), str(folder / "anchor"), str(writers)]
    done = subprocess.run(command, check=False, cwd=inject.ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    syncing = set()  # threads whose sync of the WAL strace tells in two lines
    for line in trace.read_text().splitlines():
        thread = line.partition(" ")[0]
        if wal in line and "pwrite64(" in line:
            yield "written"
        elif wal in line and "sync(" in line and "unfinished" in line:
            syncing.add(thread)
        elif line.endswith("= 0") and (
            (wal in line and "sync(" in line) or ("sync resumed" in line and thread in syncing)
        ):
            syncing.discard(thread)
            yield "synced"
        elif "write(1<" in line and '"made ' in line:
            yield "answered"


@needs_strace
def test_an_answer_waits_for_the_disk(tmp_path: Path) -> None:
    """One change after another: between its writes to the log and its answer lies a sync that succeeded, each time."""
    last, answers = "", 0
    for what in syncs_and_answers(tmp_path / "one", 1):
        if what == "answered":
            assert last == "synced"
            answers += 1
        else:
            last = what
    assert answers == 33


@needs_strace
def test_one_sync_is_for_many_answers(tmp_path: Path) -> None:
    """Six waiting at a time: no answer before as many syncs as it must have waited for, yet fewer than answers."""
    last, batches, answers = "", 0, 0
    for what in syncs_and_answers(tmp_path / "six", 6):
        if what == "answered":
            answers += 1
            assert answers <= WRITERS * batches
        else:
            batches += (last, what) == ("written", "synced")
            last = what
    assert answers == 33
    assert batches < answers
