"""Hostile messages: bytes of other kinds, hidden code, members that nobody reads."""

import os
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper

from tests.hostile.models import FLOAT, INT64, STRING, Build, Hostile, changed, node, sound, stored, with_nodes


def _function(model: onnx.ModelProto) -> None:
    hidden = [helper.make_node("RandomNormal", [], ["r"], shape=[1, 1]), helper.make_node("Add", ["a", "r"], ["b"])]
    model.functions.append(helper.make_function("local", "Score", ["a"], ["b"], hidden, [helper.make_opsetid("", 17)]))
    model.opset_import.append(helper.make_opsetid("local", 1))


def _sparse(model: onnx.ModelProto) -> None:
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(stored("S", [1.0], np.float32))
    sparse.indices.CopyFrom(stored("", [0]))
    sparse.dims.extend([2**20, 2**20])


def _sparse_constant(model: onnx.ModelProto) -> None:
    values, indices = stored("v", [1.0], np.float32), stored("", [0])
    sparse = helper.make_sparse_tensor(values, indices, [4])
    model.graph.node.append(helper.make_node("Constant", [], ["unused"], sparse_value=sparse))


def _deep(levels: int) -> Build:
    def build(_: Path) -> onnx.ModelProto:
        model = sound()
        type_ = model.graph.input.add(name="deep").type
        for _level in range(levels):
            type_ = type_.sequence_type.elem_type
        type_.tensor_type.elem_type = FLOAT
        return model

    return build


def _smuggled(field: int, payload: bytes) -> Build:
    """An unknown length-delimited member behind the model's own."""
    return lambda _: sound().SerializeToString() + _varint(field << 3 | 2) + _varint(len(payload)) + payload


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def _smuggled_in_node(_: Path) -> bytes:
    model = sound()
    inner = model.graph.node[0].SerializeToString() + _varint(300 << 3 | 2) + _varint(4) + b"evil"
    graph = onnx.GraphProto()
    graph.CopyFrom(model.graph)
    del graph.node[:]
    body = graph.SerializeToString() + _varint(1 << 3 | 2) + _varint(len(inner)) + inner
    model.ClearField("graph")
    return model.SerializeToString() + _varint(7 << 3 | 2) + _varint(len(body)) + body


def _subgraph(model: onnx.ModelProto) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["score"], ["b"])], "b", [], [helper.make_tensor_value_info("b", FLOAT, None)]
    )
    condition = helper.make_node("Constant", [], ["true"], value=stored("t", True, np.bool_))
    model.graph.node.extend([condition, helper.make_node("If", ["true"], ["y"], then_branch=body, else_branch=body)])
    model.graph.output[0].name = "y"


def _loop(model: onnx.ModelProto) -> None:
    inputs = [helper.make_tensor_value_info("i", INT64, []), helper.make_tensor_value_info("c", TensorProto.BOOL, [])]
    outputs = [helper.make_tensor_value_info("c2", TensorProto.BOOL, [])]
    body = helper.make_graph([helper.make_node("Identity", ["c"], ["c2"])], "b", inputs, outputs)
    model.graph.initializer.extend([stored("n", 5), stored("go", True, np.bool_)])
    model.graph.node.append(helper.make_node("Loop", ["n", "go"], [], body=body))


def _reference(model: onnx.ModelProto) -> None:
    attribute = model.graph.node[1].attribute.add(name="alpha", type=AttributeProto.FLOAT)
    attribute.ref_attr_name = "outer"


def _two_values(model: onnx.ModelProto) -> None:
    model.graph.node[1].attribute[0].i = 7


def _tensor(**members: object) -> Build:
    """W with its dims or data changed."""

    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        for name, value in members.items():
            if isinstance(value, list):
                tensor.ClearField(name)
                getattr(tensor, name).extend(value)
            else:
                setattr(tensor, name, value)

    return changed(change)


