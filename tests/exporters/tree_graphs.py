"""Trees as tensors, as hummingbird writes them (GEMM, tree traversal, perfect tree traversal); it needs torch itself.

Source: hummingbird-ml, hummingbird/ml/operator_converters/_tree_implementations.py, exported through torch.onnx.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.exporters.torch_graphs import Graph

TREES, INNER, LEAVES, WIDTH, DEPTH = 12, 7, 8, 5, 3
_RANDOM = np.random.default_rng(5)


def _input() -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info("input_0", TensorProto.FLOAT, ["sym", WIDTH])


def _whole(*values: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.array(values, np.int64)


def gemm(opset: int) -> onnx.ModelProto:
    """Features × inner nodes, compared, × paths, compared with path lengths, × leaf values, summed over trees."""
    graph = Graph(opset, [_input()])
    x = graph.add("Transpose", "input_0", perm=[1, 0])
    x = graph.add("MatMul", graph.weight(TREES * INNER, WIDTH), x)
    x = graph.add("Less", x, graph.weight(TREES * INNER, 1))
    x = graph.add("Reshape", x, graph.constant(_whole(TREES, INNER, -1)))
    paths = _RANDOM.integers(-1, 2, (TREES, LEAVES, INNER)).astype(np.float32)
    x = graph.add("MatMul", graph.weight(0, value=paths), graph.add("Cast", x, to=TensorProto.FLOAT))
    x = graph.add("Reshape", x, graph.constant(_whole(TREES * LEAVES, -1)))
    x = graph.add("Equal", x, graph.weight(0, value=_RANDOM.integers(0, 3, (TREES * LEAVES, 1)).astype(np.float32)))
    x = graph.add("Reshape", x, graph.constant(_whole(TREES, LEAVES, -1)))
    x = graph.add("MatMul", graph.weight(TREES, 1, LEAVES), graph.add("Cast", x, to=TensorProto.FLOAT))
    return _classes(graph, x, opset)


def traversal(opset: int, step: str = "GatherElements") -> onnx.ModelProto:
    """Each tree's position kept as an index and moved one level down, unrolled as deep as the deepest tree."""
    graph = Graph(opset, [_input()])
    nodes = INNER + LEAVES
    tables = [_RANDOM.integers(0, high, (TREES, nodes)) for high in (nodes, nodes, WIDTH)]
    left, right, feature = (graph.weight(0, value=table.astype(np.int64).reshape(-1)) for table in tables)
    threshold = graph.weight(TREES * nodes)
    shape = graph.add("Concat", graph.constant(_whole(-1)), graph.constant(_whole(TREES)), axis=0)
    offset = graph.weight(0, value=np.arange(TREES, dtype=np.int64)[None] * nodes)
    at = graph.add("Add", offset, graph.constant(_whole(0)))
    for _ in range(DEPTH):
        at = graph.add("Reshape", at, graph.constant(_whole(-1)))
        column = graph.add("Reshape", graph.add("Gather", feature, at, axis=0), shape)
        value = graph.add(step, "input_0", column, axis=1)
        bound = graph.add("Reshape", graph.add("Gather", threshold, at, axis=0), shape)
        sides = [graph.add("Reshape", graph.add("Gather", side, at, axis=0), shape) for side in (left, right)]
        lower = graph.add("LessOrEqual" if opset >= 12 else "Less", value, bound)
        at = graph.add("Add", graph.add("Where", lower, *sides), offset)
    at = graph.add("Reshape", at, graph.constant(_whole(-1)))
    x = graph.add("Gather", graph.weight(TREES * nodes, 1), at, axis=0)
    x = graph.add("Reshape", x, graph.constant(_whole(TREES, 1, -1)))
    return _classes(graph, x, opset)


def perfect_traversal(opset: int) -> onnx.ModelProto:
    """Perfect trees: an index doubled at each level."""
    graph = Graph(opset, [_input()])
    at = graph.weight(0, value=np.arange(TREES, dtype=np.int64))
    for level in range(DEPTH):
        bound = graph.add("Gather", graph.weight(TREES * 2**level), at, axis=0)
        column = graph.add("Gather", graph.weight(0, value=_RANDOM.integers(0, WIDTH, TREES * 2**level)), at, axis=0)
        value = graph.add("Gather", "input_0", graph.add("Reshape", column, graph.constant(_whole(-1))), axis=1)
        higher = graph.add(
            "Cast", graph.add("Greater", graph.add("Reshape", value, graph.constant(_whole(-1))), bound), to=7
        )
        at = graph.add("Add", graph.add("Mul", graph.constant(np.int64(2)), at), higher)
    x = graph.add("Gather", graph.weight(TREES * 2**DEPTH, 1), at, axis=0)
    x = graph.add("Reshape", x, graph.constant(_whole(TREES, 1, -1)))
    return _classes(graph, x, opset)


def _classes(graph: Graph, x: str, opset: int) -> onnx.ModelProto:
    """Sum over trees [trees, 1, rows], sigmoid, both classes' probabilities, the label beside them."""
    axes = graph.constant(_whole(0))
    x = graph.add("ReduceSum", x, axes, keepdims=0) if opset >= 13 else graph.add("ReduceSum", x, axes=[0], keepdims=0)
    x = graph.add("Sigmoid", graph.add("Transpose", x, perm=[1, 0]))
    both = graph.add("Concat", graph.add("Sub", graph.constant(np.float32(1.0)), x), x, axis=1)
    label = graph.add("ArgMax", both, axis=1, keepdims=0)
    graph.add("Identity", both)
    model = graph.model()
    label_info = helper.make_tensor_value_info(label, TensorProto.INT64, ["sym"])
    del model.graph.output[:]
    model.graph.output.extend([label_info, helper.make_tensor_value_info("output", TensorProto.FLOAT, ["sym", 2])])
    return model
