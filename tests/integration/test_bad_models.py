"""Models that are none, lie about their shape, or answer what no limit can be: refused, or no offer."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from heixia.registry.v1 import registry_pb2, registry_pb2_grpc
from onnx import TensorProto, helper

from audit.policy import Policy
from audit.receipt import verify_receipt
from enclave_api.cli.example import FIELDS, LEVELS
from enclave_api.client.bank import Offer
from enclave_api.client.connection import Refused
from model_registry.bundle import CONTENT_BYTES_MAX, Sample
from model_registry.convert import Converted, FieldSpec
from model_registry.errors import BundleInvalid
from model_registry.manifest import ModelInput, ModelOutput
from tests.integration.conftest import PRODUCT, Stage
from tests.room import ACCEPT, datasets_of

FIELD = "tax.declaration.sales_12m"
TURNS = itertools.count(1)
GOOD_LEVELS = (0, 50_000, 100_000, 10_000_000)


@pytest.fixture(autouse=True)
def _goes_on(stage: Stage) -> Iterator[None]:
    """After each test the next good call is answered."""
    yield
    assert stage.room.answer(stage.world.subjects[next(TURNS)], PRODUCT, datasets_of(FIELDS)) in LEVELS


def graph(
    nodes: Sequence[onnx.NodeProto],
    initializers: Sequence[onnx.TensorProto] = (),
    *,
    output: int = TensorProto.FLOAT,
    source: str = "X",
    target: str = "score",
) -> bytes:
    """A model of one field, from X [1, 1] to score of any shape."""
    made = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(source, TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info(target, output, None)],
        initializer=list(initializers),
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(made, opset_imports=opsets, ir_version=9).SerializeToString())


def chain(*operators: str) -> bytes:
    """Score = the operators applied one after another."""
    names = ["X", *(f"x{i}" for i in range(len(operators) - 1)), "score"]
    links = itertools.pairwise(names)
    return graph([helper.make_node(op, [a], [b]) for op, (a, b) in zip(operators, links, strict=True)])


def node(name: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    """A node of one output."""
    return helper.make_node(name, list(inputs), [output], **attributes)


def submit(
    stage: Stage,
    model: bytes,
    product: str = "zhongyuan/odd",
    *,
    source: str = "X",
    output: ModelOutput | None = None,
    samples: Sequence[Sample] = (),
) -> str:
    """Seals and submits a model of one field; returns the version."""
    field = FieldSpec.of(FIELD, stage.room.catalog.fields)
    inputs = (ModelInput(name=source, dtype="float32", fields=(FIELD,)),)
    converted = Converted(model, (field,), inputs, output or ModelOutput(name="score", index=0))
    recipient = stage.room.alice.verify_enclave(ACCEPT).recipient()
    bundle = stage.room.alice.seal(converted, Offer(product, GOOD_LEVELS), recipient, samples)
    return stage.room.alice.submit(bundle).version


def strings() -> bytes:
    """A model whose output is declared, and is, text."""
    encoder = node("LabelEncoder", ["X"], "score", domain="ai.onnx.ml", keys_floats=[0.0], values_strings=["much"])
    return graph([encoder], output=TensorProto.STRING)


def hidden_strings() -> bytes:
    """A model whose output is declared a number and is text."""
    encoder = node("LabelEncoder", ["X"], "score", domain="ai.onnx.ml", keys_floats=[0.0], values_strings=["much"])
    return graph([encoder])


def shape_of_data(growth: int) -> bytes:
    """As many outputs as the field says: one for zero, for real values more than memory holds."""
    one = helper.make_tensor("one", TensorProto.INT64, [1], [1])
    factor = helper.make_tensor("factor", TensorProto.INT64, [1], [growth])
    flat = helper.make_tensor("flat", TensorProto.INT64, [1], [-1])
    nodes = [
        node("Reshape", ["X", "flat"], "x"),
        node("Cast", ["x"], "n", to=TensorProto.INT64),
        node("Mul", ["n", "factor"], "m"),
        node("Add", ["m", "one"], "size"),
        node("ConstantOfShape", ["size"], "score", value=helper.make_tensor("v", TensorProto.FLOAT, [1], [90_000.0])),
    ]
    return graph(nodes, [one, factor, flat])


EMPTY = helper.make_tensor("none", TensorProto.INT64, [1], [0])
REFUSED: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "nothing": (b"", {}, "model_empty"),
    "noise": (b"not a model at all" * 50, {}, "model_not_onnx"),
    "a pickle": (b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os", {}, "model_not_onnx"),
    "an archive": (b"PK\x03\x04" + bytes(100), {}, "model_not_onnx"),
    "no node": (graph([]), {}, "model_empty"),
    "an input that is not there": (chain("Abs"), {"source": "Y"}, "input_missing"),
    "an output that is not there": (chain("Abs"), {"output": ModelOutput(name="limit", index=0)}, "output_missing"),
    "an element that is not there": (chain("Abs"), {"output": ModelOutput(name="score", index=5)}, "output_missing"),
    "text": (strings(), {}, "output_not_number"),
    "text that says it is a number": (hidden_strings(), {}, "output_not_number"),
    "an empty row": (graph([node("ConstantOfShape", ["none"], "score")], [EMPTY]), {}, "output_missing"),
    "a size that the field decides": (shape_of_data(1000), {}, "size_unknown"),
    "an operator not on the list": (graph([node("RandomNormalLike", ["X"], "score")]), {}, "operator_refused"),
    "parity that does not hold": (chain("Abs"), {"samples": [Sample((60_000.0,), 100_000)]}, "parity_mismatch"),
    "parity of another width": (chain("Abs"), {"samples": [Sample((1.0, 2.0), 0)]}, "parity_mismatch"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_cannot_answer_are_refused(stage: Stage, name: str) -> None:
    """Each is refused by its own reason; the version is on record as refused, its bundle is not kept."""
    model, options, reason = REFUSED[name]
    with stage.room.gains("version.submitted", "version.refused", changes=["version", "version_change"]):
        with pytest.raises(Refused) as refusal:
            submit(stage, model, **options)
        assert refusal.value.code == "model_refused"
        assert reason in refusal.value.public
    newest = stage.room.alice.versions("zhongyuan/odd")[-1].version
    stub = registry_pb2_grpc.RegistryServiceStub(stage.room.alice.channel)
    stored = stage.room.alice.call(stub.GetVersion, registry_pb2.GetVersionRequest(version=newest)).version
    assert reason in [r.code for r in stored.reasons]
    assert stage.room.entries()[-1]["code"] == stored.reasons[0].code


def test_a_model_above_the_limit_never_leaves_the_bank(stage: Stage) -> None:
    """300 MiB do not even get sealed; the server's own limit is tried where messages are."""
    with stage.room.gains(), pytest.raises(BundleInvalid):
        submit(stage, bytes(300 * 2**20))
    assert CONTENT_BYTES_MAX < 300 * 2**20


