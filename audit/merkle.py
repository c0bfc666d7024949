"""RFC 6962 Merkle trees over SHA-256: hashes, proofs and their verification, as pure functions.

A tree of any size is read through a `HashReader`, which knows the roots of *complete* subtrees: `read(level, index)`
is the hash of the 2**level leaves from index * 2**level on. Those never change as the log grows, so any store of them
will do (tiles, rows, a dict); the ragged right side is folded together here when it is needed.

Sources: RFC 6962 section 2.1 (hashes, proof generation); RFC 9162 sections 2.1.3.2 and 2.1.4.2 (verification).
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from audit.errors import ProofInvalid

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()

HashReader = Callable[[int, int], bytes]


def leaf_hash(entry: bytes) -> bytes:
    """Hash an entry as a leaf: H(0x00 || entry)."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees as their parent: H(0x01 || left || right)."""
    return sha256(b"\x01" + left + right).digest()


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    """Return the Merkle tree hash of leaf hashes in order; of none, H("")."""
    if not leaves:
        return EMPTY_ROOT
    row = list(leaves)
    while len(row) > 1:
        # The odd one out at the right moves up unchanged: the same tree as RFC 6962's split at a power of two.
        odd = row[len(row) & ~1 :]
        row = [node_hash(left, right) for left, right in zip(row[::2], row[1::2], strict=False)] + odd
    return row[0]


def range_hash(first: int, end: int, read: HashReader) -> bytes:
    """Return the hash of the subtree over leaves first .. end - 1, as RFC 6962 splits have them (end > first)."""
    rest = range_nodes(first, end)
    level, index = rest.pop()
    total = read(level, index)
    while rest:
        level, index = rest.pop()
        total = node_hash(read(level, index), total)
    return total


def range_nodes(first: int, end: int) -> list[tuple[int, int]]:
    """List the complete subtrees (level, index) that make up such a range, the largest first."""
    nodes = []
    while first < end:
        level = (end - first).bit_length() - 1
        nodes.append((level, first >> level))
        first += 1 << level
    return nodes


def root_hash(size: int, read: HashReader) -> bytes:
    """Return the root of the first `size` leaves."""
    return range_hash(0, size, read) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, read: HashReader) -> list[bytes]:
    """Prove that leaf `index` is in the tree of `size` leaves: sibling hashes from the leaf up (RFC 6962 2.1.1).

    Raises:
        ProofInvalid: there is no such leaf.
    """
    if not 0 <= index < size:
        raise ProofInvalid("no such leaf in a tree of that size")
    path = []
    first, end = 0, size
    while end - first > 1:
        middle = first + _split(end - first)
        if index < middle:
            path.append(range_hash(middle, end, read))
            end = middle
        else:
            path.append(range_hash(first, middle, read))
            first = middle
    return path[::-1]


def consistency_proof(old: int, size: int, read: HashReader) -> list[bytes]:
    """Prove that the tree of `old` leaves is a prefix of the tree of `size` leaves (RFC 6962 2.1.2).

    Raises:
        ProofInvalid: `old` is 0 (nothing to prove) or above `size`.
    """
    if not 0 < old <= size:
        raise ProofInvalid("no consistency proof between those sizes")
    path = []
    first, end = 0, size
    while end != old:
        middle = first + _split(end - first)
        if old <= middle:
            path.append(range_hash(middle, end, read))
            end = middle
        else:
            path.append(range_hash(first, middle, read))
            first = middle
    if first:  # otherwise the subtree is the old tree itself, whose root the verifier has
        path.append(range_hash(first, end, read))
    return path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check an inclusion proof (RFC 9162 2.1.3.2).

    Raises:
        ProofInvalid: it does not prove that `leaf` is number `index` of the `size` leaves under `root`.
    """
    if not 0 <= index < size:
        raise ProofInvalid("the leaf's index is not below the tree's size")
    _check_hashes([leaf, root, *proof])
    node, last, total = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofInvalid("an inclusion proof is too long")
        if node & 1 or node == last:
            total = node_hash(sibling, total)
            while not node & 1 and node:  # levels at which the right edge has no sibling
                node, last = node >> 1, last >> 1
        else:
            total = node_hash(total, sibling)
        node, last = node >> 1, last >> 1
    if last or not compare_digest(total, root):
        raise ProofInvalid("an inclusion proof does not lead to the root")


def verify_consistency(old: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]) -> None:
    """Check a consistency proof (RFC 9162 2.1.4.2). Nothing can be proved from an empty tree.

    Raises:
        ProofInvalid: it does not prove that the `old` leaves under `old_root` begin the `size` leaves under `root`.
    """
    if not 0 < old <= size:
        raise ProofInvalid("no consistency proof between those sizes")
    _check_hashes([old_root, root, *proof])
    if old == size:
        if proof or not compare_digest(old_root, root):
            raise ProofInvalid("two trees of one size differ, or a proof of nothing is not empty")
        return
    # (1) A complete old tree is a node of the new one, so its root is left out of the proof.
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        raise ProofInvalid("a consistency proof is empty")
    # (2) Climb to the lowest node of the old right edge that the new tree shares.
    node, last = old - 1, size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    # (3) Fold: siblings at the left belong to both trees, siblings at the right to the new one alone.
    old_total = total = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise ProofInvalid("a consistency proof is too long")
        if node & 1 or node == last:
            old_total, total = node_hash(sibling, old_total), node_hash(sibling, total)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            total = node_hash(total, sibling)
        node, last = node >> 1, last >> 1
    if last or not (compare_digest(old_total, old_root) and compare_digest(total, root)):
        raise ProofInvalid("a consistency proof does not lead to both roots")


def _split(width: int) -> int:
    """Return the largest power of two below `width` (>= 2)."""
    return 1 << ((width - 1).bit_length() - 1)


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if any(len(item) != HASH_BYTES for item in hashes):
        raise ProofInvalid("a hash is not 32 bytes long")
