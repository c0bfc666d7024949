"""From a vector of fields to a model's inputs."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_registry.errors import ModelRefused
from sandbox.jail.contract import Contract, parse_contract
from tests.unit.jail.models import manifest, vector

CODES = {"a.b.industry": ("retail", "mining", "farming")}


def contract(*fields: tuple[str, str, Any], dtype: str = "float32") -> Contract:
    """A contract with one input that carries every field."""
    declared = [{"name": f"a.b.{name}", "type": kind, "missing": missing} for name, kind, missing in fields]
    names = [field["name"] for field in declared]
    return parse_contract(manifest(declared, inputs=[{"name": "X", "dtype": dtype, "fields": names}]), CODES)


def row(made: Contract, *numbers: float) -> list[Any]:
    """The single input's row for a request."""
    read = made.read(vector(*numbers))
    assert read is not None
    feeds = made.feeds(read)
    assert feeds is not None
    return list(feeds["X"][0].tolist())


def test_missing_values_follow_the_manifest() -> None:
    """NaN stays NaN, a stand-in is put in, decline gives no inputs at all."""
    made = contract(("x", "number", "nan"), ("y", "integer", -1), ("industry", "category", "farming"))
    x, y, industry = row(made, math.nan, math.nan, math.nan)
    assert (math.isnan(x), y, industry) == (True, -1.0, 2.0)
    declining = contract(("x", "number", "decline"), ("y", "number", "nan"))
    assert declining.feeds(np.array([math.nan, 1.0])) is None
    assert declining.feeds(np.array([1.0, math.nan])) is not None


def test_categories_become_indices_or_texts() -> None:
    """A category is its index for a numeric input, its code for a string input, empty where missing."""
    assert row(contract(("industry", "category", "nan")), 1.0) == [1.0]
    text = contract(("industry", "category", "nan"), dtype="string")
    assert row(text, 1.0) == ["mining"]
    assert row(text, math.nan) == [""]
    assert row(contract(("industry", "category", "retail"), dtype="string"), math.nan) == ["retail"]


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("number", math.inf),
        ("number", -math.inf),
        ("integer", 0.5),
        ("integer", 2.0**60),
        ("date", 1.25),
        ("boolean", 2.0),
        ("boolean", -1.0),
        ("category", 3.0),
        ("category", -1.0),
    ],
)
def test_impossible_values_are_not_read(kind: str, number: float) -> None:
    """A vector that no record could give is refused before the model sees it."""
    name = "industry" if kind == "category" else "x"
    assert contract((name, kind, "decline")).read(vector(number)) is None


@given(st.binary(max_size=64))
def test_any_request_is_read_or_refused(request: bytes) -> None:
    """No bytes raise; what is read has one number a field."""
    made = contract(("x", "number", "nan"), ("y", "integer", "decline"), ("industry", "category", "nan"))
    read = made.read(request)
    names = {"a.b.x", "a.b.y", "a.b.industry"}
    assert read is None or (len(request) == 24 and set(made.picker(names)(read)) == names)


def test_values_for_rules_are_typed() -> None:
    """Rules see texts, booleans, integers and None."""
    made = contract(("x", "number", "nan"), ("b", "boolean", "decline"), ("industry", "category", "nan"))
    read = made.read(vector(math.nan, 1.0, 2.0))
    assert read is not None
    read_all = made.picker([field.name for field in made.fields])
    assert made.picker(["a.b.b"])(read) == {"a.b.b": True}
    assert read_all(read) == {"a.b.x": None, "a.b.b": True, "a.b.industry": "farming"}


@pytest.mark.parametrize("dtype", ["int64", "bool"])
def test_an_input_that_cannot_carry_nan_is_refused(dtype: str) -> None:
    """A manifest that promises NaN to an integer input is refused at load, not at a call."""
    with pytest.raises(ModelRefused) as refused:
        contract(("x", "integer", "nan"), dtype=dtype)
    assert refused.value.reasons[0].code == "missing_rule_impossible"


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda c: st.lists(c, max_size=3) | st.dictionaries(st.sampled_from(["fields", "inputs", "output", "name"]), c),
        max_leaves=8,
    )
)
def test_any_json_is_refused_in_one_way(data: Any) -> None:
    """Whatever JSON a manifest holds, the only exception is a refusal."""
    with pytest.raises(ModelRefused):
        parse_contract(json.dumps(data).encode(), {})
