"""XGBoost and its conversion take the same branches and add the same floats."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_registry.convert import from_xgboost
from tests.unit.convert.models import FIELDS, GRADES, Rows, defaults, edges, scores, sums, table

xgboost = pytest.importorskip("xgboost", reason="xgboost cannot be imported on this machine")

ORDER = {"tax.declaration.grade": GRADES}
TYPES = ["float", "float", "c", "int"]


def matrix(rows: Rows, **told: Any) -> Any:
    """Rows as XGBoost reads them, the grade a category."""
    return xgboost.DMatrix(rows, feature_types=TYPES, enable_categorical=True, **told)


def trained(rows: Rows, objective: str = "binary:logistic", rounds: int = 12, **settings: Any) -> Any:
    """A booster over the made-up companies."""
    label = defaults(rows).astype(float) + (0.5 if objective in ("reg:gamma", "reg:squarederror") else 0.0)
    settings = {"nthread": 1, "max_cat_to_onehot": 1, "objective": objective, **settings}
    return xgboost.train(settings, matrix(rows, label=label), rounds)


def thresholds(booster: Any) -> list[float]:
    """Every threshold of numbers, as the float that it is."""
    model = json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]
    trees = model.get("gbtree", model)["model"]["trees"]
    return [float(np.float32(t)) for tree in trees for t in tree["split_conditions"]] or [0.0]


@settings(max_examples=15)
@given(
    seed=st.integers(0, 1000),
    depth=st.integers(1, 6),
    parallel=st.sampled_from([1, 3]),
    one_hot=st.sampled_from([1, 100]),
    booster=st.sampled_from([{"booster": "gbtree"}, {"booster": "dart", "rate_drop": 0.3}]),
    objective=st.sampled_from(
        ["binary:logistic", "binary:logitraw", "reg:squarederror", "count:poisson", "reg:gamma", "reg:tweedie"]
    ),
)
def test_scores_have_the_bits_of_xgboost(
    seed: int, depth: int, parallel: int, one_hot: int, booster: dict[str, Any], objective: str
) -> None:
    """Random trees with categories, gaps and values on and beside each threshold, in floats and beyond them."""
    rows = table(400, seed)
    made = trained(
        rows,
        objective,
        max_depth=depth,
        num_parallel_tree=parallel,
        subsample=0.8,
        max_cat_to_onehot=one_hot,
        **booster,
    )
    asked = np.vstack(
        [rows[:100], edges(rows[:200], thresholds(made), np.float32), edges(rows[:200], thresholds(made))]
    )
    asked[np.abs(asked) > 1e38] = 1e30  # XGBoost refuses what is infinite as a float
    converted = from_xgboost(made, FIELDS, ORDER)
    margins = made.predict(matrix(asked), output_margin=True).astype(np.float64)
    assert sums(converted, asked) == margins.tolist()
    own = made.predict(matrix(asked))  # its exponential is the machine's expf, which may round the other way
    assert (np.abs(scores(converted, asked) - own) <= np.abs(np.spacing(own))).all()
