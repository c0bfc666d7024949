"""The encoder of entries is RFC 8785 for all that an entry may hold: held against the general implementation."""

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.errors import EventInvalid
from audit.event import canonical, decode, encode
from audit.kinds import KINDS, VersionAdmitted
from tests.unit.audit.vectors import START

ANY = st.text(st.characters(), max_size=40)  # surrogates and control characters too
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NAME = st.from_regex(r"[A-Za-z0-9_]{0,12}", fullmatch=True)
WHOLE = st.integers(-(2**53) + 1, 2**53 - 1)
ENTRY = st.dictionaries(NAME, TEXT | WHOLE | st.none() | st.lists(TEXT, max_size=4).map(tuple), max_size=8)


@settings(max_examples=500)
@given(ENTRY)
def test_the_same_bytes_as_rfc_8785(entry: dict[str, Any]) -> None:
    """Flat objects with ASCII names, of strings, whole numbers, null and arrays of strings."""
    assert canonical(entry) == rfc8785.dumps({name: _listed(value) for name, value in entry.items()})


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("plane", range(17))
def test_every_character_is_written_alike(plane: int) -> None:
    """All of Unicode, character by character in a string; what is a surrogate is refused by both."""
    for code in range(plane << 16, (plane + 1) << 16, 256):
        text = "".join(chr(at) for at in range(code, code + 256) if not 0xD800 <= at <= 0xDFFF)
        assert canonical({"a": text}) == rfc8785.dumps({"a": text})


@given(ANY)
def test_surrogates_alone_are_refused(text: str) -> None:
    """A text is written by both or by neither."""
    try:
        expected = rfc8785.dumps({"a": text})
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        with pytest.raises(EventInvalid):
            canonical({"a": text})
    else:
        assert canonical({"a": text}) == expected


def test_names_of_members_sort_alike() -> None:
    """RFC 8785 sorts names by UTF-16 units, we by code points: the same, as every name of ours is ASCII."""
    assert all(name.isascii() for shape in KINDS.values() for name in shape.__dataclass_fields__)


@given(TEXT, st.randoms(use_true_random=False))
def test_every_other_spelling_is_refused(text: str, chance: Any) -> None:
    """Escapes, spaces, other orders and doubled members of a good entry say the same and are refused all the same."""
    body = encode(VersionAdmitted(text), START)
    loaded = json.loads(body)
    members = list(loaded.items())
    chance.shuffle(members)
    for other in (
        json.dumps(dict(members), separators=(",", ":"), ensure_ascii=False),
        json.dumps(loaded, separators=(",", ":")),
        json.dumps(loaded, ensure_ascii=False),
        body.decode()[:-1] + f',"version":{json.dumps(text, ensure_ascii=False)}}}',
        body.decode().replace('"v":1', '"v":1.0'),
        body.decode().replace('"v":1', '"v":1e0'),
        body.decode().replace('"v":1', '"v":01'),
    ):
        if other.encode() == body:
            continue
        with pytest.raises(EventInvalid):
            decode(other.encode())
