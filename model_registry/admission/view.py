"""What the parts of admission tell each other: the manifest's view, one reason as an exception, names fit to show."""

from dataclasses import dataclass

import onnx

from model_registry.errors import Reason

T = onnx.TensorProto
DTYPES: dict[str, int] = {"float32": T.FLOAT, "float64": T.DOUBLE, "int64": T.INT64, "string": T.STRING, "bool": T.BOOL}
NAMES: dict[int, str] = {kind: name for name, kind in DTYPES.items()}
LEARNING = "ai.onnx.ml"


@dataclass(frozen=True)
class TensorInput:
    """One graph input as the manifest binds it: a tensor [1, width] of `dtype`."""

    name: str
    dtype: str
    width: int


@dataclass(frozen=True)
class ManifestView:
    """The part of a manifest that the graph must agree with."""

    inputs: tuple[TensorInput, ...]
    output_name: str
    output_index: int


class Refusal(Exception):
    """One reason, raised where going on makes no sense."""

    def __init__(self, code: str, where: str, text: str) -> None:
        super().__init__(code)
        self.reason = Reason(code, where, text)


def domain_of(name: str) -> str:
    """A domain by its one name: "" and "ai.onnx" are the same."""
    return "" if name == "ai.onnx" else name


def kind_name(kind: int) -> str:
    """An element type as people say it."""
    known = kind in T.DataType.values()
    return NAMES.get(kind) or (T.DataType.Name(T.DataType.ValueType(kind)).lower() if known else f"type {kind}")


def node_place(position: int, node: onnx.NodeProto) -> str:
    """Where a node is, for a reason."""
    name = f" {clip(node.name)!r}" if node.name else ""
    return f"node {position} ({clip(node.op_type)}){name}"


def clip(text: str | bytes, length: int = 64) -> str:
    """Make a stranger's name fit to be shown: printable, one line, bounded."""
    if isinstance(text, bytes):  # so protobuf gives a proto2 string that is not UTF-8
        text = text[:length].decode("ascii", "replace")
    return "".join(c if c.isprintable() else "?" for c in text[:length])
