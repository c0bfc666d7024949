"""Default-deny inspection of ONNX models."""

from collections.abc import Callable

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from model_registry import admission
from model_registry.admission import TensorInput, inspect_model
from tests.unit.jail.models import linear, model, unary, view

FLOAT = TensorProto.FLOAT
Change = Callable[[onnx.ModelProto], object]


def codes(proto: onnx.ModelProto) -> set[str]:
    """The codes of what is wrong with a model."""
    return {reason.code for reason in inspect_model(proto.SerializeToString(), view())}


def test_a_plain_model_is_admitted() -> None:
    """The base that the other tests spoil has nothing against it."""
    assert codes(linear()) == set()
    assert codes(unary("Sigmoid")) == set()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "model_empty"),
        (b"\x00", "model_not_onnx"),
        (b"not a model at all", "model_not_onnx"),
        (b"\x00\x00\x00\x00ORTM" + bytes(64), "model_not_onnx"),
        (b"PK\x03\x04" + bytes(64), "model_not_onnx"),
        (onnx.ModelProto(ir_version=9).SerializeToString(), "model_not_onnx"),
        (model([]).SerializeToString(), "model_empty"),
    ],
)
def test_bytes_of_other_kinds_are_refused(body: bytes, code: str) -> None:
    """Nothing, noise, ORT format, archives, and messages without a graph."""
    assert [reason.code for reason in inspect_model(body, view())] == [code]


