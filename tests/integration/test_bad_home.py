"""Homes that cannot be served: a clear line and a clean end; and trouble with the database of a server that runs."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from enclave_api.cli.example import FIELDS, LEVELS
from enclave_api.error_catalog import CATALOG
from enclave_api.home import Home, create_home
from enclave_api.keeper import create_root
from tests.integration.conftest import PRODUCT, Stage
from tests.room import Room, datasets_of, refused

CORRUPT = next(code for code in CATALOG if code in {"vault_corrupt", "stored_value_corrupt"})
SERVE = [sys.executable, "-m", "enclave_api", "serve"]


@dataclass(frozen=True)
class Ended:
    """How a server that could not start ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Broken:
    """What is wrong with a home, the code that says so, and with which options it is served."""

    spoil: Callable[[Path], object]
    code: str
    options: tuple[str, ...] = ()
    passphrase: str | None = None


def _nothing(home: Path) -> None:
    """Leaves the home as it is."""


def _cut(name: str, keep: int) -> Callable[[Path], object]:
    return lambda home: (home / name).write_bytes((home / name).read_bytes()[:keep])


def _write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda home: (home / name).write_bytes(content)


def _remove(name: str) -> Callable[[Path], object]:
    return lambda home: (home / name).unlink()


def _other_root(home: Path) -> None:
    (home / "root.key").unlink()
    create_root(home / "root.key", None)


def _folder(name: str) -> Callable[[Path], object]:
    def spoil(home: Path) -> None:
        (home / name).unlink()
        (home / name).mkdir()

    return spoil


def _edited_log(home: Path) -> None:
    with closing(sqlite3.connect(home / "heixia.db")) as database:
        database.execute("UPDATE entry SET body = replace(body, 'simulated', 'sev-snp-x') WHERE idx = 0")
        database.commit()


