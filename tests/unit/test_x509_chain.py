"""Chains of certificates to a pinned root, and revocation lists: each condition broken alone."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from enclave_api.attestation.steps import StepFailed
from enclave_api.attestation.x509_chain import (
    Revoked,
    certificates_of,
    chain_to_root,
    check_not_revoked,
    fingerprint,
    name_of,
    readable_certificates,
)

AT = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
KEYS = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("root", "ca", "leaf", "other")}
CA = x509.BasicConstraints(ca=True, path_length=None)


def named(name: str) -> x509.Name:
    """A name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def issue(
    name: str,
    issuer: str,
    *extensions: tuple[x509.ExtensionType, bool],
    key: Any = None,
    by: Any = None,
    begin: datetime = AT - DAY,
    end: datetime = AT + DAY,
) -> x509.Certificate:
    """A certificate of a name, signed by another's key."""
    builder = x509.CertificateBuilder().subject_name(named(name)).issuer_name(named(issuer))
    builder = builder.public_key((key or KEYS[name]).public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(begin).not_valid_after(end)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(by or KEYS[issuer], hashes.SHA256())


def usage(*, certificates: bool, lists: bool) -> x509.KeyUsage:
    """What a key may sign."""
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=lists,
        encipher_only=False,
        decipher_only=False,
    )


ROOT = issue("root", "root", (CA, True))
MIDDLE = issue("ca", "root", (CA, True))
LEAF = issue("leaf", "ca")
ROOTS = {fingerprint(ROOT)}


def chain(*certificates: x509.Certificate, at: datetime = AT, roots: set[str] = ROOTS) -> list[str]:
    """Names of the chain of the first among the others."""
    return [name_of(c) for c in chain_to_root(certificates[0], certificates, roots, at)]


