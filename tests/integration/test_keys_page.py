"""The commands of docs/keys.md run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.integration.conftest import Stage

PAGE = Path(__file__).resolve().parents[2] / "docs" / "keys.md"


def test_the_page_runs(stage: Stage) -> None:
    """Every command succeeds: with the server the first block, without it the second."""
    with_server, without = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    home = stage.room.home.path
    environment = {name: value for name, value in os.environ.items() if name != "HEIXIA_PASSPHRASE"}
    environment |= {"C": str(home / "clients"), "HEIXIA_HOME": str(home), "HEIXIA_SERVER": stage.room.server}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def run(block: str) -> str:
        script = ["bash", "-ec", block]
        done = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    with stage.room.gains("key.rotated", changes={"key_epoch", "bundle_key"}):
        said = run(with_server)
    assert (said.count("newest"), said.count("older keys alive")) == (2, 1)
    stage.room.stop()
    assert "oldest epoch now" in run(without)
    stage.room.start()
