"""What hostile models are made of: a sound base, and changes to it that each try one thing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, STRING, DOUBLE = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING, TensorProto.DOUBLE
LEARNING = "ai.onnx.ml"
Build = Callable[[Path], onnx.ModelProto | bytes]


@dataclass(frozen=True)
class Hostile:
    """One hostile model.

    Attributes:
        name: its file's.
        tries: what it is after.
        code: the reason for which it must be refused.
        build: makes it; may put side files into the folder.
        plain: onnx.checker and a run of onnxruntime find nothing wrong with it.
    """

    name: str
    tries: str
    code: str
    build: Build
    plain: bool = False


def write_all(folder: Path, models: Sequence[Hostile]) -> dict[str, Path]:
    """Write every model; returns name → file."""
    files = {}
    for hostile in models:
        made = hostile.build(folder)
        files[hostile.name] = folder / f"{hostile.name}.onnx"
        files[hostile.name].write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    return files


def weights(width: int = 3) -> onnx.TensorProto:
    """A column of ones, named W."""
    return numpy_helper.from_array(np.ones((width, 1), np.float32), "W")


def sound(
    *extra: onnx.NodeProto, stored: Sequence[onnx.TensorProto] = (), opset: int = 17, **changes: Any
) -> onnx.ModelProto:
    """A model that is admitted: `score` = X · W, and whatever nodes come behind it, the last of which makes `y`."""
    nodes = [helper.make_node("MatMul", ["X", "W"], ["score"]), *extra]
    given = changes.get("inputs") or [helper.make_tensor_value_info("X", FLOAT, [None, 3])]
    made = changes.get("outputs") or [
        helper.make_tensor_value_info("y" if extra else "score", changes.get("kind", FLOAT), [None, None])
    ]
    graph = helper.make_graph(nodes, "graph", given, made, [weights(), *stored])
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(LEARNING, 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=changes.get("functions", ()))


def node(
    op: str, inputs: Sequence[str], outputs: Sequence[str] = ("y",), domain: str = "", **attributes: Any
) -> onnx.NodeProto:
    """A node."""
    return helper.make_node(op, list(inputs), list(outputs), domain=domain, **attributes)


def stored(name: str, value: Any, dtype: Any = np.int64) -> onnx.TensorProto:
    """A stored tensor."""
    return numpy_helper.from_array(np.array(value, dtype), name)


def changed(change: Callable[[onnx.ModelProto], object], *extra: onnx.NodeProto, **members: Any) -> Build:
    """The sound model after a change."""

    def build(_: Path) -> onnx.ModelProto:
        model = sound(*extra, **members)
        change(model)
        return model

    return build


def with_nodes(*extra: onnx.NodeProto, **members: Any) -> Build:
    """The sound model with more nodes."""
    return lambda _: sound(*extra, **members)


def alone(*nodes: onnx.NodeProto, width: int = 3, kind: int = FLOAT, ml: int = 3, **members: Any) -> Build:
    """A model of these nodes alone, from X to y."""

    def build(_: Path) -> onnx.ModelProto:
        outputs = [helper.make_tensor_value_info("y", members.get("out", FLOAT), [None, None])]
        inputs = [helper.make_tensor_value_info("X", kind, [None, width])]
        graph = helper.make_graph(list(nodes), "graph", inputs, outputs, list(members.get("stored", ())))
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(LEARNING, ml)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)

    return build


def trees(**changes: Any) -> onnx.NodeProto:
    """A TreeEnsembleRegressor of one split and two leaves, with changes."""
    told: dict[str, Any] = {
        "n_targets": 1,
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_values": [0.5, 0.0, 0.0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        "target_treeids": [0, 0],
        "target_nodeids": [1, 2],
        "target_ids": [0, 0],
        "target_weights": [1.0, 2.0],
    }
    return helper.make_node("TreeEnsembleRegressor", ["X"], ["y"], domain=LEARNING, **{**told, **changes})


def tree_ensemble(**changes: Any) -> onnx.NodeProto:
    """A TreeEnsemble of ai.onnx.ml 5: one split and two leaves, with changes."""
    told: dict[str, Any] = {
        "n_targets": 1,
        "tree_roots": [0],
        "nodes_featureids": [0],
        "nodes_splits": stored("splits", [0.5], np.float32),
        "nodes_modes": stored("modes", [0], np.uint8),
        "nodes_truenodeids": [0],
        "nodes_trueleafs": [1],
        "nodes_falsenodeids": [1],
        "nodes_falseleafs": [1],
        "leaf_targetids": [0, 0],
        "leaf_weights": stored("weights", [1.0, 2.0], np.float32),
    }
    return helper.make_node("TreeEnsemble", ["X"], ["y"], domain=LEARNING, **{**told, **changes})
