"""Bits that a hostile model and a colluding application get past the gate: in the limit, and in the time of the answer.

The model writes a secret field of four bits into each answer: three into the level, the fourth into the yuan above it
and into its run time, in which it computes on for longer than a release quantum. The application sees the limits and
the times at which it receives them. What is tried is a function, so that a new gate is tried by passing it in.
`python -m tests.redteam.leakage --calls 10000 [--real 200] [--json]`
"""
# ruff: noqa: T201 - a table is what it is for

import argparse
import asyncio
import json
import math
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass

import numpy as np

from sandbox.errors import JailUnavailable, WorkerMisbehaved
from sandbox.gate import release_delay, snap
from sandbox.jail.pool import JailPool
from sandbox.jail.settings import JailSettings
from sandbox.jail.template_handle import Template
from tests.redteam.estimate import Codes, Information, information
from tests.redteam.hostile import loaded

LEVELS = (0, 50_000, 100_000, 200_000, 300_000, 500_000, 800_000, 1_000_000)
QUANTUM_MS = 50
BUDGET_S = 0.02  # what a model has; the rest of the quantum is for the machine, which a late model has kept busy
SLOT_MS = 20  # as heixia.toml has it
LATE_S = 0.06  # longer than a quantum
# (limit before the gate, seconds since the call began) → (level, seconds since the call began at which it leaves)
Gate = Callable[[float, float], tuple[int, float]]


def next_multiple(limit: float, elapsed_s: float) -> tuple[int, float]:
    """The answer leaves at the next multiple of the quantum: whoever computes for longer than one leaves later."""
    return snap(limit, LEVELS), elapsed_s + release_delay(elapsed_s, QUANTUM_MS)


def blurred(limit: float, elapsed_s: float) -> tuple[int, float]:
    """The product's own gate: the next multiple, and a little by chance."""
    return snap(limit, LEVELS), elapsed_s + release_delay(elapsed_s, QUANTUM_MS, random.random())


def fixed_budget(limit: float, elapsed_s: float) -> tuple[int, float]:
    """The score step takes the same time whatever a model does; who needs longer makes no offer.

    Late is what the model is, not what the machine is, so that nothing but the limit depends on it.
    """
    return (snap(limit, LEVELS) if elapsed_s <= BUDGET_S else 0), QUANTUM_MS / 1000


def at_once(limit: float, elapsed_s: float) -> tuple[int, float]:
    """No gate but the grid: the control of the timing channel."""
    return snap(limit, LEVELS), elapsed_s


def no_grid(limit: float, elapsed_s: float) -> tuple[int, float]:
    """Every yuan leaves: the control of the limit channel."""
    return int(limit), elapsed_s


GATES: dict[str, Gate] = {
    "no grid": no_grid,
    "at once": at_once,
    "next multiple": next_multiple,
    "fixed budget": fixed_budget,
}


@dataclass(frozen=True)
class Leak:
    """What was learnt of the secret through one gate: from the limit, and from the time."""

    calls: int
    limit: Information
    timing: Information

    @property
    def limit_bound(self) -> float:
        """What the price of an answer assumes at most, in bits."""
        return math.log2(len(LEVELS))


