"""For banks: a version's life: approve, promote, roll back, suspend, resume, retire, list."""

from typing import Annotated, Any

import typer

from enclave_api.cli.common import DEFAULT_SERVER, AsOption, JsonOption, ServerOption, plain_errors, show, table

app = typer.Typer()

VersionArgument = Annotated[str, typer.Argument(help="<institution>/<product>@<n>")]
ReasonOption = Annotated[str, typer.Option(help="Why: one of the codes that may stand in the log.")]


@app.command()
def approve(
    as_: AsOption, version: VersionArgument, server: ServerOption = DEFAULT_SERVER, as_json: JsonOption = False
) -> None:
    """Approve a version that a colleague submitted."""
    from enclave_api.client.bank import Bank

    with plain_errors(), Bank.connect(server, as_) as client:
        show_version(client.approve(version), as_json)


@app.command()
def promote(
    as_: AsOption, version: VersionArgument, server: ServerOption = DEFAULT_SERVER, as_json: JsonOption = False
) -> None:
    """Make an approved version champion from the next call on."""
    from enclave_api.client.bank import Bank

    with plain_errors(), Bank.connect(server, as_) as client:
        show_version(client.promote(version), as_json)


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
        show_version(client.rollback(product), as_json)


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
        show_version(client.suspend(version, reason), False)


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
        show_version(client.resume(version, reason), False)


@app.command()
def retire(
    as_: AsOption, version: VersionArgument, server: ServerOption = DEFAULT_SERVER, as_json: JsonOption = False
) -> None:
    """End a version for good; not while it is champion."""
    from enclave_api.client.bank import Bank

    with plain_errors(), Bank.connect(server, as_) as client:
        show_version(client.retire(version), as_json)


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
        show_version(found, as_json)
        table(("code", "where", "text"), [(r.code, r.where, r.text) for r in found.reasons], as_json)


def _state(version: Any) -> str:
    from heixia.registry.v1 import registry_pb2

    return registry_pb2.VersionState.Name(version.state).rpartition("_")[2].lower()


def show_version(version: Any, as_json: bool) -> None:
    """Prints a version."""
    facts = {"version": version.version, "state": _state(version), "bundle": version.bundle_hash}
    show({**facts, "submitted by": version.submitted_by, "approved by": version.approved_by}, as_json)
