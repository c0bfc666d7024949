"""The log's open door: what it answers, in which words, and what it does not."""

import gzip
import http.client
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import active_count

import pytest

from audit.errors import EntryUnknown, LedgerBusy
from audit.export import files_of, write_file
from audit.http_source import HttpSource
from audit.source import CHECKPOINT, FolderSource, LogSource
from audit.tiles import ENTRIES, Tile, encode_bundle, tiles_of
from enclave_api import http_connection, log_http
from enclave_api.log_http import CONNECTIONS_MAX, REQUEST_BYTES_MAX, LogDoor
from enclave_api.witness_http import bind
from tests.unit.audit.memory import MemorySource, body

LOG = MemorySource(600)
DAY_S = 24 * 3600


@contextmanager
def served(source: LogSource) -> Iterator[LogDoor]:
    """Serve a log on a free port."""
    door = LogDoor(source, bind("127.0.0.1:0", "--log-listen"))
    try:
        yield door
    finally:
        door.close()


@pytest.fixture(scope="module")
def door() -> Iterator[LogDoor]:
    """Serve a log of 600 entries."""
    with served(LOG) as made:
        yield made


def address(door: LogDoor) -> tuple[str, int]:
    """Host and port of a door."""
    host, _, port = door.url.removeprefix("http://").rstrip("/").rpartition(":")
    return host, int(port)


def ask(door: LogDoor, target: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    """Make one request whose target is sent as it stands."""
    with closing(http.client.HTTPConnection(*address(door), timeout=10)) as connection:
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer, answer.read()


def test_the_checkpoint(door: LogDoor) -> None:
    """The published note, as text, not to be cached."""
    answer, data = ask(door, "/checkpoint")
    assert (answer.status, data.decode()) == (200, LOG.checkpoint())
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-cache"


def test_every_file_of_the_log(door: LogDoor) -> None:
    """Each tile and bundle that the checkpoint implies is there to the byte, and may be kept for good."""
    for tile in tiles_of(LOG.size):
        answer, data = ask(door, f"/{tile.path}")
        assert (answer.status, data) == (200, LOG.read(tile))
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert "immutable" in answer.headers["Cache-Control"]
        assert int(answer.headers["Cache-Control"].partition("max-age=")[2].partition(",")[0]) > 30 * DAY_S


def test_partial_tiles_of_earlier_checkpoints(door: LogDoor) -> None:
    """A tile that a smaller checkpoint implied is still there, also where the full one is."""
    for tile in (Tile(0, 0, 1), Tile(0, 2, 87), Tile(1, 0, 1), Tile(ENTRIES, 1, 255)):
        answer, data = ask(door, f"/{tile.path}")
        assert (answer.status, data) == (200, LOG.read(tile))


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "//",
        "/tile",
        "/tile/",
        "/tile/0",
        "/tile/0/",
        "/tile/entries/",
        "/checkpoint/",
        "//checkpoint",
        "/./checkpoint",
        "/tile/../checkpoint",
        "/checkpoint?now",
        "/%63heckpoint",
        "/checkpoint%00",
        "/Checkpoint",
        "/tile/0/000/",
        "/tile/0/0",
        "/tile/0/x000/000",
        "/tile/00/000",
        "/tile/0/%30%30%30",
        "/tile/0/000%2Ep/1",
        "/tile/0/000.p/0",
        "/tile/0/000.p/256",
        "/tile/0/000?x=1",
        "/tile/0/..%2f..%2fcheckpoint",
        "/tile/0/%EF%BC%90%EF%BC%90%EF%BC%90",
        "/tile/0/%ff",
        "/tile/8/data/000",
        # well spelled, but not implied by 600 entries
        "/tile/0/002",
        "/tile/0/002.p/89",
        "/tile/0/003.p/1",
        "/tile/1/000",
        "/tile/1/000.p/3",
        "/tile/2/000.p/1",
        "/tile/63/000",
        "/tile/entries/002",
        "/tile/entries/002.p/89",
        "/tile/entries/x999/x999/x999/x999/x999/x999/999",
    ],
)
def test_everything_else_is_not_here(door: LogDoor, target: str) -> None:
    """One spelling of each address, no listing, nothing beyond the checkpoint; and a 404 is not kept by caches."""
    answer, data = ask(door, target)
    assert (answer.status, data) == (404, b"not here\n")
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("target", ["/checkpoint", "/tile/0/000", "/tile/entries/002.p/88", "/nothing"])
def test_head(door: LogDoor, target: str) -> None:
    """HEAD says what GET says, without the body."""
    full, data = ask(door, target)
    head, nothing = ask(door, target, "HEAD")
    assert nothing == b""
    assert (head.status, head.headers["Content-Length"]) == (full.status, str(len(data)))
    for name in ("Content-Type", "Cache-Control"):
        assert head.headers[name] == full.headers[name]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND"])
def test_other_methods(door: LogDoor, method: str) -> None:
    """The door is for reading."""
    answer, _ = ask(door, "/checkpoint", method)
    assert answer.status == 405
    assert {*answer.headers["Allow"].split(", ")} == {"GET", "HEAD"}


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("br, gzip;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000, identity", False),
        ("identity", False),
        ("x-gzip-not", False),
        ("", False),
    ],
)
def test_bundles_are_compressed_for_who_asks(door: LogDoor, accepted: str, packed: bool) -> None:
    """A bundle comes gzipped where that is accepted; caches are told that it depends on it. Hashes never are."""
    target = f"/{Tile(ENTRIES, 0).path}"
    answer, data = ask(door, target, Accept_Encoding=accepted)
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert (answer.headers["Content-Encoding"] == "gzip") is packed
    assert (gzip.decompress(data) if packed else data) == encode_bundle(body(n) for n in range(256))
    assert ask(door, "/tile/0/000", Accept_Encoding=accepted)[0].headers["Content-Encoding"] is None


