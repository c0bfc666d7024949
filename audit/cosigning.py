"""The log's side of witnessing: its newest checkpoint is shown to the witnesses until a quorum has cosigned it.

Nothing waits for this but the published checkpoint. It goes in rounds: all witnesses are asked about ONE checkpoint,
for a log that grows with every call would otherwise collect from each witness the cosignature of another. A round is
over when the quorum has cosigned or nobody is being asked any more; a witness that is slow misses rounds, one that
failed is left alone for a while, and neither keeps the others waiting.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from audit.errors import HeixiaError, ProofInvalid
from audit.note import NoteVerifier, head_of
from audit.policy import Policy
from audit.witness_client import Conflict, Contradicted, WitnessClient, WitnessFailed

PAUSE_S: Final = 1.0  # between two rounds: a receipt is cosigned within two seconds, a witness asked once a second
ROUND_S: Final = 12.0  # two requests of 5 s each and their proofs; then the newest checkpoint is shown instead
BACKOFF_S: Final = (1.0, 60.0)  # first and longest wait after failures in a row: doubled each time, spread by chance
CLOSE_S: Final = 1.0  # a stop does not wait for a witness that hangs


class Observer(Protocol):
    """Who is told what comes of it; called on threads of the witnesses, never holding up the log."""

    def published(self, checkpoint: str, size: int) -> None:
        """A checkpoint has the quorum, or has it with one more cosignature; sizes never fall."""

    def cosigned(self, name: str, size: int) -> None:
        """A witness has cosigned."""

    def failed(self, name: str, reason: str) -> None:
        """A witness gave nothing that counts; it is asked again."""

    def missed(self, size: int) -> None:
        """A round is over without its quorum."""

    def contradicted(self, client: WitnessClient) -> None:
        """A witness says that it has cosigned more than this log holds, or something else: it is to be heard."""


@dataclass
class _Round:
    """A checkpoint and the cosignatures that it has so far."""

    checkpoint: str
    size: int
    lines: dict[NoteVerifier, str] = field(default_factory=dict)

    @property
    def note(self) -> str:
        return self.checkpoint + "".join(self.lines.values())


@dataclass
class _Peer:
    """A witness, and what is known of it. Guarded by the lock of Cosigning, but for `size`, its own thread's."""

    client: WitnessClient
    size: int = 0  # cosigned last, as far as known; it says so where it is not
    job: _Round | None = None
    signed: str = ""  # the checkpoint that it cosigned last
    failures: int = 0
    retry_at: float = 0.0


