"""X.509 as vendors of CPUs use it: a chain to a pinned root, at a given time.

Names of sections are of RFC 5280. Every check raises StepFailed with its reason; nothing else leaves these functions,
whatever the bytes. Only keys that a pinned root leads to ever verify a signature: the work is bounded by the number of
certificates, and a stranger's key is never put to use.
"""

from collections.abc import Sequence, Set
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtensionOID

from enclave_api.attestation.steps import StepFailed
from enclave_api.attestation.x509_certificates import (
    HASHES,
    MALFORMED,
    certificates_of,
    common_name,
    extension_of,
    fingerprint,
    is_strong,
    name_of,
    readable_certificates,
)
from enclave_api.attestation.x509_revocation import CRL_BYTES_MAX, Revoked, check_not_revoked

__all__ = [
    "CRL_BYTES_MAX",
    "Chain",
    "Revoked",
    "certificates_of",
    "chain_to_root",
    "check_not_revoked",
    "fingerprint",
    "name_of",
    "readable_certificates",
]

_LEVELS = 3  # certificates of issuers between leaf and root, at most: vendors use one
_UNDERSTOOD = {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE}


def check_validity(certificate: x509.Certificate, at: datetime) -> None:
    """Section 4.1.2.5: valid at that time, both ends included."""
    if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
        window = f"{certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}"
        raise StepFailed(
            f"{name_of(certificate)} is valid from {window}, not at {at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        )


def check_extensions(certificate: x509.Certificate) -> None:
    """Section 4.2: a critical extension that is not understood refuses the certificate."""
    strange = [e.oid.dotted_string for e in certificate.extensions if e.critical and e.oid not in _UNDERSTOOD]
    if strange:
        raise StepFailed(f"{name_of(certificate)} has the unknown critical extension {strange[0][:48]}")


def check_ca(certificate: x509.Certificate) -> None:
    """Sections 4.2.1.3 and 4.2.1.9: may sign certificates."""
    constraints = extension_of(certificate, x509.BasicConstraints)
    usage = extension_of(certificate, x509.KeyUsage)
    if constraints is None or not constraints.ca or (usage is not None and not usage.key_cert_sign):
        raise StepFailed(f"{name_of(certificate)} may not sign certificates")


def check_issued(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    """Named by it and signed with its key: RSA (PKCS #1 or PSS) or ECDSA, with SHA-256 or better."""
    if not isinstance(certificate.signature_hash_algorithm, HASHES) or not is_strong(issuer.public_key()):
        raise StepFailed(f"{name_of(certificate)} is signed with an algorithm that is not accepted")
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*MALFORMED, InvalidSignature):
        raise StepFailed(f"{name_of(certificate)} is not signed by {name_of(issuer)}") from None


Chain = tuple[x509.Certificate, ...]
"""The leaf first, the root last."""


def chain_to_root(leaf: x509.Certificate, pool: Sequence[x509.Certificate], roots: Set[str], at: datetime) -> Chain:
    """The chain from a leaf to a root (section 6.1, without policies and name constraints, which vendors do not use).

    Every certificate of it is valid at that time, has no unknown critical extension and is signed by the next one,
    which may do so within its path length; the last one signs itself, and its SHA-256 is in `roots`.

    Raises:
        StepFailed: with the check that failed, of the leaf's issuer where that is why the leaf has no chain.
    """
    search = _Search(at)
    pool = [certificate for certificate in pool if certificate != leaf]
    for certificate in pool:
        if fingerprint(certificate) in roots:
            search.climb(certificate, [certificate], is_ca=True)
    if not search.chains:
        raise StepFailed(next(iter(search.refused.values()), "no root certificate that the policy names is given"))
    for _ in range(_LEVELS):
        for certificate in pool:
            search.climb(certificate, [c for c in search.chains if c != certificate], is_ca=True)
    search.climb(leaf, list(search.chains), is_ca=False)
    if leaf in search.chains:
        return search.chains[leaf]
    issuers = [search.refused[c] for c in pool if c.subject == leaf.issuer and c in search.refused]
    raise StepFailed((issuers or [search.refused[leaf]])[0])


class _Search:
    """Chains found so far, by their first certificate, and why others have none; roots are climbed first."""

    def __init__(self, at: datetime) -> None:
        self.at = at
        self.chains: dict[x509.Certificate, Chain] = {}
        self.refused: dict[x509.Certificate, str] = {}

    def climb(self, certificate: x509.Certificate, issuers: Sequence[x509.Certificate], *, is_ca: bool) -> None:
        """Adds the certificate's chain by one of the issuers, or the reason why there is none."""
        if certificate in self.chains:
            return
        by = common_name(certificate.issuer)
        self.refused[certificate] = f"no trusted certificate of {by}, who signs {name_of(certificate)}"
        for issuer in [c for c in issuers if c.subject == certificate.issuer]:
            try:
                self._check(certificate, issuer, is_ca=is_ca)
            except StepFailed as error:
                self.refused[certificate] = str(error)
                continue
            self.chains[certificate] = (certificate, *self.chains.get(issuer, ()))
            del self.refused[certificate]
            return

    def _check(self, certificate: x509.Certificate, issuer: x509.Certificate, *, is_ca: bool) -> None:
        check_validity(certificate, self.at)
        check_extensions(certificate)
        if is_ca:
            check_ca(certificate)
        check_issued(certificate, issuer)
        if not is_ca:
            _check_path_lengths(self.chains[issuer])


def _check_path_lengths(issuers: Chain) -> None:
    """Section 4.2.1.9: how many issuers may stand between a certificate and the leaf."""
    for between, certificate in enumerate(issuers):
        constraints = extension_of(certificate, x509.BasicConstraints)
        if constraints and constraints.path_length is not None and constraints.path_length < between:
            raise StepFailed(f"{name_of(certificate)} allows no chain of this length")
