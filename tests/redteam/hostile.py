"""Hostile drills: text that runs where a model would, and what a test needs to talk to it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sandbox.jail import channel
from sandbox.jail.pool import JailPool, Program
from sandbox.jail.template_handle import Template

# A template taken over while loading: it reports success itself and then takes its orders for itself. The imports find
# what the zygote has imported; the socket object was made before the filter, as making one asks the kernel things.
TAKE_OVER = """
import gc, os, socket, struct, _thread
from sandbox.jail import channel, walls
orders = next(o for o in gc.get_objects() if isinstance(o, socket.socket) and o.fileno() == 3)
channel.send_frame(3, channel.REPORT, channel.encode_report((), {}))
def next_order():
    return channel.receive_frame(orders, 0)[2]
def rest():
    lock = _thread.allocate_lock()
    while True:
        lock.acquire()
"""

# Each child forks its successor before it answers, and so hands on what it has read: the next call's answer.
REMEMBER = (
    TAKE_OVER
    + """
if os.fork():
    rest()
before = b"nobody"
while True:
    line = next_order()
    os.write(line, channel.READY)
    request = os.read(line, 1000)
    if os.fork():
        os.write(line, before)
        rest()
    before = request
"""
)


def answering(process: str) -> bytes:
    """A template whose one-shot has its answer written by "itself" or by "another" process."""
    return f"""{TAKE_OVER}
while True:
    line = next_order()
    if os.fork() == 0:
        os.write(line, channel.READY)
        request = os.read(line, 1000)
        if {process!r} == "itself" or os.fork() == 0:
            os.write(line, request)
        rest()
    os.close(line)
""".encode()


@asynccontextmanager
async def loaded(pool: JailPool, source: bytes) -> AsyncIterator[Template]:
    """A drill that stays loaded, to be asked more than once."""
    template = await pool._open()
    try:
        assert not (await template.load(channel.DRILL, source)).reasons
        yield template
    finally:
        template.kill()


async def load_hostile(pool: JailPool, key: str, source: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a drill loaded, and loaded again, wherever the pool loads a program, and load it under a key."""
    load = Template.load
    monkeypatch.setattr(Template, "load", lambda self, kind, body: load(self, channel.DRILL, source))
    assert (await pool.load(key, Program(b"", b"", {}))).admitted


def template_of(pool: JailPool, key: str) -> int:
    """The process id of a loaded version's template."""
    return pool._templates[key]._handle.sender
