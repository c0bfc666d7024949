"""What a bank declares and signs about a version: fields, inputs, output, levels, digests, recipients.

The manifest is the law of the version: its JWS is bound into the HPKE info and the AEAD data of the bundle, so that a
bundle opens only under exactly the fields and levels that its bank signed (docs/formats.md, "Sealed bundle").
"""

import hashlib
import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Collection, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Literal, Self

import rfc8785
from joserfc.jwk import KeySet
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from model_registry.errors import ManifestInvalid
from model_registry.signing import SigningKey, organisation_of, sign_compact, verify_compact

TYP = "heixia-manifest+jws"
MANIFEST_BYTES_MAX = 262_144  # 1,600 fields of about 100 bytes, with room
LEVELS_MAX = 64  # 6 bits an answer; the operator may raise it, the log shows it
LEVEL_YUAN_MAX = 10_000_000_000  # exact in a float64 and far above any pre-approved limit

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}\.[a-z][a-z0-9_]{0,62}\.[a-z][a-z0-9_]{0,62}$")]
Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PRODUCT = r"^[a-z][a-z0-9-]{1,62}/[a-z][a-z0-9-]{1,62}$"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ManifestField(_Part):
    """A field the model reads. `missing`: `nan` (number inputs), `decline`, or the value that stands in."""

    name: Name
    type: Literal["number", "integer", "boolean", "category", "date"]
    missing: str | int | float = "decline"

    @field_validator("missing")
    @classmethod
    def _json_can_carry_it(cls, missing: str | float) -> str | float:
        if not isinstance(missing, str) and not abs(missing) < 2**53:  # RFC 8785; NaN compares false too
            raise ValueError("a stand-in must be finite and below 2**53")
        return missing


class ModelInput(_Part):
    """An ONNX input: a tensor [1, len(fields)] of `dtype`, its columns in the order of `fields`."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    dtype: Literal["float32", "float64", "int64", "string", "bool"]
    fields: tuple[Name, ...] = Field(min_length=1, max_length=2000, strict=False)


class ModelOutput(_Part):
    """Which element of which flattened ONNX output is the score."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    index: int = Field(ge=0, le=1023)


class Digests(_Part):
    """SHA-256, hex, of the plaintext bundle content and of its model and rules apart."""

    bundle: Hex32
    model: Hex32
    rules: Hex32


class Manifest(_Part):
    """The signed declaration of one version."""

    schema_: Literal["heixia.manifest/v1"] = Field("heixia.manifest/v1", alias="schema")
    product: Annotated[str, Field(pattern=PRODUCT)]
    fields: tuple[ManifestField, ...] = Field(min_length=1, max_length=2000, strict=False)
    inputs: tuple[ModelInput, ...] = Field(min_length=1, max_length=2000, strict=False)
    output: ModelOutput
    levels: tuple[Annotated[int, Field(ge=0, le=LEVEL_YUAN_MAX)], ...] = Field(min_length=2, strict=False)
    limit_valid_days: int = Field(ge=1, le=366)
    data_max_age_days: int = Field(ge=1, le=3660)
    digests: Digests
    evidence_policy: Hex32 | None = None
    recipients: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")], ...] = Field(
        min_length=1, max_length=8, strict=False
    )
    created: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")]
    comment: Annotated[str, Field(max_length=1000)] = ""

    @field_validator("levels")
    @classmethod
    def _levels_ascend(cls, levels: tuple[int, ...]) -> tuple[int, ...]:
        if levels[0] != 0 or any(a >= b for a, b in pairwise(levels)):
            raise ValueError("levels must start at 0 and ascend")
        return levels

    @model_validator(mode="after")
    def _inputs_bind_fields(self) -> Self:
        declared = [field.name for field in self.fields]
        if len(set(declared)) != len(declared):
            raise ValueError("a field is declared twice")
        if len({i.name for i in self.inputs}) != len(self.inputs):
            raise ValueError("an input is declared twice")
        unknown = {name for i in self.inputs for name in i.fields} - set(declared)
        if unknown:
            raise ValueError(f"inputs name undeclared fields: {', '.join(sorted(unknown)[:3])}")
        return self

    @property
    def institution(self) -> str:
        """The institution whose product this is."""
        return self.product.partition("/")[0]

    @cached_property
    def field_names(self) -> tuple[str, ...]:
        """Declared fields in order."""
        return tuple(field.name for field in self.fields)

    @cached_property
    def field_set_hash(self) -> str:
        """SHA-256, hex, of the sorted field names as RFC 8785 JSON; the same set has the same hash in a consent."""
        return field_set_hash(self.field_names)

    def encode(self) -> bytes:
        """The manifest as RFC 8785 JSON."""
        return rfc8785.dumps(self.model_dump(mode="json", by_alias=True))


