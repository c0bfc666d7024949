"""A template and its one-shots: what happens in a walled process from its first instruction to its last.

A template goes behind the walls, says hello, receives one program, loads it, reports, and then forks a one-shot for
each descriptor it is handed. A one-shot goes behind the second walls, says it is ready, answers one request and is
gone. Nothing here returns to the zygote, prints, or lets an exception out: a traceback would open source files.
"""

import gc
import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from model_registry.errors import ModelRefused, Reason
from sandbox.jail import channel, walls
from sandbox.jail.status import ScoreStatus
from sandbox.jail.worker import Scorer

_BAD_REQUEST = channel.ANSWER.pack(ScoreStatus.BAD_REQUEST, 0.0)


@dataclass(frozen=True)
class Loaded:
    """A loaded program.

    Attributes:
        answer: request → answer, once for each one-shot.
        rehearse: done by a one-shot before it is ready, so that the pages a call writes are copied off its path.
    """

    answer: Callable[[bytes], bytes]
    rehearse: Callable[[], None] = lambda: None


def run_template(descriptor: int, limits: walls.Limits, origin: walls.Origin) -> NoReturn:
    """Live and die as a template.

    (1) walls (2) hello, with the walls that are missing (3) one program (4) report (5) a process for each order.

    Args:
        descriptor: this template's end of its channel.
        limits: resource limits.
        origin: what walls.fork_apart says about it.
    """
    facts: dict[str, Any] = {}
    try:
        os.dup2(descriptor, walls.CHANNEL_FD)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=walls.CHANNEL_FD)
        report = walls.enter_template(limits, origin)  # (1)
        channel.send_frame(walls.CHANNEL_FD, channel.HELLO, channel.encode_missing(report))  # (2)
        kind, body, _ = channel.receive_frame(sock, channel.LOAD_BYTES_MAX)  # (3)
        program = _load(kind, body, report, facts)
        one_shot_walls = walls.OneShotWalls(limits)
        del body
        walls.loaded()
        gc.collect()
        gc.freeze()  # the children's collector must not touch, and so copy, what they share with their parent
        channel.send_frame(walls.CHANNEL_FD, channel.REPORT, channel.encode_report((), facts))  # (4)
        _serve(sock, program, one_shot_walls, report)  # (5)
    except ModelRefused as error:
        channel.send_frame(walls.CHANNEL_FD, channel.REPORT, channel.encode_report(error.reasons, facts))
    except BaseException:  # noqa: S110
        pass
    finally:
        os._exit(0)


def _serve(
    sock: socket.socket, program: Loaded, one_shot_walls: walls.OneShotWalls, report: walls.WallReport
) -> NoReturn:
    while True:
        kind, _, descriptor = channel.receive_frame(sock, 0)
        if kind not in (channel.FORK, channel.FORK_NOW, channel.FORK_WARM) or descriptor is None:
            raise EOFError
        try:
            child = walls.fork()
        except OSError:  # no more processes or memory: the closed descriptor tells the server
            child = -1
        if child == 0:
            _run_child(descriptor, program, one_shot_walls, report, kind)
        os.close(descriptor)


def _run_child(
    descriptor: int, program: Loaded, one_shot_walls: walls.OneShotWalls, report: walls.WallReport, kind: bytes
) -> NoReturn:
    """A one-shot: the second walls, ready, one request, one answer. A warm one goes on until the server closes."""
    try:
        os.dup2(descriptor, walls.CHANNEL_FD, inheritable=False)
        mine = one_shot_walls.enter()
        report.update(mine)
        if kind != channel.FORK_NOW:
            program.rehearse()
        os.write(walls.CHANNEL_FD, channel.READY + channel.encode_missing(mine))
        while request := os.read(walls.CHANNEL_FD, channel.REQUEST_BYTES_MAX + 1):
            fits = len(request) <= channel.REQUEST_BYTES_MAX
            os.write(walls.CHANNEL_FD, program.answer(request) if fits else _BAD_REQUEST)
            if kind != channel.FORK_WARM:
                break
    except BaseException:  # noqa: S110
        pass
    finally:
        os._exit(0)


def _load(kind: bytes, body: bytes, report: walls.WallReport, facts: dict[str, Any]) -> Loaded:
    if kind == channel.LOAD:
        return _load_model(body, facts)
    if kind == channel.DRILL:
        return _load_drill(body)
    if kind == channel.PROBE:
        return Loaded(lambda _: json.dumps(report).encode())
    raise EOFError


def _load_model(body: bytes, facts: dict[str, Any]) -> Loaded:
    manifest, content, codes, base = channel.split_program(body)
    scorer = Scorer.load(manifest, content, json.loads(codes), facts, base)

    def answer(request: bytes) -> bytes:
        status, value = scorer.limit(request)
        return channel.ANSWER.pack(status, value)

    scorer.warm_up()
    walls.give_back()  # what loading left over, which every child would map
    return Loaded(answer, scorer.warm_up)


def _load_drill(body: bytes) -> Loaded:
    """A drill: Python of the operator's own, run where a model would be, to see what the walls stop.

    Its top level runs as the template, its `run(request: bytes) -> bytes` as the one-shot. What it can do, a model that
    has taken over its process could do; the walls, not the language, are what holds.
    """
    namespace: dict[str, Any] = {"__name__": "drill", "np": np}
    try:
        exec(compile(body, "drill", "exec"), namespace)  # noqa: S102 - see above
    except Exception as error:
        raise ModelRefused([Reason("drill_failed", "drill", _outcome(error))]) from None
    run = namespace["run"]

    def answer(request: bytes) -> bytes:
        try:
            return bytes(run(request))
        except Exception as error:
            return b"!" + _outcome(error).encode()

    return Loaded(answer)


def _outcome(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
