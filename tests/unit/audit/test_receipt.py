"""Receipts: everything that can be wrong with one is found, offline, by the step that should find it."""

import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.edge import Edge
from audit.errors import ProofInvalid
from audit.event import encode
from audit.kinds import VersionAdmitted
from audit.merkle import leaf_hash
from audit.note import Checkpoint, encode_base64
from audit.policy import Policy
from audit.proof import TlogProof, format_proof
from audit.receipt import (
    Opening,
    Receipt,
    limit_commitment,
    outcome_commitment,
    outcome_salt,
    verify_receipt,
)
from tests.unit.audit.vectors import ORIGIN, START, decision, signer

SALT = bytes(range(32))
TRUST = Policy((signer().verifier,))
PARSES, KIND, OPENING, TREE, LOG, QUORUM = range(6)


def logged(body: bytes, index: int = 5, size: int = 9) -> Receipt:
    """Put an entry into a log of others and make its receipt."""
    leaves = [leaf_hash(body if at == index else b"other %d" % at) for at in range(size)]
    growth = Edge(0, {}).grow(leaves)
    checkpoint = signer().sign(Checkpoint(ORIGIN, size, growth.edge.root).text)
    return Receipt(body, format_proof(index, growth.proof(index), checkpoint), None)


def receipt(limit: int = 150_000, outcome: str = "") -> Receipt:
    """Make a good receipt of a decision, or one whose entry commits to another outcome."""
    outcome = outcome_commitment(outcome_salt(SALT), outcome or ("offer" if limit else "none"))
    entry = decision(limit=limit_commitment(SALT, limit), outcome=outcome)
    return replace(logged(encode(entry, START)), opening=Opening(SALT, limit))


def failed(judged: Receipt, trust: Policy = TRUST) -> list[int]:
    """Return the numbers of the steps that fail."""
    steps = verify_receipt(judged, trust)
    assert len(steps) == 6
    assert all(step.name and step.detail for step in steps)
    return [number for number, step in enumerate(steps) if not step.ok]


def test_commitments_are_the_format() -> None:
    """The commitments are the hashes that docs/formats.md writes down."""
    assert limit_commitment(SALT, 150_000) == sha256(b"heixia limit v1\n" + SALT + b"150000").hexdigest()
    assert limit_commitment(SALT, 0) == sha256(b"heixia limit v1\n" + SALT + b"0").hexdigest()
    derived = outcome_salt(SALT)
    assert derived == sha256(b"heixia outcome salt v1\n" + SALT).digest()
    assert outcome_commitment(derived, "none") == sha256(b"heixia outcome v1\n" + derived + b"none").hexdigest()


@pytest.mark.parametrize(("salt", "limit"), [(b"", 1), (bytes(31), 1), (SALT, -1), (SALT, 2**53), (SALT, True)])
def test_commitments_refuse_what_is_out_of_range(salt: bytes, limit: int) -> None:
    """A short salt hides nothing; a limit is whole yuan."""
    with pytest.raises(ProofInvalid):
        limit_commitment(salt, limit)
    with pytest.raises(ProofInvalid):
        outcome_commitment(salt, "perhaps")


@pytest.mark.parametrize("limit", [0, 1, 150_000, 2**53 - 1])
def test_good_receipts(limit: int) -> None:
    """A good receipt passes all steps, whether there was an offer or not, opened or not, kept as a file or not."""
    good = receipt(limit)
    assert failed(good) == []
    assert failed(replace(good, opening=None)) == []
    assert Receipt.load(good.dump()) == good
    assert Receipt.load(replace(good, opening=None).dump()).opening is None


def with_proof(change: Callable[[TlogProof], TlogProof]) -> Callable[[Receipt], Receipt]:
    """Change the proof within a receipt."""
    return lambda good: replace(good, proof=change(TlogProof.parse(good.proof)).text)


def resigned(good: Receipt, **changed: Any) -> str:
    """Sign another tree head with another key of the log's name."""
    return signer(seed=b"\x07" * 32).sign(Checkpoint(ORIGIN, 9, bytes(32)).text)


