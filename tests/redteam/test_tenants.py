"""Two tenants on one pool: no answer ever reaches the wrong caller."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator

import pytest

from sandbox.errors import JailUnavailable
from sandbox.jail.pool import JailPool, Program
from sandbox.jail.status import ScoreStatus
from tests.redteam.hostile import template_of
from tests.unit.jail.models import content, linear, manifest, vector

CALLS = int(os.environ.get("HEIXIA_REDTEAM_CALLS", "2000"))
CONCURRENCY = 16


def multiplying(factor: float) -> Program:
    """A version that answers its first field times a factor."""
    return Program(manifest(), content(linear((factor, 0.0, 0.0))), {})


async def interleave(pool: JailPool, calls: int, factors: dict[str, set[float]]) -> Counter[str]:
    """Call the versions by turns, each call with a number of its own; returns what came of the calls.

    Raises:
        AssertionError: an answer is not its call's number times a factor that its version has, or had.
    """
    numbers = iter(range(1, calls + 1))  # float32 holds every product exactly
    outcomes: Counter[str] = Counter()

    async def caller(numbers: Iterator[int]) -> None:
        for number in numbers:
            key = sorted(factors)[number % len(factors)]
            try:
                answer = await pool.score(key, vector(float(number), 0, 0))
            except JailUnavailable:
                outcomes["unavailable"] += 1
                continue
            if answer.status is ScoreStatus.OK:
                assert answer.value in {number * factor for factor in factors[key]}, (key, number, answer.value)
            outcomes[answer.status.name] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(caller(numbers))
    return outcomes


async def test_each_caller_gets_its_own_answer(pool: JailPool) -> None:
    """Interleaved calls of two versions, 16 at once: every one is answered, each with its own number."""
    await pool.load("a", multiplying(1.0))
    await pool.load("b", multiplying(3.0))
    outcomes = await interleave(pool, CALLS, {"a": {1.0}, "b": {3.0}})
    assert outcomes == {"OK": CALLS}


async def test_a_mixed_up_answer_would_be_seen(pool: JailPool) -> None:
    """The control: a version that answers for the other is caught."""
    await pool.load("a", multiplying(1.0))
    await pool.load("b", multiplying(1.0))
    with pytest.raises(ExceptionGroup) as caught:
        await interleave(pool, 20, {"a": {1.0}, "b": {3.0}})
    assert caught.group_contains(AssertionError)


async def test_new_versions_and_dead_templates_change_nothing(pool: JailPool) -> None:
    """The same while versions are replaced and templates killed: an answer is right or a clear error, never another's.

    A call whose template is killed under it is repeated once by the pool; killed twice, it is an error, or no offer.
    """
    await pool.load("a", multiplying(1.0))
    await pool.load("b", multiplying(3.0))
    done = asyncio.Event()

    async def disturb() -> None:
        for turn in range(10_000):
            if done.is_set():
                return
            await pool.load("b", multiplying((5.0, 3.0)[turn % 2]))
            os.kill(template_of(pool, "a"), signal.SIGKILL)
            await pool.load("a", multiplying(1.0))

    disturber = asyncio.create_task(disturb())
    outcomes = await interleave(pool, CALLS // 4, {"a": {1.0}, "b": {3.0, 5.0}})
    done.set()
    await disturber
    assert outcomes.total() == CALLS // 4
    assert outcomes["OK"] > outcomes.total() // 2
    assert set(outcomes) <= {"OK", "unavailable", "MODEL_FAILURE"}
