"""What a stranger's connection to an HTTP door may cost: how many there are, and how long each may take for its turn.

uvicorn ends a connection that is idle between two requests. One that never asks, asks a byte at a time, or does not
read its answer, it would keep for ever; and every connection is a descriptor of the process, which its database and its
callers need too.
"""

import asyncio
from typing import Final

from uvicorn.protocols.http.h11_impl import H11Protocol

TURN_S: Final = 30.0  # beyond the keep-alive: 16 MB, the longest answer there is, over a line of 5 Mbit/s
REFUSED_MAX: Final = 64  # connections above `limit_concurrency` that are still told 503; the rest are just closed


class Connection(H11Protocol):
    """One connection. From its beginning, or the end of an answer, to the end of the next takes only so long."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it; one too many ends at once."""
        super().connection_made(transport)
        if self.limit_concurrency is not None and len(self.connections) > self.limit_concurrency + REFUSED_MAX:
            transport.abort()
        else:
            self._begin_turn()

    def on_response_complete(self) -> None:
        """Begin the next turn."""
        self._begin_turn()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._end_turn()
        super().connection_lost(exc)

    def _begin_turn(self) -> None:
        self._end_turn()
        self._late = self.loop.call_later(self.timeout_keep_alive + TURN_S, self.transport.abort)

    def _end_turn(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
