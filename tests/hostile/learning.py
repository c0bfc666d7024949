"""Hostile ai.onnx.ml: indices and lengths that lead out of bounds."""

from typing import Any

from onnx import helper

from tests.hostile.models import (
    INT64,
    LEARNING,
    Build,
    Hostile,
    alone,
    node,
    stored,
    tree_ensemble,
    trees,
)


def _svm(**changes: Any) -> Build:
    told: dict[str, Any] = {
        "n_supports": 2,
        "support_vectors": [1.0] * 6,
        "coefficients": [1.0, 1.0],
        "rho": [0.0],
        "kernel_params": [1.0, 0.0, 3.0],
    }
    return alone(helper.make_node("SVMRegressor", ["X"], ["y"], domain=LEARNING, **{**told, **changes}))


def _learning(op: str, *inputs: str, stored: Any = (), **attributes: Any) -> Build:
    return alone(helper.make_node(op, list(inputs or ["X"]), ["y"], domain=LEARNING, **attributes), stored=stored)


def _chain(depth: int) -> Build:
    """A path of splits longer than any stack."""
    ids = list(range(2 * depth + 1))
    split = [i % 2 == 0 and i < 2 * depth for i in ids]
    return alone(
        trees(
            nodes_treeids=[0] * len(ids),
            nodes_nodeids=ids,
            nodes_featureids=[0] * len(ids),
            nodes_values=[0.0] * len(ids),
            nodes_modes=["BRANCH_LEQ" if branch else "LEAF" for branch in split],
            nodes_truenodeids=[i + 1 if branch else 0 for i, branch in zip(ids, split, strict=True)],
            nodes_falsenodeids=[i + 2 if branch else 0 for i, branch in zip(ids, split, strict=True)],
            target_treeids=[0],
            target_nodeids=[1],
            target_ids=[0],
            target_weights=[1.0],
        )
    )


LEARNING_MODELS = [
    Hostile(
        "tree_loop",
        "a branch that leads to itself",
        "tree_invalid",
        alone(trees(nodes_modes=["BRANCH_LEQ"] * 3, nodes_truenodeids=[1, 2, 1], nodes_falsenodeids=[2, 2, 1])),
    ),
    Hostile(
        "tree_feature",
        "a column that the row does not have",
        "tree_invalid",
        alone(trees(nodes_featureids=[1000, 0, 0])),
    ),
    Hostile(
        "tree_feature_negative", "a column before the row", "tree_invalid", alone(trees(nodes_featureids=[-5, 0, 0]))
    ),
    Hostile(
        "tree_branch",
        "a branch to a node that is not there",
        "tree_invalid",
        alone(trees(nodes_truenodeids=[77, 0, 0])),
    ),
    Hostile("tree_target", "a leaf that writes behind the output", "tree_invalid", alone(trees(target_ids=[0, 4000]))),
    Hostile("tree_targets_many", "four billion targets", "tree_invalid", alone(trees(n_targets=2**32))),
    Hostile("tree_lengths", "lists of different lengths", "tree_invalid", alone(trees(nodes_values=[0.5]))),
    Hostile(
        "tree_mode",
        "a comparison that does not exist",
        "tree_invalid",
        alone(trees(nodes_modes=["BRANCH_EVIL", "LEAF", "LEAF"])),
    ),
    Hostile(
        "tree_unreached",
        "nodes that no root leads to",
        "tree_invalid",
        alone(trees(nodes_falsenodeids=[1, 0, 0])),
        True,
    ),
    Hostile("tree_deep", "a path of ten thousand splits", "tree_invalid", _chain(10_000), plain=True),
    Hostile("tree5_loop", "a branch to its own root", "tree_invalid", alone(tree_ensemble(nodes_trueleafs=[0]), ml=5)),
    Hostile(
        "tree5_leaf", "a leaf that is not there", "tree_invalid", alone(tree_ensemble(nodes_falsenodeids=[9]), ml=5)
    ),
    Hostile("tree5_root", "a root that is not there", "tree_invalid", alone(tree_ensemble(tree_roots=[12]), ml=5)),
    Hostile(
        "tree5_target",
        "a leaf that writes behind the output",
        "tree_invalid",
        alone(tree_ensemble(leaf_targetids=[0, 99]), ml=5),
    ),
    Hostile("svm_vectors", "fewer support vectors than are read", "learning_invalid", _svm(support_vectors=[1.0])),
    Hostile("svm_count", "more support vectors than there are", "learning_invalid", _svm(n_supports=1000)),
    Hostile("svm_kernel", "a kernel without parameters", "learning_invalid", _svm(kernel_params=[1.0])),
    Hostile(
        "linear_short",
        "fewer coefficients than columns",
        "learning_invalid",
        _learning("LinearRegressor", coefficients=[1.0]),
    ),
    Hostile(
        "linear_labels",
        "more classes than coefficients",
        "learning_invalid",
        alone(
            helper.make_node(
                "LinearClassifier",
                ["X"],
                ["label", "y"],
                domain=LEARNING,
                coefficients=[1.0] * 3,
                intercepts=[0.0],
                classlabels_ints=[0, 1, 2, 3],
            )
        ),
    ),
    Hostile(
        "scaler_short",
        "two offsets for three columns",
        "learning_invalid",
        _learning("Scaler", offset=[0.0, 0.0], scale=[1.0, 1.0]),
    ),
    Hostile(
        "imputer_both",
        "two lists of stand-ins",
        "learning_invalid",
        _learning("Imputer", imputed_value_floats=[0.0], imputed_value_int64s=[0]),
    ),
    Hostile(
        "extract_outside",
        "a column that the row does not have",
        "learning_invalid",
        _learning("ArrayFeatureExtractor", "X", "i", stored=[stored("i", [1000])]),
    ),
    Hostile(
        "encoder_uneven",
        "more keys than values",
        "learning_invalid",
        _learning("LabelEncoder", keys_floats=[0.0, 1.0], values_floats=[1.0]),
    ),
    Hostile(
        "one_hot_bomb",
        "a hundred thousand categories for each of many columns",
        "work_too_large",
        alone(
            node("OneHotEncoder", ["X"], ["h"], LEARNING, cats_int64s=list(range(100_000))),
            node("ReduceSum", ["h"]),
            width=200,
            kind=INT64,
        ),
        plain=True,
    ),
    Hostile(
        "vectorizer_widths",
        "declared widths beyond the inputs",
        "learning_invalid",
        _learning("FeatureVectorizer", inputdimensions=[1_000_000_000]),
    ),
]
