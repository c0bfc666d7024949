"""Errors of this floor.

HeixiaError
├── CallerError
│   ├── VersionUnknown, ProductUnknown, TransitionRefused, FourEyesRequired, QuotaReached
└── OwnerError
    ├── SignatureInvalid   a JWS by an institution or authority does not verify
    ├── ManifestInvalid    the manifest's shape or signer
    ├── BundleInvalid      the sealed bundle does not open
    ├── RulesInvalid       the bank's rules
    │   └── RulesCaseFailed  compile, and decide otherwise than their cases say
    └── ModelRefused       admission said no
"""

from collections.abc import Sequence
from dataclasses import dataclass

from audit.errors import CallerError, OwnerError, ServiceError


class SignatureInvalid(OwnerError):
    """A JWS is malformed, by an unknown key, or does not verify."""

    code = "signature_invalid"


class ManifestInvalid(OwnerError):
    """The manifest has a wrong member, signer or size."""

    code = "manifest_invalid"


class BundleInvalid(OwnerError):
    """The sealed bundle is cut, too large, for another key, or changed."""

    code = "bundle_invalid"


class StoredValueCorrupt(ServiceError):
    """A stored, sealed value does not open: the database was changed, or belongs to another root secret."""

    code = "stored_value_corrupt"


class VersionUnknown(CallerError):
    """No such version of the caller's institution."""

    code = "version_unknown"


class ProductUnknown(CallerError):
    """No such product, or it has no champion."""

    code = "product_unknown"


class TransitionRefused(CallerError):
    """The version's state does not allow that."""

    code = "transition_refused"


class FourEyesRequired(CallerError):
    """The submitter may not approve."""

    code = "four_eyes_required"


class QuotaReached(CallerError):
    """The institution keeps, or has under way, as much as one may."""

    code = "quota_reached"


@dataclass(frozen=True)
class Problem:
    """One thing wrong in the bank's rules: where, what, and what to write instead."""

    line: int
    column: int
    text: str
    hint: str = ""


class RulesInvalid(OwnerError):
    """The bank's rules do not compile."""

    code = "rules_invalid"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(
            f"{len(problems)} problems", public="; ".join(f"line {p.line}: {p.text}" for p in problems[:3])
        )
        self.problems = tuple(problems)


class RulesCaseFailed(RulesInvalid):
    """The bank's rules compile, and a case in the file does not come out as it says."""

    code = "rules_case_failed"


@dataclass(frozen=True)
class Reason:
    """One reason for a refusal: stable code, where, what is wrong and what to do."""

    code: str
    where: str
    text: str


class ModelRefused(OwnerError):
    """Admission refused the bundle's content."""

    code = "model_refused"

    def __init__(self, reasons: Sequence[Reason], version: str = "") -> None:
        told = "; ".join(f"{r.code} ({r.where}): {r.text}" for r in reasons[:3])[:1000]
        super().__init__(",".join(r.code for r in reasons), public=f"{version}: {told}" if version else told)
        self.reasons = tuple(reasons)
