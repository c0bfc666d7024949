"""For banks: verify the enclave, convert, seal, submit, approve, promote, suspend."""

from pathlib import Path
from typing import Annotated, Any

import typer

from enclave_api.cli.common import DEFAULT_SERVER, AsOption, JsonOption, ServerOption, fail, plain_errors, show, table
from enclave_api.cli.inspect import inspect

app = typer.Typer(help="Banks: verify the enclave, seal and version models.", no_args_is_help=True)
app.command()(inspect)

AcceptOption = Annotated[bool, typer.Option("--accept-simulated", help="Accept an enclave no hardware vouches for.")]
VersionArgument = Annotated[str, typer.Argument(help="<institution>/<product>@<n>")]
ReasonOption = Annotated[str, typer.Option(help="Why: one of the codes that may stand in the log.")]


@app.command()
def evidence(
    as_: AsOption,
    accept_simulated: AcceptOption = False,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Fetch fresh evidence and verify it step by step; exit 0 only when no step failed."""
    from enclave_api.client.bank import Bank

    with plain_errors(), Bank.connect(server, as_) as client:
        verdict = client.verify_enclave(_policy(accept_simulated))
        table(("step", "outcome", "reason"), [(s.name, s.outcome, s.reason) for s in verdict.steps], as_json)
        verdict.recipient()


@app.command()
def example(
    out: Annotated[Path, typer.Argument(help="Folder for model, rules and offer.yaml.")],
    kind: Annotated[str, typer.Option(help="lightgbm or sklearn.")] = "lightgbm",
    product: Annotated[str, typer.Option(help="<institution>/<product>")] = "zhongyuan/quick-loan",
    companies: Annotated[int, typer.Option(help="Made-up companies to train on.", min=200)] = 2000,
) -> None:
    """Train an example model on made-up companies and write everything `heixia bank seal` needs."""
    from enclave_api.cli.example import train_lightgbm, train_sklearn
    from enclave_api.cli.offer_file import write_offer
    from sandbox.vault.catalog import load_catalog
    from sandbox.vault.synthetic import generate

    with plain_errors():
        if kind not in ("lightgbm", "sklearn"):
            raise typer.BadParameter("--kind must be lightgbm or sklearn")
        train = train_lightgbm if kind == "lightgbm" else train_sklearn
        # Another seed than `heixia data`: a bank never trains on the companies it will be asked about.
        made = train(generate(load_catalog(), companies, 1), product)
        path = write_offer(out, made.model, made.offer, made.samples())
        show(
            {"offer": str(path), "model bytes": len(made.model.onnx), "AUC on its training data": f"{made.auc:.3f}"},
            False,
        )


@app.command()
def convert(
    as_: AsOption,
    model: Annotated[Path, typer.Argument(help="A LightGBM model as text (Booster.save_model).")],
    out: Annotated[Path, typer.Argument(help="Folder for model.onnx, rules.yaml and offer.yaml.")],
    product: Annotated[str, typer.Option(help="<institution>/<product>")],
    levels: Annotated[str, typer.Option(help="The grid in whole yuan, ascending from 0: 0,50000,100000")],
    fields: Annotated[Path, typer.Option(help="One field name a line, in the order of the model's features.")],
    rules: Annotated[Path | None, typer.Option(help="Rules file; without one the model's output is the limit.")] = None,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Convert your own LightGBM model to ONNX with double thresholds; write the offer to seal.

    scikit-learn pipelines are converted by the SDK (model_registry.convert.from_sklearn): no pickle is loaded here.
    """
    from enclave_api.cli.offer_file import load_booster, write_offer
    from enclave_api.client.bank import Bank, Offer
    from model_registry.convert import from_lightgbm

    with plain_errors(), Bank.connect(server, as_) as client:
        try:
            names, grid = fields.read_text().split(), [int(level) for level in levels.split(",")]
            text = rules.read_text() if rules else ""
        except (OSError, ValueError) as error:
            raise typer.BadParameter(str(error)) from None
        made = from_lightgbm(load_booster(model), client.fields(names))
        path = write_offer(out, made, Offer(product, grid, text), [])
        show({"offer": str(path), "model bytes": len(made.onnx), "fields": len(names)}, False)


@app.command()
def seal(
    as_: AsOption,
    offer: Annotated[Path, typer.Argument(help="offer.yaml: product, levels, fields, model, rules, samples.")],
    out: Annotated[Path, typer.Option(help="The sealed bundle.")] = Path("bundle.heixia"),
    accept_simulated: AcceptOption = False,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Verify the enclave, sign a manifest, seal model and rules to the enclave's key."""
    from enclave_api.cli.offer_file import read_offer, write_bundle
    from enclave_api.client.bank import Bank

    with plain_errors(), Bank.connect(server, as_) as client:
        recipient = client.verify_enclave(_policy(accept_simulated)).recipient()
        model, terms, samples = read_offer(offer, client.fields)
        bundle = client.seal(model, terms, recipient, samples)
        write_bundle(out, bundle)
        show({"bundle": str(out), "bytes": len(bundle.ciphertext), "sealed to": recipient.key_id}, as_json)


@app.command()
def submit(
    as_: AsOption,
    bundle: Annotated[Path, typer.Argument(help="A sealed bundle.")],
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Upload a sealed bundle and wait for its inspection behind the walls."""
    from enclave_api.cli.offer_file import read_bundle
    from enclave_api.client.bank import Bank

    with plain_errors(), Bank.connect(server, as_) as client:
        _show(client.submit(read_bundle(bundle)), as_json)


@app.command()
def approve(
    as_: AsOption, version: VersionArgument, server: ServerOption = DEFAULT_SERVER, as_json: JsonOption = False
) -> None:
    """Approve a version that a colleague submitted."""
    from enclave_api.client.bank import Bank

    with plain_errors(), Bank.connect(server, as_) as client:
        _show(client.approve(version), as_json)


@app.command()
def promote(
    as_: AsOption, version: VersionArgument, server: ServerOption = DEFAULT_SERVER, as_json: JsonOption = False
) -> None:
    """Make an approved version champion from the next call on."""
    from enclave_api.client.bank import Bank

    with plain_errors(), Bank.connect(server, as_) as client:
        _show(client.promote(version), as_json)


@app.command()
def rollback(
    as_: AsOption,
    product: Annotated[str, typer.Argument(help="<institution>/<product>")],
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Make the champion before the present one champion again."""
    from enclave_api.client.bank import Bank

    with plain_errors(), Bank.connect(server, as_) as client:
        _show(client.rollback(product), as_json)


@app.command()
def suspend(
    as_: AsOption,
    version: VersionArgument,
    reason: ReasonOption = "bank-decision",
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Stop a version at once."""
    from enclave_api.client.bank import Bank

    with plain_errors(), Bank.connect(server, as_) as client:
        _show(client.suspend(version, reason), False)


@app.command()
def resume(
    as_: AsOption,
    version: VersionArgument,
    reason: ReasonOption = "bank-decision",
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Lift your institution's suspension."""
    from enclave_api.client.bank import Bank

    with plain_errors(), Bank.connect(server, as_) as client:
        _show(client.resume(version, reason), False)


@app.command()
def versions(
    as_: AsOption,
    product: Annotated[str, typer.Argument(help="<institution>/<product>")],
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """List a product's versions."""
    from enclave_api.client.bank import Bank

    with plain_errors(), Bank.connect(server, as_) as client:
        rows = [
            (v.version, _state(v), v.submitted_by, v.approved_by, v.bundle_hash[:16]) for v in client.versions(product)
        ]
    table(("version", "state", "submitted by", "approved by", "bundle"), rows, as_json)


@app.command()
def version(
    as_: AsOption, version: VersionArgument, server: ServerOption = DEFAULT_SERVER, as_json: JsonOption = False
) -> None:
    """Show one version; a refused one with every reason."""
    from enclave_api.client.bank import Bank

    with plain_errors(), Bank.connect(server, as_) as client:
        found = client.version(version)
        _show(found, as_json)
        table(("code", "where", "text"), [(r.code, r.where, r.text) for r in found.reasons], as_json)


@app.command()
def retire(
    as_: AsOption, version: VersionArgument, server: ServerOption = DEFAULT_SERVER, as_json: JsonOption = False
) -> None:
    """End a version for good; not while it is champion."""
    from enclave_api.client.bank import Bank

    with plain_errors(), Bank.connect(server, as_) as client:
        _show(client.retire(version), as_json)


@app.command("lint-rules")
def lint_rules(
    offer: Annotated[Path, typer.Argument(help="offer.yaml; its rules are compiled over its fields.")],
    as_: AsOption,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Compile and type-check the rules: line, column, what is wrong, what to write instead."""
    from enclave_api.cli.offer_file import read_offer
    from enclave_api.client.bank import Bank
    from model_registry.errors import RulesInvalid
    from model_registry.rules import compile_rules

    with plain_errors(), Bank.connect(server, as_) as client:
        model, terms, _ = read_offer(offer, client.fields)
        fields = {f.name: f.type for f in model.fields}
        try:
            compile_rules(terms.rules.encode(), fields, {f.name: f.codes for f in model.fields})
        except RulesInvalid as error:
            table(
                ("line", "column", "text", "hint"), [(p.line, p.column, p.text, p.hint) for p in error.problems], False
            )
            fail(error.code, f"{len(error.problems)} problems in the rules")
        show({"rules": "compile", "fields": len(fields)}, False)


def _policy(accept_simulated: bool) -> Any:
    from enclave_api.attestation.policy import Policy, UnsafeAcceptSimulated

    return Policy(simulated=UnsafeAcceptSimulated() if accept_simulated else None)


def _state(version: Any) -> str:
    from heixia.registry.v1 import registry_pb2

    return registry_pb2.VersionState.Name(version.state).rpartition("_")[2].lower()


def _show(version: Any, as_json: bool) -> None:
    facts = {"version": version.version, "state": _state(version), "bundle": version.bundle_hash}
    show({**facts, "submitted by": version.submitted_by, "approved by": version.approved_by}, as_json)
