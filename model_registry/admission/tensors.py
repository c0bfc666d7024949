"""Stored tensors: the bytes are in the model, are as many as the dimensions say, and are of a plain type.

Source: onnx.proto3, message TensorProto.
"""

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from model_registry.admission.bounds import AXES_MAX, ELEMENTS_MAX, KNOWN_MAX, STRING_BYTES_MAX
from model_registry.admission.view import T, kind_name
from model_registry.errors import Reason

# element type: (numpy type of raw_data, the typed member that may hold it instead)
STORED: dict[int, tuple[str, str]] = {
    T.FLOAT: ("<f4", "float_data"),
    T.DOUBLE: ("<f8", "double_data"),
    T.INT64: ("<i8", "int64_data"),
    T.INT32: ("<i4", "int32_data"),
    T.INT16: ("<i2", "int32_data"),
    T.INT8: ("<i1", "int32_data"),
    T.UINT16: ("<u2", "int32_data"),
    T.UINT8: ("<u1", "int32_data"),
    T.BOOL: ("?", "int32_data"),
    T.FLOAT16: ("<f2", "int32_data"),
    T.UINT32: ("<u4", "uint64_data"),
    T.UINT64: ("<u8", "uint64_data"),
    T.STRING: ("", "string_data"),
}
_MEMBERS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
INLINE = (
    "weights must be inside the model: torch.onnx.export(..., external_data=False), or onnx.load beside its side files "
)
INLINE += "(onnx.external_data_helper.load_external_data_for_model), then "
INLINE += "onnx.save_model(model, path, save_as_external_data=False)"


def tensor_reasons(tensor: onnx.TensorProto, where: str) -> Iterator[Reason]:
    """Say what is wrong with a stored tensor, an initializer or an attribute's."""
    # whatever spelling (a file, a symlink, onnxruntime's in-memory address marker): the weights are not in the bytes
    if tensor.data_location != T.DEFAULT or tensor.external_data:
        yield Reason("external_data", where, INLINE)
        return
    if tensor.HasField("segment"):
        yield Reason("external_data", where, "segmented tensors are refused; " + INLINE)
        return
    if tensor.data_type not in STORED:
        text = f"{kind_name(tensor.data_type)} elements are refused; store float, double, int64, bool or string"
        yield Reason("tensor_refused", where, text)
        return
    # one huge axis beside a zero makes a product of nought and still misleads whoever multiplies the rest
    if len(tensor.dims) > AXES_MAX or any(not 0 <= d <= ELEMENTS_MAX for d in tensor.dims):
        yield Reason("tensor_refused", where, f"absurd dimensions: more than {AXES_MAX} axes, or one that is absurd")
    elif prod(tensor.dims) > ELEMENTS_MAX:
        yield Reason("tensor_refused", where, f"absurd dimensions: more than {ELEMENTS_MAX} elements")
    else:
        yield from _content_reasons(tensor, where)


def _content_reasons(tensor: onnx.TensorProto, where: str) -> Iterator[Reason]:
    width, member = STORED[tensor.data_type]
    filled = [name for name in _MEMBERS if len(getattr(tensor, name))]
    expected = prod(tensor.dims)
    if tensor.HasField("raw_data") and width:
        if filled:
            yield Reason("tensor_invalid", where, "the elements are given twice, raw and typed")
        elif len(tensor.raw_data) != expected * np.dtype(width).itemsize:
            yield Reason("tensor_invalid", where, f"{len(tensor.raw_data)} raw bytes are not {expected} elements")
        return
    if tensor.HasField("raw_data") or filled not in ([], [member]) or len(getattr(tensor, member)) != expected:
        yield Reason("tensor_invalid", where, f"the elements are not {expected} of the declared type")
    elif any(len(text) > STRING_BYTES_MAX for text in tensor.string_data):
        yield Reason("string_too_long", where, f"a text has more than {STRING_BYTES_MAX} bytes")


def contents(tensor: onnx.TensorProto) -> npt.NDArray[Any] | None:
    """The elements of a small tensor of numbers that has passed `tensor_reasons`; None for others."""
    width, member = STORED[tensor.data_type]
    if not width or prod(tensor.dims) > KNOWN_MAX:
        return None
    if tensor.HasField("raw_data"):
        flat = np.frombuffer(tensor.raw_data, width)
    elif tensor.data_type == T.FLOAT16:  # its bits travel in whole numbers
        flat = np.array(getattr(tensor, member), np.int64).astype(np.uint16).view(np.float16)
    else:
        flat = np.array(getattr(tensor, member)).astype(width)
    return flat.reshape(tuple(tensor.dims))
