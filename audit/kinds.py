"""The kinds of entries: what the log may say, and nothing else.

Each kind is one frozen dataclass; its annotations (audit/member.py) are the whole grammar of its members. How they are
written and read is audit/event.py's business. A changed shape is a new `v`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from audit.member import Count, Digest, Names, Tag, Text, Time

KINDS: Final[dict[str, type["Event"]]] = {}


@dataclass(frozen=True)
class Event:
    """Base of every kind. `kind` and `v` are the members of those names in the entry; a changed shape is a new `v`."""

    kind: ClassVar[str]
    v: ClassVar[int]

    def __init_subclass__(cls, kind: str = "", v: int = 1, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        if kind:  # shapes that several kinds share have none
            cls.kind, cls.v = kind, v
            KINDS[kind] = cls


@dataclass(frozen=True)
class EnclaveStarted(Event, kind="enclave.started", v=2):
    """A process of the service began to serve, with this evidence and this HPKE key; the first start makes epoch 0."""

    evidence_hash: Digest
    evidence_format: Text
    isolation: Text
    version: Text
    epoch: Count
    key_id: Text


@dataclass(frozen=True)
class KeyRotated(Event, kind="key.rotated"):
    """Banks seal to a new HPKE key from here on, and every kept bundle is sealed to it.

    Those of older epochs are accepted until `older_until` at the latest, and then destroyed.
    """

    epoch: Count
    key_id: Text
    evidence_hash: Digest
    by: Text
    older_until: Time


@dataclass(frozen=True)
class KeyDestroyed(Event, kind="key.destroyed"):
    """An epoch's HPKE key is gone: nobody can open any more what was sealed to it."""

    epoch: Count
    key_id: Text


@dataclass(frozen=True)
class DatasetPublished(Event, kind="dataset.published"):
    """A department described a dataset."""

    dataset: Text
    by: Text
    fields: Count
    catalog_hash: Digest


@dataclass(frozen=True)
class DatasetLoaded(Event, kind="dataset.loaded"):
    """Records entered the vault: load number, rows, digest of the content, the moment the data speaks of."""

    dataset: Text
    by: Text
    load: Count
    rows: Count
    content_hash: Digest
    event_at: Time


@dataclass(frozen=True)
class _DatasetSwitch(Event):
    dataset: Text
    by: Text
    reason: Text


class DatasetSuspended(_DatasetSwitch, kind="dataset.suspended"):
    """A steward stopped every use of a dataset."""


class DatasetResumed(_DatasetSwitch, kind="dataset.resumed"):
    """A steward allowed a dataset's use again."""


@dataclass(frozen=True)
class ConsentGranted(Event, kind="consent.granted", v=2):
    """An authority's signed consent was verified and registered.

    `replaces` is the id of a consent that this one ended. At most `frequency` uses fall into one `frequency_unit` of
    the UTC calendar (day, week from Monday, month); both null = no such bound.
    """

    consent: Text
    consent_hash: Digest
    authority: Text
    institution: Text
    products: Names
    purpose: Text
    subject_tag: Tag
    field_set_hash: Digest
    not_before: Time
    expires: Time
    max_uses: Count
    frequency_unit: Text | None
    frequency: Count | None
    replaces: Text | None


@dataclass(frozen=True)
class _ConsentChange(Event):
    consent: Text
    by: Text
    reason: Text


class ConsentRevoked(_ConsentChange, kind="consent.revoked"):
    """A consent ended for good: no later entry may use it."""


class ConsentPaused(_ConsentChange, kind="consent.paused"):
    """A consent may not be used until resumed."""


class ConsentResumed(_ConsentChange, kind="consent.resumed"):
    """A paused consent may be used again."""


@dataclass(frozen=True)
class AuthorityRevoked(Event, kind="authority.revoked"):
    """A consent authority lost its standing: no later entry may use a consent that it registered."""

    authority: Text
    by: Text
    reason: Text


@dataclass(frozen=True)
class SubjectErased(Event, kind="subject.erased"):
    """A subject's key was destroyed: what was sealed under it (limits, salts, consent texts) is gone for good."""

    subject_tag: Tag
    by: Text


