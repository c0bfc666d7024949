"""XGBoost and its conversion take the same branches and add the same floats."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_registry.convert import from_xgboost
from model_registry.convert.native import xgboost_scores
from model_registry.convert.xgboost_json import read_model
from model_registry.errors import ModelRefused
from tests.unit.convert.models import FIELDS, GRADES, Rows, defaults, edges, refused, scores, sums, table

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


def agree(made: list[float], own: Any) -> bool:
    """Whether scores agree to the last two bits of a float: the exponential is the machine's expf, not ours."""
    return bool((np.abs(np.array(made) - own) <= 2 * np.abs(np.spacing(own))).all())


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
    assert agree(scores(converted, asked), made.predict(matrix(asked)))


def test_categories_are_read_by_name(tmp_path: Path) -> None:
    """XGBoost keeps the names of pandas categories; their order is the bank's, the numbers are the catalogue's."""
    rows, order = table(600, 5), ["N", "M", "E", "D", "C", "B", "A"]
    told = pd.DataFrame(rows, columns=[field.name for field in FIELDS])
    texts = [None if np.isnan(n) else GRADES[int(n)] for n in rows[:, 2]]
    told["tax.declaration.grade"] = pd.Categorical(texts, categories=order)
    model = xgboost.XGBClassifier(n_estimators=12, enable_categorical=True, max_cat_to_onehot=1, n_jobs=1)
    model.fit(told, defaults(rows))
    model.save_model(tmp_path / "model.json")
    own = model.predict_proba(told)[:, 1]
    for each in (model, model.get_booster(), tmp_path / "model.json"):
        assert agree(scores(from_xgboost(each, FIELDS), rows), own)
    assert xgboost_scores(model, FIELDS)(rows.tolist()) == own.tolist()


def test_rounds_are_those_that_predict() -> None:
    """An estimator that stopped early predicts with its best round; a Booster with all, so it must be said."""
    rows, other = table(400, 6), table(300, 7)
    model = xgboost.XGBClassifier(n_estimators=90, learning_rate=0.5, early_stopping_rounds=4, n_jobs=1)
    model.fit(rows, defaults(rows), eval_set=[(other, defaults(other, 2))], verbose=False)
    best = model.best_iteration + 1
    own = model.predict_proba(other)[:, 1]
    assert agree(scores(from_xgboost(model, FIELDS), other), own)
    booster = model.get_booster()
    every = booster.predict(xgboost.DMatrix(other))
    told = from_xgboost(booster, FIELDS, rounds=booster.num_boosted_rounds())
    assert agree(scores(told, other), every)
    assert from_xgboost(booster, FIELDS, rounds=best).onnx == from_xgboost(model, FIELDS).onnx
    with refused("rounds_unknown"):
        from_xgboost(booster, FIELDS)


def test_what_cannot_be_converted_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """Linear boosters, several classes, a missing value of one's own, unnamed categories, a file that is none."""
    rows = table(200, 8)
    good = defaults(rows).astype(int)
    (tmp_path / "model.json").write_text('{"learner": {}}')
    (tmp_path / "other.json").write_text("[1")
    xgb: dict[str, Any] = {"n_estimators": 2, "n_jobs": 1}
    three = xgboost.XGBClassifier(**xgb).fit(rows, np.arange(200) % 3)
    linear = xgboost.train({"booster": "gblinear"}, xgboost.DMatrix(np.nan_to_num(rows), label=good), 2)
    coded = xgboost.XGBClassifier(**xgb, missing=-1.0).fit(np.nan_to_num(rows), good)
    for model, code, way in (
        (trained(rows), "categories_unknown", "categories="),
        (three, "objective_unsupported", "each"),
        (linear, "tree_unsupported", "scikit-learn"),
        (coded, "missing_rule_impossible", "missing=nan"),
        (tmp_path / "model.json", "conversion_failed", "not as XGBoost writes it"),
        (tmp_path / "other.json", "conversion_failed", "save_model('model.json')"),
    ):
        with pytest.raises(ModelRefused) as refused:
            from_xgboost(model, FIELDS)
        assert refused.value.reasons[0].code == code
        assert way in refused.value.reasons[0].text


@pytest.mark.parametrize(
    "told", [3, ["x"], [None], [{"values": 1}], [{"values": ["a"], "offsets": [0, 1]}], [{"values": [None]}]]
)
def test_categories_that_are_none_are_refused(told: object) -> None:
    """The names of categories are read with the file, and a damaged one is refused with it."""
    model = json.loads(bytes(trained(table(200, 1)).save_raw("json")))
    model["learner"]["gradient_booster"]["model"]["cats"] = {"enc": told}
    with refused("not as XGBoost writes it"):
        read_model(model, None)
