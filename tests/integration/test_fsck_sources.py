"""The check over an export, a part of one, a served log, and under a policy with witnesses."""

import shutil
from pathlib import Path

import pytest

from audit.export import files_of, write_file
from audit.schema import open_engine
from audit.source import DatabaseSource
from audit.tiles import TILE_WIDTH
from tests.integration.conftest import Stage
from tests.integration.test_fsck import ask, be_busy, check_sound, fsck
from tests.integration.test_witnesses import until, watched_room
from tests.room import Room


def export(room: Room, folder: Path, first: int = 0, end: int | None = None) -> Path:
    """The log, or a part of it, as a folder."""
    engine = open_engine(room.home.database, create=False)
    try:
        for path, data in files_of(DatabaseSource(engine), first, end):
            write_file(folder, path, data)
    finally:
        engine.dispose()
    return folder


@pytest.fixture(scope="module")
def long(stage: Stage) -> Stage:
    """A room whose log is more than two bundles."""
    be_busy(stage, 10)
    for _ in range(2 * TILE_WIDTH):
        stage.room.auditor.entry(0)  # every reading is an entry
    ask(stage, 50, stage.consent(50))
    return stage


def test_an_export_is_sound(long: Stage, tmp_path: Path) -> None:
    """Away from the server, with the policy alone; what only the tables could tell is not judged."""
    folder = export(long.room, tmp_path / "log")
    code, report = fsck("--dir", folder, "--policy", long.room.home.policy)
    assert (code, report["entries"]) == (0, report["size"])
    assert {report[name]["verdict"] for name in ("integrity", "completeness")} == {"sound"}


def test_a_part_says_what_it_has_not(long: Stage, tmp_path: Path) -> None:
    """The second bundle alone leads to the signed root; what came before it is unknown."""
    folder = export(long.room, tmp_path / "part", TILE_WIDTH, 2 * TILE_WIDTH)
    code, report = fsck("--dir", folder, "--policy", long.room.home.policy)
    assert (code, report["first"], report["entries"]) == (2, TILE_WIDTH, TILE_WIDTH)
    assert report["integrity"]["verdict"] == "sound"
    assert report["integrity"]["unjudged"]
    assert (report["completeness"]["verdict"], bool(report["completeness"]["cut"])) == ("unchecked", True)


def test_a_hole_is_broken(long: Stage, tmp_path: Path) -> None:
    """A bundle missing between two others is no part."""
    folder = export(long.room, tmp_path / "log")
    (folder / "tile/entries/001").unlink()
    code, report = fsck("--dir", folder, "--policy", long.room.home.policy)
    assert (code, report["first_bad"]) == (1, TILE_WIDTH)
    assert report["integrity"]["counts"] == {"bundle_missing": 1}


def test_a_served_log_is_sound(tmp_path: Path) -> None:
    """Over HTTP, as a stranger would; when nobody answers it could not be checked."""
    room = Room.make(tmp_path).start("--log-listen", "127.0.0.1:0")
    try:
        assert room.process is not None
        assert room.process.stdout is not None
        url = room.process.stdout.readline().removeprefix("log at ").strip()
        code, report = fsck("--url", url, "--policy", room.home.policy)
    finally:
        room.stop()
    assert (code, report["size"]) == (0, 1)
    assert fsck("--url", url, "--policy", room.home.policy)[0] == 2


def test_a_quorum_is_asked_of_what_was_published(tmp_path: Path) -> None:
    """Cosigned: sound. Never cosigned, cosigned by too few, edited, or of a later state of the log: each has a code."""
    room, witnesses = watched_room(tmp_path)
    home, published, database = room.home.path, room.home.policy.with_name("checkpoint"), room.home.database
    try:
        for _ in range(2):
            if database.exists():
                shutil.copy(database, tmp_path / "old.db")
            published.unlink(missing_ok=True)
            room.start()
            until(published.exists)
            size = check_sound(home)["size"]
            until(lambda: published.read_text().splitlines()[1] == str(size))  # noqa: B023 - asked at once
            room.stop()
    finally:
        room.stop()
        for witness in witnesses:
            witness.stop()
    good = published.read_text()
    alone = "".join(line for line in good.splitlines(keepends=True) if "example/w" not in line)
    for bad, code in (
        ("x", "checkpoint_malformed"),
        (good.replace(f"\n{size}\n", f"\n{size - 1}\n", 1), "checkpoint_unsigned"),
        (alone, "quorum_missing"),
    ):
        published.write_text(bad)
        assert fsck("--home", home)[1]["integrity"]["counts"] == {code: 1}
    published.unlink()
    assert fsck("--home", home)[1]["integrity"]["counts"] == {"quorum_missing": 1}
    published.write_text(good)
    shutil.copy(tmp_path / "old.db", database)
    assert fsck("--home", home)[1]["integrity"]["counts"] == {"published_differs": 1}
