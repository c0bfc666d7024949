"""For operators: the enclave's HPKE keys: list, rotate, and destroy in a restored copy what the log says is gone."""

from typing import Annotated, Any

import typer

from enclave_api.cli.common import (
    DEFAULT_SERVER,
    AsOption,
    HomeOption,
    JsonOption,
    ServerOption,
    passphrase,
    plain_errors,
    show,
    table,
)

app = typer.Typer(no_args_is_help=True, help="Operators: the keys that banks seal to: list, rotate.")


@app.command("list")
def list_(as_: AsOption, server: ServerOption = DEFAULT_SERVER, as_json: JsonOption = False) -> None:
    """List the keys, oldest first: which is in the evidence, until when older ones are taken, which are destroyed.

    Institutions and auditors may, too.
    """
    from enclave_api.client.operator import Operator

    with plain_errors(), Operator.connect(server, as_) as client:
        facts = [_told(key) for key in client.list_keys()]
    if not as_json:  # minutes are enough for people, and a hundred columns for the table
        facts = [
            one | {name: str(one[name])[:16].replace("T", " ") for name in ("made at", "taken until")} for one in facts
        ]
    table(list(facts[0]), [list(one.values()) for one in facts], as_json)


@app.command()
def rotate(
    as_: AsOption,
    overlap_days: Annotated[
        int,
        typer.Option(min=0, max=366, help="Days for which bundles sealed to older keys are still taken; 0 = none."),
    ] = 30,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Make a new key the one in the evidence. Stored models are sealed to it at once: no bank uploads anything again.

    Older keys are destroyed when their days are over; an earlier date that one has already stays.

    Example: heixia keys rotate --as clients/operator-operations --overlap-days 14
    """
    from enclave_api.client.operator import Operator

    with plain_errors(), Operator.connect(server, as_) as client:
        made = client.rotate_key(client.list_keys()[-1].key_id, overlap_days)
        older = [key for key in client.list_keys() if key.epoch < made.epoch and not key.HasField("destroyed_index")]
    until = max((key.destroy_at.ToJsonString() for key in older), default="")
    facts = {**_told(made), "older keys alive": len(older), "until": until}
    show({name: facts[name] for name in ("epoch", "key id", "log index", "older keys alive", "until")}, as_json)


@app.command()
def advance(home: HomeOption, as_json: JsonOption = False) -> None:
    """Destroy in an old copy of root.key what the log says is destroyed; for a home whose newest root.key is lost.

    The server must be stopped. Nothing else is changed, and a copy that is not this home's is left as it is.
    """
    from enclave_api.advance import advance_root
    from enclave_api.home import Home

    with plain_errors():
        before, after = advance_root(Home(home), passphrase())
        show({"oldest epoch before": before, "oldest epoch now": after}, as_json)


def _told(key: Any) -> dict[str, object]:
    gone = key.HasField("destroyed_index")
    older = "destroyed" if gone else "older"
    return {
        "epoch": key.epoch,
        "key id": key.key_id,
        "state": older if key.HasField("destroy_at") else "newest",
        "made at": key.made_at.ToJsonString(),
        "log index": key.made_index,
        "taken until": key.destroy_at.ToJsonString() if key.HasField("destroy_at") else "",
        "destroyed index": key.destroyed_index if gone else "",
    }
