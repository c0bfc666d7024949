"""The root of every error that may reach a door.

    HeixiaError
    ├── CallerError      the request cannot be granted as it stands; repeating it will not help
    ├── OwnerError       the institution's model, rules or manifest are at fault
    └── ServiceError     ours: full, slow, broken; may be repeated where `retryable`

Each floor derives its own errors in its own errors.py. A concrete error has a `code`, the key into
enclave_api/error_catalog.py, which alone decides the gRPC status and the public text. `detail` goes to the operator's
log; `public` is appended to the catalogue's text on the wire, so it may only repeat what the caller sent or may know.
Neither may hold personal data, a field value or a secret.
"""

from typing import ClassVar


class HeixiaError(Exception):
    """Base of all errors with a line in the error catalogue."""

    code: ClassVar[str] = "internal"

    def __init__(self, detail: str = "", *, public: str = "") -> None:
        super().__init__(detail or public)
        self.public = public


class CallerError(HeixiaError):
    """The request cannot be granted as it stands."""


class OwnerError(HeixiaError):
    """The institution's own model, rules or manifest are at fault."""


class ServiceError(HeixiaError):
    """The service is at fault."""

    retryable: ClassVar[bool] = False


class LedgerClosed(ServiceError):
    """The ledger stopped after a failure whose outcome is unknown; the process must restart and reload."""

    code = "ledger_closed"


class LedgerBusy(ServiceError):
    """The database is locked by somebody else, or too many changes are waiting; nothing was stored."""

    code = "ledger_busy"
    retryable = True


class LedgerCorrupt(ServiceError):
    """The stored log does not re-derive: head, entries or signature disagree."""

    code = "ledger_corrupt"


class LedgerRolledBack(ServiceError):
    """The log is not the one that its anchor saw, nor an extension of it; or there is no anchor beside it."""

    code = "ledger_rolled_back"


class EntryUnknown(CallerError):
    """No entry with that index."""

    code = "entry_unknown"


class ProofInvalid(CallerError):
    """A note, proof, checkpoint or receipt does not verify, or is malformed."""

    code = "proof_invalid"


class CheckpointDeclined(CallerError):
    """A witness does not cosign a checkpoint.

    `status` is HTTP's; `size`, of a 409, what was cosigned last; `note`, of a 422, the checkpoint that the log signed.
    """

    code = "checkpoint_declined"

    def __init__(self, status: int, detail: str, *, size: int | None = None, note: str = "") -> None:
        super().__init__(detail)
        self.status, self.size, self.note = status, size, note


class EventInvalid(CallerError):
    """An entry is not canonical JSON of a known kind, version and shape."""

    code = "event_invalid"


class LogUnreachable(ServiceError):
    """A log served elsewhere does not answer, or its address is not to be trusted."""

    code = "log_unreachable"
    retryable = True


class SearchInvalid(CallerError):
    """A filter has a value that no entry can have, or a page token is of another search."""

    code = "search_invalid"


class IndexBehind(ServiceError):
    """The search index is being built and has not come up to the log yet; nothing was read."""

    code = "index_behind"
    retryable = True


class ExportDiffers(CallerError):
    """A folder holds another log, a later state of it or another history; nothing was written over it."""

    code = "export_differs"


class ExportUnwritable(ServiceError):
    """A folder that a log is exported to cannot be written."""

    code = "export_unwritable"


class WitnessStateInvalid(ServiceError):
    """What a witness keeps is missing a part, does not verify, or is in use by another witness."""

    code = "witness_state_invalid"


class DatabaseMissing(ServiceError):
    """There is no database file at the configured place."""

    code = "database_missing"


class DatabaseReadOnly(ServiceError):
    """The database file, or the place it lies in, cannot be written."""

    code = "database_read_only"


class DatabaseUnreadable(ServiceError):
    """The file is no SQLite database, is damaged, or its disk fails."""

    code = "database_unreadable"


class DatabaseFull(ServiceError):
    """The disk under the database is full; what was answered is on it, nothing else is."""

    code = "database_full"


class DatabaseVersionUnknown(ServiceError):
    """The database was written by another version of the schema."""

    code = "database_version_unknown"
