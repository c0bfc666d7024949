"""`heixia bank convert`: a bank's model file → ONNX, compared with itself on the bank's sample, and the offer."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enclave_api.cli.common import DEFAULT_SERVER, JsonOption, ServerOption, fail, plain_errors, show, text_of

if TYPE_CHECKING:
    from enclave_api.cli.model_file import ModelFile
    from enclave_api.cli.sample_file import SampleRows
    from enclave_api.client.bank import Offer
    from model_registry.bundle import Sample
    from model_registry.convert import Converted, FieldSpec, Parity

app = typer.Typer()


@app.command()
def convert(
    model: Annotated[Path, typer.Argument(help="LightGBM's text or XGBoost's JSON, from save_model.")],
    out: Annotated[Path, typer.Argument(help="Folder for model.onnx, rules.yaml, samples.jsonl and offer.yaml.")],
    product: Annotated[str, typer.Option(help="<institution>/<product>")],
    levels: Annotated[str, typer.Option(help="The grid in whole yuan, ascending from 0: 0,50000,100000")],
    fields: Annotated[
        Path | None,
        typer.Option(help="One field name a line, in the order of the model's features; else its own names count."),
    ] = None,
    sample: Annotated[
        Path | None,
        typer.Option(help="CSV, JSON Lines or Parquet, a column for each field; may have `score` and `limit_yuan`."),
    ] = None,
    rules: Annotated[Path | None, typer.Option(help="Rules file; without one the model's output is the limit.")] = None,
    categories: Annotated[
        Path | None, typer.Option(help="YAML: field: [codes in the order in which training numbered them].")
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Boosting rounds that count (XGBoost, stopped early).")] = None,
    samples: Annotated[int, typer.Option(help="Rows kept as parity samples in the offer.", min=0, max=1000)] = 50,
    catalog: Annotated[Path | None, typer.Option(help="Catalogue file: no server is asked.")] = None,
    as_: Annotated[Path | None, typer.Option("--as", envvar="HEIXIA_AS", help="Folder with your certificate.")] = None,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Convert your own LightGBM or XGBoost model; compare it with itself on your sample; write the offer to seal.

    heixia bank convert model.txt offer --product zhongyuan/loan --levels 0,50000,100000 --rules rules.yaml
    --sample rows.csv --catalog catalog.yaml

    Limits that differ: nothing is written, and their rows are named. No pickle is loaded: scikit-learn pipelines are
    converted in Python (model_registry.convert.from_sklearn).
    """
    with plain_errors():
        from enclave_api.cli.model_file import read_model_file
        from enclave_api.cli.offer_file import require_free, write_offer
        from enclave_api.client.bank import check_offer

        require_free(out)
        found = read_model_file(model)
        orders = _orders(categories)
        specs = _fields_of(_names(found.features, fields), catalog, as_, server)
        offer = _offer(product, levels, rules)
        check_offer(offer, specs)
        made = found.convert(specs, orders, rounds)
        compared: Parity | None = None
        kept: list[Sample] = []
        if sample is not None:
            rows, scores = _scored(found, specs, orders, rounds, sample)
            compared, kept = _compare(made, offer, rows, scores, samples)
        if compared is not None and not compared.holds:
            _show(compared, {"model": str(model)}, as_json)
            fail("parity_mismatch", f"{len(compared.flips):,} limits differ, nothing is written: {compared.advice}")
        path = write_offer(out, made, offer, kept)
        told = {"offer": str(path), "model": found.kind, "model bytes": len(made.onnx), "fields": len(specs)}
        told |= {"precision": f"{made.precision}: {made.why}", "parity samples": len(kept)}
        _show(compared, told, as_json)


def _names(features: Sequence[str], fields: Path | None) -> list[str]:
    names = text_of(fields).split() if fields else list(features)
    if not names or (fields is None and any(name.count(".") != 2 for name in names)):
        text = "the model's features are not called by full field names (department.dataset.field): name them with "
        raise typer.BadParameter(text + "--fields FILE, one a line, in the model's order")
    return names


def _fields_of(names: Sequence[str], catalog: Path | None, as_: Path | None, server: str) -> "list[FieldSpec]":
    if catalog is not None:
        from model_registry.convert import FieldSpec
        from sandbox.vault.catalog import load_catalog

        known = load_catalog(catalog).fields
        return [FieldSpec.of(name, known) for name in names]
    if as_ is None:
        raise typer.BadParameter("say whose fields: --as FOLDER asks the server, --catalog FILE works offline")
    from enclave_api.client.bank import Bank

    with Bank.connect(server, as_) as client:
        return client.fields(names)


def _orders(categories: Path | None) -> Mapping[str, Sequence[Any]]:
    if categories is None:
        return {}
    import yaml

    try:
        told = yaml.safe_load(text_of(categories))
    except yaml.YAMLError as error:
        raise typer.BadParameter(f"{categories}: {error}") from None
    if not isinstance(told, dict) or not all(isinstance(order, list) for order in told.values()):
        raise typer.BadParameter(f"{categories}: wanted is `field: [code, code, ...]` for each field")
    return {str(name): order for name, order in told.items()}


def _offer(product: str, levels: str, rules: Path | None) -> "Offer":
    from enclave_api.client.bank import Offer

    try:
        return Offer(product, [int(level) for level in levels.split(",")], text_of(rules) if rules else "")
    except ValueError:
        raise typer.BadParameter("--levels are whole yuan with commas: 0,50000,100000") from None


def _scored(
    found: "ModelFile",
    fields: "Sequence[FieldSpec]",
    orders: Mapping[str, Sequence[Any]],
    rounds: int | None,
    path: Path,
) -> "tuple[SampleRows, list[float]]":
    """The sample, and the bank's own scores: from the file where it has them, else by the model's own library."""
    from enclave_api.cli.sample_file import read_sample

    names = dict(zip((f.name for f in fields), found.features, strict=False))
    rows = read_sample(path, fields, names)
    return rows, rows.scores if rows.scores is not None else found.scores(fields, orders, rounds)(rows.vectors)


def _compare(
    made: "Converted", offer: "Offer", rows: "SampleRows", scores: list[float], count: int
) -> "tuple[Parity, list[Sample]]":
    from enclave_api.client.bank import own_limits
    from model_registry.convert import parity, row_of

    limit = own_limits(offer, made.fields)

    def limit_of(vector: Sequence[float], score: float) -> int:
        return limit(row_of(made.fields, vector), score)

    with _bar() as progress:
        compared = parity(scores, made, rows.vectors, limit_of, rows.limits, progress)
    return compared, _kept(rows.vectors, [limit_of(v, s) for v, s in zip(rows.vectors, scores, strict=True)], count)


def _kept(vectors: Sequence[tuple[float, ...]], limits: Sequence[int], count: int) -> "list[Sample]":
    """Rows of every limit in turn, so that few samples tell much."""
    from model_registry.bundle import Sample

    seen: dict[int, int] = {}
    order = []
    for at, limit in enumerate(limits):
        order.append((seen.get(limit, 0), at))
        seen[limit] = seen.get(limit, 0) + 1
    return [Sample(vectors[at], limits[at]) for _, at in sorted(order)[:count]]


def _show(compared: "Parity | None", told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show(told | ({"parity": compared.members()} if compared else {}), True)
        return
    show(told | dict(compared.lines() if compared else [("parity", "not compared: give --sample FILE")]), False)


@contextmanager
def _bar() -> "Iterator[Callable[[Iterable[Any]], Iterable[Any]]]":
    import sys

    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        yield lambda rows: bar.track(rows, description="rows compared")
