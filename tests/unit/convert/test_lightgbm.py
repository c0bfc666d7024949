"""LightGBM and its conversion take the same branches and add the same doubles."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_registry.convert import from_lightgbm
from tests.unit.convert.models import FIELDS, GRADES, Rows, defaults, edges, scores, table

lightgbm = pytest.importorskip("lightgbm")

ORDER = {"tax.declaration.grade": GRADES}
QUIET: dict[str, Any] = {
    "verbose": -1,
    "num_threads": 1,
    "min_data_in_leaf": 3,
    "min_data_per_group": 5,
    "cat_smooth": 1,
}


def trained(rows: Rows, rounds: int = 15, categories: bool = True, **settings: Any) -> Any:
    """A booster over the made-up companies."""
    columns = [2] if categories else "auto"
    data = lightgbm.Dataset(rows, label=defaults(rows).astype(float), categorical_feature=columns)
    return lightgbm.train({**QUIET, "objective": "binary", "max_cat_to_onehot": 1, **settings}, data, rounds)


def thresholds(booster: Any) -> list[float]:
    """Every threshold of numbers."""
    frame = booster.trees_to_dataframe()
    plain = frame[frame.decision_type == "<="]
    return [float(t) for t in plain.threshold.tolist()] or [0.0]


@settings(max_examples=12)
@given(
    seed=st.integers(0, 1000),
    leaves=st.sampled_from([2, 4, 31]),
    zero=st.booleans(),
    use_missing=st.booleans(),
    one_hot=st.sampled_from([1, 4, 50]),
    boosting=st.sampled_from(["gbdt", "dart", "rf"]),
)
def test_scores_have_the_bits_of_lightgbm(
    seed: int, leaves: int, zero: bool, use_missing: bool, one_hot: int, boosting: str
) -> None:
    """Random trees with categories, gaps, zeros and values on and beside each threshold."""
    rows = table(400, seed)
    rows[::9, 0] = 0.0
    booster = trained(
        rows,
        num_leaves=leaves,
        zero_as_missing=zero,
        use_missing=use_missing or zero,
        max_cat_to_onehot=one_hot,
        boosting=boosting,
        bagging_freq=1,
        bagging_fraction=0.7,
    )
    asked = np.vstack([rows[:100], edges(rows[:200], thresholds(booster))])
    assert scores(from_lightgbm(booster, FIELDS, ORDER), asked) == booster.predict(asked).tolist()
