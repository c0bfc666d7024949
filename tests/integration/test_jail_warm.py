"""Warm isolation: a process for many calls of one version, one after another."""

import asyncio
import os
import select
import signal

import pytest

from sandbox.jail import channel
from sandbox.jail.pool import JailPool
from sandbox.jail.settings import WARM, JailSettings
from tests.integration.test_jail import assert_ends, program
from tests.unit.jail.models import vector


async def test_warm_isolation_keeps_its_process() -> None:
    """Where the operator chose it one process answers many calls, is replaced when it dies, and is never doubled."""
    pool = await JailPool.start(JailSettings(isolation=WARM, spare=1))
    try:
        template = await pool._open()
        source = b"seen = []\ndef run(request):\n    seen.append(request)\n    return b'|'.join(seen)"
        assert not (await template.load(channel.DRILL, source)).reasons
        assert [await template.ask(request, 100) for request in (b"a", b"b", b"c")] == [b"a", b"a|b", b"a|b|c"]
        killed = template._ready[0]
        handle = os.pidfd_open(killed.sender)
        os.kill(killed.sender, signal.SIGKILL)
        assert_ends(handle)
        hung_up = select.poll()  # a process that is being forked just now may hold the dead one's end a moment longer
        hung_up.register(killed.sock, 0)
        assert hung_up.poll(10_000)
        assert await template.ask(b"d", 100) == b"d"
        template.kill()
        assert (await pool.load("v", program())).admitted
        answers = await asyncio.gather(*(pool.score("v", vector(float(i), 0, 0)) for i in range(60)))
        assert [a.value for a in answers] == [float(i) for i in range(60)]
    finally:
        await pool.close()


async def test_a_warm_process_is_replaced_before_its_cpu_limit_ends_it_in_a_call() -> None:
    """A sound model that has computed for long in one process goes on to answer: its limit is no failure of a call."""
    pool = await JailPool.start(JailSettings(isolation=WARM, spare=1, score_deadline_ms=4_000))
    spin = b"""
import time
def run(request):
    end = time.thread_time() + 0.2
    while time.thread_time() < end: pass
    return request
"""
    try:
        template = await pool._open()
        assert not (await template.load(channel.DRILL, spin)).reasons
        limit_s = pool._settings.limits.score_cpu_s
        for number in range(int(limit_s / 0.2) + 2):
            assert await template.ask(bytes([number]), 1) == bytes([number])
        template.kill()
    finally:
        await pool.close()


async def test_what_a_warm_process_says_beside_its_answer_reaches_nobody() -> None:
    """A second answer to one request is not the first answer to the next, whoever waits for it."""
    pool = await JailPool.start(
        JailSettings(isolation=WARM, constant_time=True, score_deadline_ms=200, spare=1, one_shots_max=1)
    )
    source = b"import os\ndef run(request):\n    os.write(3, request + b'1')\n    return request + b'2'"
    try:
        template = await pool._open()
        assert not (await template.load(channel.DRILL, source)).reasons
        assert [*await asyncio.gather(template.ask(b"a", 100), template.ask(b"b", 100))] == [b"a1", b"b1"]
        template.kill()
    finally:
        await pool.close()


@pytest.mark.parametrize("constant_time", [True, False])
async def test_calls_in_line_for_warm_processes_are_all_answered(constant_time: bool) -> None:
    """Where a process is busy for a whole slot, or is not given back as its version was replaced, another is forked."""
    settings = JailSettings(
        isolation=WARM, constant_time=constant_time, spare=1, score_deadline_ms=300, process_deadline_ms=1_000
    )
    pool = await JailPool.start(settings)
    try:
        assert (await pool.load("v", program())).admitted
        calls = [asyncio.create_task(pool.score("v", vector(float(i), 0, 0))) for i in range(8)]
        await asyncio.sleep(0)
        if not constant_time:
            pool._templates["v"].retire()
        assert [answer.value for answer in await asyncio.gather(*calls)] == [float(i) for i in range(8)]
    finally:
        await pool.close()
