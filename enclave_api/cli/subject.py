"""For data subjects, and authorities that act for them: what was disclosed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from enclave_api.cli.common import DEFAULT_SERVER, AsOption, JsonOption, ServerOption, plain_errors, table

if TYPE_CHECKING:
    from enclave_api.client.subject import Disclosure

app = typer.Typer(help="Companies, and authorities acting for them: see what was disclosed.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `disclosure` a sub-command while it is the only one."""


@app.command()
def disclosure(
    as_: AsOption,
    subject: Annotated[
        str, typer.Argument(help="uscc:<18 characters>: your own, or one whose consent you registered.")
    ],
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Show how many bits each institution was told, and may still be told, in each calendar year."""
    from enclave_api.client.subject import Subject

    with plain_errors(), Subject.connect(server, as_) as client:
        show_disclosures(client.disclosure(subject), as_json)


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
