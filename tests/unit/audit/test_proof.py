"""The tlog-proof format against upstream's examples and its own laws."""

from base64 import b64decode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import ProofInvalid
from audit.note import Note, NoteVerifier
from audit.proof import HEADER, TlogProof
from tests.unit.audit.vectors import examples, needs_vectors

HASHES = st.lists(st.binary(min_size=32, max_size=32), max_size=64).map(tuple)


@needs_vectors
@pytest.mark.parametrize("case", examples("tlog_proofs"), ids=lambda case: case["desc"])
def test_proof_examples(case: dict[str, Any]) -> None:
    """Known answer 8: good proofs come back to the byte, malformed ones are refused, whole ones verify."""
    whole = "entry" in case
    if case["expected"] == "invalid" and not whole:
        with pytest.raises(ProofInvalid):
            TlogProof.parse(case["text"])
        return
    proof = TlogProof.parse(case["text"])
    assert proof.text == case["text"]
    if case["expected"] == "invalid":
        with pytest.raises(ProofInvalid):
            proof.verify_inclusion(case["entry"].encode())
        return
    assert proof.index == case["index"]
    assert list(proof.hashes) == [b64decode(item) for item in case["hashes"]]
    assert proof.checkpoint == case["checkpoint"]
    assert proof.extra == (b64decode(case["extra"]) if case["extra"] else None)
    if whole:
        assert proof.verify_inclusion(case["entry"].encode()).size == 15
        assert Note.parse(proof.checkpoint).verify([NoteVerifier.parse(vkey) for vkey in case["vkeys"]])


@given(st.integers(0, 2**64 - 1), HASHES, st.none() | st.binary(), st.text(st.characters(codec="utf-8"), min_size=1))
def test_proofs_come_back(index: int, hashes: tuple[bytes, ...], extra: bytes | None, checkpoint: str) -> None:
    """Every proof has one text; the checkpoint is kept verbatim."""
    proof = TlogProof(index, hashes, checkpoint, extra)
    assert TlogProof.parse(proof.text) == proof


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEADER,
        f"{HEADER}\nindex 0\n\n",
        f"{HEADER}\nindex 0\ncheckpoint\n",
        f"{HEADER}\nindex 00\n\ncheckpoint\n",
        f"{HEADER}\nindex +1\n\ncheckpoint\n",
        f"{HEADER}\nindex  1\n\ncheckpoint\n",
        f"{HEADER}\nindex 18446744073709551616\n\ncheckpoint\n",
        f"{HEADER}\nindex 0\nextra AAAA\n\ncheckpoint\n",
        f"{HEADER}\nextra AAAA\nextra AAAA\nindex 0\n\ncheckpoint\n",
        f"{HEADER}\nextra AA\nindex 0\n\ncheckpoint\n",
        f"{HEADER}\r\nindex 0\r\n\r\ncheckpoint\n",
        f"{HEADER} \nindex 0\n\ncheckpoint\n",
        f"{HEADER}\nindex 0\n" + "A" * 43 + "=\n" * 65 + "\ncheckpoint\n",
        f"{HEADER}\nindex 0\n" + ("A" * 43 + "=\n") * 65 + "\ncheckpoint\n",
        f"{HEADER}\nindex 0\n" + "A" * 42 + "B=\n" + "\ncheckpoint\n",
        f"{HEADER}\nindex 0\n\n" + "x" * 2_000_000,
    ],
)
def test_malformed_proofs(text: str) -> None:
    """Each way to write a proof wrongly is refused."""
    with pytest.raises(ProofInvalid):
        TlogProof.parse(text)


def test_a_checkpoint_that_is_no_note_proves_nothing() -> None:
    """The format is right, the proof is not."""
    with pytest.raises(ProofInvalid):
        TlogProof.parse(f"{HEADER}\nindex 0\n\ncheckpoint\n").verify_inclusion(b"x")
