"""C2SP tlog-proof: one entry's place in a signed tree, as a text that is checked offline.

Source: c2sp.org/tlog-proof@v1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from audit.errors import ProofInvalid
from audit.merkle import HASH_BYTES, leaf_hash, verify_inclusion
from audit.note import Checkpoint, decode_base64, encode_base64, head_of, parse_decimal

HEADER: Final = "c2sp.org/tlog-proof@v1"
HASHES_MAX: Final = 64  # the height of a tree of 2**64 leaves
PROOF_CHARACTERS_MAX: Final = 1_100_000  # the largest note and a full path


@dataclass(frozen=True)
class TlogProof:
    """Index, sibling hashes from the leaf up, and the checkpoint (a signed note) that they lead to."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: str
    extra: bytes | None = None  # not authenticated; never written here

    @property
    def text(self) -> str:
        """The textual form, for a `.tlog-proof` file."""
        return format_proof(self.index, self.hashes, self.checkpoint, self.extra)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a proof; the checkpoint is taken verbatim and not looked into.

        Raises:
            ProofInvalid: malformed.
        """
        if len(text) > PROOF_CHARACTERS_MAX:
            raise ProofInvalid("a proof is too long")
        head, separator, checkpoint = text.partition("\n\n")
        lines = head.split("\n")
        if not separator or not checkpoint or lines.pop(0) != HEADER:
            raise ProofInvalid("a proof lacks its header or its checkpoint")
        extra = decode_base64(lines.pop(0)[6:]) if lines and lines[0].startswith("extra ") else None
        if not lines or not lines[0].startswith("index "):
            raise ProofInvalid("a proof has no index")
        index = parse_decimal(lines.pop(0)[6:])
        hashes = tuple(decode_base64(line) for line in lines[: HASHES_MAX + 1])
        if len(hashes) > HASHES_MAX or any(len(item) != HASH_BYTES for item in hashes):
            raise ProofInvalid("a proof has too many hashes, or one that is not 32 bytes long")
        return cls(index, hashes, checkpoint, extra)

    def verify_inclusion(self, entry: bytes) -> Checkpoint:
        """Check that an entry is at this index under the checkpoint. Who signed that is for a policy to say.

        Raises:
            ProofInvalid: it is not, or the checkpoint is malformed.
        """
        checkpoint = head_of(self.checkpoint)
        verify_inclusion(leaf_hash(entry), self.index, checkpoint.size, self.hashes, checkpoint.root)
        return checkpoint


def format_proof(index: int, hashes: Sequence[bytes], checkpoint: str, extra: bytes | None = None) -> str:
    """Write a proof; `checkpoint` is a signed note."""
    lines = [HEADER, f"index {index}", *map(encode_base64, hashes), "", checkpoint]
    if extra is not None:
        lines.insert(1, f"extra {encode_base64(extra)}")
    return "\n".join(lines)
