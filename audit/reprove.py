"""Proofs between any two sizes of a log, from its tiles: those a log sends to witnesses, and receipts made new."""

from dataclasses import replace

from audit.errors import EntryUnknown, ProofInvalid
from audit.merkle import consistency_proof, inclusion_proof, verify_consistency
from audit.note import head_of
from audit.proof import TlogProof
from audit.receipt import Receipt
from audit.source import LogSource, hash_reader


def prove_consistency(source: LogSource, old: int, size: int) -> list[bytes]:
    """Prove that a log of `old` entries is a prefix of that of `size`; from the empty log the proof is empty.

    Raises:
        ProofInvalid: `old` is above `size`.
        EntryUnknown: the source has no log of that size.
    """
    return consistency_proof(old, size, hash_reader(source, size)) if old else []


def prove_again(receipt: Receipt, source: LogSource, checkpoint: str) -> Receipt:
    """Prove a receipt's entry under a newer checkpoint of its log, such as one that witnesses have cosigned since.

    The receipt's own proof is verified first, and that the newer tree goes on from the one it was given under: a log
    that holds the entry in another tree has forked. Who signed the checkpoint is for `verify_receipt` to say.

    Raises:
        ProofInvalid: the receipt's own proof fails, the checkpoint is older than the receipt, or the log forked.
        EntryUnknown: the source lacks tiles that its checkpoint implies.
    """
    proof = TlogProof.parse(receipt.proof)
    before = proof.verify_inclusion(receipt.entry)
    now = head_of(checkpoint)
    if now.origin != before.origin:
        raise ProofInvalid("origin", public="the log is another one than the receipt's")
    if now.size < before.size:
        public = (
            f"the log's checkpoint is of {now.size} entries, the receipt of {before.size}: take a newer one, or ask"
        )
        raise ProofInvalid("size", public=f"{public} why the log is shorter")
    read = hash_reader(source, now.size)
    try:
        between = consistency_proof(before.size, now.size, read)
        verify_consistency(before.size, now.size, before.root, now.root, between)
        again = replace(proof, hashes=tuple(inclusion_proof(proof.index, now.size, read)), checkpoint=checkpoint)
        again.verify_inclusion(receipt.entry)
    except EntryUnknown:
        raise
    except ProofInvalid as error:
        public = f"the log does not go on from the receipt's tree ({error}): keep both, they may prove a fork"
        raise ProofInvalid("fork", public=public) from error
    return replace(receipt, proof=again.text)
