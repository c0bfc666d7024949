"""docs/fsck.md says every code in the words of the code."""

from pathlib import Path

from audit import fsck
from sandbox.replay import laws

PAGE = (Path(__file__).parents[2] / "docs" / "fsck.md").read_text()


def test_every_code_is_documented() -> None:
    """Each line of both tables, and no others."""
    lines = {line for line in PAGE.splitlines() if line.startswith("| `")}
    assert lines == {f"| `{code}` | {text} |" for code, text in (fsck.TEXTS | laws.TEXTS).items()}


def test_what_is_not_judged_is_documented() -> None:
    """Nobody should believe more of a verdict than it says."""
    assert all(f"- {what};" in PAGE for what in laws.UNJUDGED)
