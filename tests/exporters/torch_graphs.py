"""Graphs as PyTorch's two exporters write them; torch itself is 200 MB, so they are written node by node.

Sources: what torch.onnx.export gave for these modules (TorchScript exporter of 1.13 to 2.4; dynamo exporter of 2.6).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
_RANDOM = np.random.default_rng(11)


class Graph:
    """A graph that grows by a node at a time, names as the TorchScript exporter gives them."""

    def __init__(self, opset: int, inputs: Sequence[onnx.ValueInfoProto]) -> None:
        self.opset, self.inputs = opset, list(inputs)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """A node; returns its first output."""
        name = f"/net/{op}_{len(self.nodes)}"
        made = [f"{name}_output_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), made, name=name, **attributes))
        return made[0]

    def weight(self, *shape: int, value: Any = None) -> str:
        """A stored tensor of small random numbers, or of the given ones; raw, as torch writes it."""
        name = f"onnx::{'MatMul' if len(shape) == 2 else 'Add'}_{len(self.weights) + 100}"
        data = _RANDOM.normal(size=shape).astype(np.float32) if value is None else np.asarray(value)
        self.weights.append(numpy_helper.from_array(data, name))
        return name

    def constant(self, value: Any) -> str:
        """A Constant node."""
        return self.add("Constant", value=numpy_helper.from_array(np.asarray(value), ""))

    def linear(self, x: str, width: int, units: int) -> str:
        """nn.Linear: Gemm with the weight as torch keeps it."""
        return self.add("Gemm", x, self.weight(units, width), self.weight(units), alpha=1.0, beta=1.0, transB=1)

    def model(self, ir_version: int = 8) -> onnx.ModelProto:
        """The model, its last value renamed."""
        self.nodes[-1].output[0] = "output"
        made = [helper.make_tensor_value_info("output", FLOAT, ["batch", 1])]
        graph = helper.make_graph(self.nodes, "main_graph", self.inputs, made, self.weights)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=ir_version, producer_name="pytorch"
        )
        model.producer_version = "2.4.0"
        return model


def _rows(width: int, kind: int = FLOAT, name: str = "input") -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["batch", width])


def mlp(opset: int) -> onnx.ModelProto:
    """Linear, BatchNorm1d, ReLU, Dropout in eval mode, Linear, Sigmoid."""
    graph = Graph(opset, [_rows(5)])
    x = graph.linear("input", 5, 16)
    stats = [graph.weight(16, value=np.abs(_RANDOM.normal(size=16)).astype(np.float32)) for _ in range(4)]
    modes = {"training_mode": 0} if opset >= 14 else {}
    x = graph.add("BatchNormalization", x, *stats, epsilon=1e-5, momentum=0.9, **modes)
    x = graph.add("Relu", x)
    if opset >= 12:
        x = graph.add("Dropout", x, graph.constant(np.float32(0.5)), graph.constant(np.bool_(False)))
    else:
        x = graph.add("Identity", graph.add("Dropout", x, ratio=0.5))
    x = graph.linear(x, 16, 1)
    graph.add("Sigmoid", x)
    return graph.model(6 if opset < 12 else 8)


def embedding(opset: int) -> onnx.ModelProto:
    """Two embedded categories beside numbers: Gather of columns, Gather of rows, Concat, Linear."""
    graph = Graph(opset, [_rows(4, name="numbers"), _rows(2, INT64, "codes")])
    parts = ["numbers"]
    for column, cardinality in enumerate((10, 7)):
        picked = graph.add("Gather", "codes", graph.constant(np.int64(column)), axis=1)
        parts.append(graph.add("Gather", graph.weight(cardinality, 3), picked))
    x = graph.add("Concat", *parts, axis=1)
    x = graph.add("LeakyRelu", graph.linear(x, 10, 8), alpha=0.01)
    graph.linear(x, 8, 1)
    return graph.model()


def attention(opset: int) -> onnx.ModelProto:
    """One block of a transformer over fields, reshaped through Shape as tracing with a dynamic batch writes it."""
    graph = Graph(opset, [_rows(6)])
    axes = graph.constant(np.array([2], np.int64))
    x = graph.add("Unsqueeze", "input", axes) if opset >= 13 else graph.add("Unsqueeze", "input", axes=[2])
    x = graph.add("Add", graph.add("Mul", x, graph.weight(6, 8)), graph.weight(6, 8))
    batch = graph.add("Gather", graph.add("Shape", x), graph.constant(np.int64(0)), axis=0)
    zero = graph.constant(np.array([0], np.int64))
    batch = graph.add("Unsqueeze", batch, zero) if opset >= 13 else graph.add("Unsqueeze", batch, axes=[0])
    wanted = graph.add("Concat", batch, *(graph.constant(np.array([n], np.int64)) for n in (6, 2, 4)), axis=0)
    heads = [
        graph.add(
            "Transpose", graph.add("Reshape", graph.add("MatMul", x, graph.weight(8, 8)), wanted), perm=[0, 2, 1, 3]
        )
        for _ in range(3)
    ]
    keys = graph.add("Transpose", heads[1], perm=[0, 1, 3, 2])
    weights = graph.add("Div", graph.add("MatMul", heads[0], keys), graph.constant(np.float32(2.0)))
    mixed = graph.add("MatMul", graph.add("Softmax", weights, axis=-1), heads[2])
    flat = graph.add("Concat", batch, graph.constant(np.array([48], np.int64)), axis=0)
    x = graph.add("Reshape", graph.add("Transpose", mixed, perm=[0, 2, 1, 3]), flat)
    graph.linear(_gelu(graph, _layer_norm(graph, x, 48)), 48, 1)
    return graph.model()


def _layer_norm(graph: Graph, x: str, width: int) -> str:
    scale, bias = graph.weight(width), graph.weight(width)
    if graph.opset >= 17:
        return graph.add("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-5)
    centred = graph.add("Sub", x, graph.add("ReduceMean", x, axes=[-1]))
    square = graph.add("Pow", centred, graph.constant(np.float32(2.0)))
    deviation = graph.add(
        "Sqrt", graph.add("Add", graph.add("ReduceMean", square, axes=[-1]), graph.constant(np.float32(1e-5)))
    )
    return graph.add("Add", graph.add("Mul", graph.add("Div", centred, deviation), scale), bias)


def _gelu(graph: Graph, x: str) -> str:
    if graph.opset >= 20:
        return graph.add("Gelu", x, approximate="none")
    half = graph.add("Erf", graph.add("Div", x, graph.constant(np.float32(1.4142135))))
    product = graph.add("Mul", x, graph.add("Add", half, graph.constant(np.float32(1.0))))
    return graph.add("Mul", product, graph.constant(np.float32(0.5)))


def expanded(opset: int) -> onnx.ModelProto:
    """A learned token over the batch: ConstantOfShape, Equal, Where, Expand, as `expand(-1, ...)` is traced."""
    graph = Graph(opset, [_rows(5)])
    x = graph.linear("input", 5, 8)
    batch = graph.add("Slice", graph.add("Shape", x), *(graph.constant(np.array([n], np.int64)) for n in (0, 1, 0)))
    wanted = graph.add("Concat", batch, graph.constant(np.array([-1], np.int64)), axis=0)
    ones = graph.add(
        "ConstantOfShape",
        graph.constant(np.array([2], np.int64)),
        value=numpy_helper.from_array(np.array([1], np.int64)),
    )
    minus = graph.add("Mul", ones, graph.constant(np.int64(-1)))
    shape = graph.add("Where", graph.add("Equal", wanted, minus), ones, wanted)
    token = graph.add("Expand", graph.weight(1, 8), shape)
    x = graph.add("Concat", x, token, axis=1)
    graph.linear(graph.add("Tanh", x), 16, 1)
    return graph.model()


def dynamo(opset: int) -> onnx.ModelProto:
    """A module as the dynamo exporter writes it: notes on everything, value_info, IR 10."""
    model = attention(opset) if opset >= 20 else mlp(opset)
    model.ir_version, model.producer_version = 10, "2.6.0"
    trace = 'File "train.py", line 12, in forward\n    return self.net(x)\n' * 20
    for position, node in enumerate(model.graph.node):
        node.doc_string = "from torch"
        for key in (
            "namespace",
            "pkg.torch.onnx.class_hierarchy",
            "pkg.torch.onnx.fx_node",
            "pkg.torch.onnx.name_scopes",
        ):
            node.metadata_props.add(key=key, value=f": net.Net/fc{position}: torch.nn.modules.linear.Linear")
        node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value=trace)
        model.graph.value_info.append(helper.make_tensor_value_info(node.output[0], FLOAT, None))
    for tensor in model.graph.initializer:
        tensor.metadata_props.add(key="pkg.torch.onnx.original_node_name", value="p_net_fc1_weight")
    model.graph.metadata_props.add(key="pkg.torch.export.graph_signature.ExportGraphSignature", value="x" * 3000)
    model.metadata_props.add(key="pkg.torch.export.ExportedProgram.graph", value="graph():\n    %x : placeholder")
    model.graph.doc_string = model.doc_string = "traced"
    return model
