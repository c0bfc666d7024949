"""The consent artefact: parse, verify, caps, binding, transition table. Pure: no clock, no store.

Claims and laws: docs/formats.md, "Consent". The JWS is by the consent authority (general serialisation, RFC 7515);
`iat`, `nbf`, `exp` are NumericDate (RFC 7519). The payload is RFC 8785 JSON; the consent hash is of the signed bytes
(consent_store.consent_hash).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

import rfc8785
from joserfc.jwk import KeySet
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_registry.errors import SignatureInvalid
from model_registry.manifest import PRODUCT, explain, field_set_hash
from model_registry.signing import SigningKey, organisation_of, sign_general, verify_general
from sandbox.errors import (
    ConsentExhausted,
    ConsentExpired,
    ConsentFieldsMissing,
    ConsentInvalid,
    ConsentNotYetValid,
    ConsentPaused,
    ConsentProductMismatch,
    ConsentRevoked,
    ConsentSubjectMismatch,
    ConsentTransition,
)
from sandbox.vault.subject import parse_subject

TYP = "heixia-consent+jws"
CONSENT_BYTES_MAX = 131_072  # 1,600 field names of 40 bytes in base64, with room
DAY_SECONDS = 86_400
SKEW_SECONDS = 300  # clocks of authority and enclave may differ by five minutes at registration


@dataclass(frozen=True)
class Cap:
    """Upper bounds for a purpose; checked at registration and again at every use."""

    days: int
    uses: int


# `monitoring` (365 days, 31 uses a calendar month) is not served yet: a purpose without a line here is refused.
CAPS: Mapping[str, Cap] = {"precredit": Cap(days=31, uses=5)}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Text = Annotated[str, Field(min_length=1, max_length=2000)]
Moment = Annotated[int, Field(ge=0, le=4_102_444_800)]  # NumericDate up to the year 2100


class Purpose(_Part):
    """The purpose's code and the text the subject was shown."""

    code: Annotated[str, Field(pattern=r"^[a-z][a-z-]{1,30}$")]
    text: Text


class DataScope(_Part):
    """What of one department may be read, by dataset or field name, and why it is needed."""

    department: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
    names: tuple[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*){1,2}$")], ...] = Field(
        min_length=1, max_length=2000, strict=False
    )
    why: Text


class Notice(_Part):
    """The notice that the subject was shown."""

    id: Text
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    language: Text
    method: Text
    shown_at: Moment


class AutomatedDecision(_Part):
    """That a machine decides, and how to contest it."""

    used: bool
    contest: Text


class Consent(_Part):
    """The claims of one consent."""

    schema_: Literal["heixia.consent/v1"] = Field("heixia.consent/v1", alias="schema")
    jti: Annotated[str, Field(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")]
    iss: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,62}$")]
    sub: Text
    iat: Moment
    nbf: Moment
    exp: Moment
    purpose: Purpose
    institution: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,62}$")]
    products: tuple[Annotated[str, Field(pattern=PRODUCT)], ...] = Field(min_length=1, max_length=20, strict=False)
    data: tuple[DataScope, ...] = Field(min_length=1, max_length=100, strict=False)
    max_uses: int = Field(ge=1)
    fetch: Literal["one-time", "periodic"]
    notice: Notice
    separate_consents: tuple[Text, ...] = Field(min_length=1, max_length=200, strict=False)
    withdraw: Text
    automated_decision: AutomatedDecision

    def encode(self) -> bytes:
        """The claims as RFC 8785 JSON."""
        return rfc8785.dumps(self.model_dump(mode="json", by_alias=True))

    @property
    def names(self) -> frozenset[str]:
        """Every dataset and field named."""
        return frozenset(name for scope in self.data for name in scope.names)

    @property
    def field_set_hash(self) -> str:
        """SHA-256, hex, of the sorted names (model_registry.manifest.field_set_hash)."""
        return field_set_hash(self.names)


def make_consent(**claims: object) -> Consent:
    """A consent from its claims; raises ConsentInvalid, naming the claim at fault, also for a breach of caps."""
    try:
        consent = Consent.model_validate(claims)
    except ValidationError as error:
        raise ConsentInvalid("claims", public=explain(error)) from error
    check_claims(consent)
    return consent


def sign_consent(consent: Consent, keys: Sequence[SigningKey]) -> bytes:
    """The consent as a JWS in the general serialisation; the authority's key first."""
    return sign_general(consent.encode(), keys, TYP)


def verify_consent(raw: bytes, authorities: KeySet) -> Consent:
    """Checks signature, signer, shape, caps and that the claims are canonical: everything a registration needs.

    Raises:
        ConsentInvalid: which of them failed; never a claim's value.
    """
    consent, payload = reverify_consent(raw, authorities)
    if consent.encode() != payload:
        raise ConsentInvalid("not canonical", public="the claims are not RFC 8785 JSON")
    return consent


