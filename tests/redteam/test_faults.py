"""Processes killed, memory and processes gone, messages cut: each ends in one clear outcome, and the pool goes on."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from sandbox.errors import JailUnavailable, WorkerMisbehaved
from sandbox.jail import channel
from sandbox.jail.pool import JailPool, Program
from sandbox.jail.settings import JailSettings
from sandbox.jail.status import ScoreStatus
from sandbox.jail.template_handle import Template
from tests.redteam import harness, hostile
from tests.unit.jail.models import content, linear, manifest, vector

PROGRAM = Program(manifest(), content(linear()), {})
SPIN = b"def run(request):\n    while True: pass"


async def works(pool: JailPool) -> bool:
    """Whether an honest version loads and answers."""
    assert (await pool.load("honest", PROGRAM)).admitted
    answer = await pool.score("honest", vector(7.0, 0, 0))
    return (answer.status, answer.value) == (ScoreStatus.OK, 7.0)


def zygote_of(pool: JailPool) -> "subprocess.Popen[bytes]":
    """The pool's zygote."""
    assert pool._zygote is not None
    return pool._zygote._process


def after_open(pool: JailPool, monkeypatch: pytest.MonkeyPatch, act: Callable[[Template], object]) -> None:
    """Have something done as soon as a template is open, while its program is on the way."""
    true_open = pool._open

    async def opened() -> Template:
        template = await true_open()
        asyncio.get_running_loop().call_soon(act, template)
        return template

    monkeypatch.setattr(pool, "_open", opened)


async def test_a_template_killed_while_loading_is_a_refusal(pool: JailPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundle is refused with a reason, nothing is kept under its key, and the next load works."""
    after_open(pool, monkeypatch, lambda template: os.kill(template._handle.sender, signal.SIGKILL))
    assert [reason.code for reason in (await pool.load("v", PROGRAM)).reasons] == ["model_crashed"]
    assert not pool.loaded("v")
    monkeypatch.undo()
    assert await works(pool)


async def test_a_zygote_killed_while_loading_is_no_refusal(pool: JailPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault is ours, not the model's: unavailable, nothing decided; the next load has a new zygote."""
    after_open(pool, monkeypatch, lambda _: zygote_of(pool).kill())
    with pytest.raises(JailUnavailable):
        await pool.load("v", PROGRAM)
    monkeypatch.undo()
    assert await works(pool)


async def test_calls_in_flight_when_the_zygote_dies_get_one_clear_error(pool: JailPool) -> None:
    """Each of them ends as unavailable, to be repeated; none hangs, none is an answer."""
    async with hostile.loaded(pool, SPIN) as template:
        calls = [asyncio.create_task(template.ask(b"?", 100)) for _ in range(4)]
        asyncio.get_running_loop().call_later(0.1, zygote_of(pool).kill)  # a twentieth of the way to their deadline
        ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(end) for end in ends] == [JailUnavailable] * 4
    assert await works(pool)


@pytest.mark.parametrize("end", ["ctypes.string_at(0)", "os._exit(3)", "os.write(3, b'x'); os.abort()"])
async def test_a_one_shot_that_dies_answering_fails_alone(pool: JailPool, end: str) -> None:
    """A crash under a request is that call's end, an answer given before it counts, and the version lives on."""
    source = f"import ctypes, os\ndef run(request):\n    if request == b'die':\n        {end}\n    return b'alive'"
    async with hostile.loaded(pool, source.encode()) as template:
        if "write" in end:
            assert await template.ask(b"die", 100) == b"x"
        else:
            with pytest.raises(WorkerMisbehaved):
                await template.ask(b"die", 100)
        assert await template.ask(b"live", 100) == b"alive"


async def test_without_memory_a_load_is_refused() -> None:
    """A model that does not fit is refused by name, within its deadline; a smaller one still loads."""
    pool = await JailPool.start(JailSettings(memory_bytes_max=24 * 2**20, load_deadline_ms=5_000))
    try:
        large = linear([1.0] + [0.0] * 3_000_000)
        fields = [{"name": f"f{number}", "type": "number", "missing": "nan"} for number in range(3)]
        refusal = await pool.inspect(Program(manifest(fields), content(large), {}))
        assert refusal.reasons
        assert await works(pool)
    finally:
        await pool.close()


