"""LightGBM and its conversion take the same branches and add the same doubles."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_registry.convert import FieldSpec, from_lightgbm
from model_registry.convert.lightgbm_text import read_text
from model_registry.convert.native import lightgbm_scores
from model_registry.errors import ModelRefused
from tests.unit.convert.models import FIELDS, GRADES, Rows, defaults, edges, refused, scores, table

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


TEXT = trained(table(200, 4), rounds=3).model_to_string().partition("\nparameters:")[0]


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


def frame(rows: Rows, order: list[str]) -> pd.DataFrame:
    """The companies as a data frame whose grade is a pandas category in an order of the bank's own."""
    told = pd.DataFrame(rows, columns=[field.name for field in FIELDS])
    texts = ["" if np.isnan(n) else GRADES[int(n)] for n in rows[:, 2]]
    known = [text if text in order else None for text in texts]
    told["tax.declaration.grade"] = pd.Categorical(known, categories=order)
    return told


def test_pandas_categories_are_read_by_name() -> None:
    """Training numbered the grades backwards and never saw two of them; the catalogue's order counts here."""
    rows, order = table(600, 5), ["M", "D", "C", "B", "A"]
    settings = {**QUIET, "max_cat_to_onehot": 1, "n_estimators": 12, "n_jobs": 1}
    model = lightgbm.LGBMClassifier(**settings).fit(frame(rows, order), defaults(rows))
    own = np.asarray(model.predict_proba(frame(rows, order)))[:, 1].tolist()
    made = from_lightgbm(model, FIELDS)
    assert scores(made, rows) == own
    assert lightgbm_scores(model, FIELDS)(rows.tolist()) == own
    assert made.inputs[0].fields == tuple(field.name for field in FIELDS)


def test_numbers_of_a_category_may_be_told(tmp_path: Path) -> None:
    """Training on an array numbered the grades in an order that the bank tells; from a file as from memory."""
    rows, order = table(500, 6), GRADES[::-1]
    coded = rows.copy()
    coded[:, 2] = len(GRADES) - 1 - rows[:, 2]
    booster = trained(coded)
    booster.save_model(tmp_path / "model.txt")
    for model in (booster, tmp_path / "model.txt"):
        made = from_lightgbm(model, FIELDS, {"tax.declaration.grade": order})
        assert scores(made, rows) == booster.predict(coded).tolist()
    by_threshold = trained(coded, categories=False)
    made = from_lightgbm(by_threshold, FIELDS, {"tax.declaration.grade": order})
    assert scores(made, rows) == by_threshold.predict(coded).tolist()


OBJECTIVES = ("huber", "poisson", "gamma", "tweedie", "cross_entropy", "cross_entropy_lambda", "mape", "fair")


@pytest.mark.parametrize(("objective", "root"), [*((o, False) for o in OBJECTIVES), ("regression", True)])
def test_objectives_are_linked_as_lightgbm_links_them(objective: str, root: bool) -> None:
    """What `predict` gives, to the last bits of exponential and logarithm."""
    rows = table(400, 8)
    label = np.clip(defaults(rows) + 0.1, 0, 1) * (1 if objective.startswith("cross") else 3)
    settings = {**QUIET, "objective": objective, "reg_sqrt": root}
    booster = lightgbm.train(settings, lightgbm.Dataset(rows, label=label), 10)
    own = booster.predict(rows).tolist()
    assert scores(from_lightgbm(booster, FIELDS), rows) == pytest.approx(own, rel=1e-15, abs=0)


def test_the_best_iteration_counts(tmp_path: Path) -> None:
    """A model that was stopped early predicts with its best iteration, and so does its conversion; so does its file."""
    rows, other = table(500, 9), table(300, 10)
    told = {**QUIET, "objective": "binary", "learning_rate": 0.5}
    data = lightgbm.Dataset(rows, label=defaults(rows).astype(float))
    check = lightgbm.Dataset(other, label=defaults(other, 2).astype(float), reference=data)
    stop = lightgbm.early_stopping(3, verbose=False)
    booster = lightgbm.train(told, data, 200, valid_sets=[check], callbacks=[stop])
    assert 0 < booster.best_iteration < 100
    booster.save_model(tmp_path / "model.txt")
    for model in (booster, tmp_path / "model.txt"):
        assert scores(from_lightgbm(model, FIELDS), other) == booster.predict(other).tolist()


