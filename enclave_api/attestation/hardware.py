"""What verifiers of hardware reports have in common: what they are given, what they answer.

A verifier never raises for evidence, however malformed: it fails the step instead, and skips those that hang on it.
Nothing is fetched: certificates, revocation lists and the vendor's statements come from the evidence or from files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from enclave_api.attestation.steps import Step

Flag = Annotated[bool, Field(strict=True)]  # a policy's: true and false alone, no words that mean them
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Sha384 = Annotated[str, Field(pattern=r"^[0-9a-f]{96}$")]


@dataclass(frozen=True)
class Material:
    """Files that a verification may use, of any origin: nothing here is trusted before it is checked.

    Attributes:
        certificates: X.509, DER.
        crls: X.509 certificate revocation lists, DER.
        documents: JSON texts: Intel's TCB info, QE identity, or a collateral bundle.
    """

    certificates: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()
    documents: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class HardwareVerdict:
    """Steps, in the order of docs/formats.md, and what the report says where it could be read.

    Attributes:
        steps: each passed, failed or skipped.
        report_data: the 64 bytes the guest chose; empty where the report cannot be read.
        facts: JSON values for people and programs: measurement, TCB, debug bit …
    """

    steps: tuple[Step, ...]
    report_data: bytes = b""
    facts: Mapping[str, Any] = field(default_factory=dict)


class HardwarePolicy(BaseModel):
    """What every hardware policy must name. Members that are not known are refused.

    Attributes:
        roots: SHA-256 of the DER of each root certificate that is trusted, hex.
        measurements: launch measurements that are accepted (SEV-SNP MEASUREMENT, TDX MRTD), 48 bytes, hex.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    roots: tuple[Sha256, ...] = Field(min_length=1)
    measurements: tuple[Sha384, ...] = Field(min_length=1)


def merged(materials: Sequence[Material]) -> Material:
    """All of several in one."""
    return Material(
        tuple(c for m in materials for c in m.certificates),
        tuple(c for m in materials for c in m.crls),
        tuple(d for m in materials for d in m.documents),
    )
