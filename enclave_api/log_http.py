"""The log's open door: C2SP tlog-tiles over HTTP, read-only, to whoever reaches the address.

It is a thread of its own with its own event loop, and reads one file at a time: whoever reads the whole log waits for
himself, and takes from the calls no more than one thread's share of the interpreter.

Source: c2sp.org/tlog-tiles.
"""

import gzip
import re
import socket
import threading
from typing import Final

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from audit.errors import EntryUnknown, HeixiaError, ProofInvalid
from audit.note import head_of
from audit.source import CHECKPOINT, LogSource
from audit.tiles import ENTRIES, Tile, tile_of
from enclave_api.http_connection import Connection

CONNECTIONS_MAX: Final = 64  # beyond it 503: every connection is a descriptor
REQUEST_BYTES_MAX: Final = 8_192  # line and headers; the longest path has 60 bytes
IDLE_S: Final = 15  # between two requests on a connection
GRACE_S: Final = 2  # answers under way at a stop
GZIP_LEVEL: Final = 1  # hashes in JSON do not shrink below a half, however long one tries

_NO_WEIGHT: Final = re.compile(r"\s*q=0(\.0*)?\s*")
_TEXT: Final = "text/plain; charset=utf-8"
_BYTES: Final = "application/octet-stream"
# What is read stays: a tile's path says its width. A checkpoint is replaced with every commit; what is not there yet
# will be.
_FOREVER: Final = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
_NOW: Final = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
_NEVER: Final = {"Cache-Control": "no-store"}

_log = structlog.get_logger("heixia")


def make_app(source: LogSource) -> Starlette:
    """The addresses of a log under its published checkpoint, each in one spelling; any other is 404.

    Args:
        source: its `checkpoint` is the published one; no tile is answered that this one does not imply.
    """

    async def serve_file(request: Request) -> Response:
        # A path that was escaped, or a query behind it, would be a second spelling for caches to keep.
        scope = request.scope
        if scope["raw_path"] != scope["path"].encode() or scope["query_string"]:
            return _missing()
        try:
            return _answer(source, request)
        except (EntryUnknown, ProofInvalid):
            return _missing()
        except HeixiaError as error:
            _log.error("log not served", code=error.code)
            return Response("the log cannot be read; repeat later\n", 503, _NEVER, _TEXT)

    return Starlette(routes=[Route("/{path:path}", serve_file, methods=["GET", "HEAD"])])


def _answer(source: LogSource, request: Request) -> Response:
    path, note = request.scope["path"][1:], source.checkpoint()
    if path == CHECKPOINT:
        return Response(note, 200, _NOW, _TEXT)
    tile = Tile.parse(path)
    held = tile_of(tile.level, tile.index, head_of(note).size)
    if held is None or tile.width > held.width:
        return _missing()
    data = source.read(tile)
    if tile.level != ENTRIES:
        return Response(data, 200, _FOREVER, _BYTES)
    headers = {**_FOREVER, "Vary": "Accept-Encoding"}
    if _takes_gzip(request.headers.get("accept-encoding", "")):
        return Response(gzip.compress(data, GZIP_LEVEL, mtime=0), 200, {**headers, "Content-Encoding": "gzip"}, _BYTES)
    return Response(data, 200, headers, _BYTES)


def _missing() -> Response:
    return Response("not here\n", 404, _NEVER, _TEXT)


def _takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding names gzip, and not with a weight of zero (RFC 9110, 12.5.3)."""
    for item in accepted.lower().split(","):
        name, _, weight = item.partition(";")
        if name.strip() == "gzip":
            return not _NO_WEIGHT.fullmatch(weight)
    return False


class LogDoor:
    """Serves a log until `close`, on a thread of its own."""

    def __init__(self, source: LogSource, listener: socket.socket) -> None:
        config = uvicorn.Config(
            make_app(source),
            http=Connection,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",  # a warning for each malformed request would let anybody fill the server's log
            access_log=False,
            server_header=False,
            limit_concurrency=CONNECTIONS_MAX,
            h11_max_incomplete_event_size=REQUEST_BYTES_MAX,
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
        self._server, self._listener = uvicorn.Server(config), listener
        self._thread = threading.Thread(target=self._serve, name="log door", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The prefix under which the log's paths are answered."""
        host, port = self._listener.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"

    def close(self) -> None:
        """Finish the answers under way, then stop."""
        self._server.should_exit = True
        self._thread.join(GRACE_S + 1)

    def _serve(self) -> None:
        try:
            self._server.run(sockets=[self._listener])
        except (Exception, SystemExit) as error:  # the calls go on without it
            _log.error("log door closed", reason=type(error).__name__)
        finally:
            self._listener.close()
