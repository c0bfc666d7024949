"""Error code → gRPC status and public text: the one place that decides what a caller is told.

Whatever has no line here is `internal`. A test demands a line for every error class of every floor.
"""

from dataclasses import dataclass

from grpc import StatusCode as S

from audit.errors import HeixiaError

TEXT_BYTES_MAX = 2000  # gRPC carries it percent-encoded, three bytes for one, in headers of 8 KiB in all
CODE_KEY = "heixia-code"  # trailing metadata: the error's stable code


@dataclass(frozen=True)
class Line:
    """Status and text on the wire; the text says what to do next."""

    status: S
    text: str


INTERNAL = Line(S.INTERNAL, "The service failed. Nothing was stored; report the time of the call to the operator.")

CATALOG: dict[str, Line] = {
    "internal": INTERNAL,
    # the doors
    "unauthenticated": Line(S.UNAUTHENTICATED, "Present a client certificate of this service's trust domain."),
    "permission_refused": Line(S.PERMISSION_DENIED, "Your role may not call this."),
    "request_invalid": Line(S.INVALID_ARGUMENT, "The request is malformed"),
    "busy": Line(S.RESOURCE_EXHAUSTED, "Too much is under way at once; nothing was stored, repeat later."),
    "home_invalid": Line(S.FAILED_PRECONDITION, "The home directory cannot be used"),
    "passphrase_wrong": Line(S.FAILED_PRECONDITION, "The root secret does not open"),
    "root_foreign": Line(S.FAILED_PRECONDITION, "The root secret is not this home's; nothing was changed"),
    "epoch_differs": Line(S.FAILED_PRECONDITION, "The root secret and the log are not of one time"),
    "rotation_refused": Line(S.FAILED_PRECONDITION, "The key is not rotated"),
    "address_taken": Line(S.FAILED_PRECONDITION, "The address cannot be had; choose another"),
    "walls_missing": Line(S.FAILED_PRECONDITION, "This machine lacks walls that the black box needs"),
    "connection_failed": Line(S.UNAVAILABLE, "The server does not answer; give its address with --server"),
    "folder_not_empty": Line(S.FAILED_PRECONDITION, "Nothing is overwritten"),
    "sample_invalid": Line(S.INVALID_ARGUMENT, "The sample cannot be read"),
    "credentials_missing": Line(S.FAILED_PRECONDITION, "The folder given with --as holds no certificate"),
    "evidence_refused": Line(S.FAILED_PRECONDITION, "The enclave's evidence is refused"),
    "policy_invalid": Line(S.INVALID_ARGUMENT, "The evidence policy cannot be used"),
    "evidence_unreadable": Line(S.INVALID_ARGUMENT, "The file cannot be used"),
    "evidence_unavailable": Line(S.UNAVAILABLE, "The hardware gives no evidence"),
    # the ground
    "ledger_closed": Line(S.UNAVAILABLE, "The ledger has stopped; repeat with the same request id after a restart."),
    "ledger_busy": Line(S.UNAVAILABLE, "The ledger is busy; nothing was stored. Repeat with the same request id."),
    "ledger_corrupt": Line(S.DATA_LOSS, "The stored log does not re-derive; the service does not go on."),
    "ledger_rolled_back": Line(
        S.DATA_LOSS,
        "The log does not go on from what was seen of it: restore the newest database, or serve with --accept-rollback",
    ),
    "database_missing": Line(S.FAILED_PRECONDITION, "The database is missing; make a home with `heixia init`"),
    "database_read_only": Line(S.FAILED_PRECONDITION, "The database cannot be written; check owner, mode and disk"),
    "database_unreadable": Line(S.FAILED_PRECONDITION, "The database does not answer, or the file is none of ours"),
    "database_full": Line(S.FAILED_PRECONDITION, "The disk under the database is full; make room and start again"),
    "database_version_unknown": Line(
        S.FAILED_PRECONDITION,
        "The database was made by another version of Heixia: use that one, or make a new home (`heixia init`)",
    ),
    "entry_unknown": Line(S.NOT_FOUND, "The log has no entry with that index."),
    "proof_invalid": Line(S.INVALID_ARGUMENT, "The proof, checkpoint or receipt does not verify"),
    "log_unreachable": Line(S.UNAVAILABLE, "The log cannot be read there; check the address, or repeat later"),
    "search_invalid": Line(S.INVALID_ARGUMENT, "The search cannot be made"),
    "index_behind": Line(S.UNAVAILABLE, "The search index is being built; repeat in a while"),
    "export_differs": Line(
        S.FAILED_PRECONDITION, "The folder holds something else and is left as it is: keep it, and export elsewhere"
    ),
    "export_unwritable": Line(S.FAILED_PRECONDITION, "The folder cannot be written; check owner, mode and disk"),
    "checkpoint_declined": Line(S.FAILED_PRECONDITION, "The witness does not cosign this checkpoint."),
    "witness_state_invalid": Line(S.FAILED_PRECONDITION, "The witness's state cannot be used; it never starts anew"),
    "event_invalid": Line(S.INVALID_ARGUMENT, "The entry is not of a known kind and shape"),
    # versions
    "signature_invalid": Line(
        S.INVALID_ARGUMENT,
        "The signature does not verify with your institution's keys; new keys count from the server's next start on",
    ),
    "manifest_invalid": Line(S.INVALID_ARGUMENT, "The manifest is wrong"),
    "bundle_invalid": Line(S.INVALID_ARGUMENT, "The sealed bundle does not open"),
    "rules_invalid": Line(S.INVALID_ARGUMENT, "The rules do not compile"),
    "rules_case_failed": Line(S.INVALID_ARGUMENT, "A case of the rules does not come out as it says"),
    "model_refused": Line(S.INVALID_ARGUMENT, "Admission refused the model"),
    "version_unknown": Line(S.NOT_FOUND, "Your institution has no such version."),
    "product_unknown": Line(S.NOT_FOUND, "No such product, or it has no champion yet."),
    "transition_refused": Line(S.FAILED_PRECONDITION, "The version's state does not allow that"),
    "four_eyes_required": Line(S.PERMISSION_DENIED, "Four eyes are required"),
    "quota_reached": Line(S.RESOURCE_EXHAUSTED, "Your institution keeps as much here as one may; nothing was stored"),
    # consents
    "consent_invalid": Line(S.INVALID_ARGUMENT, "The consent is refused"),
    "consent_unknown": Line(S.NOT_FOUND, "No such consent."),
    "consent_duplicate": Line(S.ALREADY_EXISTS, "A consent with that id is registered already."),
    "consent_not_yours": Line(S.PERMISSION_DENIED, "The consent belongs to another authority"),
    "consent_transition": Line(S.FAILED_PRECONDITION, "The consent's state does not allow that"),
    "consent_subject_mismatch": Line(S.FAILED_PRECONDITION, "The consent is another subject's."),
    "consent_product_mismatch": Line(S.FAILED_PRECONDITION, "The consent is not for this product."),
    "consent_fields_missing": Line(S.FAILED_PRECONDITION, "The product reads fields that the consent does not name"),
    "consent_not_yet_valid": Line(S.FAILED_PRECONDITION, "The consent's time has not begun."),
    "consent_expired": Line(S.FAILED_PRECONDITION, "The consent's time is over; ask for a new one."),
    "consent_exhausted": Line(S.FAILED_PRECONDITION, "The consent's uses are spent; ask for a new one."),
    "consent_too_frequent": Line(S.FAILED_PRECONDITION, "The consent allows no further use for now"),
    "consent_revoked": Line(S.FAILED_PRECONDITION, "The consent was revoked."),
    "consent_superseded": Line(S.FAILED_PRECONDITION, "A newer consent replaced it; use that one."),
    "consent_invalidated": Line(S.FAILED_PRECONDITION, "The authority that registered the consent was revoked."),
    "authority_revoked": Line(S.PERMISSION_DENIED, "The authority was revoked; it registers nothing, acts for nobody."),
    "authority_unknown": Line(S.NOT_FOUND, "No consent authority of that name has a key, or registered a consent."),
    "authority_already_revoked": Line(S.FAILED_PRECONDITION, "The consent authority was revoked before."),
    "consent_paused": Line(S.FAILED_PRECONDITION, "The consent is paused."),
    # calls
    "request_id_reused": Line(S.ALREADY_EXISTS, "This request id was used with other members; take a fresh UUID."),
    "budget_spent": Line(S.RESOURCE_EXHAUSTED, "No disclosure is left about this subject this year."),
    "budget_differs": Line(
        S.DATA_LOSS, "The budgets are not what the log's decisions say: restore the newest database with its log"
    ),
    "version_suspended": Line(S.FAILED_PRECONDITION, "The product is suspended."),
    "jail_unavailable": Line(S.UNAVAILABLE, "No walled process is free; repeat with the same request id."),
    # data
    "subject_invalid": Line(S.INVALID_ARGUMENT, "Not a valid credit code (uscc:...) or identity number (ric:...)."),
    "dataset_unknown": Line(S.NOT_FOUND, "The catalogue has no such dataset."),
    "field_unknown": Line(S.NOT_FOUND, "The catalogue has no such field."),
    "dataset_closed": Line(S.FAILED_PRECONDITION, "The dataset is not open for use"),
    "dataset_not_yours": Line(S.PERMISSION_DENIED, "The dataset is another department's"),
    "load_invalid": Line(S.INVALID_ARGUMENT, "The load is refused; nothing was stored"),
    "record_invalid": Line(S.INVALID_ARGUMENT, "A record breaks its layout"),
    "catalog_invalid": Line(S.FAILED_PRECONDITION, "The catalogue file cannot be used"),
    "stored_value_corrupt": Line(S.DATA_LOSS, "A stored value does not open; report the time of the call."),
    "subject_erased": Line(S.NOT_FOUND, "The subject was erased; what was kept about it is gone."),
    "subject_unknown": Line(S.NOT_FOUND, "Nothing is kept about this subject: it never gave a consent here."),
    # a steward's table, on the steward's machine
    "table_unreadable": Line(S.INVALID_ARGUMENT, "The table cannot be read"),
    "table_empty": Line(S.INVALID_ARGUMENT, "The table has no rows"),
    "table_truncated": Line(S.INVALID_ARGUMENT, "The table is cut"),
    "table_header_wrong": Line(S.INVALID_ARGUMENT, "The table's columns are not the dataset's"),
    "table_subject_invalid": Line(S.INVALID_ARGUMENT, "The table holds a malformed subject"),
    "table_subject_duplicate": Line(S.INVALID_ARGUMENT, "The table holds a subject twice"),
    "table_value_invalid": Line(S.INVALID_ARGUMENT, "The table holds a wrong value"),
}


def line_of(error: HeixiaError) -> Line:
    """The catalogue's line for an error."""
    return CATALOG.get(error.code, INTERNAL)


def public_text(error: HeixiaError) -> str:
    """What the caller reads: the catalogue's text and, where the error has one, its public detail."""
    text = line_of(error).text
    told = f"{text.rstrip('.')}: {error.public}" if error.public else text
    return told.encode()[:TEXT_BYTES_MAX].decode(errors="ignore")
