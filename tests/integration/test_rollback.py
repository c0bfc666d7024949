"""An old database put back, an anchor gone, a budget edited: the start says so; going on is deliberate and logged."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import rfc8785

from audit.merkle import leaf_hash
from audit.note import Checkpoint, Note
from enclave_api.cli.example import FIELDS, LEVELS
from enclave_api.home import Home
from sandbox.disclosure import price_milli
from tests.integration.conftest import PRODUCT, Stage
from tests.integration.test_bad_home import begin, end
from tests.room import Room, datasets_of

NAMES = datasets_of(FIELDS)


@dataclass
class Past:
    """A stopped home whose company was told about twice, and its database and anchor as they were in between."""

    room: Room
    subject: str
    old: Path

    def restore(self, *names: str) -> None:
        """Puts files of the past back, and takes away what SQLite keeps beside the database."""
        for beside in self.room.home.path.glob("heixia.db-*"):
            beside.unlink()
        for name in names:
            shutil.copy(self.old / name, self.room.home.path / name)

    def start(self, *options: str) -> tuple[int, str]:
        """Tries to serve; how it ended: 0 where it served."""
        how = end(begin(self.room.home.path, *options))
        return (0 if "serving on" in how.out else how.code), how.err

    def edit(self, statement: str) -> None:
        """Changes the database while nothing serves it."""
        with closing(sqlite3.connect(self.room.home.database)) as database:
            database.execute(statement)
            database.commit()


@pytest.fixture(scope="module")
def original(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Past:
    """Made once; each test gets a copy."""
    folder = tmp_path_factory.mktemp("past")
    room = Room.make(folder).start()
    room.load(stage.world, NAMES)
    room.launch(stage.example)
    subject = stage.world.subjects[0]
    room.answer(subject, PRODUCT, NAMES)
    room.stop()
    shutil.copytree(room.home.path, folder / "old")
    room.start()
    room.load(stage.world, NAMES[:1])  # another input: it is paid for
    room.answer(subject, PRODUCT, NAMES)
    room.stop()
    return Past(room, subject, folder / "old")


@pytest.fixture
def past(original: Past, tmp_path: Path) -> Iterator[Past]:
    """A copy of its own."""
    shutil.copytree(original.room.home.path, tmp_path / "home")
    room = Room(Home(tmp_path / "home"), original.room.catalog)
    yield Past(room, original.subject, original.old)
    room.stop()


def anchored(folder: Path) -> int:
    """The size that an anchor names."""
    return Checkpoint.parse(Note.parse((folder / "checkpoint").read_text()).text).size


def test_an_old_database_is_not_served(past: Past) -> None:
    """Refused in words that say both sizes and the way out, leaving everything as it is; put right, it serves."""
    newest = past.room.home.path / "newest.db"
    shutil.copy(past.room.home.database, newest)
    before = anchored(past.room.home.anchor)
    past.restore("heixia.db")
    small = len(past.room.entries())
    code, words = past.start()
    assert (code, "[ledger_rolled_back]" in words, "--accept-rollback" in words) == (1, True, True)
    assert f"log shorter; the log has {small} entries, the anchor says {before}" in words
    assert (len(past.room.entries()), anchored(past.room.home.anchor)) == (small, before)
    shutil.copy(newest, past.room.home.database)
    assert past.start()[0] == 0


def test_going_on_after_a_loss_is_deliberate_and_logged(past: Past) -> None:
    """With the option it serves; what was given up stands in the log, and the next start needs no option."""
    lost = past.room.home.anchor / "checkpoint"
    before, note = anchored(past.room.home.anchor), lost.read_bytes()
    past.restore("heixia.db")
    small = len(past.room.entries())
    assert past.start("--accept-rollback")[0] == 0
    accepted, started = past.room.entries(small)
    assert (accepted["kind"], started["kind"]) == ("rollback.accepted", "enclave.started")
    assert (accepted["by"], accepted["reason"], accepted["anchored"]) == ("operator", "log shorter", before)
    assert len(accepted["anchor_hash"]) == 64
    assert past.start()[0] == 0
    # Whoever kept the lost checkpoint proves the loss: the anchor of that history fits no more.
    lost.write_bytes(note)
    assert "[ledger_rolled_back]" in past.start()[1]


def test_the_option_alone_leaves_no_trace(past: Past) -> None:
    """Where nothing was rolled back there is nothing to accept."""
    small = len(past.room.entries())
    assert past.start("--accept-rollback")[0] == 0
    assert [entry["kind"] for entry in past.room.entries(small)] == ["enclave.started"]


def test_another_history_is_found_though_it_is_longer(past: Past) -> None:
    """An old database that served again elsewhere, past the size of the anchor."""
    shutil.move(past.room.home.anchor / "checkpoint", past.room.home.path / "kept")
    past.restore("heixia.db", "anchor/checkpoint")
    past.room.start()
    for _ in range(10):
        past.room.auditor.entry(0)
    past.room.stop()
    shutil.move(past.room.home.path / "kept", past.room.home.anchor / "checkpoint")
    assert len(past.room.entries()) > anchored(past.room.home.anchor)
    code, words = past.start()
    assert (code, "[ledger_rolled_back]" in words, "log differs" in words) == (1, True, True)


@pytest.mark.parametrize("content", [None, b"", b"noise"])
def test_an_anchor_that_is_gone_is_no_fresh_start(past: Past, content: bytes | None) -> None:
    """Deleted, emptied or spoiled beside a log that has entries: refused, and accepted by hand alone."""
    path = past.room.home.anchor / "checkpoint"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    code, words = past.start()
    assert (code, "[ledger_rolled_back]" in words) == (1, True)
    small = len(past.room.entries())
    assert past.start("--accept-rollback")[0] == 0
    (accepted, _) = past.room.entries(small)
    assert (accepted["anchored"], accepted["anchor_hash"]) == (None, None)


def test_an_older_anchor_of_the_same_log_is_enough(past: Past) -> None:
    """A process killed between its commit and the anchor leaves one that is behind: the log goes on from it."""
    past.restore("anchor/checkpoint")
    assert anchored(past.room.home.anchor) < len(past.room.entries())
    assert past.start()[0] == 0


def test_who_restores_both_is_seen_by_whoever_kept_a_checkpoint(past: Past) -> None:
    """What remains, and is written in the threat model: the start is deceived, an auditor with a checkpoint is not."""
    kept = anchored(past.room.home.anchor)
    past.restore("heixia.db", "anchor/checkpoint")
    past.room.start()
    size = Checkpoint.parse(Note.parse(past.room.auditor.checkpoint()).text).size
    assert size < kept


def test_the_anchor_may_lie_elsewhere(past: Past, tmp_path: Path) -> None:
    """In a folder given at the start, which must be there and hold the anchor; the home's own is then not asked."""
    folder = tmp_path / "other disk"
    folder.mkdir()
    code, words = past.start("--anchor", str(folder))
    assert (code, "[ledger_rolled_back]" in words, "bring its file `checkpoint` along" in words) == (1, True, True)
    shutil.copy(past.room.home.anchor / "checkpoint", folder)
    (past.room.home.anchor / "checkpoint").unlink()
    before = anchored(folder)
    assert past.start("--anchor", str(folder))[0] == 0
    assert anchored(folder) == len(past.room.entries()) > before
    assert list(past.room.home.anchor.iterdir()) == []


