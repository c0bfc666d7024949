"""What the manifest says against what the graph has; without a manifest inputs and output are read off the graph."""

from collections.abc import Iterator, Mapping, Sequence

import onnx

from model_registry.admission.bounds import FIELD_WIDTH_MAX
from model_registry.admission.graph import MAPS
from model_registry.admission.tensors import STORED, contents
from model_registry.admission.values import Value, attributes_of
from model_registry.admission.view import DTYPES, NAMES, ManifestView, Refusal, T, TensorInput, clip, kind_name
from model_registry.errors import Reason

_COLUMN_LISTS = {"offset", "scale", "imputed_value_floats", "coefficients", "support_vectors"}
NUMBERS = STORED.keys() - {T.STRING}
_NO_TENSOR = "maps, sequences, optionals and sparse tensors are refused; take one tensor, or one for each field"
_NO_MAP = " (DictVectorizer: train on the columns themselves; initial_types of skl2onnx names one input for each)"


def input_reasons(graph: onnx.GraphProto, declared: Sequence[TensorInput]) -> Iterator[Reason]:
    """Compare the graph's inputs with the manifest's."""
    defaults = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: value.type for value in graph.input}
    names = {tensor.name for tensor in declared}
    if len(inputs) != len(graph.input) or len(names) != len(declared):
        yield Reason("input_unbound", "graph", "an input name occurs twice")
    # before IR 4 every initializer was listed as an input too; those keep their stored values
    for name in inputs.keys() - names - defaults:
        yield Reason("input_unbound", f"input {clip(name)}", "the graph has an input that the manifest does not bind")
    for tensor in declared:
        where = f"input {clip(tensor.name)}"
        if tensor.name not in inputs:
            yield Reason("input_missing", where, "the manifest binds an input that the graph does not have")
        elif tensor.name in defaults:
            yield Reason("input_unbound", where, "the input has a stored default; remove the initializer")
        else:
            yield from _binding_reasons(inputs[tensor.name], tensor, where)


def _binding_reasons(type_: onnx.TypeProto, declared: TensorInput, where: str) -> Iterator[Reason]:
    if type_.WhichOneof("value") != "tensor_type":
        yield Reason("input_not_tensor", where, _NO_TENSOR + _NO_MAP)
        return
    if type_.tensor_type.elem_type != DTYPES.get(declared.dtype):
        found = kind_name(type_.tensor_type.elem_type)
        yield Reason("input_type", where, f"the graph says {found}, the manifest {clip(declared.dtype)}")
    if not type_.tensor_type.HasField("shape"):  # any shape
        return
    dims = [_size(dim) for dim in type_.tensor_type.shape.dim]
    if len(dims) != 2 or dims[0] not in (None, 1) or dims[1] not in (None, declared.width):
        text = f"the graph's shape is not [1 or open, {declared.width}] as the manifest says"
        yield Reason("input_shape", where, text)


def _size(dim: onnx.TensorShapeProto.Dimension) -> int | None:
    return dim.dim_value if dim.WhichOneof("value") == "dim_value" else None


def derive_inputs(graph: onnx.GraphProto) -> tuple[list[TensorInput], list[Reason]]:
    """Read the inputs off a graph: each a tensor [1 or open, width] of a type that a manifest can bind."""
    defaults = {tensor.name for tensor in graph.initializer}
    inputs: list[TensorInput] = []
    reasons: list[Reason] = []
    if len({value.name for value in graph.input}) != len(graph.input):
        reasons.append(Reason("input_unbound", "graph", "an input name occurs twice"))
    for value in graph.input:
        if value.name in defaults:
            continue
        try:
            inputs.append(_derive(graph, value))
        except Refusal as refusal:
            reasons.append(refusal.reason)
    if not inputs and not reasons:
        reasons.append(Reason("input_missing", "graph", "the graph has no input: its output would be the same for all"))
    return inputs, reasons


def _derive(graph: onnx.GraphProto, value: onnx.ValueInfoProto) -> TensorInput:
    where = f"input {clip(value.name)}"
    if value.type.WhichOneof("value") != "tensor_type":
        raise Refusal("input_not_tensor", where, _NO_TENSOR + _NO_MAP)
    type_ = value.type.tensor_type
    if type_.elem_type not in NAMES:
        text = f"{kind_name(type_.elem_type)} is not one of {', '.join(DTYPES)}; export with such an input"
        raise Refusal("input_type", where, text)
    dims = [_size(dim) for dim in type_.shape.dim] if type_.HasField("shape") else [None, None]
    if len(dims) != 2 or dims[0] not in (None, 1) or dims[1] == 0:
        text = "the shape is not [1 or open, columns]; export with an open batch axis and one axis of fields"
        raise Refusal("input_shape", where, text)
    width = dims[1] or _width_by_reader(graph, value.name)
    if width is None:
        text = "the number of columns is open; export with a fixed one (FloatTensorType([None, n])), or give --manifest"
        raise Refusal("input_shape", where, text)
    if not 0 < width <= FIELD_WIDTH_MAX:
        raise Refusal("input_shape", where, f"a manifest has at most {FIELD_WIDTH_MAX} fields")
    return TensorInput(value.name, NAMES[type_.elem_type], width)


