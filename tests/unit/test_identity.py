"""Client certificate → principal: one name, one spelling, one trust domain."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from enclave_api.dev_ca import DevCa
from enclave_api.errors import Unauthenticated
from enclave_api.identity import Principal, Role, parse_uri, principal_of

DOMAIN = "heixia.test"
NOW = datetime(2026, 11, 23, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
GOOD = [
    Principal(Role.INSTITUTION, "zhongyuan", "alice"),
    Principal(Role.INSTITUTION, "zhongyuan", "alice.li_2-x"),
    Principal(Role.APPLICATION, "portal"),
    Principal(Role.AUTHORITY, "consent-office"),
    Principal(Role.STEWARD, "market_regulation"),
    Principal(Role.AUDITOR, "audit-office"),
    Principal(Role.OPERATOR, "operations"),
    Principal(Role.SUBJECT, "uscc:91350100M000100Y43"),
]


def certificate(names: Sequence[x509.GeneralName]) -> bytes:
    """A self-signed certificate with SANs; TLS, not this code, checks who signed it."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "operator/operations")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    return builder.sign(KEY, SHA256()).public_bytes(Encoding.PEM)


@pytest.mark.parametrize("principal", GOOD, ids=str)
def test_names_come_back_as_they_were_written(principal: Principal) -> None:
    """URI and certificate of a principal read back as that principal."""
    assert parse_uri(principal.uri(DOMAIN), DOMAIN) == principal
    pem, _ = DevCa.create(DOMAIN, NOW).issue_client(principal, NOW)
    assert principal_of(pem, DOMAIN) == principal


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "spiffe://",
        "spiffe://heixia.test",
        "spiffe://heixia.test/",
        "spiffe://heixia.test/operator",
        "spiffe://heixia.test/operator/",
        "spiffe://heixia.test//operations",
        "spiffe://heixia.test/operator/operations/",
        "spiffe://heixia.test/operator/operations/a/b",
        "spiffe://heixia.test/operator/operations\n",
        "spiffe://heixia.test/operator/operations ",
        " spiffe://heixia.test/operator/operations",
        "spiffe://heixia.test/operator/operations?admin",
        "spiffe://heixia.test/operator/operations#x",
        "spiffe://heixia.test/operator/opera%74ions",
        "spiffe://heixia.test/operator/../operations",
        "spiffe://heixia.test/Operator/operations",
        "spiffe://heixia.test/root/operations",
        "spiffe://heixia.test/operator/9operations",
        "spiffe://heixia.test/operator/o",
        "spiffe://heixia.test/operator/" + "o" * 64,
        "spiffe://heixia.test/institution/zhongyuan/ALICE",
        "spiffe://heixia.test/institution/zhongyuan/" + "a" * 64,
        "spiffe://heixia.test/subject/zhongyuan",
        "spiffe://heixia.test/subject/uscc:91350100m000100y43",
        "spiffe://heixia.test/operator/uscc:91350100M000100Y43",
        "spiffe://heixia.tests/operator/operations",
        "spiffe://heixiaxtest/operator/operations",
        "spiffe://evil/heixia.test/operator/operations",
        "spiffe://heixia.test@evil/operator/operations",
        "spiffe://heixia.test:443/operator/operations",
        "SPIFFE://heixia.test/operator/operations",
        "https://heixia.test/operator/operations",
    ],
)
def test_other_names_are_nobody(uri: str) -> None:
    """Near misses of every part are refused."""
    with pytest.raises(Unauthenticated):
        parse_uri(uri, DOMAIN)


@given(st.text(max_size=80))
def test_any_text_is_a_principal_that_says_so_or_nobody(tail: str) -> None:
    """What is accepted writes itself back to the very same URI; everything else is Unauthenticated."""
    uri = f"spiffe://{DOMAIN}/{tail}"
    try:
        principal = parse_uri(uri, DOMAIN)
    except Unauthenticated:
        return
    assert principal.uri(DOMAIN) == uri


def test_a_certificate_has_exactly_one_uri() -> None:
    """None, two, or names of other kinds are nobody; the common name counts for nothing."""
    uri = x509.UniformResourceIdentifier(f"spiffe://{DOMAIN}/operator/operations")
    other = x509.UniformResourceIdentifier(f"spiffe://{DOMAIN}/auditor/audit-office")
    dns, mail = x509.DNSName("operations.heixia.test"), x509.RFC822Name("operations@heixia.test")
    assert principal_of(certificate([uri]), DOMAIN) == Principal(Role.OPERATOR, "operations")
    assert principal_of(certificate([dns, uri]), DOMAIN) == Principal(Role.OPERATOR, "operations")
    for names in ([], [dns], [mail], [uri, other], [uri, uri]):
        with pytest.raises(Unauthenticated):
            principal_of(certificate(names), DOMAIN)


@pytest.mark.parametrize("pem", [b"", b"noise", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_bytes_that_are_no_certificate_are_nobody(pem: bytes) -> None:
    """Damaged PEM is not an error of ours."""
    with pytest.raises(Unauthenticated):
        principal_of(pem, DOMAIN)


def test_a_subject_is_never_named() -> None:
    """What the log says of a subject's call does not hold its number."""
    assert str(Principal(Role.SUBJECT, "uscc:91350100M000100Y43")) == "subject"
    assert str(Principal(Role.INSTITUTION, "zhongyuan", "alice")) == "institution/zhongyuan/alice"


def test_trust_domains_do_not_share_a_cache() -> None:
    """The same certificate under another trust domain is judged anew."""
    pem = certificate([x509.UniformResourceIdentifier(f"spiffe://{DOMAIN}/operator/operations")])
    assert principal_of(pem, DOMAIN).role is Role.OPERATOR
    with pytest.raises(Unauthenticated):
        principal_of(pem, "other.test")
