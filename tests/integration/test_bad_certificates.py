"""Who gets in: wrong certificates, missing ones, wrong roles, other people's things, and bytes that are no TLS."""

import itertools
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from heixia.audit.v1 import audit_pb2, audit_pb2_grpc

from enclave_api.cli.example import FIELDS, LEVELS
from enclave_api.client.application import Application
from enclave_api.client.auditor import Auditor
from enclave_api.client.authority import Authority
from enclave_api.client.bank import Bank
from enclave_api.client.connection import Client
from enclave_api.client.steward import Steward
from enclave_api.dev_ca import DevCa
from enclave_api.errors import ConnectionFailed
from enclave_api.identity import Principal, Role
from tests.integration.conftest import PRODUCT, Stage
from tests.room import ALICE, AUDITOR, OFFICE, OPERATOR, PORTAL, datasets_of, refused

DOMAIN = "heixia.test"
ROOT = "spiffe://heixia.test"
TURNS = itertools.count(1)
Pair = tuple[bytes, bytes]


@pytest.fixture(scope="module")
def consent_id(stage: Stage) -> str:
    """A consent that stands."""
    return stage.consent(0)


@pytest.fixture(autouse=True)
def _goes_on(stage: Stage, consent_id: str) -> Iterator[None]:
    """Whatever a test did, nothing is stored by it and the next good call is answered."""
    with stage.room.gains():
        yield
    subject = stage.world.subjects[next(TURNS)]
    assert stage.room.answer(subject, PRODUCT, datasets_of(FIELDS)) in LEVELS


@pytest.fixture(scope="module")
def authority(stage: Stage) -> DevCa:
    """The certificate authority that the server trusts."""
    return DevCa.load(stage.room.home.path / "tls", DOMAIN)


def certificate(
    issuer: DevCa, names: Sequence[str], *, begin: datetime | None = None, end: datetime | None = None
) -> Pair:
    """Certificate and key for SAN URIs; valid today unless told otherwise."""
    now, key = datetime.now(UTC), ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")]))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin or now - timedelta(hours=1))
        .not_valid_after(end or now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(False, None), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
    )
    if names:
        uris = [x509.UniformResourceIdentifier(name) for name in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(uris), False)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return builder.sign(issuer.key, SHA256()).public_bytes(Encoding.PEM), pem


def knock(stage: Stage, ca: bytes, pair: Pair | None) -> None:
    """Asks for the checkpoint, which everybody may, with the given certificate or none."""
    cert, key = pair or (None, None)
    channel = grpc.secure_channel(stage.room.server, grpc.ssl_channel_credentials(ca, key, cert))
    with Client(stage.room.portal.credentials, channel) as client:
        client.call(audit_pb2_grpc.AuditServiceStub(channel).GetCheckpoint, audit_pb2.GetCheckpointRequest())


def test_a_right_certificate_gets_in(stage: Stage, authority: DevCa) -> None:
    """The control: what the other tests spoil is let in."""
    knock(stage, authority.pem, certificate(authority, [f"{ROOT}/auditor/audit-office"]))


def _of_another_authority(authority: DevCa) -> Pair:
    return certificate(DevCa.create(DOMAIN, datetime.now(UTC)), [f"{ROOT}/operator/operations"])


def _expired(authority: DevCa) -> Pair:
    now = datetime.now(UTC)
    begin, end = now - timedelta(days=2), now - timedelta(days=1)
    return certificate(authority, [f"{ROOT}/operator/operations"], begin=begin, end=end)


def _not_yet_valid(authority: DevCa) -> Pair:
    begin = datetime.now(UTC) + timedelta(days=1)
    return certificate(authority, [f"{ROOT}/operator/operations"], begin=begin, end=begin + timedelta(days=1))


def _signed_by_a_client(authority: DevCa) -> Pair:
    """A client plays authority with its own certificate and sends both."""
    made, key = authority.issue_client(ALICE, datetime.now(UTC))
    loaded = x509.load_pem_x509_certificate(made)
    private = load_pem_private_key(key, None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    forged, forged_key = certificate(DevCa(loaded, private, DOMAIN), [f"{ROOT}/operator/operations"])
    return forged + made, forged_key


def _for_servers(authority: DevCa) -> Pair:
    return authority.issue_server("localhost", datetime.now(UTC))


@pytest.mark.parametrize("make", [_of_another_authority, _expired, _not_yet_valid, _signed_by_a_client, _for_servers])
def test_certificates_that_do_not_verify_end_in_the_handshake(
    stage: Stage, authority: DevCa, make: Callable[[DevCa], Pair]
) -> None:
    """No byte of a request is read from a certificate that TLS does not accept."""
    with pytest.raises(ConnectionFailed):
        knock(stage, authority.pem, make(authority))


def test_no_certificate_ends_in_the_handshake(stage: Stage, authority: DevCa) -> None:
    """Without a client certificate there is no connection."""
    with pytest.raises(ConnectionFailed):
        knock(stage, authority.pem, None)


def test_a_stranger_server_is_refused_by_the_client(stage: Stage, authority: DevCa) -> None:
    """A client that trusts another authority does not talk to this server."""
    other = DevCa.create(DOMAIN, datetime.now(UTC))
    with pytest.raises(ConnectionFailed):
        knock(stage, other.pem, certificate(authority, [f"{ROOT}/auditor/audit-office"]))


def test_no_encryption_is_no_connection(stage: Stage) -> None:
    """A plain channel gets nowhere."""
    channel = grpc.insecure_channel(stage.room.server)
    with Client(stage.room.portal.credentials, channel) as client, pytest.raises(ConnectionFailed):
        client.call(audit_pb2_grpc.AuditServiceStub(channel).GetCheckpoint, audit_pb2.GetCheckpointRequest(), 5.0)


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["spiffe://heixia.evil/operator/operations"],
        ["spiffe://heixia.test.evil/operator/operations"],
        ["https://heixia.test/operator/operations"],
        [f"{ROOT}/root/operations"],
        [f"{ROOT}/OPERATOR/operations"],
        [f"{ROOT}/operator"],
        [f"{ROOT}/operator/"],
        [f"{ROOT}/operator/operations/a/b"],
        [f"{ROOT}/operator/../operations"],
        [f"{ROOT}/operator/operations?x"],
        [f"{ROOT}/operator/operations%2Fx"],
        [f"{ROOT}/subject/zhongyuan"],
        [f"{ROOT}/institution/Zhongyuan/alice"],
        [f"{ROOT}/operator/operations", f"{ROOT}/auditor/audit-office"],
    ],
)
def test_certificates_that_name_nobody_are_unauthenticated(stage: Stage, authority: DevCa, names: list[str]) -> None:
    """A certificate of the right authority needs exactly one well-formed name of the trust domain."""
    with refused("unauthenticated"):
        knock(stage, authority.pem, certificate(authority, names))


