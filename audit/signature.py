"""The keys that sign C2SP notes: types 0x01 (Ed25519), 0x04 (Ed25519 cosignature), 0x06 (ML-DSA-44 cosignature).

Types are rows of `SCHEMES`. Logs here sign with 0x01 and 0x06, witnesses with 0x04; read are 0x06 of witnesses too. A
0x06 signature is over origin, size and root (as the subtree from 0 on) under the key's name and a time, so only a
checkpoint can have one; what has extension lines has none, for it would not cover them.

Sources: c2sp.org/signed-note, c2sp.org/tlog-cosignature; FIPS 204 (ML-DSA-44).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from audit.checkpoint import Checkpoint, decode_base64, encode_base64
from audit.errors import ProofInvalid

ED25519: Final = 0x01
COSIGNATURE: Final = 0x04
ML_DSA_44: Final = 0x06
KEY_ID_BYTES: Final = 4
TIME_MAX: Final = 2**63 - 1  # of the specification, in seconds since 1970

_TIME_BYTES: Final = 8
_LABEL: Final = b"subtree/v1\n\0"
_VECTOR_BYTES_MAX: Final = 255  # of names in a 0x06 message


def _verify_ed25519(verifier: "NoteVerifier", text: str, payload: bytes) -> bool:
    return _ed25519_holds(verifier.key, text, payload)


def _verify_cosignature(verifier: "NoteVerifier", text: str, payload: bytes) -> bool:
    time, signature = _split_time(payload)
    return time <= TIME_MAX and _ed25519_holds(verifier.key, f"cosignature/v1\ntime {time}\n{text}", signature)


def _verify_ml_dsa_44(verifier: "NoteVerifier", text: str, payload: bytes) -> bool:
    time, signature = _split_time(payload)
    try:
        message = tree_message(verifier.name, Checkpoint.parse(text), time)
        MLDSA44PublicKey.from_public_bytes(verifier.key).verify(signature, message)
    except (ProofInvalid, InvalidSignature):
        return False
    return True


@dataclass(frozen=True)
class Scheme:
    """A signature type: its name, the length of its keys and payloads in bytes, and how a payload is verified."""

    name: str
    key_bytes: int
    payload_bytes: int
    verify: Callable[["NoteVerifier", str, bytes], bool]


SCHEMES: Final = {
    ED25519: Scheme("Ed25519", 32, 64, _verify_ed25519),
    COSIGNATURE: Scheme("Ed25519 cosignature", 32, _TIME_BYTES + 64, _verify_cosignature),
    ML_DSA_44: Scheme("ML-DSA-44", 1312, _TIME_BYTES + 2420, _verify_ml_dsa_44),
}


@dataclass(frozen=True)
class NoteVerifier:
    """A public key under a name. The key id is always computed, never taken from outside."""

    name: str
    type: int
    key: bytes

    @classmethod
    def parse(cls, vkey: str) -> Self:
        """Read a verifier key, `name+id+base64(type || key)`.

        Raises:
            ProofInvalid: malformed, of a type not supported here, or its printed id is not the computed one.
        """
        name, id_and_rest = _cut(vkey, "+", "a verifier key has no key id")
        printed, encoded = _cut(id_and_rest, "+", "a verifier key has no key")
        typed = decode_base64(encoded)
        scheme = SCHEMES.get(typed[0]) if typed else None
        if scheme is None:
            raise ProofInvalid("a verifier key is of a type that is not supported")
        if not is_key_name(name) or len(typed) != 1 + scheme.key_bytes:
            raise ProofInvalid("a verifier key has a malformed name or key")
        verifier = cls(name, typed[0], typed[1:])
        if verifier.key_id.hex() != printed:
            raise ProofInvalid("a verifier key's id is not that of its key")
        return verifier

    @cached_property  # on the way of every commit
    def key_id(self) -> bytes:
        """The four bytes that stand before a signature: SHA-256(name || 0x0A || type || key)[:4]."""
        return sha256(self.name.encode() + b"\n" + bytes([self.type]) + self.key).digest()[:KEY_ID_BYTES]

    @property
    def vkey(self) -> str:
        """The textual form, as `parse` reads it."""
        return f"{self.name}+{self.key_id.hex()}+{encode_base64(bytes([self.type]) + self.key)}"

    @property
    def label(self) -> str:
        """The key for people: `name+id (Ed25519)`."""
        return f"{self.name}+{self.key_id.hex()} ({SCHEMES[self.type].name})"

    def verifies(self, text: str, payload: bytes) -> bool:
        """Tell whether a signature payload (without key id) is this key's over the text of a note."""
        scheme = SCHEMES[self.type]
        return len(payload) == scheme.payload_bytes and scheme.verify(self, text, payload)


