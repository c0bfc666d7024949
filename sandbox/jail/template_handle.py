"""A template as the server has it, with the processes it keeps ready to answer: who is ready, who waits, who is let go.

`one-shot` isolation: a process answers one request and is gone; the next is forked ahead of need. `warm` isolation: a
process answers many requests, one after another. Both stand behind the same walls.
"""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Set
from typing import Self

from sandbox.errors import JailUnavailable, WorkerMisbehaved
from sandbox.jail import channel, peer
from sandbox.jail.processes import NEVER_RAN, Handle, Schedule, Zygote
from sandbox.jail.settings import WARM, JailSettings

_WARM_CPU_S = 0.5  # then a warm process is replaced: its CPU limit, a second and a deadline, must not end it in a call
_COPIED_BYTES = 6 * 2**20  # of the zygote's pages a template changes about so many, which the kernel counts as before


class Template:
    """A template behind its walls, and the processes it keeps ready. For one event loop."""

    def __init__(self, handle: Handle, zygote: Zygote, settings: JailSettings, tolerated: Set[str] | None) -> None:
        self.zygote = zygote
        self._handle, self._settings, self._tolerated = handle, settings, tolerated
        self._warm = settings.isolation == WARM
        self._ready: deque[Handle] = deque()
        self._waiting: deque[asyncio.Future[Handle]] = deque()
        self._greeting: set[asyncio.Task[None]] = set()
        self._calls = self._held = self._asked = 0  # calls in progress; those of them that have a process; ever
        self._dead = self._retired = self._resting = False
        self._rest: asyncio.TimerHandle | None = None
        self._shared_bytes = handle.resident_bytes

    @property
    def own_bytes(self) -> int:
        """What it takes beyond what it shares with the zygote, roughly."""
        return max(self._handle.resident_bytes - self._shared_bytes, 0) + _COPIED_BYTES

    @classmethod
    async def open(cls, zygote: Zygote, settings: JailSettings, tolerated: Set[str] | None) -> Self:
        """Have a template forked and wait for its hello, which it sends from behind its walls.

        Args:
            zygote: to fork from.
            settings: deadlines and numbers.
            tolerated: walls that it and what it forks may lack, as the probe found them; None = any, for the probe.

        Raises:
            JailUnavailable: the zygote is gone.
            WorkerMisbehaved: the template ended instead, or lacks a wall that the probe had.
        """
        sock = zygote.open_template()
        try:
            hello = await peer.receive_reply(sock, channel.HELLO)
            _check_walls(hello.body, tolerated)
        except BaseException:
            sock.close()
            raise
        return cls(Handle(sock, hello.sender), zygote, settings, tolerated)

    async def load(self, kind: bytes, body: bytes) -> channel.Report:
        """Hand over the program; returns what the template says of it, without reasons when it is loaded.

        Raises:
            WorkerMisbehaved: it ended, or reported nonsense.
        """
        await peer.order(self._handle.sock, kind, body)
        report = await peer.receive_reply(self._handle.sock, channel.REPORT)
        return channel.decode_report(report.body)

    @property
    def processes(self) -> list[int]:
        """Process ids of the template and of what waits for calls."""
        return [self._handle.sender, *(process.sender for process in self._ready)]

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""
        if not self._dead and self._handle.closed:
            self.kill()
        return not self._dead

    @property
    def idle(self) -> bool:
        """Whether no call uses it."""
        return not self._calls

    async def ask(self, request: bytes, size_max: int) -> bytes:
        """Have a process answer one request: a fresh one, or in `warm` isolation one that is free.

        Args:
            request: at most `channel.REQUEST_BYTES_MAX` bytes.
            size_max: largest answer taken, in bytes.

        Raises:
            JailUnavailable: no process could be had within the deadline, or the zygote died.
            WorkerMisbehaved: the process, or its template, ended without an answer, or answered out of turn.
            TimeoutError: the process had a request for as long as the deadline (not in constant time).
        """
        self._calls += 1
        self._asked += 1
        self._resting = False
        try:
            process = await self._take_in_time()
            answered = False
            try:
                answer = await self._exchange(process, request, size_max)
                answered = True
                return answer
            finally:
                self._held -= 1
                if answered and self._warm and not self._retired and _fit(process):
                    self._hand_out(process)
                else:
                    process.kill()  # answered or not: it is never asked twice
        finally:
            self._calls -= 1
            if self._retired:
                self.retire()
            self.top_up()

    async def _exchange(self, process: Handle, request: bytes, size_max: int) -> bytes:
        before = process.schedule if self._settings.constant_time else NEVER_RAN
        try:
            process.sock.send(request)  # its buffer is empty: never partial, never blocks
            answer = await self._answer(process, before, size_max)
        except TimeoutError:  # an OSError too
            raise
        except (WorkerMisbehaved, OSError) as error:
            # What a version does with a call that it was given is an answer, and priced: were its template's death
            # told apart from its silence, a version taken over could say one bit a call for nothing.
            if not self.zygote.alive:
                raise JailUnavailable("zygote died") from error
            raise WorkerMisbehaved("no answer") from error
        if answer.sender != process.sender:
            raise WorkerMisbehaved("answered by another process")
        return answer.body

    async def _answer(self, process: Handle, before: Schedule, size_max: int) -> peer.Message:
        deadline_s = self._settings.score_deadline_ms / 1000
        if not self._settings.constant_time:
            async with asyncio.timeout(deadline_s):
                return await peer.receive_message(process.sock, size_max)
        # Fetched at the same moment whenever it came, or did not: how long a model takes may depend on what it read.
        self.top_up()
        await asyncio.sleep(deadline_s)
        message = peer.receive_now(process.sock, size_max)
        if message is None and _starved(before, process.schedule, deadline_s):
            raise JailUnavailable("the machine gave the process no time")
        if message is None:
            raise WorkerMisbehaved("silent")
        return message

    async def _take_in_time(self) -> Handle:
        while self._ready:
            process = self._ready.popleft()
            if not process.closed:
                self._held += 1
                return process
            process.kill()
        try:
            async with asyncio.timeout(self._settings.process_deadline_ms / 1000):
                return await self._wait()
        except TimeoutError:
            raise JailUnavailable("no process in time") from None

    async def _wait(self) -> Handle:
        future: asyncio.Future[Handle] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self.top_up()
        try:
            return await future
        except asyncio.CancelledError:
            # it may have been given in the very moment of giving up
            if future.done() and not future.cancelled() and future.exception() is None:
                self._held -= 1
                future.result().kill()
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(future)

    def top_up(self) -> None:
        """Order as many forks as spares and waiting calls need."""
        if not self.alive:
            return
        coming = len(self._ready) + len(self._greeting)
        kept = 0 if self._retired or self._resting else self._settings.spare
        wanted = kept + len(self._waiting) - coming
        if self._warm and not (self._retired or self._settings.constant_time):  # what is busy will soon be free again
            wanted -= self._held + len(self._waiting)
        room = self._settings.one_shots_max - self._held - coming
        for _ in range(min(wanted, room, self._settings.forks_at_once - len(self._greeting))):
            # nobody gains by a rehearsal when a call waits for the process
            urgent = len(self._waiting) > len(self._ready) + len(self._greeting)
            self._order_fork(channel.FORK_WARM if self._warm else channel.FORK_NOW if urgent else channel.FORK)
        self._rest_later()

    def _order_fork(self, kind: bytes) -> None:
        if self._dead:
            return
        try:
            ours, theirs = peer.message_pair()
        except OSError:  # no more descriptors: calls go on with the processes that are there, or wait for one in vain
            return
        try:
            peer.order_fork(self._handle.sock, kind, theirs.fileno())
        except WorkerMisbehaved:
            ours.close()
            self.kill()
            return
        finally:
            theirs.close()
        task = asyncio.get_running_loop().create_task(self._greet(ours))
        self._greeting.add(task)

    async def _greet(self, sock: socket.socket) -> None:
        process: Handle | None = None
        try:
            async with asyncio.timeout(self._settings.process_deadline_ms / 1000):
                ready = await peer.receive_message(sock, len(channel.READY) + channel.MISSING_BYTES_MAX)
            if ready.body.startswith(channel.READY) and ready.sender != self._handle.sender:
                _check_walls(ready.body[len(channel.READY) :], self._tolerated)
                process = Handle(sock, ready.sender)
        except (WorkerMisbehaved, TimeoutError):
            pass
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._greeting.discard(task)
            if process is None:
                sock.close()
        if process is None:
            # A template that gives a call no process is not asked again, and what it kept in mind goes with it: else it
            # could tell of one call by refusing a later one.
            self.kill()
        else:
            self._hand_out(process)
            self.top_up()

    def _hand_out(self, process: Handle) -> None:
        waiter = self._next_waiter()
        if self._dead:
            process.kill()
        elif waiter is not None:
            self._held += 1
            waiter.set_result(process)
        else:
            self._ready.append(process)

    def _next_waiter(self) -> "asyncio.Future[Handle] | None":
        return next((future for future in self._waiting if not future.done()), None)

    def _rest_later(self) -> None:
        if self._rest is None:
            loop = asyncio.get_running_loop()
            self._rest = loop.call_later(self._settings.spare_idle_s, self._let_spares_go, self._asked)

    def _let_spares_go(self, asked: int) -> None:
        # a version that nobody asks keeps its template, and none of the processes that would answer
        self._rest = None
        self._resting = self.idle and asked == self._asked
        while self._ready and self._resting:
            self._ready.popleft().kill()
        if self._ready and not self._dead:
            self._rest_later()

    def retire(self) -> None:
        """End the template as soon as no call uses it: what it has begun it finishes."""
        self._retired = True
        if self.idle:
            self.kill()

    def kill(self) -> None:
        """End the template and everything it forked (process 1 of its namespace takes the rest along)."""
        self._dead = True
        self._handle.kill()
        if self._rest is not None:
            self._rest.cancel()
        for task in list(self._greeting):
            task.cancel()
        while self._ready:
            self._ready.popleft().kill()
        for future in self._waiting:
            if not future.done():
                future.set_exception(JailUnavailable("template died"))


def _starved(before: Schedule, after: Schedule, deadline_s: float) -> bool:
    """Whether a silent process never got a core, which is the machine's doing.

    It has not run at all since before its request was sent, so it cannot have read it, and stood in line. Its call is
    then repeated rather than answered with no offer; a process that ran however little could choose to look starved.
    """
    return after.ran_s == before.ran_s and after.stood_s - before.stood_s > deadline_s / 2


def _fit(process: Handle) -> bool:
    """Whether a warm process may be asked again: it has said nothing more, and has CPU time left for a whole call."""
    return not process.closed and process.schedule.ran_s < _WARM_CPU_S


def _check_walls(missing: bytes, tolerated: Set[str] | None) -> None:
    names = {name for name in missing.decode("ascii", "replace").split(",") if name}
    if tolerated is not None and not names <= tolerated:
        raise WorkerMisbehaved("a wall is missing that the probe had")
