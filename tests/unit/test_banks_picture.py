"""The picture of the bank's way shows commands that there are."""

import re
import subprocess
import sys
from pathlib import Path

from enclave_api.cli.main import PARTS

ROOT = Path(__file__).parents[2]


def test_the_picture_is_fresh() -> None:
    """The script would write what is there."""
    script = [sys.executable, "scripts/draw_banks_way.py", "--check"]
    assert subprocess.run(script, cwd=ROOT, check=False).returncode == 0, "run scripts/draw_banks_way.py"


def test_its_commands_are_commands() -> None:
    """Every word in the boxes of people is a command of `heixia bank`, or of the whole."""
    known = {*PARTS["bank"].load("bank").commands, *PARTS}
    boxes = re.findall(r'class="lane[013]".*?<text [^>]*>([^<]+)<', (ROOT / "docs" / "banks-way.svg").read_text())
    assert len(boxes) == 9
    assert {word for box in boxes for word in box.split(", ")} <= known
