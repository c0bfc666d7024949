"""Contents of small values that follow from the model alone: shapes, axes, indices that exporters compute in nodes."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from model_registry.admission.bounds import KNOWN_MAX
from model_registry.admission.tensors import STORED, contents
from model_registry.admission.values import Array, Dims, Node

_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Min": np.minimum,
    "Max": np.maximum,
    "Equal": operator.eq,
    "Less": operator.lt,
    "Greater": operator.gt,
    "LessOrEqual": operator.le,
    "GreaterOrEqual": operator.ge,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Not": np.logical_not,
    "Neg": operator.neg,
    "Abs": np.abs,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Where": np.where,
    "Identity": lambda a: a,
}
_SHAPING = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten"})


def fold(node: Node, dims: Dims, kind: int) -> Array | None:
    """The contents of a node's one output; None where they depend on the row, or nobody needs them.

    Args:
        node: what it is, and what it is made from.
        dims: the output's shape.
        kind: the output's element type.
    """
    dtype = STORED[kind][0]
    if not dtype or node.outputs != 1 or int(np.prod(dims, dtype=object)) > KNOWN_MAX:
        return None
    try:
        with np.errstate(all="ignore"):
            made = _contents(node, dims)
            return None if made is None else np.asarray(made).astype(dtype).reshape(dims)
    except (ValueError, IndexError, TypeError, OverflowError):  # onnxruntime will refuse it, or nobody asks for it
        return None


def _contents(node: Node, dims: Dims) -> Any:
    if node.op == "Constant":
        return _constant(node)
    if node.op == "Shape":
        return node.shape(0)[slice(node.attributes.get("start", 0), node.attributes.get("end"))]
    if node.op == "Size":
        return node.value(0).most
    if node.op == "ConstantOfShape":
        value = node.attributes.get("value")
        return np.full(dims, contents(value).reshape(-1)[0] if value is not None else 0.0)  # type: ignore[union-attr]
    data = [None if value is None else value.data for value in node.inputs]
    if any(d is None and v is not None for d, v in zip(data, node.inputs, strict=True)):
        return None
    return _computed(node, dims, data)


def _computed(node: Node, dims: Dims, data: list[Any]) -> Any:
    if node.op in _ELEMENTWISE:
        return _ELEMENTWISE[node.op](*data)
    if node.op in _SHAPING:
        return data[0]
    if node.op == "Cast":
        return _cast(data[0], STORED[node.attributes["to"]][0])
    if node.op == "Div":
        return _divide(data[0], data[1])
    if node.op == "Concat":
        return np.concatenate(data, axis=node.attributes["axis"])
    if node.op == "Gather":
        return np.take(data[0], data[1], axis=node.attributes.get("axis", 0))
    if node.op == "Expand":
        return np.broadcast_to(data[0], dims)
    if node.op == "Range":
        return np.arange(*(part.reshape(-1)[0] for part in data))
    if node.op == "Transpose":
        return np.transpose(data[0], node.attributes.get("perm"))
    if node.op == "ReduceProd" and data[0].ndim == 1:
        return np.prod(data[0])
    if node.op == "ReduceSum" and data[0].ndim == 1:
        return np.sum(data[0])
    return _slice(node, data) if node.op == "Slice" else None


def _cast(data: Array, dtype: str) -> Array | None:
    if np.issubdtype(data.dtype, np.floating) and np.issubdtype(np.dtype(dtype), np.integer):
        # beyond that the outcome is the machine's
        return data.astype(dtype) if np.isfinite(data).all() and (np.abs(data) < 2**31).all() else None
    return data


def _divide(a: Array, b: Array) -> Array | None:
    if not np.issubdtype(a.dtype, np.integer):
        return np.asarray(a / b)
    # whole numbers are cut towards nought
    return None if not b.all() else np.asarray(np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b)))


def _slice(node: Node, data: list[Any]) -> Any:
    if len(data) < 3:  # before opset 10 attributes gave them
        names = ("starts", "ends", "axes")
        data = [data[0], *(node.attributes.get(name) for name in names)]
    starts = list(data[1])
    axes = data[3] if len(data) > 3 and data[3] is not None else range(len(starts))
    steps = data[4] if len(data) > 4 and data[4] is not None else [1] * len(starts)
    cut = [slice(None)] * data[0].ndim
    for start, end, axis, step in zip(starts, list(data[2]), axes, steps, strict=True):
        cut[int(axis)] = slice(int(start), int(end), int(step))
    return data[0][tuple(cut)]


def _constant(node: Node) -> Any:
    name, value = next(iter(node.attributes.items()))
    if isinstance(value, onnx.TensorProto):
        return contents(value)
    return None if "string" in name else (list(value) if name.endswith("s") else value)
