"""A template taken over while loading: what docs/threat-model.md says that it can, and cannot, still do."""

import asyncio
import contextlib
import socket

import pytest

from sandbox.errors import JailUnavailable, WorkerMisbehaved
from sandbox.jail.pool import JailPool, Program
from sandbox.jail.status import ScoreStatus
from tests.redteam import hostile
from tests.unit.jail.models import content, linear, manifest, vector

_PROBE = "\ndef run(request):\n    return found\n"


# --- what it can ------------------------------------------------------------------------------------------------------


async def test_it_can_hand_one_call_to_the_next_of_its_own_version(pool: JailPool) -> None:
    """Its children fork successors with their memory: the second answer is the first request. Known, and bounded."""
    async with hostile.loaded(pool, hostile.REMEMBER.encode()) as template:
        told = [await template.ask(request, 100) for request in (b"first", b"second", b"third")]
    assert b"first" in told[1:]


async def test_an_honest_template_cannot(pool: JailPool) -> None:
    """The control: the same memory, kept by one-shots that nobody took over while loading, reaches no other call."""
    source = (
        b"before = b'nobody'\ndef run(request):\n    global before\n    told, before = before, request\n    return told"
    )
    async with hostile.loaded(pool, source) as template:
        assert [await template.ask(request, 100) for request in (b"a", b"b", b"c")] == [b"nobody"] * 3


async def test_it_can_count_its_living_children(pool: JailPool) -> None:
    """By its process limit it sees how many of its children live, and so, roughly, how long a call takes."""
    source = """
import os, resource, time, _thread
most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
def fits(limit):
    resource.setrlimit(resource.RLIMIT_NPROC, (limit, most))
    try:
        if os.fork() == 0:
            os._exit(0)
    except BlockingIOError:
        return False
    return True
def once():
    count = next(limit for limit in range(1, most) if fits(limit))
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    return count
def living():
    return min(once() for _ in range(10))  # a probe of before may still count
alone = living()
if os.fork() == 0:
    while time.process_time() < 0.2:
        pass
    os._exit(0)
during = living()
while living() != alone:
    pass
found = bytes([during - alone])
"""
    found = (await pool.drill((source + _PROBE).encode())).answer[0]
    assert 1 <= found <= 3  # those being torn down may still count


async def test_it_can_refuse_its_own_calls_and_no_others(pool: JailPool) -> None:
    """Who takes orders and never answers costs its own version its calls; another version answers meanwhile."""
    assert (await pool.load("honest", Program(manifest(), content(linear()), {}))).admitted
    async with hostile.loaded(pool, (hostile.TAKE_OVER + "rest()").encode()) as template:
        mute = asyncio.create_task(template.ask(b"?", 100))
        answer = await pool.score("honest", vector(5.0, 0, 0))
        assert (answer.status, answer.value) == (ScoreStatus.OK, 5.0)
        with pytest.raises(Exception, match="no process"):
            await mute


async def test_it_can_tell_what_it_read_by_refusing_a_later_call(pool: JailPool) -> None:
    """Its children hand on what they read, and give the next call a process or none: a refusal has no price."""
    source = hostile.TAKE_OVER + (
        "if os.fork():\n"
        "    rest()\n"
        "secret = False\n"
        "while True:\n"
        "    line = next_order()\n"
        "    if secret:\n"
        "        os.close(line)\n"
        "        continue\n"
        "    os.write(line, channel.READY)\n"
        "    secret = any(os.read(line, 1000))\n"
        "    if os.fork():\n"
        "        os.write(line, b'answer')\n"
        "        rest()\n"
        "    os.close(line)\n"
    )
    for bit in (b"\0", b"\1"):
        async with hostile.loaded(pool, source.encode()) as template:
            assert await template.ask(bit, 100) == b"answer"
            later = template.ask(b"\0", 100)
            if any(bit):
                with pytest.raises(JailUnavailable):
                    await later
            else:
                assert await later == b"answer"


