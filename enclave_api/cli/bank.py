"""For banks: verify the enclave, seal and version models. The commands lie in bank_*.py and inspect.py."""

import typer

from enclave_api.cli import bank_convert, bank_evidence, bank_history, bank_model, bank_rules, bank_versions
from enclave_api.cli.inspect import inspect

app = typer.Typer(help="Banks: verify the enclave, seal and version models.", no_args_is_help=True)
for _part in (
    bank_evidence.app,
    bank_convert.app,
    bank_model.app,
    bank_rules.app,
    bank_versions.app,
    bank_history.app,
):
    app.registered_commands += _part.registered_commands
app.command()(inspect)