def test_a_tree_without_a_split_is_its_leaf() -> None:
    """Nothing to learn: every row gets the constant."""
    rows = table(50, 1)
    booster = lightgbm.train({**QUIET, "objective": "regression"}, lightgbm.Dataset(rows, label=np.full(50, 7.0)), 3)
    assert scores(from_lightgbm(booster, FIELDS), rows) == booster.predict(rows).tolist()


@pytest.mark.parametrize(
    ("settings", "code", "way"),
    [
        ({"linear_tree": True, "objective": "regression"}, "tree_unsupported", "linear_tree=false"),
        ({"objective": "multiclass", "num_class": 2}, "objective_unsupported", "for each class"),
        ({"objective": "xentropy"}, "", ""),
    ],
)
def test_what_cannot_be_converted_is_refused_with_the_way_out(settings: dict[str, Any], code: str, way: str) -> None:
    """Each refusal names what to do instead; an alias of an objective is none."""
    rows = table(300, 2)
    booster = trained(rows, categories=False, **settings)
    if not code:
        assert from_lightgbm(booster, FIELDS).precision == "float64"
        return
    with pytest.raises(ModelRefused) as refused:
        from_lightgbm(booster, FIELDS)
    assert refused.value.reasons[0].code == code
    assert way in refused.value.reasons[0].text


def test_unknown_numbering_is_refused() -> None:
    """Splits over categories without their names, on a number, or of other categories than the catalogue's."""
    rows = table(300, 3)
    booster = trained(rows)
    number = [*FIELDS[:2], FieldSpec("tax.declaration.grade", "number"), FIELDS[3]]
    foreign = {"tax.declaration.grade": ["x", "y"]}
    for fields, orders, code in (
        (FIELDS, {}, "categories_unknown"),
        (number, {}, "category_not_whole"),
        (FIELDS, foreign, "categories_unknown"),
        (FIELDS, {"tax.declaration.other": ["x"]}, "field_unknown"),
        (FIELDS[:3], {}, "fields_mismatch"),
    ):
        with pytest.raises(ModelRefused) as refused:
            from_lightgbm(booster, fields, orders)
        assert refused.value.reasons[0].code == code


@given(st.data())
def test_a_damaged_file_is_refused_or_a_sound_model(data: st.DataObject) -> None:
    """A changed text never raises anything else, and no tree has a loop or a feature that is not there."""
    lines = TEXT.splitlines()
    at = data.draw(st.integers(0, len(lines) - 1))
    lines[at] = data.draw(st.sampled_from([lines[at][:-1], lines[at] + " 1", lines[at].replace("1", "9"), ""]))
    try:
        text = read_text("\n".join(lines))
    except ModelRefused:
        return
    for tree in text.trees:
        assert all(child < 0 or child > n for n, child in enumerate(tree.left))
        assert all(feature < len(text.features) for feature in tree.features)


def test_fields_in_another_order_are_refused() -> None:
    """A model that calls its features as the fields are called says which is which; other names say nothing."""
    rows = np.nan_to_num(table(300, 3))
    names = [field.name for field in FIELDS]
    numbers = [FieldSpec(name, "number") for name in names]
    data = lightgbm.Dataset(rows, label=defaults(rows), feature_name=names)
    booster = lightgbm.train({**QUIET, "objective": "binary"}, data, 3)
    assert from_lightgbm(booster, numbers).fields == tuple(numbers)
    with refused("its feature 1 is tax.declaration.sales"):
        from_lightgbm(booster, [numbers[1], numbers[0], *numbers[2:]])


@pytest.mark.parametrize("told", ["[1]", "[[{}]]", "[[null]]", "[[NaN]]", "[[[1]]]", "[" * 100_000])
def test_pandas_categories_that_are_none_are_refused(told: str) -> None:
    """Whatever stands behind the trees is judged as well."""
    with pytest.raises(ModelRefused):
        read_text(TEXT.partition("\npandas_categorical:")[0] + f"\npandas_categorical:{told}\n")


@pytest.mark.parametrize("line", ["cat_boundaries=0 9", "cat_boundaries=0", "cat_boundaries=1 0", "cat_threshold="])
def test_a_split_without_its_set_is_refused(line: str) -> None:
    """A set of categories that lies beyond what the file holds is a damaged file, not an error of ours."""
    text = trained(table(300, 3)).model_to_string()
    name = line.partition("=")[0]
    assert f"\n{name}=" in text
    with refused("has no set"):
        read_text(re.sub(f"\n{name}=.*", f"\n{line}", text))
