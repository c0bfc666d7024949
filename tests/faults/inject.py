"""strace as the hand that hurts: the k-th call of a kind, on a scene's own files, fails or never returns.

A clean run is counted first; then each run hurts one call. strace counts for each thread apart, so the k-th call of
whichever thread comes that far is the one. Nothing else of the process is touched: not its libraries, not its pipes.
"""

import re
import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from audit.errors import HeixiaError
from tests.faults.scenes import KILLED, Done, Scene
from tests.faults.verdict import Broken

ROOT = Path(__file__).resolve().parents[2]
# What changes a file or a folder. `openat` is among them because it creates.
CALLS = (
    *("openat", "write", "pwrite64", "ftruncate", "fsync", "fdatasync", "mkdir", "mkdirat", "link", "linkat"),
    *("rename", "renameat", "renameat2", "unlink", "unlinkat"),
)
INJECTED = ("EIO", "ENOSPC", "SIGKILL")
_CALL = re.compile(r"(\d+) +(\w+)\(")
TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Fault:
    """Which call is hurt (the `at`-th of its kind, from 1), and how: an error's name, or SIGKILL."""

    call: str
    injected: str
    at: int

    @property
    def option(self) -> str:
        """As strace takes it."""
        how = f"signal={self.injected}" if self.injected.startswith("SIG") else f"error={self.injected}"
        return f"inject={self.call}:{how}:when={self.at}"


@cache
def refusal() -> str | None:
    """Why no call can be hurt here; None where it can."""
    if shutil.which("strace") is None:
        return "no strace on this machine"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", "/dev/null", "true"], check=False, capture_output=True, text=True
    )
    return f"strace may not trace here: {done.stderr.strip()[:100]}" if done.returncode else None


def count(scene: Scene) -> dict[str, int]:
    """How often a clean run makes each call, on the thread that makes it most."""
    with TemporaryDirectory() as made:
        folder = Path(made)
        scene.prepare(folder)
        trace = folder / "trace"
        done = run(scene, folder, "-o", str(trace), "-e", f"trace={','.join(f'?{call}' for call in CALLS)}")
        if done.returncode:
            raise RuntimeError(f"the clean run failed: {done.stderr[-500:]}")
        by_thread: dict[str, Counter[str]] = defaultdict(Counter)
        for thread, call in _CALL.findall(trace.read_text()):
            by_thread[call][thread] += 1
    return {call: max(by_thread[call].values()) for call in CALLS if call in by_thread}


def all_faults(counted: dict[str, int]) -> list[Fault]:
    """Every call of every kind, hurt in every way."""
    return [Fault(c, how, at) for c, n in counted.items() for how in INJECTED for at in range(1, n + 1)]


def some_faults(counted: dict[str, int], each: int) -> list[Fault]:
    """At most `each` of a kind and way, spread evenly from the first on: the same in every run.

    Not to the very last: groups differ from run to run, and some make a few calls fewer.
    """
    chosen = []
    for call, total in counted.items():
        last, wanted = total - total // 8, min(each, total)
        places = [1 + (last - 1) * at // max(wanted - 1, 1) for at in range(wanted)]
        for shift, how in enumerate(INJECTED):
            # Each way takes other calls in between: together they see more of the run.
            chosen += [Fault(call, how, at) for at in {min(place + shift * (place > 1), total) for place in places}]
    return chosen


def hurt(scene: Scene, fault: Fault) -> str:
    """Runs a scene with one fault and judges what it left; `not met` where the run made fewer such calls."""
    with TemporaryDirectory() as made:
        folder = Path(made)
        scene.prepare(folder)
        trace = folder / "trace"
        done = run(scene, folder, "-o", str(trace), "-e", f"trace={fault.call}", "-e", fault.option)
        hit = "(INJECTED)" in trace.read_text() or done.returncode == KILLED
        try:
            word = scene.judge(folder, done)
        except (Broken, HeixiaError) as error:
            return f"BROKEN: {scene.name} {fault}: {error}"
        return word if hit else "not met"


def run(scene: Scene, folder: Path, *options: str) -> Done:
    """A scene's program under strace."""
    command = [*under(scene.paths(folder)), *options, *scene.command(folder)]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=TIMEOUT_S)


def under(paths: Sequence[Path]) -> list[str]:
    """The strace that sees these files and folders, and no others."""
    return ["strace", "-f", "-qq", *(word for path in paths for word in ("-P", str(path)))]


def tally(faults: Sequence[Fault], verdicts: Sequence[str]) -> Iterator[tuple[str, str, Counter[str]]]:
    """(call, injected, how often each verdict), in order."""
    table: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for fault, verdict in zip(faults, verdicts, strict=True):
        table[fault.call, fault.injected][verdict.partition(":")[0]] += 1
    for (call, injected), counted in table.items():
        yield call, injected, counted
