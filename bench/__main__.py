"""`make bench`: latency and throughput of calls, beside a bare service that runs the same model with nothing protected.

A 300-tree model over 200 fields from every dataset; consents, data, walls, log as in production; release quantum off,
because it is a wait by design and would hide what is measured.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path

import grpc
import numpy as np
from heixia.precredit.v1 import precredit_pb2, precredit_pb2_grpc
from rich.progress import track

from audit.schema import open_engine
from bench.bare import METHOD
from bench.load import Result, drive
from bench.report import Figure, show, write
from enclave_api.cli.example import FIELDS as EXAMPLE_FIELDS
from enclave_api.cli.example import Example, train_lightgbm
from enclave_api.cli.room import PORTAL, Room
from enclave_api.client.bank import vector_of
from sandbox.vault.catalog import Catalog, FieldType
from sandbox.vault.synthetic import World, generate
from sandbox.vault.vault import Vault, compile_plan

PRODUCT = "zhongyuan/bench"
FIELDS, TREES, COMPANIES = 200, 300, 400
CALLS = {1: 300, 4: 600, 16: 1000}
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
    value = {figure.name: figure.value for figure in figures}
    ratios = [
        Figure("call_p50_ratio_c1", value["call_p50_ms_c1"] / value["bare_p50_ms_c1"], "×", "protected / bare latency"),
        Figure(
            "throughput_ratio_c16",
            value["bare_calls_per_s_c16"] / value["calls_per_s_c16"],
            "×",
            "bare / protected calls a second",
        ),
    ]
    write([*ratios, *figures], Path("build/bench.json"))
    show(ratios, figures)
    print("written to build/bench.json")


def measure(room: Room, folder: Path) -> list[Figure]:
    """Every figure."""
    room.start("--metrics", METRICS, "--step-metrics")
    world = generate(room.catalog, COMPANIES, 7)
    for name in track(list(room.catalog.datasets), "loading"):
        room.load(world, [name])
    example = train_lightgbm(world, PRODUCT, fields_of(room.catalog), TREES)
    room.launch(example)
    consents = register(room, world)
    figures = asyncio.run(protected(room, consents))
    figures += steps()
    figures += bare(example, folder)
    return figures + joins(room, world, example)


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
    wanted = -(-(sum(CALLS.values()) + 50) // USES)
    names = list(room.catalog.datasets)
    made = []
    for number in track(range(wanted), "consents"):
        subject = world.subjects[number % COMPANIES]
        made.append((subject, room.consent(subject, PRODUCT, names, uses=USES)))
    return made * USES


async def protected(room: Room, consents: Sequence[tuple[str, str]]) -> list[Figure]:
    """Calls through everything."""
    folder = room.home.client(PORTAL)
    ca, key, cert = ((folder / name).read_bytes() for name in ("ca.pem", "key.pem", "cert.pem"))
    async with grpc.aio.secure_channel(room.server, grpc.ssl_channel_credentials(ca, key, cert)) as channel:
        stub = precredit_pb2_grpc.PreCreditServiceStub(channel)

        async def call(number: int) -> object:
            subject, consent_id = consents[number]
            return await stub.RequestLimit(
                precredit_pb2.RequestLimitRequest(
                    request_id=str(uuid.uuid4()), consent_id=consent_id, subject=subject, product=PRODUCT
                )
            )

        await drive(call, sum(CALLS.values()), 50, 2)  # warm
        return await _series(call, "call_", "calls_per_s_", "all steps, before the release quantum")


def bare(example: Example, folder: Path) -> list[Figure]:
    """The same model, the same rows, nothing protected."""
    (folder / "model.onnx").write_bytes(example.model.onnx)
    command = [sys.executable, "-m", "bench.bare", str(folder / "model.onnx"), str(FIELDS)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    vectors = [np.array(vector_of(example.model.fields, row)).tobytes() for row in example.rows]
    try:
        return asyncio.run(_bare(process.stdout.readline().strip(), vectors))
    finally:
        process.kill()
        process.wait()


async def _bare(port: str, vectors: Sequence[bytes]) -> list[Figure]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        score = channel.unary_unary(METHOD, bytes, bytes)

        async def call(number: int) -> object:
            return await score(vectors[number % len(vectors)])

        await drive(call, 0, 50, 2)
        return await _series(call, "bare_", "bare_calls_per_s_", "grpc.aio + onnxruntime in process, no TLS")


async def _series(call: Callable[[int], Awaitable[object]], prefix: str, rate: str, note: str) -> list[Figure]:
    figures, first = [], 0
    for in_flight, count in CALLS.items():
        result: Result = await drive(call, first, count, in_flight)
        first += count
        for share, label in ((0.5, "p50"), (0.99, "p99")):
            figures.append(Figure(f"{prefix}{label}_ms_c{in_flight}", result.percentile(share), "ms", note))
        figures.append(Figure(f"{rate}c{in_flight}", result.per_s, "calls/s", note))
    return figures


def steps() -> list[Figure]:
    """Mean time of each step of the decisions, as the server's own metrics have it."""
    with urllib.request.urlopen(f"http://{METRICS}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    told = dict(line.rsplit(" ", 1) for line in lines if line.startswith("heixia_decision_step_seconds_"))
    figures = []
    for step in ("consent", "champion", "join", "score", "commit"):
        total, count = (float(told[f'heixia_decision_step_seconds_{k}{{step="{step}"}}']) for k in ("sum", "count"))
        figures.append(Figure(f"step_{step}_mean_ms", total / count * 1000, "ms", "server's own metrics, all loads"))
    return figures


def joins(room: Room, world: World, example: Example) -> list[Figure]:
    """The join alone, in process: one range read, decryption, gather."""
    engine = open_engine(room.home.database, create=False)
    figures = []
    with closing(Vault(engine, room.home.keys(None).vault, room.catalog)) as vault:
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
