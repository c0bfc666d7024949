"""Every kind of call that writes, failing or never returning, spread over a short run; `make faults` tries them all."""

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults import inject

needs_strace = pytest.mark.skipif(inject.refusal() is not None, reason=str(inject.refusal()))
EACH = 3  # of a kind and way: half a minute on two cores


@needs_strace
def test_a_hurt_call_leaves_a_whole_log() -> None:
    """After each the log is its entries' tree, state is its replay, what was answered is there, and it goes on."""
    counted = inject.count()
    assert counted.keys() >= {"openat", "pwrite64", "fdatasync", "rename", "unlink"}
    faults = inject.some_faults(counted, EACH)
    with ThreadPoolExecutor(2) as threads:
        verdicts = list(threads.map(inject.hurt, faults))
    assert [words for words in verdicts if words.startswith("BROKEN")] == []
    became = Counter(verdicts)
    # The faults were real: some closed the ledger, some killed it, some kept it from starting.
    assert min(became[name] for name in ("closed", "killed", "not started", "answered")) > 0


@needs_strace
def test_an_answer_waits_for_the_disk(tmp_path: Path) -> None:
    """Between a batch's last write to the log and its answers lies a sync of that file that succeeded, each time."""
    (tmp_path / "anchor").mkdir()
    trace, wal = tmp_path / "trace", "heixia.db-wal"
    command = ["strace", "-f", "-qq", "-y", "-o", str(trace), "-e", "trace=pwrite64,fdatasync,fsync,write"]
    story = [sys.executable, "-m", "tests.faults.story", str(tmp_path), str(tmp_path / "anchor")]
    done = subprocess.run([*command, *story], cwd=inject.ROOT, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    written, synced, answers, batches = False, False, 0, 0
    for line in trace.read_text().splitlines():
        if wal in line and "pwrite64(" in line:
            written, synced = True, False
        elif wal in line and "sync(" in line and line.endswith("= 0"):
            batches += written
            written, synced = False, True
        elif "write(1<" in line and '"made ' in line:
            assert synced, line
            answers += 1
    assert answers == done.stdout.count("made ") >= 28
    assert 8 <= batches < answers  # several answers to a sync: the commit is a group's
