"""A real server whose disk fails, fills up or ends it in the middle of calls: it says so, and a restart repeats all."""

import shutil
import subprocess
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from enclave_api.cli.example import LEVELS
from enclave_api.client.application import Limit
from enclave_api.client.connection import Refused
from enclave_api.errors import ConnectionFailed
from enclave_api.home import Home
from tests.faults.inject import Fault, refusal, under
from tests.faults.scenes import KILLED, LedgerScene
from tests.integration.conftest import Stage
from tests.integration.test_kill_and_restart import Asked, ask, check_log
from tests.room import Room

pytestmark = pytest.mark.skipif(refusal() is not None, reason=str(refusal()))
COMPANIES, USES = 4, 3
# Counted from the second call of each company on: eight calls, in a handful of commits.
FAULTS = [
    Fault("pwrite64", "SIGKILL", 31),
    Fault("pwrite64", "EIO", 44),
    Fault("pwrite64", "ENOSPC", 9),
    Fault("fdatasync", "SIGKILL", 2),
    Fault("fdatasync", "EIO", 1),
    Fault("rename", "SIGKILL", 1),  # the anchor's
]
WORDS = {"EIO": "[database_unreadable]", "ENOSPC": "[database_full]"}  # what a server ends with


@dataclass(frozen=True)
class Prepared:
    """A stopped home, and the calls that can be made of it."""

    stage: Stage
    todo: list[Asked]

    def copy(self, folder: Path) -> Stage:
        """A copy of its own."""
        shutil.copytree(self.stage.room.home.path, folder)
        return replace(self.stage, room=Room(Home(folder), self.stage.room.catalog))


@pytest.fixture(scope="module")
def prepared(stage: Stage) -> Prepared:
    """Consents of four companies, three uses each."""
    consents = [(company, stage.consent(company, uses=USES)) for company in range(COMPANIES)]
    stage.room.stop()
    return Prepared(stage, [Asked(c, consent, str(uuid.uuid4())) for c, consent in consents for _ in range(USES)])


@pytest.fixture
def copied(prepared: Prepared, tmp_path: Path) -> Iterator[Stage]:
    """A copy, stopped at the end whatever happens."""
    stage = prepared.copy(tmp_path / "home")
    yield stage
    stage.room.stop()


def call_all(stage: Stage, todo: list[Asked]) -> dict[Asked, Limit]:
    """Asks for everything at once; what was answered."""
    got: dict[Asked, Limit] = {}
    portal = stage.room.portal

    def call(asked: Asked) -> None:
        with suppress(ConnectionFailed, Refused):
            got[asked] = ask(stage, asked, portal)

    with ThreadPoolExecutor(len(todo)) as threads:
        list(threads.map(call, todo))
    return got


@contextmanager
def hand(room: Room, fault: Fault) -> Iterator[None]:
    """strace, at a server that runs, on the files of its database and anchor; it ends with the server."""
    assert room.process is not None
    command = [
        *under(LedgerScene().paths(room.home.path)),
        "-o",
        "/dev/null",
        "-e",
        f"trace={fault.call}",
        "-e",
        fault.option,
    ]
    command = [word for word in command if word != "-qq"] + ["-p", str(room.process.pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        assert "attached" in strace.stderr.readline()
        yield
        strace.communicate(timeout=30)


def ended(room: Room) -> int:
    """How the server ended by itself; its clients are closed."""
    assert room.process is not None
    assert room.process.stdout is not None
    code = room.process.wait(timeout=30)
    room.process.stdout.close()
    room.process = None
    room.stop()
    return code


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.call}-{fault.injected}-{fault.at}")
def test_a_server_that_is_hurt(prepared: Prepared, copied: Stage, fault: Fault) -> None:
    """What was answered is repeated byte for byte, the rest is answered once; uses, bits and numbers are exact."""
    room, todo = copied.room, prepared.todo
    room.start()
    assert room.process is not None
    got = call_all(copied, todo[::USES])
    assert len(got) == COMPANIES
    with hand(room, fault):
        got |= call_all(copied, todo)
        with suppress(ConnectionFailed, Refused):
            while True:  # groups differ from run to run: whoever was spared so far goes on to write
                room.auditor.entry(0)
        code = ended(room)
    assert code == (KILLED if fault.injected == "SIGKILL" else 1)
    if fault.injected in WORDS:
        said = room.log.read_text()
        assert (WORDS[fault.injected] in said, "Traceback" in said) == (True, False), said[-600:]
    room.start()
    check_log(copied)
    for asked in todo:
        limit = ask(copied, asked)
        assert limit.yuan in LEVELS
        if asked in got:
            assert limit.receipt.entry == got[asked].receipt.entry
    check_log(copied)
    decisions = [entry for entry in room.entries() if entry["kind"] == "decision"]
    assert len(decisions) == len(todo)