Attempt = Callable[[Stage, Principal], object]
ATTEMPTS: dict[str, tuple[set[Role], Attempt]] = {
    "ask for a limit": (
        {Role.APPLICATION},
        lambda s, p: s.room.client(Application, p).request_limit(
            subject=s.world.subjects[0], product=PRODUCT, consent_id="0" * 8 + "-0000-4000-8000-" + "0" * 12
        ),
    ),
    "register a consent": ({Role.AUTHORITY}, lambda s, p: s.room.client(Authority, p).register(b"x")),
    "revoke a consent": ({Role.AUTHORITY}, lambda s, p: s.room.client(Authority, p).revoke("x", "y")),
    "approve a version": ({Role.INSTITUTION}, lambda s, p: s.room.client(Bank, p).approve(s.version)),
    "promote a version": ({Role.INSTITUTION}, lambda s, p: s.room.client(Bank, p).promote(s.version)),
    "suspend a version": (
        {Role.INSTITUTION, Role.OPERATOR, Role.STEWARD},
        lambda s, p: s.room.client(Bank, p).suspend(s.version, "security"),
    ),
    "list versions": ({Role.INSTITUTION}, lambda s, p: s.room.client(Bank, p).versions(PRODUCT)),
    "suspend a dataset": (
        {Role.STEWARD},
        lambda s, p: s.room.client(Steward, p).suspend("tax.declaration", "security"),
    ),
    "read the log": ({Role.AUDITOR}, lambda s, p: list(s.room.client(Auditor, p).entries(0))),
    "read an entry": ({Role.AUDITOR}, lambda s, p: s.room.client(Auditor, p).entry(0)),
}
EVERYBODY = (ALICE, PORTAL, OFFICE, AUDITOR, OPERATOR, Principal(Role.STEWARD, "tax"))


@pytest.mark.parametrize("name", ATTEMPTS)
def test_roles_that_may_not_are_refused(stage: Stage, name: str) -> None:
    """Each call is closed to every role without a line for it, before its request is looked at."""
    allowed, attempt = ATTEMPTS[name]
    for principal in EVERYBODY:
        if principal.role not in allowed:
            with refused("permission_refused"):
                attempt(stage, principal)


def test_other_banks_see_nothing(stage: Stage) -> None:
    """To another institution a version looks like none, whatever it tries on it."""
    mallory = stage.room.client(Bank, Principal(Role.INSTITUTION, "mallory-bank", "mallory"))
    changes = (mallory.approve, mallory.promote, mallory.retire)
    for change in changes:
        with refused("version_unknown"):
            change(stage.version)
    with refused("version_unknown"):
        mallory.suspend(stage.version, "security")
    with refused("version_unknown"):
        mallory.resume(stage.version, "security")
    with refused("product_unknown"):
        mallory.rollback(PRODUCT)
    assert mallory.versions(PRODUCT) == []


def test_other_authorities_and_departments_are_kept_apart(stage: Stage, consent_id: str) -> None:
    """An authority cannot touch another's consent, nor a steward another department's data."""
    stranger = stage.room.client(Authority, Principal(Role.AUTHORITY, "other-office"))
    for change in (stranger.revoke, stranger.pause, stranger.resume):
        with refused("consent_unknown"):
            change(consent_id, "security")
    with refused("consent_unknown"):
        stranger.get(consent_id)
    water = stage.room.steward("water")
    with refused("dataset_not_yours"):
        water.suspend("tax.declaration", "security")
    with refused("dataset_not_yours"):
        water.publish(stage.room.catalog.dataset("tax.declaration"))


@pytest.mark.parametrize(
    "noise",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(64),
        b"\x16\x03\x01\xff\xff\x01" + bytes(100),
        os.urandom(4096),
    ],
    ids=["nothing", "http", "h2c", "cut hello", "noise"],
)
def test_bytes_that_are_no_tls_end_their_own_connection(stage: Stage, noise: bytes) -> None:
    """Noise on the port closes that connection alone."""
    host, _, port = stage.room.server.rpartition(":")
    for _ in range(5):
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(noise)


def test_keys_lie_where_only_their_owner_reads(stage: Stage) -> None:
    """Private keys and the root secret are made for their owner's eyes."""
    secrets: list[Path] = [stage.room.home.root_key, stage.room.home.path / "tls" / "server.key"]
    secrets += [stage.room.home.database, *(stage.room.home.path / "clients").glob("*/key.pem")]
    secrets += (stage.room.home.path / "clients").glob("*/signing.jwk")
    assert len(secrets) > 8
    assert [path for path in secrets if path.stat().st_mode & 0o077] == []
