"""For data subjects, and authorities that act for them: who used the data, what proves it, what was disclosed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enclave_api.cli.common import (
    DEFAULT_SERVER,
    AsOption,
    JsonOption,
    ServerOption,
    counted,
    plain_errors,
    show,
    table,
)
from enclave_api.reasons import HELP

if TYPE_CHECKING:
    from heixia.consent.v1.consent_pb2 import SubjectConsent

    from enclave_api.client.subject import Disclosure, Subject, Use

app = typer.Typer(
    help="Companies, and authorities for them: who used data, consents, receipts, erasure.",
    no_args_is_help=True,
)

SubjectArgument = Annotated[
    str,
    typer.Argument(
        help="uscc:<18 characters>, one whose consent you registered; none = the subject of your certificate.",
        show_default=False,
    ),
]
LimitOption = Annotated[int, typer.Option(help="At most so many, the newest; 0 = all.", min=0)]


@app.command()
def uses(
    as_: AsOption,
    subject: SubjectArgument = "",
    limit: LimitOption = 100,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Show who used the data: when, which bank and product, whose data, what came of it, how many bits it told."""
    from itertools import islice

    with _asking(server, as_, subject) as (client, name):
        page = client.uses(name, size=1)
        found = list(islice(client.all_uses(name), limit or None)) if page.total else []
    if as_json:
        table(_USE_COLUMNS, [_use_row(use) for use in found], as_json)
        return
    for use in found:
        print(_sentence(use))  # noqa: T201
    rest = f"; the newest {len(found)} are shown" if len(found) < page.total else ""
    print(f"{counted(page.total, 'use')} in all{rest}. The log goes back to {page.since:%Y-%m-%d %H:%M:%S} UTC.")  # noqa: T201


_USE_COLUMNS = ("at", "institution", "product", "purpose", "departments", "outcome", "bits", "consent_id", "index")
_CAME_OF_IT = {"offer": "an offer was made", "no offer": "no offer was made", "unknown": "what came of it is erased"}


def _use_row(use: "Use") -> tuple[object, ...]:
    from audit.event import format_time

    whole = (format_time(use.at), use.institution, use.product, use.purpose, list(use.departments), use.outcome)
    return (*whole, use.bits_milli / 1000, use.consent_id, use.index)


def _sentence(use: "Use") -> str:
    return (
        f"{use.at:%Y-%m-%d %H:%M:%S} UTC: {use.institution} had {use.product} computed "
        f"from {_data_of(use.departments)} for {use.purpose}; {_CAME_OF_IT[use.outcome]}, "
        f"{use.bits_milli / 1000:g} bits were told. Consent {use.consent_id}, log entry {use.index}."
    )


def _data_of(departments: "Sequence[str]") -> str:
    return f"the data of {', '.join(departments)}" if departments else "data (whose is erased)"