BROKEN: dict[str, Broken] = {
    "database missing": Broken(_remove("heixia.db"), "database_missing"),
    "database read-only": Broken(lambda home: (home / "heixia.db").chmod(0o444), "database_read_only"),
    "database empty": Broken(_write("heixia.db", b""), "database_version_unknown"),
    "database noise": Broken(_write("heixia.db", b"noise" * 5000), "database_unreadable"),
    "database a folder": Broken(_folder("heixia.db"), "database_unreadable"),
    "log edited": Broken(_edited_log, "ledger_corrupt"),
    "another root secret": Broken(_other_root, "root_foreign"),
    "root.key missing": Broken(_remove("root.key"), "home_invalid"),
    "root.key cut": Broken(_cut("root.key", 40), "home_invalid"),
    "root.key a folder": Broken(_folder("root.key"), "home_invalid"),
    "settings missing": Broken(_remove("heixia.toml"), "home_invalid"),
    "catalogue missing": Broken(_remove("catalog.yaml"), "catalog_invalid"),
    "key noise": Broken(_write("tls/server.key", b"noise"), "home_invalid"),
    "authority noise": Broken(_write("tls/ca.pem", b"noise"), "home_invalid"),
    "trusted keys noise": Broken(_write("trust/authorities.jwks", b"{"), "signature_invalid"),
    "home missing": Broken(shutil.rmtree, "home_invalid"),
    "listen on no port": Broken(_nothing, "address_taken", ("--listen", "127.0.0.1:99999")),
    "metrics on nothing": Broken(_nothing, "address_taken", ("--metrics", "nowhere")),
    "metrics on no port": Broken(_nothing, "address_taken", ("--metrics", "127.0.0.1:99999")),
    "log level unknown": Broken(_nothing, "", ("--log-level", "loud")),
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that was served once, then stopped."""
    room = Room.make(tmp_path_factory.mktemp("original")).start()
    room.stop()
    return room.home.path


def begin(home: Path, *options: str, passphrase: str | None = None) -> "subprocess.Popen[str]":
    """Starts a server that is not expected to serve."""
    defaults = ("--listen", "127.0.0.1:0", "--metrics", "off", "--log-listen", "off")
    environment = {**os.environ, **({"HEIXIA_PASSPHRASE": passphrase} if passphrase else {})}
    command = [*SERVE, "--home", str(home), *defaults, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def end(process: "subprocess.Popen[str]") -> Ended:
    """How it ended; one that serves after all is ended at its first line."""
    timer = threading.Timer(60, process.kill)
    timer.start()
    assert process.stdout is not None
    line = process.stdout.readline()
    if line:
        process.terminate()
    out, err = process.communicate()
    timer.cancel()
    return Ended(process.returncode, line + out, err)


@pytest.fixture(scope="module")
def ended(original: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """How each broken home's server ended; three at a time, for most of it is waiting for imports."""
    found: dict[str, Ended] = {}
    slots = threading.Semaphore(3)

    def one(name: str, broken: Broken) -> None:
        home = tmp_path_factory.mktemp("broken") / "home"
        shutil.copytree(original, home)
        broken.spoil(home)
        with slots:
            found[name] = end(begin(home, *broken.options, passphrase=broken.passphrase))

    threads = [threading.Thread(target=one, args=item) for item in BROKEN.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("name", BROKEN)
def test_broken_homes_are_not_served(ended: dict[str, Ended], name: str) -> None:
    """One line with the catalogue's code, exit code 1 (2 for options), no trace of the program, nothing served."""
    how = ended[name]
    assert "Traceback" not in how.err, how.err[-600:]
    assert "serving on" not in how.out
    assert how.code in ((1,) if BROKEN[name].code else (1, 2)), how
    assert f"[{BROKEN[name].code}]" in how.err or not BROKEN[name].code, how.err[-300:]


def test_passphrases_are_asked_for_and_checked(tmp_path: Path) -> None:
    """A wrapped root opens with its passphrase alone; one for nothing, a wrong one, none, a cut file are told apart."""
    home = create_home(tmp_path / "home", passphrase="correct", host="localhost", now=datetime.now(UTC))
    cut = tmp_path / "cut"
    shutil.copytree(home.path, cut)
    (cut / "root.key").write_bytes((cut / "root.key").read_bytes()[:60])
    clear = create_home(tmp_path / "clear", passphrase=None, host="localhost", now=datetime.now(UTC))
    tries = (
        (clear.path, "correct", "passphrase_wrong"),
        (home.path, None, "passphrase_wrong"),
        (home.path, "wrong", "passphrase_wrong"),
        (cut, "correct", "home_invalid"),
    )
    for path, passphrase, code in tries:
        how = end(begin(path, passphrase=passphrase))
        assert (how.code, f"[{code}]" in how.err, "Traceback" in how.err) == (1, True, False), how.err[-300:]


def test_a_room_of_its_own_heeds_no_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has one set for a real home can still play the demonstration."""
    monkeypatch.setenv("HEIXIA_PASSPHRASE", "correct")
    room = Room.make(tmp_path).start()
    room.stop()


def test_ports_that_are_taken_are_left_alone(original: Path, tmp_path: Path) -> None:
    """A second server on a port says so and leaves no entry; so does one whose metrics port is taken."""
    home = tmp_path / "home"
    shutil.copytree(original, home)
    room = Room(Home(home), None)  # type: ignore[arg-type]
    size = len(room.entries())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for option in ("--listen", "--metrics"):
            how = end(begin(home, option, address))
            assert (how.code, "[address_taken]" in how.err, "Traceback" in how.err) == (1, True, False), how.err[-300:]
    assert len(room.entries()) == size


def test_a_locked_database_is_not_waited_for_without_end(original: Path, tmp_path: Path) -> None:
    """Another process that holds the write lock: a clear line after a few seconds, and a start once it is gone."""
    home = tmp_path / "home"
    shutil.copytree(original, home)
    room = Room(Home(home), None)  # type: ignore[arg-type]
    with closing(sqlite3.connect(home / "heixia.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        how = end(begin(home))
        assert (how.code, "[ledger_busy]" in how.err, "Traceback" in how.err) == (1, True, False), how.err[-300:]
        other.execute("ROLLBACK")
    room.start()
    assert room.stop() == 0


def test_damage_is_found_by_name_and_the_home_is_left_as_it_was(original: Path, tmp_path: Path) -> None:
    """A refused start writes nothing into the home, so that putting back what was missing is enough."""
    home = tmp_path / "home"
    shutil.copytree(original, home)
    key = (home / "root.key").read_bytes()
    (home / "root.key").write_bytes(key[:40])
    assert end(begin(home)).code == 1
    (home / "root.key").write_bytes(key)
    room = Room(Home(home), None)  # type: ignore[arg-type]
    room.start()
    assert room.stop() == 0


# --- a server that runs -----------------------------------------------------------------------------------------------


def test_a_lock_under_a_running_server_stores_nothing(stage: Stage) -> None:
    """While another process holds the lock calls are told to repeat; the same request id is answered afterwards."""
    consent_id, request_id = stage.consent(0), str(uuid.uuid4())
    members = {"subject": stage.world.subjects[0], "product": PRODUCT, "consent_id": consent_id}
    with closing(sqlite3.connect(stage.room.home.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with stage.room.gains():
            with refused("ledger_busy"):
                stage.room.portal.request_limit(**members, request_id=request_id)
            with refused("ledger_busy"):
                stage.room.office.revoke(consent_id, "subject-request")
        other.execute("ROLLBACK")
    with stage.room.gains("decision", changes=["consent", "call", "sequence", "budget"]):
        assert stage.room.portal.request_limit(**members, request_id=request_id).yuan in LEVELS


def test_a_record_that_was_changed_is_not_read(stage: Stage) -> None:
    """A vault row moved or edited in the file ends the call as data loss; nothing is decided, others are answered."""
    consent_id, subject = stage.consent(1), stage.world.subjects[1]
    with closing(sqlite3.connect(stage.room.home.database)) as other:
        saved = other.execute("SELECT subject_key, dataset, body FROM current").fetchall()
        other.execute("UPDATE current SET body = zeroblob(length(body))")
        other.commit()
        with stage.room.gains(), refused(CORRUPT):
            stage.room.portal.request_limit(subject=subject, product=PRODUCT, consent_id=consent_id)
        rows = [(body, key, dataset) for key, dataset, body in saved]
        other.executemany("UPDATE current SET body = ? WHERE subject_key = ? AND dataset = ?", rows)
        other.commit()
    assert stage.room.portal.request_limit(subject=subject, product=PRODUCT, consent_id=consent_id).yuan in LEVELS


def test_a_consent_that_was_changed_is_not_used(stage: Stage) -> None:
    """A consent whose stored text was edited opens nothing, whatever its row says."""
    consent_id, other_id, subject = stage.consent(2), stage.consent(3), stage.world.subjects[2]
    with closing(sqlite3.connect(stage.room.home.database)) as other:
        query = "UPDATE artefact SET body = (SELECT body FROM artefact WHERE consent_id = ?) WHERE consent_id = ?"
        other.execute(query, (other_id, consent_id))
        other.commit()
    with stage.room.gains(), refused(CORRUPT):
        stage.room.portal.request_limit(subject=subject, product=PRODUCT, consent_id=consent_id)
    assert stage.room.answer(subject, PRODUCT, datasets_of(FIELDS)) in LEVELS


def test_a_home_has_one_server(original: Path, tmp_path: Path) -> None:
    """A second server on the same home is refused and told why; the first goes on, and its lock dies with it."""
    home = tmp_path / "home"
    shutil.copytree(original, home)
    first = Room(Home(home), None).start()  # type: ignore[arg-type]
    try:
        how = end(begin(home))
        assert (how.code, "another server uses" in how.err) == (1, True)
        assert first.auditor.checkpoint()
    finally:
        first.kill()
    assert first.start().stop() == 0
