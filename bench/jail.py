"""The jail alone: what a process per call adds, beside warm processes and no process at all; memory, cold start."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from bench.load import drive
from bench.report import Figure
from sandbox.jail.pool import JailPool, Program
from sandbox.jail.settings import ONE_SHOT, WARM, JailSettings
from sandbox.jail.worker import Scorer

CALLS, PAUSE_S = 400, 0.01  # the pause lets the next process be forked, as between calls of a quiet hour
RESIDENT = (1, 44, 224)  # one bank's model; forty banks; a city's whole shelf
GIB = 2**30


def figures(program: Program, vectors: Sequence[bytes]) -> list[Figure]:
    """Every figure of the jail, for one program and rows to score."""
    bare = _in_process(program, vectors)
    made = [Figure("in_process_p50_ms", bare, "ms", "model and rules in this very process, behind nothing")]
    for isolation in (ONE_SHOT, WARM):
        made += asyncio.run(_calls(isolation, program, vectors, bare))
    return made + asyncio.run(_memory(program, vectors))


def _in_process(program: Program, vectors: Sequence[bytes]) -> float:
    scorer = Scorer.load(program.manifest, program.content, program.codes)
    times = []
    for number in range(CALLS):
        began = time.perf_counter()
        scorer.limit(vectors[number % len(vectors)])
        times.append((time.perf_counter() - began) * 1000)
    return sorted(times)[CALLS // 2]


async def _calls(isolation: str, program: Program, vectors: Sequence[bytes], bare: float) -> list[Figure]:
    name = isolation.replace("-", "")
    pool = await JailPool.start(JailSettings(isolation=isolation))
    try:
        await pool.load("v", program)

        async def score(number: int) -> object:
            return await pool.score("v", vectors[number % len(vectors)])

        waiting = []
        for number in range(CALLS):
            await asyncio.sleep(PAUSE_S)
            began = time.perf_counter()
            await score(number)
            waiting.append((time.perf_counter() - began) * 1000)
        crowded = await drive(score, 0, 4 * CALLS, 16)
    finally:
        await pool.close()
    added = sorted(waiting)[CALLS // 2] - bare
    return [
        Figure(f"{name}_added_p50_ms", added, "ms", "beyond in process, when a process waits"),
        Figure(f"{name}_scores_per_s_c16", crowded.per_s, "scores/s", "the jail alone, 16 in flight"),
    ]


async def _memory(program: Program, vectors: Sequence[bytes]) -> list[Figure]:
    made, cold = [], []
    pool = await JailPool.start(JailSettings(spare_idle_s=0.0))
    try:
        for number in range(1, max(RESIDENT) + 1):
            began = time.perf_counter()
            await pool.load(str(number), program)
            await pool.score(str(number), vectors[0])
            cold.append((time.perf_counter() - began) * 1000)
            if number in RESIDENT:
                await asyncio.sleep(1)  # what was waiting is let go
                note = "proportional set size of zygote and templates at rest"
                made.append(Figure(f"resident_{number}_gib", _resident(pool.processes) / GIB, "GiB", note))
    finally:
        await pool.close()
    note = "a version from its bytes to its first answer: admission, load, parity samples, first call"
    return [*made, Figure("cold_start_ms", sorted(cold)[len(cold) // 2], "ms", note)]


def _resident(processes: Sequence[int]) -> int:
    """Bytes, each shared page divided among those that share it; needs root, as the processes are not dumpable."""
    lines = (line for pid in processes for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines())
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
