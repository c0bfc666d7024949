"""What every command does alike: nothing is overwritten, what is wrong is said before anything is asked or spent."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from enclave_api.cli import example
from enclave_api.cli.common import show, table
from enclave_api.cli.main import app

NOBODY = ("--server", "127.0.0.1:1")  # no server: a command that asked it would say connection_failed


def run(*arguments: str) -> tuple[int, str]:
    """A command's exit code and everything it printed."""
    done = CliRunner().invoke(app, [*arguments])
    return done.exit_code, done.output


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A file that somebody needs, and a folder of credentials that is never asked for more than its names."""
    for name in ("cert.pem", "key.pem", "ca.pem"):
        (tmp_path / name).write_text("")
    (tmp_path / "kept").write_text("needed")
    return tmp_path / "kept"


@pytest.mark.parametrize(
    "command",
    [
        ("bank", "evidence", "--accept-simulated", "--save"),
        ("bank", "seal", "offer.yaml", "--accept-simulated", "--out"),
        ("bank", "champion", "zhongyuan/quick-loan", "--proof"),
        ("request", "uscc:91330100MA2K000001", "zhongyuan/quick-loan", "0", "--receipt"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_what_is_there_is_not_overwritten(command: tuple[str, ...], kept: Path) -> None:
    """A file that exists, or whose folder does not, ends the command before the server is asked."""
    asked = (*command[:-1], "--as", str(kept.parent), *NOBODY, command[-1])
    code, said = run(*asked, str(kept))
    assert (code, kept.read_text()) == (1, "needed")
    assert "exists already; it is not overwritten [file_unusable]" in said
    code, said = run(*asked, str(kept.parent / "nowhere" / "file"))
    assert (code, "no such folder" in said) == (1, True)


def test_an_example_says_first_that_its_folder_is_taken(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is trained for a folder in which something lies."""
    monkeypatch.setattr(example, "train_lightgbm", lambda *_: pytest.fail("a model was trained"))
    code, said = run("bank", "example", str(kept.parent))
    assert (code, "is not empty [folder_not_empty]" in said) == (1, True)


def test_a_version_without_its_number_is_wrong_usage(kept: Path) -> None:
    """A product where a version belongs is said to be none, with the form; the server is not asked."""
    for command in ("version", "approve", "promote", "suspend", "retire"):
        code, said = run("bank", command, "zhongyuan/quick-loan", "--as", str(kept.parent), *NOBODY)
        assert code == 2
        assert "<institution>/<product>@<n>" in said
    code, said = run("bank", "rollback", "zhongyuan/quick-loan", "--to", "1", "--as", str(kept.parent), *NOBODY)
    assert (code, "<institution>/<product>@<n>" in said) == (2, True)


def test_members_for_programs_have_no_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    """`log index` for people is `log_index` in JSON, so that jq and SQL need no quotes."""
    show({"log index": 1, "by": "a b"}, True)
    table(("log index", "by"), [(1, "a b")], True)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [{"log_index": 1, "by": "a b"}] * 2


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    """Bytes where text belongs are an error in words, not a trace."""
    proof = tmp_path / "proof.json"
    proof.write_bytes(b"\xff\xfe")
    code, said = run("bank", "verify-champion", str(proof), "--policy", str(proof))
    assert (code, f"{proof}: the file is not UTF-8 text [file_unusable]" in said) == (1, True)


def test_a_terminal_that_cannot_show_a_letter_shows_a_question_mark(tmp_path: Path) -> None:
    """Rules named in Chinese are judged on an ASCII terminal, too."""
    rules = tmp_path / "rules.yaml"
    rules.write_text("version: 1\ncutoffs: [{name: 风险过高, when: 1 > model.scor}]\n", encoding="utf-8")
    command = (sys.executable, "-c", "from enclave_api.cli.main import main; main()", "bank", "lint-rules", str(rules))
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=ascii_only, capture_output=True, text=True, check=False)
    assert (done.returncode, "????" in done.stdout, "Traceback" in done.stderr) == (1, True, False)
