"""A log read over HTTP, as C2SP tlog-tiles serves it: bounded in size and time, and from nowhere else than was said."""

import http
import http.client
import ipaddress
import time
import zlib
from typing import Final
from urllib.parse import urlsplit

from audit.errors import EntryUnknown, LedgerCorrupt, LogUnreachable
from audit.http_client import asked
from audit.note import NOTE_BYTES_MAX
from audit.source import CHECKPOINT, TILE_BYTES_MAX, cut
from audit.tiles import TILE_WIDTH, Tile

TIMEOUT_S: Final = 20.0  # a whole file: 16 MB, the largest bundle there can be, over a line of 10 Mbit/s
_PART_BYTES: Final = 1 << 16
_GZIP: Final = 31  # zlib's window bits for "gzip only"
_ENCODINGS: Final = {"", "identity", "gzip"}


class HttpSource:
    """A LogSource behind a URL prefix. Where a partial tile is gone, the full one stands in for it (tlog-tiles)."""

    def __init__(self, prefix: str, *, timeout_s: float = TIMEOUT_S, allow_http: bool = False) -> None:
        """Nothing is asked yet.

        Args:
            prefix: what the log's paths are appended to, with or without a slash at its end.
            timeout_s: for each file, from asking to its last byte.
            allow_http: take plain HTTP from another machine too. What is read is verified, but who reads is seen.

        Raises:
            LogUnreachable: no http or https URL, or plain HTTP to another machine.
        """
        try:
            parts = urlsplit(prefix)
            host = parts.hostname or ""
        except ValueError as error:
            raise LogUnreachable("url", public=f"{prefix} is no URL") from error
        if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
            raise LogUnreachable("url", public=f"{prefix} is no http or https URL of a log")
        if parts.scheme == "http" and not (allow_http or _is_loopback(host)):
            raise LogUnreachable("url", public=f"{prefix}: plain http is for this machine; use https")
        self._prefix, self._timeout_s = prefix.rstrip("/"), timeout_s

    def checkpoint(self) -> str:
        """As LogSource; raises LogUnreachable too."""
        try:
            return self._read(CHECKPOINT, NOTE_BYTES_MAX).decode()
        except UnicodeDecodeError as error:
            raise LedgerCorrupt("the checkpoint is not text") from error

    def read(self, tile: Tile) -> bytes:
        """As LogSource; raises LogUnreachable too."""
        try:
            return self._read(tile.path, TILE_BYTES_MAX)
        except EntryUnknown:
            if tile.width == TILE_WIDTH:
                raise
        return cut(self._read(Tile(tile.level, tile.index).path, TILE_BYTES_MAX), tile)

    def _read(self, path: str, most: int) -> bytes:
        url, until = f"{self._prefix}/{path}", time.monotonic() + self._timeout_s
        try:
            with asked("GET", url, self._timeout_s, headers={"Accept-Encoding": "gzip, identity"}) as reply:
                _check_status(reply, path, url)
                encoding = reply.headers.get("Content-Encoding", "").lower()
                data = _read_bounded(reply, path, most, until)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise LogUnreachable(type(error).__name__, public=f"{url}: no answer") from error
        if encoding not in _ENCODINGS:
            raise LogUnreachable("encoding", public=f"{url}: an encoding that was not asked for")
        return _inflate(data, path, most) if encoding == "gzip" else data


def _check_status(reply: http.client.HTTPResponse, path: str, url: str) -> None:
    if reply.status in (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.GONE):
        raise EntryUnknown(f"no {path}", public=f"{url} is not there")
    if reply.status != http.HTTPStatus.OK:  # a redirect too: what is asked is what was named
        raise LogUnreachable(f"status {reply.status}", public=f"{url}: status {reply.status}")


def _read_bounded(reply: http.client.HTTPResponse, path: str, most: int, until: float) -> bytes:
    promised = None if reply.chunked else reply.length  # neither counts down nor is checked by read1
    parts, length = list[bytes](), 0
    while length != promised and (part := reply.read1(_PART_BYTES)):
        parts.append(part)
        length += len(part)
        if length > most:
            raise LedgerCorrupt(f"{path} is too long")
        if time.monotonic() > until:
            raise TimeoutError
    if promised is not None and length != promised:
        raise http.client.IncompleteRead(b"", promised - length)
    return b"".join(parts)


def _inflate(data: bytes, path: str, most: int) -> bytes:
    stream = zlib.decompressobj(_GZIP)
    try:
        whole = stream.decompress(data, most + 1)
    except zlib.error as error:
        raise LedgerCorrupt(f"{path} does not decompress") from error
    if len(whole) > most or not stream.eof or stream.unused_data:
        raise LedgerCorrupt(f"{path} is cut, or too long when decompressed")
    return whole


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
