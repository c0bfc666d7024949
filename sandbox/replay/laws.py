"""The laws that the replay holds a log against, each as a code and in plain words (docs/fsck.md)."""

from typing import Final

TEXTS: Final = {
    # consents
    "consent_double": "a consent of this id was registered before",
    "consent_malformed": "the consent's terms contradict themselves or exceed what its purpose allows",
    "consent_late": "the consent had ended before it was registered",
    "consent_unknown": "no consent of this id or index was registered before",
    "consent_transition": "the consent's state does not allow this change",
    "consent_replaced": "the consent that this one replaces is for somebody or something else, or had ended",
    "authority_unknown": "the consent's authority had lost its standing before",
    "subject_unknown": "the subject had no key: it never consented, or was erased already",
    "actor_foreign": "who acted has no say here: not the consent's authority or subject, the department, an operator",
    # decisions against their consent
    "consent_hash": "the decision names another consent than the entry that its index points at",
    "consent_binding": "the consent is another institution's, product's or subject's",
    "consent_paused": "the consent was paused",
    "consent_ended": "the consent had been revoked or replaced",
    "consent_erased": "the subject had been erased since the consent",
    "consent_window": "the entry's time lies outside of the consent's",
    "use_number": "the decision is not the use of its consent that it says",
    "use_max": "the decision says another number of permitted uses than its consent",
    "use_exceeded": "the consent had no use left",
    "frequency_exceeded": "the consent had no use left in this unit of the calendar",
    # decisions against versions and the room
    "version_unknown": "no version of this name was submitted before",
    "version_number": "the version's number is not the next of its product",
    "version_owner": "the version, or who acted, is another institution's",
    "version_transition": "the version's state does not allow this change",
    "version_self_approved": "the version was approved by who submitted it",
    "version_base": "the model of the rules is of no version of that product whose bundle was kept",
    "version_previous": "the version took another's place than the champion's",
    "version_champion": "the version was the champion, which cannot be retired",
    "version_switch": "who acted held the version back already, or did not hold it back",
    "version_steward": "the department that held the version back, or let it go, has no data that it reads",
    "not_champion": "the version was not its product's champion",
    "version_suspended": "the version was suspended",
    "version_unapproved": "the version was not approved, or was retired",
    "bundle_hash": "the decision names another bundle or other rules than were submitted",
    "evidence_hash": "the decision names other evidence or isolation than the last start or rotation",
    # the keys that banks seal to
    "key_epoch": "the key is not of the next epoch, or was the key of an earlier one",
    "key_start": "the start names another key than the newest epoch's",
    "key_until": "the date until which older keys live is past, or too far away",
    "key_destroyed": "the key was not the oldest that was alive, or was the newest",
    "key_early": "the key was destroyed before its date",
    # numbers and sums
    "seq_gap": "the number is not the next of its institution",
    "bits_sum": "the disclosed bits do not add up",
    "bits_price": "the answer's price is not its version's",
    "bits_free": "the answer was free, though its version had never answered about that subject",
    # datasets
    "dataset_unknown": "the dataset was not published before",
    "dataset_load": "the load's number is not the next of its dataset",
    # tables
    "row_missing": "a row is missing that the log says",
    "row_superfluous": "there are rows that the log does not say",
    "row_differs": "a row says other than the log",
}

UNJUDGED: Final = (
    "without a home's manifests, whether a department that stopped a version has data that it reads: not in the log",
    "whether the datasets of a decision were open: a decision does not name them",
    "whether the consented fields cover what the version read: the log has only a hash of each",
    "whether a free answer met the very records of the first one, and whether a budget was exceeded: not in the log",
    "whether a price is that of the version's levels: the log has only the price, the same for every answer",
    "whether one request was answered twice: the table of calls has one row for each, the log alone is not asked",
    "whether an authority that erased a subject had registered a consent of it",
)
