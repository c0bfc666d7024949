"""Heavy reads, off the event loop: so many threads, so many under way or waiting, and beyond that a clear no."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from enclave_api.errors import Busy

T = TypeVar("T")


class Reads:
    """Threads of their own for one kind of reads, so that a flood of these holds up nothing else."""

    def __init__(self, name: str, threads: int, most: int) -> None:
        """No thread is started yet.

        Args:
            name: of the threads, and what a refusal calls the reads.
            threads: reads under way at once.
            most: reads under way or waiting.
        """
        self._name, self._most, self._now = name, most, 0
        self._pool = ThreadPoolExecutor(threads, name)

    async def run(self, work: Callable[[], T]) -> T:
        """Do a read in a thread; raises Busy where too many are under way or waiting."""
        if self._now >= self._most:
            raise Busy(f"{self._name} reads")
        self._now += 1
        try:
            return await self.step(work)
        finally:
            self._now -= 1

    async def step(self, work: Callable[[], T]) -> T:
        """Do a part of something that is bounded by itself, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """Wait for what is under way; what waits is given up."""
        self._pool.shutdown(cancel_futures=True)
