"""Which categories a model knows in each column, so that a trial row is one that it can read.

scikit-learn's OneHotEncoder refuses what it has not seen, and so does its export: a row of zeros or empty texts would
make a sound model fail.
"""

from collections.abc import Mapping, Sequence

import onnx

from model_registry.admission.values import Value, attributes_of
from model_registry.admission.view import TensorInput

Categories = dict[tuple[str, int], tuple[str | int, ...]]
_CATEGORIES_MAX = 64  # for one column; the first is enough for a trial
_SAME_COLUMNS = frozenset({"Identity", "Cast", "Imputer", "Scaler"})

Column = tuple[str, int] | None  # an input's column, or nothing that is one


def categories_of(
    nodes: Sequence[tuple[int, onnx.NodeProto]], inputs: Sequence[TensorInput], values: Mapping[str, Value]
) -> Categories:
    """Follow each column through what moves columns to the encoders that refuse unknown categories."""
    columns: dict[str, list[Column]] = {i.name: [(i.name, at) for at in range(i.width)] for i in inputs}
    found: Categories = {}
    for _, node in nodes:
        told, source = attributes_of(node), columns.get(node.input[0]) if node.input else None
        if node.op_type == "Concat":
            columns[node.output[0]] = _joined(node, columns, values)
        elif source is None:
            continue
        elif node.op_type in _SAME_COLUMNS or (node.op_type == "Reshape" and len(source) == 1):
            columns[node.output[0]] = source
        elif node.op_type in ("ArrayFeatureExtractor", "Gather"):
            data = values[node.input[1]].data
            if data is not None:
                columns[node.output[0]] = [source[int(i)] for i in data.reshape(-1) if -len(source) <= i < len(source)]
        elif node.op_type == "OneHotEncoder" and not told.get("zeros", 1):
            known = [text.decode("utf-8", "replace") for text in told.get("cats_strings", ())]
            for column in source:
                if column is not None:
                    found.setdefault(column, tuple((known or list(told.get("cats_int64s", ())))[:_CATEGORIES_MAX]))
    return found


def _joined(node: onnx.NodeProto, columns: Mapping[str, list[Column]], values: Mapping[str, Value]) -> list[Column]:
    joined: list[Column] = []
    for name in node.input:
        dims = values[name].dims or (0,)
        joined += columns.get(name) or [None] * (dims[-1] if dims else 1)
    return joined
