"""The server's end of the channels to walled processes: asynchronous, believes nothing of what comes."""

import array
import asyncio
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from sandbox.errors import WorkerMisbehaved
from sandbox.jail.channel import HEADER, REPORT_BYTES_MAX

_CREDENTIALS = struct.Struct("=iII")


@dataclass(frozen=True)
class Message:
    """What came, and the kernel's word on who sent it (0 = no word)."""

    body: bytes
    sender: int


def stream_pair() -> tuple[socket.socket, socket.socket]:
    """A channel to a template: (the server's end, the template's end)."""
    return _pair(socket.SOCK_STREAM)


def message_pair() -> tuple[socket.socket, socket.socket]:
    """A channel that keeps message boundaries: (the server's end, the other's end)."""
    return _pair(socket.SOCK_SEQPACKET)


def _pair(kind: socket.SocketKind) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    ours.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    return ours, theirs


async def readable(sock: socket.socket) -> None:
    """Wait until a read would not block."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def ready() -> None:
        if not future.done():
            future.set_result(None)

    descriptor = sock.fileno()  # kept: a socket that is closed meanwhile has none
    loop.add_reader(descriptor, ready)
    try:
        await future
    finally:
        loop.remove_reader(descriptor)


async def receive_message(sock: socket.socket, size_max: int) -> Message:
    """Receive one message of a one-shot.

    Raises:
        WorkerMisbehaved: closed, or longer than `size_max`.
    """
    while True:
        try:
            return _receive(sock, size_max)
        except BlockingIOError:
            await readable(sock)


def receive_now(sock: socket.socket, size_max: int) -> Message | None:
    """Receive the message that is there; None where none is.

    Raises:
        WorkerMisbehaved: it is longer than `size_max`, or the other end is gone.
    """
    try:
        return _receive(sock, size_max)
    except BlockingIOError:
        return None


def _receive(sock: socket.socket, size: int) -> Message:
    try:
        body, ancillary, flags, _ = sock.recvmsg(size, socket.CMSG_SPACE(_CREDENTIALS.size))
    except ConnectionError:
        raise WorkerMisbehaved("reset") from None
    if not body:
        raise WorkerMisbehaved("closed")
    if flags & socket.MSG_TRUNC:
        raise WorkerMisbehaved("oversized message")
    return Message(body, _sender(ancillary))


def _sender(ancillary: Sequence[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            return int(_CREDENTIALS.unpack(data[: _CREDENTIALS.size])[0])
    return 0


async def receive_reply(sock: socket.socket, kind: bytes) -> Message:
    """Receive one frame of a template.

    Raises:
        WorkerMisbehaved: closed, another kind, or longer than `REPORT_BYTES_MAX`.
    """
    header = await receive_message(sock, HEADER.size)
    data = header.body + await _exactly(sock, HEADER.size - len(header.body))
    found, length = HEADER.unpack(data)
    if found != kind or length > REPORT_BYTES_MAX:
        raise WorkerMisbehaved("unexpected frame")
    return Message(await _exactly(sock, length), header.sender)


async def _exactly(sock: socket.socket, length: int) -> bytes:
    loop = asyncio.get_running_loop()
    body = b""
    while len(body) < length:
        try:
            part = await loop.sock_recv(sock, length - len(body))
        except ConnectionError:
            part = b""
        if not part:
            raise WorkerMisbehaved("closed")
        body += part
    return body


async def order(sock: socket.socket, kind: bytes, body: bytes) -> None:
    """Send one frame to a template.

    Raises:
        WorkerMisbehaved: it is gone.
    """
    try:
        await asyncio.get_running_loop().sock_sendall(sock, HEADER.pack(kind, len(body)) + body)
    except OSError:
        raise WorkerMisbehaved("closed") from None


def order_fork(sock: socket.socket, kind: bytes, child_end: int) -> None:
    """Have a template fork a process of a kind (FORK, FORK_WARM) that answers on `child_end`.

    Raises:
        WorkerMisbehaved: the template is gone, or has left so many orders unread that its socket is full.
    """
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [child_end]))]
    try:
        sent = sock.sendmsg([HEADER.pack(kind, 0)], ancillary)
    except OSError:
        raise WorkerMisbehaved("closed or stuck") from None
    if sent != HEADER.size:
        raise WorkerMisbehaved("stuck")
