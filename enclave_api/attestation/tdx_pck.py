"""What Intel's PCK certificates say of a platform: the SGX extension, OID 1.2.840.113741.1.13.1.

The extension is a sequence of {OID, value}; the member .2 (TCB) is such a sequence itself (Intel SGX PCK Certificate
and Certificate Revocation List Profile Specification). Members that are not used here are not read.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cryptography import x509

from enclave_api.attestation.steps import StepFailed

SGX_EXTENSION = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
_ARC = bytes.fromhex("2a864886f84d010d01")  # the extension's OID, DER; members add one or two bytes
_INTEGER, _OCTETS, _OID, _SEQUENCE = 0x02, 0x04, 0x06, 0x30
_TCB, _PCEID, _FMSPC, _PCESVN = b"\x02", b"\x03", b"\x04", b"\x02\x11"
_COMPONENTS = tuple(bytes((2, number)) for number in range(1, 17))


@dataclass(frozen=True)
class Platform:
    """A platform by its certificate: kind (FMSPC, hex), certifying enclave (PCE id, hex), and the SVNs it was given."""

    fmspc: str
    pce_id: str
    pce_svn: int
    components: tuple[int, ...]


def platform_of(certificate: x509.Certificate) -> Platform:
    """Reads the extension; raises StepFailed where it is absent, or a member is absent, twice there or malformed."""
    try:
        extension = certificate.extensions.get_extension_for_oid(SGX_EXTENSION).value
    except x509.ExtensionNotFound:
        raise StepFailed("the certificate has no SGX extension: it is no PCK certificate") from None
    if not isinstance(extension, x509.UnrecognizedExtension):
        raise StepFailed("the SGX extension is malformed")
    members = _members(_only(extension.value, _SEQUENCE))
    tcb = _members(_value(members, _TCB, _SEQUENCE))
    return Platform(
        _octets(members, _FMSPC, 6),
        _octets(members, _PCEID, 2),
        _number(tcb, _PCESVN, 2**16),
        tuple(_number(tcb, component, 2**8) for component in _COMPONENTS),
    )


def _elements(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and value of each DER element, one after the other; tags of one byte, lengths of up to two."""
    at = 0
    while at < len(content):
        head = content[at : at + 4]
        form = head[1] if len(head) > 1 else 0xFF
        more = form & 0x7F if form & 0x80 else 0
        if more > 2 or form == 0x80 or len(head) < 2 + more:
            raise StepFailed("the SGX extension is malformed")
        length = int.from_bytes(head[2 : 2 + more], "big") if more else form
        at += 2 + more
        if at + length > len(content):
            raise StepFailed("the SGX extension is cut")
        yield head[0], content[at : at + length]
        at += length


def _only(content: bytes, tag: int) -> bytes:
    found = list(_elements(content))
    if len(found) != 1 or found[0][0] != tag:
        raise StepFailed("the SGX extension is malformed")
    return found[0][1]


def _members(content: bytes) -> dict[bytes, tuple[int, bytes]]:
    """Tag and value by the OID's last bytes."""
    members: dict[bytes, tuple[int, bytes]] = {}
    for tag, pair in _elements(content):
        parts = list(_elements(pair)) if tag == _SEQUENCE else []
        if len(parts) != 2 or parts[0][0] != _OID or not parts[0][1].startswith(_ARC):
            raise StepFailed("the SGX extension is malformed")
        name = parts[0][1][len(_ARC) :]
        if name in members:
            raise StepFailed("the SGX extension has a member twice")
        members[name] = parts[1]
    return members


def _value(members: dict[bytes, tuple[int, bytes]], name: bytes, tag: int) -> bytes:
    found = members.get(name)
    if found is None or found[0] != tag:
        raise StepFailed("the SGX extension lacks a member")
    return found[1]


def _octets(members: dict[bytes, tuple[int, bytes]], name: bytes, length: int) -> str:
    value = _value(members, name, _OCTETS)
    if len(value) != length:
        raise StepFailed("the SGX extension has a member of another length")
    return value.hex()


def _number(members: dict[bytes, tuple[int, bytes]], name: bytes, below: int) -> int:
    value = _value(members, name, _INTEGER)
    number = int.from_bytes(value[:4], "big", signed=True)
    if not 0 < len(value) <= 4 or not 0 <= number < below:
        raise StepFailed("the SGX extension has a number out of range")
    return number
