"""The log of a real server over HTTP: what is committed is there, and whoever reads it holds nobody up."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from audit.export import entries_in, files_of, write_file
from audit.http_source import HttpSource
from audit.merkle import consistency_proof, verify_consistency
from audit.note import ML_DSA_44
from audit.policy import Policy
from audit.source import CHECKPOINT, FolderSource
from audit.tiles import decode_bundle, decode_tile, tile_reader, tiles_of
from enclave_api.cli.room import NotServing
from sandbox.vault.catalog import load_catalog
from sandbox.vault.synthetic import generate
from tests.room import Room, log_url


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    """Make a home whose server shows its log."""
    made = Room.make(tmp_path / "room").start("--log-listen", "127.0.0.1:0")
    yield made
    made.stop()


def place_of(url: str) -> tuple[str, int]:
    """Host and port of a URL."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def test_what_is_committed_is_shown(room: Room) -> None:
    """After each answered change the served log has its entry, under a checkpoint that extends the one before."""
    source, policy = HttpSource(log_url(room)), Policy.parse(room.home.policy.read_bytes())
    assert [log.type for log in policy.logs][1:] == [ML_DSA_44]
    world = generate(load_catalog(), 5, 7)
    old = policy.verify(source.checkpoint())
    for dataset in ("tax.declaration", "electricity.usage"):
        room.load(world, [dataset])
        head = policy.verify(source.checkpoint())
        assert head.size == len(room.entries()) > old.size
        read = tile_reader(head.size, lambda tile: decode_tile(source.read(tile), tile.width))
        proof = consistency_proof(old.size, head.size, read)
        verify_consistency(old.size, head.size, old.root, head.root, proof)
        old = head


def test_the_served_log_is_the_stored_log(room: Room, tmp_path: Path) -> None:
    """An export over HTTP is the database's own, entry for entry, and verifies under either key of the log."""
    room.load(generate(load_catalog(), 5, 7), ["tax.declaration"])
    for path, data in files_of(HttpSource(log_url(room))):
        write_file(tmp_path / "log", path, data)
    folder = FolderSource(tmp_path / "log")
    for log in Policy.parse(room.home.policy.read_bytes()).logs:
        head = Policy((log,)).verify(folder.checkpoint())
    with room.read_database() as database:
        stored = [body for (body,) in database.execute("SELECT body FROM entry ORDER BY idx")]
    assert entries_in(tmp_path / "log") == [range(len(stored))] == [range(head.size)]
    bundle = next(iter(tiles_of(head.size)))
    assert decode_bundle(folder.read(bundle)) == stored


def test_readers_hold_up_no_call(room: Room) -> None:
    """Calls are answered while connections to the log lie open, half-sent and reading as fast as they can."""
    url, over = log_url(room), threading.Event()

    def read_on() -> None:
        source = HttpSource(url)
        while not over.is_set():
            source.checkpoint()

    idle = [socket.create_connection(place_of(url)) for _ in range(20)]
    for raw in idle[:10]:
        raw.sendall(b"GET /checkpoint HTTP/1.1\r\n")
    readers = [threading.Thread(target=read_on) for _ in range(2)]
    for reader in readers:
        reader.start()
    slowest = 0.0
    for _ in range(50):
        began = time.monotonic()
        room.auditor.checkpoint()
        slowest = max(slowest, time.monotonic() - began)
    over.set()
    for reader in readers:
        reader.join()
    assert slowest < 2  # it takes a millisecond or two; were it behind the readers, it would never come


def test_a_stop_is_graceful(room: Room) -> None:
    """With connections to the log open, the server ends as it should, soon, and the port is free."""
    place = place_of(log_url(room))
    with socket.create_connection(place) as idle, socket.create_connection(place) as half:
        idle.sendall(b"GET /checkpoint HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(12) == b"HTTP/1.1 200"
        half.sendall(b"GET /checkpoint HTTP/1.1\r\n")
        assert room.stop() == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(place)
    assert "Traceback" not in room.log.read_text()


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:99999"])
def test_an_address_that_cannot_be_had(tmp_path: Path, address: str) -> None:
    """A start that cannot show the log where it is told to says so and ends."""
    with pytest.raises(NotServing, match="--log-listen"):
        Room.make(tmp_path / "room").start("--log-listen", address)


def test_an_address_that_is_taken(room: Room, tmp_path: Path) -> None:
    """Two servers do not share an address for their logs."""
    host, port = place_of(log_url(room))
    with pytest.raises(NotServing, match="--log-listen is in use"):
        Room.make(tmp_path / "other").start("--log-listen", f"{host}:{port}")


def test_off(tmp_path: Path) -> None:
    """Told `off`, a server shows its log to nobody: it listens for calls alone."""
    room = Room.make(tmp_path / "room").start("--log-listen", "off")
    try:
        assert room.process is not None
        tables = [Path(f"/proc/{room.process.pid}/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
        inodes = {line.split()[9] for table in tables for line in table if line.split()[3] == "0A"}
        links = [link.readlink() for link in Path(f"/proc/{room.process.pid}/fd").iterdir()]
        held = {str(link)[8:-1] for link in links if str(link).startswith("socket:")}
        assert len(inodes & held) == 1
    finally:
        room.stop()
    assert CHECKPOINT not in room.log.read_text()
