"""What the auditors' commands share: filters as options, times in words, the server or an exported folder to ask."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enclave_api.cli.common import exported
from enclave_api.errors import RequestInvalid

if TYPE_CHECKING:
    from audit.policy import Policy
    from enclave_api.client.audit_folder import Folder
    from enclave_api.client.auditor import Auditor

AuditorOption = Annotated[
    Path | None,
    typer.Option("--as", envvar="HEIXIA_AS", help="Folder with your certificate; not needed with --dir."),
]
DirOption = Annotated[
    Path | None, typer.Option("--dir", help="Ask this export of the whole log instead of a server.", file_okay=False)
]
TrustOption = Annotated[
    Path | None,
    typer.Option("--policy", envvar="HEIXIA_POLICY", help="tlog-policy file: whose log you trust. Without it the "
                 "checkpoint's signature is not checked, and it is said so."),
]  # fmt: skip
SinceOption = Annotated[str, typer.Option(help="From then on: 2026-11-23, 2026-11-23T08:30 (UTC), or 12h, 7d ago.")]
UntilOption = Annotated[str, typer.Option(help="Before then: likewise.")]

_AGO = re.compile(r"([1-9][0-9]{0,4})([hd])")


@dataclass(frozen=True)
class Source:
    """Who answers: a server or a folder; just one of them is there."""

    auditor: "Auditor | None"
    folder: "Folder | None"
    policy: "Policy | None"


@contextmanager
def asked(
    server: str, as_: Path | None, folder: Path | None, policy: Path | None, budget_bits: int = 0
) -> Iterator[Source]:
    """Opens the server or the folder; a folder's new entries are read first, with a bar on a terminal."""
    from audit.policy import Policy
    from enclave_api.client.audit_folder import Folder
    from enclave_api.client.auditor import Auditor

    trust = None if policy is None else Policy.parse(policy.read_bytes())
    if folder is not None:
        exported(folder)
        with bar("reading the export") as step:
            opened = Folder(folder, trust, budget_milli=budget_bits * 1000, progress=step)
        with opened:
            yield Source(None, opened, trust)
        return
    if as_ is None:
        raise RequestInvalid("as", public="give --as FOLDER (your certificate), or --dir EXPORT")
    with Auditor.connect(server, as_) as auditor:
        yield Source(auditor, None, trust)


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar on a terminal's stderr; what is yielded is told how much of how much is done."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def moment(text: str, now: datetime) -> int | None:
    """A time in Unix milliseconds; None for "".

    Args:
        text: a day, a day and a time (UTC where it has no zone), or how long ago: `12h`, `7d`.
        now: the present time.

    Raises:
        RequestInvalid: none of these.
    """
    if not text:
        return None
    try:
        if ago := _AGO.fullmatch(text):
            unit = timedelta(hours=1) if ago[2] == "h" else timedelta(days=1)
            found = now - int(ago[1]) * unit
        else:
            found = datetime.fromisoformat(text)
            found = found if found.tzinfo else found.replace(tzinfo=UTC)
        return int(found.timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise RequestInvalid("time", public="a time is 2026-11-23, 2026-11-23T08:30, 12h or 7d") from error


def day(text: str) -> date | None:
    """A day, `2026-11-23`; None for ""; raises RequestInvalid."""
    try:
        return date.fromisoformat(text) if text else None
    except ValueError as error:
        raise RequestInvalid("day", public="a day is 2026-11-23") from error


def plain(text: object) -> str:
    """A text of the log for a terminal: nothing in it moves the cursor or is taken for markup."""
    from rich.markup import escape

    return escape("".join(c if c.isprintable() else "\ufffd" for c in str(text)))
