"""Filters: what may be asked, how it stands in the log, and tokens that somebody made up."""

import base64
import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import SearchInvalid
from audit.index_filter import Cursor, Filter

SUBJECTS = ("uscc:91350100M000100Y43", "91350100M000100Y43", "ric:11010519491231002X", "11010519491231002X", "王小明")
MEMBERS = ("institution", "product", "version", "consent", "subject", "kind", "outcome", "code", "caller")


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("value", [*SUBJECTS, "Zhongyuan", "a b", "x\n", " x", "x" * 200, "*", "%", "a/b/c/d", "\0"])
def test_nothing_that_no_entry_has_gets_into_a_filter(member: str, value: str) -> None:
    """A subject, a name or free text is refused in every member, and the refusal does not repeat it."""
    with pytest.raises(SearchInvalid) as refusal:
        replace(Filter(), **{member: value})  # type: ignore[arg-type]
    if value in SUBJECTS:
        assert value not in f"{refusal.value} {refusal.value.public}"


def test_the_text_is_the_filter_and_short() -> None:
    """The longest filter stays far below an entry's bound, and no two filters have one text."""
    name = "a" + "b" * 62
    longest = Filter(
        name, f"{name}/{name}", f"{name}/{name}@999999999", "0" * 8 + "-0000-4000-8000-" + "0" * 12, "0" * 32,
        "consent.granted", "repeated", "c" * 64, f"institution/{name}/{'p' * 63}", 0, 253_402_300_799_999,
    )  # fmt: skip
    assert len(longest.text) < 1_000
    assert Filter().text == "all"
    assert Filter(kind="refusal", since=0).text == "kind=refusal since=1970-01-01T00:00:00.000Z"
    assert Filter(since=0).text != Filter(until=0).text
    for moment in (-1, 253_402_300_800_000):
        with pytest.raises(SearchInvalid):
            Filter(since=moment)


@given(size=st.integers(0, 2**63), before=st.integers(0, 2**63))
def test_a_token_comes_back_as_it_went(size: int, before: int) -> None:
    """For the same filter and a log at least as long; for no other."""
    before = min(size, before)
    wanted = Filter(kind="decision")
    token = Cursor(size, before).token(wanted)
    assert Cursor.parse(token, wanted, size + 1) == Cursor(size, before)
    for other in (Filter(), Filter(kind="refusal"), Filter(kind="decision", since=0)):
        with pytest.raises(SearchInvalid):
            Cursor.parse(token, other, size + 1)
    if size:
        with pytest.raises(SearchInvalid):  # of a longer log than this one
            Cursor.parse(token, wanted, size - 1)


@given(token=st.text(max_size=60) | st.binary(max_size=40).map(lambda b: base64.urlsafe_b64encode(b).decode()))
def test_rubbish_is_no_token(token: str) -> None:
    """Any text ends in SearchInvalid, nothing else."""
    with pytest.raises(SearchInvalid):
        Cursor.parse(token, Filter(), 10)


def test_a_token_has_one_spelling() -> None:
    """Padding, other alphabets, spare bits and spare bytes are refused, and a position behind the search's size."""
    wanted = Filter()
    token = Cursor(9, 5).token(wanted)
    for changed in (token + "=", token + "A", token[:-1], " " + token, token.replace(token[0], "+", 1), token + "\n"):
        with pytest.raises(SearchInvalid):
            Cursor.parse(changed, wanted, 9)
    packed = bytearray(base64.urlsafe_b64decode(token + "=="))
    packed[-8:] = struct.pack(">Q", 10)
    with pytest.raises(SearchInvalid):
        Cursor.parse(base64.urlsafe_b64encode(packed).rstrip(b"=").decode(), wanted, 99)
