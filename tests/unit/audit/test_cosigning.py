"""Rounds of cosigning with real witnesses in this process: quorums, outages, conflicts; nobody keeps others waiting."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import pytest

from audit.cosigning import Cosigning
from audit.errors import CheckpointDeclined
from audit.note import Checkpoint, Note
from audit.policy import Policy
from audit.witness import lines_of, write_submission
from audit.witness_client import Conflict, Contradicted, WitnessClient, WitnessFailed
from audit.witness_state import State, Witness
from tests.unit.audit.trees import Tree
from tests.unit.audit.vectors import signer

LOG = Policy((signer().verifier,))
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Local(WitnessClient):
    """A witness without sockets. It can be away, or hang until it is let go."""

    witness: Witness
    away: threading.Event = field(default_factory=threading.Event)
    free: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[int, int]] = field(default_factory=list)

    def cosign(self, old: int, proof: Sequence[bytes], checkpoint: str) -> str:
        """As the client over HTTP."""
        self.asked.append((old, Checkpoint.parse(Note.parse(checkpoint).text).size))
        assert self.free.wait(PATIENCE_S)
        if self.away.is_set():
            raise WitnessFailed("no answer")
        try:
            lines = self.witness.add(write_submission(old, proof, checkpoint))[1]
            return lines_of(Note.parse(checkpoint + lines), [self.verifier])
        except CheckpointDeclined as declined:
            if declined.size is not None:
                raise Conflict(declined.size) from declined
            raise Contradicted("no") from declined


class Heard:
    """An observer that keeps what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []
        self._news = threading.Condition(threading.RLock())

    def published(self, checkpoint: str, size: int) -> None:
        """Keep it."""
        self._note("published", checkpoint)

    def cosigned(self, name: str, size: int) -> None:
        """Keep it."""
        self._note("cosigned", (name, size))

    def failed(self, name: str, reason: str) -> None:
        """Keep it."""
        self._note("failed", name)

    def missed(self, size: int) -> None:
        """Keep it."""
        self._note("missed", size)

    def contradicted(self, client: WitnessClient) -> None:
        """Keep it."""
        self._note("contradicted", client.name)

    def of(self, what: str) -> list[object]:
        """What was told of one kind."""
        with self._news:
            return [thing for kind, thing in self.told if kind == what]

    def until(self, true: Callable[[], bool]) -> None:
        """Wait until it is so."""
        deadline = monotonic() + PATIENCE_S
        with self._news:
            assert self._news.wait_for(true, PATIENCE_S), self.told
        assert monotonic() < deadline

    def sizes(self) -> list[int]:
        """Of what was published."""
        return [Checkpoint.parse(Note.parse(str(note)).text).size for note in self.of("published")]

    def _note(self, what: str, thing: object) -> None:
        with self._news:
            self.told.append((what, thing))
            self._news.notify_all()


@pytest.fixture
def locals_(tmp_path: Path) -> Iterator[list[Local]]:
    """Three witnesses."""
    states = [State(tmp_path / f"w{at}") for at in range(3)]
    made = []
    for at, state in enumerate(states):
        key = state.cosigner(f"w{at}.example", None)
        made.append(Local(f"w{at}", key.verifier, "http://w", Witness(state, key, LOG, lambda: 1_700_000_000.0)))
        made[-1].free.set()
    yield made
    for state in states:
        state.close()


def policy_of(clients: list[Local], quorum: str) -> Policy:
    """The policy that asks for so many of them."""
    lines = [f"witness {c.name} {c.verifier.vkey} {c.url}" for c in clients]
    group = f"group g {quorum} {' '.join(c.name for c in clients)}"
    return Policy.parse("\n".join([f"log {signer().verifier.vkey}", *lines, group, "quorum g", ""]))


@contextmanager
def cosigning(
    clients: list[Local], quorum: str, first: Tree, fork: int | None = None
) -> Iterator[tuple[Cosigning, Heard]]:
    """Ask them, without pauses."""
    heard = Heard()

    def prove(old: int, size: int) -> list[bytes]:
        return Tree(size, fork).proof(old)

    made = Cosigning(
        policy_of(clients, quorum), clients, prove, heard, clock=monotonic, chance=lambda: 0.0, pause_s=0.0
    )
    made.start(first.checkpoint)
    try:
        yield made, heard
    finally:
        for client in clients:
            client.free.set()
        made.close()