def test_a_large_model_that_is_none_is_refused_and_forgotten(stage: Stage) -> None:
    """Forty megabytes of noise travel, are looked at behind the walls, and are not kept."""
    noise = np.random.default_rng(7).bytes(40 * 2**20)
    gains = stage.room.gains("version.submitted", "version.refused", changes=["version", "version_change"])
    with gains, pytest.raises(Refused, match="model_not_onnx"):
        submit(stage, noise)


def out_of_bounds() -> bytes:
    """Right for zero, out of its table's bounds for any real value."""
    table = helper.make_tensor("table", TensorProto.FLOAT, [1], [1.0])
    return graph([node("Cast", ["X"], "at", to=TensorProto.INT64), node("Gather", ["table", "at"], "score")], [table])


def vanishing() -> bytes:
    """One output for the rows that are tried, none for any real value."""
    little = helper.make_tensor("little", TensorProto.FLOAT, [1, 1], [10.0])
    flat = helper.make_tensor("flat", TensorProto.INT64, [1], [-1])
    nodes = [
        node("Less", ["X", "little"], "less"),
        node("Cast", ["less"], "count", to=TensorProto.INT64),
        node("Reshape", ["count", "flat"], "size"),
        node("Slice", ["X", "from", "size"], "score"),
    ]
    return graph(nodes, [little, flat, helper.make_tensor("from", TensorProto.INT64, [1], [0])])


ODD = {
    "nan": chain("Neg", "Sqrt"),
    "infinite": chain("Abs", "Exp", "Exp"),
    "negative": chain("Abs", "Neg"),
    "negative-infinite": chain("Abs", "Exp", "Exp", "Neg"),
    "out-of-bounds": out_of_bounds(),
    "no-row": vanishing(),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_answers_are_no_offer(stage: Stage, name: str) -> None:
    """What no limit can be is a limit of 0 with a receipt like any other; the size of an answer does not tell."""
    product = f"zhongyuan/odd-{name}"
    version = submit(stage, ODD[name], product)
    stage.room.bob.approve(version)
    stage.room.bob.promote(version)
    known = [i for i, row in enumerate(stage.example.rows) if float(row.get(FIELD) or 0) > 1_000_000]
    policy = Policy.parse(stage.room.home.policy.read_text())
    for company in known[:3]:
        subject = stage.world.subjects[company]
        consent_id = stage.room.consent(subject, product, ["tax.declaration"])
        limit = stage.room.portal.request_limit(subject=subject, product=product, consent_id=consent_id)
        assert limit.yuan == 0
        assert all(step.ok for step in verify_receipt(limit.receipt, policy))


def test_a_model_of_this_kind_can_answer(stage: Stage) -> None:
    """The control: the same field through an honest model gives its level."""
    product = "zhongyuan/honest"
    version = submit(stage, chain("Abs"), product, samples=[Sample((60_000.0,), 50_000)])
    stage.room.bob.approve(version)
    stage.room.bob.promote(version)
    company = next(i for i, row in enumerate(stage.example.rows) if float(row.get(FIELD) or 0) > 60_000)
    assert stage.room.answer(stage.world.subjects[company], product, ["tax.declaration"]) >= 50_000