@pytest.mark.parametrize(
    ("damage", "steps"),
    [
        (lambda good: replace(good, opening=Opening(SALT, 150_001)), [OPENING]),
        (lambda good: replace(good, opening=Opening(SALT, 0)), [OPENING]),
        (lambda good: replace(good, opening=Opening(bytes(32), 150_000)), [OPENING]),
        (lambda good: replace(good, opening=Opening(b"", -5)), [OPENING]),
        (lambda good: replace(good, entry=good.entry.replace(b'"seq":1', b'"seq":2')), [TREE]),
        (lambda good: replace(good, entry=good.entry[:-1]), [PARSES, KIND, OPENING, TREE]),
        (lambda good: replace(good, entry=b""), [PARSES, KIND, OPENING, TREE]),
        (with_proof(lambda proof: replace(proof, index=4)), [TREE]),
        (with_proof(lambda proof: replace(proof, hashes=proof.hashes[:-1])), [TREE]),
        (with_proof(lambda proof: replace(proof, hashes=proof.hashes[::-1])), [TREE]),
        (with_proof(lambda proof: replace(proof, extra=b"x")), []),
        (with_proof(lambda proof: replace(proof, checkpoint=resigned(receipt()))), [TREE, LOG, QUORUM]),
        (lambda good: replace(good, proof=good.proof.replace("\n9\n", "\n10\n")), [LOG, QUORUM]),
        (lambda good: replace(good, proof=good.proof.replace(ORIGIN + "\n", "x\n")), [LOG, QUORUM]),
        (lambda good: replace(good, proof=""), [TREE, LOG, QUORUM]),
        (lambda good: replace(good, proof="\ud800" + good.proof), [TREE, LOG, QUORUM]),
        (lambda good: replace(good, proof=good.proof + "\ud800"), [TREE, LOG, QUORUM]),
    ],
)
def test_bad_receipts(damage: Callable[[Receipt], Receipt], steps: list[int]) -> None:
    """Each lie is found by the step that should find it."""
    assert failed(damage(receipt())) == steps


@pytest.mark.parametrize(("limit", "outcome"), [(0, "offer"), (150_000, "none")])
def test_the_outcome_must_be_that_of_the_limit(limit: int, outcome: str) -> None:
    """An entry that says one thing to the caller and another to the auditor is found."""
    assert failed(receipt(limit, outcome)) == [OPENING]


def test_an_entry_of_another_kind_is_no_decision() -> None:
    """A true entry of the log is not yet an answer to a call."""
    assert failed(logged(encode(VersionAdmitted("bank/loan@1"), START))) == [KIND, OPENING]


def test_another_log_is_not_trusted() -> None:
    """A policy with another key or with a quorum that is missing refuses the same receipt."""
    other = Policy((signer(seed=b"\x07" * 32).verifier,))
    assert failed(receipt(), other) == [LOG, QUORUM]
    assert failed(receipt(), Policy(())) == [LOG, QUORUM]
    cosigned = replace(TRUST, witnesses={"w": signer("w.example").verifier}, quorum="w")
    assert failed(receipt(), cosigned) == [QUORUM]


@given(st.data())
def test_a_flipped_bit_anywhere_is_found(data: st.DataObject) -> None:
    """Whatever bit of entry or proof changes, some step fails."""
    good = receipt()
    entry, proof = bytearray(good.entry), bytearray(good.proof.encode())
    part = data.draw(st.sampled_from([entry, proof]))
    part[data.draw(st.integers(0, len(part) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    changed = Receipt(bytes(entry), proof.decode("utf-8", "replace"), good.opening)
    assert failed(changed) != []


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "heixia.receipt/v2"},
        {"schema": None},
        {"entry": "not base64"},
        {"entry": "Zg"},
        {"entry": 5},
        {"proof": 5},
        {"more": 1},
        {"opening": []},
        {"opening": {"salt": "00" * 32}},
        {"opening": {"salt": "00" * 31, "limit": 1}},
        {"opening": {"salt": "0" * 63, "limit": 1}},
        {"opening": {"salt": "AB" * 32, "limit": 1}},
        {"opening": {"salt": "00 " * 32, "limit": 1}},
        {"opening": {"salt": "zz" * 32, "limit": 1}},
        {"opening": {"salt": "00" * 32, "limit": "1"}},
        {"opening": {"salt": "00" * 32, "limit": 1.5}},
        {"opening": {"salt": "00" * 32, "limit": True}},
        {"opening": {"salt": "00" * 32, "limit": -1}},
        {"opening": {"salt": "00" * 32, "limit": 1, "more": 1}},
    ],
)
def test_malformed_receipt_files(change: dict[str, Any]) -> None:
    """A file with a wrong, missing or unknown member is refused when it is read."""
    with pytest.raises(ProofInvalid):
        Receipt.load(json.dumps(json.loads(receipt().dump()) | change))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "null",
        "[" * 100_000,
        '{"a":1,"a":1}',
        '{"v":' + "9" * 5000 + "}",
        " " * 2_000_001,
        '{"schema":"heixia.receipt/v1","entry":"\ud800","proof":"","opening":null}',
    ],
)
def test_what_is_no_receipt_file(text: str) -> None:
    """Anything else is refused in our words."""
    with pytest.raises(ProofInvalid):
        Receipt.load(text)


def test_receipt_files_have_the_members_of_the_format() -> None:
    """The file is the JSON object that docs/formats.md describes."""
    good = receipt()
    assert json.loads(good.dump()) == {
        "schema": "heixia.receipt/v1",
        "entry": encode_base64(good.entry),
        "proof": good.proof,
        "opening": {"salt": SALT.hex(), "limit": 150_000},
    }
