"""The tests' end of the weak zygote: start it, run attacks with chosen walls missing, see how they ended."""

import contextlib
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandbox.jail.walls import NAMESPACES
from tests.redteam.attack import ONE_SHOT, Attack, script
from tests.redteam.weak_zygote import LIMITS, MESSAGE_BYTES_MAX

ROOT = Path(__file__).resolve().parents[2]
# what a process of the machine's own root cannot have on
_PRIVILEGED = frozenset({"user_namespace", "capabilities", "unprivileged_user"})


@dataclass(frozen=True)
class Outcome:
    """How a run ended ("worked", "refused: EPERM", "killed: SIGSYS", …), what it said, which walls were missing."""

    end: str
    said: str
    missing: frozenset[str]


class Runner:
    """A running weak zygote."""

    def __init__(self, sock: socket.socket, constants: Mapping[str, object]) -> None:
        hello = json.loads(sock.recv(MESSAGE_BYTES_MAX))
        if hello["refusal"]:  # nothing is tried on the bare machine
            pytest.skip(f"this machine refuses namespaces: {hello['refusal']}")
        self._sock = sock
        self._constants = {**constants, "VICTIM": hello["victim"], "SECRET": hello["secret"]}

    def run(self, attack: Attack, position: str, without: Iterable[str] = ()) -> Outcome:
        """Run an attack in a position, with all walls but those named."""
        told = self._ask({"source": script(attack.source, self._constants), "position": position}, without)
        return Outcome(told["end"], told.get("said", ""), frozenset(told.get("missing", ())))

    def sweep(self, numbers: Iterable[int], *, deep: bool) -> list[int]:
        """Which system call numbers do not kill a template, or (`deep`) a one-shot."""
        order = {"source": "", "position": "sweep", "numbers": list(numbers), "deep": deep}
        alive: list[int] = self._ask(order, ())["alive"]
        return alive

    def _ask(self, order: dict[str, Any], without: Iterable[str]) -> dict[str, Any]:
        self._sock.send(json.dumps({**order, "without": sorted(without)}).encode())
        told: dict[str, Any] = json.loads(self._sock.recv(MESSAGE_BYTES_MAX))
        return told


def missing_walls(attack: Attack) -> frozenset[str]:
    """The walls that an attack's control run leaves out."""
    return attack.without | (_PRIVILEGED if attack.privileged else frozenset())


def walls_seen(without: frozenset[str], position: str) -> frozenset[str]:
    """Names that a report must then show as missing, and no other."""
    seen = {name for name in without if name != "namespaces" and not name.startswith("seccomp:")}
    if without & {"namespaces", "mount_namespace"}:
        seen.add("empty_root")
    if position == ONE_SHOT:
        seen.add("children_unseen")  # the harness has to see how the one-shot ends
    else:
        seen = {name for name in seen if not name.startswith("one_shot_")}
    return frozenset(seen - set(NAMESPACES))  # these are reported by whether the clone was refused


def privileged() -> bool:
    """Whether this process is root of the machine, not of a container."""
    return os.getuid() == 0 and Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]


@contextlib.contextmanager
def running(*, root: bool = False) -> Iterator[Runner]:
    """A weak zygote and what its attacks aim at: a listener, an abstract and a path socket, a file."""
    if platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip(f"no system call numbers for {platform.machine()}")
    with contextlib.ExitStack() as stack:
        constants = stack.enter_context(targets())
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stack.callback(ours.close)
        command = [sys.executable, "-B", "-m", "tests.redteam.weak_zygote", str(theirs.fileno())]
        command += ["--stay-root"] if root else []
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=ROOT)
        stack.callback(process.wait)
        stack.callback(process.kill)
        theirs.close()
        yield Runner(ours, constants)


@contextlib.contextmanager
def targets() -> Iterator[dict[str, object]]:
    """What attacks aim at, as constants of their text."""
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(_directory()))
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        abstract = b"\0heixia-redteam-" + os.urandom(8).hex().encode()
        for name in (abstract, str(scratch / "door").encode()):
            door = stack.enter_context(socket.socket(socket.AF_UNIX))
            door.bind(name)
            door.listen(64)
        (scratch / "door").chmod(0o777)
        (scratch / "neighbour").write_text("x")
        (scratch / "neighbour").chmod(0o666)
        yield {
            "VICTIM": os.getpid(),
            "SECRET": 0,
            "PORT": listener.getsockname()[1],
            "SCRATCH": str(scratch),
            "ABSTRACT": abstract,
            "BOMB_BYTES": LIMITS.memory_bytes * 2,
        }


@contextlib.contextmanager
def _directory() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="heixia-redteam-") as name:
        Path(name).chmod(0o777)
        yield name
