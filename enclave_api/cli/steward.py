"""For department stewards: what there is, publish, load, stop."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from enclave_api.cli.common import DEFAULT_SERVER, AsOption, JsonOption, ServerOption, plain_errors, show, table
from enclave_api.reasons import HELP

app = typer.Typer(help="Department stewards: describe, load and stop data.", no_args_is_help=True)

CatalogOption = Annotated[Path | None, typer.Option(help="Your catalogue file; default: the built-in one.")]


@app.command()
def datasets(
    as_: AsOption,
    department: Annotated[str, typer.Argument(help="Only this department's.")] = "",
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """List datasets and where they stand."""
    from heixia.catalog.v1 import catalog_pb2

    from enclave_api.client.steward import Steward

    with plain_errors(), Steward.connect(server, as_) as client:
        rows = [
            (
                d.name,
                catalog_pb2.DatasetState.Name(d.state).rpartition("_")[2].lower(),
                d.field_count,
                d.cadence,
                d.label_en,
            )
            for d in client.datasets(department)
        ]
    table(("dataset", "state", "fields", "cadence", "label"), rows, as_json)


@app.command()
def publish(
    as_: AsOption,
    dataset: Annotated[str, typer.Argument(help="<department>.<dataset>")],
    catalog: CatalogOption = None,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Open a dataset of your department for loading and use."""
    from enclave_api.client.steward import Steward
    from sandbox.vault.catalog import load_catalog

    with plain_errors(), Steward.connect(server, as_) as client:
        made = client.publish(load_catalog(catalog).dataset(dataset))
        show({"dataset": made.name, "fields": made.field_count, "layout": made.layout_hash}, as_json)


@app.command()
def load(
    as_: AsOption,
    dataset: Annotated[str, typer.Argument(help="<department>.<dataset>")],
    file: Annotated[Path, typer.Argument(help="CSV or Parquet: a column `subject` and one for each field.")],
    event_at: Annotated[str, typer.Option(help="Day the values describe, YYYY-MM-DD; default: today.")] = "",
    catalog: CatalogOption = None,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Load a table, all or nothing: it is checked whole before anything is sent."""
    from rich.progress import Progress

    from enclave_api.client.steward import Steward
    from sandbox.vault.catalog import load_catalog
    from sandbox.vault.ingest import read_table

    with plain_errors(), Steward.connect(server, as_) as client:
        described = load_catalog(catalog).dataset(dataset)
        try:
            day = datetime.fromisoformat(event_at).replace(tzinfo=UTC) if event_at else datetime.now(UTC)
        except ValueError:
            raise typer.BadParameter("--event-at must be YYYY-MM-DD") from None
        read = read_table(file, described)
        with Progress(disable=not sys.stderr.isatty(), transient=True) as bar:
            task = bar.add_task(f"loading {dataset}", total=len(read.subjects))
            done = client.load(described, read.subjects, read.rows, day, lambda n: bar.update(task, completed=n))
        show({"dataset": dataset, "load": done.load, "rows": done.rows, "log index": done.index}, as_json)


@app.command()
def suspend(
    as_: AsOption,
    dataset: Annotated[str, typer.Argument(help="<department>.<dataset>")],
    reason: Annotated[str, typer.Option(help=HELP)] = "steward-decision",
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Stop every use of a dataset at once."""
    from enclave_api.client.steward import Steward

    with plain_errors(), Steward.connect(server, as_) as client:
        show({"suspended": client.suspend(dataset, reason).name}, False)


@app.command()
def resume(
    as_: AsOption,
    dataset: Annotated[str, typer.Argument(help="<department>.<dataset>")],
    reason: Annotated[str, typer.Option(help=HELP)] = "steward-decision",
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Lift the stop."""
    from enclave_api.client.steward import Steward

    with plain_errors(), Steward.connect(server, as_) as client:
        show({"resumed": client.resume(dataset, reason).name}, False)


@app.command("suspend-version")
def suspend_version(
    as_: AsOption,
    version: Annotated[
        str, typer.Argument(help="A bank's version that reads your department's data, as the log names it.")
    ],
    reason: Annotated[str, typer.Option(help=HELP)] = "steward-decision",
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Stop a version that reads your department's data, at once; `suspend` stops a dataset for all."""
    from enclave_api.client.steward import Steward

    with plain_errors(), Steward.connect(server, as_) as client:
        show({"held back by": ", ".join(client.suspend_version(version, reason))}, False)


@app.command("resume-version")
def resume_version(
    as_: AsOption,
    version: Annotated[str, typer.Argument(help="A version that your department stopped.")],
    reason: Annotated[str, typer.Option(help=HELP)] = "steward-decision",
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Lift your department's stop of a version; others' stay."""
    from enclave_api.client.steward import Steward

    with plain_errors(), Steward.connect(server, as_) as client:
        show({"held back by": ", ".join(client.resume_version(version, reason)) or "nobody"}, False)