class Cosigning:
    """Keeps asking the witnesses. `put` costs its caller a few microseconds; threads do the rest."""

    def __init__(
        self,
        policy: Policy,
        clients: Sequence[WitnessClient],
        prove: Callable[[int, int], list[bytes]],
        observer: Observer,
        *,
        clock: Callable[[], float],
        chance: Callable[[], float],
        pause_s: float = PAUSE_S,
    ) -> None:
        """Nothing is asked before `start`.

        Args:
            policy: whose quorum is wanted.
            clients: its witnesses that can be asked.
            prove: from one size of the log to another (audit.reprove.prove_consistency).
            observer: who is told.
            clock: seconds that never go back.
            chance: a number from 0 to 1.
            pause_s: between two rounds.
        """
        self._policy, self._prove, self._observer = policy, prove, observer
        self._clock, self._chance, self._pause_s = clock, chance, pause_s
        self._peers = [_Peer(client) for client in clients]
        self._changed = threading.Condition()
        self._telling = threading.Lock()  # one tells at a time, so that sizes never fall
        self._newest: str | None = None
        self._round: _Round | None = None
        self._told = -1
        self._closed = threading.Event()
        works = [("cosigning", self._go_round), *((f"witness {p.client.name}", self._asker(p)) for p in self._peers)]
        self._threads = [threading.Thread(target=work, name=name, daemon=True) for name, work in works]

    def start(self, checkpoint: str, published: int = -1) -> None:
        """Begin with this checkpoint; of older ones than size `published` nothing is told."""
        self._newest, self._told = checkpoint, published
        for thread in self._threads if self._peers else ():
            thread.start()

    def put(self, checkpoint: str) -> None:
        """Hand over a newer checkpoint; rounds take the newest."""
        with self._changed:
            self._newest = checkpoint
            self._changed.notify_all()

    def close(self) -> None:
        """Stop asking."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
        until = self._clock() + CLOSE_S
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, until - self._clock()))

    def _go_round(self) -> None:
        while not self._closed.is_set():
            with self._changed:
                ready = self._ready()
                if not ready or self._newest is None:
                    self._changed.wait(self._delay())
                    continue
                if self._round is None or self._round.checkpoint != self._newest:
                    self._round = _Round(self._newest, head_of(self._newest).size)
                now = self._round
                for peer in ready:
                    peer.job = now
                self._changed.notify_all()
                self._changed.wait_for(lambda now=now: self._closed.is_set() or self._settled(now), ROUND_S)  # type: ignore[misc]
                missed = not self._closed.is_set() and not self._has_quorum(now)
            if missed:
                self._observer.missed(now.size)
            self._closed.wait(self._pause_s)

    def _asker(self, peer: _Peer) -> Callable[[], None]:
        def ask_forever() -> None:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: peer.job is not None or self._closed.is_set())
                    job = peer.job
                if job is None or self._closed.is_set():
                    return
                self._ask(peer, job)

        return ask_forever

    def _ask(self, peer: _Peer, job: _Round) -> None:
        """Ask one witness about one checkpoint, and tell what came of it."""
        name = peer.client.name
        try:
            lines = self._cosignature(peer, job)
        except (WitnessFailed, HeixiaError) as error:
            # One more than this log has, or another history: what it has signed must be looked at.
            if isinstance(error, (Conflict, Contradicted)):
                self._observer.contradicted(peer.client)
            self._observer.failed(name, str(error))
            self._finish(peer, job, None)
            return
        self._observer.cosigned(name, job.size)
        self._finish(peer, job, lines)
        self._tell(job)

    def _cosignature(self, peer: _Peer, job: _Round) -> str:
        for again in (False, True):
            try:
                answer = peer.client.cosign(peer.size, self._prove(peer.size, job.size), job.checkpoint)
            except Conflict as conflict:
                if again or conflict.size > job.size:
                    raise
                peer.size = conflict.size
            else:
                peer.size = job.size
                return answer
        raise AssertionError  # the second turn returns or raises

    def _finish(self, peer: _Peer, job: _Round, lines: str | None) -> None:
        with self._changed:
            if lines is None:
                first, longest = BACKOFF_S
                wait = min(longest, first * 2**peer.failures)
                peer.failures = min(peer.failures + 1, 10)
                peer.retry_at = self._clock() + wait * (0.5 + self._chance() / 2)
            else:
                job.lines[peer.client.verifier] = lines
                peer.signed, peer.failures, peer.retry_at = job.checkpoint, 0, 0.0
            peer.job = None
            self._changed.notify_all()

    def _tell(self, job: _Round) -> None:
        with self._telling:
            with self._changed:
                note = job.note if self._has_quorum(job) and job.size >= self._told else None
            if note is not None and not self._closed.is_set():
                self._told = job.size
                self._observer.published(note, job.size)

    def _ready(self) -> list[_Peer]:
        now = self._clock()
        idle = [peer for peer in self._peers if peer.job is None and peer.signed != self._newest]
        return [peer for peer in idle if peer.retry_at <= now]

    def _delay(self) -> float | None:
        """Seconds until somebody who failed may be asked again; None = whenever something changes."""
        waits = [peer.retry_at for peer in self._peers if peer.job is None and peer.signed != self._newest]
        return max(0.0, min(waits) - self._clock()) if waits else None

    def _settled(self, job: _Round) -> bool:
        return self._has_quorum(job) or not any(peer.job is job for peer in self._peers)

    def _has_quorum(self, job: _Round) -> bool:
        try:
            self._policy.check_quorum(job.lines.keys())
        except ProofInvalid:
            return False
        return True
