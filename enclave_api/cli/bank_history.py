"""For banks: who was champion when, with the log's proof; what happened to a product's versions."""

from pathlib import Path
from typing import Annotated

import typer

from enclave_api.cli.common import (
    DEFAULT_SERVER,
    AsOption,
    JsonOption,
    ServerOption,
    fail,
    plain_errors,
    show,
    table,
    text_of,
    unused,
)

app = typer.Typer()

ProductArgument = Annotated[str, typer.Argument(help="<institution>/<product>")]


@app.command()
def champion(
    as_: AsOption,
    product: ProductArgument,
    at: Annotated[str, typer.Option(help="2026-11-23, 2026-11-23T08:30 (UTC), 12h or 7d ago; default: now.")] = "",
    proof: Annotated[
        Path | None, typer.Option(help="Keep the log's proof in this file, for `heixia bank verify-champion`.")
    ] = None,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Say which version was champion at a time, since when, until when, and by which entry of the log.

    heixia bank champion zhongyuan/quick-loan --at 2026-11-23T08:30 --proof champion.json
    """
    from datetime import UTC, datetime, timedelta

    from audit.event import format_time
    from enclave_api.cli.audit_source import moment
    from enclave_api.client.version_life import VersionLife

    with plain_errors(), VersionLife.connect(server, as_) as client:
        unused(proof)
        asked = moment(at, datetime.now(UTC))
        then = None if asked is None else datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=asked)
        found = client.champion(product, then)
        if found.proof and proof:
            proof.write_text(found.proof.dump())
        facts = {
            "version": found.version,
            "since": format_time(found.since) if found.since else None,
            "until": format_time(found.until) if found.until else None,
            "log index": found.index,
        }
        plain = {name: value for name, value in facts.items() if value is not None}
        show(facts if as_json else {**plain, "version": found.version or "none"}, as_json)
        if proof and not found.proof:
            fail(
                "file_unusable", f"{proof} is not written: no version was champion, and no entry of the log proves that"
            )


@app.command("verify-champion")
def verify_champion(
    proof: Annotated[Path, typer.Argument(help="A file kept by `heixia bank champion --proof`.")],
    policy: Annotated[
        Path,
        typer.Option(envvar="HEIXIA_POLICY", help="tlog-policy file: whose log you trust (HOME/public/log.policy)."),
    ],
    as_json: JsonOption = False,
) -> None:
    """Verify offline who was champion: the promotion, the next one, which names it, and who signed their log.

    Where there was no next promotion yet, the file does not show that there is none: the whole log does.
    """
    from audit import champion as checks
    from audit.policy import Policy

    with plain_errors():
        steps = checks.verify_champion(checks.ChampionProof.load(text_of(proof)), Policy.parse(policy.read_bytes()))
        table(("step", "ok", "detail"), [(s.name, s.ok, s.detail) for s in steps], as_json)
        if not all(step.ok for step in steps):
            fail("proof_invalid", "The champion's proof does NOT verify")


@app.command()
def history(
    as_: AsOption,
    product: ProductArgument,
    count: Annotated[int, typer.Option(help="At most so many changes.", min=1)] = 50,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """List what happened to a product's versions, newest first: when, what, by whom, and the entry that says so."""
    from itertools import islice

    from enclave_api.client.version_life import VersionLife

    with plain_errors(), VersionLife.connect(server, as_) as client:
        rows = [
            (
                one.index,
                f"{one.at.ToDatetime().isoformat(timespec='seconds')}Z",
                one.version if as_json else one.version.rpartition("/")[2],
                one.kind.rpartition(".")[2],
                one.by or "the inspection",
                one.why,
            )
            for one in islice(client.history(product), count)
        ]
    if not rows:
        typer.echo(f"no changes of {product}: has your institution a product of that name?", err=True)
        return
    table(("log index", "time", "version", "change", "by", "why"), rows, as_json)
