"""ML-DSA-44 signatures of checkpoints: another program's, ours beside Ed25519, and what must not pass."""

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import ProofInvalid
from audit.merkle import EMPTY_ROOT, leaf_hash
from audit.note import (
    COSIGNATURE,
    ML_DSA_44,
    SCHEMES,
    Checkpoint,
    Note,
    NoteSigner,
    NoteVerifier,
    decode_base64,
    encode_base64,
)
from audit.policy import Policy
from audit.signature import KEY_ID_BYTES, TIME_MAX, signed_at, tree_message
from tests.unit.audit.test_policy import cosign
from tests.unit.audit.test_policy import witness as ed25519_witness
from tests.unit.audit.vectors import ORIGIN, examples, hybrid_signer, needs_vectors, signer

ROOT = leaf_hash(b"testonly")
TORCHWOOD = Path(__file__).parent / "data" / "torchwood_ml_dsa_44.note"
TORCHWOOD_SEED = bytes.fromhex("2886adc2b0eabfce67c0472939127998bf886cf256bfee8ba76a253fce1146e0")
CHECKPOINT = Checkpoint(ORIGIN, 1, ROOT)
TIME = 1_800_000_000


def ml_dsa(name: str, seed: bytes) -> tuple[MLDSA44PrivateKey, NoteVerifier]:
    """Make an ML-DSA-44 key and its verifier."""
    key = MLDSA44PrivateKey.from_seed_bytes(seed)
    return key, NoteVerifier(name, ML_DSA_44, key.public_key().public_bytes_raw())


def line_of(note: str, number: int) -> str:
    """Take one signature line, with its newline."""
    return note.partition("\n\n")[2].splitlines(keepends=True)[number]


def test_a_checkpoint_that_another_program_signed() -> None:
    """FiloSottile/torchwood (cmd/litewitness/testdata/mldsa.txt): its seed gives its key id, its signature verifies."""
    _, verifier = ml_dsa("example.com/mldsa-log", TORCHWOOD_SEED)
    assert verifier.key_id.hex() == "b5df45c5"
    assert NoteVerifier.parse(verifier.vkey) == verifier
    note = Note.parse(TORCHWOOD.read_text())
    assert note.verify([verifier]) == (verifier,)
    assert signed_at(note.signatures[0].payload) == 0
    assert Checkpoint.parse(note.text) == Checkpoint("example.com/mldsa-log", 1, ROOT)


def test_the_message_of_the_specification() -> None:
    """The signed bytes are the TLS structure of tlog-cosignature, written out by hand."""
    assert tree_message("w.example", Checkpoint("a.example/l", 258, bytes(range(32))), 1679315147) == (
        b"subtree/v1\n\x00"
        b"\x09w.example"
        b"\x00\x00\x00\x00\x64\x18\x50\xcb"
        b"\x0ba.example/l"
        b"\x00\x00\x00\x00\x00\x00\x00\x00"
        b"\x00\x00\x00\x00\x00\x00\x01\x02" + bytes(range(32))
    )


def test_two_lines_either_of_which_is_enough() -> None:
    """A log's note holds both lines; who knows one key or both verifies it, and the time stands in the second."""
    log = hybrid_signer()
    note = Note.parse(log.sign(CHECKPOINT.text, TIME))
    ed25519, pq = log.verifiers
    assert log.verifier == ed25519
    for known in ([ed25519], [pq], [ed25519, pq]):
        assert note.verify(known) == tuple(known)
        assert Policy(tuple(known)).verify(log.sign(CHECKPOINT.text, TIME)) == CHECKPOINT
    assert [len(line.payload) for line in note.signatures] == [64, 8 + 2420]
    assert signed_at(note.signatures[1].payload) == TIME


def test_old_receipts_still_verify() -> None:
    """What was signed with Ed25519 alone passes a policy of both keys; a policy of ML-DSA-44 alone refuses it."""
    ed25519, pq = hybrid_signer().verifiers
    old = signer().sign(CHECKPOINT.text)
    assert Policy((ed25519, pq)).verify(old) == CHECKPOINT
    with pytest.raises(ProofInvalid, match="no known key"):
        Policy((pq,)).verify(old)


@pytest.mark.parametrize("number", [0, 1])
def test_a_failed_line_of_either_key_condemns_the_note(number: int) -> None:
    """One line cannot be taken from another checkpoint while the other is right."""
    log = hybrid_signer()
    good, other = log.sign(CHECKPOINT.text, TIME), log.sign(Checkpoint(ORIGIN, 2, ROOT).text, TIME)
    mixed = good.replace(line_of(good, number), line_of(other, number))
    with pytest.raises(ProofInvalid, match="does not verify"):
        Note.parse(mixed).verify(log.verifiers)


