"""For operators and auditors: which walls this machine has, and what a program can do behind them. No server needed."""

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enclave_api.cli.common import AcceptWeakOption, JsonOption, fail, plain_errors, show, table

if TYPE_CHECKING:
    from sandbox.jail.pool import DrillResult

app = typer.Typer(help="Measure and try the walls of this machine; no server or home needed.", no_args_is_help=True)

FILE_BYTES_MAX = 2**20  # a diagnostic is read by people
_HINT = "\nOr run it behind those that are left: --accept-weak-isolation"


@app.command()
def walls(as_json: JsonOption = False) -> None:
    """Measure the walls of this machine as a server would; exit 0 only when none is missing, 1 otherwise."""
    from enclave_api.errors import WallsMissing
    from sandbox.jail.required import explain_missing, missing

    with plain_errors():
        report, _ = _behind_walls()
        if as_json:
            show({"walls": report, "missing": missing(report)}, as_json)
        else:
            table(("wall", "on", "why"), [(name, _on(wall), wall.get("why")) for name, wall in report.items()], False)
        if lacking := explain_missing(report):
            raise WallsMissing("walls", public=lacking)


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="Python, at most 1 MiB.")],
    request: Annotated[str, typer.Option(help="The request, as text; default: one zero byte.")] = "",
    request_file: Annotated[Path | None, typer.Option(help="The request, as a file's bytes, at most 64 KiB.")] = None,
    accept_weak_isolation: AcceptWeakOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run FILE behind exactly a one-shot's walls; print what came back and how it ended.

    With a top-level `def run(request)`: the file is executed as the template,
    where a model is loaded; `run` gets the request's bytes as the one-shot.

    Without: the file is executed whole as the one-shot; its variable `answer`,
    or else what it printed, comes back. An exception comes back as text, with
    `!` before it. A module that is not loaded yet means opening a file.

    Exit 0 when it answered; 1 when it ended without an answer (killed, gone,
    more than 64 KiB), when 1 s passed, and on errors.
    """
    from enclave_api.errors import WallsMissing
    from sandbox.jail.required import explain_missing

    with plain_errors():
        drill = _drill(file), _request(request, request_file)
        report, found = _behind_walls(drill, accept_weak_isolation)
        if found is None:
            raise WallsMissing("walls", public=explain_missing(report) + _HINT)
        _print(file, report, found, as_json)
        if found.ended != "answered":
            raise typer.Exit(1)


def _behind_walls(
    drill: tuple[bytes, bytes] | None = None, accept_weak: bool = False
) -> tuple[Mapping[str, dict[str, object]], "DrillResult | None"]:
    """The walls' report and what came of the drill (source, request), which is not run where a wall is missing."""
    import asyncio

    from sandbox.jail.pool import JailPool
    from sandbox.jail.required import missing
    from sandbox.jail.settings import JailSettings

    async def measure() -> tuple[Mapping[str, dict[str, object]], "DrillResult | None"]:
        pool = await JailPool.start(JailSettings())
        try:
            if drill is None or (missing(pool.walls) and not accept_weak):
                return pool.walls, None
            return pool.walls, await pool.drill(*drill)
        finally:
            await pool.close()

    return asyncio.run(measure())


def _drill(file: Path) -> bytes:
    """The file's bytes, uncompiled, inside the program that runs them."""
    from importlib.resources import files

    source = _read(file, FILE_BYTES_MAX)
    text = files("enclave_api.cli").joinpath("script.py").read_bytes()
    return text + f"\nrun = prepare({source!r}, {file.name!r})\n".encode()


def _request(text: str, file: Path | None) -> bytes:
    from sandbox.jail.channel import REQUEST_BYTES_MAX

    request = os.fsencode(text) if file is None else _read(file, REQUEST_BYTES_MAX)
    if len(request) > REQUEST_BYTES_MAX:
        fail("request_invalid", f"the request has more than {REQUEST_BYTES_MAX} bytes")
    return request or b"\0"  # a message without bytes would read as a closed channel


def _read(file: Path, size_max: int) -> bytes:
    with file.open("rb") as opened:
        content = opened.read(size_max + 1)
    if len(content) > size_max:
        fail("file_unusable", f"{file}: more than {size_max} bytes")
    return content


def _print(file: Path, report: Mapping[str, dict[str, object]], found: "DrillResult", as_json: bool) -> None:
    from sandbox.jail.required import missing
    from sandbox.jail.settings import JailSettings

    answer, encoding = _text(found.answer)
    lacking = missing(report)
    if as_json:
        told = {"file": str(file), "ended": found.ended, "answer": answer, "encoding": encoding}
        show({**told, "walls": report, "missing": lacking}, as_json)
        return
    ended = {
        "answered": "answered",
        "ended": "without an answer: killed, gone, or it was too long (docs/jail.md says how the kernel tells which)",
        "timeout": f"timeout: no answer within {JailSettings().score_deadline_ms / 1000:g} s",
    }[found.ended]
    standing = f"missing: {', '.join(lacking)}" if lacking else f"all {len(report)} on"
    came = {f"answer ({encoding})": answer if answer.strip() else "(blank)"} if answer else {}
    show({"file": file, "ended": ended, "walls": standing, **came}, False)


def _text(answer: bytes) -> tuple[str, str]:
    """An answer as text where it is harmless to a terminal, else in base64; and which of the two."""
    try:
        text = answer.decode()
    except UnicodeDecodeError:
        text = "\0"
    if all(character.isprintable() or character in "\n\t" for character in text):
        return text, "utf-8"
    return base64.b64encode(answer).decode(), "base64"


def _on(wall: Mapping[str, object]) -> str:
    return "on" if wall.get("on") is True else "OFF"
