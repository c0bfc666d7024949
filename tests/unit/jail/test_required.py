"""Which walls a server must have, judged from reports of every shape."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.jail.required import MODES, REQUIRED, explain_missing, isolation, missing
from sandbox.jail.walls import NAMESPACES

WHOLE = {name: {"on": True, "why": "built"} for name in REQUIRED}
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner), max_leaves=5
)


def test_every_namespace_is_required() -> None:
    """The names are those that the walls are built under; the rest is compared with a real report elsewhere."""
    assert set(NAMESPACES) <= set(REQUIRED)
    assert len(set(REQUIRED)) == len(REQUIRED) == 23


def test_the_documentation_counts_them_right() -> None:
    """READMEs and picture say how many walls there are, and how many of them are the one-shot's own."""
    docs = Path(__file__).resolve().parents[3]
    own = sum(name.startswith("one_shot_") for name in REQUIRED)
    assert f"behind {len(REQUIRED)} walls" in (docs / "README.md").read_text()
    assert f"由 {len(REQUIRED)} 道隔离墙" in (docs / "README.zh-CN.md").read_text()
    picture = (docs / "docs" / "walls.svg").read_text()
    assert f"{len(REQUIRED) - own} walls" in picture
    assert f"{own} more" in picture


@given(st.dictionaries(st.sampled_from(REQUIRED), _json | st.fixed_dictionaries({"on": _json})))
def test_a_wall_stands_only_where_the_report_says_true(odd: dict[str, object]) -> None:
    """Whatever a report holds, a wall is missing unless its `on` is the boolean true."""
    lacking = missing({**WHOLE, **odd})
    for name in REQUIRED:
        wall = odd.get(name, WHOLE[name])
        stands = isinstance(wall, dict) and isinstance(wall.get("on"), bool) and wall["on"]
        assert (name not in lacking) is stands


@pytest.mark.parametrize("on", [1, "true", None, [True], {"on": True}, 1.0])
def test_what_is_like_true_is_not(on: object) -> None:
    """A report that answers with something else than a boolean has said nothing."""
    assert missing({**WHOLE, "landlock": {"on": on, "why": "built"}}) == ["landlock"]


def test_an_absent_wall_is_missing_and_an_unknown_one_counts() -> None:
    """Neither leaving a wall out nor inventing one makes a report better."""
    assert missing({}) == list(REQUIRED)
    assert missing({name: wall for name, wall in WHOLE.items() if name != "seccomp"}) == ["seccomp"]
    assert missing({**WHOLE, "moat": {"on": False, "why": "dry"}}) == ["moat"]
    assert missing({**WHOLE, "moat": {"on": True, "why": "full"}}) == []


@pytest.mark.parametrize("nothing", [None, [], "all on", list(REQUIRED), 1])
def test_what_is_no_report_has_every_wall_missing(nothing: object) -> None:
    """Another shape than a mapping says nothing of any wall."""
    assert missing(nothing) == list(REQUIRED)
    assert isolation("one-shot", nothing) == "one-shot-weak"
    assert "not reported" in explain_missing(nothing)


def test_isolation_is_named_for_its_mode_and_its_walls() -> None:
    """Four names, and `-weak` exactly where something is missing."""
    assert [isolation(mode, WHOLE) for mode in MODES] == ["one-shot", "warm"]
    assert [isolation(mode, {}) for mode in MODES] == ["one-shot-weak", "warm-weak"]


def test_each_missing_wall_is_explained_once() -> None:
    """Every missing wall stands in one line with its reason and what to do; walls with one cause share it."""
    off = {"on": False, "why": "clone: Operation not permitted"}
    report = {**WHOLE, **dict.fromkeys(NAMESPACES, off), "landlock": {"on": False, "why": "Function not implemented"}}
    first, second = explain_missing({**report, "rlimits": {"on": True}}).strip().splitlines()
    assert first.startswith(", ".join(NAMESPACES) + " (clone: Operation not permitted): allow user namespaces")
    assert second.strip().startswith("landlock (Function not implemented): Linux 5.13 or newer")
    assert explain_missing(WHOLE) == ""
    for name in REQUIRED:
        assert len(explain_missing({**WHOLE, name: None}).split(f"\n  {name} (not reported): ")[1]) > 40
