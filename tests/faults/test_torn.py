"""A write-ahead log that lost its end, or was spoiled: what is left is an earlier whole log, and the anchor says so."""

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from audit.anchor import FILE, Finding, find_rollback
from tests.faults.story import SIGNER, database, open_story, play
from tests.faults.verdict import check_whole

HEADER, FRAME = 32, 24 + 4096  # bytes: of the file, and of a page with its own (SQLite's WAL format)


@dataclass(frozen=True)
class Past:
    """A log whose every commit lies in its WAL alone, and where in that file each commit ends."""

    folder: Path
    ends: list[tuple[int, int]]  # bytes of the WAL, entries

    def size_within(self, length: int) -> int:
        """How many entries are in the commits that end within the first `length` bytes."""
        return max((size for end, size in self.ends if end <= length), default=0)

    def places(self) -> list[int]:
        """Where to tear: around the end of each commit, and inside."""
        around = [end + by for end, _ in self.ends for by in (-FRAME, -1, 0, 1, 40)]
        return sorted({0, 1, HEADER, HEADER + 1, *around} & set(range(self.ends[-1][0] + 1)))


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    """The story, told without once moving the WAL into the database, and copied as a kill leaves it."""
    live, dead = (tmp_path_factory.mktemp(name) for name in ("live", "dead"))
    wal, ends = Path(f"{database(live)}-wal"), []
    engine, ledger = open_story(live, lambda _: ends.append((wal.stat().st_size, ledger.size)), checkpoint_pages=0)
    with closing(ledger):
        ends.append((wal.stat().st_size, 0))
        asyncio.run(play(ledger, lambda _: None))
        shutil.copy(database(live), dead)
        shutil.copy(wal, dead)
        (dead / "anchor").mkdir()
        (dead / "anchor" / FILE).write_text(ledger.checkpoint)
    yield Past(dead, ends)
    engine.dispose()


def torn(past: Past, folder: Path, length: int, spoiled: int | None = None) -> Path:
    """A copy whose WAL ends after `length` bytes, or has another byte at `spoiled`."""
    shutil.copytree(past.folder, folder)
    wal = Path(f"{database(folder)}-wal")
    data = bytearray(wal.read_bytes()[:length])
    if spoiled is not None:
        data[spoiled] ^= 0x55
    wal.write_bytes(data)
    return folder


def check(folder: Path, expected: int, newest: int) -> None:
    """The log that opens is whole, has as many entries as expected, and goes on only where none is missing."""
    engine, ledger = open_story(folder)
    with closing(ledger):
        assert ledger.size == expected
        check_whole(engine, ledger)
        found = find_rollback(ledger, folder / "anchor", SIGNER.verifier)
        assert (found and found.finding) == (None if expected == newest else Finding.SHORTER)
    engine.dispose()


def test_a_torn_end_is_an_earlier_log(past: Past, tmp_path: Path) -> None:
    """Cut anywhere, the log is that of the last commit before the cut, never half of one; a loss is refused."""
    newest = past.ends[-1][1]
    sizes = set()
    for place in past.places():
        check(torn(past, tmp_path / str(place), place), past.size_within(place), newest)
        sizes.add(past.size_within(place))
    assert len(sizes) >= 8
    assert newest == 33


def test_a_spoiled_byte_ends_the_log_before_it(past: Past, tmp_path: Path) -> None:
    """Frames carry checksums in a chain: whatever byte is changed, nothing from its frame on is taken for written."""
    end, newest = past.ends[-1]
    for place in range(3, end, end // 40):
        frame = 0 if place < HEADER else HEADER + (place - HEADER) // FRAME * FRAME
        check(torn(past, tmp_path / str(place), end, spoiled=place), past.size_within(frame), newest)


def test_a_wal_that_was_deleted_is_refused(past: Past, tmp_path: Path) -> None:
    """The database alone is an old copy: nothing that was answered since is in it, and the anchor knows."""
    folder = tmp_path / "alone"
    shutil.copytree(past.folder, folder)
    Path(f"{database(folder)}-wal").unlink()
    engine, ledger = open_story(folder)
    found = find_rollback(ledger, folder / "anchor", SIGNER.verifier)
    ledger.close()
    engine.dispose()
    assert found is not None
    assert found.finding is Finding.SHORTER