def simulate(gate: Gate, calls: int, seed: int = 1) -> Leak:
    """Estimate on a simulated clock: run times as measured here, a few of them long, as on a busy machine."""
    generator = np.random.default_rng(seed)
    secrets = generator.integers(0, 2 * len(LEVELS), calls)
    machine = 0.004 + generator.gamma(2.0, 0.002, calls) + (generator.random(calls) < 0.01) * 0.03
    elapsed = machine + LATE_S * (secrets // len(LEVELS))
    limits = np.array(LEVELS)[secrets % len(LEVELS)] + 1.0 + secrets // len(LEVELS)
    seen = [gate(float(limit), float(took)) for limit, took in zip(limits, elapsed, strict=True)]
    return _leak(secrets, seen, generator)


HOSTILE = f"""
import struct, time
def run(request):
    fourth, level = divmod(request[0], {len(LEVELS)})
    end = time.monotonic() + {LATE_S} * fourth
    while time.monotonic() < end:
        pass
    return struct.pack("<Bd", 0, {LEVELS!r}[level] + 1.0 + fourth)
""".encode()


async def measure(gate: Gate, calls: int, slot_ms: int = 0, seed: int = 1) -> Leak:
    """Estimate with real processes and real time.

    Args:
        gate: what is tried.
        calls: how many, one after another.
        slot_ms: the product's slot: answers are fetched when it is over; 0 = as soon as they come.
        seed: of secrets and resampling.
    """
    generator = np.random.default_rng(seed)
    secrets = generator.integers(0, 2 * len(LEVELS), calls)
    settings = JailSettings(constant_time=True, score_deadline_ms=slot_ms) if slot_ms else JailSettings()
    pool = await JailPool.start(settings)
    try:
        async with loaded(pool, HOSTILE) as template:
            with suppress(WorkerMisbehaved):
                await template.ask(b"\0", 9)
            seen = [await _call(template, int(secret), gate) for secret in secrets]
    finally:
        await pool.close()
    return _leak(secrets, seen, generator)


async def _call(template: Template, secret: int, gate: Gate) -> tuple[int, float]:
    began = time.monotonic()
    limit = 0.0
    try:
        limit = float(np.frombuffer(await template.ask(bytes([secret]), 9), "<f8", offset=1)[0])
    except (TimeoutError, WorkerMisbehaved, JailUnavailable):
        limit = 0.0
    level, released_s = gate(limit, time.monotonic() - began)
    await asyncio.sleep(began + released_s - time.monotonic())
    return level, time.monotonic() - began


def _leak(secrets: Codes, seen: list[tuple[int, float]], generator: np.random.Generator) -> Leak:
    levels, times = (np.array(each, dtype=np.float64) for each in zip(*seen, strict=True))
    # binned to a tenth of a millisecond: what a caller across a network could tell apart at best
    times = np.round(times, 4)
    return Leak(len(secrets), information(secrets, levels, generator), information(secrets, times, generator))


def _rows(leaks: dict[str, Leak]) -> list[str]:
    rows = [f"{'gate':30}{'channel':9}{'bits':>8}{'99 % interval':>20}{'by chance':>11}{'p':>8}"]
    for name, leak in leaks.items():
        for channel, found in (("limit", leak.limit), ("timing", leak.timing)):
            interval = f"{found.low:.4f} … {found.high:.4f}"
            rows.append(
                f"{name:30}{channel:9}{found.bits:8.4f}{interval:>20}{found.by_chance:11.4f}{found.p_value:8.3f}"
            )
    return rows


def main() -> None:
    """Print what each gate lets through."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000, help="on the simulated clock, for each gate")
    parser.add_argument("--real", type=int, default=0, help="with real processes, for each gate; 0 = none")
    parser.add_argument("--slot-ms", type=int, default=SLOT_MS, help="score_deadline_ms of the enclave")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    options = parser.parse_args()
    leaks = {name: simulate(gate, options.calls) for name, gate in GATES.items()}
    if options.real:
        leaks["next multiple, real processes"] = asyncio.run(measure(next_multiple, options.real))
        slotted = measure(blurred, options.real, options.slot_ms)
        leaks[f"slot of {options.slot_ms} ms, real processes"] = asyncio.run(slotted)
    if options.json:
        print(json.dumps({name: {**asdict(leak), "limit_bound": leak.limit_bound} for name, leak in leaks.items()}))
        return
    print(f"secret: 4 bits a call; levels: {len(LEVELS)} = {math.log2(len(LEVELS)):.2f} bits at most")
    print("\n".join(_rows(leaks)))


if __name__ == "__main__":
    main()