@dataclass(frozen=True)
class VersionSubmitted(Event, kind="version.submitted", v=2):
    """An institution uploaded a sealed bundle; one of rules alone goes with the model in the bundle of `model_of`."""

    institution: Text
    version: Text
    manifest_hash: Digest
    bundle_hash: Digest
    model_hash: Digest
    rules_hash: Digest
    by: Text
    model_of: Text | None


@dataclass(frozen=True)
class VersionAdmitted(Event, kind="version.admitted"):
    """A version passed the inspection behind the walls."""

    version: Text


@dataclass(frozen=True)
class VersionRefused(Event, kind="version.refused"):
    """A version failed the inspection, with this code."""

    version: Text
    code: Text


@dataclass(frozen=True)
class VersionApproved(Event, kind="version.approved"):
    """A second person of the institution approved a version."""

    version: Text
    by: Text


@dataclass(frozen=True)
class VersionPromoted(Event, kind="version.promoted", v=2):
    """A version became its product's champion, in place of `previous`, which had been it since `previous_index`.

    So each promotion names the one before it, and says that there was none in between.
    """

    version: Text
    by: Text
    previous: Text | None
    previous_index: Count | None


@dataclass(frozen=True)
class _VersionSwitch(Event):
    version: Text
    by: Text
    reason: Text


class VersionSuspended(_VersionSwitch, kind="version.suspended"):
    """A version may not score until resumed."""


class VersionResumed(_VersionSwitch, kind="version.resumed"):
    """A suspended version may score again."""


@dataclass(frozen=True)
class VersionRetired(Event, kind="version.retired"):
    """A version ended for good."""

    version: Text
    by: Text


@dataclass(frozen=True)
class Decision(Event, kind="decision"):
    """One answered call. Outcome and limit are commitments (audit/receipt.py): no value and no name stands here."""

    request_hash: Digest
    caller: Text
    institution: Text
    product: Text
    version: Text
    bundle_hash: Digest
    rules_hash: Digest
    evidence_hash: Digest
    evidence_format: Text
    consent_hash: Digest
    consent_index: Count
    use: Count
    max_uses: Count
    subject_tag: Tag
    field_set_hash: Digest
    records_hash: Digest
    outcome: Digest
    limit: Digest
    bits_milli: Count
    bits_total_milli: Count
    isolation: Text
    seq: Count


@dataclass(frozen=True)
class Refusal(Event, kind="refusal"):
    """One call stopped by a law; before a valid consent is found there is no subject tag."""

    code: Text
    caller: Text
    request_hash: Digest
    institution: Text
    product: Text
    version: Text | None
    consent_hash: Digest | None
    subject_tag: Tag | None
    seq: Count


@dataclass(frozen=True)
class AuditRead(Event, kind="audit.read"):
    """Somebody read the log through the service."""

    by: Text
    what: Text


@dataclass(frozen=True)
class AuditExported(Event, kind="audit.exported"):
    """Somebody took entries `first` to `last`, both included, out of the service."""

    by: Text
    what: Text
    first: Count
    last: Count


@dataclass(frozen=True)
class AuditChecked(Event, kind="audit.checked"):
    """The log of `size` entries was checked whole: each verdict `sound`, `broken` or `unchecked` (no end was reached).

    `first_bad` is the first bad index where one is known.
    """

    by: Text
    size: Count
    integrity: Text
    completeness: Text
    first_bad: Count | None


@dataclass(frozen=True)
class BudgetChanged(Event, kind="budget.changed"):
    """The bits that may leave within a scope were set anew, in thousandths of a bit."""

    by: Text
    scope: Text
    bits_milli: Count


@dataclass(frozen=True)
class ConfigChanged(Event, kind="config.changed"):
    """The service runs under another configuration from here on."""

    by: Text
    config_hash: Digest


@dataclass(frozen=True)
class RollbackAccepted(Event, kind="rollback.accepted"):
    """The operator goes on with a log that is not what its anchor says; entries may be lost before this one.

    `anchored` and `anchor_hash` are the size of the log and the SHA-256 of the checkpoint that the anchor held; null
    where it held none that this log's key signed.
    """

    by: Text
    reason: Text
    anchored: Count | None
    anchor_hash: Digest | None
