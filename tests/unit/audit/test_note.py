"""Signed notes, verifier keys and checkpoints against known answers and the specifications' examples."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import ProofInvalid
from audit.merkle import tree_hash
from audit.note import Checkpoint, Note, NoteSigner, NoteVerifier, decode_base64, encode_base64, parse_decimal
from tests.unit.audit.test_merkle import ROOTS_3, WORDS, numbered, words
from tests.unit.audit.vectors import TLOG, examples, go_signer, needs_vectors, signer

FOO = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
FOO_NOTE = (
    "This is an example message.\n\n\u2014 example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
TINY = "example.com/log/testdata"
TINY_VKEY = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"
TINY_KEY = "AeymY/SZAX0jZcJ8enZ5FY1Dz+wTML2yWSkK+9DSF3eg"


def supported(vkey: str) -> bool:
    """Tell whether an example's key is of a type in our profile: not 0x02 or 0x05 (left out)."""
    try:
        return decode_base64(vkey.split("+", 2)[2])[0] in (1, 4, 6)
    except (IndexError, ProofInvalid):
        return False


def test_example_of_the_specification() -> None:
    """Known answer 1: the note of signed-note.md."""
    verifier = NoteVerifier.parse(FOO)
    assert verifier.vkey == FOO
    note = Note.parse(FOO_NOTE)
    assert note.text == "This is an example message.\n"
    assert note.verify([verifier]) == (verifier,)


def test_checkpoint_of_the_go_checksum_database() -> None:
    """Known answer 2: a real log, whose origin is not its key's name."""
    verifier = NoteVerifier.parse("sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8")
    note = Note.parse(
        "go.sum database tree\n35225469\nvt5T6GaLCXvyHFl9VUvvItR43XZxfLgftEcTyO3eJCQ=\n\n\u2014 sum.golang.org "
        "Az3grpukl5AXaVfYkLiDGORx/DN2nlcS5kZHR5uYOBV2KA2HgXpD+gu9HHONebHLAyaKbbTM75QTtPydhKCExixSfwQ=\n"
    )
    assert note.verify([verifier]) == (verifier,)
    checkpoint = Checkpoint.parse(note.text)
    assert (checkpoint.origin, checkpoint.size) == ("go.sum database tree", 35225469)
    assert checkpoint.text == note.text


def test_key_of_the_tiny_log() -> None:
    """Known answer 3: Go's private key makes that verifier key."""
    assert go_signer(TINY, TINY_KEY).verifier.vkey == TINY_VKEY


@needs_vectors
@pytest.mark.parametrize("size", range(16))
def test_checkpoints_of_the_tiny_log(size: int) -> None:
    """Known answer 3: all 16 checkpoints, made again to the byte, read and verified."""
    stored = (TLOG / "tessera_log" / f"checkpoint.{size}").read_text()
    checkpoint = Checkpoint(TINY, size, tree_hash(words(size)))
    assert go_signer(TINY, TINY_KEY).sign(checkpoint.text) == stored
    note = Note.parse(stored)
    note.verify([NoteVerifier.parse(TINY_VKEY)])
    assert Checkpoint.parse(note.text) == checkpoint
    assert encode_base64(checkpoint.root) == ROOTS_3.get(size, encode_base64(checkpoint.root))
    assert len(WORDS) == 15


def test_signature_of_known_answer_6() -> None:
    """Known answer 6: the key of seed 00..1f and its signature at size 257, accepted by Go."""
    kat = signer("example.com/kat", bytes(range(32)))
    assert kat.verifier.vkey == "example.com/kat+a02c02a0+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
    assert kat.sign(Checkpoint("example.com/kat", 257, tree_hash(numbered(257))).text).endswith(
        "\n\u2014 example.com/kat "
        "oCwCoIMp1lw8FHG1npKi+PlxB1HOCls7DNJ/BUo+7QNfPrH7e/QP5eEte86TMqsVBdiKPeUnTbSXKb7gbpTxbI4cHQ8=\n"
    )


@needs_vectors
@pytest.mark.parametrize("case", examples("notes") + examples("cosignatures"), ids=lambda case: case["desc"])
def test_note_examples(case: dict[str, Any]) -> None:
    """The examples verify as the specifications say; a key of a type left out is refused when it is read."""
    if not all(supported(vkey) for vkey in case["vkeys"]):
        with pytest.raises(ProofInvalid, match="not supported"):
            [NoteVerifier.parse(vkey) for vkey in case["vkeys"]]
        Note.parse(case["note"])
        return
    verifiers = [NoteVerifier.parse(vkey) for vkey in case["vkeys"]]
    if case["expected"] == "valid":
        assert set(Note.parse(case["note"]).verify(verifiers)) == set(verifiers)
    else:
        with pytest.raises(ProofInvalid):
            Note.parse(case["note"]).verify(verifiers)


