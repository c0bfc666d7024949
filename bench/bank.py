"""What a bank waits for: `python -m bench.bank`, and part of `make bench`.

A served enclave as in production, release quantum off. Commands, verification and rules (bench/bank_tools.py); a 5 MB
model sealed and submitted; versions promoted and rolled back while calls run, eight at a time. Bars are for a machine
that does nothing else; ratios are to a reference of the same run.
"""

import asyncio
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import lightgbm
import numpy as np
import onnxruntime

from audit.event import decode
from audit.kinds import Decision
from bench import bank_tools
from bench.calls import Call, calling
from bench.report import Figure, show, write
from enclave_api.cli.example import FIELDS, LEVELS, RULES, Example, rows_of, specs, train_lightgbm
from enclave_api.cli.room import ACCEPT, Room, datasets_of
from enclave_api.client.bank import Offer, vector_of
from model_registry.convert import from_lightgbm
from sandbox.vault.synthetic import World, generate

PRODUCT, LARGE_PRODUCT = "zhongyuan/bench-bank", "zhongyuan/bench-large"
COMPANIES, TRAINED_ON, USES = 100, 2000, 5
CALLERS, CALLS = 8, 2000  # at most so many calls; the load ends with the last rollback
TURNS, BETWEEN = 3, 100
TREES, LARGE_TREES, LARGE_LEAVES = 100, 600, 255  # so many leaves make 5 MB
MIB = 2**20


def main() -> None:
    """Measures and reports."""
    found = figures()
    write(found, Path("build/bench.json"))
    show([figure for figure in found if figure.unit == "×"], [figure for figure in found if figure.unit != "×"])


def figures() -> list[Figure]:
    """Every figure of this file and of bench/bank_tools.py."""
    with tempfile.TemporaryDirectory(prefix="heixia-bench-") as folder:
        room = Room.make(Path(folder), release_quantum_ms=0, score_deadline_ms=1000, budget_bits_per_year=100_000)
        try:
            room.start()
            return list(_measure(room))
        finally:
            room.stop()


def _measure(room: Room) -> Iterator[Figure]:
    world, trained_on = generate(room.catalog, COMPANIES, 7), generate(room.catalog, TRAINED_ON, 1)
    room.load(world, datasets_of(FIELDS))
    example = train_lightgbm(trained_on, PRODUCT, trees=TREES)
    room.launch(example)
    yield from bank_tools.commands(room, PRODUCT)
    yield from bank_tools.verification(room)
    yield from bank_tools.rules(example)
    yield from _large(room, _large_example(trained_on))
    yield from _changes(room, world, example)


# --- a model of 5 MB --------------------------------------------------------------------------------------------------


def _large_example(world: World) -> Example:
    """A forest over noise, which fills every leaf: a large model in seconds."""
    fields, rows = specs(world.catalog, FIELDS), rows_of(world, FIELDS)
    features, chance = np.array([vector_of(fields, row) for row in rows]), np.random.default_rng(5)
    booster = lightgbm.LGBMRegressor(
        n_estimators=LARGE_TREES, num_leaves=LARGE_LEAVES, min_child_samples=2, learning_rate=0.01, n_jobs=1, verbose=-1
    ).fit(features, chance.random(len(rows)))
    scores = np.asarray(booster.predict(features))
    return Example(from_lightgbm(booster, fields), Offer(LARGE_PRODUCT, LEVELS, RULES), rows, scores, 0.0)


def _large(room: Room, example: Example) -> Iterator[Figure]:
    alice, samples, sealing, sending, size = room.alice, example.samples(), list[float](), list[float](), 0
    for _ in range(TURNS):
        recipient = alice.verify_enclave(ACCEPT).recipient()
        began = time.perf_counter()
        bundle = alice.seal(example.model, example.offer, recipient, samples)
        sealing.append(time.perf_counter() - began)
        alice.submit(bundle)
        sending.append(time.perf_counter() - began)
        size = len(bundle.ciphertext)
    took, bare = statistics.median(sending), _loaded(example.model.onnx)
    note = f"{size / MIB:.1f} MiB, {len(samples)} parity samples: sealed, sent, stored, admitted behind the walls"
    yield Figure("submit_5mb_s", took, "s", note, bar=3)
    yield Figure("seal_5mb_s", statistics.median(sealing), "s", "of that, the bank's own machine: rules, hash, seal")
    yield Figure("submit_5mb_ratio", took / bare, "×", f"to onnxruntime loading that model, {bare * 1000:.0f} ms")


