"""Reading a log from database, folder and HTTP: the same bytes from each, and what of hostile places is refused."""

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from sqlalchemy import Engine

from audit.batch import BatchWriter
from audit.errors import EntryUnknown, LedgerCorrupt, LogUnreachable, ProofInvalid
from audit.export import entries_in, files_of, write_file
from audit.http_source import HttpSource
from audit.merkle import leaf_hash, tree_hash
from audit.note import NOTE_BYTES_MAX, Checkpoint, Note
from audit.source import CHECKPOINT, DatabaseSource, FolderSource
from audit.tiles import ENTRIES, TILE_WIDTH, Tile, decode_bundle, decode_tile, tiles_of
from tests.unit.audit.ledgers import execute, fill, spend
from tests.unit.audit.memory import MemorySource
from tests.unit.audit.test_merkle import WORDS
from tests.unit.audit.vectors import ORIGIN, TLOG, Clock, needs_vectors, signer


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """Make a database with a log of 600 entries."""
    fill(engine, 600).close()
    return engine


def test_a_database_is_read_as_tiles(filled: Engine) -> None:
    """Every tile and bundle of a database's log is there, and they re-derive its signed root."""
    source = DatabaseSource(filled)
    head = Checkpoint.parse(Note.parse(source.checkpoint()).text)
    files = {tile: source.read(tile) for tile in tiles_of(head.size)}
    bodies = [body for tile, data in files.items() if tile.level == ENTRIES for body in decode_bundle(data)]
    leaves = [h for tile, data in files.items() if tile.level == 0 for h in decode_tile(data, tile.width)]
    assert [leaf_hash(body) for body in bodies] == leaves
    assert tree_hash(leaves) == head.root
    assert decode_tile(files[Tile(1, 0, 2)], 2) == [tree_hash(leaves[:256]), tree_hash(leaves[256:512])]


@pytest.mark.parametrize("tile", [Tile(0, 2), Tile(0, 3, 1), Tile(1, 0, 3), Tile(2, 0, 1), Tile(ENTRIES, 2, 89)])
def test_a_database_has_no_more_than_its_log(filled: Engine, tile: Tile) -> None:
    """A tile beyond the log is not there; it is not made up of what is."""
    with pytest.raises(EntryUnknown):
        DatabaseSource(filled).read(tile)


def test_an_empty_database(engine: Engine) -> None:
    """A database without a head has no checkpoint; with an empty log it has one, and no tiles."""
    with pytest.raises(EntryUnknown):
        DatabaseSource(engine).checkpoint()
    fill(engine, 0).close()
    assert "\n0\n" in DatabaseSource(engine).checkpoint()
    with pytest.raises(EntryUnknown):
        DatabaseSource(engine).read(Tile(0, 0, 1))


def test_a_checkpoint_of_one_s_own(filled: Engine) -> None:
    """A database is read under another checkpoint than its head's where one is given."""
    assert DatabaseSource(filled, lambda: "published").checkpoint() == "published"


def test_a_log_that_grows_while_it_is_read(engine: Engine, tmp_path: Path) -> None:
    """An export is of one checkpoint, read at its beginning, whatever is appended before its end."""
    fill(engine, 300).close()
    files = files_of(DatabaseSource(engine))
    seen = dict([next(files)])
    batches = BatchWriter(engine, signer(), ORIGIN, Clock())
    batches.write([spend(f"later {number}") for number in range(300)])
    batches.close()
    seen.update(files)
    for path, data in seen.items():
        write_file(tmp_path, path, data)
    assert seen.keys() == {CHECKPOINT, *(tile.path for tile in tiles_of(300))}
    assert entries_in(tmp_path) == [range(300)]


def test_a_row_that_is_gone_is_not_there(filled: Engine) -> None:
    """Where a row was taken out of the database the tile is missing, not shorter."""
    execute(filled, "DELETE FROM spent WHERE idx = 300", "DELETE FROM entry WHERE idx = 300")
    for level in (0, ENTRIES):
        with pytest.raises(EntryUnknown):
            DatabaseSource(filled).read(Tile(level, 1))
        DatabaseSource(filled).read(Tile(level, 0))