@app.command()
def consents(
    as_: AsOption,
    subject: SubjectArgument = "",
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """List the consents: for whom, for what, whose data, until when, how often used."""
    with _asking(server, as_, subject) as (client, name):
        found = client.consents(name)
    if as_json:
        table(_CONSENT_COLUMNS, [_consent_row(one) for one in found], as_json)
        return
    for one in found:
        print(_consent_sentence(one))  # noqa: T201
    print(f"{counted(len(found), 'consent')} in all.")  # noqa: T201


_CONSENT_COLUMNS = (
    *("consent_id", "state", "institution", "products", "purpose", "departments", "not_before", "expires_at"),
    *("uses", "max_uses", "authority", "granted_index"),
)


def _consent_row(one: "SubjectConsent") -> tuple[object, ...]:
    from heixia.consent.v1.consent_pb2 import ConsentState

    told = one.consent
    state = "erased" if one.erased else ConsentState.Name(told.state).rpartition("_")[2].lower()
    what = (told.consent_id, state, told.institution, list(told.products), told.purpose, list(one.departments))
    when = (told.not_before.ToJsonString(), told.expires_at.ToJsonString())
    return (*what, *when, told.uses, told.max_uses, one.authority, told.granted_index)


def _consent_sentence(one: "SubjectConsent") -> str:
    row = dict(zip(_CONSENT_COLUMNS, _consent_row(one), strict=True))
    return (
        f"{row['consent_id']} {row['state']}: {one.consent.institution} may have {', '.join(one.consent.products)} "
        f"computed from {_data_of(one.departments)} for {row['purpose']} until {row['expires_at']}; "
        f"{row['uses']} of {row['max_uses']} uses. Registered by {row['authority']}, log entry {row['granted_index']}."
    )


@app.command()
def revoke(
    as_: AsOption,
    consent_id: Annotated[str, typer.Argument(help="The consent's UUID: see `heixia subject consents`.")],
    reason: Annotated[str, typer.Option(help=HELP)] = "subject-request",
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Revoke a consent of your own; when it prints, no later limit stands under it."""
    from enclave_api.client.subject import Subject

    with plain_errors(), Subject.connect(server, as_) as client:
        done = client.revoke(consent_id, reason)
        show({"revoked": done.consent.consent_id, "log index": done.index}, as_json)


@app.command()
def receipts(
    as_: AsOption,
    out: Annotated[Path, typer.Argument(help="Folder to write them into: <log index>.json, one a use.")],
    subject: SubjectArgument = "",
    limit: LimitOption = 100,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Fetch the receipts of the uses, for `heixia verify`; limits stand in them for the subject itself alone."""
    from itertools import islice

    with _asking(server, as_, subject) as (client, name):
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        rows = []
        for use in islice(client.all_uses(name), limit or None):
            kept, file = client.receipt(name, use.index), out / f"{use.index}.json"
            file.touch(0o600)  # the folder may have been there, open to everybody; a limit stands in it
            file.write_text(kept.dump())
            limit_yuan = kept.opening.limit if kept.opening else None
            rows.append((use.index, str(file), limit_yuan if as_json or kept.opening else "not shown"))
    if not rows and not as_json:
        print("no uses, no receipts")  # noqa: T201
        return
    table(("index", "receipt", "limit_yuan"), rows, as_json)


@app.command()
def disclosure(
    as_: AsOption,
    subject: SubjectArgument = "",
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Show how many bits each institution was told, and may still be told, in each calendar year."""
    with _asking(server, as_, subject) as (client, name):
        show_disclosures(client.disclosure(name), as_json)


@app.command()
def erase(
    as_: AsOption,
    subject: SubjectArgument = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Destroy the key under which limits, salts and consent texts are kept. It cannot be undone."""
    with _asking(server, as_, subject) as (client, name):
        if not yes:
            text = (
                "Limits, salts and consent texts become unreadable for good; consents end. Fetch receipts first. Erase?"
            )
            typer.confirm(text, abort=True, err=True)
        done = client.erase(name)
    gone = "gone from every file" if done.removed else "going: somebody still reads what was there before"
    facts = {"erased": True, "removed": done.removed} if as_json else {"erased": "for good", "the key is": gone}
    show({**facts, "log index": done.index}, as_json)


@contextmanager
def _asking(server: str, as_: Path, subject: str) -> "Iterator[tuple[Subject, str]]":
    """A client, and the subject that it asks about."""
    from enclave_api.client.subject import Subject

    with plain_errors(), Subject.connect(server, as_) as client:
        yield client, subject or client.own_name()


def show_disclosures(found: "Sequence[Disclosure]", as_json: bool) -> None:
    """Prints disclosures, newest year first; for people, one line where there is none."""
    if not found and not as_json:
        print("nothing was disclosed")  # noqa: T201
        return
    columns = ("institution", "year", "bits_spent", "bits_left", "bits_budget", "subjects")
    rows = [
        (d.institution, d.year, d.spent_milli / 1000, d.left_milli / 1000, d.budget_milli / 1000, d.subjects)
        for d in found
    ]
    table(columns, rows, as_json)
