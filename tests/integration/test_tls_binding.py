"""Evidence belongs to the connection it came by: who stands in between is found, whatever certificate he holds."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from enclave_api.client.bank import Bank
from enclave_api.client.server_certificate import key_hash, take_certificate
from enclave_api.dev_ca import DevCa
from enclave_api.errors import ConnectionFailed, CredentialsMissing, EvidenceRefused
from tests.in_between import InBetween
from tests.room import ACCEPT, ALICE, PORTAL, Room

STEP = "TLS key = connection"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """A served enclave."""
    made = Room.make(tmp_path_factory.mktemp("room")).start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def impostor(room: Room, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with another server's certificate of the same authority, and its key."""
    folder = tmp_path_factory.mktemp("impostor")
    certificate, key = DevCa.load(room.home.path / "tls", "heixia.test").issue_server("localhost", datetime.now(UTC))
    (folder / "tls.pem").write_bytes(certificate)
    (folder / "tls.key").write_bytes(key)
    return folder


def folder_of(room: Room) -> Path:
    """Alice's credentials."""
    return room.home.client(ALICE)


def test_the_certificate_taken_is_the_servers(room: Room) -> None:
    """The handshake gives the very certificate in the home, and its key's hash is what the enclave claims."""
    taken = take_certificate(room.server, folder_of(room))
    own = x509.load_pem_x509_certificate((room.home.path / "tls" / "server.pem").read_bytes())
    assert taken == own.public_bytes(Encoding.DER)
    verdict = room.alice.verify_enclave(ACCEPT)
    assert verdict.claims["tls_key_hash"] == key_hash(taken)
    assert next(s for s in verdict.steps if s.name == STEP).outcome == "passed"


def test_who_passes_bytes_on_is_no_harm(room: Room, impostor: Path) -> None:
    """A relay that does not end TLS changes nothing: the connection still ends in the enclave."""
    with (
        InBetween(room, impostor, room.home.client(PORTAL), honest=None) as relay,
        Bank.connect(relay.address, folder_of(room)) as alice,
    ):
        assert alice.verify_enclave(ACCEPT).accepted
        assert relay.seen == 2


def test_who_ends_tls_is_refused(room: Room, impostor: Path) -> None:
    """An impostor with a certificate of the same authority relays the true enclave's evidence: one step fails."""
    with (
        InBetween(room, impostor, room.home.client(PORTAL)) as thief,
        Bank.connect(thief.address, folder_of(room)) as alice,
    ):
        verdict = alice.verify_enclave(ACCEPT)
        assert [s.name for s in verdict.steps if s.outcome == "failed"] == [STEP]
        with pytest.raises(EvidenceRefused) as caught:
            verdict.recipient()
        assert "somebody answers in between" in caught.value.public


def test_the_command_refuses_him_too(room: Room, impostor: Path, tmp_path: Path) -> None:
    """`bank evidence` exits with 1 and names the step; `bank seal` seals nothing."""
    with InBetween(room, impostor, room.home.client(PORTAL)) as thief:
        shared = ["--as", str(folder_of(room)), "--server", thief.address, "--accept-simulated"]
        offer = tmp_path / "offer.yaml"
        offer.write_text("product: zhongyuan/quick-loan\n")
        out = tmp_path / "bundle.heixia"
        for words in (["evidence"], ["seal", str(offer), "--out", str(out)]):
            command = [sys.executable, "-m", "enclave_api", "bank", *words, *shared]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 1, done.stdout
            assert f"{STEP}: the connection's key is" in done.stderr
            assert "[evidence_refused]" in done.stderr
        assert not out.exists()


def test_a_certificate_that_changes_after_the_handshake_is_refused(room: Room, impostor: Path) -> None:
    """The handshake meets the enclave, the channel the impostor: no question is asked of him, and the step is named."""
    with (
        InBetween(room, impostor, room.home.client(PORTAL), honest=1) as thief,
        Bank.connect(thief.address, folder_of(room)) as alice,
    ):
        with pytest.raises(EvidenceRefused) as caught:
            alice.verify_enclave(ACCEPT)
        assert STEP in caught.value.public
        assert "changed between" in caught.value.public


def test_a_verified_channel_stays_pinned(room: Room, impostor: Path) -> None:
    """Who steps in later gets no call: the channel reconnects to the same key alone, until it is verified anew."""
    with (
        InBetween(room, impostor, room.home.client(PORTAL), honest=None) as thief,
        Bank.connect(thief.address, folder_of(room)) as alice,
    ):
        assert alice.verify_enclave(ACCEPT).accepted
        assert alice.versions("zhongyuan/nothing") == []
        thief.cut(honest=0)
        with pytest.raises(ConnectionFailed):
            alice.versions("zhongyuan/nothing")
        thief.cut(honest=None)
        assert alice.verify_enclave(ACCEPT).accepted


def test_a_server_of_another_authority_is_refused_at_the_handshake(room: Room, tmp_path: Path) -> None:
    """The authority in ca.pem decides first; the reason is said."""
    other = Room.make(tmp_path / "other")
    folder = other.home.client(ALICE)
    with pytest.raises(ConnectionFailed) as caught:
        take_certificate(room.server, folder)
    assert "certificate" in caught.value.public


def test_nobody_there_and_who_says_nothing(room: Room) -> None:
    """A closed port, a listener that never answers, and an address that is none each fail in words, in time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConnectionFailed):
            take_certificate(address, folder_of(room), timeout_s=0.1)
    for server in (address, "nowhere", "127.0.0.1:99999", ":7443"):
        with pytest.raises(ConnectionFailed):
            take_certificate(server, folder_of(room), timeout_s=1)


def test_who_answers_no_tls_is_refused(room: Room) -> None:
    """Plain text in a handshake's place is an error in words, not a trace."""
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer() -> None:
            connection, _ = plain.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ConnectionFailed):
            take_certificate(f"127.0.0.1:{plain.getsockname()[1]}", folder_of(room), timeout_s=5)
        thread.join()


def test_missing_credentials_are_said(room: Room, tmp_path: Path) -> None:
    """A folder without certificates is the client's own fault, before anything is sent."""
    with pytest.raises(CredentialsMissing):
        take_certificate(room.server, tmp_path)
