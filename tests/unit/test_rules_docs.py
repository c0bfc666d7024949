"""docs/rules.md: its files are read and its commands print what stands below them."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from enclave_api.cli.main import app
from model_registry.rules import CHARACTERS_MAX
from model_registry.rules.document import RULES_BYTES_MAX
from model_registry.rules.expressions import EXPRESSION_CHARACTERS_MAX
from model_registry.rules.text import CASES_MAX, INPUTS_MAX, RULES_MAX

DOC = Path(__file__).parents[2] / "docs" / "rules.md"
FILES = re.compile(r"^```yaml (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMANDS = re.compile(r"^```console\n\$ heixia ([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("words", "printed"), COMMANDS.findall(DOC.read_text()))
def test_the_page_shows_what_the_command_prints(
    words: str, printed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file of the page is written, the command run beside them, its output compared line by line."""
    monkeypatch.delenv("HEIXIA_AS", raising=False)
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.findall(DOC.read_text()):
        Path(name).write_text(text)
    done = CliRunner().invoke(app, shlex.split(words))
    told = [line.rstrip() for line in (done.stdout + done.stderr).splitlines()]
    assert told == [line.rstrip() for line in printed.splitlines()]


def test_the_page_has_its_commands_and_bounds() -> None:
    """Three commands are shown, and the bounds are those of the code."""
    text = DOC.read_text()
    assert len(COMMANDS.findall(text)) == 3
    bounds = (
        f"{RULES_BYTES_MAX // 1024} KiB, {RULES_MAX} rules and rows, {CASES_MAX} cases, "
        f"{INPUTS_MAX} inputs of a table, "
        f"{EXPRESSION_CHARACTERS_MAX:,} characters an expression and {CHARACTERS_MAX:,} all"
    )
    assert bounds in text