@given(st.integers(0, 2427), st.integers(0, 7))
def test_a_flipped_bit_breaks_it(at: int, bit: int) -> None:
    """Whatever bit of time or signature changes, it no longer verifies."""
    payload = bytearray(Note.parse(PQ_NOTE).signatures[1].payload)
    payload[at] ^= 1 << bit
    assert not hybrid_signer().verifiers[1].verifies(CHECKPOINT.text, bytes(payload))


PQ_NOTE = hybrid_signer().sign(CHECKPOINT.text, TIME)


@pytest.mark.parametrize(
    "text",
    [
        Checkpoint("example.com/other", 1, ROOT).text,
        Checkpoint(ORIGIN, 2, ROOT).text,
        Checkpoint(ORIGIN, 1, EMPTY_ROOT).text,
        CHECKPOINT.text + "extension\n",
        f"{ORIGIN}\n1\n",
        "no checkpoint\n",
        "",
    ],
)
def test_another_text(text: str) -> None:
    """A signature holds for its own origin, size and root; for text that it does not cover it never holds."""
    pq, payload = hybrid_signer().verifiers[1], Note.parse(PQ_NOTE).signatures[1].payload
    assert pq.verifies(CHECKPOINT.text, payload)
    assert not pq.verifies(text, payload)


def test_the_key_s_name_is_signed() -> None:
    """One key under two names makes two signatures: none passes for the other's."""
    log, other = hybrid_signer(), hybrid_signer("example.com/other")
    assert log.verifiers[1].key == other.verifiers[1].key
    assert not other.verifiers[1].verifies(CHECKPOINT.text, Note.parse(PQ_NOTE).signatures[1].payload)


@pytest.mark.parametrize("payload", [b"", bytes(64), bytes(2420), bytes(2427), bytes(2429)])
def test_payloads_of_another_length(payload: bytes) -> None:
    """A payload is time and signature, to the byte."""
    assert not hybrid_signer().verifiers[1].verifies(CHECKPOINT.text, payload)


@pytest.mark.parametrize("time", [-1, TIME_MAX + 1])
def test_times_out_of_range(time: int) -> None:
    """No time above 2**63 - 1 is signed."""
    with pytest.raises(ProofInvalid):
        hybrid_signer().sign(CHECKPOINT.text, time)


def test_a_time_out_of_range_is_not_believed() -> None:
    """A signature that is right over a time above 2**63 - 1 is none, of type 0x04 nor 0x06."""
    key, verifier = ml_dsa("w.example", bytes(32))
    late = (TIME_MAX + 1).to_bytes(8, "big")
    message = tree_message("w.example", CHECKPOINT, TIME_MAX).replace(TIME_MAX.to_bytes(8, "big"), late)
    assert not verifier.verifies(CHECKPOINT.text, late + key.sign(message))
    note = Note.parse(CHECKPOINT.text + "\n" + cosign("a", CHECKPOINT.text, TIME_MAX + 1))
    with pytest.raises(ProofInvalid):
        note.verify([ed25519_witness("a")])
    note = Note.parse(CHECKPOINT.text + "\n" + cosign("a", CHECKPOINT.text, TIME_MAX))
    assert note.verify([ed25519_witness("a")])


@pytest.mark.parametrize(("name", "origin"), [("n" * 256, "o"), ("n", "o" * 256), ("é" * 128, "o")])
def test_names_that_do_not_fit(name: str, origin: str) -> None:
    """A name or origin above 255 bytes cannot be signed under ML-DSA-44, and never verifies."""
    with pytest.raises(ProofInvalid, match="255"):
        tree_message(name, Checkpoint(origin, 1, ROOT), 0)
    _, verifier = ml_dsa(name, bytes(32))
    assert not verifier.verifies(Checkpoint(origin, 1, ROOT).text, bytes(2428))


def test_only_checkpoints_are_signed() -> None:
    """With an ML-DSA-44 key no other text can be signed, and none with extension lines."""
    for text in ("text\n", CHECKPOINT.text + "extension\n"):
        with pytest.raises(ProofInvalid):
            hybrid_signer().sign(text)


def test_a_wrong_printed_id_is_refused() -> None:
    """A key's id is recomputed for ML-DSA-44 as for any other."""
    vkey = hybrid_signer().verifiers[1].vkey
    name, key_id, key = vkey.split("+", 2)
    assert NoteVerifier.parse(vkey).vkey == vkey
    for changed in (f"{name}+00000000+{key}", f"{name}x+{key_id}+{key}", vkey[:-4], vkey + "AAAA"):
        with pytest.raises(ProofInvalid):
            NoteVerifier.parse(changed)


