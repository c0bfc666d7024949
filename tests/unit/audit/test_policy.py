"""The tlog-policy format: whom a verifier trusts, and when it is enough."""

from itertools import combinations
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import ProofInvalid
from audit.merkle import EMPTY_ROOT
from audit.note import COSIGNATURE, Checkpoint, NoteVerifier, encode_base64
from audit.policy import Policy
from tests.unit.audit.vectors import ORIGIN, examples, needs_vectors, signer

CHECKPOINT = Checkpoint(ORIGIN, 0, EMPTY_ROOT)
SEEDS = {name: bytes([number]) * 32 for number, name in enumerate("abcd", 100)}


def witness(name: str) -> NoteVerifier:
    """Make a witness's public key."""
    key = Ed25519PrivateKey.from_private_bytes(SEEDS[name]).public_key().public_bytes_raw()
    return NoteVerifier(f"{name}.example", COSIGNATURE, key)


def cosign(name: str, text: str, time: int = 1_800_000_000) -> str:
    """Write a witness's signature line (c2sp.org/tlog-cosignature, type 0x04)."""
    key = Ed25519PrivateKey.from_private_bytes(SEEDS[name])
    signature = key.sign(f"cosignature/v1\ntime {time}\n{text}".encode())
    payload = witness(name).key_id + time.to_bytes(8, "big") + signature
    return f"\u2014 {name}.example {encode_base64(payload)}\n"


def policy(*lines: str) -> Policy:
    """Parse a policy with our log, the four witnesses and these lines."""
    witnesses = [f"witness {name} {witness(name).vkey}" for name in SEEDS]
    return Policy.parse("\n".join([f"log {signer().verifier.vkey}", *witnesses, *lines, ""]))


def accepts(rules: Policy, names: str) -> bool:
    """Tell whether a policy accepts our checkpoint cosigned by these witnesses."""
    note = signer().sign(CHECKPOINT.text) + "".join(cosign(name, CHECKPOINT.text) for name in names)
    try:
        return rules.verify(note) == CHECKPOINT
    except ProofInvalid:
        return False


@needs_vectors
@pytest.mark.parametrize("case", examples("policies"), ids=lambda case: case["desc"])
def test_policy_examples(case: dict[str, Any]) -> None:
    """The examples parse or are refused as the specification says."""
    if case["expected"] == "valid":
        parsed = Policy.parse(case["text"])
        assert parsed.groups[parsed.quorum].threshold == case["threshold"]
    else:
        with pytest.raises(ProofInvalid):
            Policy.parse(case["text"])


SUBSETS = ["".join(chosen) for size in range(5) for chosen in combinations("abcd", size)]


@pytest.mark.parametrize(
    ("lines", "enough"),
    [
        (["quorum none"], lambda names: True),
        (["quorum c"], lambda names: "c" in names),
        (["group g any a b", "quorum g"], lambda names: bool(set(names) & set("ab"))),
        (["group g all a b", "quorum g"], lambda names: set(names) >= set("ab")),
        (["group g 2 a b c", "quorum g"], lambda names: len(set(names) & set("abc")) >= 2),
        (
            ["group x 2 a b c", "group y any d", "group both all x y", "quorum both"],
            lambda names: len(set(names) & set("abc")) >= 2 and "d" in names,
        ),
    ],
)
def test_quorums(lines: list[str], enough: Any) -> None:
    """Every subset of the witnesses is enough or not as the rule says."""
    rules = policy(*lines)
    assert [names for names in SUBSETS if accepts(rules, names)] == [names for names in SUBSETS if enough(names)]


def test_the_log_must_sign_under_its_own_origin() -> None:
    """A witness, another log or a log under another's origin is not the log."""
    rules = policy("quorum none")
    text = CHECKPOINT.text
    assert rules.verify(signer().sign(text)) == CHECKPOINT
    stranger = signer("other.example", b"\x09" * 32)
    for note in (
        stranger.sign(text),
        f"{text}\n{cosign('a', text)}",
        signer().sign(Checkpoint("other.example", 0, EMPTY_ROOT).text),
        signer().sign("no checkpoint\n"),
    ):
        with pytest.raises(ProofInvalid):
            rules.verify(note)


def test_a_failed_cosignature_condemns_the_checkpoint() -> None:
    """A known witness's bad signature is an alarm, not a missing vote."""
    note = signer().sign(CHECKPOINT.text) + cosign("a", CHECKPOINT.text + "more\n")
    with pytest.raises(ProofInvalid):
        policy("quorum none").verify(note)


def test_spaces_and_comments() -> None:
    """Tabs, spaces, empty lines and comment lines may stand anywhere."""
    vkey = signer().verifier.vkey
    text = f"# ours\n\n \t log \t {vkey} \t https://example.com/ \n\t# no witnesses\nquorum  none\t\n"
    assert Policy.parse(text).logs == (signer().verifier,)


LOG = f"log {signer().verifier.vkey}"
WITNESS = f"witness w {witness('a').vkey}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "quorum none",
        f"{LOG}\n",
        f"{LOG}\n{LOG}\nquorum none\n",
        f"log {signer('second.example').verifier.vkey}\n{LOG}\nquorum none\n",
        f"{LOG}\nquorum none\nquorum none\n",
        f"{LOG} u u\nquorum none\n",
        "log\nquorum none\n",
        f"log {witness('a').vkey}\nquorum none\n",
        f"witness w {signer().verifier.vkey}\nquorum w\n",
        f"{WITNESS}\n{WITNESS}\nquorum w\n",
        f"{WITNESS}\nwitness v {witness('a').vkey}\nquorum w\n",
        f"witness none {witness('a').vkey}\nquorum none\n",
        f"{WITNESS}\ngroup w any w\nquorum w\n",
        f"{WITNESS}\ngroup g 0 w\nquorum g\n",
        f"{WITNESS}\ngroup g 2 w\nquorum g\n",
        f"{WITNESS}\ngroup g 01 w\nquorum g\n",
        f"{WITNESS}\ngroup g -1 w\nquorum g\n",
        f"{WITNESS}\ngroup g any\nquorum g\n",
        f"{WITNESS}\ngroup g any w w\nquorum g\n",
        f"{WITNESS}\ngroup g any w\ngroup h any w\nquorum h\n",
        f"{WITNESS}\ngroup g any g\nquorum g\n",
        f"{WITNESS}\ngroup g any none\nquorum g\n",
        f"quorum w\n{WITNESS}\n",
        "quorum none\nlogs x\n",
        "quorum none\r\n",
        "quorum\u00a0none\n",
        "quorum none\x7f\n",
        "# " + "x" * 1_000_000 + "\nquorum none\n",
    ],
)
def test_malformed_policies(text: str) -> None:
    """Each way to write a policy wrongly is refused: what is trusted must be beyond doubt."""
    with pytest.raises(ProofInvalid):
        Policy.parse(text)


def test_refusals_name_the_line() -> None:
    """Whoever wrote the file finds the place."""
    with pytest.raises(ProofInvalid, match="policy line 2"):
        Policy.parse(f"{LOG}\nwitness w {signer().verifier.vkey}\nquorum w\n")


@given(st.text(st.sampled_from("log witness group quorum none any all w 12\t\n+A="), max_size=80))
def test_no_text_makes_the_parser_stumble(noise: str) -> None:
    """Noise is refused in our words, or is a policy."""
    try:
        Policy.parse(f"{LOG}\n{WITNESS}\n{noise}\nquorum w\n")
    except ProofInvalid:
        return
