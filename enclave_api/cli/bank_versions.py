"""For banks: a version's life: approve, promote, roll back, replace rules, suspend, resume, retire, list."""

import re
from pathlib import Path
from typing import Annotated, Any

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
from enclave_api.cli.common import (
    DEFAULT_SERVER,
    AsOption,
    JsonOption,
    ServerOption,
    plain_errors,
    show,
    table,
    text_of,
)
from enclave_api.reasons import HELP

app = typer.Typer()


def _numbered(version: str) -> str:
    if version and not re.fullmatch(r"[^/@]+/[^/@]+@[0-9]+", version):
        raise typer.BadParameter(f"{version!r} is no version: write <institution>/<product>@<n>")
    return version


VersionArgument = Annotated[str, typer.Argument(help="<institution>/<product>@<n>", callback=_numbered)]
ReasonOption = Annotated[str, typer.Option(help=HELP)]


@app.command()
def approve(
    as_: AsOption, version: VersionArgument, server: ServerOption = DEFAULT_SERVER, as_json: JsonOption = False
) -> None:
    """Approve a version that a colleague submitted."""
    from enclave_api.client.version_life import VersionLife

    with plain_errors(), VersionLife.connect(server, as_) as client:
        show_version(client.approve(version), as_json)


@app.command()
def promote(
    as_: AsOption, version: VersionArgument, server: ServerOption = DEFAULT_SERVER, as_json: JsonOption = False
) -> None:
    """Make an approved version champion from the next call on."""
    from enclave_api.client.version_life import VersionLife

    with plain_errors(), VersionLife.connect(server, as_) as client:
        show_version(client.promote(version), as_json)


