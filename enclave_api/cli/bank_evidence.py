"""For banks: is this the right enclave? Evidence fetched and checked, or checked from files."""

from typing import Annotated, Any

import typer

from enclave_api.cli.common import DEFAULT_SERVER, AsOption, JsonOption, ServerOption, plain_errors, table

app = typer.Typer()

AcceptOption = Annotated[bool, typer.Option("--accept-simulated", help="Accept an enclave no hardware vouches for.")]


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
        verdict = client.verify_enclave(evidence_policy(accept_simulated))
        table(("step", "outcome", "reason"), [(s.name, s.outcome, s.reason) for s in verdict.steps], as_json)
        verdict.recipient()


def evidence_policy(accept_simulated: bool) -> Any:
    """What the command line accepts."""
    from enclave_api.attestation.policy import Policy, UnsafeAcceptSimulated

    return Policy(simulated=UnsafeAcceptSimulated() if accept_simulated else None)
