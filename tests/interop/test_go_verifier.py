"""A stranger's libraries verify our logs: Go's sumdb (golang.org/x/mod), by the program verify_log.go.

What is exported, at sizes around each edge of the tiles; a part; the log of a running server over HTTP. And it refuses
an export in which anything was changed, so that its consent says something.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from sqlalchemy import Engine

from audit.export import files_of, write_file
from audit.http_source import HttpSource
from audit.schema import open_engine
from audit.source import CHECKPOINT, DatabaseSource, LogSource
from sandbox.vault.catalog import load_catalog
from sandbox.vault.synthetic import generate
from tests.room import Room, log_url
from tests.unit.audit.ledgers import SPENT, fill
from tests.unit.audit.memory import MemorySource
from tests.unit.audit.vectors import TLOG, hybrid_signer, needs_vectors, signer

GOCODE = Path("/usr/share/gocode")
PROGRAM = Path(__file__).with_name("verify_log.go")
VKEY = signer().verifier.vkey

Verify = Callable[..., CompletedProcess[str]]


def find_go() -> str | None:
    """Find a Go that knows GOPATH: Debian's, or the one on the path."""
    debian = sorted(Path("/usr/lib").glob("go-1.*/bin/go"))
    return str(debian[-1]) if debian else shutil.which("go")


@pytest.fixture(scope="session")
def verify(tmp_path_factory: pytest.TempPathFactory) -> Verify:
    """Build the verifier, once."""
    go = find_go()
    if go is None:
        pytest.skip("no Go here: apt-get install golang-1.19-go")
    if not (GOCODE / "src" / "golang.org" / "x" / "mod" / "sumdb").is_dir():
        pytest.skip("no golang.org/x/mod here: apt-get install golang-golang-x-mod-dev")
    folder = tmp_path_factory.mktemp("go")
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": str(GOCODE), "GOCACHE": str(folder / "cache")}
    program = folder / "verify_log"
    subprocess.run([go, "build", "-o", program, PROGRAM], check=True, env=environment)

    def run(place: str | Path, *bounds: int, vkey: str = VKEY) -> CompletedProcess[str]:
        command = [program, vkey, place, *map(str, bounds)]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)

    return run


def export(source: LogSource, folder: Path, first: int = 0, end: int | None = None) -> None:
    """Write what a source has of a range into a folder."""
    for path, data in files_of(source, first, end):
        write_file(folder, path, data)


@needs_vectors
def test_the_verifier_knows_a_real_log(verify: Verify) -> None:
    """Tessera's log passes, under its own key alone."""
    log = TLOG / "tessera_log"
    assert verify(log, vkey=(log / "vkey.txt").read_text().strip()).stdout == "ok: entries 0 to 15 of 15\n"
    assert verify(log).returncode == 1


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 1000, 70_000])
def test_exports_are_verified(verify: Verify, tmp_path: Path, size: int) -> None:
    """An export of any size passes: signature, root, every entry, proofs of inclusion and consistency."""
    export(MemorySource(size, signer=hybrid_signer()), tmp_path)
    done = verify(tmp_path)
    assert done.returncode == 0, done.stderr
    assert str(size) in done.stdout


@pytest.mark.parametrize(("first", "end"), [(0, 1), (300, 700), (999, 1000), (69_000, 70_000)])
def test_parts_are_verified(verify: Verify, tmp_path: Path, first: int, end: int) -> None:
    """A part of a log passes for its entries, and is refused where it is asked for what it has not."""
    export(MemorySource(70_000), tmp_path, first, end)
    done = verify(tmp_path, first, end)
    assert done.returncode == 0, done.stderr
    assert verify(tmp_path).returncode == 1


def test_a_growing_export_is_verified(verify: Verify, tmp_path: Path) -> None:
    """A folder that was exported to at several sizes passes after each."""
    for size in (5, 255, 256, 300, 900):
        export(MemorySource(size), tmp_path)
        done = verify(tmp_path)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Make a database with a log of 600 entries."""
    made = open_engine(tmp_path / "ledger.db", create=True)
    with made.connect() as connection, connection.begin():
        connection.exec_driver_sql(SPENT)
    fill(made, 600).close()
    yield made
    made.dispose()


def test_a_database_s_export_is_verified(verify: Verify, engine: Engine, tmp_path: Path) -> None:
    """What the ledger wrote passes."""
    export(DatabaseSource(engine), tmp_path / "log")
    done = verify(tmp_path / "log")
    assert done.stdout == "ok: entries 0 to 600 of 600\n", done.stderr


def change_byte(at: float) -> Callable[[bytes], bytes]:
    """Make a change of one bit at a place between 0, the beginning, and 1, the end."""

    def change(data: bytes) -> bytes:
        place = int(at * (len(data) - 1))
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

    return change


MUTATIONS: dict[str, Callable[[bytes], bytes]] = {
    "first bit": change_byte(0),
    "middle bit": change_byte(0.5),
    "last bit": change_byte(1),
    "cut": lambda data: data[:-1],
    "longer": lambda data: data + b"\0",
    "empty": lambda data: b"",
}
FILES = [CHECKPOINT, *(path for path, _ in files_of(MemorySource(600)) if path != CHECKPOINT)]


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_changed_export_is_refused(verify: Verify, tmp_path: Path, path: str, mutation: str) -> None:
    """Any file of an export, changed in any of these ways, is refused."""
    export(MemorySource(600), tmp_path)
    file = tmp_path / path
    changed = MUTATIONS[mutation](file.read_bytes())
    file.unlink()
    file.write_bytes(changed)
    done = verify(tmp_path)
    assert done.returncode == 1, f"accepted: {done.stdout}"
    assert done.stderr.startswith("refused: ")


@pytest.mark.parametrize("path", FILES)
def test_an_incomplete_export_is_refused(verify: Verify, tmp_path: Path, path: str) -> None:
    """An export that lacks a file is refused."""
    export(MemorySource(600), tmp_path)
    (tmp_path / path).unlink()
    assert verify(tmp_path).returncode == 1


def test_another_history_is_refused(verify: Verify, tmp_path: Path) -> None:
    """The tiles of one history under the checkpoint of another, both right in themselves, are refused."""
    export(MemorySource(600), tmp_path)
    (tmp_path / CHECKPOINT).write_text(MemorySource(600, forked_at=599).checkpoint())
    assert "do not lead to the root" in verify(tmp_path).stderr


def test_a_running_server_is_verified(verify: Verify, tmp_path: Path) -> None:
    """The log of a server passes over HTTP, again when it has grown, and as an export of what was served."""
    room = Room.make(tmp_path / "room").start("--log-listen", "127.0.0.1:0")
    try:
        vkey, url = room.home.policy.read_text().split()[1], log_url(room)
        sizes = []
        for datasets in (["tax.declaration"], ["electricity.usage"]):
            room.load(generate(load_catalog(), 5, 7), datasets)
            done = verify(url, vkey=vkey)
            assert done.returncode == 0, done.stderr
            sizes.append(int(done.stdout.split()[-1]))
        assert sizes[1] > sizes[0] > 1
        export(HttpSource(url), tmp_path / "log")
        assert verify(tmp_path / "log", vkey=vkey).stdout == f"ok: entries 0 to {sizes[1]} of {sizes[1]}\n"
    finally:
        assert room.stop() == 0
