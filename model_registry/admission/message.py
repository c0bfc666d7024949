"""The message apart from its graph's meaning: nothing smuggled, nothing hidden, nothing that is not on the list.

Sources: onnx.proto3 (github.com/onnx/onnx); schemas of operators as onnx.defs has them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx
from google.protobuf.message import DecodeError, Message

from model_registry.admission import bounds
from model_registry.admission.operators import OPERATORS, REFUSED
from model_registry.admission.tensors import tensor_reasons
from model_registry.admission.view import LEARNING, Refusal, clip, domain_of, node_place
from model_registry.errors import Reason

# What onnxruntime 1.32 loads and onnx 1.23 describes; operators of the domain "" are read from opset 7 on.
OPSETS = {"": range(1, 29), LEARNING: range(1, 6)}
TENSOR_OPSET_MIN = 7  # before it broadcasting was an attribute
IR_VERSIONS = range(3, 15)

DOMAINS = "only operators of ai.onnx and ai.onnx.ml, with their operator set declared; save the model before a runtime "
DOMAINS += "optimises it, without custom operators, with functions inlined"

_A = onnx.AttributeProto
_MEMBER_OF = {
    _A.FLOAT: "f",
    _A.INT: "i",
    _A.STRING: "s",
    _A.TENSOR: "t",
    _A.FLOATS: "floats",
    _A.INTS: "ints",
    _A.STRINGS: "strings",
}
_SCHEMA_TYPE = onnx.defs.OpSchema.AttrType
_TYPE_OF = {getattr(_SCHEMA_TYPE, _A.AttributeType.Name(kind)): kind for kind in _MEMBER_OF}


def parse(model: bytes) -> onnx.ModelProto:
    """Read a model; raises Refusal where the bytes are none, are too many, or carry more than the format knows."""
    if not model:
        raise Refusal("model_empty", "model", "the model has no bytes")
    if len(model) > bounds.MODEL_BYTES_MAX:
        raise Refusal("model_too_large", "model", f"the model has more than {bounds.MODEL_BYTES_MAX} bytes")
    text = "the bytes are not an ONNX ModelProto (or are nested too deeply); export with SerializeToString()"
    try:
        proto = onnx.ModelProto.FromString(model)
    except (DecodeError, ValueError):
        raise Refusal("model_not_onnx", "model", text) from None
    # bytes of other formats may parse as unknown fields; a real model always says its versions
    if not proto.ir_version or not proto.opset_import:
        text = "no IR version or operator set; ORT-format and other bytes are refused: save the .onnx model"
        raise Refusal("model_not_onnx", "model", text)
    if not proto.graph.node:
        raise Refusal("model_empty", "graph", "the graph has no node")
    size = proto.ByteSize()
    proto.DiscardUnknownFields()
    if proto.ByteSize() != size:
        text = "the bytes hold members that the ONNX format (IR 14) does not have; re-save with onnx.save"
        raise Refusal("unknown_field", "model", text)
    return proto


def message_reasons(proto: onnx.ModelProto) -> Iterator[Reason]:
    """Say what is refused in a model, member by member; raises Refusal where it is too large to go on."""
    graph = proto.graph
    for what, found, most in (
        ("nodes", graph.node, bounds.NODES_MAX),
        ("initializers", graph.initializer, bounds.INITIALIZERS_MAX),
        ("inputs", graph.input, bounds.INPUTS_MAX + bounds.INITIALIZERS_MAX),  # before IR 4 initializers are inputs too
        ("outputs", graph.output, bounds.OUTPUTS_MAX),
    ):
        if len(found) > most:
            raise Refusal("model_too_large", "graph", f"the graph has more than {most} {what}")
    yield from _model_reasons(proto)
    yield from _note_reasons(proto)
    versions = versions_of(proto)
    for position, node in enumerate(graph.node):
        yield from _node_reasons(node, node_place(position, node), versions)
    for tensor in graph.initializer:
        yield from tensor_reasons(tensor, f"initializer {clip(tensor.name)}")
    for value in (*graph.input, *graph.output, *graph.value_info):
        if any(not 0 <= dim.dim_value <= bounds.ELEMENTS_MAX for dim in value.type.tensor_type.shape.dim):
            yield Reason("shape_refused", f"value {clip(value.name)}", "absurd dimensions")


def versions_of(proto: onnx.ModelProto) -> dict[str, int]:
    """Domain → operator set version."""
    return {domain_of(entry.domain): entry.version for entry in proto.opset_import}


def _model_reasons(proto: onnx.ModelProto) -> Iterator[Reason]:
    if proto.ir_version not in IR_VERSIONS:
        text = (
            f"IR version {proto.ir_version} is not one of {IR_VERSIONS[0]}..{IR_VERSIONS[-1]}; export with such a one"
        )
        yield Reason("version_refused", "model", text)
    if proto.functions:
        text = "local functions can hide operators; inline them: onnx.inliner.inline_local_functions(model)"
        yield Reason("function_refused", "model", text)
    if proto.training_info:
        yield Reason("training_info_refused", "model", "training information is refused; export for inference")
    if proto.configuration:
        yield Reason("configuration_refused", "model", "device configurations are refused; export for one device")
    if proto.graph.sparse_initializer:
        yield Reason("sparse_refused", "graph", "sparse initializers are refused; store them dense")
    if proto.graph.quantization_annotation:
        yield Reason("quantization_refused", "graph", "quantization annotations are refused; export in float")
    seen: dict[str, int] = {}
    for entry in proto.opset_import:
        domain = domain_of(entry.domain)
        allowed, where = OPSETS.get(domain), f"domain {clip(domain) or 'ai.onnx'}"
        used = any(domain_of(node.domain) == domain for node in proto.graph.node)
        if allowed is None:
            # exporters declare the domains they might use; without a node they say nothing
            if used:
                yield Reason("domain_refused", where, DOMAINS)
        elif seen.get(domain, entry.version) != entry.version or entry.version not in allowed:
            text = f"operator set must be one of {allowed[0]}..{allowed[-1]}, and but one"
            yield Reason("version_refused", where, text)
        elif domain == "" and used and entry.version < TENSOR_OPSET_MIN:
            yield Reason("version_refused", where, f"export with operator set {TENSOR_OPSET_MIN} or later")
        seen[domain] = entry.version  # skl2onnx writes some twice


def _note_reasons(proto: onnx.ModelProto) -> Iterator[Reason]:
    total = 0
    for where, holder in _holders(proto):
        names, notes = _texts(holder)
        if any(not isinstance(text, str) for text in (*names, *notes)):
            yield Reason("name_invalid", where, "a name or text is not UTF-8")
            return
        if any(len(name) > bounds.NAME_BYTES_MAX or "\0" in name for name in names):
            yield Reason("name_invalid", where, f"a name has more than {bounds.NAME_BYTES_MAX} characters, or a NUL")
            return
        if any(len(note) > bounds.NOTE_BYTES_MAX for note in notes):
            text = f"a doc string or metadata value has more than {bounds.NOTE_BYTES_MAX} characters; strip it"
            yield Reason("note_too_long", where, text)
            return
        total += sum(map(len, notes))
    if total > bounds.NOTES_BYTES_MAX:
        text = f"doc strings and metadata have more than {bounds.NOTES_BYTES_MAX} characters; strip them"
        yield Reason("note_too_long", "model", text)


def _holders(proto: onnx.ModelProto) -> Iterator[tuple[str, Message]]:
    yield "model", proto
    yield "graph", proto.graph
    for position, node in enumerate(proto.graph.node):
        yield f"node {position}", node
    for what in ("initializer", "input", "output", "value_info"):
        for position, item in enumerate(getattr(proto.graph, what)):
            yield f"{what} {position}", item


def _texts(holder: Any) -> tuple[list[str], list[str]]:
    names = [getattr(holder, part) for part in ("name", "op_type", "domain", "overload") if hasattr(holder, part)]
    if isinstance(holder, onnx.NodeProto):
        names += [*holder.input, *holder.output]
    notes = [holder.doc_string]
    if isinstance(holder, onnx.ModelProto):
        notes += [holder.producer_name, holder.producer_version]
    for entry in holder.metadata_props:
        notes += [entry.key, entry.value]
    return names, notes


def _node_reasons(node: onnx.NodeProto, where: str, versions: Mapping[str, int]) -> Iterator[Reason]:
    domain = domain_of(node.domain)
    if domain not in OPSETS or domain not in versions:
        yield Reason("domain_refused", where, DOMAINS)
        return
    if (domain, node.op_type) not in OPERATORS:
        yield Reason("operator_refused", where, REFUSED.get(node.op_type, "the operator is not on the list"))
        return
    if node.overload:
        yield Reason("function_refused", where, "overloads name local functions, which are refused")
    if node.device_configurations:
        yield Reason("configuration_refused", where, "device configurations are refused; export for one device")
    if versions[domain] not in OPSETS[domain]:
        return  # said already
    try:
        schema = onnx.defs.get_schema(node.op_type, versions[domain], domain)
    except onnx.defs.SchemaError:
        yield Reason("operator_refused", where, "the operator is not part of the declared operator set")
        return
    if not (
        schema.min_input <= len(node.input) <= schema.max_input
        and schema.min_output <= len(node.output) <= schema.max_output
    ):
        yield Reason("node_invalid", where, "the operator does not take so many inputs or give so many outputs")
    yield from _attribute_list_reasons(node.attribute, where, schema)


def _attribute_list_reasons(attributes: Sequence[onnx.AttributeProto], where: str, schema: Any) -> Iterator[Reason]:
    names = {attribute.name for attribute in attributes}
    if len(names) != len(attributes) or len(attributes) > bounds.ATTRIBUTES_MAX:
        yield Reason("attribute_refused", where, "an attribute is given twice")
        return
    known = schema.attributes
    for name in [name for name, known_one in known.items() if known_one.required and name not in names]:
        yield Reason("attribute_refused", where, f"the operator's attribute {name} is missing")
    for attribute in attributes:
        place = f"{where} attribute {clip(attribute.name)}"
        if attribute.name not in known:
            yield Reason("attribute_refused", place, "the operator has no such attribute in this operator set")
        else:
            yield from _attribute_reasons(attribute, place, known[attribute.name].type)


def _attribute_reasons(attribute: onnx.AttributeProto, where: str, expected: Any) -> Iterator[Reason]:
    member = _MEMBER_OF.get(attribute.type)
    if member is None or attribute.ref_attr_name:
        yield Reason("attribute_refused", where, "subgraphs, sparse tensors, types and references are refused")
        return
    if _TYPE_OF.get(expected) != attribute.type:
        yield Reason("attribute_refused", where, "the attribute's type is not the operator's")
        return
    filled = {descriptor.name for descriptor, _ in attribute.ListFields()} - {"name", "type", "doc_string"}
    if filled - {member}:
        yield Reason("attribute_refused", where, "the attribute has a value beside that of its type")
    elif member == "t":
        yield from tensor_reasons(attribute.t, where)
    elif member in ("s", "strings"):
        longest = max(map(len, [attribute.s, *attribute.strings]))
        if longest > bounds.STRING_BYTES_MAX:
            yield Reason("string_too_long", where, f"a text has more than {bounds.STRING_BYTES_MAX} bytes")