async def test_without_processes_nothing_is_had() -> None:
    """Where the machine gives no process, the pool is unavailable at once, whichever of its forks it is that fails."""
    if os.getuid() == 0 and not harness.privileged():
        pytest.skip("the kernel does not count the processes of a container's root that cannot become nobody")
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, hard))
    try:
        with pytest.raises(JailUnavailable):
            await JailPool.start(JailSettings())
    finally:
        resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))


async def test_a_template_out_of_processes_fails_its_own_calls(pool: JailPool) -> None:
    """A hostile version that uses up its processes has no one-shot left; others have theirs."""
    fill = (
        b"import os\ntry:\n    while os.fork():\n        pass\n    os.read(3, 1)\nexcept BlockingIOError:\n    pass\n"
        b"def run(request):\n    return b'x'"
    )
    result = await pool.drill(fill)
    assert result.ended == "ended"
    assert await works(pool)


@pytest.mark.parametrize(
    "words",
    ["channel.REPORT", "channel.HEADER.pack(channel.REPORT, 9)", "channel.HEADER.pack(channel.REPORT, 9) + b'['"],
)
async def test_a_report_cut_short_is_a_refusal(pool: JailPool, words: str) -> None:
    """Half a header, a header alone, half a body: the end of the template, not a wait for the rest."""
    source = f"import os\nfrom sandbox.jail import channel\nos.write(3, {words})\nos._exit(0)"
    assert (await pool.drill(source.encode())).ended == "ended"


async def test_an_oversized_request_never_leaves(pool: JailPool) -> None:
    """A vector beyond the bound is the caller's fault; one at the bound arrives, whole."""
    await pool.load("v", PROGRAM)
    assert (await pool.score("v", bytes(channel.REQUEST_BYTES_MAX + 1))).status is ScoreStatus.BAD_REQUEST
    echo = b"def run(request):\n    return b'%d' % len(request)"
    assert (await pool.drill(echo, bytes(channel.REQUEST_BYTES_MAX))).answer == b"%d" % channel.REQUEST_BYTES_MAX


async def test_a_hundred_hostile_bundles_in_a_row(pool: JailPool) -> None:
    """Garbage and mutated models: each refused with a reason, no descriptor left behind, and an honest one works."""
    assert await works(pool)
    generator = np.random.default_rng(3)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(100):
        body = bytearray(PROGRAM.content if number % 2 else generator.bytes(2_000))
        body[int(generator.integers(len(body)))] ^= 0xFF
        body[: int(generator.integers(1, 40))] = b"\xff"
        assert (await pool.inspect(Program(PROGRAM.manifest, bytes(body), {}))).reasons
    assert len(os.listdir("/proc/self/fd")) <= before + 4  # spares being made
    assert await works(pool)


_WEAKER = """
import asyncio, os
from pathlib import Path
from sandbox.errors import JailUnavailable
from sandbox.jail.pool import JailPool
from sandbox.jail.settings import JailSettings

async def main():
    pool = await JailPool.start(JailSettings())
    print("on" if pool.walls["user_namespace"]["on"] else "off", flush=True)
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    try:
        print((await pool.drill(b"def run(request):\\n    return b'x'")).ended)
    except JailUnavailable:
        print("unavailable")
    await pool.close()

asyncio.run(main())
"""


def test_a_later_template_has_no_fewer_walls_than_the_first() -> None:
    """Where namespaces run out after the start, there is no template rather than one without them."""
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", _WEAKER]
    result = subprocess.run(command, cwd=harness.ROOT, capture_output=True, text=True, timeout=60, check=False)
    words = result.stdout.split()
    if words[:1] != ["on"] or "PermissionError" in result.stderr:
        pytest.skip(f"no namespace within a namespace here: {result.stderr[-200:]}")
    assert words == ["on", "unavailable"]
