"""Sealed bundles: nothing opens that was changed, cut, mixed, or meant for others."""

import dataclasses
import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import HeixiaError
from model_registry import bundle as bundles
from model_registry.bundle import (
    RecipientKey,
    RecipientSecret,
    SealedBundle,
    encode_content,
    open_bundle,
    seal_bundle,
)
from model_registry.errors import BundleInvalid, ManifestInvalid, SignatureInvalid
from model_registry.manifest import sign_manifest, verify_manifest
from tests.conftest import fixture_file
from tests.unit.bundles import CONTENT, KEY, KEYS, SECRET, SECRETS, manifest, sealed

GOOD = sealed()
OTHER = RecipientSecret(bytes(64), bytes(range(32)))


def take(bundle: SealedBundle) -> bytes:
    """Verifies and opens as the enclave does."""
    return open_bundle(bundle, verify_manifest(bundle.manifest_jws, KEYS), SECRETS)


def _flip(data: bytes, position: int, flip: int) -> bytes:
    at = position % len(data)
    return data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]


def test_a_good_bundle_opens() -> None:
    """The control."""
    assert take(GOOD) == CONTENT


@given(st.sampled_from(["manifest", "key", "ciphertext"]), st.integers(0), st.integers(1, 255))
def test_one_flipped_byte_anywhere_is_refused(part: str, position: int, flip: int) -> None:
    """Any byte of the manifest's token, the sealed key or the ciphertext, changed to any other."""
    if part == "manifest":
        token = _flip(GOOD.manifest_jws.encode(), position, flip).decode("latin-1")
        changed = dataclasses.replace(GOOD, manifest_jws=token)
    elif part == "key":
        changed = dataclasses.replace(GOOD, sealed_keys=(_flip(GOOD.sealed_keys[0], position, flip),))
    else:
        changed = dataclasses.replace(GOOD, ciphertext=_flip(GOOD.ciphertext, position, flip))
    with pytest.raises((SignatureInvalid, ManifestInvalid, BundleInvalid)):
        take(changed)


@given(st.integers(0, len(GOOD.ciphertext) - 1), st.integers(0, len(GOOD.sealed_keys[0]) - 1))
def test_cut_parts_are_refused(body: int, key: int) -> None:
    """Any prefix of ciphertext or sealed key, and either made longer."""
    for changed in (
        dataclasses.replace(GOOD, ciphertext=GOOD.ciphertext[:body]),
        dataclasses.replace(GOOD, sealed_keys=(GOOD.sealed_keys[0][:key],)),
        dataclasses.replace(GOOD, ciphertext=GOOD.ciphertext + bytes(1)),
        dataclasses.replace(GOOD, sealed_keys=(GOOD.sealed_keys[0] + bytes(1),)),
    ):
        with pytest.raises(BundleInvalid):
            take(changed)


def test_parts_of_two_bundles_do_not_mix() -> None:
    """The manifest is bound into both seals: fields and levels cannot be swapped under a content."""
    lower = manifest(levels=[0, 10])
    other = seal_bundle(CONTENT, sign_manifest(lower, KEY), [SECRET.public()])
    for changed in (
        dataclasses.replace(GOOD, manifest_jws=other.manifest_jws),
        dataclasses.replace(GOOD, sealed_keys=other.sealed_keys),
        dataclasses.replace(GOOD, ciphertext=other.ciphertext),
    ):
        with pytest.raises(BundleInvalid):
            take(changed)


def test_a_bundle_for_others_does_not_open() -> None:
    """Sealed to another key under its own id, under ours, or with a seal too many or too few."""
    token = sign_manifest(manifest(recipients=[OTHER.public().key_id]), KEY)
    with pytest.raises(BundleInvalid, match="recipient"):
        take(seal_bundle(CONTENT, token, [OTHER.public()]))
    with pytest.raises(BundleInvalid, match="HPKE"):
        take(seal_bundle(CONTENT, GOOD.manifest_jws, [OTHER.public()]))
    for keys in ((), GOOD.sealed_keys * 2):
        with pytest.raises(BundleInvalid):
            take(dataclasses.replace(GOOD, sealed_keys=keys))


