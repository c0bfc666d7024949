"""A served enclave with three witnesses, two of them its quorum: cosigned receipts, outages, restores that are seen."""

import json
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from audit.cosign import Cosigner
from audit.export import write_file
from audit.note import Checkpoint, Note
from audit.policy import Policy
from audit.proof import TlogProof
from audit.receipt import Receipt, verify_receipt
from audit.schema import open_engine
from audit.source import DatabaseSource
from audit.tiles import tiles_of
from enclave_api.cli.example import FIELDS
from enclave_api.home import Home
from tests.integration.conftest import PRODUCT, Stage
from tests.integration.test_bad_home import begin, end
from tests.room import Room, datasets_of, log_url
from tests.witnesses import Witness, fetch, trust_witnesses

NAMES = datasets_of(FIELDS)
ORIGIN = "heixia.test/log"
NAMES_OF_WITNESSES = ("bank-one.example/w", "bank-two.example/w", "regulator.example/w")
PATIENCE_S = 30.0  # for something that takes about two seconds


@dataclass
class Watched:
    """A room and the witnesses that its policy names."""

    room: Room
    witnesses: list[Witness]
    subject: str

    @property
    def policy(self) -> Policy:
        """What a verifier is given."""
        return Policy.parse(self.room.home.policy.read_text())

    def published(self) -> Checkpoint:
        """What the door shows, verified with its quorum."""
        return self.policy.verify(self.room.auditor.checkpoint())

    def covered(self, size: int) -> bool:
        """Whether what the door shows has a quorum and so many entries."""
        note = Note.parse(self.room.auditor.checkpoint())
        self.policy.check_quorum(self.policy.signers(note))
        return Checkpoint.parse(note.text).size >= size

    def ask(self, request_id: str | None = None, consent_id: str | None = None) -> tuple[str, str, Receipt]:
        """Asks for the limit: request id, consent id, receipt."""
        consent_id = consent_id or self.room.consent(self.subject, PRODUCT, NAMES)
        request_id = request_id or str(uuid.uuid4())
        limit = self.room.portal.request_limit(
            subject=self.subject, product=PRODUCT, consent_id=consent_id, request_id=request_id
        )
        return request_id, consent_id, limit.receipt

    def said(self) -> list[dict[str, object]]:
        """The server's log."""
        lines = self.room.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def stop(self) -> None:
        """Ends everything."""
        self.room.stop()
        for witness in self.witnesses:
            witness.stop()


def until(true: Callable[[], bool]) -> None:
    """Waits for what happens in the background, by asking."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)  # between two questions; the deadline alone decides


def watched_room(folder: Path, home: Home | None = None) -> tuple[Room, list[Witness]]:
    """A room that was not started, with three witnesses that were."""
    room = Room.make(folder) if home is None else Room(home, Room.make(folder / "catalogue").catalog)
    policy = folder / "log.policy"
    shutil.copy(room.home.policy, policy)
    witnesses = [Witness(name, folder / f"w{at}", policy).start() for at, name in enumerate(NAMES_OF_WITNESSES)]
    trust_witnesses(room.home, witnesses, 2)
    return room, witnesses


@pytest.fixture(scope="module")
def watched(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """One for the tests that leave it whole."""
    room, witnesses = watched_room(tmp_path_factory.mktemp("watched"))
    room.start()
    room.load(stage.world, NAMES)
    room.launch(stage.example)
    made = Watched(room, witnesses, stage.world.subjects[0])
    yield made
    made.stop()


def all_ok(receipt: Receipt, policy: Policy) -> dict[str, bool]:
    """The steps of a receipt's verification."""
    return {step.name: step.ok for step in verify_receipt(receipt, policy)}


