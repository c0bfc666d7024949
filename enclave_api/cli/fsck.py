"""`heixia audit fsck`: is the log what was signed, and did every entry have the right to follow the ones before it?"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from enclave_api.cli.common import JsonOption, exported, fail, plain_errors, show, table

UNCHECKED = 2
_PR_SET_PDEATHSIG = 1  # prctl(2)
NICENESS = 19  # of the nightly run: it takes what calls leave over

HELP = """\
Check a whole log: two verdicts in one reading.

Integrity: every tile of every level and the root are derived anew from the entries and compared; signatures and
cosignatures as the policy asks; entries decode, times never go back.

Completeness: numbers without gaps, each decision under a live consent with a use left, by the champion, its bits added
up; of a home also every table of state. docs/fsck.md explains each code.

Exit code: 0 = both sound; 1 = broken, with the first bad index; 2 = could not be checked.
"""


def add_to(app: typer.Typer) -> None:
    """Adds fsck."""
    app.command("fsck", help=HELP)(fsck)


def fsck(
    folder: Annotated[
        Path | None, typer.Option("--dir", help="Folder of an export (`heixia audit export`), or of a part.")
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", help="Where the log is served (`heixia serve --log-listen`).")
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option(
            "--home", envvar="HEIXIA_HOME", help="An enclave's home: log and tables, read alone; the server may run."
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            help="tlog-policy: whose log it must be; default with --home: its public/log.policy, else HEIXIA_POLICY."
        ),
    ] = None,
    background: Annotated[
        bool,
        typer.Option("--background", help="At the lowest priority, and no longer than the process that started it."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """See HELP."""
    with _unchecked():
        if background:
            _stand_back()
        report = _check(folder, url, home, policy)
    if as_json:
        print(json.dumps(report.as_dict(), ensure_ascii=False))  # noqa: T201
    else:
        _show(report.as_dict())
    raise typer.Exit(report.exit_code)


def _stand_back() -> None:
    """Take what the calls leave over, and end with the server: a reader that stayed would keep its WAL growing."""
    import ctypes
    import signal

    os.nice(NICENESS)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


@contextmanager
def _unchecked() -> Iterator[None]:
    """What keeps a check from being made is no verdict: it ends with 2, not with 1."""
    try:
        with plain_errors():
            yield
    except typer.Exit as end:
        raise typer.Exit(UNCHECKED) from end


def _check(folder: Path | None, url: str | None, home: Path | None, policy: Path | None) -> Any:
    from audit.http_source import HttpSource
    from audit.policy import Policy
    from enclave_api.fsck import check_folder, check_home, check_source
    from enclave_api.home import Home

    if folder is None and url is None:
        if home is None:
            raise typer.BadParameter("what is to be checked? --home HOME, --dir DIR or --url URL")
        policy = policy or _policy_of(Home(home).policy)
    elif policy is None and (named := os.environ.get("HEIXIA_POLICY")):
        policy = Path(named)
    if policy is None:
        raise typer.BadParameter("whose log must it be? --policy FILE (HOME/public/log.policy)")
    trusted = Policy.parse(policy.read_bytes())
    with _bar() as progress:
        if folder is not None:
            return check_folder(exported(folder), trusted, progress)
        if url is not None:
            return check_source(HttpSource(url), trusted, progress)
        return check_home(Home(home or Path()), trusted, progress)


def _policy_of(path: Path) -> Path:
    if not path.is_file():
        fail(
            "file_unusable", f"{path}: not there; is --home the home of an enclave? --policy FILE names another policy"
        )
    return path


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("entries", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _show(report: dict[str, Any]) -> None:
    found = [
        (verdict, one["code"], "" if one["index"] is None else one["index"], one["place"], one["text"])
        for verdict in ("integrity", "completeness")
        for one in report[verdict]["findings"]
    ]
    show({"log": report["origin"], "size": report["size"], "root": report["root"], "read": report["entries"]}, False)
    for verdict in ("integrity", "completeness"):
        told = report[verdict]
        more = f"{told['total']} findings" if told["total"] else told["cut"]
        print(f"{verdict:<12}  {told['verdict'].upper()}{f': {more}' if more else ''}")  # noqa: T201
    if report["first_bad"] is not None:
        print(f"first bad index  {report['first_bad']}")  # noqa: T201
    if found:
        table(("verdict", "code", "index", "place", "what"), found, False)
    print("not judged:")  # noqa: T201
    for what in (*report["integrity"]["unjudged"], *report["completeness"]["unjudged"]):
        print(f"- {what}")  # noqa: T201
