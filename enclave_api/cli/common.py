"""What the commands share: options, output, errors in words."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from audit.errors import HeixiaError

DEFAULT_SERVER = "127.0.0.1:7443"

ServerOption = Annotated[str, typer.Option("--server", envvar="HEIXIA_SERVER", help="HOST:PORT of the enclave.")]
AsOption = Annotated[
    Path,
    typer.Option(
        "--as", envvar="HEIXIA_AS", help="Folder with your certificate: HOME/clients/<role>-<organisation>[-<person>]."
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON for programs, one object a line, not text for people.")
]
AcceptWeakOption = Annotated[
    bool, typer.Option("--accept-weak-isolation", help="Go on where walls are missing; it is said loudly.")
]
HomeOption = Annotated[Path, typer.Option("--home", envvar="HEIXIA_HOME", help="The enclave's home directory.")]


@contextmanager
def plain_errors(hint: str = "") -> Iterator[None]:
    """Prints an error of the catalogue, or of a file, as one line and exits with 1; a defect keeps its trace.

    Args:
        hint: added where the service gave no answer.
    """
    try:
        yield
    except BrokenPipeError:
        raise  # whoever read has enough (`| head`): the command ends without a word
    except OSError as error:
        fail("file_unusable", f"{error.filename}: {error.strerror}")
    except HeixiaError as error:
        fail(error.code, _words(error, hint))


def _words(error: HeixiaError, hint: str) -> str:
    # Imported where there is an error: a command that has none need not wait for gRPC.
    from enclave_api.client.connection import Refused
    from enclave_api.error_catalog import public_text
    from enclave_api.errors import ConnectionFailed

    if isinstance(error, Refused):
        unanswered = hint if error.status == "UNAVAILABLE" else ""
        return "; ".join(part for part in (error.public, unanswered) if part)
    text = public_text(error)
    if isinstance(error, ConnectionFailed):
        return "; ".join(part for part in (text, hint) if part)
    # On one's own machine the detail is one's own: the catalogue's text alone would not say where.
    return text if error.public else f"{text.rstrip('.')}: {error}" if str(error) else text


def fail(code: str, text: str) -> NoReturn:
    """Says what is wrong and what to do, on stderr, and exits with 1."""
    print(f"error: {text} [{code}]", file=sys.stderr)  # noqa: T201
    raise typer.Exit(1)


def unused(path: Path | None) -> None:
    """Exits with 1 where a file to write is there already or cannot be: called before anything is asked or spent."""
    if path is None:
        return
    if path.is_file():
        fail("file_unusable", f"{path} exists already; it is not overwritten")
    if not os.access(path.parent, os.W_OK):
        fail("file_unusable", f"{path.parent}: no such folder, or no permission to write there")


def text_of(path: Path) -> str:
    """A file's text, whatever the locale; exits with 1 where it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        fail("file_unusable", f"{path}: the file is not UTF-8 text")


def show(data: Any, as_json: bool) -> None:
    """Prints a mapping as lines `name  value`, or anything as JSON; a name's blanks are `_` there."""
    if as_json:
        named = {_member(name): value for name, value in data.items()} if isinstance(data, dict) else data
        print(json.dumps(named, ensure_ascii=False))  # noqa: T201
        return
    width = max((len(str(name)) for name in data), default=0)
    for name, value in data.items():
        print(f"{name:<{width}}  {value}")  # noqa: T201


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], as_json: bool) -> None:
    """Prints rows as a table, or as JSON Lines."""
    if as_json:
        for row in rows:
            show(dict(zip(columns, row, strict=True)), as_json)
        return
    from rich.console import Console
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(str(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else 160).print(made)


def _member(name: str) -> str:
    return name.replace(" ", "_")


def counted(number: int, one: str) -> str:
    """A number and its noun: `1 use`, `2 uses`."""
    return f"{number:,} {one}" if number == 1 else f"{number:,} {one}s"


def exported(folder: Path) -> Path:
    """The folder, if a log was exported to it; else says how to make one, and exits with 1."""
    if not (folder / "checkpoint").is_file():
        fail(
            "file_unusable", f"{folder}: no exported log there (no file `checkpoint`); `heixia audit export` makes one"
        )
    return folder


def passphrase() -> str | None:
    """The home's passphrase from HEIXIA_PASSPHRASE; never an argument, which every process could read."""
    return os.environ.get("HEIXIA_PASSPHRASE") or None
