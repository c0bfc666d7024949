"""Parity names the rows whose limit differs, and says what to do about them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from enclave_api.client.bank import vector_of
from model_registry.convert import Converted, FieldSpec, parity, row_of
from model_registry.convert.run import feeds
from model_registry.convert.trees import INPUT, LESS_OR_EQUAL, SCORE, Split, Tree, ensemble, one_tensor_model
from model_registry.manifest import ModelInput
from sandbox.jail.contract import parse_contract
from tests.unit.convert.models import FIELDS, GRADES, NAN
from tests.unit.jail.models import manifest

NUMBER = FIELDS[:1]


def step(threshold: float, precision: str = "float64") -> Converted:
    """1 up to the threshold, else 0; missing is 1."""
    tree = Tree([Split(0, threshold, True, ~0, ~1)], [1.0, 0.0])
    node = ensemble([tree], LESS_OR_EQUAL, np.dtype(precision).type, INPUT, SCORE)
    return one_tensor_model([node], NUMBER, precision, precision, "")


def level(_: Sequence[float], score: float) -> int:
    """A limit of one yuan for a score of one."""
    return int(score)


def test_a_float_that_flips_a_limit_is_named() -> None:
    """0.1 is above 0.1 as a float is not: the row is named by its number, and doubles are proposed."""
    near = float(np.nextafter(0.1, 1))
    rows = [(0.0,), (near,), (5.0,), (NAN,)]
    native = [1.0, 0.0, 0.0, 1.0]
    found = parity(native, step(0.1, "float32"), rows, level)
    assert [flip.row for flip in found.flips] == [2]
    assert (found.rows, found.equal, found.absolute, found.holds) == (4, 3, 1.0, False)
    assert "in rows" in dict(found.lines())
    assert parity(lambda asked: native, step(0.1), rows, level).holds


def test_last_bits_and_other_models_are_told_apart() -> None:
    """The advice follows the size of the difference."""
    rows = [(0.0,), (1.0,)]
    last = parity([1.0 + 4e-16, 0.0], step(0.1), rows, lambda _, score: int(score > 1))
    assert "last bits" in last.advice
    other = parity([0.5, 0.0], step(0.1), rows, level)
    assert "another model" in other.advice
    rounded = parity([1.0 - 1e-7, 0.0], step(0.1, "float32"), rows, level)
    assert "precision='double'" in rounded.advice
    assert parity([1.0, 0.0], step(0.1), rows, level).advice == ""


def test_the_banks_own_limits_count() -> None:
    """Where the file has them they are compared, gaps by the bank's rules; without rules scores alone are."""
    rows = [(0.0,), (0.05,), (1.0,)]
    found = parity([1.0, 1.0, 0.0], step(0.1), rows, level, [0, None, 0])
    assert [(flip.row, flip.native_limit, flip.limit) for flip in found.flips] == [(1, 0, 1)]
    alone = parity([1.0, 0.5, 0.0], step(0.1), rows)
    assert (alone.holds, alone.limits, alone.equal, alone.members()["limits_differ"]) == (True, False, 2, None)


def test_a_row_that_declines_has_no_score_to_compare() -> None:
    """Missing where the manifest says decline: nothing is offered, whatever the native model says."""
    model = step(0.1)
    model = replace(model, fields=(replace(NUMBER[0], missing="decline"),))
    assert parity([0.7], model, [(NAN,)], level).equal == 1


MIXED = [
    replace(FIELDS[0], missing="nan"),
    replace(FIELDS[2], missing="C"),
    FieldSpec("tax.declaration.listed", "boolean", missing=1),
    replace(FIELDS[3], missing=-5),
    replace(FIELDS[2], name="tax.declaration.text"),
]


@given(
    st.tuples(
        st.floats(allow_infinity=False) | st.just(NAN),
        st.sampled_from([*map(float, range(len(GRADES))), NAN]),
        st.sampled_from([0.0, 1.0, NAN]),
        st.integers(-(2**53), 2**53).map(float) | st.just(NAN),
        st.sampled_from([*map(float, range(len(GRADES))), NAN]),
    )
)
def test_a_row_is_fed_as_the_sandbox_feeds_it(vector: tuple[float, ...]) -> None:
    """The bank's runner and the jail's contract make the same inputs; a row survives being told by name."""
    names = [field.name for field in MIXED]
    inputs = [
        {"name": "floats", "dtype": "float32", "fields": [names[0], names[3], names[1]]},
        {"name": "doubles", "dtype": "float64", "fields": names[:4]},
        {"name": "whole", "dtype": "int64", "fields": [names[3]]},
        {"name": "flag", "dtype": "bool", "fields": [names[2]]},
        {"name": "text", "dtype": "string", "fields": [names[4], names[1]]},
    ]
    declared = [{"name": f.name, "type": f.type, "missing": f.missing} for f in MIXED]
    contract = parse_contract(manifest(declared, inputs=inputs), {f.name: f.codes for f in MIXED if f.codes})
    wanted = contract.feeds(np.array(vector))
    assert wanted is not None
    made = feeds([ModelInput.model_validate(i) for i in inputs], MIXED)(vector)
    assert made.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert made[name].dtype == tensor.dtype
        np.testing.assert_array_equal(made[name], tensor)
    again = vector_of(MIXED, row_of(MIXED, vector))
    np.testing.assert_array_equal(again, vector)
