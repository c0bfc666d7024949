"""A zygote that can leave walls out, and sees how its processes end: the control of every attack.

Started as `python -m tests.redteam.weak_zygote DESCRIPTOR [--stay-root]`. It takes orders (JSON, one message each),
forks a process into fresh namespaces as the product's zygote does, has it build the product's own walls but for those
named in the order, and runs the order's text there as the template or as the one-shot. It leaves a wall out by
replacing `walls._build` and the tables of walls.py in its own process; the product has no such switch.
"""

import contextlib
import ctypes
import errno
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from sandbox.jail import filters, walls
from tests.redteam import kernel

LIMITS = walls.Limits(memory_bytes=64 * 2**20, load_cpu_s=1, score_cpu_s=1, processes=24)
MESSAGE_BYTES_MAX = 100_000
PATIENCE_MS = 20_000
_SECRET = ctypes.create_string_buffer(b"secret")  # at the same address in everything forked from here
_NAMESPACES = dict(walls.NAMESPACES)
_build = walls._build


def main(arguments: list[str]) -> None:
    """Say hello, then run orders until the other end closes."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=int(arguments[0]))
    if "--stay-root" not in arguments:
        walls.become_nobody()
    walls.die_with_parent()
    filters.SYSCALLS.update(kernel.NUMBERS)
    victim = _victim()
    _send(sock, {"victim": victim, "secret": ctypes.addressof(_SECRET), "refusal": _refusal()})
    while order := sock.recv(MESSAGE_BYTES_MAX):
        _send(sock, _carry_out(json.loads(order)))


def _send(sock: socket.socket, message: object) -> None:
    sock.send(json.dumps(message).encode())


def _refusal() -> str:
    """Why this machine has no namespaces for us; "" where it has."""
    pid, origin = walls.fork_apart()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return origin.refusal


def _victim() -> int:
    child = os.fork()
    if child == 0:
        walls.die_with_parent()
        walls._drop_capabilities()  # whoever has more than an attacker cannot be traced by it anyway
        kernel.call("prctl", 4, 1, 0, 0, 0)  # dumpable, which giving up root has ended
        while True:
            signal.pause()
    return child


def _carry_out(order: dict[str, Any]) -> dict[str, Any]:
    without = set(order["without"])
    if without & {"namespaces", "mount_namespace"}:
        without.add("empty_root")  # it would be the machine's root
    _leave_out(without, waits=order["position"] != "template")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child_ours, child_theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid, origin = walls.fork_apart()
    if pid == 0:
        _become_template(order, theirs.fileno(), origin, without)
    theirs.close()
    with contextlib.suppress(BrokenPipeError):  # it has ended already, as a template may that needs no child
        socket.send_fds(ours, [b"F"], [child_theirs.fileno()])
    child_theirs.close()
    try:
        return _watch(pid, ours, child_ours)
    finally:
        ours.close()
        child_ours.close()


def _leave_out(without: set[str], *, waits: bool) -> None:
    def leave_out(report: walls.WallReport, name: str, build: Callable[[], str]) -> None:
        if name in without or (waits and name == "children_unseen"):
            report[name] = {"on": False, "why": "left out"}
        else:
            _build(report, name, build)

    extra = [filters.Rule(name.partition(":")[2]) for name in without if name.startswith("seccomp:")]
    watching = [filters.Rule("wait4")] if waits else []  # the one thing that this template has beyond the product's
    walls._build = leave_out
    walls.NAMESPACES = {k: v for k, v in _NAMESPACES.items() if k not in without and "namespaces" not in without}
    walls._TEMPLATE_FILTER = walls._Program((*filters.TEMPLATE, *extra, *watching))
    walls._ONE_SHOT_FILTER = walls._Program((*filters.ONE_SHOT, *extra))


def _enter_one_shot(without: set[str]) -> walls.WallReport:
    made = walls.OneShotWalls(LIMITS)
    kept: Any = tuple(wall for wall in made._walls if wall[0] not in without)
    made._walls = kept
    return {name: {"on": False, "why": "left out"} for name in without if name.startswith("one_shot")} | made.enter()


def _watch(pid: int, ours: socket.socket, child: socket.socket) -> dict[str, Any]:
    told: dict[str, Any] = {}
    poll = select.poll()
    poll.register(ours, select.POLLIN)
    poll.register(child, select.POLLIN)
    open_ends = {ours.fileno(): ours, child.fileno(): child}
    while open_ends:
        ready = poll.poll(PATIENCE_MS)
        if not ready:
            os.kill(pid, signal.SIGKILL)
            told.setdefault("end", "timeout")
        for descriptor, _ in ready:
            try:
                message = open_ends[descriptor].recv(MESSAGE_BYTES_MAX)
            except ConnectionError:  # it ended with something unread; what it had said before is still to come
                continue
            if not message:
                poll.unregister(descriptor)
                del open_ends[descriptor]
            elif message.startswith(b"{"):
                told.update(json.loads(message))
    status = os.waitpid(pid, 0)[1]
    told.setdefault("end", told.pop("child", None) or ending(status))
    return told


def ending(status: int) -> str:
    """How a process ended, in words."""
    if os.WIFSIGNALED(status):
        return f"killed: {signal.Signals(os.WTERMSIG(status)).name}"
    return f"ended: {os.WEXITSTATUS(status)}"


def _become_template(order: dict[str, Any], descriptor: int, origin: walls.Origin, without: set[str]) -> NoReturn:
    try:
        os.dup2(descriptor, walls.CHANNEL_FD)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=walls.CHANNEL_FD)
        if "not_dumpable" not in without:
            walls.hide()
        else:
            kernel.call("prctl", 4, 1, 0, 0, 0)
        program = compile(order["source"], "attack", "exec")
        report = walls.enter_template(LIMITS, origin)
        if order["position"] == "template":
            _tell({"missing": _missing(report)})
            _attempt(program)
        child_end = socket.recv_fds(sock, 10, 1)[1][0]
        if order["position"] == "sweep":
            _sweep(order["numbers"], order["deep"], child_end)
        _tell({"child": ending(_one_shot(report, child_end, without, lambda: _attempt(program)))})
    except BaseException as error:
        _tell({"end": f"broken: {error!r}"})
    finally:
        os._exit(0)


def _one_shot(report: walls.WallReport, descriptor: int, without: set[str], run: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        try:
            os.dup2(descriptor, walls.CHANNEL_FD, inheritable=False)
            report.update(_enter_one_shot(without))
            _tell({"missing": _missing(report)})
            run()
        finally:
            os._exit(0)
    os.close(descriptor)
    return os.waitpid(child, 0)[1]


def _sweep(numbers: list[int], deep: bool, child_end: int) -> NoReturn:
    """Try each system call number in a process of its own; tell those that did not kill it."""
    alive = []
    for number in numbers:
        child = os.fork()
        if child == 0:
            if deep:
                _enter_one_shot(set())
            with contextlib.suppress(OSError):
                kernel.call_number(number, -1, -1, -1, -1, -1, -1)
            os._exit(0)
        if ending(os.waitpid(child, 0)[1]) != "killed: SIGSYS":
            alive.append(number)
    _tell({"alive": alive})
    os.close(child_end)
    os._exit(0)


def _missing(report: walls.WallReport) -> list[str]:
    return [name for name, wall in report.items() if not wall["on"]]


def _attempt(program: Any) -> NoReturn:
    try:
        namespace: dict[str, Any] = {"__name__": "attack"}
        exec(program, namespace)
        _tell({"end": "worked", "said": repr(namespace["attempt"]())[:200]})
    except OSError as error:
        _tell({"end": f"refused: {errno.errorcode.get(error.errno or 0, error.errno)}"})
    except BaseException as error:
        _tell({"end": f"refused: {type(error).__name__}", "said": str(error)[:200]})
    finally:
        os._exit(0)


def _tell(message: dict[str, Any]) -> None:
    os.write(walls.CHANNEL_FD, json.dumps(message).encode())


if __name__ == "__main__":
    main(sys.argv[1:])
