"""Uploads hold megabytes in memory while they last: one an organisation, so many at once, none for ever."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from enclave_api.errors import Busy, RequestInvalid
from enclave_api.identity import Principal

UPLOADS_MAX = 8  # a load of 200,000 rows or a bundle of 64 MiB each: about 1 GB together
PART_DEADLINE_S = 30.0  # for the next part; a sender that says nothing would keep a place from others
UPLOAD_DEADLINE_S = 300.0  # for all parts: 64 MiB at 2 Mbit/s

T = TypeVar("T")


@dataclass
class Uploads:
    """Places for uploads, shared by all services of a server."""

    _busy: set[str] = field(default_factory=set)

    @asynccontextmanager
    async def place(self, who: Principal) -> AsyncIterator[None]:
        """Takes the organisation's place for as long as the block lasts; raises Busy where it or all are taken."""
        holder = f"{who.role}/{who.organisation}"
        if holder in self._busy or len(self._busy) >= UPLOADS_MAX:
            raise Busy("uploads", public="your organisation has one" if holder in self._busy else "")
        self._busy.add(holder)
        try:
            yield
        finally:
            self._busy.discard(holder)


async def timed(parts: AsyncIterator[T]) -> AsyncIterator[T]:
    """The parts of an upload as they come; raises RequestInvalid where they come too slowly."""
    clock = asyncio.get_running_loop().time
    end = clock() + UPLOAD_DEADLINE_S
    while True:
        try:
            # Around the wait alone: what the taker does with a part is not the sender's time.
            async with asyncio.timeout_at(min(end, clock() + PART_DEADLINE_S)):
                part = await anext(parts, None)
        except TimeoutError as error:
            public = f"the upload stood still for {PART_DEADLINE_S:.0f} s, or took more than {UPLOAD_DEADLINE_S:.0f} s"
            raise RequestInvalid("slow", public=public) from error
        if part is None:
            return
        yield part
