"""Handles of walled processes in the server: the zygote, and any process behind a channel, with how to end it."""

import array
import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Self

from sandbox.errors import JailUnavailable, WorkerMisbehaved
from sandbox.jail import channel, peer
from sandbox.jail.settings import JailSettings

_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "ORT_DISABLE_TELEMETRY": "1",  # see worker.py
    # a library's thread pool would make the zygote's fork unsafe
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    # the heap in huge pages: a fork copies some hundred entries of page tables instead of ten thousand
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mxfast=0",
}


def closed(sock: socket.socket) -> bool:
    """Whether the other end is gone, or has sent what nobody asked for."""
    try:
        sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@dataclass(frozen=True)
class Schedule:
    """How long a process has run on a core, and how long it has stood in line for one; seconds."""

    ran_s: float
    stood_s: float


NEVER_RAN = Schedule(0.0, 0.0)


class Handle:
    """A process reached through a socket, killed through a descriptor that cannot come to name another process."""

    def __init__(self, sock: socket.socket, sender: int) -> None:
        self.sock = sock
        self.sender = sender
        self._process: int | None = None
        with contextlib.suppress(OSError):  # already gone; nobody to kill
            self._process = os.pidfd_open(sender) if sender else None

    @property
    def closed(self) -> bool:
        """Whether the other end is gone, or has sent what nobody asked for."""
        return closed(self.sock)

    @property
    def schedule(self) -> Schedule:
        """Its times so far; none at all where the kernel does not say. Source: Documentation/scheduler/sched-stats."""
        try:
            with open(f"/proc/{self.sender}/schedstat", "rb") as file:
                ran, stood, _ = file.read().split()
            return Schedule(int(ran) / 1e9, int(stood) / 1e9)
        except (OSError, ValueError):
            return NEVER_RAN

    @property
    def resident_bytes(self) -> int:
        """Memory in use as the kernel counts it, pages shared with its parent included; 0 where it does not say."""
        try:
            with open(f"/proc/{self.sender}/statm", "rb") as file:
                return int(file.read().split()[1]) * resource.getpagesize()
        except (OSError, ValueError, IndexError):
            return 0

    def kill(self) -> None:
        """End the process, at once and for certain; harmless when repeated."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)
            os.close(self._process)
            self._process = None
        self.sock.close()


class Zygote:
    """The fresh interpreter that templates are forked from."""

    def __init__(self, process: "subprocess.Popen[bytes]", sock: socket.socket) -> None:
        self._process = process
        self._sock = sock

    @classmethod
    async def start(cls, settings: JailSettings) -> Self:
        """Start an interpreter and wait until it has imported everything.

        Raises:
            JailUnavailable: it did not start, or is not single-threaded.
        """
        ours, theirs = peer.message_pair()
        limits = json.dumps(asdict(settings.limits))
        command = [sys.executable, "-I", "-B", "-m", "sandbox.jail.zygote", str(theirs.fileno()), limits]
        null = subprocess.DEVNULL
        try:
            # in this thread: the zygote asks to die with the thread that started it
            process = subprocess.Popen(  # noqa: S603, ASYNC220 - vfork and exec; no shell, our own interpreter
                command, pass_fds=[theirs.fileno()], env=_ENVIRONMENT, stdin=null, stdout=null, stderr=null, cwd="/"
            )
        except OSError as error:
            ours.close()
            raise JailUnavailable(f"zygote: {error.strerror}") from None
        finally:
            theirs.close()
        zygote = cls(process, ours)
        try:
            async with asyncio.timeout(settings.start_deadline_ms / 1000):
                hello = await peer.receive_message(ours, 1024)
            if json.loads(hello.body)["threads"] != 1:
                raise WorkerMisbehaved("more than one thread")
        except (WorkerMisbehaved, TimeoutError) as error:
            zygote.kill()
            raise JailUnavailable(f"zygote: {str(error) or 'not there in time'}") from None
        return zygote

    @property
    def process_id(self) -> int:
        """Of the interpreter."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs. Its socket closes before its templates get to know, so this is never late."""
        return self._process.poll() is None and not closed(self._sock)

    def open_template(self) -> socket.socket:
        """Have a template forked; returns the server's end of its channel, which is closed if the fork failed.

        Raises:
            JailUnavailable: the zygote is gone, or there is no descriptor left.
        """
        try:
            ours, theirs = peer.stream_pair()
        except OSError as error:
            raise JailUnavailable(f"template: {error.strerror}") from None
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))]
        try:
            self._sock.sendmsg([channel.OPEN], ancillary)
        except OSError:
            ours.close()
            raise JailUnavailable("zygote is gone") from None
        finally:
            theirs.close()
        return ours

    def kill(self) -> None:
        """End it, and with it every template."""
        self._sock.close()
        self._process.kill()
        self._process.wait()
