"""The anchor: which log may go on beside which checkpoint, and that the newest one is what lies in the folder."""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine

from audit import anchor as anchor_module
from audit.anchor import FILE, Anchor, Finding, find_rollback, rolled_back
from audit.errors import ProofInvalid
from audit.ledger import Ledger
from audit.note import Checkpoint
from audit.schema import open_engine
from tests.unit.audit.ledgers import SPENT, TRUST, open_ledger, spend
from tests.unit.audit.vectors import ORIGIN, signer

OURS = signer().verifier


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for the anchor."""
    (tmp_path / "anchor").mkdir()
    return tmp_path / "anchor"


@pytest.fixture
def made(folder: Path) -> Iterator[Anchor]:
    """An anchor that was not started; whatever it fails at fails the test."""
    opened = Anchor(folder, _no_error)
    yield opened
    opened.close()


def _no_error(error: OSError) -> None:
    raise error


def grown(ledger: Ledger, count: int, name: str = "") -> str:
    """Append some entries; the checkpoint after them."""
    for number in range(count):
        ledger.append_sync(spend(f"{name}{ledger.size}-{number}"))
    return ledger.checkpoint


@pytest.mark.parametrize("count", [1, 2, 255, 256, 257, 300])
def test_a_log_goes_on_from_its_anchor(ledger: Ledger, folder: Path, count: int) -> None:
    """Of the same size or grown since, at every shape of the tree; and from the anchor of the empty log."""
    empty = ledger.checkpoint
    (folder / FILE).write_text(grown(ledger, count))
    assert find_rollback(ledger, folder, OURS) is None
    grown(ledger, 3)
    assert find_rollback(ledger, folder, OURS) is None
    (folder / FILE).write_text(empty)
    assert find_rollback(ledger, folder, OURS) is None


def test_a_log_that_is_shorter_than_its_anchor_is_found(engine: Engine, folder: Path, tmp_path: Path) -> None:
    """A copy of the database made before the anchor's entries: both sizes are told."""
    ledger = open_ledger(engine)
    grown(ledger, 4)
    with (
        closing(sqlite3.connect(str(engine.url.database))) as now,
        closing(sqlite3.connect(tmp_path / "old.db")) as old,
    ):
        now.backup(old)
    (folder / FILE).write_text(grown(ledger, 3))
    ledger.close()
    again = open_ledger(open_engine(tmp_path / "old.db", create=False))
    found = find_rollback(again, folder, OURS)
    assert found is not None
    assert (found.finding, found.anchored) == (Finding.SHORTER, 7)
    assert rolled_back(found, again).public == "log shorter; the log has 4 entries, the anchor says 7"
    # Grown past the anchor's size it is another history, and still found.
    grown(again, 9, "other")
    found = find_rollback(again, folder, OURS)
    assert found is not None
    assert found.finding is Finding.DIFFERS
    again.close()


def test_an_empty_log_beside_a_used_anchor_is_found(ledger: Ledger, folder: Path, tmp_path: Path) -> None:
    """A database made anew under the same key."""
    (folder / FILE).write_text(grown(ledger, 2))
    fresh = open_engine(tmp_path / "fresh.db", create=True)
    with fresh.connect() as connection, connection.begin():
        connection.exec_driver_sql(SPENT)
    found = find_rollback(open_ledger(fresh), folder, OURS)
    assert found is not None
    assert found.finding is Finding.SHORTER


def test_a_missing_anchor_is_found_beside_entries_alone(ledger: Ledger, folder: Path) -> None:
    """The first start has none; every later one has."""
    assert find_rollback(ledger, folder, OURS) is None
    grown(ledger, 1)
    for place in (folder, folder / "nowhere"):
        found = find_rollback(ledger, place, OURS)
        assert found is not None
        assert (found.finding, found.anchored, found.anchor_hash) == (Finding.MISSING, None, None)


