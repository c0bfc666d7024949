"""A development certificate authority: what `heixia init` makes so that mutual TLS works on one machine.

In production the city's own PKI issues the certificates; only their SAN URI matters to the server.
"""

import ipaddress
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

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

from enclave_api.errors import HomeInvalid
from enclave_api.identity import Principal

VALID_DAYS = 825  # the longest that platforms accept for a server certificate


@dataclass(frozen=True)
class DevCa:
    """Issues certificates of P-256 keys."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    trust_domain: str

    @classmethod
    def create(cls, trust_domain: str, now: datetime) -> "DevCa":
        """A new authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Heixia DEVELOPMENT CA {trust_domain}")])
        builder = _builder(name, name, key.public_key(), now).add_extension(x509.BasicConstraints(True, 0), True)
        return cls(builder.sign(key, SHA256()), key, trust_domain)

    @classmethod
    def load(cls, folder: Path, trust_domain: str) -> "DevCa":
        """The authority kept in a folder; raises HomeInvalid."""
        try:
            certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
            key = load_pem_private_key((folder / "ca.key").read_bytes(), None)
        except (OSError, ValueError) as error:
            raise HomeInvalid("development CA", public=f"no development CA in {folder}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise HomeInvalid("development CA", public=f"no development CA in {folder}")
        return cls(certificate, key, trust_domain)

    def save(self, folder: Path) -> None:
        """Writes ca.pem and ca.key."""
        (folder / "ca.pem").write_bytes(self.pem)
        write_secret(folder / "ca.key", _private_pem(self.key))

    @property
    def pem(self) -> bytes:
        """The authority's certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    def issue_server(self, host: str, now: datetime) -> tuple[bytes, bytes]:
        """Certificate and key (PEM) of a server that answers to localhost, 127.0.0.1 and `host`."""
        names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
        return self._issue("Heixia enclave", names, ExtendedKeyUsageOID.SERVER_AUTH, now)

    def issue_client(self, principal: Principal, now: datetime) -> tuple[bytes, bytes]:
        """Certificate and key (PEM) of a client."""
        uri = x509.UniformResourceIdentifier(principal.uri(self.trust_domain))
        return self._issue(str(principal), [uri], ExtendedKeyUsageOID.CLIENT_AUTH, now)

    def _issue(
        self, name: str, names: list[x509.GeneralName], usage: x509.ObjectIdentifier, now: datetime
    ) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
        builder = (
            _builder(subject, self.certificate.subject, key.public_key(), now)
            .add_extension(x509.BasicConstraints(False, None), True)
            .add_extension(x509.SubjectAlternativeName(dict.fromkeys(names)), False)
            .add_extension(x509.ExtendedKeyUsage([usage]), False)
        )
        return builder.sign(self.key, SHA256()).public_bytes(Encoding.PEM), _private_pem(key)


def write_secret(path: Path, content: bytes) -> None:
    """Writes a file that only its owner may read; never overwrites (HomeInvalid)."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise HomeInvalid("exists", public=f"{path} exists already; it is never overwritten") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=VALID_DAYS))
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
