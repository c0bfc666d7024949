"""The consent artefact: parse, verify, caps, binding. Pure: no clock, no store. Its life: sandbox/consent_life.py.

Claims and laws: docs/formats.md, "Consent". The JWS is by the consent authority and, where `cnf` says so, by the
subject's own key too (general serialisation, RFC 7515); `iat`, `nbf`, `exp` are NumericDate (RFC 7519). The payload is
RFC 8785 JSON; the consent hash is of the signed bytes (consent_store.consent_hash).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

import rfc8785
from joserfc.jwk import KeySet
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_registry.errors import SignatureInvalid
from model_registry.manifest import PRODUCT, explain, field_set_hash
from model_registry.signing import (
    Signed,
    SigningKey,
    organisation_of,
    retires_at,
    sign_general,
    thumbprint,
    verify_general,
)
from sandbox.errors import (
    ConsentExpired,
    ConsentFieldsMissing,
    ConsentInvalid,
    ConsentProductMismatch,
    ConsentSubjectMismatch,
)
from sandbox.vault.moments import FOREVER_MS
from sandbox.vault.subject import parse_subject

TYP = "heixia-consent+jws"
CONSENT_BYTES_MAX = 131_072  # 1,600 field names of 40 bytes in base64, with room
DAY_SECONDS = 86_400
SKEW_SECONDS = 300  # clocks of authority and enclave may differ by five minutes at registration


@dataclass(frozen=True)
class Cap:
    """Upper bounds for a purpose; checked at registration and again at every use.

    `often`: where not None the consent must name a frequency, and each of its units is bounded by this.
    """

    days: int
    uses: int
    often: Mapping[str, int] | None = None


# `monitoring` is 31 uses a calendar month however they are counted: a month touches up to six weeks, a year 13 months.
CAPS: Mapping[str, Cap] = {
    "precredit": Cap(days=31, uses=5),
    "monitoring": Cap(days=365, uses=13 * 31, often={"day": 1, "week": 5, "month": 31}),
}


@dataclass(frozen=True)
class Terms:
    """What an enclave asks of consents: caps for each purpose (never wider than CAPS), the subject's own signature."""

    caps: Mapping[str, Cap]
    subject_signature: bool = False


