"""The channel between the server and walled processes: two kinds of unix socket, every size bounded, answers fixed.

What both ends must agree on, and the walled end: blocking, two system calls, no more than the filters allow. The
server's end is sandbox/jail/peer.py.

A *template* is spoken to in frames on a stream: kind (1 byte), length (4 bytes, little-endian), body; a fork order
carries one descriptor (SCM_RIGHTS). A *one-shot* has a socket of its own that keeps message boundaries: it sends
`READY` and the names of walls that it lacks, gets one request and sends one answer of `ANSWER.size` bytes. The kernel
stamps each message with its sender's process id (SCM_CREDENTIALS), so the server knows whom to kill and that the one
who was ready is the one who answers.
"""

import array
import json
import os
import re
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_registry.errors import Reason
from sandbox.errors import WorkerMisbehaved

ANSWER = struct.Struct("<Bd")  # status, limit in yuan before snapping
READY = b"R"
REQUEST_BYTES_MAX = 65_536  # 8 bytes a field; a manifest has at most 2,000 fields
REASONS_MAX = 50  # a report is read by people
REPORT_BYTES_MAX = 262_144  # 50 reasons of at most 600 printable characters and a code, and as much of facts
LOAD_BYTES_MAX = 96 * 2**20  # a 64 MiB model, parity samples and rules beside it
HEADER = struct.Struct("<cI")
_PARTS = struct.Struct("<III")
OPEN = b"O"  # to the zygote, with the descriptor of a new template
HELLO, LOAD, DRILL, PROBE, REPORT, FORK, FORK_NOW, FORK_WARM = b"H", b"L", b"X", b"P", b"A", b"F", b"N", b"W"
MISSING_BYTES_MAX = 1024  # names of walls that could not be built, after READY and in HELLO


def receive_frame(channel: socket.socket, size_max: int) -> tuple[bytes, bytes, int | None]:
    """Read one frame.

    Args:
        channel: the template's end; made before the filter, as making a socket object asks the kernel things.
        size_max: largest body taken, in bytes.

    Returns:
        (kind, body, descriptor that came along or None).

    Raises:
        EOFError: the server closed, or sent what is not a frame.
    """
    header, ancillary, flags, _ = channel.recvmsg(HEADER.size, socket.CMSG_SPACE(4), socket.MSG_WAITALL)
    if len(header) != HEADER.size or flags & socket.MSG_CTRUNC:
        raise EOFError
    kind, length = HEADER.unpack(header)
    if length > size_max:
        raise EOFError
    return kind, _read_exactly(channel.fileno(), length), descriptor_of(ancillary)


def _read_exactly(channel: int, length: int) -> bytes:
    body = bytearray()
    while len(body) < length:
        part = os.read(channel, min(length - len(body), 2**20))
        if not part:
            raise EOFError
        body += part
    return bytes(body)


def descriptor_of(ancillary: Sequence[tuple[int, int, bytes]]) -> int | None:
    """The descriptor that came along with a message, if one did."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            return array.array("i", data[:4])[0]
    return None


def send_frame(channel: int, kind: bytes, body: bytes) -> None:
    """Write one frame; raises OSError where the server is gone."""
    data = memoryview(HEADER.pack(kind, len(body)) + body)
    while data:
        data = data[os.write(channel, data) :]


def join_program(manifest: bytes, content: bytes, codes: bytes, base: bytes = b"") -> bytes:
    """The body of a LOAD frame; `base` is the content that holds the model where `content` does not."""
    return _PARTS.pack(len(manifest), len(codes), len(content)) + manifest + codes + content + base


def split_program(body: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """(manifest, content, codes, base) of a LOAD frame, as the server made it."""
    *sizes, content = _PARTS.unpack_from(body)
    parts, at = [], _PARTS.size
    for size in (*sizes, content):
        parts.append(body[at : at + size])
        at += size
    return parts[0], parts[2], parts[1], body[at:]


def encode_missing(report: Mapping[str, Mapping[str, object]]) -> bytes:
    """The names of the walls that are not on, as a process tells them when it is ready: nothing where all are."""
    missing = [name for name, wall in report.items() if wall["on"] is not True]
    return ",".join(missing).encode() if missing else b""


def encode_report(reasons: Sequence[Reason], facts: Mapping[str, Any]) -> bytes:
    """A report's body; no reasons = admitted. Facts that are too long are left out."""
    kept = reasons[:REASONS_MAX]
    parts = [{"code": r.code, "where": _line(r.where, 200), "text": _line(r.text, 400)} for r in kept]
    told = facts if len(json.dumps(facts)) <= REPORT_BYTES_MAX // 2 else {}
    return json.dumps({"reasons": parts, "facts": told}, ensure_ascii=False).encode()


@dataclass(frozen=True)
class Report:
    """What a template says of its program: why it is refused, and what it is."""

    reasons: tuple[Reason, ...]
    facts: dict[str, Any]


def decode_report(body: bytes) -> Report:
    """A report, as believable as its author: a process that has parsed a stranger's bytes.

    Raises:
        WorkerMisbehaved: not the documented shape.
    """
    try:
        told = json.loads(body)
        reasons = tuple(
            Reason(_code(r["code"]), _line(r["where"], 200), _line(r["text"], 400)) for r in told["reasons"]
        )
        facts = {_code(name): _fact(value, 3) for name, value in told["facts"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise WorkerMisbehaved("malformed report") from None
    if len(reasons) > REASONS_MAX:
        raise WorkerMisbehaved("malformed report")
    return Report(reasons, facts)


def _fact(value: Any, depth: int) -> Any:
    """A fact made fit to be shown: plain values, printable, not nested deeply."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _line(value, 200)
    if isinstance(value, int | float):
        if not -(2**63) <= value < 2**63:  # NaN too
            raise ValueError
        return value
    if not depth:
        raise ValueError
    if isinstance(value, list):
        return [_fact(item, depth - 1) for item in value]
    return {_line(name, 200): _fact(item, depth - 1) for name, item in value.items()}


def _code(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", text):
        raise ValueError(text)
    return text


def _line(text: str, length: int) -> str:
    return "".join(c if c.isprintable() else "?" for c in str(text)[:length])
