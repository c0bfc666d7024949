"""Files of certificates, lists and collateral, sorted by what they hold."""

import base64
import struct
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from enclave_api.attestation import material
from enclave_api.attestation.hardware import Material
from enclave_api.attestation.material import Loaded, from_hex, load_material, sort_material
from enclave_api.dev_ca import DevCa
from enclave_api.errors import EvidenceUnreadable
from tests.conftest import fixture_file

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CA = DevCa.create("heixia.test", NOW)
DER = CA.certificate.public_bytes(Encoding.DER)
LIST = (
    x509.CertificateRevocationListBuilder()
    .issuer_name(CA.certificate.subject)
    .last_update(NOW)
    .next_update(NOW.replace(year=2027))
    .sign(CA.key, SHA256())
)
CRL = LIST.public_bytes(Encoding.DER)
ODD_CRL = CRL.replace(b"\x02\x01\x01\x30", b"\x02\x01\x41\x30", 1)  # of version 66
ODD = DER.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07", 1)
VCEK = UUID("63da758d-e664-4564-adc5-f4b93be8accd").bytes
TABLE = struct.pack("<16sII", VCEK, 48, len(DER)) + bytes(24) + DER
BOTH_PEM = b"a note\n" + CA.pem + LIST.public_bytes(Encoding.PEM) + CA.pem


def pem(what: str, der: bytes) -> bytes:
    """PEM of bytes that `cryptography` does not load."""
    return f"-----BEGIN {what}-----\n{base64.b64encode(der).decode()}\n-----END {what}-----\n".encode()


CONTENTS = {
    "DER certificate": (DER, Material((DER,))),
    "DER list": (CRL, Material((), (CRL,))),
    "PEM of several": (BOTH_PEM, Material((DER, DER), (CRL,))),
    "PEM after a BEGIN without END": (b"-----BEGIN CERTIFICATE-----\n" + BOTH_PEM, Material((DER, DER), (CRL,))),
    "hex of a certificate": (DER.hex().upper().encode() + b"\r\n", Material((DER,))),
    "hex of a list, in lines": (
        b"\n".join(CRL.hex()[i : i + 64].encode() for i in range(0, len(CRL) * 2, 64)),
        Material((), (CRL,)),
    ),
    "JSON": (b' {"tcbInfo": {}}', Material(documents=(b' {"tcbInfo": {}}',))),
    "JSON that holds PEM": (b'{"chain": "' + CA.pem.replace(b"\n", b"\\n") + b'"}', None),
    "a host's table": (TABLE, Material((DER,))),
    "a list in JSON": (b"[1]", None),
    "nothing": (b"", None),
    "a text": (b"see README", None),
    "a certificate cut": (DER[:-1], None),
    "a certificate of an unknown version": (ODD, None),
    "a list of an unknown version": (ODD_CRL, None),
    "PEM of unknown versions": (pem("CERTIFICATE", ODD) + pem("X509 CRL", ODD_CRL), None),
    "PEM cut": (CA.pem[:-40], None),
    "PEM of something else": (CA.pem.replace(b"CERTIFICATE", b"PRIVATE KEY"), None),
    "hex of a text": (b"see README".hex().encode(), None),
    "deep JSON": (b"[" * 100_000, None),
    "a report": (bytes([2]) + bytes(1183), None),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_contents_are_told_apart(name: str) -> None:
    """What a file holds decides, not its name; what is of no use is none."""
    content, expected = CONTENTS[name]
    if name == "JSON that holds PEM":
        expected = Material(documents=(content,))
    assert sort_material(content) == expected


def test_folders_and_files(tmp_path: Path) -> None:
    """A folder's other files are named, not refused; a file given by itself must hold something."""
    folder = tmp_path / "certs"
    (folder / "below").mkdir(parents=True)
    for name, content in (("a.txt", DER), ("b.der", CRL), ("c.bin", b"report"), ("below/d.der", DER)):
        (folder / name).write_bytes(content)
    assert load_material([folder]) == Loaded(Material((DER,), (CRL,)), (folder / "c.bin",))
    assert load_material([folder / "b.der", folder / "a.txt"]).material == Material((DER,), (CRL,))
    assert load_material([]) == Loaded(Material())
    with pytest.raises(EvidenceUnreadable) as caught:
        load_material([folder / "c.bin"])
    assert str(folder / "c.bin") in caught.value.public
    with pytest.raises(OSError, match="absent"):
        load_material([folder / "absent"])


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, all of them together, and their number have an end."""
    for number in range(4):
        (tmp_path / f"{number}.der").write_bytes(DER)
    for limit, value in (("FILE_BYTES_MAX", len(DER) - 1), ("TOTAL_BYTES_MAX", 3 * len(DER)), ("FILES_MAX", 3)):
        with monkeypatch.context() as patched:
            patched.setattr(material, limit, value)
            with pytest.raises(EvidenceUnreadable):
                load_material([tmp_path])
    assert len(load_material([tmp_path]).material.certificates) == 4


@pytest.mark.parametrize(
    ("folder", "certificates", "crls", "documents", "unused"),
    [
        ("snp", 4, 0, 0, set()),
        ("snp/milan_azure", 1, 0, 0, {"report.bin"}),
        ("tdx/v4_phala", 0, 0, 1, {"quote.dat"}),
        ("tdx/v4_spr", 0, 2, 2, {"quote.dat"}),
    ],
)
def test_real_folders(folder: str, certificates: int, crls: int, documents: int, unused: set[str]) -> None:
    """Vendors' files as they come are all found."""
    loaded = load_material([fixture_file(f"attestation/{folder}")])
    found = loaded.material
    assert (len(found.certificates), len(found.crls), len(found.documents)) == (certificates, crls, documents)
    assert {path.name for path in loaded.unused} == unused


def test_hex_is_read_and_anything_else_left() -> None:
    """White space aside, all of it must be hex; a binary file stays as it is."""
    assert from_hex(b"00 ff\n") == b"\x00\xff"
    for content in (b"", b"abc", b"\x00\xff", b"xy", b"\n", b"0x00"):
        assert from_hex(content) == content
