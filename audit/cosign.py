"""C2SP tlog-cosignature: a witness's key, in its file and at work (type 0x04, timestamped Ed25519).

Source: c2sp.org/tlog-cosignature.
"""

from dataclasses import dataclass
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.errors import ProofInvalid
from audit.note import COSIGNATURE, ED25519, NoteVerifier, decode_base64, encode_base64, is_key_name
from audit.signature import TIME_MAX

TIME_BYTES: Final = 8
_PRIVATE: Final = "PRIVATE+KEY"
_SEED_BYTES: Final = 32


@dataclass(frozen=True)
class Cosigner:
    """An Ed25519 private key under a witness's name."""

    name: str
    key: Ed25519PrivateKey

    @classmethod
    def generate(cls, name: str) -> Self:
        """Make a fresh key; raises ProofInvalid where the name cannot be a key's."""
        if not is_key_name(name):
            raise ProofInvalid("name", public="a witness's name has no spaces, no plus and no control characters")
        return cls(name, Ed25519PrivateKey.generate())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read Go's private form, `PRIVATE+KEY+name+id+base64(0x01 || seed)`, as other witnesses keep theirs.

        Raises:
            ProofInvalid: malformed, of another type, or its printed id is not the computed one.
        """
        private, plus, rest = text.strip().partition("+KEY+")
        name, _, id_and_seed = rest.partition("+")
        printed, _, encoded = id_and_seed.partition("+")
        typed = decode_base64(encoded)
        if (private, plus) != ("PRIVATE", "+KEY+") or not is_key_name(name):
            raise ProofInvalid("a private key is malformed")
        if len(typed) != 1 + _SEED_BYTES or typed[0] != ED25519:
            raise ProofInvalid("a private key is not of type Ed25519")
        signer = cls(name, Ed25519PrivateKey.from_private_bytes(typed[1:]))
        if signer._plain.key_id.hex() != printed:
            raise ProofInvalid("a private key's id is not that of its key")
        return signer

    @property
    def private(self) -> str:
        """The form that `parse` reads. A secret."""
        seed = encode_base64(bytes([ED25519]) + self.key.private_bytes_raw())
        return f"{_PRIVATE}+{self.name}+{self._plain.key_id.hex()}+{seed}"

    @property
    def verifier(self) -> NoteVerifier:
        """The public key, for policies."""
        return NoteVerifier(self.name, COSIGNATURE, self.key.public_key().public_bytes_raw())

    def cosign(self, text: str, time: int) -> str:
        """Return the signature line over a checkpoint's text.

        Args:
            text: the whole text of the note, extension lines included, as the specification says.
            time: now, in whole seconds since 1970, not 0.

        Raises:
            ProofInvalid: a time out of range.
        """
        if not 0 < time <= TIME_MAX:
            raise ProofInvalid("a cosignature's time is out of range")
        signature = self.key.sign(f"cosignature/v1\ntime {time}\n{text}".encode())
        return signature_line(self.verifier, time.to_bytes(TIME_BYTES, "big") + signature)

    @property
    def _plain(self) -> NoteVerifier:
        return NoteVerifier(self.name, ED25519, self.key.public_key().public_bytes_raw())


def signature_line(verifier: NoteVerifier, payload: bytes) -> str:
    """Write a note's signature line."""
    return f"\u2014 {verifier.name} {encode_base64(verifier.key_id + payload)}\n"
