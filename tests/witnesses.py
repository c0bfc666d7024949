"""Real witnesses in processes of their own, as banks and a regulator would run them beside a room."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from audit.note import Checkpoint, Note
from audit.witness import origin_hash
from enclave_api.home import Home


@dataclass
class Witness:
    """One witness. `start`, `stop` and `kill` are about its process; state and port stay."""

    name: str
    state: Path
    policy: Path
    process: "subprocess.Popen[str] | None" = None
    url: str = "http://127.0.0.1:0"
    vkey: str = ""

    def start(self) -> "Witness":
        """Starts it and waits until it listens."""
        command = [sys.executable, "-m", "enclave_api", "witness", "--log-policy", str(self.policy), "--json"]
        command += ["--state", str(self.state), "--name", self.name, "--listen", self.url.removeprefix("http://")]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline() if self.process.stdout else ""
        assert line, self.log.read_text()
        facts = json.loads(line)
        self.url, self.vkey = facts["listening"], facts["vkey"]
        return self

    @property
    def log(self) -> Path:
        """What it wrote to stderr."""
        return self.state.with_suffix(".log")

    def stop(self) -> int:
        """Ends it as an operator would; its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """Ends it as a power cut would."""
        return self._end(signal.SIGKILL)

    def ask(self, body: bytes) -> tuple[int, str, str]:
        """Posts an add-checkpoint request: status, content type, body."""
        return fetch(f"{self.url}/add-checkpoint", body)

    def latest(self, origin: str) -> str:
        """The checkpoint it cosigned last."""
        status, _, note = fetch(f"{self.url}/{origin_hash(origin)}/checkpoint")
        assert status == 200
        return note

    def size(self, origin: str) -> int:
        """The size it cosigned last."""
        return Checkpoint.parse(Note.parse(self.latest(origin)).text).size

    def _end(self, number: signal.Signals) -> int:
        if self.process is None:
            return 0
        os.kill(self.process.pid, number)
        code = self.process.wait(timeout=30)
        if self.process.stdout:
            self.process.stdout.close()
        self.process = None
        return code


def fetch(url: str, body: bytes | None = None, method: str | None = None) -> tuple[int, str, str]:
    """One request: status, content type, body."""
    request = Request(url, data=body, method=method)
    try:
        with urlopen(request, timeout=20) as reply:
            return reply.status, reply.headers["content-type"], reply.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.headers["content-type"], error.read().decode()


def trust_witnesses(home: Home, witnesses: list[Witness], quorum: int) -> None:
    """Names witnesses in a home's policy; so many of them are the quorum."""
    logs = [line for line in home.policy.read_text().splitlines() if line.startswith("log ")]
    lines = [f"witness {w.name} {w.vkey} {w.url}" for w in witnesses]
    group = f"group all-of-us {quorum} {' '.join(w.name for w in witnesses)}"
    home.policy.write_text("\n".join([*logs, *lines, group, "quorum all-of-us", ""]))