@needs_vectors
@pytest.mark.parametrize("case", examples("vkeys"), ids=lambda case: case["desc"])
def test_verifier_key_examples(case: dict[str, Any]) -> None:
    """Good keys of our types come back to the byte; all others are refused, a wrong printed id among them."""
    if case["expected"] == "valid" and supported(case["vkey"]):
        assert NoteVerifier.parse(case["vkey"]).vkey == case["vkey"]
    else:
        with pytest.raises(ProofInvalid):
            NoteVerifier.parse(case["vkey"])


@pytest.mark.parametrize(
    "vkey",
    [
        FOO.replace("530d903a", "530d903b"),
        FOO.replace("530d903a", "530D903A"),
        FOO.replace("530d903a", "0x530d903a"),
        FOO.replace("530d903a", ""),
        FOO.replace("foo", "bar"),
        FOO.replace("3U2k", "3U2l"),
        FOO[:-4],
        FOO + "AAAA",
        FOO + "\n",
        FOO.replace("+Ae", "+Be"),
    ],
)
def test_a_key_id_is_never_believed(vkey: str) -> None:
    """A verifier key whose printed id is not that of its name, type and key is refused."""
    with pytest.raises(ProofInvalid):
        NoteVerifier.parse(vkey)


@needs_vectors
@pytest.mark.parametrize("case", examples("checkpoint_bodies"), ids=lambda case: case["desc"])
def test_checkpoint_examples(case: dict[str, Any]) -> None:
    """Bodies that are no tlog-checkpoint are refused, those that upstream lets pass too."""
    assert case["expected"] == "invalid"
    with pytest.raises(ProofInvalid):
        Checkpoint.parse(case["text"])


@pytest.mark.parametrize(
    "damage",
    [
        lambda note: "",
        lambda note: note[:-1],
        lambda note: note.replace("\n", "\r\n"),
        lambda note: note.replace("This", "Th\x00s"),
        lambda note: note.replace("This", "Th\ts"),
        lambda note: note.replace("This", "Th\ud800s"),
        lambda note: note.replace("\n\n", "\n"),
        lambda note: note + "\n",
        lambda note: note + "trailing\n",
        lambda note: note.replace("\u2014 ", "- "),
        lambda note: note.replace("\u2014 ", "\u2014  "),
        lambda note: note.replace("\u2014 ", " \u2014 "),
        lambda note: note.replace("aQM=\n", "aQM= \n"),
        lambda note: note.replace("aQM=\n", "aQM\n"),
        lambda note: note.replace("aQM=\n", "aQN=\n"),
        lambda note: note.replace("aQM=\n", "a_M=\n"),
        lambda note: note.replace("example.com/foo", "example.com/f\u00a0o"),
        lambda note: note.replace("example.com/foo", "example.com/f+o"),
        lambda note: note.replace("\u2014 example.com/foo ", "\u2014 "),
        lambda note: note + "\u2014 other.example Uw2QOg==\n",
        lambda note: note + "\u2014 other.example !!!!\n",
        lambda note: note + note.partition("\n\n")[2] * 100,
        lambda note: "x" * 1_000_000 + note,
    ],
)
def test_malformed_notes(damage: Any) -> None:
    """Each way to damage a note's form condemns it, in our words."""
    with pytest.raises(ProofInvalid):
        Note.parse(damage(FOO_NOTE))


def test_text_and_signatures_part_at_the_last_empty_line() -> None:
    """A text may hold empty lines, even what looks like signatures."""
    text = "a\n\n\u2014 example.com/foo AAAAAAA=\n"
    note = Note.parse(signer().sign(text))
    assert note.text == text
    assert note.verify([signer().verifier])


def test_sixteen_signatures_are_accepted() -> None:
    """A verifier must take 16 signatures; known ones are found among unknown."""
    signers = [signer(f"example.com/{number}", bytes([number]) * 32) for number in range(16)]
    text = "text\n"
    note = text + "\n" + "".join(each.sign(text).partition("\n\n")[2] for each in signers)
    assert Note.parse(note).verify([signers[15].verifier]) == (signers[15].verifier,)


