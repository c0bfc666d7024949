"""Cosignatures and witnesses' keys: known answers of others' code, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.cosign import Cosigner
from audit.errors import ProofInvalid
from audit.note import COSIGNATURE, ML_DSA_44, Note, NoteVerifier
from audit.signature import TIME_MAX, signed_at
from tests.unit.audit.trees import Tree

# transparency-dev/formats, witness/witness_test.go: a public test key
PRIVATE = "PRIVATE+KEY+Wit1+55ee4561+AeadRiG7XM4XiieCHzD8lxysXMwcViy5nYsoXURWGrlE"
VKEY = "Wit1+9b3fb2d5+BFhZSmQj9+SoL+p/nN0Hh76xXmF7QcHfytUrI1XfSClk"
TEXT = "example.com/log/testdata\n15\nrKbDipCvhuX1GZ7g5BBe8sA6BbJ7ja/1nk427v383cs=\n"
# accepted by Go's note package and by formats' note.NewVerifierForCosignatureV1
SIGNATURE = "mz+y1QAAAABkGFDLi4zi/+2kU/5P/4hpCkNoBjvoRHwqkmsDuocW+0ObiIxdYaW7bwTBaMLGHYwvM5lh63uUblihMBNMSJQRd2V3AQ=="
LINE = f"\u2014 Wit1 {SIGNATURE}\n"


def test_the_known_cosignature_is_made_again() -> None:
    """From the same key, time and text come the same bytes that Go accepts."""
    cosigner = Cosigner.parse(PRIVATE)
    assert cosigner.verifier.vkey == VKEY
    assert cosigner.cosign(TEXT, 1679315147) == LINE
    assert Note.parse(f"{TEXT}\n{LINE}").verify([NoteVerifier.parse(VKEY)])


def test_a_fresh_witness_signs_with_both_keys() -> None:
    """Either verifies alone; over extension lines, which ML-DSA-44 does not cover, the other signs alone."""
    made = Cosigner.generate("bank.example/w1")
    tree = Tree(5)
    note = Note.parse(f"{tree.text}\n{made.cosign(tree.text, 1679315147)}")
    assert [key.type for key in made.verifiers] == [COSIGNATURE, ML_DSA_44]
    for key in made.verifiers:
        assert note.verify([key]) == (key,)
        assert NoteVerifier.parse(key.vkey) == key
    assert {signed_at(line.payload) for line in note.signatures} == {1679315147}
    extended = f"{tree.text}more\n"
    assert Note.parse(f"{extended}\n{made.cosign(extended, 5)}").verify(made.verifiers) == (made.verifier,)


def test_a_private_key_is_read_as_it_is_written() -> None:
    """Through its file's form, with or without the newline, it is the same key."""
    made = Cosigner.generate("bank.example/w1")
    assert Cosigner.parse(made.private + "\n").private == made.private
    assert Cosigner.parse(PRIVATE).private == PRIVATE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PRIVATE+KEY",
        PRIVATE[:-1],
        PRIVATE.replace("55ee4561", "55ee4562"),
        PRIVATE.replace("Wit1", "Wit2"),
        PRIVATE.replace("+Ae", "+Be"),
        PRIVATE.replace("PRIVATE", "PUBLIC"),
        VKEY,
        f"{PRIVATE}\n{PRIVATE}",
        pytest.param(Cosigner.generate("Wit1").private.split("\n")[1], id="second key alone"),
        pytest.param(f"{PRIVATE}\n" + Cosigner.generate("Wit2").private.split("\n")[1], id="another second key"),
    ],
)
def test_a_malformed_private_key_is_refused(text: str) -> None:
    """Cut, of another type, with another's id or name, or no private key at all."""
    with pytest.raises(ProofInvalid):
        Cosigner.parse(text)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb"])
def test_a_witness_has_a_name_that_fits_a_line(name: str) -> None:
    """No spaces, plus or line ends."""
    with pytest.raises(ProofInvalid):
        Cosigner.generate(name)


@pytest.mark.parametrize("time", [0, -1, TIME_MAX + 1])
def test_a_time_out_of_range_is_not_signed(time: int) -> None:
    """The specification forbids 0 and what exceeds 63 bits."""
    with pytest.raises(ProofInvalid):
        Cosigner.parse(PRIVATE).cosign(TEXT, time)


@given(st.integers(1, TIME_MAX), st.integers(0, 40))
def test_what_is_cosigned_verifies_and_nothing_else(time: int, size: int) -> None:
    """A cosignature holds for its own text and time alone."""
    cosigner, tree = Cosigner.parse(PRIVATE), Tree(size)
    note = Note.parse(f"{tree.text}\n{cosigner.cosign(tree.text, time)}")
    (signature,) = note.signatures
    assert cosigner.verifier.verifies(tree.text, signature.payload)
    assert not cosigner.verifier.verifies(Tree(size + 1).text, signature.payload)
    later = (time ^ 1).to_bytes(8, "big") + signature.payload[8:]
    assert not cosigner.verifier.verifies(tree.text, later)