# --- what it cannot ---------------------------------------------------------------------------------------------------


async def test_it_cannot_answer_for_a_one_shot(pool: JailPool) -> None:
    """It keeps a copy of its child's socket, but the answer bears its own stamp and is refused."""
    source = hostile.TAKE_OVER + (
        "while True:\n"
        "    line = next_order()\n"
        "    if os.fork() == 0:\n"
        "        os.write(line, channel.READY)\n"
        "        rest()\n"
        "    os.read(line, 1000)\n"
        "    os.write(line, b'by the template')\n"
    )
    async with hostile.loaded(pool, source.encode()) as template:
        with pytest.raises(WorkerMisbehaved, match="another process"):
            await template.ask(b"hello", 100)


async def test_it_cannot_pose_as_a_one_shot(pool: JailPool) -> None:
    """The template itself is never taken for a one-shot: it lives longer than a call."""
    source = hostile.TAKE_OVER + (
        "while True:\n"
        "    line = next_order()\n"
        "    os.write(line, channel.READY)\n"
        "    os.write(line, os.read(line, 1000) or b'nothing')\n"
    )
    async with hostile.loaded(pool, source.encode()) as template:
        with pytest.raises(Exception, match="template died"):
            await template.ask(b"hello", 100)


async def test_its_death_is_no_signal(pool: JailPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who ends its template under some calls and not others would have a signal that costs no bits: unavailable.

    Whatever a version does with a call that it was given is an answer, and priced: no offer.
    """
    source = hostile.TAKE_OVER + (
        "while True:\n"
        "    line = next_order()\n"
        "    if os.fork() == 0:\n"
        "        os.write(line, channel.READY)\n"
        "        if any(os.read(line, 1000)):\n"
        "            os.write(3, b'the server ends a template that speaks unasked')\n"
        "            os._exit(0)\n"
        "        os.write(line, channel.ANSWER.pack(0, 5.0))\n"
        "        rest()\n"
        "    os.close(line)\n"
    )
    await hostile.load_hostile(pool, "v", source.encode(), monkeypatch)
    assert (await pool.score("v", vector(0.0, 0, 0))).value == 5.0
    answer = await pool.score("v", vector(1.0, 0, 0))
    assert (answer.status, answer.value) == (ScoreStatus.MODEL_FAILURE, 0.0)


async def test_it_holds_no_descriptor_but_its_channel(pool: JailPool) -> None:
    """No socket of the zygote, of another version or of the server is among its descriptors."""
    source = """
import os
def is_open(number):
    try:
        os.dup2(number, 7, inheritable=False)
    except OSError:
        return False
    return True
found = bytes(number for number in range(200) if number != 7 and is_open(number))
"""
    assert (await pool.drill((source + _PROBE).encode())).answer == b"\x03"


async def test_it_cannot_outlive_its_version(pool: JailPool) -> None:
    """What it forked, walled as a one-shot or not, ends with it: it is process 1 of its namespace."""
    source = hostile.TAKE_OVER + (
        "while True:\n"
        "    line = next_order()\n"
        "    if os.fork() == 0:\n"
        "        os.write(line, channel.READY)\n"
        "        os.read(line, 1000)\n"
        "        if os.fork() == 0:\n"
        "            rest()\n"
        "        os.write(line, b'left one behind')\n"
        "        rest()\n"
    )
    async with hostile.loaded(pool, source.encode()) as template:
        assert await template.ask(b"?", 100) == b"left one behind"
        shared = template._handle.sock.dup()  # its other end is open in everything that the template forked
        with pytest.raises(BlockingIOError):
            shared.recv(1)
    async with asyncio.timeout(5):
        await _closed(shared)
    shared.close()


async def _closed(sock: socket.socket) -> None:
    """Wait until nobody holds the other end; what was said before is of no interest."""
    with contextlib.suppress(ConnectionResetError):  # where an order was left unread
        while await asyncio.get_running_loop().sock_recv(sock, 1_000):
            pass