def test_size_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model above the bound is refused before it is parsed."""
    monkeypatch.setattr(admission, "MODEL_BYTES_MAX", 10)
    assert codes(linear()) == {"model_too_large"}
    monkeypatch.undo()
    monkeypatch.setattr(admission, "NODES_MAX", 1)
    assert "model_too_large" in codes(unary("Abs", "Abs"))


def _external(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].data_location = TensorProto.EXTERNAL


def _external_entry(proto: onnx.ModelProto) -> None:
    entry = proto.graph.initializer[0].external_data.add()
    entry.key, entry.value = "location", "*/_ORT_MEM_ADDR_/*"


def _external_attribute(proto: onnx.ModelProto) -> None:
    constant = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("t", FLOAT, [1], [1.0]))
    constant.attribute[0].t.data_location = TensorProto.EXTERNAL
    proto.graph.node.append(constant)


def _segment(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].segment.begin = 0


def _huge(proto: onnx.ModelProto) -> None:
    del proto.graph.initializer[0].dims[:]
    proto.graph.initializer[0].dims.extend([2**31, 2**31])


def _negative(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].dims[0] = -1


def _function(proto: onnx.ModelProto) -> None:
    proto.functions.append(
        helper.make_function("", "Hidden", ["a"], ["b"], [helper.make_node("Loop", ["a"], ["b"])], [])
    )


def _subgraph(proto: onnx.ModelProto) -> None:
    node = proto.graph.node[0]
    node.attribute.append(helper.make_attribute("body", onnx.GraphProto()))


def _reference(proto: onnx.ModelProto) -> None:
    attribute = proto.graph.node[0].attribute.add()
    attribute.name, attribute.ref_attr_name, attribute.type = "alpha", "outer", onnx.AttributeProto.FLOAT


def _training(proto: onnx.ModelProto) -> None:
    proto.training_info.add()


def _sparse(proto: onnx.ModelProto) -> None:
    proto.graph.sparse_initializer.add()


def _operator(name: str, domain: str = "") -> Change:
    return lambda proto: proto.graph.node.append(helper.make_node(name, ["X"], ["y"], domain=domain))


def _opset(domain: str, version: int) -> Change:
    return lambda proto: proto.opset_import.append(helper.make_opsetid(domain, version))


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (_external, "external_data"),
        (_external_entry, "external_data"),
        (_external_attribute, "external_data"),
        (_segment, "external_data"),
        (_huge, "tensor_refused"),
        (_negative, "tensor_refused"),
        (_function, "function_refused"),
        (_subgraph, "attribute_refused"),
        (_reference, "attribute_refused"),
        (_training, "training_info_refused"),
        (_sparse, "sparse_refused"),
        *((_operator(name), "operator_refused") for name in ("Loop", "If", "Scan", "RandomNormal", "Multinomial")),
        *(
            (_operator(name), "operator_refused")
            for name in ("SequenceConstruct", "Optional", "Range", "Tile", "NoSuch")
        ),
        (_operator("DictVectorizer", "ai.onnx.ml"), "operator_refused"),
        (_operator("Abs", "com.microsoft"), "domain_refused"),
        (_operator("Abs", "ai.onnx.training"), "domain_refused"),
        (_opset("com.microsoft", 1), "domain_refused"),
        (_opset("", 17), "version_refused"),
        (_opset("ai.onnx", 16), "version_refused"),
        (lambda proto: setattr(proto, "ir_version", 99), "version_refused"),
        (lambda proto: setattr(proto.opset_import[0], "version", 3), "version_refused"),
        (lambda proto: setattr(proto.graph.node[0], "overload", "x"), "function_refused"),
    ],
)
def test_what_is_not_known_to_be_harmless_is_refused(spoil: Change, code: str) -> None:
    """Each change to an admitted model is refused for its own reason."""
    proto = linear()
    spoil(proto)
    assert code in codes(proto)


def test_inputs_are_those_of_the_manifest() -> None:
    """Names, element types, widths, ranks and kinds agree, both ways."""
    body = linear().SerializeToString()

    def against(*inputs: TensorInput) -> set[str]:
        return {reason.code for reason in inspect_model(body, view(inputs=inputs))}

    assert against(TensorInput("X", "float32", 3)) == set()
    assert against(TensorInput("Y", "float32", 3)) == {"input_missing", "input_unbound"}
    assert against() == {"input_unbound"}
    assert against(TensorInput("X", "float64", 3)) == {"input_type"}
    assert against(TensorInput("X", "string", 3)) == {"input_type"}
    assert against(TensorInput("X", "float32", 4)) == {"input_shape"}


@pytest.mark.parametrize("shape", [[3], [2, 3], [1, 1, 3], []])
def test_inputs_of_other_shapes_are_refused(shape: list[int]) -> None:
    """One row, one axis of fields."""
    proto = linear()
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("X", FLOAT, shape))
    assert codes(proto) == {"input_shape"}


def test_inputs_that_are_no_tensors_are_refused() -> None:
    """Maps and sequences are refused with the way out."""
    proto = linear()
    proto.graph.input[0].CopyFrom(helper.make_tensor_sequence_value_info("X", FLOAT, [1, 3]))
    reasons = inspect_model(proto.SerializeToString(), view())
    assert [reason.code for reason in reasons] == ["input_not_tensor"]
    assert "tensor" in reasons[0].text


def test_an_input_with_a_stored_default_is_refused() -> None:
    """A default would score what nobody sent."""
    proto = linear()
    proto.graph.initializer.append(helper.make_tensor("X", FLOAT, [1, 3], [0.0] * 3))
    assert codes(proto) == {"input_unbound"}


def test_the_output_is_the_one_of_the_manifest() -> None:
    """It exists once, is a tensor of numbers, and has the element."""
    body = linear().SerializeToString()
    missing = inspect_model(body, view(output_name="probabilities"))
    assert [reason.code for reason in missing] == ["output_missing"]
    closed = linear()
    closed.graph.output[0].CopyFrom(helper.make_tensor_value_info("score", FLOAT, [None, 2]))
    assert {r.code for r in inspect_model(closed.SerializeToString(), view(output_index=2))} == {"output_missing"}
    assert inspect_model(closed.SerializeToString(), view(output_index=1)) == []
    text = linear()
    text.graph.output[0].type.tensor_type.elem_type = TensorProto.STRING
    assert codes(text) == {"output_not_number"}


def test_a_map_as_output_is_refused_with_the_way_out() -> None:
    """scikit-learn's default tail is named, and how to leave it off."""
    proto = linear()
    proto.graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("score", FLOAT, None))
    reasons = inspect_model(proto.SerializeToString(), view())
    assert [reason.code for reason in reasons] == ["output_not_tensor"]
    assert "zipmap" in reasons[0].text


def test_reports_are_bounded_and_printable() -> None:
    """A model cannot flood a report or write control characters into a terminal."""
    proto = linear()
    proto.graph.node.extend(helper.make_node("\x1b[2J" + "x" * 500, ["X"], ["y"]) for _ in range(200))
    reasons = inspect_model(proto.SerializeToString(), view())
    assert len(reasons) == admission.REASONS_MAX
    assert all(r.where.isprintable() and len(r.where) < 200 for r in reasons)


@settings(max_examples=300, deadline=None)
@given(st.integers(0), st.integers(1, 255))
def test_a_model_with_a_flipped_byte_is_judged_not_crashed_on(position: int, flip: int) -> None:
    """Any one changed byte gives reasons or admission, never an exception."""
    body = bytearray(unary("Sigmoid").SerializeToString())
    body[position % len(body)] ^= flip
    assert isinstance(inspect_model(bytes(body), view()), list)


@given(st.binary(max_size=200))
def test_any_bytes_are_judged(body: bytes) -> None:
    """No bytes raise, and none of these is a model."""
    assert inspect_model(body, view())
