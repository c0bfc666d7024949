"""scikit-learn's trees as they are: double thresholds and leaves, read from the fitted estimators.

Sources: github.com/scikit-learn/scikit-learn, sklearn/tree/_tree.pyx (rows are cast to float32; at most the threshold
goes left; missing goes where missing_go_to_left says), ensemble/_forest.py (mean), ensemble/_gradient_boosting.pyx
(scale * value), ensemble/_hist_gradient_boosting/_predictor.pyx (rows are doubles).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_registry.convert.fields import refused
from model_registry.convert.trees import Split, Tree

_EXPIT = "expit"


@dataclass(frozen=True)
class Forest:
    """What a tree estimator computes: for each class or target a sum of trees, divided, and then a link.

    Attributes:
        sums: one list of trees for each class; one alone for two classes, a boosted model or a regressor.
        floats: whether rows are cast to float32 first.
        divisor: of the sum, in doubles.
        link: `plain`, `expit`, `expit2` (of twice the sum) or `exp`.
    """

    sums: Sequence[Sequence[Tree]]
    floats: bool = True
    divisor: int = 1
    link: str = "plain"


def forest_of(model: Any) -> Forest:
    """Reads a fitted tree, forest or boosted model.

    Raises:
        ModelRefused: several outputs, boosting over more than two classes, an `init` of one's own, categories that
            HistGradientBoosting encodes itself.
    """
    name = type(model).__name__
    if getattr(model, "n_outputs_", 1) != 1:
        raise refused("objective_unsupported", name, "several outputs: one score leaves the sandbox")
    if name.startswith("HistGradientBoosting"):
        return _histogram(model)
    if name.startswith("GradientBoosting"):
        return _boosted(model)
    trees = [model.tree_] if hasattr(model, "tree_") else [each.tree_ for each in model.estimators_]
    classes = len(getattr(model, "classes_", ()))
    targets = [0] if not classes else [1] if classes == 2 else range(classes)
    single = 0 if classes == 1 else None
    sums = [[_tree(tree, target if single is None else single) for tree in trees] for target in targets]
    return Forest(sums, divisor=len(trees))


def _tree(tree: Any, target: int, scale: float = 1.0) -> Tree:
    values = tree.value[:, 0, target]
    missing = getattr(tree, "missing_go_to_left", None)
    to_left = np.zeros(tree.node_count, bool) if missing is None else np.asarray(missing, bool)
    is_leaf = tree.children_left < 0
    nodes = (tree.feature, tree.threshold, to_left, tree.children_left, tree.children_right)
    return _renumbered(is_leaf, values if scale == 1.0 else scale * values, *nodes)


def _renumbered(is_leaf: Any, values: Any, feature: Any, threshold: Any, to_left: Any, left: Any, right: Any) -> Tree:
    """Nodes in one list → splits and leaves apart; the order, and with it the root, stays."""
    at = np.where(is_leaf, ~(np.cumsum(is_leaf) - 1), np.cumsum(~is_leaf) - 1).tolist()
    splits = [
        Split(int(feature[n]), float(threshold[n]), bool(to_left[n]), at[int(left[n])], at[int(right[n])])
        for n in np.flatnonzero(~is_leaf)
    ]
    return Tree(splits, [float(v) for v in values[is_leaf]])


def _boosted(model: Any) -> Forest:
    name = type(model).__name__
    if model.estimators_.shape[1] != 1:
        text = "boosting over several classes is not converted in doubles; train a model for each class"
        raise refused("objective_unsupported", name, text)
    if not (model.init is None or model.init == "zero"):
        raise refused("tree_unsupported", name, "an init estimator of one's own is not converted; leave init out")
    start = float(model._raw_predict_init(np.zeros((1, model.n_features_in_), np.float32))[0, 0])
    trees = [_tree(each.tree_, 0, model.learning_rate) for each in model.estimators_[:, 0]]
    link = "plain" if not hasattr(model, "classes_") else "expit2" if model.loss == "exponential" else _EXPIT
    return Forest([[Tree([], [start]), *trees]], link=link)


def _histogram(model: Any) -> Forest:
    name = type(model).__name__
    if model.is_categorical_ is not None and np.any(model.is_categorical_):
        text = (
            "categorical_features is not converted; encode before it (OrdinalEncoder, OneHotEncoder), or use LightGBM"
        )
        raise refused("tree_unsupported", name, text)
    if model.n_trees_per_iteration_ != 1:
        text = "boosting over several classes is not converted; train a model for each class"
        raise refused("objective_unsupported", name, text)
    start = float(np.asarray(model._baseline_prediction).reshape(-1)[0])
    trees = [_histogram_tree(each[0].nodes) for each in model._predictors]
    classifier = hasattr(model, "classes_")
    link = _EXPIT if classifier else "exp" if model.loss in ("poisson", "gamma") else "plain"
    return Forest([[Tree([], [start]), *trees]], floats=False, link=link)


def _histogram_tree(nodes: Any) -> Tree:
    is_leaf = nodes["is_leaf"].astype(bool)
    columns = ("feature_idx", "num_threshold", "missing_go_to_left", "left", "right")
    return _renumbered(is_leaf, nodes["value"], *(nodes[name] for name in columns))
