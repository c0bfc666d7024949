"""Default-deny inspection of an ONNX model: what is not known to be harmless is refused.

Pure: bytes in, reasons and facts out. The bytes are a stranger's, so they are given to this behind the walls of
sandbox/jail alone. onnx.checker plus a successful run is no gate: hostile models pass both.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from math import prod
from typing import Any

import onnx

from model_registry.admission import binding, bounds
from model_registry.admission.categories import Categories, categories_of
from model_registry.admission.graph import Order, graph_reasons, needed, order
from model_registry.admission.message import OPSETS, message_reasons, parse, versions_of
from model_registry.admission.values import Totals
from model_registry.admission.view import ManifestView, Refusal, TensorInput, clip, domain_of, kind_name
from model_registry.admission.walk import walk
from model_registry.errors import Reason

__all__ = ["Admission", "Categories", "ManifestView", "TensorInput", "admit", "clip", "inspect_model"]


@dataclass(frozen=True)
class Admission:
    """The verdict on a model.

    Attributes:
        reasons: why not; empty = admitted.
        facts: what it is, as far as it was read; JSON values.
        view: the manifest's, or the one read off the graph; None where none could be.
        runnable: the model as it is loaded: the declared output alone, as a tensor, and what it depends on; no notes.
        categories: (input, column) → the categories that the model knows there, where it refuses others.
    """

    reasons: tuple[Reason, ...]
    facts: dict[str, Any]
    view: ManifestView | None = None
    runnable: bytes = b""
    categories: Categories = field(default_factory=dict)


def inspect_model(model: bytes, manifest: ManifestView) -> list[Reason]:
    """Say why a model may not run; an empty list admits it. See `admit`."""
    return list(admit(model, manifest).reasons)


def admit(model: bytes, manifest: ManifestView | None) -> Admission:
    """Judge a model.

    (1) bytes (2) message (3) graph (4) inputs (5) sizes and work (6) output (7) what is loaded.

    Args:
        model: serialised ONNX ModelProto, anything at all.
        manifest: inputs and output that the manifest declares; None = read them off the graph.

    Returns:
        The verdict, with at most `REASONS_MAX` reasons, each with a stable code.
    """
    facts: dict[str, Any] = {"bytes": len(model), "sha256": hashlib.sha256(model).hexdigest()}
    try:
        proto = parse(model)  # (1)
        facts |= _message_facts(proto)
        reasons = list(islice(message_reasons(proto), bounds.REASONS_MAX))  # (2)
        reasons += islice(graph_reasons(proto.graph), bounds.REASONS_MAX)  # (3)
        inputs, input_reasons = _inputs(proto.graph, manifest)  # (4)
        reasons += input_reasons
        if reasons:
            return Admission(tuple(reasons[: bounds.REASONS_MAX]), facts)
        sorted_ = order(proto.graph)
        totals = walk(sorted_.nodes, proto.graph.initializer, inputs, versions_of(proto))  # (5)
        return _bound(proto, manifest, inputs, sorted_, totals, facts)
    except Refusal as refusal:
        return Admission((refusal.reason,), facts)


def _inputs(graph: onnx.GraphProto, manifest: ManifestView | None) -> tuple[list[TensorInput], list[Reason]]:
    if manifest is None:
        return binding.derive_inputs(graph)
    return list(manifest.inputs), list(islice(binding.input_reasons(graph, manifest.inputs), bounds.REASONS_MAX))


def _bound(
    proto: onnx.ModelProto,
    manifest: ManifestView | None,
    inputs: list[TensorInput],
    sorted_: Order,
    totals: Totals,
    facts: dict[str, Any],
) -> Admission:
    facts |= _walk_facts(proto, sorted_, totals)
    if reasons := list(binding.output_kind_reasons(proto.graph, sorted_.tails)):
        return Admission(tuple(reasons), facts)
    if manifest is None:
        name, index = binding.derive_output(proto.graph, sorted_.tails, totals.values)
        manifest = ManifestView(tuple(inputs), name, index)
    output = binding.bind_output(proto.graph, manifest, sorted_.tails, totals.values)  # (6)
    listed = inputs[: bounds.FACTS_INPUTS_MAX]
    facts["inputs"] = [{"name": clip(i.name), "dtype": i.dtype, "width": i.width} for i in listed]
    facts["fields"] = sum(i.width for i in inputs)
    facts["output"] = {"name": clip(manifest.output_name), "tensor": clip(output), "index": manifest.output_index}
    facts["zipmap"] = "cut" if manifest.output_name in sorted_.tails else "beside" if sorted_.tails else "none"
    view = ManifestView(manifest.inputs, output, manifest.output_index)
    known = categories_of(sorted_.nodes, inputs, totals.values)
    return Admission((), facts, view, _runnable(proto, sorted_, inputs, output), known)  # (7)


def _runnable(proto: onnx.ModelProto, sorted_: Order, inputs: list[TensorInput], output: str) -> bytes:
    """What onnxruntime gets: written by us, so that it reads nothing that was not judged."""
    nodes = needed(sorted_.nodes, output)
    read = {name for node in nodes for name in node.input} | {output}
    bound = {given.name for given in inputs}
    graph = onnx.GraphProto(name="model")
    graph.node.extend(nodes)
    graph.initializer.extend(tensor for tensor in proto.graph.initializer if tensor.name in read)
    graph.input.extend(given for given in proto.graph.input if given.name in bound)
    graph.output.add(name=output)  # its type is onnxruntime's to infer
    for part in (*graph.node, *graph.initializer, *graph.input):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    model = onnx.ModelProto(ir_version=max(4, proto.ir_version), graph=graph)
    model.opset_import.extend(entry for entry in proto.opset_import if domain_of(entry.domain) in OPSETS)
    return bytes(model.SerializeToString(deterministic=True))


def _message_facts(proto: onnx.ModelProto) -> dict[str, Any]:
    graph = proto.graph
    operators = Counter(f"{clip(node.domain) + '.' if node.domain else ''}{clip(node.op_type)}" for node in graph.node)
    return {
        "ir_version": proto.ir_version,
        "opsets": {clip(entry.domain) or "ai.onnx": entry.version for entry in proto.opset_import[:16]},
        "producer": f"{clip(proto.producer_name)} {clip(proto.producer_version)}".strip(),
        "nodes": len(graph.node),
        "operators": dict(operators.most_common(64)),
        "initializers": {"count": len(graph.initializer), "bytes": sum(t.ByteSize() for t in graph.initializer)},
    }


def _walk_facts(proto: onnx.ModelProto, sorted_: Order, totals: Totals) -> dict[str, Any]:
    outputs = []
    for output in proto.graph.output:
        value = totals.values.get(sorted_.tails.get(output.name, output.name))
        if value is not None:
            shape = list(value.dims) if value.dims is not None else None
            outputs.append({"name": clip(output.name), "dtype": kind_name(value.kind), "shape": shape})
    return {
        "parameters": sum(prod(tensor.dims) for tensor in proto.graph.initializer) + _listed(proto.graph),
        "outputs": outputs,
        "work": totals.work,
        "largest_tensor": {"elements": totals.largest, "bytes": totals.largest_bytes},
    }


def _listed(graph: onnx.GraphProto) -> int:
    """Numbers in attributes: the trees, coefficients and support vectors of ai.onnx.ml."""
    return sum(
        len(a.floats) + (prod(a.t.dims) if a.HasField("t") else 0) for node in graph.node for a in node.attribute
    )
