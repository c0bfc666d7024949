"""Calls from end to end: through the served enclave, and through the bare service beside it."""

import asyncio
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
from heixia.precredit.v1 import precredit_pb2, precredit_pb2_grpc

from bench.bare import METHOD
from bench.load import Result, drive
from bench.report import Figure
from enclave_api.cli.example import Example
from enclave_api.cli.room import PORTAL, Room
from enclave_api.client.bank import vector_of

CALLS = {1: 300, 4: 600, 16: 1000}
WARMING, PROMOTING = 50, 400
MEASURED = sum(CALLS.values())
WANTED = MEASURED + WARMING + PROMOTING + WARMING + CALLS[16]  # calls in all

Call = Callable[[int], Awaitable[object]]


@asynccontextmanager
async def calling(room: Room, product: str, consents: Sequence[tuple[str, str]]) -> AsyncIterator[Call]:
    """Calls by number, through everything."""
    folder = room.home.client(PORTAL)
    ca, key, cert = ((folder / name).read_bytes() for name in ("ca.pem", "key.pem", "cert.pem"))
    async with grpc.aio.secure_channel(room.server, grpc.ssl_channel_credentials(ca, key, cert)) as channel:
        stub = precredit_pb2_grpc.PreCreditServiceStub(channel)

        async def call(number: int) -> object:
            subject, consent_id = consents[number]
            return await stub.RequestLimit(
                precredit_pb2.RequestLimitRequest(
                    request_id=str(uuid.uuid4()), consent_id=consent_id, subject=subject, product=product
                )
            )

        yield call


async def protected(room: Room, product: str, consents: Sequence[tuple[str, str]]) -> list[Figure]:
    """Calls through everything, a process each."""
    async with calling(room, product, consents) as call:
        await drive(call, MEASURED, WARMING, 2)
        made = await _series(call, "call_", "calls_per_s_", "all steps, before the release quantum")
    crowded = next(figure for figure in made if figure.name == "calls_per_s_c16")
    return [*made, replace(crowded, name="oneshot_calls_per_s_c16", note="the same, named beside warm")]


async def promoted(room: Room, product: str, consents: Sequence[tuple[str, str]], version: str) -> list[Figure]:
    """Calls while another version is promoted, and the promotion taken back."""
    first, failed = MEASURED + WARMING, []
    async with calling(room, product, consents) as call:

        async def noted(number: int) -> object:
            try:
                return await call(number)
            except grpc.aio.AioRpcError as error:
                failed.append(error.code())
                return None

        load = asyncio.create_task(drive(noted, first, PROMOTING, 8))
        began = time.perf_counter()
        await asyncio.to_thread(room.bob.promote, version)
        took = (time.perf_counter() - began) * 1000
        await asyncio.to_thread(room.bob.rollback, product)
        await load
    return [
        Figure("promote_failed_calls", len(failed), "calls", f"of {PROMOTING}, through a promotion and its rollback"),
        Figure("promote_call_ms", took, "ms", "the promotion's own call under that load: load, warm, parity, flip"),
    ]


async def warm(room: Room, product: str, consents: Sequence[tuple[str, str]]) -> list[Figure]:
    """Calls through everything, answered by processes that live on."""
    first = MEASURED + WARMING + PROMOTING
    async with calling(room, product, consents) as call:
        await drive(call, first, WARMING, 2)
        result = await drive(call, first + WARMING, CALLS[16], 16)
    note = "all steps, `warm` isolation"
    return [
        Figure("warm_calls_per_s_c16", result.per_s, "calls/s", note),
        Figure("warm_call_p50_ms_c16", result.percentile(0.5), "ms", note),
    ]


def bare(example: Example, folder: Path) -> list[Figure]:
    """The same model, the same rows, nothing protected."""
    (folder / "model.onnx").write_bytes(example.model.onnx)
    command = [sys.executable, "-m", "bench.bare", str(folder / "model.onnx"), str(len(example.model.fields))]
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


async def _series(call: Call, prefix: str, rate: str, note: str) -> list[Figure]:
    figures, first = [], 0
    for in_flight, count in CALLS.items():
        result: Result = await drive(call, first, count, in_flight)
        first += count
        for share, label in ((0.5, "p50"), (0.99, "p99")):
            figures.append(Figure(f"{prefix}{label}_ms_c{in_flight}", result.percentile(share), "ms", note))
        figures.append(Figure(f"{rate}c{in_flight}", result.per_s, "calls/s", note))
    return figures


def steps(address: str) -> list[Figure]:
    """Mean time of each step of the decisions, as the server's own metrics have it."""
    with urllib.request.urlopen(f"http://{address}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    told = dict(line.rsplit(" ", 1) for line in lines if line.startswith("heixia_decision_step_seconds_"))
    figures = []
    for step in ("consent", "champion", "join", "score", "commit"):
        total, count = (float(told[f'heixia_decision_step_seconds_{k}{{step="{step}"}}']) for k in ("sum", "count"))
        figures.append(Figure(f"step_{step}_mean_ms", total / count * 1000, "ms", "server's own metrics, all loads"))
    return figures
