"""Handles of walled processes in the server: the zygote, templates, one-shots. Each knows how to end what it holds."""

import array
import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from dataclasses import asdict
from typing import Self

from sandbox.errors import JailUnavailable, WorkerMisbehaved
from sandbox.jail import channel
from sandbox.jail.settings import JailSettings

# One BLAS thread: a library's thread pool would make the zygote's fork unsafe. No telemetry: see worker.py.
_ENVIRONMENT = {"ORT_DISABLE_TELEMETRY": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}


def closed(sock: socket.socket) -> bool:
    """Whether the other end is gone, or has sent what nobody asked for."""
    try:
        sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


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

    def kill(self) -> None:
        """End the process, at once and for certain; harmless when repeated."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)
            os.close(self._process)
            self._process = None
        self.sock.close()


class Template:
    """A template behind its walls, and the one-shots it keeps ready."""

    def __init__(self, handle: Handle, zygote: "Zygote", settings: JailSettings) -> None:
        self.zygote = zygote
        self._handle = handle
        self._settings = settings
        self._ready: deque[Handle] = deque()
        self._waiting: deque[asyncio.Future[Handle]] = deque()
        self._greeting: set[asyncio.Task[None]] = set()
        self._busy = 0
        self._dead = self._retired = False

    @classmethod
    async def open(cls, zygote: "Zygote", settings: JailSettings) -> Self:
        """Have a template forked and wait for its hello, which it sends from behind its walls.

        Raises:
            JailUnavailable: the zygote is gone.
            WorkerMisbehaved: the template ended instead.
        """
        sock = zygote.open_template()
        try:
            hello = await channel.receive_reply(sock, channel.HELLO)
        except BaseException:
            sock.close()
            raise
        return cls(Handle(sock, hello.sender), zygote, settings)

    async def load(self, kind: bytes, body: bytes) -> channel.Report:
        """Hand over the program; returns what the template says of it, without reasons when it is loaded.

        Raises:
            WorkerMisbehaved: it ended, or reported nonsense.
        """
        await channel.order(self._handle.sock, kind, body)
        report = await channel.receive_reply(self._handle.sock, channel.REPORT)
        return channel.decode_report(report.body)

    @property
    def alive(self) -> bool:
        """Whether it can still be asked for one-shots."""
        if not self._dead and self._handle.closed:
            self.kill()
        return not self._dead

    @property
    def idle(self) -> bool:
        """Whether no call uses it."""
        return not self._busy and not self._waiting

    async def ask(self, request: bytes, size_max: int) -> bytes:
        """Have a fresh one-shot answer one request.

        Args:
            request: at most `channel.REQUEST_BYTES_MAX` bytes.
            size_max: largest answer taken, in bytes.

        Raises:
            JailUnavailable: no one-shot could be had within the deadline, or the template died under it.
            WorkerMisbehaved: the one-shot ended without an answer, or answered out of turn.
            TimeoutError: the one-shot had a request for as long as the deadline.
        """
        deadline_s = self._settings.score_deadline_ms / 1000
        self._busy += 1
        try:
            try:
                one_shot = await asyncio.wait_for(self._take(), deadline_s)
            except TimeoutError:
                raise JailUnavailable("no one-shot in time") from None
            try:
                async with asyncio.timeout(deadline_s):
                    return await self._exchange(one_shot, request, size_max)
            finally:
                one_shot.kill()  # answered or not: it is never asked twice
        finally:
            self._busy -= 1
            if self._retired:
                self.retire()
            self.top_up()

    async def _exchange(self, one_shot: Handle, request: bytes, size_max: int) -> bytes:
        try:
            one_shot.sock.send(request)  # its buffer is empty: never partial, never blocks
            answer = await channel.receive_message(one_shot.sock, size_max)
        except (WorkerMisbehaved, OSError) as error:
            if not self.alive:
                raise JailUnavailable("template died") from error
            raise WorkerMisbehaved("no answer") from error
        if answer.sender != one_shot.sender:
            raise WorkerMisbehaved("answered by another process")
        return answer.body

    async def _take(self) -> Handle:
        while self._ready:
            one_shot = self._ready.popleft()
            if not one_shot.closed:
                return one_shot
            one_shot.kill()
        future: asyncio.Future[Handle] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self.top_up()
        try:
            return await future
        except asyncio.CancelledError:
            # the one-shot may have been given in the very moment of giving up
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().kill()
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(future)

    def top_up(self) -> None:
        """Order as many forks as spares and waiting calls need."""
        if not self.alive:
            return
        spare = 0 if self._retired else self._settings.spare
        wanted = spare + len(self._waiting) - len(self._ready) - len(self._greeting)
        room = self._settings.one_shots_max - self._busy - len(self._ready) - len(self._greeting)
        for _ in range(min(wanted, max(room, 1 if self._waiting and not self._greeting else 0))):
            ours, theirs = channel.message_pair()
            try:
                channel.order_fork(self._handle.sock, theirs.fileno())
            except WorkerMisbehaved:
                ours.close()
                self.kill()
                return
            finally:
                theirs.close()
            task = asyncio.get_running_loop().create_task(self._greet(ours))
            self._greeting.add(task)

    async def _greet(self, sock: socket.socket) -> None:
        one_shot: Handle | None = None
        try:
            async with asyncio.timeout(self._settings.score_deadline_ms / 1000):
                ready = await channel.receive_message(sock, len(channel.READY))
            if ready.body == channel.READY and ready.sender != self._handle.sender:
                one_shot = Handle(sock, ready.sender)
        except (WorkerMisbehaved, TimeoutError):
            pass
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._greeting.discard(task)
            if one_shot is None:
                sock.close()
        self._hand_out(one_shot)

    def _hand_out(self, one_shot: Handle | None) -> None:
        waiter = next((future for future in self._waiting if not future.done()), None)
        if one_shot is None:
            # one failed fork fails one call: no storm of forks where memory or processes are short
            if waiter is not None:
                waiter.set_exception(JailUnavailable("no one-shot"))
        elif self._dead:
            one_shot.kill()
        elif waiter is not None:
            waiter.set_result(one_shot)
        else:
            self._ready.append(one_shot)

    def retire(self) -> None:
        """End the template as soon as no call uses it: what it has begun it finishes."""
        self._retired = True
        if self.idle:
            self.kill()

    def kill(self) -> None:
        """End the template and everything it forked (process 1 of its namespace takes the rest along)."""
        self._dead = True
        self._handle.kill()
        for task in list(self._greeting):
            task.cancel()
        while self._ready:
            self._ready.popleft().kill()
        for future in self._waiting:
            if not future.done():
                future.set_exception(JailUnavailable("template died"))


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
        ours, theirs = channel.message_pair()
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
                hello = await channel.receive_message(ours, 1024)
            if json.loads(hello.body)["threads"] != 1:
                raise WorkerMisbehaved("more than one thread")
        except (WorkerMisbehaved, TimeoutError) as error:
            zygote.kill()
            raise JailUnavailable(f"zygote: {error}") from None
        return zygote

    @property
    def alive(self) -> bool:
        """Whether it still runs. Its socket closes before its templates get to know, so this is never late."""
        return self._process.poll() is None and not closed(self._sock)

    def open_template(self) -> socket.socket:
        """Have a template forked; returns the server's end of its channel, which is closed if the fork failed.

        Raises:
            JailUnavailable: the zygote is gone.
        """
        ours, theirs = channel.stream_pair()
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