@needs_vectors
@pytest.mark.parametrize("size", range(1, 16))
def test_the_tiny_log_as_a_folder(size: int) -> None:
    """Known answer 3: Tessera's folder reads as the 15 words, at every size."""
    source = FolderSource(TLOG / "tessera_log")
    words = [word.encode() for word in WORDS[:size]]
    assert decode_bundle(source.read(Tile(ENTRIES, 0, size))) == words
    assert decode_tile(source.read(Tile(0, 0, size)), size) == [leaf_hash(word) for word in words]
    assert Checkpoint.parse(Note.parse(source.checkpoint()).text).size == 15


@needs_vectors
def test_the_tiny_log_goes_through_our_export(tmp_path: Path) -> None:
    """A folder that another program wrote is exported as it is, to the byte."""
    theirs = FolderSource(TLOG / "tessera_log")
    for path, data in files_of(theirs):
        write_file(tmp_path, path, data)
        assert (tmp_path / path).read_bytes() == (TLOG / "tessera_log" / path).read_bytes()
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 3


def test_a_full_tile_stands_in_for_a_partial_one(tmp_path: Path) -> None:
    """Where a partial tile was deleted, its hashes are those that the full one begins with."""
    log = MemorySource(600)
    for path, data in files_of(log):
        write_file(tmp_path, path, data)
    for tile in (Tile(0, 0, 7), Tile(ENTRIES, 1, 255)):
        assert not (tmp_path / tile.path).exists()
        assert FolderSource(tmp_path).read(tile) == log.read(tile)
    with pytest.raises(EntryUnknown):
        FolderSource(tmp_path).read(Tile(0, 2, 7))


def test_a_folder_without_a_log(tmp_path: Path) -> None:
    """What is not there is said in our words; a checkpoint that is no text, or without end, is refused."""
    source = FolderSource(tmp_path)
    with pytest.raises(EntryUnknown):
        source.checkpoint()
    (tmp_path / CHECKPOINT).write_bytes(b"\xff\n")
    with pytest.raises(LedgerCorrupt):
        source.checkpoint()
    (tmp_path / CHECKPOINT).write_bytes(b"x" * (NOTE_BYTES_MAX + 1))
    with pytest.raises(LedgerCorrupt):
        source.checkpoint()


