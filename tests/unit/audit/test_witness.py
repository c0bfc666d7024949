"""The witness's decisions and memory: every status, nothing cosigned that contradicts, nothing forgotten."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.cosign import Cosigner
from audit.errors import CheckpointDeclined, WitnessStateInvalid
from audit.merkle import EMPTY_ROOT
from audit.note import ED25519, Checkpoint, Note, NoteVerifier, decode_base64
from audit.policy import Policy
from audit.witness import PROOF_LINES_MAX, Submission, origin_hash, write_submission
from audit.witness_state import State, Witness
from tests.unit.audit.trees import Tree
from tests.unit.audit.vectors import ORIGIN, signer

NAME = "witness.example/w1"
LOG = Policy((signer().verifier,))
HASHED = origin_hash(ORIGIN)


def opened(folder: Path, policy: Policy = LOG) -> tuple[State, Witness]:
    """A witness of a folder, which must be closed before another opens."""
    state = State(folder)
    return state, Witness(state, state.cosigner(NAME, None), policy, lambda: 1_700_000_000.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A state that is not there yet."""
    return tmp_path / "state"


@pytest.fixture
def witness(folder: Path) -> Iterator[Witness]:
    """A witness that has cosigned nothing."""
    state, made = opened(folder)
    yield made
    state.close()


def declined(witness: Witness, body: bytes) -> CheckpointDeclined:
    """The refusal of a request."""
    with pytest.raises(CheckpointDeclined) as caught:
        witness.add(body)
    return caught.value


def status(witness: Witness, body: bytes) -> int:
    """What a request is answered with."""
    try:
        witness.add(body)
    except CheckpointDeclined as refused:
        return refused.status
    return 200


