"""Errors of the black box.

ServiceError
├── BudgetDiffers       (operator) the table of budgets is not what the log says
├── JailUnavailable     no walled process can be had just now; repeat
└── WorkerMisbehaved    internal: a walled process broke the channel's rules; never leaves sandbox/jail
"""

from typing import ClassVar

from audit.errors import CallerError, ServiceError


class JailUnavailable(ServiceError):
    """No walled process could be made or is free within the deadline; nothing was computed, repeating may help."""

    code = "jail_unavailable"
    retryable: ClassVar[bool] = True


class WorkerMisbehaved(ServiceError):
    """A walled process closed, was silent too long, or sent what the channel does not allow.

    Raised and caught inside sandbox/jail; callers see a model failure or a refused report instead.
    """

    code = "jail_worker_misbehaved"


class SubjectErased(CallerError):
    """The subject's key is destroyed; what was sealed under it is gone."""

    code = "subject_erased"


class SubjectUnknown(CallerError):
    """No consent of the subject was ever registered: nothing is kept under a key of it."""

    code = "subject_unknown"


class ConsentInvalid(CallerError):
    """The consent's shape, signer or caps are wrong; nothing was registered."""

    code = "consent_invalid"


class ConsentRefused(CallerError):
    """Base of the laws that a use or a change of a consent can break."""


class ConsentUnknown(ConsentRefused):
    """No such consent."""

    code = "consent_unknown"


class ConsentDuplicate(ConsentRefused):
    """Its id is registered already."""

    code = "consent_duplicate"


class ConsentNotYours(ConsentRefused):
    """Another authority signed or registered it."""

    code = "consent_not_yours"


class ConsentTransition(ConsentRefused):
    """Its state does not allow that change."""

    code = "consent_transition"


class ConsentSubjectMismatch(ConsentRefused):
    """It is another subject's."""

    code = "consent_subject_mismatch"


class ConsentProductMismatch(ConsentRefused):
    """It is for another institution, product or purpose."""

    code = "consent_product_mismatch"


class ConsentFieldsMissing(ConsentRefused):
    """The champion reads fields that it does not name."""

    code = "consent_fields_missing"


class ConsentNotYetValid(ConsentRefused):
    """Its time has not begun."""

    code = "consent_not_yet_valid"


class ConsentExpired(ConsentRefused):
    """Its time is over."""

    code = "consent_expired"


class ConsentExhausted(ConsentRefused):
    """Its uses are spent."""

    code = "consent_exhausted"


class ConsentTooFrequent(ConsentRefused):
    """As many uses as it allows fell into this day, week or month."""

    code = "consent_too_frequent"


class ConsentRevoked(ConsentRefused):
    """It was revoked."""

    code = "consent_revoked"


class ConsentSuperseded(ConsentRefused):
    """A newer consent replaced it."""

    code = "consent_superseded"


class ConsentInvalidated(ConsentRefused):
    """The authority that registered it lost its standing."""

    code = "consent_invalidated"


class AuthorityHasNoStanding(CallerError):
    """The consent authority was revoked; it registers nothing and acts for nobody any more."""

    code = "authority_revoked"


class AuthorityUnknown(CallerError):
    """No consent authority of that name has a key, or registered a consent."""

    code = "authority_unknown"


class AuthorityAlreadyRevoked(CallerError):
    """The consent authority was revoked before."""

    code = "authority_already_revoked"


class ConsentPaused(ConsentRefused):
    """It is paused."""

    code = "consent_paused"


class RequestIdReused(CallerError):
    """The request id was used with another consent, subject or product."""

    code = "request_id_reused"


class BudgetSpent(CallerError):
    """No bits are left about this subject for this institution in this calendar year."""

    code = "budget_spent"


class BudgetDiffers(ServiceError):
    """The sums of disclosed bits are not what the log's decisions say; the service does not start."""

    code = "budget_differs"


class VersionSuspended(CallerError):
    """The product's champion is suspended."""

    code = "version_suspended"


class DatasetClosed(CallerError):
    """The dataset is not published, or suspended by its steward."""

    code = "dataset_closed"


class DatasetNotYours(CallerError):
    """The dataset belongs to another department."""

    code = "dataset_not_yours"


class LoadInvalid(CallerError):
    """The rows of a load are malformed, doubled, too many, or of another layout; nothing was stored."""

    code = "load_invalid"