def test_a_failed_signature_of_a_known_key_condemns_the_note() -> None:
    """One good signature does not heal a bad one by a known key; by an unknown key it is ignored."""
    first, second = signer("example.com/1"), signer("example.com/2")
    line = second.sign("other text\n").partition("\n\n")[2]
    note = Note.parse(first.sign("text\n") + line)
    assert note.verify([first.verifier]) == (first.verifier,)
    with pytest.raises(ProofInvalid):
        note.verify([first.verifier, second.verifier])


def test_a_key_that_signs_twice_counts_once_and_is_checked_twice() -> None:
    """A second line of a known key is verified, and adds nothing."""
    good, verifier = signer().sign("text\n"), signer().verifier
    line = good.partition("\n\n")[2]
    assert Note.parse(good + line).verify([verifier]) == (verifier,)
    with pytest.raises(ProofInvalid):
        Note.parse(good + signer().sign("other\n").partition("\n\n")[2]).verify([verifier])


def test_name_or_id_alone_is_no_match() -> None:
    """A key of the same name with another id is another key."""
    with pytest.raises(ProofInvalid, match="no known key"):
        Note.parse(signer().sign("text\n")).verify([signer(seed=b"\x02" * 32).verifier])


@given(st.text(max_size=200), st.data())
def test_no_text_makes_the_parsers_stumble(noise: str, data: st.DataObject) -> None:
    """Cut, doubled or overwritten notes and keys are refused in our words or read as what they are."""
    for whole, parse in ((FOO_NOTE, Note.parse), (FOO, NoteVerifier.parse), ("a\n1\nb\n", Checkpoint.parse)):
        at = data.draw(st.integers(0, len(whole)))
        for text in (noise, whole[:at] + noise + whole[at:], whole[:at] + noise + whole[at + len(noise) :]):
            try:
                parse(text)
            except ProofInvalid:
                continue


@given(st.data())
def test_a_flipped_bit_breaks_a_signature(data: st.DataObject) -> None:
    """Whatever character of a signed note changes, it no longer verifies under its key."""
    note = signer().sign("origin\n5\n" + encode_base64(bytes(32)) + "\n")
    at = data.draw(st.integers(0, len(note) - 1))
    changed = note[:at] + chr(ord(note[at]) ^ 1 << data.draw(st.integers(0, 6))) + note[at + 1 :]
    with pytest.raises(ProofInvalid):
        Note.parse(changed).verify([signer().verifier])


@given(st.integers(0, 2**64 - 1), st.binary(min_size=32, max_size=32))
def test_checkpoints_come_back(size: int, root: bytes) -> None:
    """Every tree head has one text."""
    checkpoint = Checkpoint("example.com/log", size, root)
    assert Checkpoint.parse(checkpoint.text) == checkpoint


@pytest.mark.parametrize(
    "text",
    [
        "o\n1\n{root}",
        "o\n01\n{root}\n",
        "o\n+1\n{root}\n",
        "o\n1 \n{root}\n",
        "o\n\u0661\n{root}\n",
        "o\n18446744073709551616\n{root}\n",
        "o\n\n{root}\n",
        "o\n1\n{root}\n\n",
        "o\n1\n{root}A\n",
        "\n1\n{root}\n",
    ],
)
def test_malformed_checkpoints(text: str) -> None:
    """Numbers, roots and lines have one spelling."""
    with pytest.raises(ProofInvalid):
        Checkpoint.parse(text.format(root=encode_base64(bytes(32))))


def test_extension_lines_are_read() -> None:
    """The specification allows them to others; they are kept, and written by none of ours."""
    text = f"o\n1\n{encode_base64(bytes(32))}\nmore\n"
    assert Checkpoint.parse(text).extensions == ("more",)
    assert Checkpoint.parse(text).text == text


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u2003b", "a\nb", "\ud800"])
def test_names_that_no_key_may_have(name: str) -> None:
    """A signer refuses a name that verifiers would refuse."""
    with pytest.raises(ProofInvalid):
        NoteSigner.from_seed(name, bytes(32))


@pytest.mark.parametrize("text", ["", "-1", "1.0", "1_0", " 1", "00", "²", "9" * 5000])
def test_other_numbers_are_refused(text: str) -> None:
    """A number is plain decimal."""
    with pytest.raises(ProofInvalid):
        parse_decimal(text)


def test_two_keys_of_one_name_and_id_are_refused() -> None:
    """Where name and id do not tell two known keys apart, nothing is verified under either."""
    one = NoteVerifier("example.com/a", 1, bytes(32))

    class Twin(NoteVerifier):
        key_id = one.key_id  # what an attacker reaches in 2**32 tries

    with pytest.raises(ProofInvalid, match="share"):
        Note.parse(FOO_NOTE).verify([one, Twin("example.com/a", 1, b"\x01" * 32)])
