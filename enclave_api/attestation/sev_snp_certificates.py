"""AMD's certificates for SEV-SNP: what a VCEK or VLEK says of itself, and the table in which a host hands them over.

Sources: AMD, Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification (publication 57230) and
the VLEK's (58369), for the extensions; AMD, SEV-ES Guest-Hypervisor Communication Block Standardization (publication
56421), "SNP Extended Guest Request", for the table.
"""

import re
import struct
from dataclasses import dataclass
from typing import get_args
from uuid import UUID

from cryptography import x509

from enclave_api.attestation.hardware import Material
from enclave_api.attestation.sev_snp_report import Product, Tcb
from enclave_api.attestation.steps import StepFailed
from enclave_api.attestation.x509_chain import certificates_of, name_of

_AMD = "1.3.6.1.4.1.3704.1"
_SPL = {"bootloader": f"{_AMD}.3.1", "tee": f"{_AMD}.3.2", "snp": f"{_AMD}.3.3", "microcode": f"{_AMD}.3.8"}
_SPL_FMC = f"{_AMD}.3.9"  # Turin's
_SPL_RESERVED = tuple(f"{_AMD}.3.{n}" for n in (4, 5, 6, 7))
_STRUCT_VERSION, _PRODUCT_NAME, _HWID, _CSP_ID = (f"{_AMD}.{n}" for n in (1, 2, 4, 5))
_STRUCT_VERSIONS = (0, 1)  # 1: Turin's, with fmc
_CHIP_ID_BYTES = 64
_HWID_BYTES = (64, 8)  # 8: Turin's; CHIP_ID has zeros behind it
_TAG_INTEGER, _TAG_OCTETS = 0x02, 0x04
_TAGS_TEXT = (0x0C, 0x13, 0x16)  # UTF8String, PrintableString, IA5String
# marketing names whose VCEKs are signed by another line's ASK
_LINES = {"Bergamo": "Genoa", "Siena": "Genoa"}
_ISSUER = re.compile(r"SEV-(VLEK-)?(\w+)")


@dataclass(frozen=True)
class Endorsement:
    """What AMD vouches for in a VCEK or VLEK.

    Attributes:
        chip_id: the chip as CHIP_ID has it, of a VCEK; empty in a VLEK.
        csp_id: the cloud provider, of a VLEK; empty in a VCEK.
        product_name: such as "Milan-B0" or "Genoa".
    """

    certificate: x509.Certificate
    tcb: Tcb
    chip_id: bytes
    csp_id: str
    product_name: str

    @property
    def kind(self) -> str:
        """VCEK or VLEK."""
        return "VLEK" if self.csp_id else "VCEK"

    @property
    def line(self) -> str:
        """The line that the product's name belongs to, as far as it is known."""
        name = re.split(r"[\s-]", self.product_name)[0]
        return _LINES.get(name, name)


def is_endorsement(certificate: x509.Certificate) -> bool:
    """Whether it claims to be a VCEK or VLEK: it has AMD's extensions."""
    return _STRUCT_VERSION in _values(certificate)


def endorsement_of(certificate: x509.Certificate) -> Endorsement:
    """Reads the extensions. Values occur as DER (INTEGER, OCTET STRING, a string) and bare: both are read.

    Raises:
        StepFailed: one is missing, malformed or of an unknown kind; or it is both VCEK and VLEK, or neither.
    """
    values = _values(certificate)
    parts = {part: _number(values, oid, part) for part, oid in _SPL.items()}
    fmc = _number(values, _SPL_FMC, "fmc") if _SPL_FMC in values else 0
    if _number(values, _STRUCT_VERSION, "struct version") not in _STRUCT_VERSIONS:
        raise StepFailed(f"extensions of {name_of(certificate)} are of an unknown version")
    if any(_number(values, oid, "reserved part") for oid in _SPL_RESERVED if oid in values):
        raise StepFailed(f"{name_of(certificate)} has a number for a part of the TCB that is not known")
    if (_HWID in values) == (_CSP_ID in values):
        raise StepFailed(f"{name_of(certificate)} must name a chip (VCEK) or a cloud provider (VLEK), and not both")
    return Endorsement(
        certificate=certificate,
        tcb=Tcb(**parts, fmc=fmc),
        chip_id=_hwid(values[_HWID]).ljust(_CHIP_ID_BYTES, b"\0") if _HWID in values else b"",
        csp_id=_text(values, _CSP_ID, "cloud provider") if _CSP_ID in values else "",
        product_name=_text(values, _PRODUCT_NAME, "product name"),
    )


