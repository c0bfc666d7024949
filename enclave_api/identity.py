"""Client certificate → principal. Who a caller is comes from TLS alone, never from a message.

The certificate's one SAN URI is `spiffe://<trust domain>/<role>/<organisation>[/<person>]` (SPIFFE-ID, section 2; the
path is ours: docs/formats.md, "Names").
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from cryptography import x509

from enclave_api.errors import Unauthenticated

_ID = re.compile(
    r"spiffe://(?P<domain>[a-z0-9.-]{1,255})/(?P<role>[a-z]+)/(?P<rest>[A-Za-z0-9:_-]+(?:/[a-z0-9._-]{1,63})?)"
)
_MALFORMED = (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
_ORGANISATION = re.compile(r"[a-z][a-z0-9_-]{1,62}")
_SUBJECT = re.compile(r"(uscc|ric):[0-9A-Z]{18}")


class Role(StrEnum):
    """What a principal may be; one certificate, one role."""

    INSTITUTION = "institution"
    APPLICATION = "application"
    AUTHORITY = "authority"
    STEWARD = "steward"
    AUDITOR = "auditor"
    SUBJECT = "subject"
    OPERATOR = "operator"


@dataclass(frozen=True)
class Principal:
    """An authenticated caller."""

    role: Role
    organisation: str
    person: str = ""

    def __str__(self) -> str:
        """`role/organisation[/person]`: how the log names the caller. A subject is never named."""
        if self.role is Role.SUBJECT:
            return "subject"
        return "/".join(part for part in (self.role, self.organisation, self.person) if part)

    def uri(self, trust_domain: str) -> str:
        """The SAN URI of this principal."""
        return "spiffe://" + "/".join(p for p in (trust_domain, self.role, self.organisation, self.person) if p)


def parse_uri(uri: str, trust_domain: str) -> Principal:
    """Reads a SAN URI.

    Raises:
        Unauthenticated: another trust domain, an unknown role, or a malformed name.
    """
    match = _ID.fullmatch(uri)
    if match is None or match["domain"] != trust_domain or match["role"] not in set(Role):
        raise Unauthenticated("SAN URI is not of this trust domain")
    role = Role(match["role"])
    organisation, _, person = match["rest"].partition("/")
    name = _SUBJECT if role is Role.SUBJECT else _ORGANISATION
    if not name.fullmatch(organisation):
        raise Unauthenticated("malformed organisation")
    return Principal(role, organisation, person)


@lru_cache(maxsize=4096)
def principal_of(pem: bytes, trust_domain: str) -> Principal:
    """The principal of a client certificate that TLS has verified.

    Raises:
        Unauthenticated: the certificate has not exactly one SAN URI, or parse_uri refuses it.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, *_MALFORMED) as error:
        raise Unauthenticated("no SAN URI") from error
    if len(uris) != 1:
        raise Unauthenticated("not exactly one SAN URI")
    return parse_uri(uris[0], trust_domain)
