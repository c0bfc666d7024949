"""Every command explains itself."""

from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from enclave_api.cli.main import app


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        yield from _commands(inner, (*path, name))


@pytest.mark.parametrize("path", list(_commands(get_command(app))), ids=" ".join)
def test_a_command_says_what_it_does(path: tuple[str, ...]) -> None:
    """`--help` of every group and command is printed, with the command's options; nothing in a text breaks it."""
    told = CliRunner().invoke(app, [*path, "--help"])
    assert told.exit_code == 0, told.exception
    assert "Usage:" in told.output
    assert "--help" in told.output
