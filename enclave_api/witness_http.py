"""The witness's door: C2SP tlog-witness over HTTP. Requests are anonymous; the signatures in them are what counts."""

import asyncio
import socket
import time

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from audit.errors import CheckpointDeclined
from audit.witness import REQUEST_BYTES_MAX, SIZE_TYPE
from audit.witness_state import Witness
from enclave_api.errors import AddressTaken
from enclave_api.http_connection import Connection

BODY_S = 10.0  # a body of 3 kB that takes longer is no log's
HEADER_BYTES_MAX = 8_192  # request line and headers; the longest path has 76 bytes
CONNECTIONS_MAX = 128  # a log has one or two; beyond this answer 503 rather than use up descriptors
IDLE_S = 75  # keep-alive: longer than a log's pause between two checkpoints
GRACE_S = 5  # requests under way at a stop

_log = structlog.get_logger("heixia.witness")


def make_app(witness: Witness) -> Starlette:
    """The two addresses of a witness; anything else is 404, another method 405."""

    async def add_checkpoint(request: Request) -> Response:
        return await _add(witness, request)

    async def latest(request: Request) -> Response:
        note = witness.latest(request.path_params["origin_hash"])
        if note is None:
            return PlainTextResponse("no checkpoint of that log was cosigned here\n", 404)
        return PlainTextResponse(note, headers={"Cache-Control": "no-cache"})

    return Starlette(
        routes=[
            Route("/add-checkpoint", add_checkpoint, methods=["POST"]),
            Route("/{origin_hash:str}/checkpoint", latest, methods=["GET"]),
        ]
    )


def bind(address: str, option: str = "--listen") -> socket.socket:
    """Listen on HOST:PORT; raises AddressTaken, which names the option."""
    host, _, port = address.rpartition(":")
    try:
        if not host or not port.isdigit():
            raise AddressTaken("listen", public=f"{address} for {option} is not HOST:PORT")
        bare = host.strip("[]")
        return socket.create_server((bare, int(port)), family=socket.AF_INET6 if ":" in bare else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise AddressTaken("listen", public=f"{address} for {option} is in use or not of this machine") from error


def serve(witness: Witness, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are finished first."""
    config = uvicorn.Config(
        make_app(witness),
        http=Connection,
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=HEADER_BYTES_MAX,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=GRACE_S,
        lifespan="off",
        ws="none",
    )
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


async def _add(witness: Witness, request: Request) -> Response:
    began = time.monotonic()
    try:
        async with asyncio.timeout(BODY_S):
            body = await _bounded(request)
    except TimeoutError:
        return PlainTextResponse(f"the body took longer than {BODY_S:.0f} s\n", 408)
    except ClientDisconnect:
        return Response(status_code=400)  # nobody reads it
    if body is None:
        return PlainTextResponse(f"a request is at most {REQUEST_BYTES_MAX} bytes\n", 413)
    try:
        checkpoint, line = await run_in_threadpool(witness.add, body)
    except CheckpointDeclined as declined:
        return _declined(declined)
    except OSError as error:
        _log.error("checkpoint not kept, not cosigned", reason=error.strerror)
        return PlainTextResponse("the witness could not keep the checkpoint; repeat later\n", 503)
    ms = round(1000 * (time.monotonic() - began), 1)
    _log.info("cosigned", origin=checkpoint.origin, size=checkpoint.size, root=checkpoint.root.hex(), ms=ms)
    return PlainTextResponse(line)


def _declined(declined: CheckpointDeclined) -> Response:
    if declined.note:  # signed by the log, and not to be reconciled with what was cosigned: perhaps proof against it
        _log.warning("declined", status=declined.status, reason=str(declined), checkpoint=declined.note)
    else:
        _log.info("declined", status=declined.status, reason=str(declined))
    if declined.size is not None:
        return Response(f"{declined.size}\n", declined.status, {"content-type": SIZE_TYPE})  # no charset behind it
    return PlainTextResponse(f"{declined}\n", declined.status)


async def _bounded(request: Request) -> bytes | None:
    """Read the body; None where it is too long."""
    if int(request.headers.get("content-length", 0)) > REQUEST_BYTES_MAX:
        return None
    parts, length = list[bytes](), 0
    async for part in request.stream():
        length += len(part)
        if length > REQUEST_BYTES_MAX:
            return None
        parts.append(part)
    return b"".join(parts)
