"""`make bench`: latency and throughput of calls, beside a bare service that runs the same model with nothing protected.

A 300-tree model over 200 fields from every dataset; consents, data, walls, log as in production; release quantum off,
because it is a wait by design and would hide what is measured.

Then what a bank waits for (bench/bank.py), and the ledger by itself, at a million entries (bench/ledger.py).
"""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from rich.progress import track

from audit.schema import open_engine
from bench import bank, calls, jail, ledger
from bench.report import Figure, show, write
from enclave_api.cli.example import FIELDS as EXAMPLE_FIELDS
from enclave_api.cli.example import Example, rows_of, train_lightgbm
from enclave_api.cli.room import Room
from enclave_api.client.bank import draft_manifest, vector_of
from model_registry.bundle import RecipientKey, encode_content
from sandbox.jail.pool import Program
from sandbox.vault.catalog import Catalog, FieldType
from sandbox.vault.synthetic import World, generate
from sandbox.vault.vault import Vault, code_lists, compile_plan

PRODUCT = "zhongyuan/bench"
FIELDS, TREES, COMPANIES, TRAINED_ON = 200, 300, 400, 2000
USES = 5
METRICS = "127.0.0.1:29464"


def main() -> None:
    """Sets the stage, measures, reports."""
    with tempfile.TemporaryDirectory(prefix="heixia-bench-") as folder:
        room = Room.make(Path(folder), release_quantum_ms=0, score_deadline_ms=1000, budget_bits_per_year=100_000)
        try:
            figures = measure(room, Path(folder))
        finally:
            room.stop()
    figures += bank.figures()
    figures += ledger.figures()
    value = {figure.name: figure.value for figure in figures}
    ratios = [
        Figure("call_p50_ratio_c1", value["call_p50_ms_c1"] / value["bare_p50_ms_c1"], "×", "protected / bare latency"),
        Figure(
            "oneshot_ratio_c16",
            value["warm_calls_per_s_c16"] / value["oneshot_calls_per_s_c16"],
            "×",
            "warm / one-shot calls a second",
        ),
        Figure(
            "throughput_ratio_c16",
            value["bare_calls_per_s_c16"] / value["calls_per_s_c16"],
            "×",
            "bare / protected calls a second",
        ),
    ]
    ratios += [figure for figure in figures if figure.unit == "×"]
    figures = [figure for figure in figures if figure.unit != "×"]
    write([*ratios, *figures], Path("build/bench.json"))
    show(ratios, figures)
    print("written to build/bench.json")


def measure(room: Room, folder: Path) -> list[Figure]:
    """Every figure."""
    room.start("--metrics", METRICS, "--step-metrics")
    world = generate(room.catalog, COMPANIES, 7)
    trained_on = generate(room.catalog, TRAINED_ON, 1)  # a bank never trains on the companies it will be asked about
    for name in track(list(room.catalog.datasets), "loading"):
        room.load(world, [name])
    example = train_lightgbm(trained_on, PRODUCT, fields_of(room.catalog), TREES)
    room.launch(example)
    consents = register(room, world)
    figures = asyncio.run(calls.protected(room, PRODUCT, consents))
    figures += calls.steps(METRICS)
    figures += calls.bare(example, folder)
    figures += asyncio.run(calls.promoted(room, PRODUCT, consents, room.approved(example)))
    figures += warm(room, consents)
    vectors = [
        np.array(vector_of(example.model.fields, row), "<f8").tobytes() for row in rows_of(world, names_of(example))
    ]
    figures += jail.figures(program_of(room.catalog, example), vectors)
    return figures + joins(room, world, example)


def warm(room: Room, consents: Sequence[tuple[str, str]]) -> list[Figure]:
    """The same calls where a process answers many: what a process per call costs from end to end."""
    room.stop()
    settings = room.home.path / "heixia.toml"
    settings.write_text(settings.read_text().replace('isolation = "one-shot"', 'isolation = "warm"'))
    room.start()
    return asyncio.run(calls.warm(room, PRODUCT, consents))


def names_of(example: Example) -> list[str]:
    """The fields of the example's model, in order."""
    return [field.name for field in example.model.fields]


def program_of(catalog: Catalog, example: Example) -> Program:
    """The example as a template loads it."""
    content = encode_content(example.model.onnx, example.offer.rules.encode(), example.samples())
    manifest = draft_manifest(example.model, example.offer, RecipientKey(b""), content)
    return Program(manifest.encode(), content, code_lists(catalog, names_of(example)))


def fields_of(catalog: Catalog) -> list[str]:
    """200 fields from every dataset: those that the example's rules read, then one of each dataset in turn."""
    whole = [
        [n for n, f in zip(d.field_names, d.fields, strict=True) if f.type is not FieldType.DATE]
        for d in catalog.datasets.values()
    ]
    in_turn = [name for names in zip(*whole, strict=False) for name in names]
    return list(dict.fromkeys([*EXAMPLE_FIELDS, *in_turn]))[:FIELDS]


def register(room: Room, world: World) -> list[tuple[str, str]]:
    """(subject, consent) for every call to come: a consent has five uses, which do not come at once."""
    wanted = -(-(calls.WANTED) // USES)
    names = list(room.catalog.datasets)
    made = []
    for number in track(range(wanted), "consents"):
        subject = world.subjects[number % COMPANIES]
        made.append((subject, room.consent(subject, PRODUCT, names, uses=USES)))
    return made * USES


def joins(room: Room, world: World, example: Example) -> list[Figure]:
    """The join alone, in process: one range read, decryption, gather."""
    engine = open_engine(room.home.database, create=False)
    figures = []
    with closing(Vault(engine, room.home.keeper(None).keys.vault, room.catalog)) as vault:
        for name, fields in (
            ("join_p50_ms", [f.name for f in example.model.fields]),
            ("join_all_fields_p50_ms", list(room.catalog.fields)),
        ):
            plan, times = compile_plan(room.catalog, fields), []
            for subject in world.subjects * 2:
                began = time.perf_counter()
                vault.join(plan, subject, 0)
                times.append((time.perf_counter() - began) * 1000)
            note = f"{len(plan.datasets)} datasets, {plan.width} fields of one company"
            figures.append(Figure(name, sorted(times)[len(times) // 2], "ms", note))
    engine.dispose()
    return figures


if __name__ == "__main__":
    main()