def test_each_of_two_recipients_opens_it() -> None:
    """Two enclaves may be named; each opens with its own key."""
    both = [OTHER.public(), SECRET.public()]
    declared = manifest(recipients=[key.key_id for key in both])
    made = seal_bundle(CONTENT, sign_manifest(declared, KEY), both)
    assert open_bundle(made, declared, SECRETS) == CONTENT
    assert open_bundle(made, declared, {OTHER.public().key_id: OTHER}) == CONTENT


def test_content_of_another_digest_is_refused() -> None:
    """A bank that declares one content and seals another is told so."""
    made = seal_bundle(encode_content(b"other", b"", []), GOOD.manifest_jws, [SECRET.public()])
    with pytest.raises(BundleInvalid, match="digest"):
        take(made)


def test_refusals_say_nothing_of_the_content() -> None:
    """Whatever fails, neither text nor detail holds a byte of what was sealed."""
    for changed in (
        dataclasses.replace(GOOD, ciphertext=GOOD.ciphertext[:-1]),
        dataclasses.replace(GOOD, sealed_keys=(b"x",)),
    ):
        with pytest.raises(HeixiaError) as refusal:
            take(changed)
        assert "model" not in str(refusal.value)
        assert "rules" not in refusal.value.public


def test_sizes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Content above the limit is not sealed, ciphertext above it is not opened."""
    monkeypatch.setattr(bundles, "CONTENT_BYTES_MAX", 10)
    with pytest.raises(BundleInvalid):
        encode_content(bytes(20), b"", [])
    monkeypatch.setattr(bundles, "CIPHERTEXT_BYTES_MAX", 10)
    with pytest.raises(BundleInvalid):
        take(GOOD)


@pytest.mark.parametrize("raw", [b"", bytes(100), bytes(1216), bytes(1184) + b"\xff" * 31, SECRET.public().raw + b"x"])
def test_bytes_that_are_no_key_are_refused(raw: bytes) -> None:
    """A recipient key of a wrong length is refused when it is used to seal; none is repaired."""
    if len(raw) == 1216:
        assert RecipientKey(raw).key_id == hashlib.sha256(raw).hexdigest()[:16]
        return
    with pytest.raises(BundleInvalid):
        RecipientKey(raw).public()


def test_seals_are_fresh() -> None:
    """The same content sealed twice shares no bytes of nonce, key or ciphertext."""
    again = sealed()
    assert again.ciphertext != GOOD.ciphertext
    assert again.ciphertext[:12] != GOOD.ciphertext[:12]
    assert again.sealed_keys != GOOD.sealed_keys
    assert again.bundle_hash != GOOD.bundle_hash


VECTOR = "crypto/hpke/pq_mlkem768_x25519_hkdfsha256_chacha20poly1305_base.json"


def vector() -> dict[str, Any]:
    """The published vector of our KEM."""
    loaded = json.loads(fixture_file(VECTOR).read_text())
    entry: dict[str, Any] = loaded[0] if isinstance(loaded, list) else loaded
    return entry


def recipient_of(entry: dict[str, Any]) -> RecipientSecret:
    """The vector's private key: its 32-byte seed through SHAKE-256 gives the seeds of both parts (X-Wing style)."""
    expanded = hashlib.shake_256(bytes.fromhex(entry["skRm"])).digest(96)
    return RecipientSecret(expanded[:64], expanded[64:])


def test_public_keys_are_those_of_the_published_vector() -> None:
    """From the vector's seed our key pair has the vector's public key, byte for byte in our order of parts."""
    entry = vector()
    assert recipient_of(entry).public().raw.hex() == entry["pkRm"]


def test_encapsulated_keys_of_the_published_vector_decapsulate() -> None:
    """A seal made for the vector's key opens with it; the vector's encapsulation has the length that ours has."""
    entry = vector()
    secret = recipient_of(entry)
    private: MLKEM768X25519PrivateKey = secret.private()
    suite = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
    sealed_text = suite.encrypt(b"text", secret.public().public(), info=bytes.fromhex(entry["info"]))
    assert suite.decrypt(sealed_text, private, info=bytes.fromhex(entry["info"])) == b"text"
    assert len(sealed_text) == len(bytes.fromhex(entry["enc"])) + len(b"text") + 16