Reply = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def answering(reply: Reply) -> Iterator[str]:
    """Run a web server of some character; gives its prefix."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.close_connection = True
            reply(self)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/log"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def send(handler: BaseHTTPRequestHandler, data: bytes, status: int = 200, **headers: str) -> None:
    """Answer plainly."""
    handler.send_response(status)
    for name, value in {"Content_Length": str(len(data)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(data)


def test_a_served_folder(tmp_path: Path) -> None:
    """A plain web server over a folder is a log; full tiles stand in for partial ones, gzip is unpacked."""
    log = MemorySource(600)
    files = {f"/log/{path}": data for path, data in files_of(log)}
    asked: list[str] = []

    def reply(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        if handler.path not in files:
            send(handler, b"", 404)
        elif "entries" in handler.path:
            send(handler, gzip.compress(files[handler.path]), Content_Encoding="gzip")
        else:
            send(handler, files[handler.path])

    with answering(reply) as prefix:
        for source in (HttpSource(prefix), HttpSource(prefix + "/")):
            assert source.checkpoint() == log.checkpoint()
            for tile in (*tiles_of(600), Tile(0, 1, 3), Tile(ENTRIES, 0, 9)):
                assert source.read(tile) == log.read(tile)
            for tile in (Tile(0, 2), Tile(0, 2, 89)):
                with pytest.raises(EntryUnknown):
                    source.read(tile)
    assert all("//" not in path for path in asked)


HOSTILE: dict[str, tuple[Reply, type[Exception]]] = {
    "too long": (lambda h: send(h, b"x" * (NOTE_BYTES_MAX + 1)), LedgerCorrupt),
    "no text": (lambda h: send(h, b"\xff"), LedgerCorrupt),
    "gzip bomb": (lambda h: send(h, gzip.compress(b"x" * 50_000_000), Content_Encoding="gzip"), LedgerCorrupt),
    "cut gzip": (lambda h: send(h, gzip.compress(b"text")[:-4], Content_Encoding="gzip"), LedgerCorrupt),
    "two gzips": (lambda h: send(h, gzip.compress(b"a") * 2, Content_Encoding="gzip"), LedgerCorrupt),
    "no gzip": (lambda h: send(h, b"text", Content_Encoding="gzip"), LedgerCorrupt),
    "other encoding": (lambda h: send(h, b"text", Content_Encoding="br"), LogUnreachable),
    "cut": (lambda h: send(h, b"text", Content_Length="5"), LogUnreachable),
    "redirect": (lambda h: send(h, b"", 302, Location="/elsewhere"), LogUnreachable),
    "redirect to a file": (lambda h: send(h, b"", 301, Location="file:///etc/passwd"), LogUnreachable),
    "error": (lambda h: send(h, b"", 500), LogUnreachable),
    "forbidden": (lambda h: send(h, b"", 403), LogUnreachable),
    "gone": (lambda h: send(h, b"", 410), EntryUnknown),
    "nothing": (lambda h: None, LogUnreachable),
    "noise": (lambda h: h.wfile.writelines([b"noise\r\n\r\n"]), LogUnreachable),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_servers(case: str) -> None:
    """Whatever a server does is an error of ours, with memory bounded; redirects are not followed."""
    reply, error = HOSTILE[case]
    asked: list[str] = []

    def note(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        reply(handler)

    with answering(note) as prefix, pytest.raises(error):
        HttpSource(prefix, timeout_s=5).checkpoint()
    assert asked == ["/log/checkpoint"]


def test_a_server_that_drips() -> None:
    """A server that keeps sending a little is left when the time for a file is over, not when it likes."""
    over = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        while not over.wait(0.02):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    with answering(drip) as prefix:
        began = time.monotonic()
        with pytest.raises(LogUnreachable):
            HttpSource(prefix, timeout_s=0.3).checkpoint()
        assert time.monotonic() - began < 5
        over.set()


def test_a_full_tile_of_another_length_is_refused() -> None:
    """What stands in for a partial tile must be a full one."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        if ".p/" in handler.path:
            send(handler, b"", 404)
        else:
            send(handler, bytes(32 * (TILE_WIDTH - 1)))

    with answering(reply) as prefix, pytest.raises(ProofInvalid):
        HttpSource(prefix).read(Tile(0, 0, 3))


@pytest.mark.parametrize(
    "prefix",
    ["", "log", "file:///etc", "ftp://127.0.0.1/", "http://", "http://log.example/", "http://10.0.0.1/", "http://[::1",
     "https://log.example/?x", "https://log.example/#x", "http://127.0.0.1.example/"],
)  # fmt: skip
def test_addresses_that_are_not_asked(prefix: str) -> None:
    """Only https, or http to this machine, is taken, unless told otherwise."""
    with pytest.raises(LogUnreachable):
        HttpSource(prefix)


@pytest.mark.parametrize(
    "prefix", ["https://log.example/a", "http://127.0.0.1:1/", "http://[::1]:1", "http://localhost"]
)
def test_addresses_that_may_be_asked(prefix: str) -> None:
    """Taken as they are, and nothing is asked before it is wanted."""
    HttpSource(prefix)
    HttpSource("http://log.example/", allow_http=True)


def test_nobody_listens() -> None:
    """A port without a server is an error of ours, and proxies of the environment are not used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("http_proxy", "http://127.0.0.1:9")
        with answering(lambda h: send(h, b"text")) as prefix:
            assert HttpSource(prefix).checkpoint() == "text"
        with pytest.raises(LogUnreachable):
            HttpSource(prefix).checkpoint()
