"""Evidence as a file, to be verified again, by others, or beside a receipt (docs/formats.md, "Evidence").

{schema: `heixia.saved-evidence/v1`, format, nonce (hex), claims, report, certificates (base64)}. The nonce is what was
asked with: whoever asked knows it, nobody else learns freshness from it.
"""

import json
from base64 import b64encode
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from audit.errors import ProofInvalid
from audit.note import decode_base64
from enclave_api.attestation.evidence import NONCE_BYTES, Evidence
from enclave_api.attestation.material import read_bounded
from enclave_api.errors import EvidenceUnreadable

SCHEMA: Final = "heixia.saved-evidence/v1"
SAVED_BYTES_MAX = 1024 * 1024  # claims of 7 KiB, a quote of 8, a few certificates
_CERTIFICATES_MAX = 64
_Base64 = Annotated[str, Field(max_length=SAVED_BYTES_MAX)]


class Saved(BaseModel):
    """The file's members."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_: Literal["heixia.saved-evidence/v1"] = Field(default=SCHEMA, alias="schema")
    format: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
    nonce: Annotated[str, Field(pattern=rf"^[0-9a-f]{{{NONCE_BYTES * 2}}}$")]
    claims: _Base64
    report: _Base64
    certificates: list[_Base64] = Field(max_length=_CERTIFICATES_MAX)

    @classmethod
    def of(cls, evidence: Evidence, nonce: bytes) -> Self:
        """The file of evidence that was asked for with a nonce; raises EvidenceUnreadable for what is none."""
        try:
            return cls(
                format=evidence.format,
                nonce=nonce.hex(),
                claims=_text(evidence.claims),
                report=_text(evidence.report),
                certificates=[_text(der) for der in evidence.certificates],
            )
        except ValidationError as error:
            raise EvidenceUnreadable("odd", public="this is no evidence; nothing was saved") from error

    def evidence(self) -> Evidence:
        """The evidence, not judged; raises EvidenceUnreadable where a member is no base64."""
        try:
            certificates = tuple(decode_base64(text) for text in self.certificates)
            return Evidence(decode_base64(self.claims), self.format, decode_base64(self.report), certificates)
        except ProofInvalid as error:
            raise EvidenceUnreadable("base64", public="saved evidence holds malformed base64") from error

    def dump(self) -> str:
        """The file's text."""
        return json.dumps(self.model_dump(by_alias=True), indent=1) + "\n"


def load_saved(path: Path) -> Saved:
    """Reads saved evidence; raises EvidenceUnreadable, OSError."""
    try:
        return Saved.model_validate_json(read_bounded(path, SAVED_BYTES_MAX))
    except ValidationError as error:
        public = f"{path}: not saved by `heixia bank evidence --save`; raw reports need --format sev-snp or tdx"
        raise EvidenceUnreadable("saved", public=public) from error


def _text(raw: bytes) -> str:
    return b64encode(raw).decode()
