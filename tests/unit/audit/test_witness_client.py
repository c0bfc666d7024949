"""One witness asked over real sockets: what it may answer, and how little of it is believed."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from audit import witness_client
from audit.cosign import Cosigner
from audit.errors import LogUnreachable, ProofInvalid
from audit.http_source import HttpSource
from audit.witness import SIZE_TYPE, Submission
from audit.witness_check import ask_all
from audit.witness_client import REPLY_BYTES_MAX, Conflict, Contradicted, WitnessClient, WitnessFailed
from tests.unit.audit.trees import Tree
from tests.unit.audit.vectors import ORIGIN, signer

COSIGNER = Cosigner.generate("witness.example/w1")
LOGS = [signer().verifier]
NOW = 1_700_000_000
TREE = Tree(7)
Reply = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def answering(reply: Reply, path: str = "") -> Iterator[WitnessClient]:
    """A client of a server that answers everything with `reply`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            reply(self)

        def do_GET(self) -> None:
            reply(self)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield WitnessClient("w1", COSIGNER.verifier, f"http://127.0.0.1:{server.server_port}{path}")
        server.shutdown()
        thread.join()


def saying(status: int, body: bytes | str, kind: str = "text/plain", *, read: bool = True) -> Reply:
    """A reply, after the request was read."""
    data = body.encode() if isinstance(body, str) else body

    def reply(handler: BaseHTTPRequestHandler) -> None:
        if read:
            handler.rfile.read(int(handler.headers.get("content-length", 0)))
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(data)))
        handler.send_header("Location", "/elsewhere")
        handler.end_headers()
        handler.wfile.write(data)

    return reply


def ask(client: WitnessClient) -> str:
    """Ask for the cosignature of the tree."""
    return client.cosign(5, TREE.proof(5), TREE.checkpoint)


def test_a_request_is_what_a_witness_reads() -> None:
    """Below the address's path, with the old size, proof and checkpoint; the answer's own line alone comes back."""
    line, seen = COSIGNER.cosign(TREE.text, NOW), list[tuple[str, bytes]]()

    def reply(handler: BaseHTTPRequestHandler) -> None:
        seen.append((handler.path, handler.rfile.read(int(handler.headers["content-length"]))))
        answer(handler)

    answer = saying(200, Cosigner.generate("stranger.example").cosign(TREE.text, NOW) + line, read=False)
    with answering(reply, "/submit") as client:
        assert ask(client) == line.splitlines(keepends=True)[0]  # the other is of a key that the policy does not name
    ((path, body),) = seen
    read = Submission.parse(body)
    assert (path, read.old, list(read.proof)) == ("/submit/add-checkpoint", 5, TREE.proof(5))
    assert read.checkpoint.size == 7


def test_a_policy_may_name_the_post_quantum_key() -> None:
    """Then that line comes back, verified, and the Ed25519 one is one of an unknown key."""
    lines = COSIGNER.cosign(TREE.text, NOW)
    with answering(saying(200, lines)) as client:
        other = WitnessClient("w1", COSIGNER.verifiers[1], client.url)
        assert ask(other) == lines.splitlines(keepends=True)[1]


