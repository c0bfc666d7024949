"""The jail with real processes: what it answers, what it survives, and what its walls stop.

A hostile model cannot be made from admitted ONNX, so the walls are tried by drills: Python that runs in a model's place
and does what a model that has taken over its process would do.
"""

import asyncio
import os
import select
import signal
import struct
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from onnx import helper

from sandbox.errors import JailUnavailable
from sandbox.jail import channel, processes
from sandbox.jail.pool import JailPool, Program
from sandbox.jail.settings import JailSettings
from sandbox.jail.status import ScoreStatus
from tests.unit.jail import models
from tests.unit.jail.models import content, linear, manifest, unary, vector

Survey = dict[str, dict[str, str]]
SETTINGS = JailSettings(score_deadline_ms=2_000, load_deadline_ms=8_000, memory_bytes_max=256 * 2**20)


def program(body: bytes | None = None) -> Program:
    """A program that answers its first field."""
    return Program(manifest(), content(linear()) if body is None else body, {})


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[JailPool]:
    """A running pool, closed again."""
    made = await JailPool.start(SETTINGS)
    yield made
    await made.close()


async def test_every_wall_is_on_and_says_why(pool: JailPool) -> None:
    """On a machine with user namespaces, Landlock and seccomp nothing is missing, and each wall is explained."""
    missing = {name: wall["why"] for name, wall in pool.walls.items() if not wall["on"]}
    if any("clone" in str(why) for why in missing.values()):
        pytest.skip(f"this machine refuses user namespaces: {missing}")
    assert not missing
    assert len(pool.walls) >= 20
    assert all(wall["why"] for wall in pool.walls.values())


async def test_a_loaded_version_answers(pool: JailPool) -> None:
    """Each call gets its own number back, one by one and all at once."""
    report = await pool.load("v", program())
    assert report.admitted
    assert pool.loaded("v")
    answer = await pool.score("v", vector(123_456.0, 0, 0))
    assert (answer.status, answer.value) == (ScoreStatus.OK, 123_456.0)
    answers = await asyncio.gather(*(pool.score("v", vector(float(i), 0, 0)) for i in range(60)))
    assert [a.value for a in answers] == [float(i) for i in range(60)]


async def test_what_a_model_does_wrong_is_a_status(pool: JailPool) -> None:
    """Not a number, declined, and requests that no record could give."""
    await pool.load("nan", program(content(unary("Sqrt"))))
    assert (await pool.score("nan", vector(-1.0, 0, 0))).status is ScoreStatus.MODEL_FAILURE
    assert (await pool.score("nan", vector(4.0, 0, 0))).value == 2.0
    for request in (b"", b"x", vector(1.0), bytes(100_000)):
        answer = await pool.score("nan", request)
        assert (answer.status, answer.value) == (ScoreStatus.BAD_REQUEST, 0.0)


async def test_refused_programs_are_not_kept(pool: JailPool) -> None:
    """A refusal has the worker's reasons, and what was loaded before stays."""
    await pool.load("v", program())
    loop = models.model([helper.make_node("Loop", ["X"], ["score"])])
    for attempt in (await pool.load("v", program(content(loop))), await pool.inspect(program(content(loop)))):
        assert [reason.code for reason in attempt.reasons] == ["operator_refused"]
    assert (await pool.score("v", vector(5.0, 0, 0))).value == 5.0
    assert (await pool.inspect(program())).admitted
    assert not (await pool.inspect(Program(b"{}", b"", {}))).admitted
    with pytest.raises(JailUnavailable):
        await pool.score("other", vector(5.0, 0, 0))


async def test_unload_forgets(pool: JailPool) -> None:
    """An unloaded version answers no more, and unloading twice is fine."""
    await pool.load("v", program())
    await pool.unload("v")
    await pool.unload("v")
    assert not pool.loaded("v")
    with pytest.raises(JailUnavailable):
        await pool.score("v", vector(1.0, 0, 0))


