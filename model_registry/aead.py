"""Sealing of single values for storage: AES-256-GCM with a random nonce in front.

Source: NIST SP 800-38D; with random 96-bit nonces a key seals fewer than 2^32 values.
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from model_registry.errors import StoredValueCorrupt

NONCE_BYTES = 12


def seal(cipher: AESGCM, plaintext: bytes, bound: bytes) -> bytes:
    """Nonce ‖ ciphertext ‖ tag; `bound` is the associated data, without which it does not open."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, plaintext, bound)


def unseal(cipher: AESGCM, sealed: bytes, bound: bytes) -> bytes:
    """Undoes seal; raises StoredValueCorrupt where bytes or associated data were changed."""
    try:
        return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound)
    except (InvalidTag, ValueError) as error:
        raise StoredValueCorrupt("a sealed value does not open") from error
