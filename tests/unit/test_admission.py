"""Default-deny inspection of ONNX models."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from model_registry.admission import TensorInput, admit, bounds, inspect_model
from tests.unit.jail.models import linear, model, unary, view

FLOAT = TensorProto.FLOAT


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
    monkeypatch.setattr(bounds, "MODEL_BYTES_MAX", 10)
    assert codes(linear()) == {"model_too_large"}
    monkeypatch.undo()
    monkeypatch.setattr(bounds, "NODES_MAX", 1)
    assert "model_too_large" in codes(unary("Abs", "Abs"))


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
    wide = linear()
    wide.graph.initializer[0].CopyFrom(helper.make_tensor("W", FLOAT, [3, 2], [1.0] * 6))
    assert {r.code for r in inspect_model(wide.SerializeToString(), view(output_index=2))} == {"output_missing"}
    assert inspect_model(wide.SerializeToString(), view(output_index=1)) == []
    text = linear()
    text.graph.node[0].output[0] = "number"
    text.graph.node.append(helper.make_node("Cast", ["number"], ["score"], to=TensorProto.STRING))
    assert codes(text) == {"output_not_number"}


def test_a_map_as_output_is_refused_with_the_way_out() -> None:
    """A map that no ZipMap makes."""
    proto = linear()
    proto.graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("score", FLOAT, None))
    reasons = inspect_model(proto.SerializeToString(), view())
    assert [reason.code for reason in reasons] == ["output_not_tensor"]
    assert "zipmap" in reasons[0].text


def zipped() -> onnx.ModelProto:
    """`linear` with a text label beside it and maps in place of its score, as classifiers are exported."""
    proto = linear()
    proto.graph.node.append(helper.make_node("Cast", ["score"], ["label"], to=TensorProto.STRING))
    proto.graph.node.append(
        helper.make_node("ZipMap", ["score"], ["maps"], domain="ai.onnx.ml", classlabels_strings=["a"])
    )
    maps = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(FLOAT, []))
    )
    del proto.graph.output[:]
    proto.graph.output.extend(
        [helper.make_tensor_value_info("label", TensorProto.STRING, [None]), helper.make_value_info("maps", maps)]
    )
    return proto


@pytest.mark.parametrize("name", ["maps", "score"])
def test_a_map_tail_is_cut_off(name: str) -> None:
    """The manifest may name the maps or the tensor they are made of; what is loaded has neither maps nor labels."""
    body = zipped().SerializeToString()
    admission = admit(body, view(output_name=name))
    assert admission.reasons == ()
    assert admission.view is not None
    assert admission.view.output_name == "score"
    loaded = onnx.ModelProto.FromString(admission.runnable)
    assert [node.op_type for node in loaded.graph.node] == ["MatMul"]
    assert [value.name for value in loaded.graph.output] == ["score"]
    assert admission.facts["bytes"] == len(body)


def test_an_inner_value_is_no_output() -> None:
    """Only outputs and what maps are made of can be bound."""
    proto = unary("Abs", "Sqrt")
    assert {r.code for r in inspect_model(proto.SerializeToString(), view(output_name="x1"))} == {"output_missing"}


def test_nothing_unread_is_loaded() -> None:
    """Notes, metadata and declared shapes end here; onnxruntime would read some of them."""
    proto = linear()
    proto.metadata_props.add(key="ort_config", value="{}")
    proto.graph.node[0].doc_string = proto.doc_string = "note"
    proto.graph.initializer[0].doc_string = "note"
    proto.graph.value_info.append(helper.make_tensor_value_info("score", FLOAT, [7, 7]))
    assert b"note" in proto.SerializeToString()
    loaded = admit(proto.SerializeToString(), view()).runnable
    assert b"note" not in loaded
    assert b"ort_config" not in loaded
    assert not onnx.ModelProto.FromString(loaded).graph.value_info


def test_without_a_manifest_the_binding_is_read_off_the_graph() -> None:
    """Inputs, their widths, and the last number of the last output that has numbers."""
    admission = admit(zipped().SerializeToString(), None)
    assert admission.view == view(output_name="score")
    open_width = linear()
    open_width.graph.input[0].type.tensor_type.shape.dim[1].ClearField("value")
    assert admit(open_width.SerializeToString(), None).view == view()


def test_facts_say_what_a_model_asks_for() -> None:
    """Work, parameters and sizes of one row."""
    facts = admit(linear((1.0, 2.0, 3.0, 4.0)).SerializeToString(), None).facts
    assert facts["work"] == 4
    assert facts["parameters"] == 4
    assert facts["operators"] == {"MatMul": 1}
    assert facts["largest_tensor"] == {"elements": 1, "bytes": 4}
    assert facts["outputs"] == [{"name": "score", "dtype": "float32", "shape": [1, 1]}]


def test_nodes_in_any_order_are_one_graph() -> None:
    """Some exporters write a node before what it reads; only a loop is refused."""
    proto = unary("Abs", "Sqrt")
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    admission = admit(proto.SerializeToString(), view())
    assert [node.op_type for node in onnx.ModelProto.FromString(admission.runnable).graph.node] == [
        "MatMul",
        "Abs",
        "Sqrt",
    ]


@pytest.mark.parametrize("operators", [("Abs",), ("Sigmoid", "Neg"), ("Exp", "Sqrt", "Relu")])
def test_what_is_loaded_computes_what_was_given(operators: tuple[str, ...]) -> None:
    """The same numbers, bit for bit, before and after."""
    given = unary(*operators).SerializeToString()
    rows = {"X": np.array([[0.3, -1.0, 7.0]], np.float32)}
    results = [
        onnxruntime.InferenceSession(body, providers=["CPUExecutionProvider"]).run(["score"], rows)[0]
        for body in (given, admit(given, view()).runnable)
    ]
    assert results[0].tobytes() == results[1].tobytes()


def test_reports_are_bounded_and_printable() -> None:
    """A model cannot flood a report or write control characters into a terminal."""
    proto = linear()
    proto.graph.node.extend(helper.make_node("\x1b[2J" + "x" * 500, ["X"], ["y"]) for _ in range(200))
    reasons = inspect_model(proto.SerializeToString(), view())
    assert len(reasons) == bounds.REASONS_MAX
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
