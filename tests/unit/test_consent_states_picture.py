"""The picture in docs/ is the table of the code."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from sandbox.consent_life import TRANSITIONS, State

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def test_the_picture_is_fresh() -> None:
    """The script would write what is there."""
    script = [sys.executable, "scripts/draw_consent_states.py", "--check"]
    assert subprocess.run(script, cwd=ROOT, check=False).returncode == 0, "run scripts/draw_consent_states.py"


def test_every_state_and_transition_is_in_it() -> None:
    """As many boxes as states, each by its name; as many arrows as the table has lines."""
    drawn = ElementTree.fromstring((ROOT / "docs" / "consent-states.svg").read_text())
    texts = {text.text for text in drawn.iter(f"{SVG}text")}
    assert set(State) <= texts
    assert len(list(drawn.iter(f"{SVG}line"))) == len(TRANSITIONS)
    assert len(list(drawn.iter(f"{SVG}rect"))) == len(State) + 1  # the page
