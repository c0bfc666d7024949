"""Heavy reads: bounded, off the loop, and a flood of one kind holds up no other."""

import asyncio
import threading

import pytest

from enclave_api.errors import Busy
from enclave_api.reads import Reads


async def test_more_than_the_bound_are_refused_at_once() -> None:
    """Those under way and waiting count; when they end there is room again."""
    reads, go = Reads("some", 1, 3), threading.Event()
    waiting = [asyncio.create_task(reads.run(go.wait)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await reads.run(go.wait)
    go.set()
    assert await asyncio.gather(*waiting) == [True] * 3
    assert await reads.run(threading.get_ident) != threading.get_ident()
    reads.close()


async def test_a_flood_of_one_kind_holds_up_no_other() -> None:
    """Each kind has threads of its own, and a read that fails gives its place back."""
    full, other, go = Reads("full", 1, 1), Reads("other", 1, 1), threading.Event()
    stuck = asyncio.create_task(full.run(go.wait))
    await asyncio.sleep(0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await other.run(lambda: 1 // 0)
    assert await other.run(lambda: "answered") == "answered"
    go.set()
    assert await stuck
    full.close()
    other.close()
