"""docs/banks.md is a walk that works: its commands run as they stand, in order, and print what it shows."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from enclave_api.error_catalog import CATALOG
from tests.integration.test_witnesses import free_port

DOC = Path(__file__).resolve().parents[2] / "docs" / "banks.md"
_FENCE = re.compile(r"^```(sh refused|sh|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_MARK = "--- block {} ended"


@dataclass
class Block:
    """Commands, whether the last of them is refused, and lines that they print, in this order."""

    commands: str
    refused: bool
    shown: list[str] = field(default_factory=list)


def blocks() -> list[Block]:
    """The walk."""
    made = list[Block]()
    for kind, text in _FENCE.findall(DOC.read_text()):
        if kind == "text":
            made[-1].shown += text.splitlines()
        else:
            made.append(Block(text, kind == "sh refused"))
    return made


def script(walk: list[Block]) -> str:
    """One script of all blocks: variables and the server live on from block to block."""
    lines = ["set -e", "trap 'kill $(jobs -p)' EXIT", "exec 2>&1"]
    for number, block in enumerate(walk):
        run = f"( {block.commands} ) && exit 7 || [ $? = 1 ]\n" if block.refused else block.commands
        lines += [run, f"echo '{_MARK.format(number)}'"]
    return "\n".join(lines)


def lacking(shown: list[str], printed: list[str]) -> list[str]:
    """Lines of the page that were not printed, in its order; `…` stands for anything."""
    rest, missing = iter(" ".join(line.split()) for line in printed), []
    for line in shown:
        words = ".*".join(re.escape(part) for part in " ".join(line.split()).split("…"))
        if not any(re.fullmatch(words, found) for found in rest):
            missing.append(line)
    return missing


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """What each block printed, in a folder of its own; the environment is the one that runs this test."""
    text = script(blocks()).replace("make .venv/.installed && ", "").replace("python3 ", f"{sys.executable} ")
    text = text.replace("$PWD/.venv/bin", str(Path(sys.executable).parent))
    # A port of its own lets tests run side by side.
    server = f"127.0.0.1:{free_port()}"
    text = text.replace("127.0.0.1:7443", server)
    text = text.replace(" --metrics off", f" --metrics off --log-listen off --listen {server}")
    names = ("HEIXIA_SERVER", "HEIXIA_AS", "HEIXIA_HOME", "HEIXIA_POLICY", "HEIXIA_PASSPHRASE")
    done = subprocess.run(
        ["bash", "-c", text],
        cwd=tmp_path_factory.mktemp("banks"),
        env={name: value for name, value in os.environ.items() if name not in names} | {"HEIXIA_SERVER": server},
        stdout=subprocess.PIPE,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    parts = re.split(r"^--- block \d+ ended\n", done.stdout, flags=re.MULTILINE)
    return [part.splitlines() for part in parts[:-1]]


@pytest.mark.parametrize("number", range(len(blocks())))
def test_a_block_prints_what_the_page_shows(number: int, printed: list[list[str]]) -> None:
    """Line by line and in order; lines that the page leaves out may stand between."""
    missing = lacking(blocks()[number].shown, printed[number])
    assert not missing, "\n".join(["the page shows:", *missing, "printed was:", *printed[number]])


def test_every_fence_is_one_that_is_run_or_compared() -> None:
    """No command stands in a block that the test would pass over."""
    opened = [line for line in DOC.read_text().splitlines() if line.startswith("```") and line != "```"]
    assert set(opened) <= {"```sh", "```sh refused", "```text"}
    assert sum(block.refused for block in blocks()) >= 2


def test_codes_of_the_page_are_the_catalogues() -> None:
    """Whoever looks one up finds what the enclave says."""
    table = DOC.read_text().partition("## When something is refused")[2].partition("\n## ")[0]
    first_cells = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    codes = re.findall(r"`(\w+)`", " ".join(first_cells))
    assert len(codes) > 10
    assert set(codes) <= set(CATALOG)
