"""For banks, regulators, anybody beside the operator: run a witness of the log."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from enclave_api.cli.common import JsonOption, plain_errors, show


def witness(
    log_policy: Annotated[
        Path, typer.Option(help="tlog-policy file whose `log` lines say whose checkpoints to cosign (HOME/public).")
    ],
    state: Annotated[Path, typer.Option(help="The witness's own folder: key and memory. Never restore an old copy.")],
    listen: Annotated[str, typer.Option(help="HOST:PORT to answer HTTP on; port 0 = any free.")] = "127.0.0.1:7380",
    name: Annotated[str | None, typer.Option(help="The witness's name, such as bank.example/w1; once.")] = None,
    key: Annotated[Path | None, typer.Option(help="Key file; default: witness.key in the state, made once.")] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    as_json: JsonOption = False,
) -> None:
    """Cosign a log's checkpoints until SIGTERM or Ctrl-C: those that extend the last.

    It speaks C2SP tlog-witness.
    The line `policy` is for the log's operator, whose log.policy names its witnesses. The ML-DSA-44 key may stand there
    in place of the other: its cosignatures hold when quantum computers come, and take 3.3 kB each.
    """
    import signal
    import time

    from audit.policy import Policy
    from audit.witness_state import State, Witness
    from enclave_api.logs import LEVELS, set_up_logs
    from enclave_api.witness_http import bind, serve

    if log_level not in LEVELS:
        raise typer.BadParameter(f"--log-level must be one of {', '.join(LEVELS)}")
    set_up_logs(log_level)
    with plain_errors():
        trust = Policy.parse(log_policy.read_bytes())
        held = State(state)
        cosigner = held.cosigner(name, key)
        made = Witness(held, cosigner, trust, time.time)
        with bind(listen) as listener:
            host, port = listener.getsockname()[:2]
            url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            vkey = cosigner.verifier.vkey
            facts: dict[str, object] = {"witness": cosigner.name, "vkey": vkey}
            if len(cosigner.verifiers) > 1:
                whole = cosigner.verifiers[1].vkey  # 1.8 kB: on a terminal it would bury the lines that people need
                facts["vkey (ML-DSA-44)"] = whole if as_json else f"{whole[:40]}… line 2 of {state / 'witness.vkey'}"
            facts["policy"] = f"witness {cosigner.name} {vkey} {url}"
            for origin, size in made.sizes.items():
                known = "not seen yet: begins at size 0" if size is None else f"cosigned to size {size}"
                facts[f"log {origin}"] = known
            facts["listening"] = url
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: None)  # uvicorn passes on what ended it: that is no failure here
            show(facts, as_json)
            sys.stdout.flush()
            serve(made, listener)
        held.close()