def test_long_requests_are_refused(door: LogDoor) -> None:
    """Headers above the bound are answered 400 or cut off, and the door goes on."""
    with socket.create_connection(address(door), timeout=10) as raw:
        raw.sendall(b"GET /checkpoint HTTP/1.1\r\nHost: x\r\nX-Noise: " + b"n" * (2 * REQUEST_BYTES_MAX))
        try:
            said = raw.recv(12)
        except ConnectionResetError:
            said = b""
    assert said in (b"", b"HTTP/1.1 400")
    assert ask(door, "/checkpoint")[0].status == 200


def test_connections_are_bounded(door: LogDoor) -> None:
    """Beyond its bound the door says 503, and answers again when the others have gone."""
    held = [socket.create_connection(address(door), timeout=10) for _ in range(CONNECTIONS_MAX)]
    for raw in held:
        raw.sendall(b"GET /tile/0/000 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert raw.recv(12).startswith(b"HTTP/1.1")
    assert ask(door, "/checkpoint")[0].status == 503
    for raw in held:
        raw.close()
    for _ in range(100):  # the door hears of the closing in its own time
        status = ask(door, "/checkpoint")[0].status
        if status == 200:
            break
    assert status == 200


def test_connections_far_above_the_bound_are_closed(door: LogDoor) -> None:
    """Who opens more and more connections without a word uses up no descriptors of the server."""
    held = [
        socket.create_connection(address(door), timeout=10)
        for _ in range(CONNECTIONS_MAX + http_connection.REFUSED_MAX + 1)
    ]
    assert is_ended(held[-1])
    for raw in held:
        raw.close()


@pytest.mark.parametrize("sent", [b"", b"GET /checkpoint HT", b"GET /checkpoint HTTP/1.1\r\nHost: x\r\n\r\nGET /che"])
def test_a_turn_has_an_end(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection on which nothing is asked, or never to the end, is closed."""
    monkeypatch.setattr(http_connection, "TURN_S", 0.05)
    monkeypatch.setattr(log_http, "IDLE_S", 0.05)
    with served(LOG) as door, socket.create_connection(address(door), timeout=10) as raw:
        raw.sendall(sent)
        assert is_ended(raw)


def is_ended(raw: socket.socket) -> bool:
    """Read to the end of a connection; raises TimeoutError where it has none."""
    with suppress(ConnectionError):
        while raw.recv(65_536):
            continue
    return True


def test_a_log_that_grows() -> None:
    """A new checkpoint makes its tiles appear at once; what a client then lacks of partial ones is in the full."""
    shown = [MemorySource(300)]

    class Growing:
        def checkpoint(self) -> str:
            return shown[-1].checkpoint()

        def read(self, tile: Tile) -> bytes:
            return shown[-1].read(tile)

    with served(Growing()) as door:
        assert ask(door, "/tile/0/001")[0].status == 404
        shown.append(MemorySource(700))
        assert ask(door, "/tile/0/001")[0].status == 200
        assert ask(door, "/tile/0/001.p/44")[1] == MemorySource(300).read(Tile(0, 1, 44))


def test_a_checkpoint_that_lags_behind() -> None:
    """What is committed but not published is not shown: the published checkpoint decides, not what could be read."""

    class Lagging(MemorySource):
        def checkpoint(self) -> str:
            return MemorySource(256).checkpoint()

    with served(Lagging(600)) as door:
        assert ask(door, "/tile/0/000")[0].status == 200
        for target in ("/tile/0/001", "/tile/0/001.p/1", "/tile/entries/001.p/1", "/tile/1/000.p/2"):
            assert ask(door, target)[0].status == 404


def test_a_source_that_fails() -> None:
    """A database that is busy is 503 and said nowhere in detail; a part that is not there is 404."""

    class Failing(MemorySource):
        def read(self, tile: Tile) -> bytes:
            raise LedgerBusy("locked by pid 1") if tile.level == 0 else EntryUnknown("gone")

    with served(Failing(3)) as door:
        answer, data = ask(door, "/tile/0/000.p/3")
        assert answer.status == 503
        assert b"pid" not in data
        assert ask(door, "/tile/entries/000.p/3")[0].status == 404


def test_a_folder_can_be_served(tmp_path: Path) -> None:
    """An export is served as a database is; read over HTTP and exported again, it is the same folder."""
    for path, data in files_of(LOG):
        write_file(tmp_path / "one", path, data)
    with served(FolderSource(tmp_path / "one")) as door:
        for path, data in files_of(HttpSource(door.url)):
            write_file(tmp_path / "two", path, data)
    names = [{str(p.relative_to(tmp_path / n)) for p in (tmp_path / n).rglob("*")} for n in ("one", "two")]
    assert names[0] == names[1]
    assert CHECKPOINT in names[0]


def test_a_door_closes() -> None:
    """After close nobody answers, the thread is gone, and an idle connection did not hold it up."""
    before = active_count()
    with served(LOG) as door:
        place = address(door)
        raw = socket.create_connection(place, timeout=10)
        raw.sendall(b"GET /checkpoint HTTP/1.1\r\nHost: x\r\n\r\n")
        assert raw.recv(12) == b"HTTP/1.1 200"
    assert active_count() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(place, timeout=10)
    raw.close()
