"""Sealed bundles: content encrypted once, its key sealed to each recipient, both bound to the manifest.

Format (docs/formats.md, "Sealed bundle"): ciphertext = nonce (12) ‖ AES-256-GCM(key, content), its associated data
SHA-256(manifest JWS). Each sealed key = single-shot HPKE (RFC 9180) of the 32-byte key, MLKEM768-X25519 / HKDF-SHA256 /
AES-256-GCM, info = "heixia bundle v1" ‖ SHA-256(manifest JWS).
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from heixia.registry.v1 import bundle_pb2

from model_registry.errors import BundleInvalid
from model_registry.manifest import Digests, Manifest, manifest_hash

SUITE_NAME = "MLKEM768-X25519, HKDF-SHA256, AES-256-GCM"
CONTENT_BYTES_MAX = 64 * 1024 * 1024  # a 300-tree model is 1-5 MB; admission must inspect it in memory
NONCE_BYTES = 12
TAG_BYTES = 16
KEY_BYTES = 32
SEALED_KEY_BYTES = 1168  # encapsulation 1,120 (ML-KEM-768 1,088 and X25519 32), key 32, tag 16
CIPHERTEXT_BYTES_MAX = CONTENT_BYTES_MAX + NONCE_BYTES + TAG_BYTES
_MLKEM_PUBLIC_BYTES = 1184  # FIPS 203, table 3
_INFO = b"heixia bundle v1"
_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


@dataclass(frozen=True)
class RecipientKey:
    """An enclave's public HPKE key: raw ML-KEM-768 key (1,184 bytes) ‖ raw X25519 key (32 bytes)."""

    raw: bytes

    @property
    def key_id(self) -> str:
        """First 8 bytes of SHA-256 of the raw key, hex."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def public(self) -> MLKEM768X25519PublicKey:
        """The key object; raises BundleInvalid where the bytes are none."""
        try:
            kem = mlkem.MLKEM768PublicKey.from_public_bytes(self.raw[:_MLKEM_PUBLIC_BYTES])
            ecdh = x25519.X25519PublicKey.from_public_bytes(self.raw[_MLKEM_PUBLIC_BYTES:])
        except ValueError as error:
            raise BundleInvalid("recipient key", public="not an MLKEM768-X25519 public key") from error
        return MLKEM768X25519PublicKey(kem, ecdh)


@dataclass(frozen=True)
class RecipientSecret:
    """An enclave's private HPKE key, made from two seeds so that it can be derived from the root secret."""

    mlkem_seed: bytes = field(repr=False)  # 64
    x25519_seed: bytes = field(repr=False)  # 32

    def private(self) -> MLKEM768X25519PrivateKey:
        """The key object."""
        return MLKEM768X25519PrivateKey(*self._parts())

    def public(self) -> RecipientKey:
        """The public half."""
        kem, ecdh = self._parts()
        return RecipientKey(kem.public_key().public_bytes_raw() + ecdh.public_key().public_bytes_raw())

    def _parts(self) -> tuple[mlkem.MLKEM768PrivateKey, x25519.X25519PrivateKey]:
        return (
            mlkem.MLKEM768PrivateKey.from_seed_bytes(self.mlkem_seed),
            x25519.X25519PrivateKey.from_private_bytes(self.x25519_seed),
        )


@dataclass(frozen=True)
class SealedBundle:
    """What a bank uploads; nobody but a recipient can open it."""

    manifest_jws: str
    sealed_keys: tuple[bytes, ...]
    ciphertext: bytes

    @property
    def bundle_hash(self) -> str:
        """SHA-256 of the ciphertext, hex: names the bundle in the log and tells nothing of its content."""
        return hashlib.sha256(self.ciphertext).hexdigest()


@dataclass(frozen=True)
class Sample:
    """A parity sample: a row in manifest field order (NaN = missing) and the limit the bank computed."""

    vector: tuple[float, ...]
    limit_yuan: int


def encode_content(model: bytes, rules: bytes, samples: Sequence[Sample]) -> bytes:
    """The content as deterministic protobuf bytes; raises BundleInvalid above CONTENT_BYTES_MAX."""
    content = bundle_pb2.BundleContent(
        model=model,
        rules=rules,
        samples=[bundle_pb2.ParitySample(vector=s.vector, limit_yuan=s.limit_yuan) for s in samples],
    ).SerializeToString(deterministic=True)
    if len(content) > CONTENT_BYTES_MAX:
        raise BundleInvalid("size", public=f"the content is larger than {CONTENT_BYTES_MAX // 2**20} MiB")
    return content


