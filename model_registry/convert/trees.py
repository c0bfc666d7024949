"""Trees, whichever library grew them, as one TreeEnsemble node of ai.onnx.ml 5 and as a whole model.

Source: Operators-ml.md (github.com/onnx/onnx), TreeEnsemble version 5. onnxruntime 1.32 adds the leaves of a row in the
order of the trees, in the input's number type, on one thread: the sums have the bits of the library's own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from model_registry.convert.fields import Converted, FieldSpec
from model_registry.manifest import ModelInput, ModelOutput

OPSET, ML_OPSET, IR_VERSION = 19, 5, 9
LESS_OR_EQUAL, LESS, _MEMBER = 0, 1, 6  # TreeEnsemble: nodes_modes
_SUM = 1  # TreeEnsemble: aggregate_function
INPUT, RAW, SCORE = "fields", "raw", "score"


@dataclass(frozen=True)
class Split:
    """A test of one feature; `true` and `false`: a split of the same tree, or ~n for its leaf n.

    `members` not None: is the value one of these? Else: is it below (or at) `threshold`?
    """

    feature: int
    threshold: float
    missing_true: bool
    true: int
    false: int
    members: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Tree:
    """Splits, the first the root, and leaves; no splits = the first leaf for every row."""

    splits: Sequence[Split]
    leaves: Sequence[float]


@dataclass
class _Lists:
    """The attributes of a TreeEnsemble node, grown tree by tree."""

    features: list[int] = field(default_factory=list)
    thresholds: list[float] = field(default_factory=list)
    modes: list[int] = field(default_factory=list)
    missing_true: list[int] = field(default_factory=list)
    true: list[tuple[int, int]] = field(default_factory=list)  # (position, whether it is a leaf's)
    false: list[tuple[int, int]] = field(default_factory=list)
    members: list[float] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def add(self, tree: Tree, mode: int) -> None:
        """Appends a tree. One that is a leaf becomes a split both of whose branches lead to it."""
        node, leaf = len(self.features), len(self.weights)
        self.roots.append(node)
        self.weights += tree.leaves
        for split in tree.splits or (Split(0, 0.0, True, ~0, ~0),):
            self.features.append(split.feature)
            self.thresholds.append(split.threshold if split.members is None else 0.0)
            self.modes.append(mode if split.members is None else _MEMBER)
            self.missing_true.append(int(split.missing_true))
            self.true.append(_place(split.true, node, leaf))
            self.false.append(_place(split.false, node, leaf))
            if split.members is not None:
                self.members += (*split.members, np.nan)  # NaN ends a set


def _place(at: int, node: int, leaf: int) -> tuple[int, int]:
    return (leaf + ~at, 1) if at < 0 else (node + at, 0)


def ensemble(trees: Iterable[Tree], mode: int, dtype: Any, source: str, target: str) -> onnx.NodeProto:
    """One node: rows of `dtype` in, the sum of the leaves [rows, 1] out."""
    lists = _Lists()
    for tree in trees:
        lists.add(tree, mode)
    told: dict[str, Any] = {}
    if lists.members:
        told["membership_values"] = tensor("membership", np.array(lists.members, dtype))
    for side, places in (("true", lists.true), ("false", lists.false)):
        told[f"nodes_{side}nodeids"], told[f"nodes_{side}leafs"] = map(list, zip(*places, strict=True))
    return helper.make_node(
        "TreeEnsemble",
        [source],
        [target],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function=_SUM,
        post_transform=0,
        tree_roots=lists.roots,
        nodes_featureids=lists.features,
        nodes_modes=tensor("modes", np.array(lists.modes, np.uint8)),
        nodes_splits=tensor("splits", np.array(lists.thresholds, dtype)),
        nodes_missing_value_tracks_true=lists.missing_true,
        leaf_targetids=[0] * len(lists.weights),
        leaf_weights=tensor("weights", np.array(lists.weights, dtype)),
        **told,
    )


def one_tensor_model(
    nodes: Sequence[onnx.NodeProto], fields: Sequence[FieldSpec], dtype: str, score_dtype: str, why: str
) -> Converted:
    """A model from `fields` [1, n] to `score` [1, 1].

    One tensor, not one for each field: on 200 fields a call costs 12 µs against 400 (docs/adr/0005). The manifest names
    the field of every column, so nothing is lost.
    """
    kinds = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}
    graph = helper.make_graph(
        nodes,
        "heixia",
        [helper.make_tensor_value_info(INPUT, kinds[dtype], [1, len(fields)])],
        [helper.make_tensor_value_info(SCORE, kinds[score_dtype], [1, 1])],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    onnx.checker.check_model(made)
    return Converted(
        bytes(made.SerializeToString()),
        tuple(fields),
        (ModelInput.model_validate({"name": INPUT, "dtype": dtype, "fields": [f.name for f in fields]}),),
        ModelOutput(name=SCORE, index=0),
        dtype,
        why,
    )


class Steps:
    """Element-wise nodes one after another, each with a number of its own beside it."""

    def __init__(self, source: str, dtype: Any) -> None:
        self._last, self._dtype = source, dtype
        self._nodes: list[onnx.NodeProto] = []

    def then(self, op: str, number: float | None = None, first: bool = False, **attributes: Any) -> "Steps":
        """Appends op(x), or op(x, number), or with `first` op(number, x)."""
        inputs, at = [self._last], len(self._nodes)
        if number is not None:
            constant = tensor(f"number{at}", np.array([number], self._dtype))
            self._nodes.append(helper.make_node("Constant", [], [f"number{at}"], value=constant))
            inputs = [f"number{at}", self._last] if first else [self._last, f"number{at}"]
        self._last = f"step{at}"
        self._nodes.append(helper.make_node(op, inputs, [self._last], **attributes))
        return self

    def cast(self, dtype: Any) -> "Steps":
        """Appends a conversion; numbers after it are of that type."""
        self._dtype = dtype
        return self.then("Cast", to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def into(self, target: str) -> list[onnx.NodeProto]:
        """The nodes, the last result under the name `target`."""
        return [*self._nodes, helper.make_node("Identity", [self._last], [target])]


def tensor(name: str, values: Any) -> TensorProto:
    """A stored tensor."""
    return numpy_helper.from_array(values, name)
