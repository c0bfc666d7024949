"""Keys of the vault: what hides subjects and records from whoever holds the database.

Row key, tag and record key are independent (three HMAC / HKDF keys), so that a tag read in the log finds no row.
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from model_registry.aead import seal, unseal


@dataclass(frozen=True)
class VaultKeys:
    """The four keys of the vault, 32 bytes each; made by enclave_api/keys.py."""

    records: bytes = field(repr=False)
    rows: bytes = field(repr=False)
    tags: bytes = field(repr=False)
    subjects: bytes = field(repr=False)

    def subject_tag(self, subject: str) -> str:
        """How the log names a subject: HMAC-SHA-256(tag key, subject)[:16], hex."""
        return hmac.digest(self.tags, subject.encode(), "sha256")[:16].hex()

    def row_key(self, subject: str) -> bytes:
        """How the vault names a subject: HMAC-SHA-256(row key, subject), 32 bytes."""
        return hmac.digest(self.rows, subject.encode(), "sha256")

    def input_hash(self, *parts: bytes) -> str:
        """How the database names what an answer was computed from, hex; keyed, for record versions can be tried out."""
        return hmac.digest(self.tags, b"heixia input v1\n" + digest(*parts).encode(), "sha256").hex()

    def record_cipher(self, dataset: str) -> AESGCM:
        """AES-256-GCM under the dataset's own key."""
        return _record_cipher(self.records, dataset)

    def wrap_subject_key(self, tag: str, key: bytes) -> bytes:
        """A subject's random key, encrypted for storage; destroying the stored bytes erases the subject's payloads."""
        return seal(AESGCM(self.subjects), key, tag.encode())

    def unwrap_subject_key(self, tag: str, wrapped: bytes) -> AESGCM:
        """The cipher under a subject's key; raises StoredValueCorrupt."""
        return AESGCM(unseal(AESGCM(self.subjects), wrapped, tag.encode()))


@lru_cache(maxsize=256)
def _record_cipher(root: bytes, dataset: str) -> AESGCM:
    return AESGCM(HKDFExpand(SHA256(), 32, b"heixia v1 records " + dataset.encode()).derive(root))


def digest(*parts: bytes) -> str:
    """SHA-256, hex, of length-prefixed parts: no two lists of parts collide by moving a boundary."""
    state = hashlib.sha256()
    for part in parts:
        state.update(len(part).to_bytes(8, "big"))
        state.update(part)
    return state.hexdigest()