def digests_of(model: bytes, rules: bytes, content: bytes) -> Digests:
    """The digests a manifest declares."""
    hashes = [hashlib.sha256(part).hexdigest() for part in (content, model, rules)]
    return Digests(bundle=hashes[0], model=hashes[1], rules=hashes[2])


def seal_bundle(content: bytes, manifest_jws: str, recipients: Sequence[RecipientKey]) -> SealedBundle:
    """Encrypts the content and seals its key to each recipient, in the order of the manifest's `recipients`."""
    key, nonce, bound = AESGCM.generate_key(256), os.urandom(NONCE_BYTES), manifest_hash(manifest_jws)
    ciphertext = nonce + AESGCM(key).encrypt(nonce, content, bound)
    sealed = tuple(seal_key(key, recipient, bound) for recipient in recipients)
    return SealedBundle(manifest_jws, sealed, ciphertext)


def open_bundle(bundle: SealedBundle, manifest: Manifest, secrets: Mapping[str, RecipientSecret]) -> bytes:
    """Opens a bundle whose manifest has been verified; as open_uploaded, without the content's key."""
    return open_uploaded(bundle, manifest, secrets)[0]


def open_uploaded(
    bundle: SealedBundle, manifest: Manifest, secrets: Mapping[str, RecipientSecret]
) -> tuple[bytes, bytes]:
    """Opens a bundle whose manifest has been verified.

    Args:
        bundle: the sealed bundle.
        manifest: the verified manifest of `bundle.manifest_jws`.
        secrets: the enclave's private keys by key id.

    Returns:
        The plaintext content, which is not parsed here (that is done behind the walls), and the key that it is
        encrypted with.

    Raises:
        BundleInvalid: which check failed, and nothing about the content.
    """
    bound = manifest_hash(bundle.manifest_jws)
    key = _open_key(bundle, manifest, secrets, bound)
    return open_ciphertext(bundle.ciphertext, key, bound, manifest), key


def open_ciphertext(ciphertext: bytes, key: bytes, bound: bytes, manifest: Manifest) -> bytes:
    """Decrypts content with its key, `bound` to its manifest's hash; raises BundleInvalid."""
    if not NONCE_BYTES + TAG_BYTES <= len(ciphertext) <= CIPHERTEXT_BYTES_MAX:
        raise BundleInvalid("ciphertext size", public="ciphertext: cut or too large")
    nonce, sealed = ciphertext[:NONCE_BYTES], ciphertext[NONCE_BYTES:]
    try:
        content = AESGCM(key).decrypt(nonce, sealed, bound)
    except (InvalidTag, ValueError) as error:
        raise BundleInvalid("AEAD", public="ciphertext: changed, or bound to another manifest") from error
    if hashlib.sha256(content).hexdigest() != manifest.digests.bundle:
        raise BundleInvalid("digest", public="content: not the one whose digest the manifest declares")
    return content


def seal_key(key: bytes, recipient: RecipientKey, bound: bytes) -> bytes:
    """A content's key sealed to a recipient, `bound` to its manifest's hash."""
    return _SUITE.encrypt(key, recipient.public(), info=_INFO + bound)


def open_key(sealed: bytes, secret: RecipientSecret, bound: bytes) -> bytes:
    """Undoes seal_key; raises BundleInvalid."""
    try:
        key = _SUITE.decrypt(sealed, secret.private(), info=_INFO + bound)
    except (InvalidTag, ValueError) as error:
        raise BundleInvalid("HPKE", public="sealed key: changed, or bound to another manifest") from error
    if len(key) != KEY_BYTES:
        raise BundleInvalid("HPKE", public=f"sealed key: of another length than {KEY_BYTES} bytes")
    return key


def _open_key(bundle: SealedBundle, manifest: Manifest, secrets: Mapping[str, RecipientSecret], bound: bytes) -> bytes:
    if [len(sealed) for sealed in bundle.sealed_keys] != [SEALED_KEY_BYTES] * len(manifest.recipients):
        public = f"sealed keys: one of {SEALED_KEY_BYTES} bytes for each of the manifest's recipients is wanted"
        raise BundleInvalid("sealed keys", public=public)
    for key_id, sealed in zip(manifest.recipients, bundle.sealed_keys, strict=True):
        if (secret := secrets.get(key_id)) is not None:
            return open_key(sealed, secret, bound)
    public = "recipient: sealed to no key that this enclave takes (keys are rotated); fetch fresh evidence, seal again"
    raise BundleInvalid("recipient", public=public)
