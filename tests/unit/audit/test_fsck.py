"""Integrity of a log: whatever byte is changed, whatever file is missing, it is found and named."""

import random
import shutil
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.errors import EntryUnknown
from audit.event import encode
from audit.findings import Verdict
from audit.fsck import TEXTS, Integrity, check_log
from audit.kinds import Event
from audit.note import Checkpoint
from audit.policy import Policy
from audit.source import FolderSource
from audit.tiles import ENTRIES, Tile
from tests.unit.audit.vectors import ORIGIN, START, decision, signer
from tests.unit.logs import TRUST, MadeLog

SIZE = 256 * 5 + 44
STEP = timedelta(milliseconds=1)


def bodies(size: int) -> list[bytes]:
    """Entries of a log of any size."""
    return [encode(decision(seq=number), START + number * STEP) for number in range(size)]


def run(source: Any, policy: Policy = TRUST, **span: Any) -> tuple[Integrity, list[int]]:
    """Check; the indexes that were handed on, too."""
    seen: list[int] = []
    done = check_log(source, policy, lambda index, *_: seen.append(index), **span)
    return done, seen


def codes(done: Integrity) -> set[str]:
    """The codes that were found."""
    return set(done.findings.counts)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 512, SIZE, 65_535, 65_536, 65_537])
