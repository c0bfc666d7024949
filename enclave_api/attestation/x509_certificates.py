"""X.509 certificates read in full, once, so that later checks cannot meet bytes that raise."""

import re
import warnings
from collections.abc import Sequence
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from enclave_api.attestation.steps import StepFailed

# AMD numbers every VCEK 0, which RFC 5280 forbids: known, and not for a user of the command line to read each time
warnings.filterwarnings("ignore", message="Parsed a serial number which wasn't positive")

CERTIFICATES_MAX = 1_024  # a bank may keep the VCEKs of all its provider's machines in one folder
CERTIFICATE_BYTES_MAX = 16_384  # AMD's have 1.7 KB, Intel's 1.2 KB
RSA_BITS = range(2048, 4097)  # AMD's have 4,096; larger ones would only cost time
HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_CURVES = (ec.SECP256R1, ec.SECP384R1)
# base64 has no "-": a search that could run over one takes quadratic time on a stranger's BEGIN lines without an end
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----")
# what cryptography raises for malformed or unusual bytes, at loading or when a member is first read
MALFORMED = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


def certificates_of(content: bytes) -> tuple[bytes, ...]:
    """DER of each certificate of a file that is PEM, one or several, or DER; a PEM block that is none is left out."""
    if not content.lstrip().startswith(b"-----BEGIN"):
        return (content,)
    blocks = _PEM.findall(content)
    return tuple(der for der in map(_der_of_pem, blocks[:CERTIFICATES_MAX]) if der)


def _der_of_pem(block: bytes) -> bytes:
    try:
        return x509.load_pem_x509_certificate(block).public_bytes(Encoding.DER)
    except MALFORMED:
        return b""


def readable_certificates(ders: Sequence[bytes]) -> list[x509.Certificate]:
    """The certificates that can be read in full, each once; others are left out, as nobody will trust them.

    Raises StepFailed for more than CERTIFICATES_MAX.
    """
    if len(ders) > CERTIFICATES_MAX:
        raise StepFailed(f"{len(ders)} certificates; {CERTIFICATES_MAX} at most")
    return [found for found in map(_certificate, dict.fromkeys(ders)) if found is not None]


def _certificate(der: bytes) -> x509.Certificate | None:
    if len(der) > CERTIFICATE_BYTES_MAX:
        return None
    try:
        found = x509.load_der_x509_certificate(der)
        # these are parsed when first asked for: ask here, so that later reads cannot raise
        _ = (found.subject, found.issuer, list(found.extensions), found.public_key())
        _ = (found.not_valid_before_utc, found.not_valid_after_utc, found.signature_hash_algorithm)
    except MALFORMED:
        return None
    return found


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256, hex, of the DER."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def name_of(certificate: x509.Certificate) -> str:
    """The subject's common name for reasons: a stranger's text, so ASCII and cut."""
    return common_name(certificate.subject)


def common_name(name: x509.Name) -> str:
    """The first common name, likewise."""
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return ascii(found[0].value)[1:49].rstrip("'") if found else "a certificate without common name"


_T = TypeVar("_T", bound=x509.ExtensionType)


def extension_of(certificate: x509.Certificate, kind: type[_T]) -> _T | None:
    """A certificate's extension of a kind; None where it has none."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def is_strong(key: object) -> bool:
    """Whether a key may sign certificates and lists: RSA of RSA_BITS, or on the curves P-256 and P-384."""
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size in RSA_BITS
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES)
