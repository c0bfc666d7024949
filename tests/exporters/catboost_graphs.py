"""Graphs as CatBoost writes them: oblivious trees level by level, ai.onnx.ml 2 and no other operator set.

Source: catboost/libs/model/model_export/onnx_helpers.cpp.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.exporters.sklearn_models import Named

FLOAT, LEARNING = TensorProto.FLOAT, "ai.onnx.ml"
TREES, DEPTH, WIDTH = 10, 3, 5
_RANDOM = np.random.default_rng(9)


def _nodes(prefix: str, classes: int) -> dict[str, Any]:
    told: dict[str, list[Any]] = {
        f"{part}": []
        for part in [
            "treeids",
            "nodeids",
            "modes",
            "featureids",
            "values",
            "falsenodeids",
            "truenodeids",
            "missing_value_tracks_true",
            "hitrates",
        ]
    }
    leaves: dict[str, list[Any]] = {part: [] for part in ("treeids", "nodeids", "ids", "weights")}
    for tree in range(TREES):
        depth = DEPTH if tree else 0  # the first is a single leaf
        inner, everything = 2**depth - 1, 2 ** (depth + 1) - 1
        for at in range(everything):
            split = at < inner
            row = (tree, at, "BRANCH_GT" if split else "LEAF", int(_RANDOM.integers(WIDTH)) if split else 0)
            links = (2 * at + 1, 2 * at + 2) if split else (0, 0)
            for part, value in zip(told, (*row, float(split) * 0.1, *links, 0, 1.0), strict=True):
                told[part].append(value)
            for target in range(classes) if not split else ():
                for part, value in zip(leaves, (tree, at, target, 0.25), strict=True):
                    leaves[part].append(value)
    return {f"nodes_{k}": v for k, v in told.items()} | {f"{prefix}_{k}": v for k, v in leaves.items()}


def _model(nodes: list[onnx.NodeProto], outputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
    features = helper.make_tensor_value_info("features", FLOAT, ["N", WIDTH])
    graph = helper.make_graph(nodes, "CatBoostModel", [features], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(LEARNING, 2)], ir_version=8)
    model.producer_name, model.producer_version, model.domain = "CatBoost", "1.2.8", "ai.catboost"
    model.metadata_props.add(key="params", value='{"loss_function": "Logloss"}' * 100)
    return model


def classifier(classes: int) -> onnx.ModelProto:
    """Trees, and a ZipMap over their probabilities; two classes have one score each, or one for both."""
    labels = list(range(classes))
    told = _nodes("class", classes if classes > 2 else 1)
    if classes == 2:
        told["class_ids"] = [1] * len(told["class_ids"])
    post = "LOGISTIC" if classes == 2 else "SOFTMAX"
    trees = helper.make_node(
        "TreeEnsembleClassifier",
        ["features"],
        ["label", "probability_tensor"],
        domain=LEARNING,
        post_transform=post,
        classlabels_int64s=labels,
        **told,
    )
    zipped = helper.make_node(
        "ZipMap", ["probability_tensor"], ["probabilities"], domain=LEARNING, classlabels_int64s=labels
    )
    probabilities = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(FLOAT, []))
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
        helper.make_value_info("probabilities", helper.make_sequence_type_proto(probabilities)),
    ]
    return _model([trees, zipped], outputs)


def regressor(bias: bool) -> onnx.ModelProto:
    """Trees alone, with a base value or without."""
    told = _nodes("target", 1) | ({"base_values": [0.5]} if bias else {})
    trees = helper.make_node(
        "TreeEnsembleRegressor",
        ["features"],
        ["predictions"],
        domain=LEARNING,
        n_targets=1,
        post_transform="NONE",
        **told,
    )
    return _model([trees], [helper.make_tensor_value_info("predictions", FLOAT, ["N", 1])])


def catboost_models() -> Iterator[Named]:
    """Two classes, three, and regressions."""
    yield "catboost_two", lambda: classifier(2)
    yield "catboost_three", lambda: classifier(3)
    yield "catboost_regressor", lambda: regressor(False)
    yield "catboost_bias", lambda: regressor(True)