def test_sound_logs_of_any_size(size: int) -> None:
    """Every ragged edge, up to three levels of tiles; each entry is handed on once, in order."""
    body = encode(decision(), START)
    log = MadeLog([body] * size)
    done, seen = run(log)
    assert (done.findings.verdict, done.entries, done.whole_until) == (Verdict.SOUND, size, size)
    assert seen == list(range(size))
    assert done.checkpoint == Checkpoint(ORIGIN, size, done.checkpoint.root if done.checkpoint else b"")


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A log as a folder, and its files."""
    folder = tmp_path_factory.mktemp("export")
    return folder, MadeLog(bodies(SIZE)).write(folder)


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_flipped_bit_is_found(export: tuple[Path, list[Path]], chance: random.Random) -> None:
    """Any bit of any file: broken, and the finding names the file or the entry that the bit lies in."""
    folder, files = export
    path = chance.choice(files)
    good = path.read_bytes()
    at = chance.randrange(len(good))
    bad = bytearray(good)
    bad[at] ^= 1 << chance.randrange(8)
    path.write_bytes(bad)
    try:
        done, seen = run(FolderSource(folder))
    finally:
        path.write_bytes(good)
    assert done.findings.verdict is Verdict.BROKEN
    name = path.relative_to(folder).as_posix()
    if name == "checkpoint":
        assert done.findings.first_bad is None
        assert {one.place for one in done.findings.listed} == {"checkpoint"}
        return
    tile = Tile.parse(name)
    if tile.level == ENTRIES:
        wanted = tile.index * 256 + _entry_at(good, at)
        assert set(seen) >= set(range(wanted))
    else:
        wanted = (tile.index * 256 + at // 32) << (8 * tile.level)
        assert name in {one.place for one in done.findings.listed}
        assert seen == list(range(SIZE))
    assert done.findings.first_bad == wanted


def _entry_at(bundle: bytes, at: int) -> int:
    """Which entry of a bundle a byte belongs to."""
    number, start = 0, 0
    while (start := start + 2 + int.from_bytes(bundle[start : start + 2], "big")) <= at:
        number += 1
    return number


def test_each_missing_file_is_named(export: tuple[Path, list[Path]]) -> None:
    """Tiles and bundles by their paths; without a checkpoint there is nothing to check."""
    folder, files = export
    for path in files:
        aside = path.with_name("aside")
        path.rename(aside)
        name = path.relative_to(folder).as_posix()
        try:
            if name == "checkpoint":
                with pytest.raises(EntryUnknown):
                    run(FolderSource(folder))
                continue
            done, seen = run(FolderSource(folder))
        finally:
            aside.rename(path)
        tile = Tile.parse(name)
        code = "bundle_missing" if tile.level == ENTRIES else "tile_missing"
        assert codes(done) == {code}
        assert done.findings.listed[0].place == name
        assert len(seen) == (tile.index * 256 if tile.level == ENTRIES else SIZE)


def test_a_cut_or_longer_file_is_named(export: tuple[Path, list[Path]]) -> None:
    """A byte less or more, in whatever file."""
    folder, files = export
    for path in files[1:]:
        good = path.read_bytes()
        for bad in (good[:-1], good + b"\0"):
            path.write_bytes(bad)
            done, _ = run(FolderSource(folder))
            name = path.relative_to(folder).as_posix()
            code = "bundle_malformed" if Tile.parse(name).level == ENTRIES else "tile_malformed"
            assert (code, name) in {(one.code, one.place) for one in done.findings.listed}
        path.write_bytes(good)


def test_a_part_is_checked_for_what_it_is(export: tuple[Path, list[Path]], tmp_path: Path) -> None:
    """Two bundles of a log with all its hashes above them lead to the signed root; a bit less in them does not."""
    folder, _ = export
    part = tmp_path / "part"
    shutil.copytree(folder, part)
    for number in (0, 1, 4):
        (part / f"tile/entries/00{number}").unlink()
        (part / f"tile/0/00{number}").unlink()
    (part / "tile/entries/005.p/44").unlink()
    done, seen = run(FolderSource(part), first=520, end=1_000)
    assert (done.findings.verdict, done.entries, seen) == (Verdict.SOUND, 512, list(range(512, 1_024)))
    (part / "tile/0/005.p/44").unlink()
    done, _ = run(FolderSource(part), first=520, end=1_000)
    assert done.findings.verdict is Verdict.UNCHECKED  # nothing leads to the root
    path = part / "tile/entries/003"
    path.write_bytes(path.read_bytes().replace(b'"seq":800,', b'"seq":801,'))
    done, _ = run(FolderSource(part), first=520, end=1_000)
    assert (done.findings.verdict, done.findings.first_bad) == (Verdict.BROKEN, 800)


def test_an_impossible_size_is_not_counted_to(export: tuple[Path, list[Path]], tmp_path: Path) -> None:
    """A signed checkpoint of 2**60 entries over a small folder ends soon, and says why."""
    folder, _ = export
    huge = tmp_path / "huge"
    shutil.copytree(folder, huge)
    (huge / "checkpoint").write_text(signer().sign(Checkpoint(ORIGIN, 2**60, bytes(32)).text))
    done, seen = run(FolderSource(huge))
    assert done.findings.verdict is Verdict.BROKEN
    assert len(seen) >= 256 * 5
    assert done.findings.counts["bundle_missing"] == 100
    assert done.findings.cut


def entries_of(*events: tuple[Event, int]) -> Sequence[bytes]:
    """Entries at so many milliseconds after the start."""
    return [encode(event, START + after * STEP) for event, after in events]


def test_times_never_go_back() -> None:
    """An entry older than the one before it is named; an equal time is none."""
    log = MadeLog(entries_of((decision(1), 1), (decision(2), 1), (decision(3), 0), (decision(4), 0)))
    done, _ = run(log)
    assert [(one.code, one.index) for one in done.findings.listed] == [("time_back", 2)]


def test_what_is_no_entry_is_named_and_ends_the_replay() -> None:
    """Signed nonsense is found, and nothing behind it is judged as if it followed what came before."""
    good = bodies(4)
    for bad, code in ((b"{}", "entry_malformed"), (b"", "entry_missing"), (good[2] + b" ", "entry_malformed")):
        done, seen = run(MadeLog([*good[:2], bad, good[3]]))
        assert [(one.code, one.index) for one in done.findings.listed] == [(code, 2)]
        assert (seen, done.whole_until) == ([0, 1], 2)


def test_another_log_is_refused() -> None:
    """Signed by another key, under another name, by nobody, or by too few witnesses: each has its code."""
    log = MadeLog(bodies(3))
    stranger = Policy((signer(seed=b"\x02" * 32).verifier,))
    assert codes(run(log, stranger)[0]) == {"checkpoint_unsigned"}
    assert codes(run(log, Policy((signer("example.com/other").verifier,)))[0]) == {"checkpoint_unsigned"}
    quorum = Policy((signer().verifier,), "nobody", {"nobody": signer("example.com/w").verifier})
    assert codes(run(log, quorum)[0]) == {"quorum_missing"}


def test_a_false_root_is_found() -> None:
    """Everything agrees but what was signed."""

    class Lying(MadeLog):
        def checkpoint(self) -> str:
            return signer().sign(Checkpoint(ORIGIN, len(self.bodies), b"\x01" * 32).text)

    assert codes(run(Lying(bodies(300)))[0]) == {"root_differs"}


def test_codes_are_told_in_words() -> None:
    """Each code has words of its own."""
    assert len(set(TEXTS.values())) == len(TEXTS)