async def test_a_new_version_under_load_fails_no_call(pool: JailPool) -> None:
    """Calls that began on the old template end there; the others are answered by the new one."""
    await pool.load("v", program())
    calls = [asyncio.create_task(pool.score("v", vector(7.0, 0, 0))) for _ in range(20)]
    await asyncio.sleep(0)
    await pool.load("v", program(content(unary("Neg", "Neg"))))
    calls += [asyncio.create_task(pool.score("v", vector(7.0, 0, 0))) for _ in range(5)]
    assert {(a.status, a.value) for a in await asyncio.gather(*calls)} == {(ScoreStatus.OK, 7.0)}


async def test_a_dead_template_is_replaced(pool: JailPool) -> None:
    """A killed template is loaded again from its program; calls under it get an answer or one retryable error."""
    await pool.load("v", program())
    os.kill(pool._templates["v"]._handle.sender, signal.SIGKILL)
    answers = await asyncio.gather(*(pool.score("v", vector(3.0, 0, 0)) for _ in range(5)), return_exceptions=True)
    for answer in answers:
        assert isinstance(answer, JailUnavailable) or getattr(answer, "value", None) == 3.0
    assert (await pool.score("v", vector(3.0, 0, 0))).value == 3.0


async def test_a_dead_zygote_is_replaced(pool: JailPool) -> None:
    """Everything it forked dies with it; the next call starts anew."""
    await pool.load("v", program())
    zygote, template = pool._zygote, pool._templates["v"]._handle.sender
    assert zygote is not None
    handle = os.pidfd_open(template)
    zygote._process.kill()
    _assert_ends(handle)
    answer = await pool.score("v", vector(3.0, 0, 0))
    assert answer.value == 3.0
    assert pool._templates["v"]._handle.sender != template
    assert pool._zygote is not zygote