def test_all_three_cosign_and_each_cosignature_is_added(locals_: list[Local]) -> None:
    """The last published note has them all, and verifies under a policy of all; sizes never fall."""
    with cosigning(locals_, "2", Tree(4)) as (made, heard):
        for size in range(5, 30):
            made.put(Tree(size).checkpoint)
        heard.until(lambda: {("cosigned", (c.name, 29)) for c in locals_} <= set(heard.told))
        heard.until(lambda: any(len(Note.parse(str(n)).signatures) == 4 for n in heard.of("published")[-1:]))
        assert policy_of(locals_, "all").verify(str(heard.of("published")[-1])).size == 29
    assert heard.sizes() == sorted(heard.sizes())
    assert heard.of("failed") == heard.of("missed") == []


def test_a_witness_that_hangs_keeps_nobody_waiting(locals_: list[Local]) -> None:
    """Two of three publish size after size meanwhile; let go, it catches up."""
    slow = locals_[0]
    slow.free.clear()
    with cosigning(locals_, "2", Tree(1)) as (made, heard):
        for size in (2, 3, 9):
            made.put(Tree(size).checkpoint)
            heard.until(lambda size=size: size in heard.sizes())  # type: ignore[misc]
        assert len(slow.asked) == 1
        slow.free.set()
        heard.until(lambda: ("cosigned", (slow.name, 9)) in heard.told)


def test_without_a_quorum_nothing_is_published(locals_: list[Local]) -> None:
    """Two away: missed and said; back again, what they lacked is published."""
    for client in locals_[:2]:
        client.away.set()
    with cosigning(locals_, "2", Tree(3)) as (made, heard):
        heard.until(lambda: bool(heard.of("missed")))
        made.put(Tree(8).checkpoint)
        heard.until(lambda: 8 in heard.of("missed"))
        assert heard.of("published") == []
        locals_[0].away.clear()
        heard.until(lambda: 8 in heard.sizes())
    assert policy_of(locals_, "2").verify(str(heard.of("published")[-1])).size == 8


def test_a_witness_that_fails_is_left_alone_for_a_while(locals_: list[Local]) -> None:
    """While the others sign hundreds of sizes it is asked a few times."""
    locals_[0].away.set()
    with cosigning(locals_, "2", Tree(1)) as (made, heard):
        for size in range(2, 60):
            made.put(Tree(size).checkpoint)
            heard.until(lambda size=size: heard.sizes()[-1:] == [size])  # type: ignore[misc]
        assert len(locals_[0].asked) < 10 < len(locals_[1].asked)


def test_a_witness_says_what_size_it_is_at(locals_: list[Local]) -> None:
    """A log that forgot asks from 0, is told, and proves from there; next time it knows."""
    locals_[0].witness.add(Tree(6).request(0))
    with cosigning(locals_[:1], "1", Tree(9)) as (made, heard):
        heard.until(lambda: heard.sizes() == [9])
        made.put(Tree(12).checkpoint)
        heard.until(lambda: heard.sizes() == [9, 12])
    assert locals_[0].asked == [(0, 9), (6, 9), (9, 12)]
    assert heard.of("contradicted") == []


@pytest.mark.parametrize(("first", "fork"), [(Tree(4), None), (Tree(9, fork=2), 2), (Tree(6, fork=2), 2)])
def test_a_witness_that_knows_better_is_heard(locals_: list[Local], first: Tree, fork: int | None) -> None:
    """It is ahead of the log, or the log goes on from another history: told to the observer, nothing is published."""
    locals_[0].witness.add(Tree(6).request(0))
    with cosigning(locals_[:1], "1", first, fork) as (_, heard):
        heard.until(lambda: bool(heard.of("contradicted")))
    assert heard.of("published") == []


def test_a_stop_does_not_wait_for_a_witness_that_hangs(locals_: list[Local]) -> None:
    """It ends within a second or so."""
    locals_[0].free.clear()
    with cosigning(locals_, "all", Tree(5)) as (made, heard):
        heard.until(lambda: bool(heard.of("cosigned")))
        began = monotonic()
        made.close()
        assert monotonic() - began < 5
