"""Logs in memory that can fork, for the tests of witnesses: their checkpoints and proofs, as a log would send them."""

from dataclasses import dataclass, field
from functools import cached_property

from audit.merkle import consistency_proof, leaf_hash, tree_hash
from audit.note import Checkpoint, NoteSigner
from audit.witness import write_submission
from tests.unit.audit.vectors import ORIGIN, signer


@dataclass
class Tree:
    """A log whose entries are the decimals 0, 1, 2 …; from `fork` on, other entries."""

    size: int
    fork: int | None = None
    by: NoteSigner = field(default_factory=signer)

    @cached_property
    def leaves(self) -> tuple[bytes, ...]:
        """The leaf hashes."""
        names = [f"{'' if self.fork is None or i < self.fork else 'other '}{i}" for i in range(self.size)]
        return tuple(leaf_hash(name.encode()) for name in names)

    @property
    def text(self) -> str:
        """The text of its checkpoint."""
        return Checkpoint(ORIGIN, self.size, tree_hash(self.leaves)).text

    @property
    def checkpoint(self) -> str:
        """Its signed checkpoint."""
        return self.by.sign(self.text)

    def proof(self, old: int) -> list[bytes]:
        """The proof from an older size, empty where there is nothing to prove."""
        if not 0 < old <= self.size:
            return []
        leaves = self.leaves
        return consistency_proof(
            old, self.size, lambda level, index: tree_hash(leaves[index << level : (index + 1) << level])
        )

    def request(self, old: int) -> bytes:
        """The add-checkpoint request that goes on from an older size."""
        return write_submission(old, self.proof(old), self.checkpoint)
