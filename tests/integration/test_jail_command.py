"""`heixia jail run` and `heixia jail walls`: what comes back, how it ended, that nothing runs outside of the walls."""

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from enclave_api.cli.main import app
from sandbox.jail.required import REQUIRED
from tests.integration.test_required_walls import HEIXIA, POORER

ROOT = Path(__file__).resolve().parents[2]
_EXAMPLE = re.compile(r"```sh\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)


def run(folder: Path, source: str | bytes, *options: str) -> Result:
    """The command on a file with this source."""
    file = folder / "tried.py"
    file.write_bytes(source if isinstance(source, bytes) else source.encode())
    return CliRunner().invoke(app, ["jail", "run", str(file), *options])


def told(folder: Path, source: str | bytes, *options: str) -> dict[str, Any]:
    """What it prints as JSON."""
    found: dict[str, Any] = json.loads(run(folder, source, "--json", *options).stdout)
    return found


@pytest.mark.parametrize("example", [0, 1])
def test_the_examples_of_the_documentation_run_as_shown(example: int, tmp_path: Path) -> None:
    """Each command prints, to the letter, what docs/jail.md shows."""
    examples = _EXAMPLE.findall((ROOT / "docs" / "jail.md").read_text())
    assert len(examples) == 2
    script, shown = examples[example]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["bash", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == shown, done.stderr
    assert done.returncode == (0 if " answered\n" in shown else 1)


def test_the_report_is_whole(tmp_path: Path) -> None:
    """As JSON: the file, how it ended, the answer, every wall, and that none is missing."""
    found = told(tmp_path, "def run(request):\n    return request + b'!'", "--request", "hello")
    assert list(found) == ["file", "ended", "answer", "encoding", "walls", "missing"]
    assert (found["file"], found["ended"]) == (str(tmp_path / "tried.py"), "answered")
    assert (found["answer"], found["encoding"], found["missing"]) == ("hello!", "utf-8", [])
    assert set(found["walls"]) == set(REQUIRED)
    assert all(wall["on"] is True for wall in found["walls"].values())


ANSWERS = {
    "a script's variable": ("answer = 40 + 2", "42"),
    "what a script printed": ("print('seen', request)", "seen b'\\x00'\n"),
    "a script as main": ("if __name__ == '__main__':\n    print('main')", "main\n"),
    "a script that exits": ("import sys\nprint(1)\nsys.exit(3)", "1\n"),
    "nothing at all": ("x = 1", "\n"),
    "a function's text": ("def run(request):\n    return 'text'", "text"),
    "what a function printed": ("print('template')\ndef run(request):\n    print('one-shot')", "template\none-shot\n"),
    "a mark that is no exception": ("print('!')\ndef run(request):\n    pass", "!\n"),
    "the channel itself": ("import os\nos.write(3, b'raw')", "raw"),
    "an exception, with its line": ("x = 1\n1 / 0", "!ZeroDivisionError: division by zero (tried.py, line 2)"),
    "an exception of a function": (
        "def run(request):\n    1 / 0",
        "!ZeroDivisionError: division by zero (tried.py, line 2)",
    ),
    "an exception while loading": (
        "def run(request):\n    pass\n1 / 0",
        "!ZeroDivisionError: division by zero (tried.py, line 3)",
    ),
    "a syntax error": ("x = 1\ndef (:", "!SyntaxError: invalid syntax (tried.py, line 2)"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_comes_back(name: str, tmp_path: Path) -> None:
    """Whatever shape a file has, its word comes back over the channel, and so does what went wrong."""
    source, answer = ANSWERS[name]
    found = told(tmp_path, source)
    assert (found["ended"], found["encoding"]) == ("answered", "utf-8")
    assert found["answer"] == answer


@pytest.mark.parametrize("answer", [b"\xff\xfe", b"\x1b[2J", "\x9b2J".encode()])
def test_an_answer_that_is_no_harmless_text_is_base64(answer: bytes, tmp_path: Path) -> None:
    """Bytes come back exactly, and none of them reaches the terminal as a control sequence."""
    source = f"def run(request):\n    return {answer!r}"
    found = told(tmp_path, source)
    assert found["encoding"] == "base64"
    assert base64.b64decode(found["answer"]) == answer
    assert run(tmp_path, source).stdout.replace("\n", "").isprintable()


ENDS = {
    "a file is opened": ("open('/etc/passwd')", "ended"),
    "a file is opened while loading": ("open('/etc/passwd')\ndef run(request):\n    return b'done'", "ended"),
    "a module is loaded from disk": ("import mailbox", "ended"),
    "it leaves without a word": ("import os\nos._exit(0)", "ended"),
    "too long an answer": ("def run(request):\n    return bytes(70_000)", "ended"),
    "no answer": ("while True: pass", "timeout"),
}


@pytest.mark.parametrize("name", ENDS)
def test_how_it_ends_without_an_answer(name: str, tmp_path: Path) -> None:
    """Exit code 1, an empty answer, and whether it was gone or late."""
    source, ended = ENDS[name]
    done = run(tmp_path, source, "--json")
    found = json.loads(done.stdout)
    assert (done.exit_code, found["ended"], found["answer"]) == (1, ended, "")


def test_people_read_what_happened(tmp_path: Path) -> None:
    """A blank answer is named, and a late one with the time that it had."""
    assert "answer (utf-8)  (blank)\n" in run(tmp_path, "x = 1").stdout
    assert "timeout: no answer within 1 s\n" in run(tmp_path, "while True: pass").stdout


def test_a_request_is_text_or_a_file(tmp_path: Path) -> None:
    """Both come as bytes; one beyond the channel's bound is refused before anything runs."""
    source = "def run(request):\n    return str(len(request))"
    (tmp_path / "request").write_bytes(bytes(65_536))
    assert told(tmp_path, source, "--request", "额度")["answer"] == "6"
    assert told(tmp_path, source, "--request-file", str(tmp_path / "request"))["answer"] == "65536"
    (tmp_path / "request").write_bytes(bytes(65_537))
    refused = run(tmp_path, source, "--request-file", str(tmp_path / "request"))
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "more than 65536 bytes" in refused.stderr


def test_a_file_that_cannot_be_run_is_one_line(tmp_path: Path) -> None:
    """Missing, a folder, too large: one line that says so, exit code 1."""
    (tmp_path / "large.py").write_bytes(b"#" * (2**20 + 1))
    for name, words in (("none.py", "No such file"), (".", "Is a directory"), ("large.py", "more than 1048576 bytes")):
        done = CliRunner().invoke(app, ["jail", "run", str(tmp_path / name)])
        assert (done.exit_code, done.stdout) == (1, "")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


# An audit hook in the command's own process: ends it with 9 as soon as the file's source is compiled or executed there.
_WATCHED = """
import os, sys
def watch(event, arguments):
    if event in ("compile", "exec") and "tried_here" in repr(arguments):
        os._exit(9)
sys.addaudithook(watch)
source = open(sys.argv[3], "rb").read()
{before}
from enclave_api.cli.main import main
main()
"""


@pytest.mark.parametrize(("before", "code"), [("", 0), ("compile(source, 'elsewhere', 'exec')", 9)])
def test_the_file_is_compiled_behind_the_walls_alone(before: str, code: int, tmp_path: Path) -> None:
    """The command's own process never compiles it; the second case shows that the watch would notice."""
    file = tmp_path / "tried.py"
    file.write_text("tried_here = 1\nprint(tried_here)")
    command = [sys.executable, "-c", _WATCHED.format(before=before), "jail", "run", str(file), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert code or json.loads(done.stdout)["answer"] == "1\n"


def test_nothing_runs_where_a_wall_is_missing_unless_told(tmp_path: Path) -> None:
    """Without Landlock and the filters a file is refused; told to, it does what a filter would kill it for."""
    file = tmp_path / "tried.py"
    file.write_text("import os\nanswer = os.getpid()")
    command = [*POORER, "landlock,seccomp", *HEIXIA, "jail", "run", str(file), "--json"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "[walls_missing]" in refused.stderr
    assert "--accept-weak-isolation" in refused.stderr
    accepted = subprocess.run([*command, "--accept-weak-isolation"], capture_output=True, text=True, check=False)
    found = json.loads(accepted.stdout)
    assert found["missing"] == ["landlock", "seccomp", "one_shot_seccomp"]
    assert found["ended"] == "answered"
    assert told(tmp_path, file.read_bytes())["ended"] == "ended"


def test_walls_are_shown_as_a_table_and_as_json() -> None:
    """Every wall with on or OFF and why; exit code 0 where none is missing."""
    shown = CliRunner().invoke(app, ["jail", "walls"])
    assert shown.exit_code == 0
    rows = dict(line.split(None, 1) for line in shown.stdout.splitlines()[1:])
    assert set(rows) == set(REQUIRED)
    assert all(row.startswith("on ") for row in rows.values())
    found = json.loads(CliRunner().invoke(app, ["jail", "walls", "--json"]).stdout)
    assert (set(found["walls"]), found["missing"]) == (set(REQUIRED), [])
