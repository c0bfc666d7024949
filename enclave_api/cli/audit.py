"""For auditors: read the log, verify it."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from enclave_api.cli import audit_report, audit_search, fsck
from enclave_api.cli.common import DEFAULT_SERVER, AsOption, JsonOption, ServerOption, plain_errors, show, table

app = typer.Typer(help="Auditors: read and verify the log. Every read is itself an entry.", no_args_is_help=True)
fsck.add_to(app)

app.command()(audit_search.search)
app.command()(audit_report.stats)
app.command()(audit_report.anomalies)
app.command()(audit_search.export)

PolicyOption = Annotated[
    Path, typer.Option(envvar="HEIXIA_POLICY", help="tlog-policy file: whose log you trust (HOME/public/log.policy).")
]


@app.command()
def log(
    as_: AsOption,
    first: Annotated[int | None, typer.Option(help="Index of the first entry; default: the last ones.", min=0)] = None,
    count: Annotated[int, typer.Option(help="How many entries.", min=1)] = 20,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """List entries."""
    from audit.note import head_of
    from enclave_api.client.auditor import Auditor

    with plain_errors(), Auditor.connect(server, as_) as client:
        size = head_of(client.checkpoint()).size
        begin = max(0, size - count) if first is None else first
        entries = list(client.entries(begin, min(begin + count, size)))  # not the entry that this reading makes
    if as_json:
        for entry in entries:
            print(json.dumps({"index": entry.index, **json.loads(entry.body)}, ensure_ascii=False))  # noqa: T201
        return
    table(("index", "time", "kind", "what"), [_line(entry.index, json.loads(entry.body)) for entry in entries], False)


def _line(index: int, body: dict[str, object]) -> tuple[object, ...]:
    telling = ("code", "version", "dataset", "consent", "institution", "what", "seq", "use", "reason", "by", "caller")
    what = "  ".join(f"{name}={body[name]}" for name in telling if body.get(name))
    return index, str(body["time"])[:19].replace("T", " "), body["kind"], what


@app.command()
def entry(
    as_: AsOption,
    index: Annotated[int, typer.Argument(help="The entry's index.", min=0)],
    proof: Annotated[Path | None, typer.Option(help="Keep its .tlog-proof in this file.")] = None,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Show one entry whole."""
    from enclave_api.client.auditor import Auditor

    with plain_errors(), Auditor.connect(server, as_) as client:
        found = client.entry(index)
        if proof:
            proof.write_text(found.proof)
        show({"index": found.index, **json.loads(found.body)}, as_json)


@app.command()
def disclosure(
    as_: AsOption,
    subject: Annotated[str, typer.Argument(help="uscc:<18 characters>; none = all subjects together.")] = "",
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Show how many bits each institution was told about a subject, or about all, in each calendar year."""
    from enclave_api.cli.subject import show_disclosures
    from enclave_api.client.auditor import Auditor

    with plain_errors(), Auditor.connect(server, as_) as client:
        show_disclosures(client.disclosure(subject), as_json)


@app.command()
def verify(
    as_: AsOption,
    policy: PolicyOption,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Fetch every entry, re-derive the tree, compare it with the signed root, hold each entry against the laws."""
    from rich.progress import Progress

    from audit.errors import ProofInvalid
    from audit.event import decode
    from audit.merkle import leaf_hash, tree_hash
    from audit.policy import Policy
    from enclave_api.client.auditor import Auditor
    from sandbox.replay.fold import Replay

    with plain_errors(), Auditor.connect(server, as_) as client:
        replay = Replay()
        checkpoint = Policy.parse(policy.read_bytes()).verify(client.checkpoint())
        leaves, kinds = [], dict[str, int]()
        with Progress(disable=not sys.stderr.isatty(), transient=True) as bar:
            task = bar.add_task("entries", total=checkpoint.size)
            for item in client.entries(0, checkpoint.size):
                leaves.append(leaf_hash(item.body))
                event, time = decode(item.body)
                kinds[event.kind] = kinds.get(event.kind, 0) + 1
                replay.take(item.index, event, time)
                bar.advance(task)
        if len(leaves) != checkpoint.size or tree_hash(leaves) != checkpoint.root:
            raise ProofInvalid("root", public="the entries do not lead to the signed root")
        if found := replay.findings.listed:
            more = f" (and {replay.findings.total - 1} more: `heixia audit fsck` lists them)"
            raise ProofInvalid("law", public=f"entry {found[0].index}: {found[0].text}{more if found[1:] else ''}")
        facts = {"entries": checkpoint.size, "root": checkpoint.root.hex(), "verdict": "the log is what was signed"}
        show({**facts, "kinds": kinds if as_json else json.dumps(kinds)}, as_json)
