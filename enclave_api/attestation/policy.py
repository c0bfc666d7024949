"""What a bank accepts of an enclave: one model, made in code or read from a file (policy_file.py).

Everything that weakens it is a member of its own whose name says so. `Policy()` accepts no evidence at all.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from enclave_api.attestation.hardware import Sha256
from enclave_api.attestation.sev_snp_policy import SevSnpPolicy
from enclave_api.attestation.tdx_policy import TdxPolicy
from sandbox.jail.required import REQUIRED

AGE_MINUTES_MAX = 366 * 24 * 60  # a year: whoever wants longer leaves the member out
DIGESTS_MAX = 100  # a bank accepts a few releases at a time


@dataclass(frozen=True)
class UnsafeAcceptSimulated:
    """Accepts evidence that no hardware vouches for: for development and demonstrations alone."""


@dataclass(frozen=True)
class UnsafeAcceptWeakIsolation:
    """Accepts an enclave that lacks walls: a hostile model can reach more there than docs/threat-model.md says.

    Attributes:
        walls: the walls that may be missing; None = any.
    """

    walls: tuple[str, ...] | None = None


@dataclass(frozen=True)
class UnsafeAcceptWarm:
    """Accepts processes that serve many calls: one call of a version that was taken over may see the next."""


def _simulated(given: object) -> object:
    return _marker(given, UnsafeAcceptSimulated())


def _warm(given: object) -> object:
    return _marker(given, UnsafeAcceptWarm())


def _marker(given: object, unsafe: object) -> object:
    if given is True:
        return unsafe
    if given is False or given is None or given == unsafe:
        return given or None
    raise ValueError("must be true or false")


def _weak(given: object) -> object:
    if given is None or isinstance(given, UnsafeAcceptWeakIsolation):
        return given
    if not isinstance(given, (list, tuple)) or not all(isinstance(name, str) for name in given):
        raise ValueError("must be a list of names of walls")
    if strangers := [name for name in given if name not in REQUIRED]:
        raise ValueError(f"no wall is called {ascii(strangers[0])[:40]}; the walls are {', '.join(REQUIRED)}")
    return UnsafeAcceptWeakIsolation(tuple(given)) if given else None


class Policy(BaseModel):
    """What must hold. Simulated evidence, missing walls and warm isolation are refused unless told otherwise.

    The second name of a member is its name in a file.

    Attributes:
        simulated: `accept_simulated`, true or false in a file.
        weak_isolation: `accept_missing_walls`, names in a file.
        warm: `accept_warm`, true or false in a file.
        code_digests: the installed code must be one of these. Hardware evidence is refused where there are none: a
            measurement says which machine was started, not which application it installed. Intel TDX's is refused too
            where `tdx` names no rtmr1 and rtmr2: MRTD is the firmware, which starts any kernel.
        config_digests: the configuration must be one of these; None = any. An empty list is refused: it would
            look strict and check nothing.
        age_minutes_max: how long before the time of verification the evidence may have been made; None = any time.
        sev_snp: `sev-snp`; evidence of AMD SEV-SNP is judged by it, and refused without it.
        tdx: likewise for Intel TDX.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)

    simulated: Annotated[UnsafeAcceptSimulated | None, BeforeValidator(_simulated)] = Field(
        default=None, validation_alias="accept_simulated"
    )
    weak_isolation: Annotated[UnsafeAcceptWeakIsolation | None, BeforeValidator(_weak)] = Field(
        default=None, validation_alias="accept_missing_walls"
    )
    warm: Annotated[UnsafeAcceptWarm | None, BeforeValidator(_warm)] = Field(
        default=None, validation_alias="accept_warm"
    )
    code_digests: tuple[Sha256, ...] = Field(default=(), max_length=DIGESTS_MAX)
    config_digests: tuple[Sha256, ...] | None = Field(default=None, min_length=1, max_length=DIGESTS_MAX)
    age_minutes_max: int | None = Field(default=None, ge=1, le=AGE_MINUTES_MAX, strict=True)
    sev_snp: SevSnpPolicy | None = Field(default=None, validation_alias="sev-snp")
    tdx: TdxPolicy | None = None