def test_nothing_is_given_up_where_no_anchor_can_be_kept(past: Past) -> None:
    """Without the folder the option is refused by name each time and leaves no entry; with it the start goes on."""
    shutil.rmtree(past.room.home.anchor)
    small = len(past.room.entries())
    code, words = past.start("--accept-rollback")
    assert (code, "[home_invalid]" in words, str(past.room.home.anchor) in words) == (1, True, True)
    assert len(past.room.entries()) == small
    past.room.home.anchor.mkdir()
    assert past.start("--accept-rollback")[0] == 0


def test_a_fresh_home_needs_a_folder_for_its_anchor(tmp_path: Path) -> None:
    """A first start whose anchor cannot be written is refused by name, and stores nothing."""
    room = Room.make(tmp_path)
    how = end(begin(room.home.path, "--anchor", str(tmp_path / "none")))
    assert (how.code, "[home_invalid]" in how.err, "Traceback" in how.err) == (1, True, False)
    assert room.entries() == []


def test_killed_again_and_again_the_anchor_holds(past: Past) -> None:
    """SIGKILL at any moment after an answer: the next start goes on, and the sums are what was told."""
    room = past.room
    for turn in range(3):
        room.start()
        consent_id = room.consent(past.subject, PRODUCT, NAMES)
        room.portal.request_limit(subject=past.subject, product=PRODUCT, consent_id=consent_id)
        room.kill()
        assert anchored(room.home.anchor) <= len(room.entries()), turn
    room.start()
    (told,) = room.auditor.disclosure(past.subject)
    decisions = [entry for entry in room.entries() if entry["kind"] == "decision"]
    assert told.spent_milli == sum(entry["bits_milli"] for entry in decisions) == 2 * price_milli(len(LEVELS))


