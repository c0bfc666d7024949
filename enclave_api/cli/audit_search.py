"""`heixia audit search`, `export`: find entries, take the log along."""

import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enclave_api.cli.audit_source import (
    AuditorOption,
    DirOption,
    SinceOption,
    Source,
    TrustOption,
    UntilOption,
    asked,
    bar,
    moment,
    plain,
)
from enclave_api.cli.common import DEFAULT_SERVER, AsOption, JsonOption, ServerOption, plain_errors, show

if TYPE_CHECKING:
    from audit.index_filter import Filter
    from audit.search import Hit
    from enclave_api.client.audit_search import Search


def search(
    as_: AuditorOption = None,
    institution: Annotated[str, typer.Option(help="An institution's entries.")] = "",
    product: Annotated[str, typer.Option(help="A product's: <institution>/<name>.")] = "",
    version: Annotated[str, typer.Option(help="A version's: <product>@<n>.")] = "",
    consent: Annotated[str, typer.Option(help="A consent's own entries and the calls under it: its UUID.")] = "",
    subject: Annotated[str, typer.Option(help="A subject's: uscc:<18> or ric:<18>. Not with --dir.")] = "",
    tag: Annotated[str, typer.Option(help="A subject's, by the tag that entries show.")] = "",
    kind: Annotated[str, typer.Option(help="decision, refusal, consent.granted, version.promoted, …")] = "",
    outcome: Annotated[
        str, typer.Option(help="answered, refused, or repeated (answered for 0 bits). Offer or none: nobody reads it.")
    ] = "",
    code: Annotated[str, typer.Option(help="A refusal's code: consent_revoked, budget_spent, …")] = "",
    caller: Annotated[
        str, typer.Option(help="Who called: <role>/<organisation>, with /<person> where there is one.")
    ] = "",
    since: SinceOption = "",
    until: UntilOption = "",
    count: Annotated[int, typer.Option(help="How many, the newest first.", min=1)] = 20,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    page: Annotated[str, typer.Option(help="Go on where an earlier search ended.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write all of them to FILE.csv or FILE.jsonl.")] = None,
    dir_: DirOption = None,
    policy: TrustOption = None,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Find entries, newest first; every option that is given must match. Each page read is itself an entry.

    Every hit's proof is verified. That none was left out is proved by --dir alone, on an export of the whole log.
    """
    from audit.index_filter import Filter
    from enclave_api.client.audit_table import json_lines, write_table

    with plain_errors():
        now = datetime.now(UTC)
        wanted = Filter(
            institution,
            product,
            version,
            consent,
            tag,
            kind,
            outcome,
            code,
            caller,
            moment(since, now),
            moment(until, now),
        )
        most = None if everything or out else count
        with asked(server, as_, dir_, policy) as source:
            found = _begin(source, wanted, subject, most, page)
            if out:
                write_table(out, found, _counted(found))
                print(f"{_entries(found.total)} in {out}; {_proved(found)}")  # noqa: T201
            elif as_json:
                for line in json_lines(found, _counted(found)):
                    print(line, end="")  # noqa: T201
            else:
                _show(found, list(_counted(found)))


def export(
    as_: AsOption,
    folder: Annotated[Path, typer.Argument(help="Made where it is missing; an older export is brought up to date.")],
    policy: Annotated[Path, typer.Option(envvar="HEIXIA_POLICY", help="tlog-policy file: whose log you trust.")],
    first: Annotated[int | None, typer.Option("--from", help="First index; default: what is missing.", min=0)] = None,
    last: Annotated[int | None, typer.Option("--to", help="Last index; default: the newest.", min=0)] = None,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Fetch the log as a folder of C2SP tlog-tiles, verified while it is written. The export is itself an entry."""
    from audit.policy import Policy
    from enclave_api.client.auditor import Auditor

    with plain_errors(), Auditor.connect(server, as_) as client:
        trust = Policy.parse(policy.read_bytes())
        with bar("exporting") as step:
            end = None if last is None else last + 1
            head = client.export(folder, trust, first, end, lambda done: step(done, end))
        facts = {"folder": str(folder), "entries": head.size, "root": head.root.hex(), "origin": head.origin}
        show({**facts, "verified": f"every file, under {policy}"}, as_json)
        if not as_json:
            print(f"now: heixia audit search --dir {folder} --policy {policy} …")  # noqa: T201


def _begin(source: Source, wanted: "Filter", subject: str, count: int | None, page: str) -> "Search":
    from enclave_api.errors import RequestInvalid

    if source.auditor is not None:
        return source.auditor.search(wanted, source.policy, subject=subject, count=count, token=page)
    if subject or source.folder is None:
        raise RequestInvalid("subject", public="only the enclave knows a subject's tag: give --tag, as entries show it")
    return source.folder.search(wanted, count, page)


def _counted(found: "Search") -> "Iterator[Hit]":
    with bar("entries") as step:
        for number, hit in enumerate(found, 1):
            step(number, found.total)
            yield hit


def _show(found: "Search", hits: "Iterable[Hit]") -> None:
    from rich.console import Console
    from rich.table import Table

    from audit.index_terms import read_entry
    from enclave_api.client.audit_table import row_of

    rows = [row_of(hit) | {"dataset": read_entry(hit.body)[0].get("dataset")} for hit in hits]
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("index", "time (UTC)", "kind", "institution", "caller", "what"):
        made.add_column(column, overflow="fold")
    for row in rows:
        time = str(row["time"] or "")[:19].replace("T", " ")
        cells = (row["index"], time, row["kind"], row["institution"] or "", row["caller"] or "", _what(row))
        made.add_row(*map(plain, cells))
    Console(width=None if sys.stdout.isatty() else 160).print(made)
    print(f"\n{len(rows)} of {found.total:,} that match, of {_entries(found.size)} ({found.filter})")  # noqa: T201
    print(_proved(found))  # noqa: T201
    if found.token:
        print(f"more: the same options and --page {found.token}")  # noqa: T201


def _what(row: dict[str, object]) -> str:
    about = "version" if row["version"] else "product"
    names = ("code", about, "dataset", "consent", "use", "max_uses", "bits", "seq", "reason", "what", "subject_tag")
    return "  ".join(f"{name}={row[name]}" for name in names if row[name] not in (None, ""))


def _entries(number: int) -> str:
    return f"{number:,} {'entry' if number == 1 else 'entries'}"


def _proved(found: "Search") -> str:
    if found.signed:
        return f"every proof leads to the signed checkpoint of {_entries(found.head.size)}"
    return f"proofs lead to a checkpoint of {_entries(found.head.size)} whose signature was NOT checked: give --policy"
