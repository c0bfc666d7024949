"""The commands of docs/witness.md, as they stand."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from audit.note import Note
from tests.integration.test_witnesses import free_port
from tests.room import Room

DOC = Path(__file__).resolve().parents[2] / "docs" / "witness.md"


@pytest.mark.skipif(not shutil.which("curl"), reason="the last command is curl's")
def test_the_commands_make_a_witness(tmp_path: Path) -> None:
    """In a home made by init: the last one prints a checkpoint that the witness cosigned."""
    Room.make(tmp_path)
    shutil.copy(tmp_path / "home" / "public" / "log.policy", tmp_path)
    at_the_bank, at_the_operator = re.findall(r"```sh\n(.*?)```", DOC.read_text(), re.DOTALL)
    # Ports of its own let tests run side by side.
    script = f"set -e\ntrap 'kill $(jobs -p)' EXIT\n{at_the_bank}{at_the_operator}"
    script = script.replace("7380", str(free_port())).replace("--metrics off", "--metrics off --listen 127.0.0.1:0")
    script = script.replace(" &\n", " > /dev/null 2>&1 &\n")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names = [signature.name for signature in Note.parse(done.stdout).signatures]
    assert (names[0], names[-1]) == ("heixia.test/log", "bank-one.example/w")