def issuing_line(issuer: x509.Certificate) -> tuple[str, Product]:
    """Which kind of key (VCEK, VLEK) of which line an ASK or ASVK signs: AMD names them SEV-Milan, SEV-VLEK-Milan."""
    found = _ISSUER.fullmatch(name_of(issuer))
    for product in get_args(Product):
        if found and found[2] == product:
            return ("VLEK" if found[1] else "VCEK"), product
    raise StepFailed(f"{name_of(issuer)} is not of a line of processors that is known")


def _values(certificate: x509.Certificate) -> dict[str, bytes]:
    return {e.oid.dotted_string: e.value.value for e in certificate.extensions if _is_unparsed(e.value)}


def _is_unparsed(value: object) -> bool:
    return isinstance(value, x509.UnrecognizedExtension)


def _number(values: dict[str, bytes], oid: str, what: str) -> int:
    """0 to 255: an INTEGER, or one bare byte, which no DER is."""
    value = values.get(oid, b"")
    content = value if len(value) == 1 else _der(value, (_TAG_INTEGER,))
    number = int.from_bytes(content or b"", "big")
    # DER: no sign bit, no needless zero in front
    if not content or number > 255 or len(content) != 1 + (len(value) > 1 and number > 127):
        raise StepFailed(f"the certificate's {what} is missing or no number from 0 to 255")
    return number


def _text(values: dict[str, bytes], oid: str, what: str) -> str:
    value = values.get(oid, b"")
    content = _der(value, _TAGS_TEXT)
    text = (value if content is None else content).decode("ascii", "replace")
    if not re.fullmatch(r"[\x20-\x7e]{1,127}", text):
        raise StepFailed(f"the certificate's {what} is missing or no short text")
    return text


def _hwid(value: bytes) -> bytes:
    content = value if len(value) in _HWID_BYTES else _der(value, (_TAG_OCTETS,))
    if content is None or len(content) not in _HWID_BYTES:
        raise StepFailed("the certificate's hardware id has neither 64 bytes nor 8")
    return content


def _der(value: bytes, tags: tuple[int, ...]) -> bytes | None:
    """The content of one short DER value of a tag; None for anything else."""
    if len(value) < 2 or value[0] not in tags or value[1] > 127 or value[1] != len(value) - 2:
        return None
    return value[2:]


_ENTRY = struct.Struct("<16sII")
_ENTRIES_MAX = 64
# ARK; ASK, also used for the ASVK; VCEK; VLEK. Hosts differ in the order of a GUID's bytes: both are known.
_CERTIFICATE_GUIDS = (
    UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae"),
    UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782"),
    UUID("63da758d-e664-4564-adc5-f4b93be8accd"),
    UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1"),
)
_CRL_GUID = UUID("92f81bc3-5811-4d3d-97ff-d19f88dc67ea")
_CERTIFICATES = {order for guid in _CERTIFICATE_GUIDS for order in (guid.bytes, guid.bytes_le)}
_CRLS = {_CRL_GUID.bytes, _CRL_GUID.bytes_le}


class CertificateTableMalformed(ValueError):
    """A host's certificate table that is none."""


def certificate_table(auxblob: bytes) -> Material:
    """The certificates and lists of a host's table, as `auxblob` of configfs-tsm has it; unknown entries are left out.

    Raises:
        CertificateTableMalformed: the table does not end, or an entry lies outside of it or over another.
    """
    certificates: list[bytes] = []
    crls: list[bytes] = []
    left = len(auxblob)
    for index in range(_ENTRIES_MAX):
        start = index * _ENTRY.size
        if start == len(auxblob) == 0:
            return Material()
        if start + _ENTRY.size > len(auxblob):
            break
        guid, offset, length = _ENTRY.unpack_from(auxblob, start)
        if not any(guid) and not offset and not length:
            return Material(tuple(certificates), tuple(crls))
        if offset + length > len(auxblob):
            raise CertificateTableMalformed("an entry of the certificate table lies outside of it")
        left -= length
        if left < 0:  # 64 entries over the same bytes would be 64 times the work, and evidence of megabytes
            raise CertificateTableMalformed("entries of the certificate table lie over each other")
        content = auxblob[offset : offset + length]
        if guid in _CERTIFICATES:
            certificates += certificates_of(content)
        elif guid in _CRLS:
            crls.append(content)
    raise CertificateTableMalformed("the certificate table has no end")
