"""For banks: a model made ready and handed in: example, seal, submit."""

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
from enclave_api.cli.common import DEFAULT_SERVER, AsOption, JsonOption, ServerOption, plain_errors, show, unused

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
    from enclave_api.cli.offer_file import require_free, write_offer
    from sandbox.vault.catalog import load_catalog
    from sandbox.vault.synthetic import generate

    with plain_errors():
        if kind not in ("lightgbm", "sklearn"):
            raise typer.BadParameter("--kind must be lightgbm or sklearn")
        require_free(out)
        train = train_lightgbm if kind == "lightgbm" else train_sklearn
        # Another seed than `heixia data`: a bank never trains on the companies it will be asked about.
        made = train(generate(load_catalog(), companies, 1), product)
        compared = made.parity()
        path = write_offer(out, made.model, made.offer, made.samples())
        told = {"offer": str(path), "model bytes": len(made.model.onnx), "AUC on its training data": f"{made.auc:.3f}"}
        show(told | {"precision": f"{made.model.precision}: {made.model.why}"} | dict(compared.lines()), False)


@app.command()
def seal(
    as_: AsOption,
    offer: Annotated[
        Path, typer.Argument(help="offer.yaml, or its folder: product, levels, fields, model, rules, samples.")
    ],
    out: Annotated[Path, typer.Option(help="The sealed bundle.")] = Path("bundle.heixia"),
    policy: EvidencePolicyOption = None,
    accept_simulated: AcceptOption = False,
    at: AtOption = "",
    certs: CertsOption = None,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Verify the enclave, sign a manifest, seal model and rules to the enclave's key.

    The manifest names the policy file that the enclave was judged by. `bundle` and `manifest` are the hashes that
    whoever approves the version finds again in `heixia bank version`.

    Example: heixia bank seal --as clients/institution-zhongyuan-alice --policy evidence.toml offer --out v1.heixia
    """
    from enclave_api.cli.offer_file import read_offer, write_bundle
    from enclave_api.client.bank import Bank
    from model_registry.manifest import manifest_hash

    with plain_errors(), Bank.connect(server, as_) as client:
        unused(out)
        chosen, time, material = chosen_policy(policy, accept_simulated), point_in_time(at), load_certs(certs)
        recipient = client.verify_enclave(chosen.policy, at=time, material=material).recipient()
        model, terms, samples = read_offer(offer, client.fields)
        bundle = client.seal(model, terms, recipient, samples, evidence_policy=chosen.digest or None)
        write_bundle(out, bundle)
        told = {"bundle": bundle.bundle_hash, "manifest": manifest_hash(bundle.manifest_jws).hex()}
        show({"file": str(out), "bytes": len(bundle.ciphertext), "sealed to": recipient.key_id} | told, as_json)


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