WRONG = Cosigner.generate(COSIGNER.name)
FAILS: dict[str, tuple[Reply, type[WitnessFailed]]] = {
    "another size": (saying(409, "6\n", SIZE_TYPE), Conflict),
    "another size, not typed": (saying(409, "6\n"), WitnessFailed),
    "a size that is none": (saying(409, "6.5\n", SIZE_TYPE), WitnessFailed),
    "no proof": (saying(422, "no"), Contradicted),
    "forbidden": (saying(403, "no"), WitnessFailed),
    "unknown": (saying(404, "no"), WitnessFailed),
    "elsewhere": (saying(302, ""), WitnessFailed),
    "broken": (saying(500, ""), WitnessFailed),
    "empty": (saying(200, ""), WitnessFailed),
    "noise": (saying(200, b"\xff\xfe"), WitnessFailed),
    "another key's line": (saying(200, WRONG.cosign(TREE.text, NOW)), WitnessFailed),
    "of another tree": (saying(200, COSIGNER.cosign(Tree(8).text, NOW)), WitnessFailed),
    "one good, one bad": (
        saying(200, COSIGNER.cosign(TREE.text, NOW) + COSIGNER.cosign(Tree(8).text, NOW)),
        WitnessFailed,
    ),
    "too long": (saying(200, COSIGNER.cosign(TREE.text, NOW) * (REPLY_BYTES_MAX // 100)), WitnessFailed),
}


@pytest.mark.parametrize("name", FAILS)
def test_what_does_not_count(name: str) -> None:
    """Each answer is sorted; none is taken for a cosignature."""
    reply, kind = FAILS[name]
    with answering(reply) as client, pytest.raises(WitnessFailed) as failed:
        ask(client)
    assert type(failed.value) is kind
    if isinstance(failed.value, Conflict):
        assert failed.value.size == 6


def test_a_witness_that_dribbles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then keeps a socket alive, but not beyond the time of the whole answer."""
    monkeypatch.setattr(witness_client, "ADD_S", 0.3)
    over = threading.Event()

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not over.wait(0.05):
            try:
                handler.wfile.write(b"a")
            except OSError:
                return

    with answering(reply) as client:
        began = time.monotonic()
        with pytest.raises(WitnessFailed):
            ask(client)
        over.set()
    assert time.monotonic() - began < 5


def test_nobody_there() -> None:
    """A closed port is a failure like any other."""
    with answering(saying(200, "")) as client:
        pass
    with pytest.raises(WitnessFailed, match="no answer"):
        ask(client)


@pytest.mark.parametrize(
    "url",
    ["", "host", "ftp://host", "file:///etc/passwd", "http://", "http://h:x", "http://h?q", "http://h#f", "http://u@h"],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    """Nothing but http and https, without query, fragment or user."""
    with pytest.raises(ProofInvalid):
        WitnessClient("w1", COSIGNER.verifier, url)


def test_what_a_witness_remembers_must_be_signed_by_both() -> None:
    """The log's line and the witness's, of this origin; nothing known is None; anything else is a failure."""
    line = COSIGNER.cosign(TREE.text, NOW)
    with answering(saying(404, "no")) as client:
        assert client.latest(LOGS, 5) is None
    with answering(saying(200, TREE.checkpoint + line)) as client:
        assert client.latest(LOGS, 5) == TREE.checkpoint + line
    stranger = TREE.text.replace(ORIGIN, "example.com/other")
    for note in (
        TREE.checkpoint,
        f"{TREE.text}\n{line}",
        signer(seed=b"\x09" * 32).sign(TREE.text) + line,
        signer().sign(stranger) + COSIGNER.cosign(stranger, NOW),
        "noise",
    ):
        with answering(saying(200, note)) as client, pytest.raises(WitnessFailed):
            client.latest(LOGS, 5)


@contextmanager
def sending(part: bytes) -> Iterator[str]:
    """The URL of a server that answers each connection with the same part, for ever."""

    def send(raw: socket.socket) -> None:
        with raw, suppress(OSError):
            while not ended.wait(0.01):
                raw.sendall(part)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=send, args=(listener.accept()[0],), daemon=True).start()

    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        ended.set()


ENDLESS = [b"HTTP/1.1 100 Continue\r\n\r\n", b"H", b"HTTP/1.1 200 OK\r\nX: y\r\n"]


@pytest.mark.parametrize("part", ENDLESS)
def test_an_answer_that_never_begins(part: bytes) -> None:
    """Interim answers or a header without an end hold neither a witness's thread nor a reader of a log."""
    with ThreadPoolExecutor(2) as pool, sending(part) as url:
        client = WitnessClient("w1", COSIGNER.verifier, url)
        asked = pool.submit(client.latest, LOGS, 0.2)
        with pytest.raises(WitnessFailed, match="no answer"):
            asked.result(10)
        read = pool.submit(HttpSource(url, timeout_s=0.2).checkpoint)
        with pytest.raises(LogUnreachable):
            read.result(10)


def test_hanging_witnesses_are_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many hang, a start waits for all of them together."""
    hangs = threading.Event()
    monkeypatch.setattr(WitnessClient, "latest", lambda *_: hangs.wait())
    clients = [WitnessClient(f"w{n}", COSIGNER.verifier, "http://127.0.0.1:9") for n in range(20)]
    began = time.monotonic()
    seen, silent = ask_all(clients, LOGS, 0.1)
    assert time.monotonic() - began < 2
    assert (seen, len(silent)) == ({}, 20)
    hangs.set()
