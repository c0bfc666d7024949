"""For banks: a model made ready and handed in: example, convert, lint, seal, submit."""

from pathlib import Path
from typing import Annotated

import typer

from enclave_api.cli.bank_evidence import (
    AcceptOption,
    AtOption,
    CertsOption,
    EvidencePolicyOption,
    chosen_policy,
    load_certs,
    point_in_time,
)
from enclave_api.cli.bank_versions import show_version
from enclave_api.cli.common import DEFAULT_SERVER, AsOption, JsonOption, ServerOption, fail, plain_errors, show, table

app = typer.Typer()


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


@app.command()
def seal(
    as_: AsOption,
    offer: Annotated[Path, typer.Argument(help="offer.yaml: product, levels, fields, model, rules, samples.")],
    out: Annotated[Path, typer.Option(help="The sealed bundle.")] = Path("bundle.heixia"),
    policy: EvidencePolicyOption = None,
    accept_simulated: AcceptOption = False,
    at: AtOption = "",
    certs: CertsOption = None,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Verify the enclave, sign a manifest, seal model and rules to the enclave's key.

    The manifest names the policy file that the enclave was judged by.
    """
    from enclave_api.cli.offer_file import read_offer, write_bundle
    from enclave_api.client.bank import Bank

    with plain_errors(), Bank.connect(server, as_) as client:
        chosen, time, material = chosen_policy(policy, accept_simulated), point_in_time(at), load_certs(certs)
        recipient = client.verify_enclave(chosen.policy, at=time, material=material).recipient()
        model, terms, samples = read_offer(offer, client.fields)
        bundle = client.seal(model, terms, recipient, samples, evidence_policy=chosen.digest or None)
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
        show_version(client.submit(read_bundle(bundle)), as_json)
