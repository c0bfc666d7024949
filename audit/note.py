"""C2SP signed notes: strict reading and verification.

A note is text and signature lines; a checkpoint is a note whose text names a log, a size and a root. Signatures by
unknown keys are ignored, as the specification wants; a malformed line, or a known key whose signature fails, condemns
the whole note.

Source: c2sp.org/signed-note.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from audit.checkpoint import SIZE_MAX, Checkpoint, decode_base64, encode_base64, parse_decimal
from audit.errors import ProofInvalid
from audit.signature import (
    COSIGNATURE,
    ED25519,
    KEY_ID_BYTES,
    ML_DSA_44,
    SCHEMES,
    NoteSigner,
    NoteVerifier,
    is_key_name,
)

__all__ = [
    "COSIGNATURE",
    "ED25519",
    "ML_DSA_44",
    "NOTE_BYTES_MAX",
    "SCHEMES",
    "SIGNATURES_MAX",
    "SIZE_MAX",
    "Checkpoint",
    "Note",
    "NoteSigner",
    "NoteVerifier",
    "Signature",
    "decode_base64",
    "encode_base64",
    "head_of",
    "is_key_name",
    "parse_decimal",
]

NOTE_BYTES_MAX: Final = 1_000_000  # 16 signatures must fit, and post-quantum ones take 3.3 kB each
SIGNATURES_MAX: Final = 100  # the specification asks for at least 16


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


def head_of(checkpoint: str) -> Checkpoint:
    """Read the tree head in a signed checkpoint. Who signed it is for a policy, or `Note.verify`, to say.

    Raises:
        ProofInvalid: malformed.
    """
    return Checkpoint.parse(Note.parse(checkpoint).text)


def _parse_signature(line: str) -> Signature:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "\u2014" or not is_key_name(parts[1]):
        raise ProofInvalid("a signature line is malformed")
    data = decode_base64(parts[2])
    if len(data) <= KEY_ID_BYTES:
        raise ProofInvalid("a signature is empty")
    return Signature(parts[1], data[:KEY_ID_BYTES], data[KEY_ID_BYTES:])


def _check_characters(note: str) -> None:
    try:
        size = len(note.encode())
    except UnicodeEncodeError as error:
        raise ProofInvalid("a note is not Unicode") from error
    if size > NOTE_BYTES_MAX:
        raise ProofInvalid("a note is too long")
    if any(c < " " and c != "\n" for c in note):
        raise ProofInvalid("a note holds a control character")
