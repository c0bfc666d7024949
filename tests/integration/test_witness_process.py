"""A real witness over HTTP: every status as a log would meet it, and nothing forgotten through kills."""

import random
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import pytest

from audit.note import Checkpoint, Note
from audit.policy import Policy
from audit.witness import REQUEST_BYTES_MAX, origin_hash, write_submission
from tests.unit.audit.trees import Tree
from tests.unit.audit.vectors import ORIGIN, signer
from tests.witnesses import Witness, fetch

KILLS = 12


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Witness]:
    """One that knows the log of the trees."""
    policy = tmp_path / "log.policy"
    policy.write_text(f"log {signer().verifier.vkey}\nquorum none\n")
    made = Witness("bank.example/w1", tmp_path / "state", policy).start()
    yield made
    made.stop()


def test_the_way_of_a_log(witness: Witness) -> None:
    """Unknown there, then 200, 409 with the size, 422, 403, 404, 400; the cosigned note is served and verifies."""
    address = f"{witness.url}/{origin_hash(ORIGIN)}/checkpoint"
    assert fetch(address)[0] == 404
    status, kind, line = witness.ask(Tree(5).request(0))
    assert (status, kind.split(";")[0]) == (200, "text/plain")
    assert fetch(address)[2] == Tree(5).checkpoint + line
    trust = Policy.parse(f"log {signer().verifier.vkey}\nwitness w {witness.vkey}\nquorum w\n")
    assert trust.verify(witness.latest(ORIGIN)) == Checkpoint.parse(Tree(5).text)
    assert witness.ask(Tree(7).request(0)) == (409, "text/x.tlog.size", "5\n")
    assert witness.ask(Tree(7, fork=3).request(5))[0] == 422
    assert witness.ask(write_submission(5, [], Tree(7, by=signer(seed=b"\x05" * 32)).checkpoint))[0] == 403
    stranger = signer("example.com/other").sign(Tree(7).text.replace(ORIGIN, "example.com/other"))
    assert witness.ask(write_submission(5, [], stranger))[0] == 404
    assert witness.ask(b"noise")[0] == 400
    assert witness.ask(write_submission(9, [], Tree(7).checkpoint))[0] == 400
    assert witness.ask(Tree(7).request(5))[0] == 200
    # A log that misbehaves leaves what it signed in the witness's own log.
    assert Tree(7, fork=3).checkpoint.splitlines()[2] in witness.log.read_text()
    assert witness.stop() == 0


def test_what_is_no_witness_s_business(witness: Witness) -> None:
    """Other methods, other addresses, bodies without end, half a request: answered or dropped, and it serves on."""
    assert fetch(f"{witness.url}/add-checkpoint")[0] == 405
    assert fetch(f"{witness.url}/{origin_hash(ORIGIN)}/checkpoint", b"x")[0] == 405
    for path in ("/", "/checkpoint", "/../../etc/passwd", f"/{origin_hash('else')}/checkpoint", "/%2e%2e/checkpoint"):
        assert fetch(witness.url + path)[0] == 404
    host, port = witness.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as long:
        long.sendall(b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 9999999999\r\n\r\n")
        assert long.recv(100).startswith(b"HTTP/1.1 413")
    with socket.create_connection((host, int(port)), timeout=20) as endless:
        endless.sendall(b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"10000\r\n" + b"a" * 65536 + b"\r\n"
        for _ in range(REQUEST_BYTES_MAX // 65536 + 1):
            endless.sendall(piece)
        assert endless.recv(100).startswith(b"HTTP/1.1 413")
    with socket.create_connection((host, int(port)), timeout=20) as half:
        half.sendall(b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 500\r\n\r\nold 0")
    assert witness.ask(Tree(2).request(0))[0] == 200


def test_killed_again_and_again_it_never_goes_back(witness: Witness) -> None:
    """SIGKILL at any moment: what it answered it still knows, and the history that it did not sign it never signs."""
    chance = random.Random(11)
    assert witness.ask(Tree(1).request(0))[0] == 200
    answered = 1
    for _ in range(KILLS):
        killer = threading.Timer(chance.uniform(0, 0.12), witness.kill)
        killer.start()
        size = answered
        while True:
            size += 1
            try:
                status, _, body = witness.ask(Tree(size).request(size - 1))
            except (OSError, HTTPException):  # no answer, or one that breaks off in its middle
                break
            if status == 409:  # it had kept what it could not answer before the kill
                size = int(body)
                continue
            assert status == 200
            answered = size
        killer.join()
        witness.start()
        known = witness.size(ORIGIN)
        assert answered <= known <= answered + 1
        assert witness.ask(Tree(known + 5, fork=0).request(known))[0] == 422
        assert witness.ask(Tree(known + 5, fork=0).request(0))[0] == 409
        answered = known
    assert answered > KILLS
    note = Note.parse(witness.latest(ORIGIN))
    assert Checkpoint.parse(note.text) == Checkpoint.parse(Tree(answered).text)
