"""Root secret and database of different times: what a crash leaves is healed, what an operator mixed up is refused."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from enclave_api.cli.room import NotServing
from enclave_api.client.operator import Operator
from enclave_api.home import Home
from enclave_api.keeper import create_root, open_file
from tests.dies_at import MOMENTS
from tests.integration.test_bad_home import begin, end
from tests.integration.test_key_rotation import OTHER_DAY, sound
from tests.room import OPERATOR, Room

DIES_AT = str(Path(__file__).parents[1] / "dies_at.py")


@contextmanager
def served(home: Path, *launcher: str) -> Iterator[Room]:
    """A server for a home, from whatever day."""
    room = Room(Home(home), None, launcher=launcher)  # type: ignore[arg-type]
    room.start()
    try:
        yield room
    finally:
        room.stop()


def rotate(room: Room, overlap_days: int) -> None:
    """Rotates the newest key."""
    operator = room.client(Operator, OPERATOR)
    operator.rotate_key(operator.list_keys()[-1].key_id, overlap_days)


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A home as it was before its first start, before a rotation, after two, and after its older keys' end."""
    folder = tmp_path_factory.mktemp("states")
    home = Room.make(folder).home.path
    found: dict[str, Path] = {}

    def keep(name: str) -> None:
        found[name] = folder / name
        shutil.copytree(home, found[name])

    keep("made")
    with served(home) as room:
        pass
    keep("fresh")
    with served(home) as room:
        rotate(room, 30)
        rotate(room, 20)
    keep("rotated")
    with served(home, *OTHER_DAY, "21") as room:
        assert [key.HasField("destroyed_index") for key in room.client(Operator, OPERATOR).list_keys()] == [
            True,
            True,
            False,
        ]
    keep("destroyed")
    return found


def mixed(folder: Path, database: Path, root: Path) -> Path:
    """A home with the database of one time and the root secret of another; the anchor is the database's."""
    home = folder / "home"
    shutil.copytree(database, home)
    shutil.copy(root / "root.key", home / "root.key")
    return home


def content(home: Path) -> dict[str, bytes]:
    """Every file that a start must not touch."""
    names = [home / "root.key", *home.glob("*.db"), home / "anchor" / "checkpoint"]
    return {str(name.relative_to(home)): name.read_bytes() for name in names if name.exists()}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_a_destruction(states: dict[str, Path], tmp_path: Path, moment: str) -> None:
    """At whatever moment: the next start ends with both older keys destroyed once, and everything sound."""
    home = mixed(tmp_path, states["rotated"], states["rotated"])
    with pytest.raises(NotServing), served(home, sys.executable, DIES_AT, moment, "21"):
        pytest.fail("it should have died")
    assert open_file(home / "root.key", None).keys.epoch in ((0,) if moment == MOMENTS[0] else (2,))
    with served(home, *OTHER_DAY, "21") as room:
        kinds = [entry["kind"] for entry in room.entries()]
    assert kinds.count("key.destroyed") == 2
    assert open_file(home / "root.key", None).keys.epoch == 2
    assert not (home / "root.key.new").exists()
    assert sound(home)


def _foreign(home: Path) -> None:
    (home / "root.key").unlink()
    create_root(home / "root.key", None)


Mix = tuple[str, str, str, str]
MIXES: dict[str, Mix] = {  # database of, root secret of, code, what to do
    "an old copy of root.key": ("destroyed", "rotated", "epoch_differs", "heixia keys advance"),
    "an old copy of the database": ("fresh", "destroyed", "epoch_differs", "Restore the newest database"),
    "a database before its first start": ("made", "destroyed", "epoch_differs", "Restore the newest database"),
    "a clock that is behind": ("rotated", "destroyed", "epoch_differs", "set the clock"),
}


@pytest.mark.parametrize("mix", MIXES)
def test_mixed_times_are_refused(states: dict[str, Path], tmp_path: Path, mix: str) -> None:
    """One line with the catalogue's code and what to do next; nothing is written, with or without accepted rollback."""
    database, root, code, hint = MIXES[mix]
    home = mixed(tmp_path, states[database], states[root])
    if mix == "an old copy of the database":  # its administrator put the anchor back, too, or deleted it
        (home / "anchor" / "checkpoint").unlink()
    before = content(home)
    for options in ((), ("--accept-rollback",)):
        how = end(begin(home, *options))
        assert (how.code, f"[{code}]" in how.err, hint in how.err, "Traceback" in how.err) == (1, True, True, False), (
            how.err[-400:]
        )
    after = content(home)
    if database == "made":  # opening an empty log signs its empty tree; there is no entry
        assert Room(Home(home), None).entries() == []  # type: ignore[arg-type]
        del after["heixia.db"], before["heixia.db"]
    assert after == before


def test_another_homes_root_is_refused(states: dict[str, Path], tmp_path: Path) -> None:
    """Its file is left as it is, and so is the database."""
    home = mixed(tmp_path, states["rotated"], states["rotated"])
    _foreign(home)
    before = content(home)
    how = end(begin(home))
    assert (how.code, "[root_foreign]" in how.err, "put this home's own root.key back" in how.err) == (1, True, True)
    assert content(home) == before


def test_an_old_copy_can_be_brought_to_the_logs_time(states: dict[str, Path], tmp_path: Path) -> None:
    """Where the newest root.key is lost: `keys advance` destroys in an old copy what is gone; then the home serves."""
    home = mixed(tmp_path, states["destroyed"], states["rotated"])
    command = [sys.executable, "-m", "enclave_api", "keys", "advance", "--home", str(home), "--json"]
    environment = {name: value for name, value in os.environ.items() if name != "HEIXIA_PASSPHRASE"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert done.stdout == '{"oldest_epoch_before": 0, "oldest_epoch_now": 2}\n'
    assert (home / "root.key").read_bytes() != (states["rotated"] / "root.key").read_bytes()
    assert open_file(home / "root.key", None).keys == open_file(states["destroyed"] / "root.key", None).keys
    with served(home, *OTHER_DAY, "21"):
        pass
    assert sound(home)
    _foreign(home)
    before = content(home)
    refused = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert (refused.returncode, "[root_foreign]" in refused.stderr) == (1, True)
    assert content(home) == before


def test_edited_epochs_are_refused(states: dict[str, Path], tmp_path: Path) -> None:
    """A row that says another date than the log cannot bring a key's end forward."""
    home = mixed(tmp_path, states["rotated"], states["rotated"])
    with closing(sqlite3.connect(home / "heixia.db")) as database, database:
        database.execute("UPDATE key_epoch SET destroy_at = 0 WHERE epoch = 0")
    before = (home / "root.key").read_bytes()
    how = end(begin(home))
    assert (how.code, "[ledger_corrupt]" in how.err, "table of keys" in how.err) == (1, True, True)
    assert (home / "root.key").read_bytes() == before
