"""What a bank asks of an SEV-SNP machine and guest."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from enclave_api.attestation.hardware import Flag, HardwarePolicy, Sha384
from enclave_api.attestation.sev_snp_report import Product, Tcb

Svn = Annotated[int, Field(ge=0, le=255, strict=True)]
ChipId = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
HostData = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PlatformFeature = Literal["tsme", "ecc", "rapl_disabled", "ciphertext_hiding", "alias_check", "tio"]

PLATFORM_BITS: Mapping[PlatformFeature, int] = {
    "tsme": 1,
    "ecc": 2,
    "rapl_disabled": 3,
    "ciphertext_hiding": 4,
    "alias_check": 5,
    "tio": 7,
}
"""Bits of PLATFORM_INFO. `alias_check`: memory was searched for aliases since reset (AMD-SB-3015, BadRAM)."""


class TcbFloor(BaseModel):
    """The least security version number of each part of the firmware, 0 to 255; Turin alone has, and needs, fmc."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bootloader: Svn
    tee: Svn
    snp: Svn
    microcode: Svn
    fmc: Svn | None = None

    @property
    def tcb(self) -> Tcb:
        """As the reader of reports has it."""
        return Tcb(self.bootloader, self.tee, self.snp, self.microcode, self.fmc or 0)


class SevSnpPolicy(HardwarePolicy):
    """Roots are AMD's ARKs, measurements are MEASUREMENTs. A guest that may be debugged is never accepted.

    Attributes:
        minimum_tcb: the floor for each line of processors that is accepted; a line without one is refused, since the
            numbers of one line say nothing about another.
        chips: CHIP_IDs that are accepted, 64 bytes, hex. Null: any that AMD vouches for, unless csp_ids is named.
        csp_ids: cloud providers whose VLEK is accepted, whatever the chip, by the name in the certificate. A VLEK tells
            the provider and seldom the chip; where chips alone are named, its report must name one of them.
        vmpl_max: the least privileged level that may have asked for the report; others in the guest are more.
        minimum_guest_svn: least GUEST_SVN. The host can set it unless id_key_digests is named too.
        host_data: the HOST_DATA asked for, 32 bytes, hex; null for any.
        id_key_digests: SHA-384 of the keys of which one must have signed the guest's ID block, hex; null for any.
        require_no_smt: the guest's policy forbids SMT, and the machine has it off.
        accept_migration_agent: the guest may be bound to an agent that moves it, and holds its memory's keys.
        require_platform: features that the machine must have on.
        require_mitigations: bits that LAUNCH_MIT_VECTOR and CURRENT_MIT_VECTOR must both have; only reports of
            version 5 can.
        require_crl: a current revocation list of the ARK must be given; without, one that is given is still obeyed.
    """

    minimum_tcb: Mapping[Product, TcbFloor] = Field(min_length=1)
    chips: tuple[ChipId, ...] | None = Field(default=None, min_length=1)
    csp_ids: tuple[str, ...] | None = Field(default=None, min_length=1)
    vmpl_max: int = Field(default=0, ge=0, le=3, strict=True)
    minimum_guest_svn: int = Field(default=0, ge=0, lt=2**32, strict=True)
    host_data: HostData | None = None
    id_key_digests: tuple[Sha384, ...] | None = Field(default=None, min_length=1)
    require_no_smt: Flag = False
    accept_migration_agent: Flag = False
    require_platform: tuple[PlatformFeature, ...] = ()
    require_mitigations: int = Field(default=0, ge=0, lt=2**64, strict=True)
    require_crl: Flag = False

    @model_validator(mode="after")
    def _fmc_of_turin_alone(self) -> Self:
        for product, floor in self.minimum_tcb.items():
            if (floor.fmc is not None) != (product == "Turin"):
                raise ValueError(f"minimum_tcb of {product}: fmc must be named for Turin, and for no other line")
        return self
