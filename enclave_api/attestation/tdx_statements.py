"""Intel's statements on platforms and quoting enclaves: TCB info (version 3, TDX), QE identity (version 2, TD_QE).

Shapes and meaning are of Intel's Provisioning Certification Service API, version 4 ("Get TDX TCB Info", "Get TD QE
Identity"). What is signed are the bytes of the inner JSON object as they stand in the file, so they are cut out of it
and never written anew. Members that are not known are let be: they are signed, and none of them loosens a level.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from enclave_api.attestation.steps import StepFailed
from enclave_api.attestation.tdx_json import read_json

LEVELS_MAX = 256  # real ones have some ten

LevelStatus = Literal[
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "Revoked",
]


def _digits(length: int) -> Any:
    return Field(pattern=rf"^[0-9A-Fa-f]{{{2 * length}}}$")


_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


def _time(text: object) -> datetime:
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        raise ValueError("no time in UTC")
    return datetime.fromisoformat(text)


_LOWER = AfterValidator(str.lower)
Hex2 = Annotated[str, _digits(2), _LOWER]
Hex4 = Annotated[str, _digits(4), _LOWER]
Hex6 = Annotated[str, _digits(6), _LOWER]
Hex8 = Annotated[str, _digits(8), _LOWER]
Hex16 = Annotated[str, _digits(16), _LOWER]
Hex32 = Annotated[str, _digits(32), _LOWER]
Hex48 = Annotated[str, _digits(48), _LOWER]
Time = Annotated[datetime, BeforeValidator(_time)]
Svn8 = Annotated[int, Field(ge=0, le=0xFF, strict=True)]
Svn16 = Annotated[int, Field(ge=0, le=0xFFFF, strict=True)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel)


class Component(_Model):
    """The security version of one part of a platform."""

    svn: Svn8


Components = Annotated[tuple[Component, ...], Field(min_length=16, max_length=16)]


class PlatformTcb(_Model):
    """What a platform level asks: 16 SVNs of the CPU, that of the certifying enclave, 16 of TDX."""

    sgxtcbcomponents: Components
    pcesvn: Svn16
    tdxtcbcomponents: Components


class EnclaveTcb(_Model):
    """What a level of an enclave or of the TDX module asks."""

    isvsvn: Svn16


class _Level(_Model):
    tcb_date: Time
    tcb_status: LevelStatus
    advisory_ids: tuple[str, ...] = Field(default=(), max_length=LEVELS_MAX, alias="advisoryIDs")


class PlatformLevel(_Level):
    """A level of platforms."""

    tcb: PlatformTcb

    @property
    def order(self) -> tuple[list[int], int, list[int]]:
        """By this, descending, levels are tried: CPU first, then certifying enclave, then TDX."""
        return [c.svn for c in self.tcb.sgxtcbcomponents], self.tcb.pcesvn, [c.svn for c in self.tcb.tdxtcbcomponents]


class EnclaveLevel(_Level):
    """A level of the quoting enclave or of a TDX module."""

    tcb: EnclaveTcb


EnclaveLevels = Annotated[tuple[EnclaveLevel, ...], Field(min_length=1, max_length=LEVELS_MAX)]


class Module(_Model):
    """Who signs a TDX module, and its attributes under a mask."""

    mrsigner: Hex48
    attributes: Hex8
    attributes_mask: Hex8


class ModuleIdentity(Module):
    """A TDX module of one major version, `TDX_01` for version 1, with its levels."""

    id: Annotated[str, Field(pattern=r"^TDX_[0-9A-Fa-f]{2}$"), AfterValidator(str.upper)]
    tcb_levels: EnclaveLevels


class Statement(_Model):
    """What both statements have: from when to when they hold, and the number of the TCB recovery they stand for."""

    issue_date: Time
    next_update: Time
    tcb_evaluation_data_number: Annotated[int, Field(ge=0, strict=True)]


class TcbInfo(Statement):
    """Levels of one kind of platform."""

    id: Literal["TDX"]
    version: Literal[3]
    fmspc: Hex6
    pce_id: Hex2
    tcb_type: Literal[0]
    tdx_module: Module
    tdx_module_identities: tuple[ModuleIdentity, ...] = Field(default=(), max_length=LEVELS_MAX)
    tcb_levels: tuple[PlatformLevel, ...] = Field(min_length=1, max_length=LEVELS_MAX)


class QeIdentity(Statement):
    """Which enclave is Intel's quoting enclave for TDX, with its levels."""

    id: Literal["TD_QE"]
    version: Literal[2]
    miscselect: Hex4
    miscselect_mask: Hex4
    attributes: Hex16
    attributes_mask: Hex16
    mrsigner: Hex32
    isvprodid: Svn16
    tcb_levels: EnclaveLevels


@dataclass(frozen=True)
class Signed:
    """The bytes of a statement as they stand in a file, and the signature beside them (r ‖ s, hex, unchecked)."""

    content: bytes
    signature: str


_S = TypeVar("_S", TcbInfo, QeIdentity)


def read_statement(kind: type[_S], signed: Signed) -> _S:
    """The statement in the signed bytes; raises StepFailed for other JSON, other ids or versions, duplicate members."""
    what = "TCB info" if kind is TcbInfo else "QE identity"
    try:
        return kind.model_validate(read_json(signed.content))
    except ValidationError as error:
        place = ".".join(map(str, error.errors(include_input=False)[0]["loc"]))
        raise StepFailed(f"the {what} has no {place or 'object'} that is accepted here") from None
    except (ValueError, RecursionError):
        raise StepFailed(f"the {what} is no JSON, or has a member twice") from None
