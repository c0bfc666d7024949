"""What a bank accepts of a TDX guest and of the platform under it (docs/formats.md, "Evidence")."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from enclave_api.attestation.hardware import Flag, HardwarePolicy, Sha256, Sha384

TcbStatus = Literal[
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "TDRelaunchAdvised",
    "TDRelaunchAdvisedConfigurationNeeded",
]
"""Intel's statuses of a TCB level that a policy may accept. `Revoked` is none of them: it is always refused."""

TdAttribute = Literal["ICSSD", "LASS", "SEPT_VE_DISABLE", "MIGRATABLE", "PKS", "KL", "TPA", "PERFMON"]
"""Attributes of a guest by the names of the TDX module's specification. Those of debugging have no name here."""

Hex8 = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Hex16 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Values = Annotated[tuple[Sha384, ...], Field(min_length=1)] | None


class QePin(BaseModel):
    """A quoting enclave that a bank accepts by itself, without Intel's QE identity, whose recalls it follows itself.

    Attributes:
        mr_signer: MRSIGNER of its report, hex.
        isv_prod_id: product id of its report; that of Intel's quoting enclave for TDX is 2.
        isv_svn_min: smallest security version that is accepted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mr_signer: Sha256
    isv_prod_id: int = Field(ge=0, lt=2**16, strict=True)
    isv_svn_min: int = Field(ge=0, lt=2**16, strict=True)


class TdxPolicy(HardwarePolicy):
    """What must hold of a TDX quote. A guest that can be debugged is never accepted, whatever stands here.

    Attributes:
        rtmr0: accepted values of the runtime measurement register 0, hex; None: not judged. Likewise rtmr1 to rtmr3; of
            an enclave that claims its code rtmr1 and rtmr2 must be named.
        mr_seam: accepted measurements of the TDX module; None: judged by Intel's module identity alone.
        mr_service_td: accepted hashes of service guests (migration) bound to the guest; None: none may be bound.
        mr_config_id: accepted MRCONFIGID; None: not judged. Likewise mr_owner and mr_owner_config.
        tcb_status: statuses that are accepted of the platform, of the TDX module and of the quoting enclave together.
        tee_tcb_svn_min: floor of each of the 16 bytes of TEE_TCB_SVN, hex; None: Intel's levels alone.
        tcb_evaluation_min: smallest tcbEvaluationDataNumber of Intel's statements that is accepted.
        td_attributes_required: attributes that must be set.
        td_attributes_allowed: attributes that may be set beside those; all others must be zero.
        xfam_allowed: bits of XFAM (CPU features of the guest) that may be set, 8 bytes as in the quote, hex; None: any.
        qe: accepted in place of Intel's QE identity; None: the QE identity must be there and holds.
        require_crls: whether revocation lists of the root and of the PCK CA must be there.
    """

    rtmr0: Values = None
    rtmr1: Values = None
    rtmr2: Values = None
    rtmr3: Values = None
    mr_seam: Values = None
    mr_service_td: Values = None
    mr_config_id: Values = None
    mr_owner: Values = None
    mr_owner_config: Values = None
    tcb_status: Annotated[tuple[TcbStatus, ...], Field(min_length=1)] = ("UpToDate",)
    tee_tcb_svn_min: Hex16 | None = None
    tcb_evaluation_min: int = Field(default=0, ge=0, strict=True)
    td_attributes_required: tuple[TdAttribute, ...] = ()
    td_attributes_allowed: tuple[TdAttribute, ...] = ("ICSSD", "LASS", "SEPT_VE_DISABLE", "PKS", "KL", "TPA", "PERFMON")
    xfam_allowed: Hex8 | None = None
    qe: QePin | None = None
    require_crls: Flag = True
