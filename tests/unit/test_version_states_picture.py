"""The picture in docs/ is the tables of the code."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from model_registry.lifecycle import HOLDERS, TRANSITIONS, State

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def test_the_picture_is_fresh() -> None:
    """The script would write what is there."""
    script = [sys.executable, "scripts/draw_version_states.py", "--check"]
    assert subprocess.run(script, cwd=ROOT, check=False).returncode == 0, "run scripts/draw_version_states.py"


def test_every_state_transition_and_holder_is_in_it() -> None:
    """As many boxes as states, each by its name; as many arrows as the table has lines; who may stop a version."""
    drawn = ElementTree.fromstring((ROOT / "docs" / "version-states.svg").read_text())
    texts = {text.text for text in drawn.iter(f"{SVG}text")}
    assert set(State) <= texts
    assert {f"{role}: {whose}" for role, whose in HOLDERS.items()} <= texts
    arrows = [*drawn.iter(f"{SVG}line"), *(p for p in drawn.iter(f"{SVG}path") if p.get("class") == "way")]
    assert len(arrows) == len(TRANSITIONS)
    assert len(list(drawn.iter(f"{SVG}rect"))) == len(State) + 1  # the page
