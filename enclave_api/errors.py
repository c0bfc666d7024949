"""Errors of the doors themselves.

HeixiaError
├── CallerError
│   ├── Unauthenticated    no client certificate of this trust domain
│   ├── PermissionRefused  the role may not call this, or the resource is another organisation's
│   ├── RequestInvalid     a member is missing, malformed or too large
│   ├── EvidenceRefused    (client side) the enclave's evidence does not convince
│   ├── PolicyInvalid      (client side) an evidence policy says nothing, or something unknown
│   ├── EvidenceUnreadable (client side) a file of evidence or certificates is none
│   ├── RotationRefused    (operator) the HPKE key cannot be rotated now
│   ├── FolderNotEmpty     (client side) a command would overwrite files
│   ├── SampleInvalid      (client side) a file of a bank's sample rows cannot be read
│   └── CredentialsMissing (client side) a folder holds no certificate or signing key
└── ServiceError
    ├── Busy               too much of that at once
    ├── HomeInvalid        (operator) the home directory is missing something or damaged
    ├── PassphraseWrong    (operator) the root secret does not open
    ├── RootForeign        (operator) the root secret is another home's
    ├── EpochDiffers       (operator) the root secret and the log disagree about what is destroyed
    ├── AddressTaken       (operator) the port is in use
    ├── WallsMissing       (operator) this machine lacks walls that the black box needs
    ├── EvidenceUnavailable  the hardware gives no report: none there, no right to it, or busy
    └── ConnectionFailed   (client side) the server cannot be reached or refuses the certificate
"""

from audit.errors import CallerError, ServiceError


class Unauthenticated(CallerError):
    """No client certificate of this trust domain."""

    code = "unauthenticated"


class PermissionRefused(CallerError):
    """The role may not call this, or the resource belongs to another organisation."""

    code = "permission_refused"


class RequestInvalid(CallerError):
    """A request member is missing, malformed or too large."""

    code = "request_invalid"


class EvidenceRefused(CallerError):
    """The enclave's evidence does not meet the caller's policy."""

    code = "evidence_refused"


class PolicyInvalid(CallerError):
    """A policy file is malformed, has unknown members, or would check nothing."""

    code = "policy_invalid"


class EvidenceUnreadable(CallerError):
    """A file is not the evidence, certificate or collateral it was given as."""

    code = "evidence_unreadable"


class Busy(ServiceError):
    """Too much of that is under way at once, or it took too long; nothing was stored."""

    code = "busy"
    retryable = True


class HomeInvalid(ServiceError):
    """The home directory is missing something or damaged."""

    code = "home_invalid"


class FolderNotEmpty(CallerError):
    """A command would overwrite files."""

    code = "folder_not_empty"


class SampleInvalid(CallerError):
    """A bank's sample lacks a column, or a value is none of its field."""

    code = "sample_invalid"


class CredentialsMissing(CallerError):
    """A client's folder lacks a file."""

    code = "credentials_missing"


class PassphraseWrong(ServiceError):
    """The root secret does not open with this passphrase."""

    code = "passphrase_wrong"


class RootForeign(ServiceError):
    """The root secret is not the one that this home's log was made with."""

    code = "root_foreign"


class EpochDiffers(ServiceError):
    """The root secret is older or newer than the log: one of them was put back from a copy."""

    code = "epoch_differs"


class RotationRefused(CallerError):
    """The HPKE key cannot be rotated now; nothing was changed."""

    code = "rotation_refused"


class AddressTaken(ServiceError):
    """The address to listen on is in use."""

    code = "address_taken"


class WallsMissing(ServiceError):
    """The kernel, or the container, refuses walls that untrusted bytes must stand behind."""

    code = "walls_missing"


class EvidenceUnavailable(ServiceError):
    """The hardware gives no report: there is none, it may not be asked, or it stays busy."""

    code = "evidence_unavailable"
    retryable = True


class ConnectionFailed(ServiceError):
    """The server cannot be reached, or the TLS handshake fails."""

    code = "connection_failed"
    retryable = True