def crl(*serials: int, by: str = "ca", issuer: str = "ca", since: datetime = AT - DAY, **more: Any) -> bytes:
    """A list, DER."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(named(issuer)).last_update(since)
    builder = builder.next_update(more.get("until", AT + DAY))
    for serial in serials:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(since).build()
        )
    if "scope" in more:
        builder = builder.add_extension(more["scope"], critical=True)
    return builder.sign(KEYS[by], hashes.SHA256()).public_bytes(Encoding.DER)


DELTA = x509.DeltaCRLIndicator(1)
PLACE = x509.UniformResourceIdentifier("http://example.com/crl")


def scope(**members: Any) -> x509.IssuingDistributionPoint:
    """What a list is about; everything by default."""
    nothing: dict[str, Any] = {
        "full_name": None,
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    return x509.IssuingDistributionPoint(**{**nothing, **members})


def test_a_chain_is_found_in_any_order_among_others() -> None:
    """Leaf first, root last; a root may also sign the leaf itself, or through two issuers."""
    stranger = issue("other", "other", (CA, True))
    assert chain(LEAF, stranger, ROOT, MIDDLE) == ["leaf", "ca", "root"]
    assert chain(issue("leaf", "root"), ROOT) == ["leaf", "root"]
    deeper = issue("other", "ca", (CA, True))
    assert chain(issue("leaf", "other"), deeper, MIDDLE, ROOT) == ["leaf", "other", "ca", "root"]


@pytest.mark.parametrize(
    ("middle", "reason"),
    [
        (issue("ca", "root", (CA, True), end=AT - DAY / 2), "valid from"),
        (issue("ca", "root", (CA, True), begin=AT + DAY / 2), "valid from"),
        (issue("ca", "root"), "may not sign certificates"),
        (issue("ca", "root", (x509.BasicConstraints(ca=False, path_length=None), True)), "may not sign certificates"),
        (issue("ca", "root", (CA, True), (usage(certificates=False, lists=True), True)), "may not sign certificates"),
        (issue("ca", "root", (CA, True), by=KEYS["other"]), "not signed by root"),
        (issue("ca", "other", (CA, True)), "no trusted certificate of other"),
        (issue("ca", "root", (CA, True), key=KEYS["other"]), "leaf is not signed by ca"),
        (
            issue("ca", "root", (CA, True), (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"x"), True)),
            "unknown critical extension 1.2.3",
        ),
    ],
)
def test_a_bad_issuer_refuses_the_leaf_with_its_own_reason(middle: x509.Certificate, reason: str) -> None:
    """What is wrong with the issuer is what the reader is told."""
    with pytest.raises(StepFailed, match=reason):
        chain(LEAF, middle, ROOT)


@pytest.mark.parametrize(
    ("leaf", "reason"),
    [
        (issue("leaf", "ca", end=AT - DAY / 2), "valid from"),
        (issue("leaf", "ca", by=KEYS["other"]), "not signed by ca"),
        (issue("leaf", "root", by=KEYS["ca"]), "not signed by root"),
        (issue("leaf", "other"), "no trusted certificate of other"),
    ],
)
def test_a_bad_leaf_is_refused(leaf: x509.Certificate, reason: str) -> None:
    """Its own time, signature and issuer."""
    with pytest.raises(StepFailed, match=reason):
        chain(leaf, MIDDLE, ROOT)


def test_a_path_length_holds() -> None:
    """A root that allows no issuer below it."""
    short = issue("root", "root", (x509.BasicConstraints(ca=True, path_length=0), True))
    with pytest.raises(StepFailed, match="allows no chain of this length"):
        chain(LEAF, MIDDLE, short, roots={fingerprint(short)})
    assert chain(issue("leaf", "root"), short, roots={fingerprint(short)}) == ["leaf", "root"]


def test_only_pinned_roots_are_roots() -> None:
    """The same name and even the same key in another certificate is another root; an issuer is none."""
    again = issue("root", "root", (CA, True))
    with pytest.raises(StepFailed, match="no root certificate"):
        chain(LEAF, MIDDLE, again)
    with pytest.raises(StepFailed, match="no trusted certificate of root"):
        chain(LEAF, MIDDLE, ROOT, roots={fingerprint(MIDDLE)})
    assert chain(LEAF, MIDDLE, again, ROOT) == ["leaf", "ca", "root"]
    with pytest.raises(StepFailed, match="no root certificate"):
        chain(ROOT)


def test_a_root_that_ended_is_none() -> None:
    """Pinning does not outlive the certificate."""
    old = issue("root", "root", (CA, True), end=AT - DAY / 2)
    with pytest.raises(StepFailed, match="root is valid from"):
        chain(LEAF, MIDDLE, old, roots={fingerprint(old)})


def test_small_keys_sign_nothing() -> None:
    """RSA of 1,024 bits."""
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    root = issue("root", "root", (CA, True), key=weak, by=weak)
    with pytest.raises(StepFailed, match="not accepted"):
        chain(issue("leaf", "root", by=weak), root, roots={fingerprint(root)})


def revoked(*crls: bytes, issuer: x509.Certificate = MIDDLE) -> bool:
    """What lists say of the leaf."""
    return check_not_revoked(LEAF, issuer, crls, AT)


def test_lists_that_say_nothing_about_the_certificate() -> None:
    """Current and without it: True. None of that issuer: False."""
    assert revoked(crl(1, 2))
    assert revoked(b"junk", crl(until=AT), crl(since=AT))
    assert revoked(crl(scope=scope(only_contains_user_certs=True)))
    assert not revoked()
    assert not revoked(b"junk", crl(issuer="root", by="root"))


@pytest.mark.parametrize(
    "crls",
    [
        [crl(LEAF.serial_number)],
        [crl(), crl(LEAF.serial_number)],
        [crl(LEAF.serial_number), crl()],
        [crl(), crl(LEAF.serial_number, until=AT - DAY / 2)],
        [crl(), crl(LEAF.serial_number, scope=DELTA)],
    ],
)
def test_one_list_that_names_it_is_enough(crls: Sequence[bytes]) -> None:
    """Whatever other lists say, and also where that one is partial or has ended."""
    with pytest.raises(Revoked, match="leaf is revoked by ca"):
        revoked(*crls)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (crl(until=AT - DAY / 2), "ended at"),
        (crl(since=AT + DAY / 2), "after the time asked for"),
        (crl(by="other"), "not signed by it"),
        (crl(LEAF.serial_number, by="other"), "not signed by it"),
        (crl(scope=DELTA), "not about leaf"),
        (crl(scope=scope(only_contains_ca_certs=True)), "not about leaf"),
        (crl(scope=scope(indirect_crl=True)), "not about leaf"),
        (crl(scope=scope(only_some_reasons=frozenset([x509.ReasonFlags.superseded]))), "not about leaf"),
        (crl(scope=scope(full_name=[PLACE])), "not about leaf"),
    ],
)
def test_a_list_that_cannot_be_used_is_not_passed_over(bad: bytes, reason: str) -> None:
    """Unless another one can."""
    with pytest.raises(StepFailed, match=reason):
        revoked(bad)
    assert revoked(bad, crl())


def test_a_list_for_one_place_is_about_the_certificates_that_name_it() -> None:
    """The distribution point of list and certificate are compared."""
    point = x509.DistributionPoint(full_name=[PLACE], relative_name=None, reasons=None, crl_issuer=None)
    leaf = issue("leaf", "ca", (x509.CRLDistributionPoints([point]), False))
    assert check_not_revoked(leaf, MIDDLE, [crl(scope=scope(full_name=[PLACE]))], AT)


def test_an_issuer_that_may_not_sign_lists_signs_none() -> None:
    """By its key usage."""
    issuer = issue("ca", "root", (CA, True), (usage(certificates=True, lists=False), True))
    with pytest.raises(StepFailed, match="may not sign revocation lists"):
        revoked(crl(), issuer=issuer)


def test_pem_and_der_are_read() -> None:
    """Several in one PEM file, with text between them; what is none is left out."""
    ders = [c.public_bytes(Encoding.DER) for c in (ROOT, MIDDLE)]
    pem = ROOT.public_bytes(Encoding.PEM) + b"some words\n" + MIDDLE.public_bytes(Encoding.PEM)
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    assert certificates_of(pem + broken) == tuple(ders)
    # each BEGIN is looked at by itself: a million of them without an END must not be searched through for each
    assert certificates_of(b"-----BEGIN CERTIFICATE-----\nAAAA\n" + pem) == tuple(ders)
    assert certificates_of(ders[0]) == (ders[0],)
    unknown_version = ders[0].replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07", 1)
    assert readable_certificates([*ders, *ders, b"", b"junk", ders[0] + b"\0", unknown_version]) == [ROOT, MIDDLE]


def test_names_in_reasons_are_short_ascii() -> None:
    """A stranger's text."""
    loud = issue("leaf", "root", key=KEYS["leaf"])
    assert name_of(loud) == "leaf"
    strange = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ü\n" + "x" * 60)])
    builder = x509.CertificateBuilder().subject_name(strange).issuer_name(strange).public_key(KEYS["leaf"].public_key())
    made = builder.serial_number(1).not_valid_before(AT).not_valid_after(AT + DAY).sign(KEYS["leaf"], hashes.SHA256())
    assert name_of(made).isprintable()
    assert name_of(made).isascii()
    assert len(name_of(made)) <= 48


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(0, 10_000), st.integers(1, 255))
def test_no_bytes_raise_anything_else(junk: list[bytes], position: int, change: int) -> None:
    """Junk and changed certificates as certificates and as lists: refused."""
    bad = bytearray(MIDDLE.public_bytes(Encoding.DER))
    bad[position % len(bad)] ^= change
    found = readable_certificates([*junk, bytes(bad)])
    with pytest.raises(StepFailed):
        chain_to_root(LEAF, [*found, ROOT], ROOTS, AT)
    damaged = bytearray(crl(LEAF.serial_number))
    damaged[position % len(damaged)] ^= change
    assert not _accepts([*junk, bytes(damaged)])


def _accepts(crls: Sequence[bytes]) -> bool:
    try:
        return revoked(*crls)
    except StepFailed:
        return False