@app.command()
def rollback(
    as_: AsOption,
    product: Annotated[str, typer.Argument(help="<institution>/<product>")],
    to: Annotated[
        str,
        typer.Option(
            help="Any approved version older than the champion; default: the champion before it.", callback=_numbered
        ),
    ] = "",
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Make an earlier version champion again, from the next call on. It is loaded and checked first.

    heixia bank rollback zhongyuan/quick-loan --to zhongyuan/quick-loan@1
    """
    from enclave_api.client.version_life import VersionLife

    with plain_errors(), VersionLife.connect(server, as_) as client:
        show_version(client.rollback(product, to), as_json)


@app.command("replace-rules")
def replace_rules(
    as_: AsOption,
    version: VersionArgument,
    rules: Annotated[Path | None, typer.Option(help="The new rules; default: those of --offer.")] = None,
    offer: Annotated[
        Path | None,
        typer.Option(help="Your offer.yaml: its levels are taken, its model and fields compared with the version's."),
    ] = None,
    samples: Annotated[
        Path | None, typer.Option(help="Parity samples under the new rules, as `heixia bank seal` takes them.")
    ] = None,
    comment: Annotated[str | None, typer.Option(help="For the manifest; default: as before.")] = None,
    policy: EvidencePolicyOption = None,
    accept_simulated: AcceptOption = False,
    at: AtOption = "",
    certs: CertsOption = None,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Change the rules alone: verify the enclave, sign, seal and submit new rules for the model of a version.

    They become the product's next version, which a colleague approves and promotes as any other:

    heixia bank replace-rules zhongyuan/quick-loan@3 --rules rules.yaml
    """
    from enclave_api.cli.offer_file import read_offer, read_samples
    from enclave_api.client.bank import Bank
    from enclave_api.client.new_rules import NewRules

    if rules is None and offer is None:
        raise typer.BadParameter("give --rules FILE, or --offer offer.yaml whose rules are taken")
    with plain_errors(), Bank.connect(server, as_) as client:
        chosen, time, material = chosen_policy(policy, accept_simulated), point_in_time(at), load_certs(certs)
        model, terms, _ = read_offer(offer, client.fields) if offer else (None, None, None)
        new = NewRules(
            rules=text_of(rules) if rules else terms.rules if terms else "",
            levels=terms.levels if terms else None,
            samples=read_samples(samples) if samples else (),
            comment=comment,
            model=model,
            evidence_policy=chosen.digest or None,
        )
        recipient = client.verify_enclave(chosen.policy, at=time, material=material).recipient()
        show_version(client.replace_rules(version, new, recipient), as_json)


@app.command()
def suspend(
    as_: AsOption,
    version: VersionArgument,
    reason: ReasonOption = "bank-decision",
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Stop a version at once. While it is champion, its product refuses calls; `resume` lifts it."""
    from enclave_api.client.version_life import VersionLife

    with plain_errors(), VersionLife.connect(server, as_) as client:
        show_version(client.suspend(version, reason), as_json)


@app.command("suspend-all")
def suspend_all(
    as_: AsOption,
    reason: ReasonOption = "bank-decision",
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Stop everything of your institution at once: every version of every product, in one transaction.

    All your products then refuse calls. Lift it version by version, the champions (`heixia bank products`) first:

    heixia bank suspend-all --reason security
    """
    from enclave_api.client.version_life import VersionLife

    with plain_errors(), VersionLife.connect(server, as_) as client:
        stopped = client.suspend_all(reason)
    if not stopped and not as_json:
        print("nothing was running: all your versions are held back already")  # noqa: T201
    elif stopped:
        table(("suspended",), [(name,) for name in stopped], as_json)


@app.command()
def resume(
    as_: AsOption,
    version: VersionArgument,
    reason: ReasonOption = "bank-decision",
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Lift your institution's suspension; others' stay."""
    from enclave_api.client.version_life import VersionLife

    with plain_errors(), VersionLife.connect(server, as_) as client:
        show_version(client.resume(version, reason), as_json)


@app.command()
def retire(
    as_: AsOption, version: VersionArgument, server: ServerOption = DEFAULT_SERVER, as_json: JsonOption = False
) -> None:
    """End a version for good; not while it is champion."""
    from enclave_api.client.version_life import VersionLife

    with plain_errors(), VersionLife.connect(server, as_) as client:
        show_version(client.retire(version), as_json)


@app.command()
def products(as_: AsOption, server: ServerOption = DEFAULT_SERVER, as_json: JsonOption = False) -> None:
    """List your institution's products: who is champion, who holds it back, how many versions there are."""
    from enclave_api.client.version_life import VersionLife

    with plain_errors(), VersionLife.connect(server, as_) as client:
        found = client.products()
    leads = [p.champion if as_json else p.champion.rpartition("/")[2] or "none" for p in found]
    rows = [(p.product, lead, ", ".join(p.suspended_by), p.versions) for p, lead in zip(found, leads, strict=True)]
    table(("product", "champion", "held back by", "versions"), rows, as_json)


@app.command()
def versions(
    as_: AsOption,
    product: Annotated[str, typer.Argument(help="<institution>/<product>")],
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """List a product's versions, oldest first (the newest 500)."""
    from enclave_api.client.version_life import VersionLife

    with plain_errors(), VersionLife.connect(server, as_) as client:
        found = client.versions(product)
    if as_json:
        for one in found:
            show(facts_of(one), as_json)
        return
    if not found:
        typer.echo(f"no versions of {product}: has your institution a product of that name?", err=True)
        return
    rows = [_line(one) for one in found]
    table(("version", "state", "submitted", "by", "approved by", "model of", "bundle", "held back by"), rows, False)


@app.command()
def version(
    as_: AsOption, version: VersionArgument, server: ServerOption = DEFAULT_SERVER, as_json: JsonOption = False
) -> None:
    """Show one version; a refused one with every reason."""
    from enclave_api.client.version_life import VersionLife

    with plain_errors(), VersionLife.connect(server, as_) as client:
        found = client.version(version)
        show_version(found, as_json)
    if found.reasons:
        table(("code", "where", "text"), [(r.code, r.where, r.text) for r in found.reasons], as_json)


def _line(version: Any) -> tuple[object, ...]:
    """A version in a hundred columns: numbers for names, persons without their bank."""
    facts = facts_of(version)
    number = facts["version"].rpartition("/")[2]
    model = f"@{version.model_of.rpartition('@')[2]}" if version.model_of else ""
    people = [str(facts[name]).rpartition("/")[2] for name in ("submitted by", "approved by")]
    submitted = str(facts["submitted"])[:16].replace("T", " ")
    return number, facts["state"], submitted, *people, model, version.bundle_hash[:8], facts["held back by"]


def _state(state: Any) -> str:
    from heixia.registry.v1 import registry_pb2

    return registry_pb2.VersionState.Name(state).rpartition("_")[2].lower()


def facts_of(version: Any) -> dict[str, Any]:
    """A version as lines for people, and as JSON."""

    def when(name: str) -> str:
        return f"{getattr(version, name).ToDatetime().isoformat(timespec='seconds')}Z" if version.HasField(name) else ""

    return {
        "version": version.version,
        "state": _state(version.state),
        "apart from that": _state(version.beneath) if version.suspended_by else "",
        "held back by": ", ".join(version.suspended_by),
        "champion since": when("champion_since"),
        "submitted by": version.submitted_by,
        "submitted": when("submitted_at"),
        "approved by": version.approved_by,
        "approved": when("approved_at"),
        "model of": version.model_of,
        "bundle": version.bundle_hash,
        "manifest": version.manifest_hash,
        "model": version.model_hash,
        "rules": version.rules_hash,
    }


def show_version(version: Any, as_json: bool) -> None:
    """Prints a version; to people without what is empty."""
    facts = facts_of(version)
    show(facts if as_json else {name: value for name, value in facts.items() if value}, as_json)
