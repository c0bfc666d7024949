"""A made-up vendor's keys and certificates, and reports signed by a made-up chip: what the real ones do not show."""

import functools
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from enclave_api.attestation.hardware import HardwareVerdict, Material
from enclave_api.attestation.verify_sev_snp import STEPS, SevSnpPolicy, verify_sev_snp

AT = datetime(2026, 6, 1, tzinfo=UTC)
BEGIN, END = AT - timedelta(days=30), AT + timedelta(days=30)
CHIP = bytes(range(1, 65))
TURIN_CHIP = CHIP[:8] + bytes(56)
MEASUREMENT = b"\x5a" * 48
AMD = "1.3.6.1.4.1.3704.1"
TCB = {"bootloader": 4, "tee": 1, "snp": 22, "microcode": 213}
TURIN_TCB = {"fmc": 3, **TCB}
FAMILY_MODEL = {"Milan": (0x19, 0x01), "Genoa": (0x19, 0x11), "Turin": (0x1A, 0x02)}
SPL = {"bootloader": 1, "tee": 2, "snp": 3, "microcode": 8, "fmc": 9}


@functools.cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:
    """One of the vendor's, by name: made once, as they take long."""
    return rsa.generate_private_key(public_exponent=65537, key_size=4096)


@functools.cache
def chip_key(name: str = "chip") -> ec.EllipticCurvePrivateKey:
    """A chip's."""
    return ec.generate_private_key(ec.SECP384R1())


def named(common_name: str) -> x509.Name:
    """As the vendor's certificates are named."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def signed(builder: x509.CertificateBuilder, issuer: str, key: rsa.RSAPrivateKey) -> x509.Certificate:
    """RSA-PSS with SHA-384, as the vendor signs."""
    pss = padding.PSS(padding.MGF1(hashes.SHA384()), 48)
    return builder.issuer_name(named(issuer)).sign(key, hashes.SHA384(), rsa_padding=pss)


def started(subject: str, key: Any, window: tuple[datetime, datetime] = (BEGIN, END)) -> x509.CertificateBuilder:
    """A certificate without issuer and extensions."""
    builder = x509.CertificateBuilder().subject_name(named(subject)).public_key(key.public_key())
    return builder.serial_number(x509.random_serial_number()).not_valid_before(window[0]).not_valid_after(window[1])


@functools.cache
def root(line: str) -> x509.Certificate:
    """The line's ARK."""
    key = rsa_key("ark")
    builder = started(f"ARK-{line}", key).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return signed(builder, f"ARK-{line}", key)


@functools.cache
def intermediate(line: str, kind: str, window: tuple[datetime, datetime]) -> x509.Certificate:
    """The line's ASK, or its ASVK."""
    subject = f"SEV-{line}" if kind == "VCEK" else f"SEV-VLEK-{line}"
    builder = started(subject, rsa_key("ask"), window)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return signed(builder, f"ARK-{line}", rsa_key("ark"))


def der(tag: int, content: bytes) -> bytes:
    """A short DER value."""
    return bytes([tag, len(content)]) + content


def integer(number: int) -> bytes:
    """A DER INTEGER."""
    return der(2, number.to_bytes(1 + (number > 127), "big"))


def extensions(line: str, kind: str, tcb: dict[str, int], chip: bytes = CHIP) -> dict[str, bytes]:
    """The vendor's extensions of a VCEK or VLEK, by OID."""
    values = {f"{AMD}.1": integer(line == "Turin"), f"{AMD}.2": der(0x16, f"{line}-B0".encode())}
    values |= {f"{AMD}.3.{SPL[part]}": integer(number) for part, number in tcb.items()}
    reserved = (5, 6, 7) if line == "Turin" else (4, 5, 6, 7)
    values |= {f"{AMD}.3.{number}": integer(0) for number in reserved}
    return values | ({f"{AMD}.4": chip} if kind == "VCEK" else {f"{AMD}.5": der(0x16, b"cloud.example")})


def endorsed(
    line: str, kind: str, values: dict[str, bytes], key: Any = None, window: tuple[datetime, datetime] = (BEGIN, END)
) -> x509.Certificate:
    """A VCEK or VLEK with these extensions."""
    builder = started(f"SEV-{kind}", key or chip_key(), window)
    for oid, value in values.items():
        builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), critical=False)
    return signed(builder, intermediate(line, kind, (BEGIN, END)).subject.rfc4514_string()[3:], rsa_key("ask"))


