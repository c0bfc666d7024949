"""What a hostile process can do with the one thing that it has: its channel."""

import pytest

from sandbox.jail import channel, peer
from sandbox.jail.pool import JailPool, Program
from sandbox.jail.status import ScoreStatus
from tests.redteam import hostile
from tests.unit.jail.models import content, linear, manifest, vector

_IMPORTS = "import os\nfrom sandbox.jail import channel\n"


@pytest.mark.parametrize(("size", "ended"), [(65_536, "answered"), (65_537, "ended"), (150_000, "ended")])
async def test_a_huge_answer_reaches_nobody(pool: JailPool, size: int, ended: str) -> None:
    """An answer beyond the bound is none; at the bound it arrives whole (the control)."""
    result = await pool.drill(b"def run(request):\n    return b'x' * %d" % size)
    assert (result.ended, len(result.answer)) == (ended, size if ended == "answered" else 0)


@pytest.mark.parametrize(("body", "ended"), [("while True: pass", "timeout"), ("return b'soon'", "answered")])
async def test_a_slow_answer_ends_at_the_deadline(pool: JailPool, body: str, ended: str) -> None:
    """Who computes on is ended at the deadline, and who does not answers."""
    assert (await pool.drill(f"def run(request):\n    {body}".encode())).ended == ended


async def test_no_answer_is_no_offer(pool: JailPool) -> None:
    """Who leaves without a word has said nothing, whatever its exit status."""
    for status in (0, 1, 42, 255):
        result = await pool.drill(b"import os\ndef run(request):\n    os._exit(%d)" % status)
        assert (result.ended, result.answer) == ("ended", b"")


async def test_of_two_answers_the_first_counts(pool: JailPool) -> None:
    """The second reaches nobody: the socket is the call's own and is closed after one message."""
    source = b"import os\ndef run(request):\n    os.write(3, b'first')\n    return b'second'"
    assert (await pool.drill(source)).answer == b"first"
    async with hostile.loaded(pool, source) as template:
        assert [await template.ask(b"?", 100) for _ in range(3)] == [b"first"] * 3


@pytest.mark.parametrize(("process", "ended"), [("itself", "answered"), ("another", "ended")])
async def test_another_process_cannot_answer(pool: JailPool, process: str, ended: str) -> None:
    """The kernel stamps each message with its sender: only who was ready is believed (the control answers itself)."""
    result = await pool.drill(hostile.answering(process), b"hello")
    assert (result.ended, result.answer) == (ended, b"hello" if ended == "answered" else b"")


async def test_a_second_report_ends_a_template(pool: JailPool) -> None:
    """Who speaks unasked is taken for dead, and ended."""
    report = "channel.send_frame(3, channel.REPORT, channel.encode_report((), {}))"
    source = f"{_IMPORTS}{report}\ndef run(request):\n    pass"
    async with hostile.loaded(pool, source.encode()) as template:
        await peer.readable(template._handle.sock)
        assert not template.alive


@pytest.mark.parametrize(
    ("report", "ended"),
    [
        ("channel.HEADER.pack(channel.REPORT, channel.REPORT_BYTES_MAX + 1)", "ended"),
        ("channel.HEADER.pack(channel.FORK, 0)", "ended"),
        ("channel.HEADER.pack(channel.REPORT, 20) + b'[' * 20", "ended"),
        ("b''", "answered"),
    ],
)
async def test_a_template_that_says_too_much_is_ended(pool: JailPool, report: str, ended: str) -> None:
    """An oversized, a strange and a malformed report; the control adds nothing and works."""
    source = f"{_IMPORTS}os.write(3, {report})\ndef run(request):\n    return b'x'"
    assert (await pool.drill(source.encode())).ended == ended


async def test_an_answer_too_long_for_a_limit_is_a_failure(pool: JailPool) -> None:
    """A limit has nine bytes; one more and the call makes no offer."""
    async with hostile.loaded(pool, b"def run(request):\n    return bytes(9 + request[0])") as template:
        assert await template.ask(b"\0", channel.ANSWER.size) == bytes(9)
        with pytest.raises(Exception, match="no answer"):
            await template.ask(b"\1", channel.ANSWER.size)


async def test_the_pool_goes_on(pool: JailPool) -> None:
    """After hostile drills an honest version answers as ever."""
    assert (await pool.load("v", Program(manifest(), content(linear()), {}))).admitted
    await pool.drill(b"def run(request):\n    while True: pass")
    answer = await pool.score("v", vector(7.0, 0, 0))
    assert (answer.status, answer.value) == (ScoreStatus.OK, 7.0)
