"""ATTESTATION_REPORT of SEV-SNP, versions 2 to 5, read strictly.

Source: AMD, SEV Secure Nested Paging Firmware ABI Specification (publication 56860), "ATTESTATION_REPORT Structure",
"TCB_VERSION", "Guest Policy" and "Format of the signature". All integers are little-endian.
"""

from dataclasses import dataclass
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from enclave_api.attestation.steps import StepFailed

REPORT_BYTES = 0x4A0
SIGNED_BYTES = 0x2A0
_ECDSA_P384_SHA384 = 1
_NUMBER_BYTES = 72  # of r and of s, each
_VERSIONS = range(2, 6)
_POLICY_RESERVED = ~((1 << 26) - 1)  # bits 63:26
_POLICY_ONE = 1 << 17
_SIGNERS = {0: "VCEK", 1: "VLEK"}

Product = Literal["Milan", "Genoa", "Turin"]
"""A line of processors with an ARK of its own; Genoa's also signs for Bergamo and Siena."""


@dataclass(frozen=True)
class Tcb:
    """TCB_VERSION by its parts, 0 to 255 each; fmc is there from Turin on, and 0 before."""

    bootloader: int
    tee: int
    snp: int
    microcode: int
    fmc: int = 0

    def below(self, floor: "Tcb") -> list[str]:
        """Names of the parts that are lower than the floor's."""
        return [part for part in vars(self) if getattr(self, part) < getattr(floor, part)]


def tcb_of(raw: bytes, *, has_fmc: bool) -> Tcb:
    """TCB_VERSION of 8 bytes; Turin put the FMC's number first and moved the SNP firmware's.

    Raises StepFailed where a reserved byte is not zero: then the layout is another one.
    """
    fmc, bootloader, tee, snp = raw[:4] if has_fmc else (0, raw[0], raw[1], raw[6])
    if any(raw[4:7] if has_fmc else raw[2:6]):
        raise StepFailed("a reserved byte of a TCB_VERSION is not zero")
    return Tcb(bootloader, tee, snp, raw[7], fmc)


@dataclass(frozen=True)
class GuestPolicy:
    """The POLICY under which the guest was launched; the firmware enforces it."""

    raw: int

    def _bit(self, number: int) -> bool:
        return bool(self.raw >> number & 1)

    @property
    def smt_allowed(self) -> bool:
        """Bit 16: may run where SMT is on."""
        return self._bit(16)

    @property
    def migration_agent_allowed(self) -> bool:
        """Bit 18: may be bound to a migration agent, which then holds its secrets too."""
        return self._bit(18)

    @property
    def debug_allowed(self) -> bool:
        """Bit 19: the host may read and write the guest's memory."""
        return self._bit(19)


@dataclass(frozen=True)
class SnpReport:
    """The members that a verification looks at; TCB_VERSIONs as their 8 bytes, since their layout depends on the CPU.

    Attributes:
        signer: "VCEK", or "VLEK" (SIGNING_KEY).
        family_model: CPUID family and model, from version 3 on.
        mitigations: LAUNCH_MIT_VECTOR and CURRENT_MIT_VECTOR, from version 5 on.
        signed: bytes 0 to 0x29F, which the signature covers.
        signature: ECDSA, DER.
    """

    version: int
    guest_svn: int
    policy: GuestPolicy
    vmpl: int
    platform_info: int
    signer: str
    mask_chip_key: bool
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    report_id_ma: bytes
    chip_id: bytes
    current_tcb: bytes
    reported_tcb: bytes
    committed_tcb: bytes
    launch_tcb: bytes
    family_model: tuple[int, int] | None
    mitigations: tuple[int, int] | None
    signed: bytes
    signature: bytes

    def platform_has(self, bit: int) -> bool:
        """A bit of PLATFORM_INFO: what is on at this machine; later specifications name more of them."""
        return bool(self.platform_info >> bit & 1)

    @property
    def product(self) -> Product | None:
        """The line by CPUID; None before version 3, and for models that are not known.

        Families and models: AMD, Processor Programming References; as the Linux kernel sorts them.
        """
        family, model = self.family_model or (0, 0)
        if family == 0x19:
            return "Milan" if model <= 0x0F else "Genoa" if model in _GENOA else None
        return "Turin" if family == 0x1A and model <= 0x1F else None