def _loaded(model: bytes) -> float:
    began = time.perf_counter()
    onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return time.perf_counter() - began


# --- promotion and rollback under load --------------------------------------------------------------------------------


@dataclass
class _Load:
    """Calls without pause: when the first answer by a version came, since it was last asked for; calls that failed."""

    call: Call
    failed: list[str] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    done: bool = False
    _left: int = 0
    _reached: asyncio.Event = field(default_factory=asyncio.Event)
    _waiting: dict[str, asyncio.Future[float]] = field(default_factory=dict)

    async def caller(self, numbers: Iterator[int]) -> None:
        """One of several."""
        for number in numbers:
            if self.done:
                return
            began, self._left = time.perf_counter(), self._left - 1
            if self._left == 0:
                self._reached.set()
            try:
                answer = await self.call(number)
            except grpc.aio.AioRpcError as error:
                self.failed.append(str(error.details()))
                continue
            self.took.append((time.perf_counter() - began) * 1000)
            event, _ = decode(answer.receipt.entry)  # type: ignore[attr-defined]
            if isinstance(event, Decision) and (first := self._waiting.pop(event.version, None)) is not None:
                first.set_result(time.perf_counter())

    async def go_on(self, count: int) -> None:
        """Waits for so many more calls: between two changes the load is that of any hour."""
        self._left, self._reached = count, asyncio.Event()
        await self._reached.wait()

    async def until_answered_by(self, version: str, change: Callable[[], object]) -> float:
        """Milliseconds from asking for a change until a caller has an answer by this version."""
        began, first = time.perf_counter(), asyncio.get_running_loop().create_future()
        asked = asyncio.create_task(asyncio.to_thread(change))
        await asyncio.sleep(0)
        self._waiting[version] = first
        ended: float = await asyncio.wait_for(first, 60)
        await asked
        return (ended - began) * 1000


def _changes(room: Room, world: World, example: Example) -> Iterator[Figure]:
    versions = [room.approved(example) for _ in range(TURNS)]
    names = datasets_of(FIELDS)
    consents = [
        (subject, room.consent(subject, PRODUCT, names, uses=USES))
        for number in range(CALLS // USES)
        if (subject := world.subjects[number % COMPANIES])
    ] * USES
    promoted, rolled_back, load = asyncio.run(_under_load(room, consents, versions))
    p50 = statistics.median(load.took)
    note = f"median of {TURNS}; {CALLERS} in flight, {len(load.took):,} calls of {p50:.0f} ms (p50)"
    for name, took, what in (
        ("promote", promoted, "from asking to the first answer by the new version: load, warm, parity, flip"),
        ("rollback", rolled_back, "from asking to the first answer by the version before"),
    ):
        median = statistics.median(took)
        yield Figure(f"{name}_ms", median, "ms", f"{what}; {note}", bar=500)
        yield Figure(f"{name}_ratio", median / p50, "×", "to a call of the same load")
    why = "; ".join(f"{count} × {text}" for text, count in Counter(load.failed).items()) or "none"
    note = f"of {len(load.took) + len(load.failed):,} through these promotions and rollbacks: {why}"
    yield Figure("bank_failed_calls", len(load.failed), "calls", note, bar=0)


async def _under_load(
    room: Room, consents: Sequence[tuple[str, str]], versions: Sequence[str]
) -> tuple[list[float], list[float], _Load]:
    promoted, rolled_back, before = list[float](), list[float](), f"{PRODUCT}@1"
    async with calling(room, PRODUCT, consents) as call:
        load, numbers = _Load(call), iter(range(len(consents)))
        callers = [asyncio.create_task(load.caller(numbers)) for _ in range(CALLERS)]
        for version in versions:
            await load.go_on(BETWEEN)
            promoted.append(await load.until_answered_by(version, lambda version=version: room.bob.promote(version)))  # type: ignore[misc]
            await load.go_on(BETWEEN)
            rolled_back.append(await load.until_answered_by(before, lambda: room.bob.rollback(PRODUCT)))
            before = version  # the newest that was champion before the next
        load.done = True
        await asyncio.gather(*callers)
    return promoted, rolled_back, load


if __name__ == "__main__":
    main()
