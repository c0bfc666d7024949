"""The jail under settings of its own: deadlines, slots, rest, and walls counted for each process."""

import asyncio

import pytest

from sandbox.errors import WorkerMisbehaved
from sandbox.jail import channel, template_handle
from sandbox.jail.pool import JailPool, Program
from sandbox.jail.settings import JailSettings
from tests.unit.jail.models import content, linear, manifest, vector


async def test_a_start_need_not_fit_a_calls_slot() -> None:
    """The walls are measured on a machine that is too slow for any call: nothing in their report depends on data."""
    pool = await JailPool.start(JailSettings(constant_time=True, score_deadline_ms=0))
    try:
        assert pool.walls
        assert pool._settings.score_deadline_ms == 0
    finally:
        await pool.close()


async def test_in_constant_time_no_answer_comes_early_or_late() -> None:
    """A quick, a slow and a silent process are told apart by nothing but their answer, at one moment."""
    pool = await JailPool.start(JailSettings(score_deadline_ms=200, constant_time=True))
    spin = b"import time\ndef run(request):\n    end = time.monotonic() + %f\n    while time.monotonic() < end: pass\n"
    loop = asyncio.get_running_loop()
    try:
        for seconds, ended in ((0.0, "answered"), (0.05, "answered"), (9.0, "ended")):
            template = await pool._open()
            assert not (await template.load(channel.DRILL, spin % seconds + b"    return b'x'")).reasons
            process = await template._take_in_time()  # forked beforehand: what counts begins with the request
            template._held -= 1
            template._ready.append(process)
            began = loop.time()
            try:
                assert await template.ask(b"?", 1) == b"x"
                outcome = "answered"
            except WorkerMisbehaved:
                outcome = "ended"
            assert outcome == ended
            assert 0.2 <= loop.time() - began < 5.0  # the upper bound only tells it from the nine seconds
            template.kill()
    finally:
        await pool.close()


async def test_a_version_at_rest_keeps_no_process_waiting() -> None:
    """After a time without calls the spares go, the template stays, and the next call is answered."""
    pool = await JailPool.start(JailSettings())
    try:
        assert (await pool.load("v", Program(manifest(), content(linear()), {}))).admitted
        assert (await pool.score("v", vector(3.0, 0, 0))).value == 3.0
        template = pool._templates["v"]
        while greeting := list(template._greeting):
            await asyncio.gather(*greeting)
        template._let_spares_go(0)  # asked meanwhile: not yet
        assert template._ready
        template._let_spares_go(1)
        assert not template._ready
        assert not template._greeting
        assert (await pool.score("v", vector(4.0, 0, 0))).value == 4.0
        assert pool._templates["v"] is template
    finally:
        await pool.close()


def test_a_process_without_a_wall_that_the_probe_had_is_not_used() -> None:
    """Walls are counted for each process, not once at the start."""
    for missing in (b"landlock", b"one_shot_seccomp,landlock"):
        with pytest.raises(WorkerMisbehaved):
            template_handle._check_walls(missing, frozenset())
        template_handle._check_walls(missing, frozenset({"landlock", "one_shot_seccomp"}))