def crl(*revoked: int, issuer: str = "ARK-Milan", since: datetime = BEGIN, until: datetime = END) -> bytes:
    """A list of the ARK's, DER."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(named(issuer))
    builder = builder.last_update(since).next_update(until)
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(since).build()
        builder = builder.add_revoked_certificate(entry)
    pss = padding.PSS(padding.MGF1(hashes.SHA384()), 48)
    return builder.sign(rsa_key("ark"), hashes.SHA384(), rsa_padding=pss).public_bytes(Encoding.DER)


def tcb_version(line: str, tcb: dict[str, int]) -> bytes:
    """TCB_VERSION in the line's layout."""
    ends = [tcb["bootloader"], tcb["tee"]]
    if line == "Turin":
        return bytes([tcb["fmc"], *ends, tcb["snp"], 0, 0, 0, tcb["microcode"]])
    return bytes([*ends, 0, 0, 0, 0, tcb["snp"], tcb["microcode"]])


@dataclass(frozen=True)
class Machine:
    """A machine that signs reports; the defaults are a good one's."""

    line: Literal["Milan", "Genoa", "Turin"] = "Milan"
    version: int = 3
    kind: Literal["VCEK", "VLEK"] = "VCEK"
    chip: bytes | None = None
    members: dict[int, bytes] = field(default_factory=dict)

    @property
    def tcb(self) -> dict[str, int]:
        """Of all four TCB_VERSIONs."""
        return TURIN_TCB if self.line == "Turin" else TCB

    @property
    def hwid(self) -> bytes:
        """As the VCEK has it."""
        return CHIP[:8] if self.line == "Turin" else CHIP

    def leaf(self, **values: bytes | None) -> x509.Certificate:
        """The VCEK or VLEK; `values`, named by the end of an OID (`o3_1`), replace its extensions or take them out."""
        changed = {f"{AMD}.{name[1:].replace('_', '.')}": value for name, value in values.items()}
        merged = {**extensions(self.line, self.kind, self.tcb, self.hwid), **changed}
        return endorsed(self.line, self.kind, {oid: value for oid, value in merged.items() if value is not None})

    def body(self) -> bytes:
        """The 0x2A0 bytes that are signed."""
        raw = bytearray(0x2A0)
        tcb = tcb_version(self.line, self.tcb)
        chip = self.chip if self.chip is not None else self.hwid.ljust(64, b"\0") if self.kind == "VCEK" else bytes(64)
        members = {
            0x00: struct.pack("<IIQ", self.version, 7, 1 << 17 | 0x1F),
            0x34: struct.pack("<I", 1),
            0x48: struct.pack("<I", (self.kind == "VLEK") << 2),
            0x50: bytes(range(64)),
            0x90: MEASUREMENT,
            0xC0: b"\xc0" * 32,
            0xE0: b"\xe0" * 48,
            0x188: bytes([*FAMILY_MODEL[self.line], 0]) if self.version >= 3 else b"",
            0x1A0: chip,
            0x1F8: struct.pack("<QQ", 3, 7) if self.version >= 5 else b"",
            **dict.fromkeys((0x38, 0x180, 0x1E0, 0x1F0), tcb),
            **self.members,
        }
        for offset, value in members.items():
            raw[offset : offset + len(value)] = value
        return bytes(raw)

    def report(self, key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
        """A signed report."""
        body = self.body()
        r, s = decode_dss_signature((key or chip_key()).sign(body, ec.ECDSA(hashes.SHA384())))
        return body + r.to_bytes(72, "little") + s.to_bytes(72, "little") + bytes(368)

    def material(self, leaf: x509.Certificate | None = None, *crls: bytes) -> Material:
        """Leaf, intermediate and root, and lists."""
        chain = (leaf or self.leaf(), intermediate(self.line, self.kind, (BEGIN, END)), root(self.line))
        return Material(tuple(c.public_bytes(Encoding.DER) for c in chain), crls)

    def policy(self, **changes: Any) -> SevSnpPolicy:
        """A policy that accepts the machine, with members changed."""
        members = {
            "roots": [root(self.line).fingerprint(hashes.SHA256()).hex()],
            "measurements": [MEASUREMENT.hex()],
            "minimum_tcb": {self.line: self.tcb},
        }
        return SevSnpPolicy(**{**members, **changes})


def failed(verdict: HardwareVerdict) -> set[str]:
    """Names of the steps that failed."""
    assert tuple(step.name for step in verdict.steps) == STEPS
    return {step.name for step in verdict.steps if step.outcome == "failed"}


def judged(machine: Machine, material: Material | None = None, at: datetime = AT, **policy: Any) -> set[str]:
    """The steps that fail for a machine's report."""
    verdict = verify_sev_snp(machine.report(), material or machine.material(), machine.policy(**policy), at)
    return failed(verdict)