TERMS = Terms(CAPS)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Text = Annotated[str, Field(min_length=1, max_length=2000)]
ConsentId = Annotated[
    str, Field(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
]  # UUID version 4
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


class Frequency(_Part):
    """How many uses may fall into one unit of the UTC calendar (weeks begin on Monday)."""

    unit: Literal["day", "week", "month"]
    value: Annotated[int, Field(ge=1, le=31)]


class DataPeriod(_Part):
    """Which days the data may be of: NumericDate, the first moment that is meant and the first that is not any more."""

    from_: Moment = Field(alias="from")
    to: Moment


class Confirmation(_Part):
    """The key that signed beside the authority's, by its RFC 7638 thumbprint (RFC 7800, 3.2)."""

    jkt: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")]


class AutomatedDecision(_Part):
    """That a machine decides, and how to contest it."""

    used: bool
    contest: Text


class Consent(_Part):
    """The claims of one consent."""

    schema_: Literal["heixia.consent/v1"] = Field("heixia.consent/v1", alias="schema")
    jti: ConsentId
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
    data_period: DataPeriod | None = None
    frequency: Frequency | None = None
    replaces: ConsentId | None = None
    cnf: Confirmation | None = None

    def encode(self) -> bytes:
        """The claims as RFC 8785 JSON; those that are not made are left out."""
        return rfc8785.dumps(self.model_dump(mode="json", by_alias=True, exclude_none=True))

    @property
    def names(self) -> frozenset[str]:
        """Every dataset and field named."""
        return frozenset(name for scope in self.data for name in scope.names)

    @property
    def period_ms(self) -> tuple[int, int]:
        """The days that data may be of: first moment, and the first that is not any more; Unix milliseconds."""
        period = self.data_period
        return (0, FOREVER_MS) if period is None else (period.from_ * 1000, period.to * 1000)

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
    check_claims(consent, TERMS)
    return consent


def sign_consent(consent: Consent, key: SigningKey, subject_key: SigningKey | None = None) -> bytes:
    """The consent as a JWS in the general serialisation, by the authority's key and, where given, the subject's own.

    Raises:
        ConsentInvalid: `cnf` names another key than the subject's, or there is one without the other.
    """
    _check_confirmed(consent, None if subject_key is None else thumbprint(subject_key))
    return sign_general(consent.encode(), [key], TYP, subject_key)


def verify_consent(raw: bytes, authorities: KeySet, terms: Terms = TERMS) -> tuple[Consent, int | None]:
    """Checks signatures, signer, shape, caps and that the claims are canonical: what no clock is needed for.

    Returns:
        The consent, and from when on (Unix seconds) its authority's key signs nothing new.

    Raises:
        ConsentInvalid: which of them failed; never a claim's value.
    """
    consent, signed = reverify_consent(raw, authorities, terms)
    if consent.encode() != signed.payload:
        raise ConsentInvalid("not canonical", public="the claims are not RFC 8785 JSON")
    return consent, retires_at(authorities, signed.kid)


def reverify_consent(raw: bytes, authorities: KeySet, terms: Terms = TERMS) -> tuple[Consent, Signed]:
    """Checks signatures, signer, shape and caps: what every use of a registered consent needs.

    Raises:
        ConsentInvalid: which of them failed; never a claim's value.
    """
    if len(raw) > CONSENT_BYTES_MAX:
        raise ConsentInvalid("size", public=f"larger than {CONSENT_BYTES_MAX:,} bytes")
    try:
        signed = verify_general(raw, authorities, TYP)
        retires = retires_at(authorities, signed.kid)
        consent = Consent.model_validate_json(signed.payload)
    except SignatureInvalid as error:
        public = "a signature does not verify: the authority's with a known key that still counts, or the subject's own"
        raise ConsentInvalid("signature", public=public) from error
    except ValidationError as error:
        raise ConsentInvalid("claims", public=explain(error)) from error
    if organisation_of(signed.kid) != consent.iss:
        raise ConsentInvalid("signer", public="signed by another authority than `iss`")
    if retires is not None and consent.iat >= retires:
        raise ConsentInvalid("retired key", public="signed with a key of the authority's after it was retired")
    _check_confirmed(consent, signed.own)
    check_claims(consent, terms)
    return consent, signed


def check_claims(consent: Consent, terms: Terms) -> None:
    """Checks subject, institution, scope and the caps of the purpose; raises ConsentInvalid."""
    parse_subject(consent.sub)
    cap = terms.caps.get(consent.purpose.code)
    if cap is None:
        raise ConsentInvalid("purpose", public=f"purpose is not served; one of: {', '.join(terms.caps)}")
    _check_caps(consent, cap)
    if consent.data_period is not None and consent.data_period.from_ >= consent.data_period.to:
        raise ConsentInvalid("data period", public="data_period: `to` must be after `from`")
    if any(product.partition("/")[0] != consent.institution for product in consent.products):
        raise ConsentInvalid("products", public="a product belongs to another institution")
    if any(not name.startswith(scope.department + ".") for scope in consent.data for name in scope.names):
        raise ConsentInvalid("data", public="a name belongs to another department than its scope")
    if not consent.automated_decision.used:
        raise ConsentInvalid("automated decision", public="automated_decision.used must be true: a machine decides")
    if terms.subject_signature and consent.cnf is None:
        raise ConsentInvalid("cnf", public="this enclave asks for the subject's own signature beside the authority's")


def _check_caps(consent: Consent, cap: Cap) -> None:
    if not consent.nbf < consent.exp <= consent.nbf + cap.days * DAY_SECONDS:
        raise ConsentInvalid("duration", public=f"exp must be after nbf and within {cap.days} days of it")
    one_time, often = consent.fetch == "one-time", consent.frequency
    if consent.max_uses > cap.uses or (one_time and consent.max_uses > 1):
        raise ConsentInvalid("uses", public=f"max_uses: at most {cap.uses}, and 1 where fetch is one-time")
    if one_time and often is not None:
        raise ConsentInvalid("frequency", public="frequency: what is fetched one time has none")
    if cap.often is not None and (often is None or often.value > cap.often[often.unit]):
        most = ", ".join(f"{most} a {unit}" for unit, most in cap.often.items())
        raise ConsentInvalid("frequency", public=f"frequency must be given for this purpose; at most {most}")


def _check_confirmed(consent: Consent, own: str | None) -> None:
    if (consent.cnf and consent.cnf.jkt) != own:
        raise ConsentInvalid("cnf", public="`cnf` and the subject's own signature do not belong together")


def check_registrable(consent: Consent, now: datetime, retires: int | None = None) -> None:
    """A consent may be registered before it begins, never after it ended, before it was made, or by a retired key."""
    if retires is not None and now.timestamp() >= retires:
        raise ConsentInvalid("retired key", public="signed with a key of the authority's that is retired")
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