def test_a_repeat_brings_a_receipt_with_the_quorum(watched: Watched) -> None:
    """The answer leaves with the log's signature alone; asked again it is proved under a cosigned checkpoint."""
    request_id, consent_id, first = watched.ask()
    index = TlogProof.parse(first.proof).index
    steps = all_ok(first, watched.policy)
    assert [name for name, ok in steps.items() if not ok] == ["tree is cosigned by the quorum"]
    until(lambda: watched.covered(index + 1))
    _, _, again = watched.ask(request_id, consent_id)
    assert again.entry == first.entry
    assert all(all_ok(again, watched.policy).values())
    # Auditors' proofs likewise, and that the cosigned log goes on from an older size.
    assert watched.policy.verify(TlogProof.parse(watched.room.auditor.entry(index).proof).checkpoint)
    assert watched.policy.verify(watched.room.auditor.consistency(index)[1])
    size = len(watched.room.entries())
    assert Checkpoint.parse(Note.parse(watched.room.auditor.consistency(size)[1]).text).size == size


def test_an_old_receipt_is_proved_anew_offline(watched: Watched, tmp_path: Path) -> None:
    """From a folder of the log under its cosigned checkpoint; kept, it needs the folder no more."""
    _, _, receipt = watched.ask()
    (tmp_path / "receipt.json").write_text(receipt.dump())
    verify = ["verify", str(tmp_path / "receipt.json"), "--policy", str(watched.room.home.policy)]
    early = heixia(*verify)
    assert (early.returncode, "--log" in early.stderr) == (1, True)
    until(lambda: watched.covered(TlogProof.parse(receipt.proof).index + 1))
    engine = open_engine(watched.room.home.database, create=False)
    published = watched.room.auditor.checkpoint()
    size = Checkpoint.parse(Note.parse(published).text).size
    source = DatabaseSource(engine)
    for tile in tiles_of(size):
        write_file(tmp_path / "log", tile.path, source.read(tile))
    write_file(tmp_path / "log", "checkpoint", published.encode())
    engine.dispose()
    kept = tmp_path / "cosigned.json"
    whole = heixia(*verify, "--log", str(tmp_path / "log"), "--keep", str(kept))
    assert (whole.returncode, "goes on from the receipt" in whole.stdout) == (0, True)
    assert heixia("verify", str(kept), *verify[2:]).returncode == 0


