"""For consent authorities: sign, register, revoke; for the operator: end an authority."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enclave_api.cli.common import DEFAULT_SERVER, AsOption, JsonOption, ServerOption, fail, plain_errors, show
from enclave_api.reasons import HELP

if TYPE_CHECKING:
    from model_registry.signing import SigningKey

app = typer.Typer(
    help="Consent authorities: grant, show, pause, resume, revoke. Operators: end an authority.", no_args_is_help=True
)

IdArgument = Annotated[str, typer.Argument(help="The consent's UUID.")]
ReasonOption = Annotated[str, typer.Option(help=HELP)]


DayOption = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%d"], help="Only data of days (UTC) from --data-from on and before --data-to."),
]


@app.command()
def grant(
    as_: AsOption,
    subject: Annotated[str, typer.Argument(help="uscc:<18 characters>")],
    product: Annotated[str, typer.Argument(help="<institution>/<product>")],
    names: Annotated[list[str], typer.Argument(help="Datasets or fields that may be read.")],
    days: Annotated[int, typer.Option(help="How long it holds: at most 31, for monitoring 365.")] = 31,
    uses: Annotated[int, typer.Option(help="How many uses: at most 5, for monitoring 403.")] = 1,
    purpose: Annotated[str, typer.Option(help="precredit, or monitoring: looked at again while the loan runs.")] = (
        "precredit"
    ),
    every: Annotated[
        str | None,
        typer.Option(help="month:31 = at most so many uses in a month (day, week) of the UTC calendar."),
    ] = None,
    data_from: DayOption = None,
    data_to: DayOption = None,
    replaces: Annotated[str | None, typer.Option(help="The UUID of a consent that ends with this one's grant.")] = None,
    subject_key: Annotated[
        Path | None, typer.Option(help="The company's own private key (JWK): it signs beside yours.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also keep the signed consent in this file.")] = None,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Sign and register the consent that a company gave."""
    from enclave_api.client.authority import Authority, Grant

    institution, _, name = product.partition("/")
    if not (institution and name):
        raise typer.BadParameter("<institution>/<product>, such as zhongyuan/quick-loan", param_hint="product")
    with plain_errors(), Authority.connect(server, as_) as client:
        own = _subject_key(subject_key) if subject_key else None
        often, period = _frequency(every), _period(data_from, data_to)
        wanted = Grant(subject, institution, [product], names, days, uses, purpose, often, replaces, period)
        signed = client.sign(wanted, datetime.now(UTC), own)
        if out:
            out.write_bytes(signed)
        _show(client.register(signed), as_json)


def _subject_key(file: Path) -> "SigningKey":
    from audit.errors import HeixiaError
    from model_registry.signing import load_signing_key

    try:
        return load_signing_key(file.read_text())
    except (HeixiaError, UnicodeDecodeError):
        fail("file_unusable", f"{file}: no private key (JWK) of a company; `heixia consent make-key` makes one")


def _period(first: datetime | None, last: datetime | None) -> tuple[datetime, datetime] | None:
    if first is None and last is None:
        return None
    if first is None or last is None:
        raise typer.BadParameter("give both, or none", param_hint="--data-from, --data-to")
    return first.replace(tzinfo=UTC), last.replace(tzinfo=UTC)


def _frequency(text: str | None) -> tuple[str, int] | None:
    if text is None:
        return None
    unit, _, value = text.partition(":")
    if unit not in ("day", "week", "month") or not value.isdecimal():
        raise typer.BadParameter("such as month:31: day, week or month, and how many uses in it", param_hint="--every")
    return unit, int(value)


@app.command()
def make_key(
    file: Annotated[Path, typer.Argument(help="Where to write the private key (JWK); nothing is overwritten.")],
    as_json: JsonOption = False,
) -> None:
    """Make a key with which a company signs its own consents; it stays with the company."""
    import json

    from enclave_api.dev_ca import write_secret
    from enclave_api.errors import FolderNotEmpty
    from model_registry.signing import own_key, thumbprint

    with plain_errors():
        if file.exists():
            raise FolderNotEmpty("exists", public=f"{file} exists already")
        key = own_key()
        write_secret(file, json.dumps(key.as_dict(private=True)).encode())
        show({"key": str(file), "thumbprint": thumbprint(key)}, as_json)


@app.command()
def register(
    as_: AsOption,
    file: Annotated[Path, typer.Argument(help="A signed consent (JWS, general serialisation).")],
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Register a consent that was signed elsewhere."""
    from enclave_api.client.authority import Authority

    with plain_errors(), Authority.connect(server, as_) as client:
        _show(client.register(file.read_bytes()), as_json)


@app.command("show")
def show_(
    as_: AsOption, consent_id: IdArgument, server: ServerOption = DEFAULT_SERVER, as_json: JsonOption = False
) -> None:
    """Show where a consent stands."""
    from enclave_api.client.authority import Authority

    with plain_errors(), Authority.connect(server, as_) as client:
        _show(client.get(consent_id), as_json)


@app.command()
def revoke(
    as_: AsOption,
    consent_id: IdArgument,
    reason: ReasonOption = "subject-request",
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Revoke a consent; done when it prints."""
    from enclave_api.client.authority import Authority

    with plain_errors(), Authority.connect(server, as_) as client:
        done = client.revoke(consent_id, reason)
        show({"revoked": done.consent.consent_id, "log index": done.index}, as_json)


@app.command()
def pause(
    as_: AsOption,
    consent_id: IdArgument,
    reason: ReasonOption = "subject-request",
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Pause a consent."""
    from enclave_api.client.authority import Authority

    with plain_errors(), Authority.connect(server, as_) as client:
        _show(client.pause(consent_id, reason), as_json)


@app.command()
def resume(
    as_: AsOption,
    consent_id: IdArgument,
    reason: ReasonOption = "subject-request",
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Resume a paused consent."""
    from enclave_api.client.authority import Authority

    with plain_errors(), Authority.connect(server, as_) as client:
        _show(client.resume(consent_id, reason), as_json)


@app.command()
def revoke_authority(
    as_: AsOption,
    authority: Annotated[str, typer.Argument(help="The authority's organisation, as in its certificate.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it: there is no way back.")] = False,
    reason: ReasonOption = "operator-decision",
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Operator: end an authority's standing for good; every consent that it registered is invalid when this prints."""
    from enclave_api.client.operator import Operator

    if not yes:
        fail("not_confirmed", f"every consent of {authority} ends, and none can be resumed; to go on add --yes")
    with plain_errors(), Operator.connect(server, as_) as client:
        show({"authority": authority, "log index": client.revoke_authority(authority, reason)}, as_json)


def _show(consent: Any, as_json: bool) -> None:
    from google.protobuf.json_format import MessageToDict

    data = MessageToDict(consent, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    data["state"] = data["state"].rpartition("_")[2].lower()
    data["granted_index"] = int(data["granted_index"])
    if not as_json:
        data["products"] = ", ".join(data["products"])
        unit, often = data.pop("frequency_unit"), data.pop("frequency")
        data |= {"frequency": f"at most {often} a {unit}"} if unit else {}
    show(data, as_json)
