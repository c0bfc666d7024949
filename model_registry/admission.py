"""Default-deny inspection of an ONNX model: what is not known to be harmless is refused.

Pure: bytes in, reasons out. The bytes are a stranger's, so the server calls this behind the walls of sandbox/jail
alone; a bank may call it anywhere. onnx.checker plus a successful run is no gate: hostile models pass both.
Sources: onnx.proto3 (github.com/onnx/onnx), Operators.md and Operators-ml.md for names and attributes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod

import onnx
from google.protobuf.message import DecodeError

from model_registry.errors import Reason

MODEL_BYTES_MAX = 64 * 2**20  # a 300-tree model of 200 fields is 1 MB; the largest seen in credit scoring about 30 MB
NODES_MAX = 10_000  # exported scoring pipelines have tens of nodes, hummingbird-style ones some hundreds
ELEMENTS_MAX = 2**24  # in one tensor: 64 MiB of floats, no more than the model's bytes could hold
REASONS_MAX = 50  # a report is read by people

# Arithmetic, tensor shuffling and activations that sklearn, LightGBM, XGBoost and MLP exports need. Not here on
# purpose: control flow and Scan (subgraphs), Random* and Multinomial (not repeatable), sequences, optionals, strings
# beyond equality and encoding, Range/Tile/Pad/Resize (a few bytes asking for gigabytes).
_TENSOR_OPERATORS = """
    Abs Add And ArgMax ArgMin BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape CumSum Div Dropout Elu
    Equal Erf Exp Expand Flatten Floor Gather GatherElements Gelu Gemm Greater GreaterOrEqual HardSigmoid HardSwish
    Identity IsInf IsNaN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max Mean Min Mish Mod Mul
    Neg Not OneHot Or PRelu Pow Reciprocal ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare Relu Reshape Round Selu Shape Sigmoid Sign Slice Softmax Softplus Softsign Split Sqrt
    Squeeze Sub Sum Tanh TopK Transpose Unsqueeze Where Xor"""
_LEARNING_OPERATORS = """
    ArrayFeatureExtractor Binarizer CategoryMapper FeatureVectorizer Imputer LabelEncoder LinearClassifier
    LinearRegressor Normalizer OneHotEncoder SVMClassifier SVMRegressor Scaler TreeEnsemble TreeEnsembleClassifier
    TreeEnsembleRegressor ZipMap"""
_OPERATORS = {"": frozenset(_TENSOR_OPERATORS.split()), "ai.onnx.ml": frozenset(_LEARNING_OPERATORS.split())}
# Largest versions whose operators we have read; lower bounds are those of onnxruntime.
_OPSETS = {"": range(7, 25), "ai.onnx.ml": range(1, 6)}
_IR_VERSIONS = range(3, 13)

_T = onnx.TensorProto
_DTYPES = {"float32": _T.FLOAT, "float64": _T.DOUBLE, "int64": _T.INT64, "string": _T.STRING, "bool": _T.BOOL}
_NUMERIC = {_T.FLOAT, _T.DOUBLE, _T.INT64, _T.INT32, _T.BOOL}
_STORED = _NUMERIC | {_T.STRING, _T.INT8, _T.UINT8, _T.INT16, _T.UINT16, _T.UINT32, _T.UINT64, _T.FLOAT16}
_A = onnx.AttributeProto
_PLAIN_ATTRIBUTES = {_A.FLOAT, _A.INT, _A.STRING, _A.FLOATS, _A.INTS, _A.STRINGS, _A.TENSOR}


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


def inspect_model(model: bytes, manifest: ManifestView) -> list[Reason]:
    """Say why a model may not run; an empty list admits it.

    Args:
        model: serialised ONNX ModelProto, anything at all.
        manifest: inputs and output that the manifest declares.

    Returns:
        At most `REASONS_MAX` reasons, each with a stable code; never raises on any bytes.
    """
    if not model:
        return [Reason("model_empty", "model", "the model has no bytes")]
    if len(model) > MODEL_BYTES_MAX:
        return [Reason("model_too_large", "model", f"the model has more than {MODEL_BYTES_MAX} bytes")]
    try:
        proto = onnx.ModelProto.FromString(model)
    except (DecodeError, ValueError):
        return [
            Reason("model_not_onnx", "model", "the bytes are not an ONNX ModelProto; export with SerializeToString()")
        ]
    # bytes of other formats may parse as unknown fields; a real model always says its versions
    if not proto.ir_version or not proto.opset_import:
        return [
            Reason("model_not_onnx", "model", "no IR version or operator set; ORT-format and other bytes are refused")
        ]
    if not proto.graph.node:
        return [Reason("model_empty", "graph", "the graph has no node")]
    return list(islice(_reasons(proto, manifest), REASONS_MAX))


def _reasons(proto: onnx.ModelProto, manifest: ManifestView) -> Iterator[Reason]:
    yield from _model_reasons(proto)
    if len(proto.graph.node) > NODES_MAX:
        yield Reason("model_too_large", "graph", f"the graph has more than {NODES_MAX} nodes")
        return
    versions = {_domain(entry.domain): entry.version for entry in proto.opset_import}
    for position, node in enumerate(proto.graph.node):
        yield from _node_reasons(node, f"node {position} ({clip(node.op_type)})", versions)
    for tensor in proto.graph.initializer:
        yield from _tensor_reasons(tensor, f"initializer {clip(tensor.name)}")
    yield from _input_reasons(proto.graph, manifest.inputs)
    yield from _output_reasons(proto.graph, manifest)


def _model_reasons(proto: onnx.ModelProto) -> Iterator[Reason]:
    if proto.ir_version not in _IR_VERSIONS:
        yield Reason(
            "version_refused", "model", f"IR version {proto.ir_version} is not supported; export with an older one"
        )
    if proto.functions:
        yield Reason("function_refused", "model", "local functions can hide operators; inline them (onnx.inliner)")
    if proto.training_info:
        yield Reason("training_info_refused", "model", "training information is refused; export for inference")
    if proto.graph.sparse_initializer:
        yield Reason("sparse_refused", "graph", "sparse initializers are refused; store them dense")
    if proto.graph.quantization_annotation:
        yield Reason("quantization_refused", "graph", "quantization annotations are refused; export in float")
    seen: set[str] = set()
    for entry in proto.opset_import:
        domain = _domain(entry.domain)
        allowed = _OPSETS.get(domain)
        if allowed is None:
            yield Reason("domain_refused", f"domain {clip(entry.domain)}", "only ai.onnx and ai.onnx.ml are known here")
        elif domain in seen or entry.version not in allowed:
            where = f"domain {domain or 'ai.onnx'}"
            yield Reason(
                "version_refused", where, f"operator set must be one of {allowed[0]}..{allowed[-1]}, given once"
            )
        seen.add(domain)


def _node_reasons(node: onnx.NodeProto, where: str, versions: dict[str, int]) -> Iterator[Reason]:
    domain = _domain(node.domain)
    if domain not in _OPERATORS or domain not in versions:
        yield Reason("domain_refused", where, "the node's domain is unknown or has no operator set")
        return
    if node.op_type not in _OPERATORS[domain]:
        yield Reason("operator_refused", where, "the operator is not on the list of allowed operators")
        return
    if node.overload:
        yield Reason("function_refused", where, "overloads name local functions, which are refused")
    try:
        schema = onnx.defs.get_schema(node.op_type, versions[domain], domain)
    except onnx.defs.SchemaError:
        yield Reason("operator_refused", where, "the operator is not part of the declared operator set")
        return
    for attribute in node.attribute:
        yield from _attribute_reasons(attribute, f"{where} attribute {clip(attribute.name)}", set(schema.attributes))


def _attribute_reasons(attribute: onnx.AttributeProto, where: str, known: set[str]) -> Iterator[Reason]:
    if attribute.name not in known:
        yield Reason("attribute_refused", where, "the operator has no such attribute in this operator set")
    if (
        attribute.type not in _PLAIN_ATTRIBUTES
        or attribute.ref_attr_name
        or attribute.HasField("g")
        or attribute.graphs
    ):
        yield Reason("attribute_refused", where, "subgraphs, sparse tensors, types and references are refused")
    if attribute.HasField("sparse_tensor") or attribute.sparse_tensors or attribute.tensors or attribute.type_protos:
        yield Reason("attribute_refused", where, "sparse tensors, lists of tensors and types are refused")
    if attribute.HasField("t"):
        yield from _tensor_reasons(attribute.t, where)


def _tensor_reasons(tensor: onnx.TensorProto, where: str) -> Iterator[Reason]:
    # whatever spelling (a file, a symlink, onnxruntime's in-memory address marker): the weights are not in the bytes
    if tensor.data_location != onnx.TensorProto.DEFAULT or tensor.external_data:
        yield Reason("external_data", where, "weights must be inside the model; save with save_as_external_data=False")
    if tensor.HasField("segment"):
        yield Reason("external_data", where, "segmented tensors are refused")
    if tensor.data_type not in _STORED:
        yield Reason("tensor_refused", where, "the element type is refused; use float, double, int64, bool or string")
    if len(tensor.dims) > 8 or any(d < 0 for d in tensor.dims) or prod(tensor.dims) > ELEMENTS_MAX:
        yield Reason("tensor_refused", where, f"absurd dimensions: more than {ELEMENTS_MAX} elements or 8 axes")


def _input_reasons(graph: onnx.GraphProto, declared: Sequence[TensorInput]) -> Iterator[Reason]:
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
        text = "maps, sequences, optionals and sparse tensors are refused; take a tensor, or one tensor per field"
        yield Reason("input_not_tensor", where, text)
        return
    if type_.tensor_type.elem_type != _DTYPES.get(declared.dtype):
        yield Reason("input_type", where, f"the graph's element type is not the manifest's {clip(declared.dtype)}")
    dims = type_.tensor_type.shape.dim
    rows = len(dims) == 2 and dims[0].WhichOneof("value") == "dim_value" and dims[0].dim_value != 1
    width = len(dims) == 2 and dims[1].WhichOneof("value") == "dim_value" and dims[1].dim_value != declared.width
    if len(dims) != 2 or rows or width:
        yield Reason(
            "input_shape", where, f"the graph's shape is not [1 or open, {declared.width}] as the manifest says"
        )


def _output_reasons(graph: onnx.GraphProto, manifest: ManifestView) -> Iterator[Reason]:
    where = f"output {clip(manifest.output_name)}"
    types = [value.type for value in graph.output if value.name == manifest.output_name]
    if len(types) != 1:
        yield Reason("output_missing", where, "the manifest names an output that the graph does not have exactly once")
        return
    if types[0].WhichOneof("value") != "tensor_type":
        yield Reason("output_not_tensor", where, "the output is not a tensor; convert with zipmap=False")
        return
    if types[0].tensor_type.elem_type not in _NUMERIC:
        yield Reason("output_not_number", where, "the output's elements are not numbers")
    dims = types[0].tensor_type.shape.dim
    sizes = [dim.dim_value for dim in dims[1:]]
    closed = len(dims) > 1 and all(dim.WhichOneof("value") == "dim_value" for dim in dims[1:])
    if closed and manifest.output_index >= prod(sizes):
        yield Reason("output_missing", where, f"the output row has no element {manifest.output_index}")


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def clip(text: str | bytes, length: int = 64) -> str:
    """Make a stranger's name fit to be shown: printable, one line, bounded."""
    if isinstance(text, bytes):  # so protobuf gives a proto2 string that is not UTF-8
        text = text[:length].decode("ascii", "replace")
    return "".join(c if c.isprintable() else "?" for c in text[:length])