def heixia(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs a command to its end."""
    command = [sys.executable, "-m", "enclave_api", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_witnesses_keep_up(watched: Watched) -> None:
    """Each of the three comes to the log's last entry, and what they serve is one tree."""
    watched.ask()
    size = len(watched.room.entries())
    until(lambda: all(witness.size(ORIGIN) == size for witness in watched.witnesses))
    assert len({Note.parse(witness.latest(ORIGIN)).text for witness in watched.witnesses}) == 1
    until(lambda: len(Note.parse(watched.room.auditor.checkpoint()).signatures) == 5)  # latecomers are added


def test_one_witness_down_is_no_loss(watched: Watched) -> None:
    """Two of three go on cosigning; the third, back again, catches up from where it was."""
    down = watched.witnesses[0]
    down.stop()
    watched.ask()
    until(lambda: watched.covered(len(watched.room.entries())))
    assert {"event": "witness gave no cosignature", "name": down.name}.items() <= watched.said()[-1].items()
    before = down.state.joinpath("witness.key").read_text()
    down.start()
    assert down.state.joinpath("witness.key").read_text() == before
    until(lambda: down.size(ORIGIN) == len(watched.room.entries()))


def test_two_witnesses_down_hold_up_nobody(watched: Watched) -> None:
    """Limits are answered; what the door shows keeps its quorum and its age; said once; then it goes on."""
    for witness in watched.witnesses[:2]:
        witness.kill()
    before = watched.published()
    count = len(watched.said())
    began = time.monotonic()
    _, _, receipt = watched.ask()
    assert time.monotonic() - began < 5
    assert all_ok(receipt, Policy(watched.policy.logs))
    until(lambda: any(line["event"].startswith("quorum of witnesses missed") for line in watched.said()[count:]))  # type: ignore[attr-defined]
    watched.ask()
    assert watched.published().size <= len(watched.room.entries()) - 2
    assert watched.published() == before or watched.published().size >= before.size
    for witness in watched.witnesses[:2]:
        witness.start()
    until(lambda: watched.covered(len(watched.room.entries())))
    missed = [line for line in watched.said()[count:] if str(line["event"]).startswith("quorum of witnesses missed")]
    assert len(missed) == 1


def test_a_restart_shows_what_was_published(watched: Watched) -> None:
    """Killed while its witnesses are away, the server still shows the cosigned checkpoint that it showed before."""
    until(lambda: watched.covered(len(watched.room.entries())))
    before = watched.published()
    for witness in watched.witnesses:
        witness.stop()
    watched.room.kill()
    watched.room.start()
    assert watched.published() == before
    silent = [line["name"] for line in watched.said() if str(line["event"]).startswith("witness not heard")]
    assert sorted(map(str, silent)) == sorted(NAMES_OF_WITNESSES)
    for witness in watched.witnesses:
        witness.start()
    until(lambda: watched.covered(len(watched.room.entries())))


def test_the_log_s_open_door_shows_the_cosigned_checkpoint(watched: Watched, tmp_path: Path) -> None:
    """An old receipt is proved from its URL, under a policy with the quorum."""
    _, _, receipt = watched.ask()
    (tmp_path / "receipt.json").write_text(receipt.dump())
    watched.room.stop()
    watched.room.start("--log-listen", "127.0.0.1:0")
    url = log_url(watched.room)
    until(lambda: watched.covered(len(watched.room.entries())))
    assert watched.policy.verify(fetch(f"{url}checkpoint")[2])
    verify = ["verify", str(tmp_path / "receipt.json"), "--policy", str(watched.room.home.policy), "--log", url]
    assert heixia(*verify).returncode == 0


def test_operators_see_size_and_age(watched: Watched) -> None:
    """One figure a witness, by the names of the policy; nothing else is told."""
    watched.room.stop()
    port = free_port()
    watched.room.start("--metrics", f"127.0.0.1:{port}")
    until(lambda: watched.covered(len(watched.room.entries())))
    until(lambda: "regulator" in fetch(f"http://127.0.0.1:{port}/metrics")[2])
    text = fetch(f"http://127.0.0.1:{port}/metrics")[2]
    sizes = {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if line[:1] != "#"}
    size = len(watched.room.entries())
    assert sizes["heixia_log_entries"] == sizes["heixia_log_published_entries"] == size
    for name in NAMES_OF_WITNESSES:
        assert sizes[f'heixia_witness_entries{{witness="{name}"}}'] == size
        assert 0 <= sizes[f'heixia_witness_age_seconds{{witness="{name}"}}'] < PATIENCE_S


def free_port() -> int:
    """A port that nobody listens on."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Room, list[Witness]]]:
    """A room and witnesses of a test's own; nothing is loaded."""
    room, witnesses = watched_room(tmp_path)
    yield room, witnesses
    room.stop()
    for witness in witnesses:
        witness.stop()


def grow(room: Room, count: int) -> None:
    """So many more entries."""
    for _ in range(count):
        room.auditor.entry(0)


def seen_by_all(room: Room, witnesses: list[Witness]) -> int:
    """Waits until all witnesses have cosigned the whole log; its size."""
    size = len(room.entries())
    until(lambda: all(fetch(f"{w.url}/{'0' * 64}/checkpoint")[0] and _size(w) == size for w in witnesses))
    return size


def _size(witness: Witness) -> int:
    try:
        return witness.size(ORIGIN)
    except AssertionError:
        return -1


FILES = ("heixia.db", "anchor/checkpoint", "public/checkpoint")


def save(home: Path, to: Path) -> None:
    """Copies what an operator's backup has; the server is stopped."""
    for name in FILES:
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(home / name, to / name)


def restore(home: Path, of: Path) -> None:
    """Puts it back."""
    for beside in home.glob("heixia.db-*"):
        beside.unlink()
    for name in FILES:
        shutil.copy(of / name, home / name)


def test_a_restored_database_is_refused_because_a_witness_knows_better(
    own: tuple[Room, list[Witness]], tmp_path: Path
) -> None:
    """Database, anchor and published checkpoint restored together: the start names the witness and both sizes.

    Accepting it leaves an entry, and the next start needs no option; the witnesses follow no more, and it is said.
    """
    room, witnesses = own
    room.start()
    grow(room, 3)
    seen_by_all(room, witnesses)
    room.stop()
    save(room.home.path, tmp_path / "backup")
    room.start()
    grow(room, 4)
    size = seen_by_all(room, witnesses)
    room.stop()
    restore(room.home.path, tmp_path / "backup")
    small = len(room.entries())

    how = end(begin(room.home.path))
    assert (how.code, "[ledger_rolled_back]" in how.err, "Traceback" in how.err) == (1, True, False)
    assert f"behind a witness; the log has {small} entries, witness " in how.err
    assert f" says {size}" in how.err
    assert len(room.entries()) == small

    assert "serving on" in end(begin(room.home.path, "--accept-rollback")).out
    accepted, started = room.entries(small)
    assert (accepted["kind"], accepted["reason"], accepted["anchored"]) == (
        "rollback.accepted",
        "behind a witness",
        size,
    )
    assert started["kind"] == "enclave.started"

    room.start()  # without the option
    grow(room, size)  # past what they know: now it is another history
    until(lambda: "rollback was accepted" in room.log.read_text())
    assert all(witness.size(ORIGIN) == size for witness in witnesses)
    assert room.auditor.checkpoint()


def test_witnesses_that_come_back_end_a_server_that_was_rolled_back(
    own: tuple[Room, list[Witness]], tmp_path: Path
) -> None:
    """Who cuts the network for the start gains until it is there again: then the service ends itself."""
    room, witnesses = own
    room.start()
    seen_by_all(room, witnesses)
    room.stop()
    save(room.home.path, tmp_path / "backup")
    room.start()
    grow(room, 5)
    seen_by_all(room, witnesses)
    room.stop()
    restore(room.home.path, tmp_path / "backup")
    for witness in witnesses:
        witness.stop()
    room.start()
    witnesses[2].start()
    process, room.process = room.process, None
    assert process is not None
    process.communicate(timeout=60)
    assert process.returncode == 1
    assert "[ledger_rolled_back]" in room.log.read_text()


def test_a_wrong_key_in_the_policy_counts_for_nothing(own: tuple[Room, list[Witness]]) -> None:
    """Its witness's lines are ignored, and with another down the quorum is missed; both are said."""
    room, witnesses = own
    policy = room.home.policy.read_text()
    room.home.policy.write_text(policy.replace(witnesses[0].vkey, Cosigner.generate(witnesses[0].name).verifier.vkey))
    room.start()
    until(lambda: _size(witnesses[1]) > 0)
    until(lambda: "its answer has no cosignature of the policy's key" in room.log.read_text())
    trust = Policy.parse(room.home.policy.read_text())
    until(lambda: len(Note.parse(room.auditor.checkpoint()).signatures) == 4)
    trust.verify(room.auditor.checkpoint())
    witnesses[1].stop()
    grow(room, 1)
    until(lambda: "quorum of witnesses missed" in room.log.read_text())


@pytest.mark.parametrize("spoil", ["", "log x\n", "quorum none\n", "witness w {vkey} ftp://host\n"])
def test_a_policy_that_says_nothing_useful_ends_the_start(own: tuple[Room, list[Witness]], spoil: str) -> None:
    """Empty, malformed, without this log, with an address that is none: the file is named."""
    room, witnesses = own
    text = spoil.format(vkey=witnesses[0].vkey)
    room.home.policy.write_text(room.home.policy.read_text() + text if "ftp" in spoil else text)
    how = end(begin(room.home.path))
    assert (how.code, "[home_invalid]" in how.err, "log.policy" in how.err) == (1, True, True)
