"""Revocation lists of X.509, from files (RFC 5280; its sections are named). Nothing is fetched."""

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509

from enclave_api.attestation.steps import StepFailed
from enclave_api.attestation.x509_certificates import (
    HASHES,
    MALFORMED,
    common_name,
    extension_of,
    is_strong,
    name_of,
)

CRL_BYTES_MAX = 16 * 2**20  # Intel's list of platforms may grow; today it has some KB


def check_not_revoked(
    certificate: x509.Certificate, issuer: x509.Certificate, crls: Sequence[bytes], at: datetime
) -> bool:
    """Whether a current list of the issuer was there and does not name the certificate (section 6.3).

    False where no list of that issuer is given. One list that names the certificate is enough, also where a newer or
    older one does not; a list of the issuer's that cannot be used is not passed over in silence, unless another can.

    Raises:
        StepFailed: it is revoked, or lists of the issuer are given and none can be used.
    """
    unusable = ""
    current = False
    for crl in [c for c in map(_crl, crls) if c is not None and c.issuer == issuer.subject]:
        try:
            _check_signature(crl, issuer, at)
            if crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
                raise Revoked(f"{name_of(certificate)} is revoked by {name_of(issuer)}")
            _check_current(crl, at)
            _check_scope(crl, certificate)
            current = True
        except Revoked:
            raise
        except StepFailed as error:
            unusable = str(error)
    if unusable and not current:
        raise StepFailed(unusable)
    return current


class Revoked(StepFailed):
    """A certificate that its issuer's list names."""


def _crl(der: bytes) -> x509.CertificateRevocationList | None:
    """None for bytes that are no list; a malformed list of a known issuer is no list of that issuer."""
    if len(der) > CRL_BYTES_MAX:
        return None
    try:
        found = x509.load_der_x509_crl(der)
        _ = (found.issuer, list(found.extensions), found.last_update_utc, found.next_update_utc)
        _ = (found.signature_hash_algorithm, len(found))
    except MALFORMED:
        return None
    return found


def _check_signature(crl: x509.CertificateRevocationList, issuer: x509.Certificate, at: datetime) -> None:
    by = name_of(issuer)
    usage = extension_of(issuer, x509.KeyUsage)
    key = issuer.public_key()
    if usage is not None and not usage.crl_sign:
        raise StepFailed(f"{by} may not sign revocation lists")
    if not isinstance(crl.signature_hash_algorithm, HASHES) or not is_strong(key):
        raise StepFailed(f"the revocation list of {by} is signed with an algorithm that is not accepted")
    try:
        signed = crl.is_signature_valid(key)  # type: ignore[arg-type] # is_strong: RSA or EC
    except MALFORMED:
        signed = False
    if not signed:
        raise StepFailed(f"the revocation list of {by} is not signed by it")
    if crl.last_update_utc > at:
        raise StepFailed(
            f"the revocation list of {by} is from {crl.last_update_utc:%Y-%m-%d}, after the time asked for"
        )


def _check_current(crl: x509.CertificateRevocationList, at: datetime) -> None:
    """Section 5.1.2.5: not past its next update, which must be named."""
    by = common_name(crl.issuer)
    if crl.next_update_utc is None or at > crl.next_update_utc:
        end = "" if crl.next_update_utc is None else f" at {crl.next_update_utc:%Y-%m-%d}"
        raise StepFailed(f"the revocation list of {by} ended{end}; fetch the current one")


def _check_scope(crl: x509.CertificateRevocationList, certificate: x509.Certificate) -> None:
    """Sections 5.2.4 and 5.2.5: no delta, and not only about other certificates."""
    for extension in crl.extensions:
        if isinstance(extension.value, x509.IssuingDistributionPoint):
            covers = _covers(extension.value, certificate)
        else:
            covers = not extension.critical
        if not covers:
            raise StepFailed(f"the revocation list of {common_name(crl.issuer)} is not about {name_of(certificate)}")


def _covers(scope: x509.IssuingDistributionPoint, certificate: x509.Certificate) -> bool:
    constraints = extension_of(certificate, x509.BasicConstraints)
    points = extension_of(certificate, x509.CRLDistributionPoints)
    places = {place for point in points or () for place in point.full_name or ()}
    elsewhere = scope.full_name is not None and places.isdisjoint(scope.full_name)
    other_kind = scope.only_contains_user_certs if constraints and constraints.ca else scope.only_contains_ca_certs
    partial = scope.indirect_crl or scope.only_contains_attribute_certs or scope.only_some_reasons
    return not (elsewhere or other_kind or partial or scope.relative_name)
