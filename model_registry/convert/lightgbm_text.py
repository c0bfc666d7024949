"""A LightGBM model read from the text that LightGBM saves: flat lists, numbers with 17 digits, no nesting.

Source: github.com/microsoft/LightGBM, src/boosting/gbdt_model_text.cpp, src/io/tree.cpp (Tree::ToString).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from model_registry.convert.categories import Label, check_label
from model_registry.convert.fields import FieldSpec, refused

CATEGORICAL = 1  # bit of decision_type
_WORD_BITS = 32  # cat_threshold is a bitset in words of 32


@dataclass(frozen=True)
class TreeText:
    """One tree: splits by position; a child below 0 is the leaf ~child."""

    features: Sequence[int]
    thresholds: Sequence[float]
    decisions: Sequence[int]
    left: Sequence[int]
    right: Sequence[int]
    leaves: Sequence[float]
    bounds: Sequence[int]
    words: Sequence[int]

    def members(self, at: int) -> list[int]:
        """The categories of the set number `at`, those that go left."""
        words = self.words[self.bounds[at] : self.bounds[at + 1]]
        return [n for n in range(len(words) * _WORD_BITS) if words[n // _WORD_BITS] >> n % _WORD_BITS & 1]


@dataclass(frozen=True)
class LightgbmText:
    """A whole model: feature names, what training knew of each feature, trees, objective with its parameters."""

    features: Sequence[str]
    infos: Sequence[str]
    trees: Sequence[TreeText]
    objective: tuple[str, dict[str, str]]
    averaged: bool
    pandas_categories: Sequence[Sequence[Label]]


def read_text(text: str) -> LightgbmText:
    """Reads a model's text.

    Raises:
        ModelRefused: it is none, or has several outputs or linear trees.
    """
    head, *trees = text.partition("\nend of trees")[0].split("\nTree=")
    told = _members(head)
    try:
        if int(told["num_tree_per_iteration"]) != 1:
            text = "several classes: one score leaves the sandbox; train a model for each class"
            raise refused("objective_unsupported", "booster", text)
        name, *parameters = told.get("objective", "custom").split()
        return LightgbmText(
            told["feature_names"].split(),
            told["feature_infos"].split(),
            [_tree(_members(tree), len(told["feature_names"].split())) for tree in trees],
            (name, {p.partition(":")[0]: p.partition(":")[2] for p in parameters}),
            "average_output" in told,
            _pandas_categories(text),
        )
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise refused(
            "conversion_failed", "booster", f"the model's text is not as LightGBM writes it: {error}"
        ) from None


def category_orders(model: LightgbmText, fields: Sequence[FieldSpec]) -> dict[int, Sequence[Label]]:
    """Position → categories in training's order, for the columns that were pandas categories.

    The text lists the columns' categories and does not say of which columns; training knows sets of whole numbers
    (`0:2:1`) of categorical features, ranges (`[0:1]`) of others, and `none` of those that never varied.

    Raises:
        ModelRefused: it cannot be known which column a list belongs to.
    """
    sets = [at for at, info in enumerate(model.infos) if info != "none" and not info.startswith("[")]
    perhaps = [at for at, info in enumerate(model.infos) if info == "none" and fields[at].type == "category"]
    for columns in (sets, sorted(sets + perhaps)):
        if len(columns) == len(model.pandas_categories):
            return dict(zip(columns, model.pandas_categories, strict=True))
    if not model.pandas_categories:
        return {}
    text = "it cannot be told which features its pandas categories belong to; leave out features that never vary"
    raise refused("categories_unknown", "booster", text)


def _members(lines: str) -> dict[str, str]:
    return {name: value for name, _, value in (line.partition("=") for line in lines.splitlines())}


def _tree(told: dict[str, str], width: int) -> TreeText:
    if told.get("is_linear", "0") != "0":
        text = "linear trees are not converted; train with linear_tree=false"
        raise refused("tree_unsupported", "booster", text)

    def whole(name: str) -> list[int]:
        return [int(n) for n in told.get(name, "").split()]

    def real(name: str) -> list[float]:
        return [float(n) for n in told.get(name, "").split()]

    leaves = real("leaf_value")
    splits = whole("split_feature") if int(told["num_leaves"]) > 1 else []
    tree = TreeText(
        splits,
        real("threshold"),
        whole("decision_type"),
        whole("left_child"),
        whole("right_child"),
        leaves,
        whole("cat_boundaries"),
        whole("cat_threshold"),
    )
    if splits and {len(x) for x in (tree.thresholds, tree.decisions, tree.left, tree.right)} != {len(splits)}:
        raise ValueError("a tree's lists are not equally long")
    if splits:
        _check_sets(tree)
    sides = [child for pair in zip(enumerate(tree.left), tree.right, strict=False) for child in _after(*pair)]
    if any(not -len(leaves) <= child < len(splits) for child in sides) or any(not 0 <= f < width for f in splits):
        raise ValueError("a split leads nowhere, or reads a feature that is not there")
    return tree


def _check_sets(tree: TreeText) -> None:
    sets = [int(t) for t, kind in zip(tree.thresholds, tree.decisions, strict=True) if kind & CATEGORICAL]
    for at in sets:
        if not 0 <= at < len(tree.bounds) - 1 or not 0 <= tree.bounds[at] <= tree.bounds[at + 1] <= len(tree.words):
            raise ValueError("a split over categories has no set")


def _after(left: tuple[int, int], right: int) -> tuple[int, int]:
    """Both children of a split; LightGBM numbers a split after the one that leads to it, so there is no loop."""
    at, child = left
    if 0 <= child <= at or 0 <= right <= at:
        raise ValueError("a loop")
    return child, right


def _pandas_categories(text: str) -> list[list[Label]]:
    told = text.rpartition("\npandas_categorical:")[2].strip()
    found = json.loads(told) if told.startswith("[") else None
    return [[check_label(label) for label in order] for order in found] if found else []