EDITS = (
    "DELETE FROM budget",
    "UPDATE budget SET bits_milli = 0",
    "UPDATE budget SET bits_milli = bits_milli - 1",
    "UPDATE budget SET year = year - 30",
    "INSERT INTO budget VALUES ('" + "5" * 32 + "', 'zhongyuan', 2999, -1)",
)


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_budget_is_not_served(past: Past, edit: str) -> None:
    """Refused by name with what to do, no subject's tag in it; accepting a rollback does not accept that."""
    with closing(sqlite3.connect(past.room.home.database)) as database:
        saved = database.execute("SELECT * FROM budget").fetchall()
    past.edit(edit)
    small = len(past.room.entries())
    for options in ((), ("--accept-rollback",)):
        code, words = past.start(*options)
        assert (code, "[budget_differs]" in words, "Traceback" in words) == (1, True, False)
        assert "zhongyuan" in words or "no decision" in words
        assert saved[0][0] not in words
    assert len(past.room.entries()) == small
    with closing(sqlite3.connect(past.room.home.database)) as database:
        database.execute("DELETE FROM budget")
        database.executemany("INSERT INTO budget VALUES (?, ?, ?, ?)", saved)
        database.commit()
    assert past.start()[0] == 0


def test_a_forged_decision_does_not_cover_an_edited_budget(past: Past) -> None:
    """Who lowers the decision in the log along with its sum is caught by the tree."""
    past.edit("UPDATE budget SET bits_milli = bits_milli - 1000")
    (index, entry) = next((i, e) for i, e in enumerate(past.room.entries()) if e["kind"] == "decision")
    forged = rfc8785.dumps({**entry, "bits_milli": entry["bits_milli"] - 1000})
    past.edit(f"UPDATE entry SET body = x'{forged.hex()}', leaf = x'{leaf_hash(forged).hex()}' WHERE idx = {index}")
    code, words = past.start()
    assert (code, "[ledger_corrupt]" in words) == (1, True)


def test_an_anchor_that_cannot_be_written_later_stops_no_call(past: Past, tmp_path: Path) -> None:
    """The disk of the anchor goes away under a running server: calls are answered, the operator's log says so."""
    folder = tmp_path / "disk"
    shutil.copytree(past.room.home.anchor, folder)
    past.room.start("--anchor", str(folder))
    os.rename(folder, tmp_path / "gone")
    for _ in range(3):
        past.room.answer(past.subject, PRODUCT, NAMES)
    past.room.stop()
    assert "anchor not written" in past.room.log.read_text()
