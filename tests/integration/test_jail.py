"""The jail with real processes: what it answers and what it survives. What its walls stop is tried in tests/redteam."""

import asyncio
import contextlib
import os
import resource
import select
import signal
import struct
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from heixia.registry.v1 import bundle_pb2
from onnx import helper

from sandbox.errors import JailUnavailable
from sandbox.jail import channel, template_handle
from sandbox.jail.pool import JailPool, Program
from sandbox.jail.processes import Handle
from sandbox.jail.settings import JailSettings
from sandbox.jail.status import ScoreStatus
from tests.unit.jail import models
from tests.unit.jail.models import content, linear, manifest, unary, vector

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


async def test_what_is_forgotten_while_it_is_loaded_again_does_not_come_back(pool: JailPool) -> None:
    """A retired version leaves no template behind, though a call was just having it loaded."""
    await pool.load("v", program())
    pool._templates["v"].kill()
    call = asyncio.create_task(pool.score("v", vector(1.0, 0, 0)))
    await asyncio.sleep(0)
    await pool.unload("v")
    with pytest.raises(JailUnavailable):
        await call
    assert not pool._templates


async def test_what_is_replaced_while_it_is_loaded_again_answers_by_the_new_one(
    pool: JailPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that waits for a dead template's return is answered though another load was first."""
    await pool.load("v", program())
    pool._templates["v"].kill()
    load, replaced = JailPool._load, asyncio.Event()

    async def slow(self: JailPool, wanted: Program) -> object:
        made = await load(self, wanted)
        if not replaced.is_set():
            replaced.set()
            await pool.load("v", program(content(unary("Neg", "Neg"))))
        return made

    monkeypatch.setattr(JailPool, "_load", slow)
    assert (await pool.score("v", vector(5.0, 0, 0))).value == 5.0
    assert replaced.is_set()


async def test_many_rules_over_one_model_keep_one_copy_of_it(pool: JailPool) -> None:
    """A bundle's quota bounds what the server holds: each version of rules adds its rules alone."""
    model = content(linear((1.0, 0.0, 0.0)))
    rules = bundle_pb2.BundleContent().SerializeToString()
    await pool.load("model", Program(manifest(), model, {}))
    for key in ("first", "second"):
        await pool.load(key, Program(manifest(), rules, {}, bytes(bytearray(model))))
    held = {id(pool._programs[key].base) for key in ("first", "second")}
    assert held == {id(pool._programs["model"].content)}
    assert (await pool.score("second", vector(3.0, 0, 0))).value == 3.0


async def test_a_new_version_under_load_fails_no_call(pool: JailPool) -> None:
    """Calls that began on the old template end there; the others are answered by the new one."""
    await pool.load("v", program())
    calls = [asyncio.create_task(pool.score("v", vector(7.0, 0, 0))) for _ in range(20)]
    await asyncio.sleep(0)
    await pool.load("v", program(content(unary("Neg", "Neg"))))
    calls += [asyncio.create_task(pool.score("v", vector(7.0, 0, 0))) for _ in range(5)]
    assert {(a.status, a.value) for a in await asyncio.gather(*calls)} == {(ScoreStatus.OK, 7.0)}


async def test_a_dead_template_is_replaced(pool: JailPool) -> None:
    """A killed template is loaded again from its program; a call that it was given ends as the model's failure."""
    await pool.load("v", program())
    os.kill(pool._templates["v"]._handle.sender, signal.SIGKILL)
    answers = await asyncio.gather(*(pool.score("v", vector(3.0, 0, 0)) for _ in range(5)), return_exceptions=True)
    for answer in answers:
        failed = getattr(answer, "status", None) is ScoreStatus.MODEL_FAILURE
        assert failed or isinstance(answer, JailUnavailable) or getattr(answer, "value", None) == 3.0
    assert (await pool.score("v", vector(3.0, 0, 0))).value == 3.0


async def test_a_dead_zygote_is_replaced(pool: JailPool) -> None:
    """Everything it forked dies with it; the next call starts anew."""
    await pool.load("v", program())
    zygote, template = pool._zygote, pool._templates["v"]._handle.sender
    assert zygote is not None
    handle = os.pidfd_open(template)
    zygote._process.kill()
    assert_ends(handle)
    answer = await pool.score("v", vector(3.0, 0, 0))
    assert answer.value == 3.0
    assert pool._templates["v"]._handle.sender != template
    assert pool._zygote is not zygote


async def test_a_killed_one_shot_fails_its_call_alone(pool: JailPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A one-shot that dies under a request is the model's failure, and the next call is answered."""
    await pool.load("v", program())
    exchange = template_handle.Template._exchange

    async def killed(self: template_handle.Template, one_shot: Handle, request: bytes, size_max: int) -> bytes:
        os.kill(one_shot.sender, signal.SIGKILL)
        return await exchange(self, one_shot, request, size_max)

    monkeypatch.setattr(template_handle.Template, "_exchange", killed)
    assert (await pool.score("v", vector(3.0, 0, 0))).status is ScoreStatus.MODEL_FAILURE
    monkeypatch.undo()
    assert (await pool.score("v", vector(3.0, 0, 0))).value == 3.0


@pytest.mark.parametrize(
    ("settings", "stay"),
    [
        (JailSettings(templates_max=2), 2),
        (JailSettings(templates_bytes_max=1), 1),
        (JailSettings(templates_bytes_max=2**40), 3),
    ],
)
async def test_idle_versions_give_way(settings: JailSettings, stay: int) -> None:
    """Beyond a number or their memory the least recently used templates go, and come back when they are called."""
    pool = await JailPool.start(settings)
    try:
        for key in ("a", "b", "c"):
            assert (await pool.load(key, program())).admitted
        assert list(pool._templates) == ["a", "b", "c"][-stay:]
        assert (await pool.score("a", vector(4.0, 0, 0))).value == 4.0
        assert list(pool._templates)[-1] == "a"
        assert len(pool._templates) == stay
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
        assert_ends(handle)


def assert_ends(handle: int) -> None:
    """The process of a pidfd ends, and soon."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)  # readable once its process has ended
    assert poll.poll(5_000)
    os.close(handle)


# --- drills -----------------------------------------------------------------------------------------------------------


async def test_the_drill_itself_works(pool: JailPool) -> None:
    """A harmless drill answers, and errors come back as text; what the walls stop is tried in tests/redteam."""
    done = await pool.drill(b"def run(request):\n    return request + b'!'", b"hello")
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
    monkeypatch.setattr(template_handle.Template, "ask", odd)
    assert (await pool.score("v", vector(1.0, 0, 0))).status is ScoreStatus.MODEL_FAILURE


async def test_a_crash_or_a_loop_while_loading_is_a_refusal(pool: JailPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What kills a template while it loads a model is a reason, not an error of the server."""

    def loading(source: bytes) -> Callable[..., object]:
        load = template_handle.Template.load
        return lambda self, kind, body: load(self, channel.DRILL, source)

    monkeypatch.setattr(template_handle.Template, "load", loading(b"import os; os.open('/', 0)"))
    assert [r.code for r in (await pool.inspect(program())).reasons] == ["model_crashed"]
    monkeypatch.undo()
    monkeypatch.setattr(template_handle.Template, "load", loading(b"while True: pass"))
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


@pytest.mark.parametrize("constant_time", [True, False])
async def test_a_server_without_descriptors_gives_no_false_answer(constant_time: bool) -> None:
    """A call that has a process is answered, one that gets none may be repeated: never is it the model's failure."""
    pool = await JailPool.start(JailSettings(constant_time=constant_time, score_deadline_ms=200, spare=1))
    before, taken = resource.getrlimit(resource.RLIMIT_NOFILE), []

    async def take_all() -> None:
        while greeting := list(pool._templates["v"]._greeting):
            await asyncio.wait(greeting)
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))

    try:
        assert (await pool.load("v", program())).admitted
        few = len(os.listdir("/proc/self/fd")) + 100  # whatever the tests before this one left open
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, before[1]))
        await take_all()
        assert (await pool.score("v", vector(3.0, 0, 0))).value == 3.0
        await take_all()
        calls = (pool.score("v", vector(3.0, 0, 0)) for _ in range(3))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(a, JailUnavailable) or getattr(a, "value", None) == 3.0 for a in answers)
        await take_all()
        with pytest.raises(JailUnavailable):
            await pool.inspect(program())
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        await pool.close()
