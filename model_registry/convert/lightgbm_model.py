"""LightGBM → TreeEnsemble of doubles: the same branches, the same sums.

Sources: github.com/microsoft/LightGBM, include/LightGBM/tree.h (NumericalDecision, CategoricalDecision),
src/boosting/gbdt_prediction.cpp (order of the sum), src/objective (ConvertOutput).
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from model_registry.convert.categories import Label, Numbering, given_orders
from model_registry.convert.fields import Converted, FieldSpec, check_width, refused
from model_registry.convert.lightgbm_text import CATEGORICAL, LightgbmText, TreeText, category_orders, read_text
from model_registry.convert.trees import (
    INPUT,
    LESS_OR_EQUAL,
    RAW,
    SCORE,
    Split,
    Steps,
    Tree,
    ensemble,
    one_tensor_model,
    tensor,
)

_DEFAULT_LEFT = 2  # bit of decision_type, beside CATEGORICAL; the bits above are the missing type
_MISSING_ZERO, _MISSING_NAN = 1, 2
_ZERO = float(np.float32(1e-35))  # kZeroThreshold: up to it everything is zero
_PLAIN = {"regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg", "custom"}
_EXPONENTIAL = {"poisson", "gamma", "tweedie"}
WHY = "LightGBM compares and adds doubles"


def from_lightgbm(
    model: Any, fields: Sequence[FieldSpec], categories: Mapping[str, Sequence[Label]] | None = None
) -> Converted:
    """Converts a LightGBM Booster or scikit-learn estimator: one score, summed or averaged over trees.

    Args:
        model: the trained model, or the path of what `save_model` wrote; its features in the order of `fields`. Where
            training stopped early, up to its best iteration, as LightGBM predicts too.
        fields: what each feature is.
        categories: full field name → its categories in the order in which training numbered them from 0. Needed where
            trees split over categories and training was not on pandas categories. Without an order a category is read
            as its index in the code list, as `vector_of` writes it.

    Returns:
        A model whose output is what `predict` gives: the probability (binary), or the prediction.

    Raises:
        ModelRefused: several classes, linear trees, an objective without conversion, categories that cannot be known.
    """
    text = read_text(
        model.read_text() if isinstance(model, Path) else getattr(model, "booster_", model).model_to_string()
    )
    check_width(len(text.features), fields, "booster", text.features)
    numbering = Numbering(fields, category_orders(text, fields) | given_orders(fields, categories or {}))
    trees = [_tree(tree, numbering) for tree in text.trees]
    prepared, source = _zero_as_missing(text, len(fields))
    nodes = [*prepared, ensemble(trees, LESS_OR_EQUAL, np.float64, source, RAW), *_score(text)]
    return one_tensor_model(nodes, fields, "float64", "float64", WHY)


def _tree(tree: TreeText, numbering: Numbering) -> Tree:
    return Tree([_split(tree, at, numbering) for at in range(len(tree.features))], tree.leaves)


def _split(tree: TreeText, at: int, numbering: Numbering) -> Split:
    feature, kind, threshold = tree.features[at], tree.decisions[at], tree.thresholds[at]
    true, false = tree.left[at], tree.right[at]
    if kind & CATEGORICAL:  # missing and unknown go right
        return Split(feature, 0.0, False, true, false, numbering.members(feature, tree.members(int(threshold))))
    # where no value was missing in training, missing is read as 0
    knows_missing = kind >> 2 in (_MISSING_ZERO, _MISSING_NAN)
    missing_left = bool(kind & _DEFAULT_LEFT) if knows_missing else threshold >= 0.0
    split = Split(feature, _beside_zero(threshold), missing_left, true, false)
    return numbering.threshold(split, lambda x, t: x <= t)


def _beside_zero(threshold: float) -> float:
    """The threshold that parts all values as this one parts them after LightGBM took tiny ones for 0 (c_api.cpp)."""
    if -_ZERO <= threshold < 0.0:
        return math.nextafter(-_ZERO, -math.inf)
    return max(threshold, _ZERO) if threshold >= 0.0 else threshold


def _zero_as_missing(text: LightgbmText, width: int) -> tuple[list[onnx.NodeProto], str]:
    """Turns zeros into NaN in the columns whose splits were trained with zero_as_missing."""
    kinds = {
        (feature, kind >> 2 == _MISSING_ZERO)
        for tree in text.trees
        for feature, kind in zip(tree.features, tree.decisions, strict=True)
        if not kind & CATEGORICAL
    }
    zero = sorted(feature for feature, is_zero in kinds if is_zero)
    if not zero:
        return [], INPUT
    if mixed := [feature for feature in zero if (feature, False) in kinds]:
        why = "zero is missing in some splits and not in others (continued training?); train anew with one setting"
        raise refused("tree_unsupported", f"feature {mixed[0]}", why)
    columns = np.isin(np.arange(width), zero).reshape(1, -1)
    stored = {"columns": columns, "smallest": np.array([_ZERO]), "missing": np.array([np.nan])}
    nodes = [helper.make_node("Constant", [], [name], value=tensor(name, value)) for name, value in stored.items()]
    nodes += [
        helper.make_node("Abs", [INPUT], ["size"]),
        helper.make_node("LessOrEqual", ["size", "smallest"], ["small"]),
        helper.make_node("And", ["small", "columns"], ["zero"]),
        helper.make_node("Where", ["zero", "missing", INPUT], ["prepared"]),
    ]
    return nodes, "prepared"


def _score(text: LightgbmText) -> list[onnx.NodeProto]:
    """From the sum of leaves to what `predict` gives, step by step as LightGBM computes it."""
    name, parameters = text.objective
    steps = Steps(RAW, np.float64)
    if text.averaged:
        steps.then("Div", float(len(text.trees)))
    if name in _EXPONENTIAL:
        steps.then("Exp")
    elif name in ("binary", "cross_entropy"):
        slope = float(parameters.get("sigmoid", "1"))
        steps.then("Mul", -slope).then("Exp").then("Add", 1.0).then("Div", 1.0, first=True)
    elif name == "cross_entropy_lambda":
        steps.then("Exp").then("Add", 1.0).then("Log")
    elif name == "regression" and "sqrt" in parameters:
        return [*steps.into("root"), *_signed_square("root")]
    elif name not in _PLAIN and name != "regression":
        ways = "train one model for each class, or a binary or regression objective"
        raise refused("objective_unsupported", "booster", f"{name} is not converted; {ways}")
    return steps.into(SCORE)


def _signed_square(source: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Abs", [source], ["plain"]),
        helper.make_node("Mul", [source, "plain"], [SCORE]),
    ]