async def test_a_killed_one_shot_fails_its_call_alone(pool: JailPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A one-shot that dies under a request is the model's failure, and the next call is answered."""
    await pool.load("v", program())
    exchange = processes.Template._exchange

    async def killed(self: processes.Template, one_shot: processes.Handle, request: bytes, size_max: int) -> bytes:
        os.kill(one_shot.sender, signal.SIGKILL)
        return await exchange(self, one_shot, request, size_max)

    monkeypatch.setattr(processes.Template, "_exchange", killed)
    assert (await pool.score("v", vector(3.0, 0, 0))).status is ScoreStatus.MODEL_FAILURE
    monkeypatch.undo()
    assert (await pool.score("v", vector(3.0, 0, 0))).value == 3.0


async def test_idle_versions_give_way() -> None:
    """Beyond the bound the least recently used template goes, and comes back when it is called."""
    pool = await JailPool.start(JailSettings(templates_max=2, spare=1))
    try:
        for key in ("a", "b", "c"):
            assert (await pool.load(key, program())).admitted
        assert set(pool._templates) == {"b", "c"}
        assert (await pool.score("a", vector(4.0, 0, 0))).value == 4.0
        assert set(pool._templates) == {"c", "a"}
    finally:
        await pool.close()


async def test_close_leaves_no_process(pool: JailPool) -> None:
    """Zygote, template and one-shots end with the pool."""
    await pool.load("v", program())
    assert pool._zygote is not None
    ids = [pool._zygote._process.pid, pool._templates["v"]._handle.sender]
    ids += [one_shot.sender for one_shot in pool._templates["v"]._ready]
    handles = [os.pidfd_open(pid) for pid in ids]
    await pool.close()
    for handle in handles:
        _assert_ends(handle)


def _assert_ends(handle: int) -> None:
    poll = select.poll()
    poll.register(handle, select.POLLIN)  # readable once its process has ended
    assert poll.poll(5_000)
    os.close(handle)


# --- the walls, tried -------------------------------------------------------------------------------------------------

PRELUDE = """
import ctypes, os, socket, signal, struct
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return str(result).encode()
"""

# what a taken-over process would try first; x86-64 numbers where Python has no function
ATTEMPTS = {
    "open a file": "os.open('/etc/passwd', os.O_RDONLY)",
    "open the process table": "os.open('/proc/self/maps', os.O_RDONLY)",
    "list the root": "os.listdir('/')",
    "create a file": "os.open('/x', os.O_CREAT | os.O_WRONLY)",
    "open an internet socket": "socket.socket()",
    "open a unix socket": "socket.socket(socket.AF_UNIX)",
    "open a netlink socket": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "make a socket pair": "socket.socketpair()",
    "make a pipe": "os.pipe()",
    "make a memory file": "os.memfd_create('x')",
    "fork": "os.fork()",
    "run a program": "os.execv('/bin/sh', ['sh'])",
    "signal the template": "os.kill(1, signal.SIGKILL)",
    "signal itself": "os.kill(os.getpid(), 0)",
    "wait for a child": "os.wait()",
    "trace the template": "call(101, 16, 1, 0, 0)",
    "read the template's memory": "call(310, 1, None, 0, None, 0, 0)",
    "mount": "call(165, b'none', b'/', b'tmpfs', 0, None)",
    "leave the namespace": "call(308, 0, 0)",
    "make a namespace": "call(272, 0x10000000)",
    "change the root": "call(161, b'/')",
    "io_uring": "call(425, 1, None)",
    "userfaultfd": "call(323, 0)",
    "bpf": "call(321, 0, None, 0)",
    "keyrings": "call(250, 0, -3, 1)",
    "perf events": "call(298, None, 0, -1, -1, 0)",
    "system V shared memory": "call(29, 1, 4096, 0o1777)",
    "message queues": "call(240, b'/x', 0o102, 0o600, None)",
    "executable memory": "call(9, None, 4096, 7, 0x22, -1, 0)",
    "shared memory": "call(9, None, 4096, 3, 0x21, -1, 0)",
    "be dumpable again": "call(157, 4, 1, 0, 0, 0)",
    "loosen the filter": "call(317, 1, 0, None)",
    "duplicate the channel": "os.dup(3)",
    "steal a descriptor": "call(438, 3, 0, 0)",
}


@pytest.fixture(scope="module")
def survey() -> Survey:
    """Every attempt in both positions, in one pool: name → position → how it ended."""

    async def gather() -> Survey:
        pool = await JailPool.start(SETTINGS)
        try:
            return {name: await both(pool, attempt) for name, attempt in ATTEMPTS.items()}
        finally:
            await pool.close()

    async def both(pool: JailPool, attempt: str) -> dict[str, str]:
        one_shot = f"{PRELUDE}\ndef run(request):\n    {attempt}\n    return b'done'"
        template = f"{PRELUDE}\n{attempt}\ndef run(request):\n    return b'done'"
        return {
            "one-shot": (await pool.drill(one_shot.encode())).ended,
            "template": (await pool.drill(template.encode())).ended,
        }

    return asyncio.run(gather())


@pytest.mark.parametrize("name", ATTEMPTS)
def test_a_one_shot_that_reaches_out_is_killed(name: str, survey: Survey) -> None:
    """Each attempt ends the process before it can say that it was done."""
    assert survey[name]["one-shot"] == "ended"


@pytest.mark.parametrize("name", sorted(set(ATTEMPTS) - {"fork", "duplicate the channel", "loosen the filter"}))
def test_a_template_that_reaches_out_is_killed(name: str, survey: Survey) -> None:
    """The template's walls stop the same, but for what it needs to make one-shots."""
    assert survey[name]["template"] == "ended"


async def test_the_drill_itself_works(pool: JailPool) -> None:
    """The control: a harmless drill answers, so that `ended` above means killed; errors come back as text."""
    done = await pool.drill(f"{PRELUDE}\ndef run(request):\n    return request + b'!'".encode(), b"hello")
    assert (done.ended, done.answer) == ("answered", b"hello!")
    failed = await pool.drill(b"def run(request):\n    raise ValueError('no')")
    assert failed.answer == b"!ValueError: no"
    assert (await pool.drill(b"1 / 0")).answer.startswith(b"!ZeroDivisionError")


async def test_memory_and_time_are_bounded(pool: JailPool) -> None:
    """A memory bomb is a failed allocation, a loop ends at the deadline, and the pool goes on."""
    bomb = await pool.drill(b"def run(request):\n    return b'%d' % len(bytearray(2 ** 30))")
    assert bomb.answer.startswith(b"!MemoryError")
    assert (await pool.drill(b"def run(request):\n    while True: pass")).ended == "timeout"
    assert (await pool.drill(b"def run(request):\n    return b'ok'")).answer == b"ok"


async def test_answers_are_bounded(pool: JailPool) -> None:
    """An oversized answer and a second one reach nobody."""
    huge = await pool.drill(b"def run(request):\n    return b'x' * 100_000")
    assert (huge.ended, huge.answer) == ("ended", b"")
    twice = await pool.drill(b"import os\ndef run(request):\n    os.write(3, b'first')\n    return b'second'")
    assert twice.answer == b"first"


async def test_no_state_is_left_for_the_next_call(pool: JailPool) -> None:
    """What one call changes in its memory, the next does not see."""
    template = await pool._open()
    try:
        source = b"seen = []\ndef run(request):\n    seen.append(request)\n    return b'|'.join(seen)"
        assert (await template.load(channel.DRILL, source)).reasons == ()
        assert [await template.ask(request, 100) for request in (b"a", b"b", b"c")] == [b"a", b"b", b"c"]
    finally:
        template.kill()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00",
        struct.pack("<Bd", 0, float("nan")),
        struct.pack("<Bd", 0, float("inf")),
        struct.pack("<Bd", 0, -1.0),
        struct.pack("<Bd", 9, 1.0),
    ],
)
async def test_odd_answers_are_a_model_failure(pool: JailPool, monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    """Wrong sizes, unknown statuses and numbers that no limit can be."""

    async def odd(*_: object) -> bytes:
        return answer

    await pool.load("v", program())
    monkeypatch.setattr(processes.Template, "ask", odd)
    assert (await pool.score("v", vector(1.0, 0, 0))).status is ScoreStatus.MODEL_FAILURE


async def test_a_crash_or_a_loop_while_loading_is_a_refusal(pool: JailPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What kills a template while it loads a model is a reason, not an error of the server."""

    def loading(source: bytes) -> Callable[..., object]:
        load = processes.Template.load
        return lambda self, kind, body: load(self, channel.DRILL, source)

    monkeypatch.setattr(processes.Template, "load", loading(b"import os; os.open('/', 0)"))
    assert [r.code for r in (await pool.inspect(program())).reasons] == ["model_crashed"]
    monkeypatch.undo()
    monkeypatch.setattr(processes.Template, "load", loading(b"while True: pass"))
    pool._settings = JailSettings(load_deadline_ms=300)
    assert [r.code for r in (await pool.inspect(program())).reasons] == ["model_timeout"]
    monkeypatch.undo()
    pool._settings = SETTINGS
    assert (await pool.inspect(program())).admitted


async def test_descriptors_are_not_leaked(pool: JailPool) -> None:
    """After many calls, refusals and reloads the server holds no more descriptors than before."""
    await pool.load("v", program())
    await pool.score("v", vector(1.0, 0, 0))

    async def settled() -> int:
        while greeting := [task for template in pool._templates.values() for task in template._greeting]:
            await asyncio.wait(greeting)
        return len(os.listdir("/proc/self/fd"))

    before = await settled()
    for _ in range(3):
        await asyncio.gather(*(pool.score("v", vector(1.0, 0, 0)) for _ in range(10)))
        await pool.inspect(program(b"\xff"))
        await pool.load("v", program())
    assert await settled() <= before
