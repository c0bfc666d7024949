"""Uploads hold megabytes in memory while they last: so many at once, and not for ever."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from enclave_api.errors import Busy

UPLOADS_MAX = 4  # a load of 200,000 rows or a bundle of 64 MiB each: below 1 GB together
UPLOAD_DEADLINE_S = 300.0  # 64 MiB at 2 Mbit/s; a slower sender would keep a place from others


@dataclass
class Uploads:
    """Places for uploads, shared by all services of a server."""

    free: int = field(default=UPLOADS_MAX)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Takes a place for as long as the block lasts; raises Busy where none is free or the time is over."""
        if self.free == 0:
            raise Busy("uploads")
        self.free -= 1
        try:
            async with asyncio.timeout(UPLOAD_DEADLINE_S):
                yield
        except TimeoutError as error:
            raise Busy("upload deadline", public="the upload took too long") from error
        finally:
            self.free += 1