def reverify_consent(raw: bytes, authorities: KeySet) -> tuple[Consent, bytes]:
    """Checks signature, signer, shape and caps: what every use of a registered consent needs.

    Returns:
        The consent and its payload.

    Raises:
        ConsentInvalid: which of them failed; never a claim's value.
    """
    if len(raw) > CONSENT_BYTES_MAX:
        raise ConsentInvalid("size", public=f"larger than {CONSENT_BYTES_MAX:,} bytes")
    try:
        payload, kids = verify_general(raw, authorities, TYP)
        consent = Consent.model_validate_json(payload)
    except SignatureInvalid as error:
        public = "the signature does not verify with a known authority's key"
        raise ConsentInvalid("signature", public=public) from error
    except ValidationError as error:
        raise ConsentInvalid("claims", public=explain(error)) from error
    if organisation_of(kids[0]) != consent.iss:
        raise ConsentInvalid("signer", public="signed by another authority than `iss`")
    check_claims(consent)
    return consent, payload


def check_claims(consent: Consent) -> None:
    """Checks subject, institution, scope and the caps of the purpose; raises ConsentInvalid."""
    parse_subject(consent.sub)
    cap = CAPS.get(consent.purpose.code)
    if cap is None:
        raise ConsentInvalid("purpose", public=f"purpose is not served; one of: {', '.join(CAPS)}")
    if not consent.nbf < consent.exp <= consent.nbf + cap.days * DAY_SECONDS:
        raise ConsentInvalid("duration", public=f"exp must be after nbf and within {cap.days} days of it")
    if consent.max_uses > cap.uses or (consent.fetch == "one-time" and consent.max_uses > 1):
        raise ConsentInvalid("uses", public=f"max_uses: at most {cap.uses}, and 1 where fetch is one-time")
    if any(product.partition("/")[0] != consent.institution for product in consent.products):
        raise ConsentInvalid("products", public="a product belongs to another institution")
    if any(not name.startswith(scope.department + ".") for scope in consent.data for name in scope.names):
        raise ConsentInvalid("data", public="a name belongs to another department than its scope")
    if not consent.automated_decision.used:
        raise ConsentInvalid("automated decision", public="automated_decision.used must be true: a machine decides")


def check_window(not_before: int, expires: int, now: datetime) -> None:
    """Whether `now` lies in [not_before, expires), Unix seconds; raises ConsentNotYetValid or ConsentExpired."""
    if now.timestamp() < not_before:
        raise ConsentNotYetValid("before nbf")
    if now.timestamp() >= expires:
        raise ConsentExpired("after exp")


def check_registrable(consent: Consent, now: datetime) -> None:
    """A consent may be registered before it begins, never after it ended or before it was made."""
    if now.timestamp() >= consent.exp:
        raise ConsentExpired("after exp")
    if consent.iat > now.timestamp() + SKEW_SECONDS:
        raise ConsentInvalid("iat", public="iat lies in the future")


def check_binding(consent: Consent, *, subject: str, product: str) -> None:
    """Checks that the consent is this subject's and for this product; raises the ConsentRefused of what fails."""
    if consent.sub != subject:
        raise ConsentSubjectMismatch("subject")
    if product not in consent.products:
        raise ConsentProductMismatch("product")


def check_fields(consent: Consent, fields: Collection[str]) -> None:
    """Every field must be named, itself or by its dataset; raises ConsentFieldsMissing naming the first few."""
    names = consent.names
    missing = [f for f in fields if f not in names and f.rpartition(".")[0] not in names]
    if missing:
        raise ConsentFieldsMissing("fields", public=f"not consented: {', '.join(sorted(missing)[:3])}")


class State(StrEnum):
    """Where a consent stands. Exhausted and expired are computed at use, never stored."""

    GRANTED = "granted"
    PAUSED = "paused"
    REVOKED = "revoked"
    SUPERSEDED = "superseded"
    INVALIDATED = "invalidated"
    EXHAUSTED = "exhausted"
    EXPIRED = "expired"


class Change(StrEnum):
    """What can happen to a consent."""

    PAUSE = "pause"
    RESUME = "resume"
    REVOKE = "revoke"


# There is no way back from an end.
TRANSITIONS: Mapping[tuple[State, Change], State] = {
    (State.GRANTED, Change.PAUSE): State.PAUSED,
    (State.PAUSED, Change.RESUME): State.GRANTED,
    (State.GRANTED, Change.REVOKE): State.REVOKED,
    (State.PAUSED, Change.REVOKE): State.REVOKED,
}


def next_state(state: State, change: Change) -> State:
    """The state after a change; raises ConsentTransition where the table has none."""
    try:
        return TRANSITIONS[state, change]
    except KeyError as error:
        public = f"cannot {change} a consent that is {state}"
        raise ConsentTransition(f"{change} from {state}", public=public) from error


def check_usable(state: State, uses: int, max_uses: int) -> None:
    """Only a granted consent with a use left may be used; raises the ConsentRefused of what fails."""
    if state is State.PAUSED:
        raise ConsentPaused("paused")
    if state is not State.GRANTED:
        raise ConsentRevoked(str(state))
    if uses >= max_uses:
        raise ConsentExhausted("no use left")


def shown_state(state: State, uses: int, max_uses: int, expires: int, now: datetime) -> State:
    """The state a person is shown: a granted consent may be expired or exhausted by now."""
    if state is State.GRANTED and now.timestamp() >= expires:
        return State.EXPIRED
    if state is State.GRANTED and uses >= max_uses:
        return State.EXHAUSTED
    return state
