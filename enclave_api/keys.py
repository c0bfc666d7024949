"""One root secret → every key of the enclave (docs/formats.md, "Keys").

The root makes two secrets and is forgotten. From `static` come the keys that are never rotated: ledger, vault, tags,
notes. The other is the first of a chain, the ratchet: each epoch's secret makes the next one's and that epoch's HPKE
key, and nothing leads back. So a rotation needs nothing but a step forward, and whoever keeps the secret of epoch n
has the keys of n and of all that follow, and of none before it.

Source: HKDF is RFC 5869; every secret here is uniform, so its expand step alone is enough (section 3.3).
"""

from dataclasses import dataclass, field
from functools import cached_property

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from model_registry.bundle import RecipientSecret
from sandbox.vault.sealing import VaultKeys

SECRET_BYTES = 32


def expand(secret: bytes, purpose: str, length: int = SECRET_BYTES) -> bytes:
    """Key bytes from a uniform secret; distinct purposes give independent ones."""
    return HKDFExpand(SHA256(), length, b"heixia v2 " + purpose.encode()).derive(secret)


@dataclass(frozen=True)
class Keys:
    """Everything that a keeper keeps: `static`, and the ratchet's secret of `epoch`, the oldest that is alive."""

    static: bytes = field(repr=False)
    epoch: int
    ratchet: bytes = field(repr=False)

    @classmethod
    def from_root(cls, root: bytes) -> "Keys":
        """The keys of a new home, at epoch 0; the root is needed no more."""
        return cls(expand(root, "static"), 0, expand(root, "ratchet"))

    def advanced(self, epoch: int) -> "Keys":
        """The same keys without those of the epochs before `epoch`; ValueError where that is gone already."""
        return Keys(self.static, epoch, self._ratchet_of(epoch))

    def recipient(self, epoch: int) -> RecipientSecret:
        """The HPKE key of an epoch, which banks seal to; ValueError where it is destroyed."""
        secret = self._ratchet_of(epoch)
        return RecipientSecret(expand(secret, "hpke mlkem768", 64), expand(secret, "hpke x25519"))

    def _ratchet_of(self, epoch: int) -> bytes:
        if epoch < self.epoch:
            raise ValueError(f"epoch {epoch} is destroyed; the oldest is {self.epoch}")
        secret = self.ratchet
        for _ in range(self.epoch, epoch):
            secret = expand(secret, "next epoch")
        return secret

    def derive(self, purpose: str, length: int = SECRET_BYTES) -> bytes:
        """Key bytes that are never rotated."""
        return expand(self.static, purpose, length)

    @cached_property
    def ledger_seed(self) -> bytes:
        """Ed25519 seed that signs checkpoints."""
        return self.derive("ledger ed25519")

    @cached_property
    def ledger_ml_dsa_seed(self) -> bytes:
        """ML-DSA-44 seed that signs checkpoints beside it (FIPS 204's xi)."""
        return self.derive("ledger ml-dsa-44")

    @cached_property
    def vault(self) -> VaultKeys:
        """Keys of records, rows, tags and subjects."""
        return VaultKeys(
            records=self.derive("vault records"),
            rows=self.derive("vault rows"),
            tags=self.derive("subject tags"),
            subjects=self.derive("subject keys"),
        )
