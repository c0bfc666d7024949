"""The certificate that a server proves it holds the key of, taken with one TLS handshake before the channel is made.

A gRPC client cannot read its peer's certificate. So it is taken beforehand, and the channel then trusts that very
certificate and nothing else (gRPC accepts an end certificate as trust anchor: X509_V_FLAG_PARTIAL_CHAIN): what is
compared with the evidence is the key that the channel is really encrypted to.
"""

import hashlib
import socket
import ssl
from pathlib import Path

from enclave_api.errors import ConnectionFailed, CredentialsMissing

HANDSHAKE_TIMEOUT_S = 10.0  # of connecting, and again of the whole handshake; the latter takes milliseconds


def take_certificate(server: str, folder: Path, timeout_s: float = HANDSHAKE_TIMEOUT_S) -> bytes:
    """The server's certificate, DER, verified as the channel will: chain to ca.pem, dates, host name.

    Args:
        server: HOST:PORT; an IPv6 address in brackets.
        folder: holds cert.pem, key.pem, ca.pem.
        timeout_s: of connecting, and again of the handshake.

    Raises:
        ConnectionFailed: nobody answers, not in time, or with a certificate that ca.pem does not vouch for.
        CredentialsMissing: a file is missing or damaged.
    """
    host, _, port = server.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise ConnectionFailed("server", public=f"{server} is not HOST:PORT")
    context = _context(folder)
    try:
        with (
            socket.create_connection((host, int(port)), timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            return secured.getpeercert(binary_form=True) or b""
    except ssl.SSLCertVerificationError as error:
        raise ConnectionFailed("certificate", public=f"{server}: {error.verify_message}") from error
    except (OSError, ValueError) as error:
        public = f"is `heixia serve` running at {server}? {getattr(error, 'strerror', None) or error}"
        raise ConnectionFailed("handshake", public=public) from error


def key_hash(certificate: bytes) -> str:
    """SHA-256, hex, of a DER certificate's SubjectPublicKeyInfo (RFC 5280, 4.1.2.7): `tls_key_hash` of the claims.

    Raises ConnectionFailed for a certificate whose key is of an unknown kind.
    """
    from cryptography import x509  # what takes no evidence starts without it
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConnectionFailed("key", public="the server's certificate has a key of an unknown kind") from error
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def as_pem(certificate: bytes) -> bytes:
    """A DER certificate as PEM."""
    return ssl.DER_cert_to_PEM_cert(certificate).encode()


def _context(folder: Path) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=folder / "ca.pem")
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    except OSError as error:  # ssl.SSLError is one
        public = f"{folder}: cert.pem, key.pem or ca.pem is missing or damaged"
        raise CredentialsMissing("credentials", public=public) from error
    context.set_alpn_protocols(["h2"])
    return context
