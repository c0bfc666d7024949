"""Subjects: one spelling each, checksums checked, nothing of them in errors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum.cn import uscc

from sandbox.vault.errors import SubjectInvalid
from sandbox.vault.subject import parse_subject
from sandbox.vault.subject_columns import first_invalid_subject

GOOD = ["uscc:91110000600037341L", "ric:360426199101010071"]
ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"


def accepted(text: str) -> bool:
    """Say whether `parse_subject` takes the text."""
    try:
        return parse_subject(text) == text
    except SubjectInvalid:
        return False


@st.composite
def credit_codes(draw: st.DrawFn) -> str:
    """Draw codes of the right shape, about half with the right check character."""
    body = draw(st.text("0123456789", min_size=8, max_size=8)) + draw(st.text(ALPHABET, min_size=9, max_size=9))
    return f"uscc:{body}{draw(st.sampled_from([uscc.calc_check_digit(body), *ALPHABET]))}"


@pytest.mark.parametrize("text", GOOD)
def test_a_valid_subject_is_returned_as_it_is(text: str) -> None:
    """Published examples of both kinds are subjects and come back unchanged."""
    assert parse_subject(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "uscc:",
        "91110000600037341L",
        "uscc:91110000600037341l",
        "USCC:91110000600037341L",
        "uscc: 91110000600037341L",
        "uscc:91110000600037341L\n",
        "uscc:9111-0000600037341L",
        "uscc:911100006000373410",
        "uscc:91110000600O37341L",
        "uscc:９1110000600037341L",
        "ric:36042619910101007x",
        "ric:360426199101010072",
        "ric:360426199113010071",
        "ric:999999199101010071",
        "ric:91110000600037341L",
    ],
)
def test_other_spellings_and_wrong_checks_are_refused_without_being_quoted(text: str) -> None:
    """One company has one spelling; the error does not hold the text."""
    with pytest.raises(SubjectInvalid) as caught:
        parse_subject(text)
    assert text[5:] == "" or text[5:] not in str(caught.value)


@given(st.text(max_size=30) | st.from_regex(r"(uscc|ric):[0-9A-Z]{18}", fullmatch=True))
def test_any_text_is_a_subject_or_a_clear_refusal(text: str) -> None:
    """No text makes anything but a subject or SubjectInvalid."""
    accepted(text)


@given(credit_codes())
def test_a_code_is_accepted_exactly_when_python_stdnum_accepts_it(subject: str) -> None:
    """The shape adds nothing to the public checksum rule for well-shaped codes."""
    assert accepted(subject) == uscc.is_valid(subject[5:])


@given(credit_codes().filter(accepted), st.integers(5, 22), st.sampled_from(ALPHABET))
def test_one_changed_character_is_noticed(subject: str, place: int, character: str) -> None:
    """The check character catches every single substitution (modulus 31 is prime)."""
    changed = subject[:place] + character + subject[place + 1 :]
    assert accepted(changed) == (changed == subject)


@given(st.lists(credit_codes() | st.sampled_from(GOOD) | st.text(max_size=24), max_size=8))
def test_checking_many_finds_what_checking_each_finds(subjects: list[str]) -> None:
    """The fast check over a list agrees with the one-by-one check."""
    refused = [index for index, subject in enumerate(subjects) if not accepted(subject)]
    assert first_invalid_subject(subjects) == (refused[0] if refused else None)
