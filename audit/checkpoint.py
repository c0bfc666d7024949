"""C2SP tlog-checkpoint: the text that names a log, a size and a root; and how its numbers and bytes are spelled.

Source: c2sp.org/tlog-checkpoint.
"""

import binascii
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Final, Self

from audit.errors import ProofInvalid
from audit.merkle import HASH_BYTES

SIZE_MAX: Final = 2**64 - 1


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
