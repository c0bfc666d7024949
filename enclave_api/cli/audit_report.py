"""`heixia audit stats`, `anomalies`: the log at a glance."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from enclave_api.cli.audit_source import (
    AuditorOption,
    DirOption,
    SinceOption,
    TrustOption,
    asked,
    day,
    moment,
    plain,
)
from enclave_api.cli.common import DEFAULT_SERVER, JsonOption, ServerOption, plain_errors

if TYPE_CHECKING:
    from audit.anomalies import Anomalies, Anomaly
    from audit.index_search import Day

BAR_CELLS = 24
SHOWN_PER_CODE = 5  # for people; a list of hundreds hides the grave behind the frequent
_STYLES = {"grave": "bold red", "suspect": "yellow", "notice": "cyan"}
_OPTIONS = {"subject": "tag"}  # the commands' names of a filter's members, where they differ


def stats(
    as_: AuditorOption = None,
    institution: Annotated[str, typer.Option(help="This one's alone.")] = "",
    first: Annotated[str, typer.Option("--from", help="First day, 2026-11-23; default: 30 days before the last.")] = "",
    last: Annotated[str, typer.Option("--to", help="Last day; default: the log's newest.")] = "",
    dir_: DirOption = None,
    policy: TrustOption = None,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Calls of each institution and day (UTC): answers, repeats for 0 bits, refusals by code, bits, time of answers.

    The times are what this server measured, in whole release quanta; the log does not hold them and proves none.
    """
    with plain_errors(), asked(server, as_, dir_, policy) as source:
        asker = source.auditor or source.folder
        days = asker.statistics(institution, day(first), day(last)) if asker else []
    if as_json:
        for item in days:
            print(json.dumps(asdict(item), ensure_ascii=False))  # noqa: T201
        return
    _show_days(days, measured=dir_ is None)


def anomalies(
    as_: AuditorOption = None,
    since: SinceOption = "",
    budget_bits: Annotated[
        int, typer.Option(help="With --dir: the enclave's budget_bits_per_year, to see who is near it.", min=0)
    ] = 0,
    dir_: DirOption = None,
    policy: TrustOption = None,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """What to look at first, gravest first: of the last 31 days of the log, or --since.

    A finding is no verdict: each is a count that nobody reaches by accident (thresholds: audit/index_rules.py).
    """
    with plain_errors(), asked(server, as_, dir_, policy, budget_bits) as source:
        asker = source.auditor or source.folder
        found = asker.anomalies(moment(since, datetime.now(UTC))) if asker else None
    if found is None or as_json:
        for item in found.found if found else []:
            print(json.dumps(_plain_anomaly(item), ensure_ascii=False))  # noqa: T201
        return
    _show_anomalies(found)


def quantile(times: dict[int, int], share: float) -> int | None:
    """The time (milliseconds) within which that share of the answers left; None where none was measured."""
    left = share * sum(times.values())
    for ms, answers in sorted(times.items()):
        left -= answers
        if left <= 0:
            return ms
    return None


def _show_days(days: "Sequence[Day]", measured: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("day", "institution", "answered", "repeats", "refused", "bits", "p50 ms*", "p95 ms*"):
        made.add_column(column, justify="left" if column in ("day", "institution") else "right")
    made.add_column("calls: [green]█[/] answered [red]▒[/] refused")
    most = max((item.answered + sum(item.refused.values()) for item in days), default=1) or 1
    codes: dict[str, int] = {}
    for item in days:
        refused = sum(item.refused.values())
        for code, n in item.refused.items():
            codes[code] = codes.get(code, 0) + n
        times = [quantile(item.answered_ms, share) for share in (0.5, 0.95)]
        cells = (item.answered, item.repeated, refused, f"{item.bits_milli / 1000:g}", *(t or "–" for t in times))
        made.add_row(
            item.day, plain(item.institution or "(not known)"), *map(str, cells), _bar(item.answered, refused, most)
        )
    console = Console(width=None if sys.stdout.isatty() else 160)
    if not days:
        console.print("no calls on these days")
        return
    console.print(made)
    if codes:
        console.print("\nrefusals by code")
        width = max(codes.values())
        for code, n in sorted(codes.items(), key=lambda pair: -pair[1]):
            console.print(f"  {plain(code):<28}{n:>8,}  [red]{'█' * max(round(BAR_CELLS * n / width), 1)}[/]")
    told = "as this server measured it, in whole release quanta; no part of the log"
    console.print(f"\n* {told if measured else 'no part of the log: ask the server'}", highlight=False)


def _bar(answered: int, refused: int, most: int) -> str:
    cells = [max(round(BAR_CELLS * n / most), 1) if n else 0 for n in (answered, refused)]
    return f"[green]{'█' * cells[0]}[/][red]{'▒' * cells[1]}[/]"


def _show_anomalies(found: "Anomalies") -> None:
    from rich.console import Console

    from audit.anomalies import PER_RULE_MAX

    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    if not found.found:
        console.print("nothing to look at")
        return
    told: dict[str, int] = {}
    for item in found.found:
        if told.get(item.code, 0) == SHOWN_PER_CODE:
            continue
        told[item.code] = told.get(item.code, 0) + 1
        console.print(f"[{_STYLES.get(item.severity, 'bold')}]{plain(item.severity):<8}[/] {plain(item.text)}")
        first, last = (_time(ms) for ms in (item.first_ms, item.last_ms))
        when = first if first == last else f"{first} … {last}"
        indexes = ", ".join(map(str, item.indexes[:5])) + (" …" if len(item.indexes) > 5 else "")
        console.print(f"         {when}   entries {indexes}   [dim]{plain(item.code)}[/]")
        if item.terms:
            options = " ".join(f"--{_OPTIONS.get(name, name)} {value}" for name, value in item.terms)
            console.print(f"         [dim]heixia audit search {plain(options)}[/]")
    for code, count in found.counts.items():
        if count > told.get(code, 0):
            console.print(
                f"and {count - told.get(code, 0):,} older of {plain(code)}; --json lists up to {PER_RULE_MAX}"
            )


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _plain_anomaly(item: "Anomaly") -> dict[str, object]:
    return {**asdict(item), "terms": dict(item.terms)}
