"""A model read from XGBoost's JSON: flat trees, the margin that every row starts from, the categories' names.

Source: github.com/dmlc/xgboost, doc/model.schema, doc/tutorials/saving_model.rst; categories since 3.1: `cats`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from model_registry.convert.categories import Label, check_label
from model_registry.convert.fields import refused
from model_registry.convert.trees import Split, Tree

_PLAIN = "squarederror squaredlogerror absoluteerror pseudohubererror quantileerror"
# objective → (from base_score to margin, from margin to prediction)
_LINKS = {
    **{f"reg:{name}": ("plain", "plain") for name in _PLAIN.split()},
    **{f"rank:{name}": ("plain", "plain") for name in ("pairwise", "ndcg", "map")},
    "binary:logistic": ("logit", "logistic"),
    "reg:logistic": ("logit", "logistic"),
    "binary:logitraw": ("plain", "plain"),
    "count:poisson": ("log", "exp"),
    "reg:gamma": ("log", "exp"),
    "reg:tweedie": ("log", "exp"),
}
_CATEGORICAL = 1  # split_type


@dataclass(frozen=True)
class XgboostModel:
    """What is needed of a model: `margin` starts the sum, `link` is plain, logistic or exp."""

    width: int
    margin: float
    link: str
    trees: Sequence[Tree]
    orders: Mapping[int, Sequence[Label]]  # position → categories in training's order, where the model holds them
    names: Sequence[str]


def read_model(told: Mapping[str, Any], rounds: int | None) -> XgboostModel:
    """Reads XGBoost's JSON.

    Args:
        told: the parsed file.
        rounds: how many boosting rounds count; None = all, where it is clear that all do.

    Raises:
        ModelRefused: it is no such file, or a kind of model that is not converted.
    """
    try:
        return _read(told["learner"], rounds)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
        text = f"the JSON is not as XGBoost writes it ({type(error).__name__}: {error})"
        raise refused("conversion_failed", "booster", text) from None


def _read(learner: Mapping[str, Any], rounds: int | None) -> XgboostModel:
    told, objective = learner["learner_model_param"], str(learner["objective"]["name"])
    if int(told.get("num_class", 0)) > 1 or int(told.get("num_target", 1)) > 1:
        text = "several classes or targets: one score leaves the sandbox; train a model for each"
        raise refused("objective_unsupported", "booster", text)
    if objective not in _LINKS:
        text = f"{objective} is not converted; {', '.join(sorted(_LINKS)[:4])} and others are"
        raise refused("objective_unsupported", "booster", text)
    boosted, weights = _boosted(learner["gradient_booster"])
    trees = boosted["trees"]
    counted = _counted(boosted, learner.get("attributes", {}), rounds)
    scales = weights if weights is not None else [1.0] * len(trees)
    to_margin, link = _LINKS[objective]
    base = np.float32(str(told["base_score"]).strip("[]"))
    width = int(told["num_feature"])
    return XgboostModel(
        width,
        _margin(to_margin, base),
        link,
        [_tree(tree, np.float32(scale), width) for tree, scale in zip(trees[:counted], scales, strict=False)],
        {at: order for at, told in enumerate(boosted.get("cats", {}).get("enc", ())) if (order := _labels(told))},
        [str(name) for name in learner.get("feature_names") or ()],
    )


def _boosted(booster: Mapping[str, Any]) -> tuple[Mapping[str, Any], Sequence[float] | None]:
    if booster["name"] == "dart":
        return booster["gbtree"]["model"], [float(w) for w in booster["weight_drop"]]
    if booster["name"] != "gbtree":
        text = f"{booster['name']} is not converted; a linear model: train it with scikit-learn"
        raise refused("tree_unsupported", "booster", text)
    return booster["model"], None


def _counted(boosted: Mapping[str, Any], attributes: Mapping[str, str], rounds: int | None) -> int:
    """How many trees count."""
    parallel = max(1, int(boosted["gbtree_model_param"].get("num_parallel_tree", 1)))
    ends = boosted.get("iteration_indptr") or list(range(0, len(boosted["trees"]) + 1, parallel))
    best = attributes.get("best_iteration")
    if rounds is None and best is not None and int(best) + 2 < len(ends):
        text = f"training stopped early at {int(best) + 1} of {len(ends) - 1} rounds: a Booster predicts with all, an "
        text += f"estimator with the best; say which: rounds={int(best) + 1} (--rounds) or {len(ends) - 1}"
        raise refused("rounds_unknown", "booster", text)
    if rounds is not None and not 0 < rounds < len(ends):
        raise refused("rounds_unknown", "booster", f"the model has {len(ends) - 1} rounds, not {rounds}")
    return int(ends[rounds if rounds is not None else -1])


def _margin(link: str, base: np.float32) -> float:
    one = np.float32(1)
    if link == "logit":
        return -float(np.float32(math.log(one / base - one)))
    return float(np.float32(math.log(base))) if link == "log" else float(base)


def _tree(told: Mapping[str, Any], scale: np.float32, width: int) -> Tree:
    """Splits and leaves renumbered in the order in which they are reached: pruned nodes stay out."""
    left, right, values = told["left_children"], told["right_children"], told["split_conditions"]
    sets = _sets(told)
    if int(told.get("tree_param", {}).get("size_leaf_vector", 1)) > 1:
        raise refused("objective_unsupported", "booster", "leaves of several targets are not converted")
    order, leaves, waiting = [], [], [0]
    while waiting:
        node = waiting.pop()
        if left[node] == -1:
            leaves.append(node)
        else:
            order.append(node)
            waiting += (right[node], left[node])
        if len(order) + len(leaves) > len(left):
            raise ValueError("a loop")
    if any(not 0 <= told["split_indices"][node] < width for node in order):
        raise ValueError("a split reads a feature that is not there")
    at = {node: n for n, node in enumerate(order)} | {node: ~n for n, node in enumerate(leaves)}
    splits = []
    for node in order:
        feature, to_left = int(told["split_indices"][node]), bool(told["default_left"][node])
        sides = at[left[node]], at[right[node]]
        if node in sets:
            splits.append(Split(feature, 0.0, not to_left, sides[1], sides[0], sets[node]))
        else:
            splits.append(Split(feature, float(np.float32(values[node])), to_left, *sides))
    return Tree(splits, [float(np.float32(values[leaf]) * scale) for leaf in leaves])


def _sets(told: Mapping[str, Any]) -> dict[int, tuple[float, ...]]:
    every = told.get("categories", ())
    parts = zip(
        told.get("categories_nodes", ()),
        told.get("categories_segments", ()),
        told.get("categories_sizes", ()),
        strict=True,
    )
    return {int(node): tuple(float(int(n)) for n in every[start : start + size]) for node, start, size in parts}


def _labels(told: Mapping[str, Any]) -> list[Label]:
    values, offsets = told.get("values", []), told.get("offsets")
    if offsets is None:
        return [check_label(value) for value in values]
    text = bytes(n & 0xFF for n in values)  # UTF-8, written as signed bytes
    return [text[a:b].decode() for a, b in pairwise(offsets)]
