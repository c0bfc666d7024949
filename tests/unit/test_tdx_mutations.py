"""TDX quotes changed by a bit, by a splice, by rubbish: refused, and never an exception."""

import base64
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_api.attestation.hardware import Material
from enclave_api.attestation.steps import StepFailed
from enclave_api.attestation.tdx_collateral import verified_by
from enclave_api.attestation.tdx_quote import parse_quote
from enclave_api.attestation.verify_tdx import (
    GUEST,
    STEPS,
    verify_tdx,
)
from tests.unit.tdx_machine import (
    NOW,
    SVN15,
    Scene,
    body,
    bound,
    failed,
    flipped,
    outcomes,
    pck,
    vendor,
)

GOOD = Scene()
NEWER = body(tee_tcb_svn=SVN15, tee_tcb_svn2=SVN15)
OF_EACH = (GOOD, Scene(version=5), Scene(version=5, body=NEWER))
POLICY = GOOD.tdx_policy()


def bindings_hold(content: bytes) -> bool:
    """Whether it is a quote whose three bindings hold: QE report by PCK, key in QE report, quote by key."""
    try:
        quote = parse_quote(content)
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + quote.attestation_key)
    except (StepFailed, ValueError):
        return False
    return (
        quote.qe_report.report_data == bound(quote.attestation_key, quote.qe_auth_data)
        and verified_by(key, quote.signature, quote.signed)
        and verified_by(pck().key.public_key(), quote.qe_signature, quote.qe_report.raw)
    )


SIGNED_PARTS = {"header and body": (0, 702), "attestation key": (770, 64), "QE report and its signature": (840, 448)}


@pytest.mark.parametrize("part", [*SIGNED_PARTS, "authentication data"])
def test_every_bit_of_what_is_signed_is_bound(part: str) -> None:
    """Each single bit of a version 5 quote: either it cannot be read, or one of three bindings breaks."""
    content = Scene(version=5, body=NEWER).quote
    start, length = SIGNED_PARTS.get(part, (1290, 32))
    assert bindings_hold(content)
    assert not [bit for bit in range(8 * start, 8 * (start + length)) if bindings_hold(flipped(content, bit))]


@pytest.mark.parametrize("scene", OF_EACH, ids=["4", "5 of TDX 1.0", "5 of TDX 1.5"])
def test_flipped_bits_fail_the_whole_verifier(scene: Scene) -> None:
    """One bit of every ninth byte up to the PCK chain, through all steps; never a step of the guest passes after it."""
    content, given = scene.quote, scene.material
    end = len(scene.signed) + 4 + 128 + 6 + 384 + 64 + 2 + 32 + 6
    for byte in range(0, end, 9):
        verdict = verify_tdx(flipped(content, 8 * byte + byte % 8), given, POLICY, NOW)
        assert failed(verdict), byte
        assert "passed" not in {outcomes(verdict)[step] for step in GUEST}, byte


def test_flipped_bits_of_the_certificate_are_refused() -> None:
    """The PCK certificate is bound by its issuer's signature; its own bytes lie beyond the quote's signature."""
    der = pck().certificate.public_bytes(Encoding.DER)
    for bit in range(8 * 4, 8 * len(der), 61):
        assert failed(GOOD.verdict(with_certificate(flipped(der, bit)))), bit


def with_certificate(der: bytes) -> bytes:
    """The good quote with other bytes in the place of its PCK certificate."""
    pem = f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(der).decode()}-----END CERTIFICATE-----\n"
    return GOOD.but(chain=pem + vendor().ca.pem + vendor().root.pem).quote


@given(st.binary(max_size=2000))
def test_random_bytes_never_raise_and_never_pass(content: bytes) -> None:
    """Whatever is no quote fails the first step; everything else is skipped."""
    verdict = verify_tdx(content, GOOD.material, POLICY, NOW)
    assert list(outcomes(verdict).values()) == ["failed"] + ["skipped"] * (len(STEPS) - 1)
    assert verdict.report_data == b""


@settings(max_examples=200)
@given(st.integers(0, 6000), st.binary(min_size=1, max_size=40), st.booleans())
def test_spliced_quotes_never_raise(at: int, piece: bytes, insert: bool) -> None:
    """Bytes written over a good quote or put into it: never an exception, never accepted unless nothing changed."""
    content = GOOD.quote
    changed = content[:at] + piece + content[at if insert else at + len(piece) :]
    verdict = verify_tdx(changed, GOOD.material, POLICY, NOW)
    assert [step.name for step in verdict.steps] == list(STEPS)
    if changed[: len(content)] != content and at < 1322:
        assert failed(verdict)


@settings(max_examples=200)
@given(st.sampled_from(["info", "identity", "crls", "certificates"]), st.data())
def test_random_material_never_raises_and_never_helps(member: str, data: st.DataObject) -> None:
    """Rubbish in the place of one file fails a step; rubbish beside all good files changes nothing."""
    rubbish = data.draw(st.binary(max_size=300) | st.sampled_from([b"{}", b"[]", b'{"tcbInfo":{}}', b"[" * 5000]))
    whole, tail = GOOD.material, (rubbish,)
    documents = {"info": (GOOD.identity, *tail), "identity": (GOOD.info, *tail)}.get(member, whole.documents)
    spoilt = replace(whole, documents=documents, **({member: tail} if hasattr(whole, member) else {}))
    assert failed(verify_tdx(GOOD.quote, spoilt, POLICY, NOW))
    more = Material((*tail, *whole.certificates), (*tail, *whole.crls), (*tail, *whole.documents))
    assert verify_tdx(GOOD.quote, more, POLICY, NOW) == GOOD.verdict()
