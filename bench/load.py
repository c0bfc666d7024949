"""Load: the same number of calls through any asynchronous call, so many in flight; latencies and throughput."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """Sorted latencies in ms, and calls a second."""

    latencies: Sequence[float]
    per_s: float

    def percentile(self, share: float) -> float:
        """The latency below which `share` of the calls lie."""
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * share))]


async def drive(call: Callable[[int], Awaitable[object]], first: int, count: int, in_flight: int) -> Result:
    """Makes calls number `first` to `first + count - 1`, `in_flight` at a time."""
    numbers, latencies = iter(range(first, first + count)), []

    async def caller() -> None:
        for number in numbers:
            began = time.perf_counter()
            await call(number)
            latencies.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return Result(sorted(latencies), count / (time.perf_counter() - began))
