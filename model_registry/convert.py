"""A bank's trained model → ONNX with declared fields, inputs and output.

`from_lightgbm` writes ai.onnx.ml 5 TreeEnsemble with double thresholds, so that a row takes the same branches as in
LightGBM itself: the usual float32 conversion flips rows whose value lies near a threshold, and with them limits.
`from_sklearn` gives each field an input of its own, so that categories travel as text and missing values as NaN or "".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from model_registry.errors import ModelRefused, Reason
from model_registry.manifest import ModelInput, ModelOutput

OPSET, ML_OPSET, IR_VERSION = 19, 5, 9
_LESS_OR_EQUAL, _SUM = 0, 1  # ai.onnx.ml 5 TreeEnsemble: nodes_modes, aggregate_function


class CatalogField(Protocol):
    """What is needed of a catalogue field, whichever side it comes from."""

    type: str
    codes: Sequence[str]


@dataclass(frozen=True)
class FieldSpec:
    """A field that the model reads. `missing`: `nan`, `decline`, or the value that stands in."""

    name: str
    type: str
    codes: tuple[str, ...] = ()
    missing: str | float | int = "nan"

    @classmethod
    def of(cls, name: str, known: Mapping[str, Any]) -> Self:
        """From a catalogue by full name; raises ModelRefused where it has no such field."""
        if name not in known:
            raise ModelRefused([Reason("field_unknown", name, "the catalogue has no such field")])
        return cls(name, str(known[name].type), tuple(known[name].codes))


@dataclass(frozen=True)
class Converted:
    """An ONNX model and what its manifest must say about it."""

    onnx: bytes
    fields: tuple[FieldSpec, ...]
    inputs: tuple[ModelInput, ...]
    output: ModelOutput


@dataclass
class _Trees:
    """The attributes of a TreeEnsemble node, grown tree by tree."""

    features: list[int] = field(default_factory=list)
    splits: list[float] = field(default_factory=list)
    missing_true: list[int] = field(default_factory=list)
    true_ids: list[int] = field(default_factory=list)
    true_leaf: list[int] = field(default_factory=list)
    false_ids: list[int] = field(default_factory=list)
    false_leaf: list[int] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def add(self, tree: Mapping[str, Any]) -> None:
        """Appends a LightGBM tree. A tree that is one leaf becomes a node whose branches both lead to it."""
        if "leaf_value" in tree:
            self.roots.append(self._node(0, 0.0, True))
            leaf = self._leaf(tree)
            self._link(self.roots[-1], (leaf, 1), (leaf, 1))
        else:
            self.roots.append(self._branch(tree))

    def _branch(self, node: Mapping[str, Any]) -> int:
        if node["decision_type"] != "<=" or node["missing_type"] == "Zero":
            text = "categorical splits and zero_as_missing are not converted; encode categories as numbers or one-hot"
            raise ModelRefused([Reason("tree_unsupported", "booster", text)])
        # Without missing values in training LightGBM reads NaN as 0.
        to_left = node["default_left"] if node["missing_type"] == "NaN" else node["threshold"] >= 0.0
        at = self._node(int(node["split_feature"]), float(node["threshold"]), bool(to_left))
        self._link(at, self._child(node["left_child"]), self._child(node["right_child"]))
        return at

    def _child(self, node: Mapping[str, Any]) -> tuple[int, int]:
        return (self._leaf(node), 1) if "leaf_value" in node else (self._branch(node), 0)

    def _node(self, feature: int, split: float, missing_true: bool) -> int:
        self.features.append(feature)
        self.splits.append(split)
        self.missing_true.append(int(missing_true))
        for row in (self.true_ids, self.true_leaf, self.false_ids, self.false_leaf):
            row.append(0)
        return len(self.features) - 1

    def _link(self, at: int, true: tuple[int, int], false: tuple[int, int]) -> None:
        self.true_ids[at], self.true_leaf[at] = true
        self.false_ids[at], self.false_leaf[at] = false

    def _leaf(self, node: Mapping[str, Any]) -> int:
        self.weights.append(float(node["leaf_value"]))
        return len(self.weights) - 1

    def onnx_node(self, source: str, target: str) -> onnx.NodeProto:
        """The TreeEnsemble node: rows of doubles in, one sum of doubles out."""
        return helper.make_node(
            "TreeEnsemble",
            [source],
            [target],
            domain="ai.onnx.ml",
            n_targets=1,
            aggregate_function=_SUM,
            post_transform=0,
            tree_roots=self.roots,
            nodes_featureids=self.features,
            nodes_modes=_tensor("modes", np.full(len(self.features), _LESS_OR_EQUAL, np.uint8)),
            nodes_splits=_tensor("splits", np.array(self.splits, np.float64)),
            nodes_missing_value_tracks_true=self.missing_true,
            nodes_truenodeids=self.true_ids,
            nodes_trueleafs=self.true_leaf,
            nodes_falsenodeids=self.false_ids,
            nodes_falseleafs=self.false_leaf,
            leaf_targetids=[0] * len(self.weights),
            leaf_weights=_tensor("weights", np.array(self.weights, np.float64)),
        )


def from_lightgbm(model: Any, fields: Sequence[FieldSpec]) -> Converted:
    """Converts a LightGBM Booster or scikit-learn estimator: binary classification or regression.

    Args:
        model: the trained model; its features in the order of `fields`.
        fields: what each feature is; categories are read as their index in the code list.

    Returns:
        A model whose output is the probability of the positive class (binary) or the prediction (regression).

    Raises:
        ModelRefused: multi-class, random forest averaging, linear trees, categorical splits, zero_as_missing.
    """
    dump = getattr(model, "booster_", model).dump_model()
    if len(dump["feature_names"]) != len(fields):
        text = f"the model has {len(dump['feature_names'])} features, {len(fields)} fields are given"
        raise ModelRefused([Reason("fields_mismatch", "booster", text)])
    name, _, parameters = str(dump.get("objective", "regression")).partition(" ")
    plain = dump["num_tree_per_iteration"] == 1 and not dump["average_output"]
    if not plain or name not in {"binary", "regression", "regression_l1", "huber", "quantile", "mape"}:
        text = "only binary classification and plain regression, summed over trees, are converted"
        raise ModelRefused([Reason("objective_unsupported", "booster", text)])
    trees = _Trees()
    for info in dump["tree_info"]:
        trees.add(info["tree_structure"])
    nodes = [trees.onnx_node("fields", "raw")]
    nodes += _sigmoid(parameters) if name == "binary" else [helper.make_node("Identity", ["raw"], ["score"])]
    return Converted(
        _model(nodes, len(fields)),
        tuple(fields),
        (ModelInput(name="fields", dtype="float64", fields=tuple(f.name for f in fields)),),
        ModelOutput(name="score", index=0),
    )


def _sigmoid(parameters: str) -> list[onnx.NodeProto]:
    slope = dict(p.split(":") for p in parameters.split() if ":" in p).get("sigmoid", "1")
    constant = _tensor("slope", np.array([float(slope)], np.float64))
    return [
        helper.make_node("Constant", [], ["slope"], value=constant),
        helper.make_node("Mul", ["raw", "slope"], ["steep"]),
        helper.make_node("Sigmoid", ["steep"], ["score"]),
    ]


def _model(nodes: Sequence[onnx.NodeProto], width: int) -> bytes:
    graph = helper.make_graph(
        nodes,
        "heixia",
        [helper.make_tensor_value_info("fields", TensorProto.DOUBLE, [1, width])],
        [helper.make_tensor_value_info("score", TensorProto.DOUBLE, [1, 1])],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def from_sklearn(model: Any, fields: Sequence[FieldSpec], columns: Sequence[str]) -> Converted:
    """Converts a scikit-learn classifier or regressor (usually a Pipeline) trained on a data frame.

    Args:
        model: the trained model.
        fields: what each column is. Categories become string inputs (missing = ""), all else float32 (missing = NaN).
        columns: the data frame's column names, in the order of `fields`.

    Returns:
        A model whose output is the probability of the last class, or the prediction of a regressor.

    Raises:
        ModelRefused: skl2onnx has no conversion for a step.
    """
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    kinds = [StringTensorType if f.type == "category" else FloatTensorType for f in fields]
    initial = [(column, kind([None, 1])) for column, kind in zip(columns, kinds, strict=True)]
    classes = getattr(model, "classes_", None)
    options = {id(model): {"zipmap": False}} if classes is not None else None
    try:
        made = convert_sklearn(model, initial_types=initial, options=options, target_opset={"": OPSET, "ai.onnx.ml": 3})
    except Exception as error:  # skl2onnx raises many kinds
        text = f"skl2onnx cannot convert it: {type(error).__name__}"
        raise ModelRefused([Reason("conversion_failed", type(model).__name__, text)]) from error
    inputs = tuple(
        ModelInput(name=column, dtype="string" if f.type == "category" else "float32", fields=(f.name,))
        for column, f in zip(columns, fields, strict=True)
    )
    last = made.graph.output[-1].name
    return Converted(
        bytes(made.SerializeToString()),
        tuple(fields),
        inputs,
        ModelOutput(name=last, index=len(classes) - 1 if classes is not None else 0),
    )


def _tensor(name: str, values: Any) -> TensorProto:
    return numpy_helper.from_array(values, name)