SPOILED: dict[str, Callable[[str], bytes]] = {
    "empty": lambda _: b"",
    "cut": lambda good: good[:-3].encode(),
    "noise": lambda _: b"\xff\xfe noise",
    "size changed": lambda good: good.replace("\n2\n", "\n1\n", 1).encode(),
    "another key": lambda good: signer(seed=b"\x02" * 32).sign(good.partition("\n\n")[0] + "\n").encode(),
    "another origin": lambda _: signer().sign(Checkpoint("other.example/log", 2, bytes(32)).text).encode(),
    "no checkpoint": lambda _: signer().sign("hello\n").encode(),
    "too long": lambda good: good.encode() + b"x" * 2_000_000,
}


@pytest.mark.parametrize("name", SPOILED)
def test_an_anchor_that_is_not_this_logs_is_found(ledger: Ledger, folder: Path, name: str) -> None:
    """Whatever this log's key did not sign under its origin counts as none, and is never taken for a fresh start."""
    good = grown(ledger, 2)
    (folder / FILE).write_bytes(SPOILED[name](good))
    found = find_rollback(ledger, folder, OURS)
    assert found is not None
    assert (found.finding, found.anchored) == (Finding.UNREADABLE, None)


def test_a_folder_in_the_anchors_place_is_found(ledger: Ledger, folder: Path) -> None:
    """No error of the system's reaches the caller."""
    (folder / FILE).mkdir()
    found = find_rollback(ledger, folder, OURS)
    assert found is not None
    assert found.finding is Finding.UNREADABLE


def test_every_commit_reaches_the_anchor(engine: Engine, made: Anchor, folder: Path) -> None:
    """The ledger tells it each new head, a refused change tells nothing, and closing leaves the newest."""
    told: list[str] = []

    def commit(checkpoint: str) -> None:
        told.append(checkpoint)
        made.put(checkpoint)

    ledger = open_ledger(engine, on_commit=commit)
    made.start(ledger.checkpoint)
    assert (folder / FILE).read_text() == ledger.checkpoint
    expected = [grown(ledger, 1) for _ in range(5)]
    with pytest.raises(KeyError):
        ledger.append_sync(spend("no", KeyError("no")))
    ledger.close()
    made.close()
    assert told == expected
    assert (folder / FILE).read_text() == expected[-1]


def test_a_reader_never_sees_half_of_one(made: Anchor, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read again and again while it is written without a pause: always one that verifies, never an older one."""
    monkeypatch.setattr(anchor_module, "PAUSE_S", 0)
    made.start(signer().sign(Checkpoint(ORIGIN, 1, bytes(32)).text))
    notes = [signer().sign(Checkpoint(ORIGIN, size, bytes(32)).text) for size in range(2, 400)]

    def write() -> None:
        for note in notes:
            made.put(note)

    writer = threading.Thread(target=write)
    writer.start()
    sizes: list[int] = []
    while not sizes or sizes[-1] < 399:
        sizes.append(TRUST.verify((folder / FILE).read_text()).size)
    writer.join()
    assert sizes == sorted(sizes)


def test_a_disk_that_comes_back_is_written_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the folder is away each attempt is reported; the next checkpoint after its return is kept."""
    monkeypatch.setattr(anchor_module, "PAUSE_S", 0)
    failed = threading.Event()
    made = Anchor(folder, lambda _: failed.set())
    made.start("first\n")
    os.rename(folder, folder.with_name("away"))
    made.put("second\n")
    assert failed.wait(10)
    os.rename(folder.with_name("away"), folder)
    made.put("third\n")
    made.close()
    assert (folder / FILE).read_text() == "third\n"


def test_a_folder_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    """The first write is made before anything is served."""
    made = Anchor(tmp_path / "none", _no_error)
    with pytest.raises(FileNotFoundError):
        made.start("x\n")
    made.close()


def test_the_notes_of_these_tests_are_refused_by_others() -> None:
    """The key that signs here is none that a stranger's policy knows: the tests above can fail."""
    with pytest.raises(ProofInvalid):
        TRUST.verify(signer(seed=b"\x02" * 32).sign(Checkpoint(ORIGIN, 1, bytes(32)).text))
