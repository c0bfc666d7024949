"""One HTTP request whose end comes when it was said, whatever the other side does: for servers that are not trusted.

A socket's timeout is for each read. Who sends a byte now and then, or one interim answer after another, would hold the
caller for ever; so here the connection itself is cut when the time is over.
"""

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from urllib.parse import urlsplit


class _Timed(HTTPConnection):
    """A connection that is cut `timeout` seconds after it was made."""

    cut = False  # whether it was
    _timer: threading.Timer | None = None

    def connect(self) -> None:
        """Connect, and start the clock: TLS, where there is any, comes after this."""
        super().connect()
        self._twin = self.sock.dup()  # TLS takes the descriptor away from the socket that is known here
        self._timer = threading.Timer(float(self.timeout or 0), self._cut)
        self._timer.daemon = True
        self._timer.start()

    def close(self) -> None:
        """Close, and stop the clock."""
        super().close()
        if self._timer is not None:
            self._timer.cancel()
            self._twin.close()

    def _cut(self) -> None:
        self.cut = True
        with suppress(OSError):
            self._twin.shutdown(socket.SHUT_RDWR)


class _TimedTls(HTTPSConnection, _Timed):
    """The same over TLS."""


@contextmanager
def asked(
    method: str, url: str, timeout_s: float, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Iterator[HTTPResponse]:
    """Make a request; no redirect is followed and no proxy of the environment is used.

    Args:
        method: GET or POST.
        url: http or https, without query.
        timeout_s: to connect, and again from then to the end of the block.
        body: of the request.
        headers: likewise.

    Raises:
        OSError, http.client.HTTPException, ValueError: no answer; TimeoutError too where the block took too long.
    """
    parts = urlsplit(url)
    kind = _TimedTls if parts.scheme == "https" else _Timed
    connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request(method, parts.path, body, dict(headers or {}))
        yield connection.getresponse()
        if connection.cut:  # a body that was cut may look whole
            raise TimeoutError
    finally:
        connection.close()
