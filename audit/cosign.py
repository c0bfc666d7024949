"""C2SP tlog-cosignature: a witness's keys, in their file and at work.

A witness signs with Ed25519 (type 0x04) and, where it has the key, with ML-DSA-44 (0x06): whoever trusts either of them
can verify. A policy names one of the two; the other line is then one of an unknown key.

Source: c2sp.org/tlog-cosignature.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from audit.errors import ProofInvalid
from audit.note import (
    COSIGNATURE,
    ED25519,
    ML_DSA_44,
    Checkpoint,
    NoteVerifier,
    decode_base64,
    encode_base64,
    is_key_name,
)
from audit.signature import TIME_MAX, signature_line, tree_message

_PRIVATE: Final = "PRIVATE"
_SEED_BYTES: Final = 32
_TIME_BYTES: Final = 8

_PUBLIC: Final[dict[int, Callable[[bytes], bytes]]] = {
    ED25519: lambda seed: Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw(),
    ML_DSA_44: lambda seed: MLDSA44PrivateKey.from_seed_bytes(seed).public_key().public_bytes_raw(),
}


@dataclass(frozen=True, repr=False)
class Cosigner:
    """Private keys under a witness's name, as seeds of 32 bytes."""

    name: str
    seed: bytes
    ml_dsa_seed: bytes | None = None

    @classmethod
    def generate(cls, name: str) -> Self:
        """Make fresh keys of both types; raises ProofInvalid where the name cannot be a key's."""
        if not is_key_name(name):
            raise ProofInvalid("name", public="a witness's name has no spaces, no plus and no control characters")
        return cls(name, os.urandom(_SEED_BYTES), os.urandom(_SEED_BYTES))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the keys: Go's private form, `PRIVATE+KEY+name+id+base64(type || seed)`, one a line.

        The Ed25519 key (0x01), as other witnesses keep theirs, comes first; an ML-DSA-44 key (0x06) may follow.

        Raises:
            ProofInvalid: malformed, of other types, of two names, or a printed id is not the computed one.
        """
        found = [_parse_private(line) for line in text.strip().split("\n")]
        names, types = {name for name, _, _ in found}, tuple(kind for _, kind, _ in found)
        if len(names) != 1 or types not in ((ED25519,), (ED25519, ML_DSA_44)):
            raise ProofInvalid("a witness's keys are not one Ed25519 key and at most one ML-DSA-44 key of its name")
        return cls(names.pop(), *(seed for _, _, seed in found))

    @property
    def private(self) -> str:
        """The form that `parse` reads. A secret."""
        seeds = {ED25519: self.seed, ML_DSA_44: self.ml_dsa_seed}
        return "\n".join(_private_line(self.name, kind, seed) for kind, seed in seeds.items() if seed)

    @property
    def verifiers(self) -> tuple[NoteVerifier, ...]:
        """The public keys, for policies: Ed25519, and ML-DSA-44 where there is one."""
        ed25519 = NoteVerifier(self.name, COSIGNATURE, _PUBLIC[ED25519](self.seed))
        if self.ml_dsa_seed is None:
            return (ed25519,)
        return ed25519, NoteVerifier(self.name, ML_DSA_44, _PUBLIC[ML_DSA_44](self.ml_dsa_seed))

    @property
    def verifier(self) -> NoteVerifier:
        """The Ed25519 key."""
        return self.verifiers[0]

    def cosign(self, text: str, time: int) -> str:
        """Return the signature lines over a checkpoint's text.

        Args:
            text: the whole text of the note. Ed25519 covers extension lines, as the specification says; ML-DSA-44
                cannot, so a checkpoint that has them gets no such line.
            time: now, in whole seconds since 1970, not 0.

        Raises:
            ProofInvalid: a time out of range.
        """
        if not 0 < time <= TIME_MAX:
            raise ProofInvalid("a cosignature's time is out of range")
        at, checkpoint = time.to_bytes(_TIME_BYTES, "big"), Checkpoint.parse(text)
        message = f"cosignature/v1\ntime {time}\n{text}".encode()
        payloads = [at + Ed25519PrivateKey.from_private_bytes(self.seed).sign(message)]
        if self.ml_dsa_seed and not checkpoint.extensions:
            key = MLDSA44PrivateKey.from_seed_bytes(self.ml_dsa_seed)
            payloads.append(at + key.sign(tree_message(self.name, checkpoint, time)))
        lines = zip(self.verifiers, payloads, strict=False)
        return "".join(signature_line(verifier, payload) for verifier, payload in lines)


def _parse_private(line: str) -> tuple[str, int, bytes]:
    private, _, rest = line.partition("+KEY+")
    name, _, id_and_seed = rest.partition("+")
    typed = decode_base64(id_and_seed.partition("+")[2])
    if private != _PRIVATE or not is_key_name(name) or len(typed) != 1 + _SEED_BYTES or typed[0] not in _PUBLIC:
        raise ProofInvalid("a private key is malformed, or of another type than Ed25519 and ML-DSA-44")
    if line != _private_line(name, typed[0], typed[1:]):
        raise ProofInvalid("a private key's id is not that of its key")
    return name, typed[0], typed[1:]


def _private_line(name: str, kind: int, seed: bytes) -> str:
    key_id = NoteVerifier(name, kind, _PUBLIC[kind](seed)).key_id
    return f"{_PRIVATE}+KEY+{name}+{key_id.hex()}+{encode_base64(bytes([kind]) + seed)}"