def field_set_hash(names: Collection[str]) -> str:
    """SHA-256, hex, of the sorted distinct names as RFC 8785 JSON."""
    return hashlib.sha256(rfc8785.dumps(sorted(set(names)))).hexdigest()


def make_manifest(levels_max: int = LEVELS_MAX, **members: object) -> Manifest:
    """A manifest from its members; raises ManifestInvalid, naming the member at fault."""
    try:
        manifest = Manifest.model_validate(members)
    except ValidationError as error:
        raise ManifestInvalid("manifest", public=explain(error)) from error
    return _within(manifest, levels_max)


def decode_manifest(payload: bytes, levels_max: int = LEVELS_MAX) -> Manifest:
    """Reads a manifest from its RFC 8785 JSON; raises ManifestInvalid, naming the member at fault."""
    if len(payload) > MANIFEST_BYTES_MAX:
        raise ManifestInvalid("size", public=f"larger than {MANIFEST_BYTES_MAX:,} bytes")
    try:
        manifest = Manifest.model_validate_json(payload)
    except ValidationError as error:
        raise ManifestInvalid("manifest", public=explain(error)) from error
    if manifest.encode() != payload:
        raise ManifestInvalid(
            "not canonical", public="not RFC 8785 JSON (key order, spaces, doubled or left-out members)"
        )
    return _within(manifest, levels_max)


def _within(manifest: Manifest, levels_max: int) -> Manifest:
    if len(manifest.levels) > levels_max:
        raise ManifestInvalid("levels", public=f"{len(manifest.levels)} levels; at most {levels_max}")
    return manifest


def sign_manifest(manifest: Manifest, key: SigningKey) -> str:
    """The manifest as a compact JWS by the institution's signing key."""
    return sign_compact(manifest.encode(), key, TYP)


def verify_manifest(token: str, keys: KeySet, levels_max: int = LEVELS_MAX) -> Manifest:
    """Checks signature, shape and that the signer is the product's institution.

    Raises:
        SignatureInvalid: the JWS does not verify, or another institution signed.
        ManifestInvalid: a member is wrong.
    """
    if len(token) > 2 * MANIFEST_BYTES_MAX:
        raise ManifestInvalid("size", public=f"larger than {2 * MANIFEST_BYTES_MAX:,} bytes")
    payload, kid = verify_compact(token, keys, TYP)
    manifest = decode_manifest(payload, levels_max)
    if organisation_of(kid) != manifest.institution:
        raise ManifestInvalid("signer", public="signed by another institution than the product's")
    return manifest


def payload_of(token: str) -> bytes:
    """What a manifest JWS signs, its signature not looked at; raises ManifestInvalid where there is no such part."""
    try:
        payload = token.split(".")[1]
        return urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    except (IndexError, ValueError) as error:
        raise ManifestInvalid("JWS", public="no compact JWS") from error


def departments_of(token: str) -> frozenset[str]:
    """The departments whose data a version reads, from a JWS that was verified when it came; raises ManifestInvalid."""
    try:
        return frozenset(field["name"].partition(".")[0] for field in json.loads(payload_of(token))["fields"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ManifestInvalid("stored manifest", public="its fields cannot be read") from error


def manifest_hash(token: str) -> bytes:
    """SHA-256 of the manifest JWS: what the sealed bundle is bound to."""
    return hashlib.sha256(token.encode()).digest()


def explain(error: ValidationError) -> str:
    """What is wrong, by member and without the values (they may be personal data or a bank's secret)."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[:3]
    plain = {"extra_forbidden": "no such member"}
    words = (plain.get(item["type"], re.sub(r"^Value error, ", "", item["msg"])) for item in first)
    return "; ".join(f"{_place(item['loc'])}: {said}" for item, said in zip(first, words, strict=True))


def _place(parts: Sequence[int | str]) -> str:
    # A part may be a member's name that a stranger chose.
    clipped = ["".join(c if c.isprintable() else "?" for c in str(part)[:64]) for part in parts]
    return ".".join(clipped) or "whole"
