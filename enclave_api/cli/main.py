"""`heixia`: the command line. Every command says what it does with --help; most speak --json."""

import typer

from enclave_api.cli import audit, bank, consent, demo, jail, keys, operate, request, steward, subject, witness

app = typer.Typer(
    name="heixia",
    help="Sealed room where banks' encrypted credit models meet consented government data; one number leaves.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
operate.add_to(app)
app.add_typer(bank.app, name="bank")
app.add_typer(steward.app, name="steward")
app.add_typer(consent.app, name="consent")
app.add_typer(subject.app, name="subject")
request.add_to(app)
app.add_typer(audit.app, name="audit")
app.command("witness")(witness.witness)
app.add_typer(jail.app, name="jail")
app.add_typer(keys.app, name="keys")
app.command("demo")(demo.demo)


def main() -> None:
    """Runs the command line."""
    app()