def test_witnesses_of_both_types_make_a_quorum() -> None:
    """A policy takes logs of types 0x01 and 0x06, witnesses of types 0x04 and 0x06, and no others."""
    log = hybrid_signer()
    key, pq = ml_dsa("pq.example", b"\x07" * 32)
    payload = TIME.to_bytes(8, "big") + key.sign(tree_message("pq.example", CHECKPOINT, TIME))
    line = f"\u2014 pq.example {encode_base64(pq.key_id + payload)}\n"
    text = "".join(f"log {each.vkey} https://log.example/\n" for each in log.verifiers)
    text += f"witness a {ed25519_witness('a').vkey}\nwitness pq {pq.vkey} https://w.example/\n"
    text += "group both all a pq\nquorum both\n"
    policy = Policy.parse(text)
    note = log.sign(CHECKPOINT.text, TIME) + cosign("a", CHECKPOINT.text)
    assert policy.verify(note + line) == CHECKPOINT
    with pytest.raises(ProofInvalid, match="quorum"):
        policy.verify(note)
    with pytest.raises(ProofInvalid, match="0x04"):
        Policy.parse(f"log {ed25519_witness('a').vkey}\nquorum none\n")
    with pytest.raises(ProofInvalid, match="0x01"):
        Policy.parse(f"witness w {signer().verifier.vkey}\nquorum w\n")
    assert ed25519_witness("a").type == COSIGNATURE


def test_a_key_twice_under_two_names_is_refused() -> None:
    """A policy counts a public key once, whatever it calls it."""
    _, one = ml_dsa("one.example", bytes(32))
    _, two = ml_dsa("two.example", bytes(32))
    with pytest.raises(ProofInvalid, match="second time"):
        Policy.parse(f"witness a {one.vkey}\nwitness b {two.vkey}\ngroup g any a b\nquorum g\n")


def test_names_in_a_policy_are_octets() -> None:
    """A policy's names and comments may be no UTF-8, and octets that differ are different names."""
    vkeys = [ed25519_witness(name).vkey.encode() for name in "ab"]
    head = b"# \xff\xfe\nwitness \xe9 %s\nwitness \xc3\xa9 %s\n" % (vkeys[0], vkeys[1])
    policy = Policy.parse(head + b"group \xfc all \xe9 \xc3\xa9\nquorum \xfc\n")
    assert len(policy.witnesses) == 2
    with pytest.raises(ProofInvalid, match="not defined"):
        Policy.parse(head + b"quorum \xea\n")


def test_thirty_two_of_everything() -> None:
    """The sizes that the specification strongly recommends are supported."""
    signers = [NoteSigner.from_seed(f"log.example/{n}", bytes([n]) * 32) for n in range(32)]
    keys = [ml_dsa(f"w.example/{n}", bytes([n]) * 32)[1] for n in range(32)]
    lines = [f"log {each.verifier.vkey}" for each in signers]
    lines += [f"witness w{n} {key.vkey}" for n, key in enumerate(keys)]
    lines += [f"group g{n} any w{n}" for n in range(31)]
    lines += [f"group g 16 {' '.join(f'g{n}' for n in range(31))} w31", "quorum g", ""]
    policy = Policy.parse("\n".join(lines))
    assert (len(policy.logs), len(policy.witnesses), len(policy.groups)) == (32, 32, 32)


@needs_vectors
@pytest.mark.parametrize("case", examples("cosignature_times"), ids=lambda case: case["desc"])
def test_times_of_cosignatures(case: dict[str, Any]) -> None:
    """The examples' times are read; what is no cosignature has none."""
    if case["expected"] == "valid":
        payload = decode_base64(case["signature"])[KEY_ID_BYTES:]
        assert len(payload) == SCHEMES[COSIGNATURE].payload_bytes
        assert signed_at(payload) == case["time"]
    else:
        note = f"{CHECKPOINT.text}\n\u2014 a.example {case['signature']}\n"
        with pytest.raises(ProofInvalid):
            Note.parse(note).verify([ed25519_witness("a")])


def test_a_log_names_the_keys_that_signed() -> None:
    """What a verifier is told names key and type, not two kilobytes of key."""
    labels = [verifier.label for verifier in hybrid_signer().verifiers]
    assert labels[0].endswith("(Ed25519)")
    assert labels[1].endswith("(ML-DSA-44)")
    assert max(map(len, labels)) < 60
