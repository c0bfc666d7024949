"""Small ONNX models, manifests and bundles for the tests of the jail."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from heixia.registry.v1 import bundle_pb2
from onnx import TensorProto, helper

from model_registry.admission import ManifestView, TensorInput

LEVELS = (0, 50_000, 100_000, 200_000, 500_000)
FIELDS = ("tax.declaration.sales_12m", "tax.declaration.arrears_12m", "water.usage.paid_12m")


def model(
    nodes: Sequence[onnx.NodeProto],
    *,
    width: int = 3,
    initializers: Sequence[onnx.TensorProto] = (),
    outputs: Sequence[onnx.ValueInfoProto] | None = None,
    inputs: Sequence[onnx.ValueInfoProto] | None = None,
) -> onnx.ModelProto:
    """A model of the given nodes, from X [1, width] to score [1, 1]."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        list(inputs or [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, width])]),
        list(outputs or [helper.make_tensor_value_info("score", TensorProto.FLOAT, None)]),
        initializer=list(initializers),
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def linear(weights: Sequence[float] = (1.0, 0.0, 0.0)) -> onnx.ModelProto:
    """Score = weights · X."""
    matrix = helper.make_tensor("W", TensorProto.FLOAT, [len(weights), 1], list(weights))
    return model([helper.make_node("MatMul", ["X", "W"], ["score"])], width=len(weights), initializers=[matrix])


def unary(*operators: str) -> onnx.ModelProto:
    """Score = the operators applied one after another to the first field."""
    matrix = helper.make_tensor("W", TensorProto.FLOAT, [3, 1], [1.0, 0.0, 0.0])
    names = ["x0", *(f"x{i + 1}" for i in range(len(operators) - 1)), "score"]
    nodes = [helper.make_node("MatMul", ["X", "W"], ["x0"])]
    nodes += [helper.make_node(op, [a], [b]) for op, a, b in zip(operators, names, names[1:], strict=False)]
    return model(nodes, initializers=[matrix])


def view(width: int = 3, **changes: Any) -> ManifestView:
    """The manifest's view of `linear`."""
    members: dict[str, Any] = {
        "inputs": (TensorInput("X", "float32", width),),
        "output_name": "score",
        "output_index": 0,
    }
    return ManifestView(**{**members, **changes})


def manifest(fields: Sequence[Mapping[str, Any]] | None = None, **changes: Any) -> bytes:
    """A manifest's JSON for `linear`."""
    declared = fields or [{"name": name, "type": "number", "missing": "nan"} for name in FIELDS]
    names = [field["name"] for field in declared]
    members = {
        "schema": "heixia.manifest/v1",
        "product": "bank/product",
        "fields": declared,
        "inputs": [{"name": "X", "dtype": "float32", "fields": names}],
        "output": {"name": "score", "index": 0},
        "levels": list(LEVELS),
    }
    return json.dumps({**members, **changes}).encode()


def content(proto: onnx.ModelProto, rules: bytes = b"", samples: Sequence[tuple[Sequence[float], int]] = ()) -> bytes:
    """A bundle's content."""
    parity = [bundle_pb2.ParitySample(vector=vector, limit_yuan=limit) for vector, limit in samples]
    return bundle_pb2.BundleContent(model=proto.SerializeToString(), rules=rules, samples=parity).SerializeToString()


def vector(*numbers: float) -> bytes:
    """A request."""
    return np.array(numbers, dtype="<f8").tobytes()
