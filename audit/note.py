"""C2SP signed notes and tlog checkpoints: strict reading, signing, verification.

A note is text and signature lines; a checkpoint is a note whose text names a log, a size and a root. Signature types
are rows of `SCHEMES`: 0x01 (Ed25519, what logs sign with here) and 0x04 (timestamped Ed25519 cosignature of a
witness). Signatures by unknown keys are ignored, as the specification wants; a malformed line, or a known key whose
signature fails, condemns the whole note.

Sources: c2sp.org/signed-note, c2sp.org/tlog-checkpoint, c2sp.org/tlog-cosignature.
"""

import binascii
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit.errors import ProofInvalid
from audit.merkle import HASH_BYTES

NOTE_BYTES_MAX: Final = 1_000_000  # 16 signatures must fit, and post-quantum ones take 5 kB each
SIGNATURES_MAX: Final = 100  # the specification asks for at least 16
SIZE_MAX: Final = 2**64 - 1
ED25519: Final = 0x01
COSIGNATURE: Final = 0x04

_KEY_ID_BYTES: Final = 4
_TIME_BYTES: Final = 8


def _verify_ed25519(key: bytes, text: str, payload: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(payload, text.encode())
    except InvalidSignature:
        return False
    return True


def _verify_cosignature(key: bytes, text: str, payload: bytes) -> bool:
    time = int.from_bytes(payload[:_TIME_BYTES], "big")
    return _verify_ed25519(key, f"cosignature/v1\ntime {time}\n{text}", payload[_TIME_BYTES:])


@dataclass(frozen=True)
class Scheme:
    """A signature type: the length of its keys and payloads in bytes, and how a payload is verified."""

    key_bytes: int
    payload_bytes: int
    verify: Callable[[bytes, str, bytes], bool]


SCHEMES: Final = {
    ED25519: Scheme(32, 64, _verify_ed25519),
    COSIGNATURE: Scheme(32, _TIME_BYTES + 64, _verify_cosignature),
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

    @property
    def key_id(self) -> bytes:
        """The four bytes that stand before a signature: SHA-256(name || 0x0A || type || key)[:4]."""
        return sha256(self.name.encode() + b"\n" + bytes([self.type]) + self.key).digest()[:_KEY_ID_BYTES]

    @property
    def vkey(self) -> str:
        """The textual form, as `parse` reads it."""
        return f"{self.name}+{self.key_id.hex()}+{encode_base64(bytes([self.type]) + self.key)}"

    def verifies(self, text: str, payload: bytes) -> bool:
        """Tell whether a signature payload (without key id) is this key's over the text of a note."""
        scheme = SCHEMES[self.type]
        return len(payload) == scheme.payload_bytes and scheme.verify(self.key, text, payload)


class NoteSigner:
    """An Ed25519 private key under a name, which signs the text of notes (type 0x01)."""

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        if not is_key_name(name):
            raise ProofInvalid("a key name is empty, or holds a space, a plus or a control character")
        self._key = key
        self.verifier = NoteVerifier(name, ED25519, key.public_key().public_bytes_raw())
        self._line = f"\u2014 {name} "
        self._key_id = self.verifier.key_id

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> Self:
        """Make the signer of a 32-byte Ed25519 seed."""
        return cls(name, Ed25519PrivateKey.from_private_bytes(seed))

    def sign(self, text: str) -> str:
        """Return the signed note of a text, which must end in a newline (a checkpoint's text always does)."""
        return f"{text}\n{self._line}{encode_base64(self._key_id + self._key.sign(text.encode()))}\n"


@dataclass(frozen=True)
class Signature:
    """A signature line: who claims to have signed, and the payload after the key id."""

    name: str
    key_id: bytes
    payload: bytes


@dataclass(frozen=True)
class Note:
    """A parsed note. Nothing in it is to be believed before `verify`."""

    text: str
    signatures: tuple[Signature, ...]

    @classmethod
    def parse(cls, note: str) -> Self:
        """Split a signed note at its last empty line.

        Raises:
            ProofInvalid: control characters, no text, no or too many or malformed signature lines.
        """
        _check_characters(note)
        text, separator, lines = note.rpartition("\n\n")
        if not separator or not lines.endswith("\n"):
            raise ProofInvalid("a note has no signatures, or does not end in a newline")
        signed = lines[:-1].split("\n")
        if len(signed) > SIGNATURES_MAX:
            raise ProofInvalid("a note has too many signatures")
        return cls(text + "\n", tuple(_parse_signature(line) for line in signed))

    def verify(self, verifiers: Sequence[NoteVerifier]) -> tuple[NoteVerifier, ...]:
        """Return those of the known keys that signed, each once; every signature of a known key is checked.

        Raises:
            ProofInvalid: a known key's signature fails, no known key signed, or two known keys share name and id.
        """
        known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
        if len(known) != len(set(verifiers)):
            raise ProofInvalid("two known keys share a name and a key id")
        signers: dict[NoteVerifier, None] = {}
        for signature in self.signatures:
            verifier = known.get((signature.name, signature.key_id))
            if verifier is None:
                continue
            if not verifier.verifies(self.text, signature.payload):
                raise ProofInvalid("the signature of a known key does not verify")
            signers[verifier] = None
        if not signers:
            raise ProofInvalid("a note is signed by no known key")
        return tuple(signers)


@dataclass(frozen=True)
class Checkpoint:
    """A tree head: the log's origin, its size in entries, and the root of 32 bytes."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()  # never written here: nobody who audits the tree can check them

    @property
    def text(self) -> str:
        """The text of the note."""
        lines = (self.origin, str(self.size), encode_base64(self.root), *self.extensions)
        return "".join(f"{line}\n" for line in lines)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a note as a checkpoint.

        Raises:
            ProofInvalid: malformed.
        """
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop() or not all(lines):
            raise ProofInvalid("a checkpoint is not three or more non-empty lines")
        origin, size, root = lines[:3]
        checkpoint = cls(origin, parse_decimal(size), decode_base64(root), tuple(lines[3:]))
        if len(checkpoint.root) != HASH_BYTES:
            raise ProofInvalid("a checkpoint's root is not 32 bytes long")
        return checkpoint


def is_key_name(name: str) -> bool:
    """Tell whether a text may name a key: not empty, no spaces of any kind, no plus, no control characters."""
    return bool(name) and not any(c == "+" or c.isspace() or c < " " or _is_surrogate(c) for c in name)


def parse_decimal(text: str) -> int:
    """Read an ASCII decimal uint64 without leading zeros.

    Raises:
        ProofInvalid: anything else.
    """
    if len(text) <= len(str(SIZE_MAX)) and text.isascii() and text.isdigit():
        value = int(text)
        if value <= SIZE_MAX and str(value) == text:
            return value
    raise ProofInvalid("a number is not a plain decimal below 2**64")


def encode_base64(data: bytes) -> str:
    """Write standard base64 with padding (RFC 4648 section 4)."""
    return b64encode(data).decode("ascii")


def decode_base64(text: str) -> bytes:
    """Read standard base64; only the one encoding of each value is taken.

    Raises:
        ProofInvalid: anything else.
    """
    try:
        data = b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProofInvalid("a value is not base64") from error
    if encode_base64(data) != text:  # bits set behind the last byte
        raise ProofInvalid("a value is not canonical base64")
    return data


def _parse_signature(line: str) -> Signature:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "\u2014" or not is_key_name(parts[1]):
        raise ProofInvalid("a signature line is malformed")
    data = decode_base64(parts[2])
    if len(data) <= _KEY_ID_BYTES:
        raise ProofInvalid("a signature is empty")
    return Signature(parts[1], data[:_KEY_ID_BYTES], data[_KEY_ID_BYTES:])


def _is_surrogate(character: str) -> bool:
    return "\ud800" <= character <= "\udfff"


def _check_characters(note: str) -> None:
    try:
        size = len(note.encode())
    except UnicodeEncodeError as error:
        raise ProofInvalid("a note is not Unicode") from error
    if size > NOTE_BYTES_MAX:
        raise ProofInvalid("a note is too long")
    if any(c < " " and c != "\n" for c in note):
        raise ProofInvalid("a note holds a control character")


def _cut(text: str, separator: str, complaint: str) -> tuple[str, str]:
    before, found, after = text.partition(separator)
    if not found:
        raise ProofInvalid(complaint)
    return before, after