_GENOA = (*range(0x10, 0x20), *range(0xA0, 0xB0))


def parse_report(raw: bytes) -> SnpReport:
    """Reads a report.

    Raises:
        StepFailed: another length, version or signature algorithm; a byte or bit that must be zero is not; a key that
            signs no reports.
    """
    if len(raw) != REPORT_BYTES:
        raise StepFailed(f"{len(raw)} bytes; an SEV-SNP report has {REPORT_BYTES}")
    version = _u32(raw, 0x00)
    if version not in _VERSIONS:
        raise StepFailed(f"report version {version}; known are {_VERSIONS[0]} to {_VERSIONS[-1]}")
    if _u32(raw, 0x34) != _ECDSA_P384_SHA384:
        raise StepFailed(f"signature algorithm {_u32(raw, 0x34)}; known is 1, ECDSA P-384 with SHA-384")
    _check_reserved(raw, version)
    policy = _u64(raw, 0x08)
    if policy & _POLICY_RESERVED or not policy & _POLICY_ONE:
        raise StepFailed("a reserved bit of the guest's policy is not what it must be")
    flags = _u32(raw, 0x48)
    signer = _SIGNERS.get(flags >> 2 & 7)
    if signer is None or flags >> 5:
        raise StepFailed(f"signing key {flags >> 2:#x} of the report is neither VCEK nor VLEK")
    return SnpReport(
        version=version,
        guest_svn=_u32(raw, 0x04),
        policy=GuestPolicy(policy),
        vmpl=_u32(raw, 0x30),
        platform_info=_u64(raw, 0x40),
        signer=signer,
        mask_chip_key=bool(flags & 2),
        report_data=raw[0x50:0x90],
        measurement=raw[0x90:0xC0],
        host_data=raw[0xC0:0xE0],
        id_key_digest=raw[0xE0:0x110],
        author_key_digest=raw[0x110:0x140],
        report_id=raw[0x140:0x160],
        report_id_ma=raw[0x160:0x180],
        chip_id=raw[0x1A0:0x1E0],
        current_tcb=raw[0x38:0x40],
        reported_tcb=raw[0x180:0x188],
        committed_tcb=raw[0x1E0:0x1E8],
        launch_tcb=raw[0x1F0:0x1F8],
        family_model=(raw[0x188], raw[0x189]) if version >= 3 else None,
        mitigations=(_u64(raw, 0x1F8), _u64(raw, 0x200)) if version >= 5 else None,
        signed=raw[:SIGNED_BYTES],
        signature=_signature(raw),
    )


def _check_reserved(raw: bytes, version: int) -> None:
    """Reserved bytes are zero: one that is not means something that this reader does not know."""
    reserved = (
        (0x4C, 0x50),
        (0x18B if version >= 3 else 0x188, 0x1A0),
        (0x1EB, 0x1EC),
        (0x1EF, 0x1F0),
        (0x208 if version >= 5 else 0x1F8, SIGNED_BYTES),
        (SIGNED_BYTES + 2 * _NUMBER_BYTES, REPORT_BYTES),
    )
    for start, end in reserved:
        if any(raw[start:end]):
            raise StepFailed(f"reserved bytes {start:#x} to {end - 1:#x} are not zero")


def _signature(raw: bytes) -> bytes:
    numbers = raw[SIGNED_BYTES : SIGNED_BYTES + 2 * _NUMBER_BYTES]
    r, s = (int.from_bytes(part, "little") for part in (numbers[:_NUMBER_BYTES], numbers[_NUMBER_BYTES:]))
    return encode_dss_signature(r, s)


def _u32(raw: bytes, offset: int) -> int:
    return int.from_bytes(raw[offset : offset + 4], "little")


def _u64(raw: bytes, offset: int) -> int:
    return int.from_bytes(raw[offset : offset + 8], "little")
