"""A pool behind every wall."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sandbox.jail.pool import JailPool
from sandbox.jail.settings import JailSettings

# a machine that does other things as well may need seconds for a fork: no test is about that deadline
SETTINGS = JailSettings(
    score_deadline_ms=2_000, process_deadline_ms=8_000, load_deadline_ms=8_000, memory_bytes_max=256 * 2**20
)


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[JailPool]:
    """A running pool, closed again; skips where the machine refuses the namespaces."""
    made = await JailPool.start(SETTINGS)
    try:
        if not made.walls["user_namespace"]["on"]:
            pytest.skip(f"this machine refuses namespaces: {made.walls['user_namespace']['why']}")
        yield made
    finally:
        await made.close()
