"""What is printed at once needs nothing heavy; what a command needs is imported by that command."""

import json
import subprocess
import sys
from collections.abc import Sequence

import pytest

from enclave_api.cli.lazy import first_sentence
from enclave_api.cli.main import PARTS

HEAVY = {
    "asyncio", "cel_expr_python", "cryptography", "google", "grpc", "joserfc", "numpy", "onnx", "onnxruntime",
    "pyarrow", "rich", "sqlalchemy", "starlette", "structlog", "uvicorn", "yaml",
}  # fmt: skip
GROUPS = ["bank", "steward", "consent", "subject", "audit", "jail", "keys"]

# What no client needs to be connected; what a command does with data, models or a home it imports itself.
SERVERS = {"lightgbm", "numpy", "onnx", "onnxruntime", "pandas", "pyarrow", "sklearn", "sqlalchemy", "starlette"}
CLIENTS = ["application", "authority", "bank", "operator", "steward", "subject", "version_life"]

_IMPORTED = """
import json, sys
from enclave_api.cli.main import app
sys.argv[0] = "heixia"
try:
    app()
finally:
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
"""


def _imports(words: Sequence[str]) -> set[str]:
    """Top-level modules that a process has imported when it ends."""
    command = [sys.executable, "-c", _IMPORTED, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_the_help_of_the_whole_needs_nothing_heavy() -> None:
    """Not even pydantic, which typer needs as soon as a word follows."""
    assert not _imports(["--help"]) & {*HEAVY, "pydantic"}


@pytest.mark.parametrize("group", GROUPS)
def test_the_help_of_a_group_needs_nothing_heavy(group: str) -> None:
    """Its modules import what they need inside their commands."""
    assert not _imports([group, "--help"]) & HEAVY


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_needs_nothing_of_the_servers(client: str) -> None:
    """The SDK's classes are imported without databases, tables of numbers and model runtimes."""
    code = f"import json, sys; import enclave_api.client.{client}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {name.partition(".")[0] for name in json.loads(done.stdout)} & SERVERS


@pytest.mark.parametrize("name", list(PARTS))
def test_the_help_of_the_whole_repeats_the_commands_own(name: str) -> None:
    """Its constant texts are the first sentences of what the commands say themselves."""
    part = PARTS[name]
    assert part.sentence == first_sentence(part.load(name))