def _width_by_reader(graph: onnx.GraphProto, name: str) -> int | None:
    """How many columns the operators that read an input count; followed through what keeps the columns.

    The first that says it exactly counts; else the highest column that a tree or a selection reads.
    """
    stored = {tensor.name: tensor for tensor in graph.initializer}
    names, least = {name}, 0
    for node in graph.node:  # exporters write them in order
        if not names.intersection(node.input):
            continue
        if (found := _columns(node, names, stored)) is not None:
            return found
        least = max(least, _highest(node, stored) + 1)
        if node.op_type in ("Cast", "Identity", "Normalizer", "Binarizer", "Reshape", "Unsqueeze"):
            names.update(node.output)
    return least or None


def _columns(node: onnx.NodeProto, names: set[str], stored: Mapping[str, onnx.TensorProto]) -> int | None:
    told = attributes_of(node)
    lists = {name: len(value) for name, value in told.items() if name in _COLUMN_LISTS}
    if node.op_type in ("Scaler", "Imputer"):
        return next((n for n in lists.values() if n > 1), None)
    if node.op_type in ("LinearRegressor", "LinearClassifier"):
        rows = told.get("targets", 1) if node.op_type == "LinearRegressor" else max(1, len(told.get("intercepts", ())))
        return lists.get("coefficients", 0) // max(1, rows) or None
    if node.op_type in ("SVMClassifier", "SVMRegressor"):
        return (
            lists.get("support_vectors", 0) // max(1, told.get("n_supports", sum(told.get("vectors_per_class", ()))))
            or None
        )
    if node.op_type in ("MatMul", "Gemm") and node.input[0] in names:
        dims = stored[node.input[1]].dims if node.input[1] in stored else ()
        return int(dims[1 if told.get("transB") else 0]) if len(dims) == 2 else None
    if node.op_type in ("Add", "Sub", "Mul", "Div", "Less", "Greater", "Equal", "Where"):
        widths = [stored[name].dims[-1] for name in node.input if name in stored and stored[name].dims]
        return next((int(width) for width in widths if width > 1), None)
    return None


def _highest(node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> int:
    if node.op_type.startswith("TreeEnsemble"):
        return max(attributes_of(node).get("nodes_featureids", ()), default=-1)
    if node.op_type == "ArrayFeatureExtractor" and node.input[1] in stored:
        data = contents(stored[node.input[1]])
        return int(data.max()) if data is not None and data.size else -1
    return -1


def bind_output(
    graph: onnx.GraphProto, manifest: ManifestView, tails: Mapping[str, str], values: Mapping[str, Value]
) -> str:
    """The tensor that the manifest's output is; raises Refusal.

    Args:
        graph: as it came.
        manifest: names an output of the graph, a map tail, or the tensor that a map tail is made of.
        tails: output of a ZipMap → the tensor that it makes maps of.
        values: what is known of every value.
    """
    name, where = manifest.output_name, f"output {clip(manifest.output_name)}"
    if name in tails:
        name = tails[name]
    elif name not in tails.values() and [value.name for value in graph.output].count(name) != 1:
        outputs = ", ".join(clip(value.name) for value in graph.output[:8])
        raise Refusal("output_missing", where, f"the manifest names an output that the graph does not have: {outputs}")
    if (reason := _output_reason(values[name], where)) is not None:
        raise reason
    dims = values[name].dims
    if dims is not None and manifest.output_index >= values[name].most:
        raise Refusal("output_missing", where, f"the output row has no element {manifest.output_index}")
    return name


def _output_reason(value: Value, where: str) -> Refusal | None:
    if value.kind not in NUMBERS:
        return Refusal("output_not_number", where, f"its elements are no numbers but {kind_name(value.kind)}")
    return None


def output_kind_reasons(graph: onnx.GraphProto, tails: Mapping[str, str]) -> Iterator[Reason]:
    """Say which outputs are declared to be other than tensors, without a ZipMap that makes them."""
    for value in graph.output:
        if value.type.WhichOneof("value") not in (None, "tensor_type") and value.name not in tails:
            yield Reason("output_not_tensor", f"output {clip(value.name)}", "the output is not a tensor; " + MAPS)


def derive_output(graph: onnx.GraphProto, tails: Mapping[str, str], values: Mapping[str, Value]) -> tuple[str, int]:
    """The last output that is a tensor of numbers, and its last element; raises Refusal where there is none."""
    for output in reversed(graph.output):
        value = values[tails.get(output.name, output.name)]
        if value.kind in NUMBERS and value.most:
            return output.name, value.most - 1 if value.dims is not None else 0
    raise Refusal("output_not_number", "graph", "no output is a tensor of numbers; give class scores or a prediction")
