"""Files that a verification may use, sorted by what they hold, not by what they are called.

PEM (certificates and revocation lists, several in one file), DER, JSON collateral, the certificate table that a host
gives beside a SEV-SNP report, and any of these as hex text. Nothing here is trusted before it is checked.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from enclave_api.attestation.hardware import Material, merged
from enclave_api.attestation.sev_snp_certificates import certificate_table
from enclave_api.attestation.x509_certificates import MALFORMED
from enclave_api.errors import EvidenceUnreadable

FILE_BYTES_MAX = 16 * 1024 * 1024  # a revocation list of a large vendor may grow; today they have kilobytes
FILES_MAX = 256  # of all folders together: somebody gave the wrong folder
TOTAL_BYTES_MAX = 64 * 1024 * 1024
_PEM = re.compile(rb"-----BEGIN (CERTIFICATE|X509 CRL)-----[^-]+-----END \1-----")  # as in x509_certificates
_HEX = re.compile(rb"[0-9A-Fa-f\s]+")


@dataclass(frozen=True)
class Loaded:
    """What was found, and the files of folders that hold nothing of use (reports, notes); a caller may name them."""

    material: Material
    unused: tuple[Path, ...] = ()


def load_material(paths: Sequence[Path]) -> Loaded:
    """Reads files, and the files that lie directly in folders.

    Raises:
        EvidenceUnreadable: a file named by itself holds nothing of use, or there is too much of it all.
        OSError: something cannot be read.
    """
    found, unused, total = list[Material](), list[Path](), 0
    for path, named in _files(paths):
        content = read_bounded(path, FILE_BYTES_MAX)
        total += len(content)
        if total > TOTAL_BYTES_MAX:
            raise EvidenceUnreadable("total", public=f"more than {TOTAL_BYTES_MAX} bytes of certificates and lists")
        if (material := sort_material(content)) is not None:
            found.append(material)
        elif named:
            what = "certificate, revocation list, JSON collateral or certificate table"
            raise EvidenceUnreadable("content", public=f"{path}: no {what}")
        else:
            unused.append(path)
    return Loaded(merged(found), tuple(unused))


def sort_material(content: bytes) -> Material | None:
    """What a file holds; None = nothing of use."""
    # a quote holds PEM between its bytes, collateral between its quotation marks: neither is a file of certificates
    if b"\0" not in content and not content.lstrip().startswith(b"{") and _PEM.search(content):
        return _pem(content)
    for kind in (_certificate, _crl, _document, _table):
        try:
            return kind(content)
        except (*MALFORMED, RecursionError):
            continue
    plain = from_hex(content)
    return sort_material(plain) if plain != content else None


def from_hex(content: bytes) -> bytes:
    """The bytes that hex text spells (white space aside); any other content as it is."""
    digits = b"".join(content.split()) if _HEX.fullmatch(content) else b""
    return bytes.fromhex(digits.decode()) if digits and len(digits) % 2 == 0 else content


def read_bounded(path: Path, bytes_max: int) -> bytes:
    """A file's bytes; raises EvidenceUnreadable where it has more than `bytes_max`, OSError where it cannot be read."""
    with path.open("rb") as file:
        content = file.read(bytes_max + 1)
    if len(content) > bytes_max:
        raise EvidenceUnreadable("size", public=f"{path}: more than {bytes_max} bytes")
    return content


def _files(paths: Sequence[Path]) -> list[tuple[Path, bool]]:
    files = list[tuple[Path, bool]]()
    for path in paths:
        inside = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
        files += [(p, not path.is_dir()) for p in inside]
    if len(files) > FILES_MAX:
        raise EvidenceUnreadable("files", public=f"{len(files)} files of certificates; at most {FILES_MAX}")
    return files


def _pem(content: bytes) -> Material | None:
    certificates, crls = list[bytes](), list[bytes]()
    for block in _PEM.finditer(content):
        try:
            if block[1] == b"CERTIFICATE":
                certificates.append(x509.load_pem_x509_certificate(block[0]).public_bytes(Encoding.DER))
            else:
                crls.append(x509.load_pem_x509_crl(block[0]).public_bytes(Encoding.DER))
        except MALFORMED:
            continue
    return Material(tuple(certificates), tuple(crls)) if certificates or crls else None


def _certificate(content: bytes) -> Material:
    x509.load_der_x509_certificate(content)
    return Material(certificates=(content,))


def _crl(content: bytes) -> Material:
    x509.load_der_x509_crl(content)
    return Material(crls=(content,))


def _document(content: bytes) -> Material:
    if not isinstance(json.loads(content), dict):
        raise ValueError("no object")
    return Material(documents=(content,))


def _table(content: bytes) -> Material:
    found = certificate_table(content)
    if not found.certificates and not found.crls:
        raise ValueError("an empty table, or none")
    return found