# FiloSottile/torchwood, cmd/litewitness/testdata/litewitness.txt: a real witness's requests and answers.
SIGSUM = "sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562"
SIGSUM_KEY = bytes.fromhex("ffdc2d4d98e4124d3feaf788c0c2f9abfd796083d1f0495437f302ec79cf100f")
ONE = ("1", "KgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
ONE_BY = "UgIom7fPZTqpxWWhyjWduBvTvGVqsokMbqTArsQilegKoFBJQjUFAmQ0+YeSPM3wfUQMFSzVnnNuWRTYrajXpNUbIQY="
THREE = ("3", "RcCI1Nk56ZcSmIEfIn0SleqtV7uvrlXNccFx595Iwl0=")
THREE_BY = "UgIom2VbtIcdFbwFAy1n7s6IkAxIY6J/GQOTuZF2ORV39d75cbAj2aQYwyJre36kezNobZs4SUUdrcawfAB8WVrx6go="
FIVE = ("5", "QrtXrQZCCvpIgsSmOsah7HdICzMLLyDfxToMql9WTjY=")
FIVE_BY = "UgIomw/EOJmWi0i1FQsOj+etB7F8IccFam/jgd6wzRns4QPVmyEZtdvl1U2KEmLOZ/ASRcWJi0tW90dJWAShei7sDww="
TWO_FROM_ONE = ("KgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "KgIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
TWO_FROM_THREE = (
    "KgIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "KgMAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "wgiIFdZfYNv6WU1OllBKsWnLYIS/DBMqt8Uh/S4OukE=",
    "KgQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
)
FLOW: tuple[tuple[int, tuple[str, ...], tuple[str, str], str, int], ...] = (
    (0, (), ONE, ONE_BY, 200),
    (
        1,
        TWO_FROM_ONE,
        THREE,
        THREE_BY.replace("x6go=", "x6gw="),
        403,
    ),  # there x6gx=, which is not canonical base64: 400 here
    (1, (), THREE, THREE_BY, 422),
    (1, (TWO_FROM_ONE[0], TWO_FROM_ONE[1].replace("AAAA=", "ABAA=")), THREE, THREE_BY, 422),
    (1, TWO_FROM_ONE, THREE, THREE_BY, 200),
    (1, TWO_FROM_ONE, FIVE, FIVE_BY, 409),
    (3, TWO_FROM_THREE, FIVE, FIVE_BY, 200),
    (0, (), FIVE, FIVE_BY, 409),
)


def test_a_real_log_is_answered_as_a_real_witness_answers_it(folder: Path) -> None:
    """Sigsum's checkpoints and proofs, request by request, with litewitness's statuses."""
    state, witness = opened(folder, Policy((NoteVerifier(SIGSUM, ED25519, SIGSUM_KEY),)))
    for old, proof, (size, root), by, expected in FLOW:
        note = f"{SIGSUM}\n{size}\n{root}\n\n\u2014 {SIGSUM} {by}\n"
        assert status(witness, write_submission(old, map(decode_base64, proof), note)) == expected, (old, size)
    assert witness.sizes == {SIGSUM: 5}
    state.close()


def test_a_log_grows_under_its_witness(witness: Witness, folder: Path) -> None:
    """From nothing to 0, 1, 5, 5 again and 300 entries: each time a cosignature that verifies, and it is served."""
    keys = (folder / "witness.vkey").read_text().splitlines()
    old = 0
    for size in (0, 1, 5, 5, 300):
        tree = Tree(size)
        checkpoint, line = witness.add(tree.request(old))
        note = Note.parse(tree.checkpoint + line)
        for key in keys:
            trust = Policy.parse(f"log {signer().verifier.vkey}\nwitness w {key}\nquorum w\n")
            assert trust.verify(tree.checkpoint + line) == checkpoint == Checkpoint.parse(note.text)
        assert witness.latest(HASHED) == tree.checkpoint + line
        old = size


MALFORMED = {
    "empty": b"",
    "no old": Tree(2).checkpoint.encode(),
    "old without number": b"old \n\n" + Tree(2).checkpoint.encode(),
    "leading zero": b"old 00\n\n" + Tree(2).checkpoint.encode(),
    "negative": b"old -1\n\n" + Tree(2).checkpoint.encode(),
    "no empty line": b"old 0\n" + Tree(2).checkpoint.encode(),
    "no checkpoint": b"old 0\n\n",
    "no signature": b"old 0\n\n" + Tree(2).text.encode(),
    "carriage returns": Tree(2).request(0).replace(b"\n", b"\r\n"),
    "proof is no base64": b"old 1\n!\n\n" + Tree(2).checkpoint.encode(),
    "proof line short": b"old 1\nAAAA\n\n" + Tree(2).checkpoint.encode(),
    "proof too long": write_submission(1, [b"\x00" * 32] * (PROOF_LINES_MAX + 1), Tree(2).checkpoint),
    "no UTF-8": b"old 0\n\n\xff" + Tree(2).checkpoint.encode(),
    "noise": os.urandom(200),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_request_is_400(witness: Witness, name: str) -> None:
    """And nothing was cosigned."""
    assert declined(witness, MALFORMED[name]).status == 400
    assert witness.latest(HASHED) is None


def test_an_old_size_above_the_checkpoint_is_400(witness: Witness) -> None:
    """Whatever was cosigned before."""
    assert declined(witness, Tree(3).request(4)).status == 400
    witness.add(Tree(5).request(0))
    assert declined(witness, write_submission(5, [], Tree(3).checkpoint)).status == 400


def test_a_log_that_nobody_named_is_404(witness: Witness) -> None:
    """Its own signature does not help it."""
    stranger = Checkpoint("example.com/other", 0, EMPTY_ROOT).text
    body = write_submission(0, [], signer("example.com/other").sign(stranger))
    assert declined(witness, body).status == 404


def test_a_checkpoint_that_its_log_did_not_sign_is_403(witness: Witness) -> None:
    """Signed by a key of another name, by another key of that name, or with a signature that fails."""
    for by in (signer("example.com/other"), signer(seed=b"\x02" * 32)):
        assert declined(witness, write_submission(0, [], by.sign(Tree(2).text))).status == 403
    spoilt = Tree(2).checkpoint.replace("\n2\n", "\n3\n")
    assert declined(witness, write_submission(0, [], spoilt)).status == 403
    assert witness.latest(HASHED) is None


def test_another_old_size_than_the_recorded_is_409_and_says_it(witness: Witness) -> None:
    """Before anything was cosigned it is 0."""
    refused = declined(witness, Tree(7).request(3))
    assert (refused.status, refused.size) == (409, 0)
    witness.add(Tree(5).request(0))
    for old in (0, 3, 6):
        refused = declined(witness, Tree(7).request(old))
        assert (refused.status, refused.size) == (409, 5)
    # With nothing but older news the log learns that it is behind.
    refused = declined(witness, Tree(4).request(4))
    assert (refused.status, refused.size) == (409, 5)


def test_what_does_not_go_on_from_there_is_422(witness: Witness) -> None:
    """Another tree of the size, a fork, a wrong, missing or needless proof; the signed note is kept as evidence."""
    empty = signer().sign(Checkpoint(ORIGIN, 0, b"\x01" * 32).text)
    assert declined(witness, write_submission(0, [], empty)).status == 422
    assert declined(witness, write_submission(0, [b"\x00" * 32], Tree(4).checkpoint)).status == 422
    witness.add(Tree(5).request(0))
    before = witness.latest(HASHED)
    for body in (
        Tree(5, fork=2).request(5),
        Tree(9, fork=2).request(5),
        write_submission(5, [], Tree(9).checkpoint),
        write_submission(5, Tree(9).proof(4), Tree(9).checkpoint),
        write_submission(5, [*Tree(9).proof(5), b"\x00" * 32], Tree(9).checkpoint),
        write_submission(5, [b"\x00" * 32], Tree(5).checkpoint),
    ):
        refused = declined(witness, body)
        assert refused.status == 422
        assert refused.note == Submission.parse(body).note.text + "\n" + refused.note.rpartition("\n\n")[2]
        assert LOG.verify(refused.note)
    assert witness.latest(HASHED) == before


def test_lines_of_others_are_neither_believed_nor_kept(witness: Witness, folder: Path) -> None:
    """A forged line in the witness's own name, a stranger's, the log's own twice: what is kept has two lines."""
    tree = Tree(4)
    forged = f"\u2014 {NAME} " + tree.checkpoint.rpartition(" ")[2]
    own = tree.checkpoint.rpartition("\n\n")[2]
    stranger = Cosigner.generate("nobody.example").cosign(tree.text, 5)
    _, line = witness.add(write_submission(0, [], tree.checkpoint + forged + stranger + own))
    assert witness.latest(HASHED) == tree.checkpoint + line
    state_of_file = (folder / f"{HASHED}.checkpoint").read_text()
    assert state_of_file == tree.checkpoint + line


def test_extension_lines_are_cosigned_with_the_rest(witness: Witness) -> None:
    """As the specification says: the whole text is signed, the first three lines are what is judged."""
    text = Tree(3).text + "an extension\n"
    checkpoint, line = witness.add(write_submission(0, [], signer().sign(text)))
    assert checkpoint.extensions == ("an extension",)
    assert Note.parse(signer().sign(text) + line)
    witness.add(Tree(6).request(3))


Op = tuple[bool, int, int, str]
OPS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 12), st.integers(0, 12), st.sampled_from(["add", "told", "lie", "again"])),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 8), OPS)
def test_no_two_cosigned_trees_contradict_each_other(fork: int, ops: list[Op]) -> None:
    """Whatever order of sizes, forks, claims, proofs and restarts: each cosigned tree extends the one before."""
    signed: list[Tree] = []
    with TemporaryDirectory() as path:
        folder = Path(path) / "state"
        state, witness = opened(folder)
        for forked, size, old, how in ops:
            tree = Tree(size, fork if forked else None)
            if how == "again":
                state.close()
                state, witness = opened(folder)
            known = signed[-1].size if signed else 0
            claimed = known if how in ("told", "again") else old
            proof = Tree(size).proof(claimed) if how == "lie" else tree.proof(claimed)
            if status(witness, write_submission(claimed, proof, tree.checkpoint)) == 200:
                signed.append(tree)
        state.close()
    for before, after in pairwise(signed):
        assert after.leaves[: before.size] == before.leaves