class NoteSigner:
    """A log's private keys under its name: Ed25519 (0x01) and, where there is one, ML-DSA-44 (0x06).

    Whoever trusts either key can verify what it signs.
    """

    def __init__(self, name: str, key: Ed25519PrivateKey, ml_dsa: MLDSA44PrivateKey | None = None) -> None:
        if not is_key_name(name):
            raise ProofInvalid("a key name is empty, or holds a space, a plus or a control character")
        self._name, self._key, self._ml_dsa = name, key, ml_dsa
        self.verifier = NoteVerifier(name, ED25519, key.public_key().public_bytes_raw())
        self.verifiers: tuple[NoteVerifier, ...] = (self.verifier,)
        if ml_dsa:
            self.verifiers += (NoteVerifier(name, ML_DSA_44, ml_dsa.public_key().public_bytes_raw()),)

    @classmethod
    def from_seed(cls, name: str, seed: bytes, ml_dsa_seed: bytes | None = None) -> Self:
        """Make the signer of a 32-byte Ed25519 seed, and of a 32-byte ML-DSA-44 seed."""
        ml_dsa = MLDSA44PrivateKey.from_seed_bytes(ml_dsa_seed) if ml_dsa_seed else None
        return cls(name, Ed25519PrivateKey.from_private_bytes(seed), ml_dsa)

    def sign(self, text: str, time: int = 0) -> str:
        """Return the signed note of a text, which must end in a newline (a checkpoint's text always does).

        Args:
            text: with an ML-DSA-44 key, a checkpoint's.
            time: said under ML-DSA-44: in whole seconds since 1970, when this was the log's largest tree; 0 = not said.

        Raises:
            ProofInvalid: an ML-DSA-44 key and a text that is no checkpoint, or a time out of range.
        """
        payloads = [self._key.sign(text.encode())]
        if self._ml_dsa:
            message = tree_message(self._name, Checkpoint.parse(text), time)
            payloads.append(time.to_bytes(_TIME_BYTES, "big") + self._ml_dsa.sign(message))
        lines = zip(self.verifiers, payloads, strict=True)
        return f"{text}\n{''.join(signature_line(verifier, payload) for verifier, payload in lines)}"


def tree_message(name: str, checkpoint: Checkpoint, time: int) -> bytes:
    """What a 0x06 signature of a checkpoint is over: the `cosigned_message` of tlog-cosignature, from leaf 0 on.

    Args:
        name: of the signing key.
        checkpoint: whose origin, size and root are signed.
        time: in whole seconds since 1970; 0 = not said.

    Raises:
        ProofInvalid: a name or an origin above 255 bytes, a time out of range, or extension lines, which an ML-DSA-44
            signature does not cover.
    """
    if not 0 <= time <= TIME_MAX:
        raise ProofInvalid("a signature's time is out of range")
    if checkpoint.extensions:
        raise ProofInvalid("an ML-DSA-44 signature does not cover extension lines")
    start_and_end = (0).to_bytes(8, "big") + checkpoint.size.to_bytes(8, "big")
    named = _vector(name) + time.to_bytes(_TIME_BYTES, "big") + _vector(checkpoint.origin)
    return _LABEL + named + start_and_end + checkpoint.root


def signature_line(verifier: NoteVerifier, payload: bytes) -> str:
    """Write a note's signature line."""
    return f"\u2014 {verifier.name} {encode_base64(verifier.key_id + payload)}\n"


def signed_at(payload: bytes) -> int:
    """The time in a payload of type 0x04 or 0x06, in seconds since 1970."""
    return _split_time(payload)[0]


def is_key_name(name: str) -> bool:
    """Tell whether a text may name a key: not empty, no spaces of any kind, no plus, no control characters."""
    return bool(name) and not any(c == "+" or c.isspace() or c < " " or _is_surrogate(c) for c in name)


def _ed25519_holds(key: bytes, text: str, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, text.encode())
    except InvalidSignature:
        return False
    return True


def _split_time(payload: bytes) -> tuple[int, bytes]:
    return int.from_bytes(payload[:_TIME_BYTES], "big"), payload[_TIME_BYTES:]


def _vector(text: str) -> bytes:
    """Write an `opaque <1..2^8-1>` of TLS."""
    data = text.encode()
    if not 0 < len(data) <= _VECTOR_BYTES_MAX:
        raise ProofInvalid("a name is not 1 to 255 bytes long, as an ML-DSA-44 signature needs it")
    return bytes([len(data)]) + data


def _is_surrogate(character: str) -> bool:
    return "\ud800" <= character <= "\udfff"


def _cut(text: str, separator: str, complaint: str) -> tuple[str, str]:
    before, found, after = text.partition(separator)
    if not found:
        raise ProofInvalid(complaint)
    return before, after