def _huge_typed(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer.add(name="H", data_type=FLOAT, dims=[2**31, 2**31])
    tensor.raw_data = b""


def _set(path: str, value: object) -> Build:
    def change(model: onnx.ModelProto) -> None:
        *way, last = path.split(".")
        holder: object = model
        for part in way:
            holder = holder[int(part)] if part.isdigit() else getattr(holder, part)  # type: ignore[index]
        setattr(holder, last, value)

    return changed(change)


def _quantized(model: onnx.ModelProto) -> None:
    model.graph.quantization_annotation.add(tensor_name="score")


def _twice(model: onnx.ModelProto) -> None:
    model.graph.node[1].attribute.extend([helper.make_attribute("alpha", 0.5)])


_LEAKY = node("LeakyRelu", ["score"], alpha=0.1)
_CONSTANT = helper.make_node("Constant", [], ["c"], value=stored("c", [1.0], np.float32))

MESSAGES = [
    Hostile("empty", "nothing at all", "model_empty", lambda _: b""),
    Hostile("noise", "bytes that are no message", "model_not_onnx", lambda _: os.urandom(8) + b"\xff" * 64),
    Hostile(
        "ort_format",
        "onnxruntime's own format, which is not read here",
        "model_not_onnx",
        lambda _: b"\x20\0\0\0ORTM" + bytes(64),
    ),
    Hostile("archive", "a zip file under the name of a model", "model_not_onnx", lambda _: b"PK\x03\x04" + bytes(64)),
    Hostile(
        "no_graph",
        "versions and nothing else",
        "model_empty",
        lambda _: onnx.ModelProto(ir_version=9, opset_import=[helper.make_opsetid("", 17)]).SerializeToString(),
    ),
    Hostile("sparse_initializer", "a few bytes that stand for a terabyte", "sparse_refused", changed(_sparse)),
    Hostile("sparse_constant", "the same in an attribute", "attribute_refused", changed(_sparse_constant), plain=True),
    Hostile(
        "function",
        "random numbers hidden in a function",
        "function_refused",
        changed(_function, node("Score", ["score"], domain="local")),
        True,
    ),
    Hostile(
        "function_shadows",
        "a function under the name of a known operator",
        "function_refused",
        changed(
            lambda m: m.functions.append(
                helper.make_function(
                    "", "Identity", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], [helper.make_opsetid("", 17)]
                )
            )
        ),
        plain=True,
    ),
    Hostile(
        "overload",
        "an overload, which only functions have",
        "function_refused",
        _set("graph.node.0.overload", "x"),
        plain=True,
    ),
    Hostile("if", "a branch", "operator_refused", changed(_subgraph), plain=True),
    Hostile("loop", "a loop", "operator_refused", changed(_loop)),
    Hostile(
        "subgraph_attribute",
        "a graph where a number belongs",
        "attribute_refused",
        changed(lambda m: m.graph.node[0].attribute.append(helper.make_attribute("body", onnx.GraphProto()))),
    ),
    Hostile(
        "attribute_reference",
        "an attribute that a function would fill in",
        "attribute_refused",
        changed(_reference, node("Elu", ["score"])),
        plain=True,
    ),
    Hostile(
        "attribute_unknown",
        "an attribute nobody knows",
        "attribute_refused",
        changed(lambda m: m.graph.node[0].attribute.append(helper.make_attribute("evil", 1))),
    ),
    Hostile(
        "attribute_type",
        "a text where a number belongs",
        "attribute_refused",
        with_nodes(node("LeakyRelu", ["score"], alpha="x")),
    ),
    Hostile("attribute_twice", "an attribute given twice", "attribute_refused", changed(_twice, _LEAKY)),
    Hostile("attribute_two_values", "two values in one attribute", "attribute_refused", changed(_two_values, _LEAKY)),
    Hostile(
        "attribute_missing",
        "an attribute left out that the operator needs",
        "attribute_refused",
        with_nodes(node("Cast", ["score"])),
    ),
    Hostile(
        "smuggled_model",
        "a megabyte in a member that the format does not have",
        "unknown_field",
        _smuggled(555, b"x" * 2**20),
        True,
    ),
    Hostile("smuggled_node", "the same in a node", "unknown_field", _smuggled_in_node, True),
    Hostile("nested_type", "an input type nested forty deep", "input_not_tensor", _deep(40)),
    Hostile("nested_too_deep", "nested deeper than a parser's stack", "model_not_onnx", _deep(400)),
    Hostile("raw_short", "fewer bytes than the shape says", "tensor_invalid", _tensor(dims=[4, 1])),
    Hostile(
        "raw_and_typed",
        "two sets of weights, each reader its own",
        "tensor_invalid",
        _tensor(float_data=[1.0, 2.0, 3.0]),
    ),
    Hostile(
        "typed_wrong",
        "whole numbers under a float's name",
        "tensor_invalid",
        changed(
            lambda m: m.graph.initializer[0].CopyFrom(
                TensorProto(name="W", data_type=FLOAT, dims=[3, 1], int64_data=[1, 2, 3])
            )
        ),
    ),
    Hostile("huge_dims", "dimensions whose product overflows", "tensor_refused", changed(_huge_typed)),
    Hostile("negative_dims", "a negative dimension", "tensor_refused", _tensor(dims=[-1, -3])),
    Hostile(
        "zero_and_huge",
        "no element along one axis, 2^40 along the other",
        "tensor_refused",
        _tensor(dims=[0, 2**40], raw_data=b""),
    ),
    Hostile(
        "packed_bits",
        "four-bit elements, whose bytes are fewer than they are",
        "tensor_refused",
        changed(lambda m: m.graph.initializer.add(name="P", data_type=TensorProto.INT4, dims=[4], raw_data=b"\1\2")),
        True,
    ),
    Hostile(
        "complex",
        "complex numbers",
        "tensor_refused",
        changed(lambda m: m.graph.initializer.append(stored("C", [1j], np.complex64))),
        plain=True,
    ),
    Hostile(
        "long_text",
        "a category of a megabyte",
        "string_too_long",
        changed(
            lambda m: m.graph.initializer.append(
                TensorProto(name="T", data_type=STRING, dims=[1], string_data=[b"x" * 2**20])
            )
        ),
        True,
    ),
    Hostile(
        "long_name", "a name of a hundred kilobytes", "name_invalid", _set("graph.node.0.name", "n" * 100_000), True
    ),
    Hostile(
        "long_notes", "twenty megabytes of doc strings", "note_too_long", _set("doc_string", "n" * 20_000_000), True
    ),
    Hostile(
        "device",
        "a device configuration",
        "configuration_refused",
        changed(lambda m: m.configuration.add(name="c", num_devices=2)),
        True,
    ),
    Hostile("quantized", "quantization annotations", "quantization_refused", changed(_quantized), plain=True),
    Hostile("ir_version", "a format from the future", "version_refused", _set("ir_version", 99)),
    Hostile(
        "opset_twice",
        "one domain in two versions",
        "version_refused",
        changed(lambda m: m.opset_import.append(helper.make_opsetid("", 11))),
        plain=True,
    ),
    Hostile("opset_future", "operators from the future", "version_refused", _set("opset_import.0.version", 99)),
    Hostile(
        "custom_domain",
        "an operator that only a library of the bank would have",
        "domain_refused",
        changed(
            lambda m: m.opset_import.append(helper.make_opsetid("bank.ops", 1)),
            node("Score", ["score"], domain="bank.ops"),
        ),
    ),
    Hostile(
        "microsoft_domain",
        "onnxruntime's own operators, which we have not read",
        "domain_refused",
        changed(
            lambda m: m.opset_import.append(helper.make_opsetid("com.microsoft", 1)),
            node("Gelu", ["score"], domain="com.microsoft"),
        ),
        plain=True,
    ),
]