def test_of_many_at_once_one_wins(witness: Witness) -> None:
    """Two histories sent by many threads at the same moment: all that was cosigned is one history."""
    trees = [Tree(10 + n, fork) for n in range(4) for fork in (None, 3)]
    barrier = threading.Barrier(len(trees))

    def send(tree: Tree) -> int:
        barrier.wait(10)
        return status(witness, tree.request(0))

    with ThreadPoolExecutor(len(trees)) as pool:
        assert sorted(pool.map(send, trees)) == [200] + [409] * (len(trees) - 1)


@pytest.mark.parametrize(("call", "nth"), [("open", 1), ("fsync", 1), ("replace", 1), ("open", 2), ("fsync", 2)])
def test_what_could_not_be_kept_is_not_cosigned(
    witness: Witness, folder: Path, call: str, nth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step of writing fails once: no line leaves; after it, and after a restart, the log goes on."""
    witness.add(Tree(3).request(0))
    real: Callable[..., object] = getattr(os, call)
    calls = 0

    def failing(*args: object, **rest: object) -> object:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise OSError(28, "No space left on device")
        return real(*args, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing)
        with pytest.raises(OSError, match="No space"):
            witness.add(Tree(5).request(3))
    assert calls == nth
    witness.add(Tree(6, fork=4).request(3))  # nothing of the other history was ever cosigned
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    state, again = opened(copy)
    assert again.sizes == {ORIGIN: 6}
    state.close()


def test_two_witnesses_do_not_share_a_state(witness: Witness, folder: Path) -> None:
    """The second is refused by name while the first runs."""
    with pytest.raises(WitnessStateInvalid, match="another witness uses it"):
        State(folder)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


SPOIL: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "empty": lambda path: path.write_bytes(b""),
    "noise": lambda path: path.write_bytes(os.urandom(300)),
    "smaller": lambda path: path.write_text(path.read_text().replace("\n5\n", "\n4\n")),
    "without its line": lambda path: path.write_text(Tree(5).checkpoint),
    "a folder": _folder,
}


@pytest.mark.parametrize("how", SPOIL)
def test_a_damaged_memory_is_no_fresh_start(folder: Path, how: str) -> None:
    """It names the file and does not start; a start from nothing would cosign whatever it is shown."""
    state, witness = opened(folder)
    witness.add(Tree(5).request(0))
    state.close()
    path = folder / f"{HASHED}.checkpoint"
    SPOIL[how](path)
    with pytest.raises(WitnessStateInvalid, match=HASHED):
        opened(folder)


def test_a_key_that_is_gone_is_not_made_anew(folder: Path) -> None:
    """Beside what was cosigned with it; and another key cannot take its place."""
    state, witness = opened(folder)
    witness.add(Tree(5).request(0))
    state.close()
    key = (folder / "witness.key").read_text()
    assert (folder / "witness.key").stat().st_mode & 0o777 == 0o600
    (folder / "witness.key").unlink()
    with pytest.raises(WitnessStateInvalid, match="the key is gone"):
        opened(folder)
    (folder / "witness.key").write_text(Cosigner.generate(NAME).private)
    with pytest.raises(WitnessStateInvalid, match=HASHED):
        opened(folder)
    (folder / "witness.key").write_text(key)
    state, again = opened(folder)
    assert again.sizes == {ORIGIN: 5}
    state.close()


def test_a_new_witness_needs_a_name(folder: Path) -> None:
    """Which its key then keeps."""
    state = State(folder)
    with pytest.raises(WitnessStateInvalid, match="--name"):
        state.cosigner(None, None)
    made = state.cosigner(NAME, None)
    assert state.cosigner(None, None).private == made.private
    with pytest.raises(WitnessStateInvalid, match=NAME):
        state.cosigner("witness.example/w2", None)
    state.close()
