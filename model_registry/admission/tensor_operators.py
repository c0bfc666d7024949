"""Allowed operators of ai.onnx: what sklearn, boosted trees, MLPs and tensor exports of trees are made of.

Each says how large its outputs become. Not here on purpose: control flow and Scan (subgraphs), Random* and Multinomial
(not repeatable), sequences, optionals, texts that grow (StringConcat), Resize, convolution, quantization.
Source: Operators.md (github.com/onnx/onnx), opsets 7 to 28.
"""

from collections.abc import Sequence

from model_registry.admission.values import (
    Dims,
    Node,
    Operator,
    Unknown,
    Value,
    as_input,
    broadcast,
    elements,
    kind_is,
    same,
    visits,
)
from model_registry.admission.view import T


def _broadcast_all(node: Node) -> list[Dims]:
    return [broadcast(node, [v.shape for v in node.inputs if v is not None])]


def _axes(node: Node, position: int) -> list[int] | None:
    """Axes, which an attribute gave before they became an input."""
    if "axes" in node.attributes:
        return list(node.attributes["axes"])
    return node.known(position) if node.has(position) else None


def _reduce(node: Node) -> list[Dims]:
    dims, axes = node.shape(0), _axes(node, 1)
    if axes is None or (not axes and not node.attributes.get("noop_with_empty_axes")):
        gone = set(range(len(dims)))
    else:
        gone = {node.from_front(axis, len(dims)) for axis in axes}
    return [_without(dims, gone, bool(node.attributes.get("keepdims", 1)))]


def _arg(node: Node) -> list[Dims]:
    dims = node.shape(0)
    return [_without(dims, {node.axis(len(dims))}, bool(node.attributes.get("keepdims", 1)))]


def _without(dims: Dims, gone: set[int], keep: bool) -> Dims:
    return tuple(1 if i in gone else d for i, d in enumerate(dims) if keep or i not in gone)


def _matmul(node: Node) -> list[Dims]:
    a, b = node.shape(0), node.shape(1)
    if not a or not b or a[-1] != (b[-2] if len(b) > 1 else b[0]):
        node.refuse("the shapes do not multiply")
    rows, columns = a[-2:-1], b[-1:] if len(b) > 1 else ()
    return [(*broadcast(node, [a[:-2], b[:-2]]), *rows, *columns)]


def _matmul_work(node: Node, outputs: Sequence[Value]) -> int:
    depth = node.value(0).dims or (node.value(0).most,)
    return outputs[0].most * (depth[-1] if depth else 1)


def _gemm(node: Node) -> list[Dims]:
    a, b = node.shape(0), node.shape(1)
    if len(a) != 2 or len(b) != 2:
        node.refuse("Gemm multiplies matrices")
    a = a[::-1] if node.attributes.get("transA") else a
    b = b[::-1] if node.attributes.get("transB") else b
    if a[1] != b[0]:
        node.refuse("the shapes do not multiply")
    made = (a[0], b[1])
    if node.has(2) and broadcast(node, [made, node.shape(2)]) != made:
        node.refuse("the bias does not broadcast")
    return [made]


def _gemm_work(node: Node, outputs: Sequence[Value]) -> int:
    a = node.value(0).dims or (node.value(0).most,) * 2
    return outputs[0].most * max(a, default=1)


def _einsum_terms(node: Node) -> tuple[list[str], str]:
    text = node.attributes["equation"].decode("ascii", "replace").replace(" ", "")
    left, arrow, right = text.partition("->")
    if not arrow or "." in text or not text.replace(",", "").replace("->", "").isalpha():
        node.refuse("only plain equations with an arrow are read", "operator_refused")
    return left.split(","), right


def _einsum_sizes(node: Node) -> dict[str, int]:
    terms, _ = _einsum_terms(node)
    sizes: dict[str, int] = {}
    for position, term in enumerate(terms):
        for letter, size in zip(term, node.shape(position), strict=False):
            sizes[letter] = max(size, sizes.get(letter, 0))
    return sizes


def _einsum(node: Node) -> list[Dims]:
    sizes = _einsum_sizes(node)
    return [tuple(sizes.get(letter, 1) for letter in _einsum_terms(node)[1])]


def _einsum_work(node: Node, outputs: Sequence[Value]) -> int:  # noqa: ARG001 - a WorkRule
    return elements(tuple(_einsum_sizes(node).values()))


def _constant(node: Node) -> list[Dims]:
    return [_constant_dims(node)]


def _constant_dims(node: Node) -> Dims:
    if len(node.attributes) != 1:
        node.refuse("a constant has exactly one value")
    name, value = next(iter(node.attributes.items()))
    if name == "value":
        return tuple(value.dims)
    return (len(value),) if name.endswith("s") else ()


def _constant_kind(node: Node) -> list[int]:
    kinds = {"value_int": T.INT64, "value_ints": T.INT64, "value_string": T.STRING, "value_strings": T.STRING}
    name = next(iter(node.attributes), "")
    return [node.attributes["value"].data_type if name == "value" else kinds.get(name, T.FLOAT)]


def _filled_kind(node: Node) -> list[int]:
    return [node.attributes["value"].data_type if "value" in node.attributes else T.FLOAT]


def _positive(node: Node, sizes: Sequence[int]) -> Dims:
    if any(size < 0 for size in sizes):
        node.refuse("a size is negative")
    return tuple(sizes)


def _reshape(node: Node) -> list[Dims]:
    wanted, dims = node.known(1), node.value(0).dims
    count = elements(node.shape(0)) if -1 in wanted or dims is not None else None
    keep = not node.attributes.get("allowzero")
    sizes = [
        node.shape(0)[i] if size == 0 and keep and i < len(node.shape(0)) else size for i, size in enumerate(wanted)
    ]
    if -1 in sizes:
        rest = elements(tuple(size for size in sizes if size != -1))
        sizes[sizes.index(-1)] = (count or 0) // rest if rest else 0
    made = _positive(node, sizes)
    if count is not None and elements(made) != count:
        node.refuse("the shape has another number of elements")
    return [made]


def _shape_of(node: Node) -> list[Dims]:
    return [
        (len(range(*slice(node.attributes.get("start", 0), node.attributes.get("end")).indices(len(node.shape(0))))),)
    ]


def _slice(node: Node) -> list[Dims]:
    dims = list(node.shape(0))
    if "starts" in node.attributes:
        starts, ends, steps = list(node.attributes["starts"]), list(node.attributes["ends"]), None
        axes = node.attributes.get("axes")
    else:
        starts, ends = node.known(1), node.known(2)
        axes = node.known(3) if node.has(3) else None
        steps = node.known(4) if node.has(4) else None
    steps = steps or [1] * len(starts)
    for start, end, step, axis in zip(starts, ends, steps, axes or range(len(starts)), strict=False):
        at = node.from_front(axis, len(dims))
        if not step:
            node.refuse("a step of nought")
        dims[at] = len(range(*slice(start, end, step).indices(dims[at])))
    return [tuple(dims)]


def _split(node: Node) -> list[Dims]:
    dims = node.shape(0)
    axis = node.axis(len(dims))
    size = dims[axis] if dims else 0
    if "split" in node.attributes:
        parts = list(node.attributes["split"])
    elif node.has(1):
        parts = node.known(1)
    else:
        step = -(-size // node.outputs)
        parts = [min(step, size - i * step) for i in range(node.outputs)]
    if len(parts) != node.outputs or sum(parts) != size:
        node.refuse("the parts are not the whole")
    return [(*dims[:axis], part, *dims[axis + 1 :]) for part in _positive(node, parts)]


def _squeeze(node: Node) -> list[Dims]:
    dims, axes = node.shape(0), _axes(node, 1)
    gone = {i for i, d in enumerate(dims) if d == 1} if axes is None else {node.from_front(a, len(dims)) for a in axes}
    if any(dims[i] != 1 for i in gone):
        node.refuse("only axes of one element can be squeezed")
    return [_without(dims, gone, False)]


def _unsqueeze(node: Node) -> list[Dims]:
    dims, axes = list(node.shape(0)), _axes(node, 1) or []
    rank = len(dims) + len(axes)
    for at in sorted(node.from_front(axis, rank) for axis in axes):
        dims.insert(at, 1)
    return [tuple(dims)]


def _transpose(node: Node) -> list[Dims]:
    dims = node.shape(0)
    order = list(node.attributes.get("perm", range(len(dims))[::-1]))
    if sorted(order) != list(range(len(dims))):
        node.refuse("the order is no permutation")
    return [tuple(dims[i] for i in order)]


def _concat(node: Node) -> list[Dims]:
    shapes = [v.shape for v in node.inputs if v is not None]
    axis = node.axis(len(shapes[0]))
    if any(
        len(s) != len(shapes[0]) or (s[:axis], s[axis + 1 :]) != (shapes[0][:axis], shapes[0][axis + 1 :])
        for s in shapes
    ):
        node.refuse("the shapes do not line up")
    return [(*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])]


def _flatten(node: Node) -> list[Dims]:
    dims = node.shape(0)
    axis = node.attributes.get("axis", 1)
    axis += len(dims) if axis < 0 else 0
    return [(elements(dims[:axis]), elements(dims[axis:]))]


def _gather(node: Node) -> list[Dims]:
    dims = node.shape(0)
    axis = node.axis(len(dims))
    return [(*dims[:axis], *node.shape(1), *dims[axis + 1 :])]


def _gather_nd(node: Node) -> list[Dims]:
    dims, index, batch = node.shape(0), node.shape(1), node.attributes.get("batch_dims", 0)
    if not index or batch + index[-1] > len(dims):
        node.refuse("the indices are deeper than the data")
    return [(*index[:-1], *dims[batch + index[-1] :])]


def _one_hot(node: Node) -> list[Dims]:
    dims = list(node.shape(0))
    at = node.from_front(node.attributes.get("axis", -1), len(dims) + 1)
    dims.insert(at, *_positive(node, node.known(1)[:1]))
    return [tuple(dims)]


def _top_k(node: Node) -> list[Dims]:
    dims = node.shape(0)
    axis = node.axis(len(dims), -1)
    (size,) = _positive(node, [node.attributes["k"]] if "k" in node.attributes else node.known(1)[:1])
    return [(*dims[:axis], min(size, dims[axis]), *dims[axis + 1 :])] * node.outputs


def _range(node: Node) -> list[Dims]:
    data = [node.value(i).data for i in range(3)]
    if any(part is None or part.size != 1 for part in data):
        raise Unknown
    start, limit, step = (float(part.reshape(-1)[0]) for part in data if part is not None)
    if not step or not abs(limit - start) < 2**53 * abs(step):
        node.refuse("no such range")
    return [(max(0, int(-(-(limit - start) // step))),)]


def _tile(node: Node) -> list[Dims]:
    dims, times = node.shape(0), node.known(1)
    if len(dims) != len(times):
        node.refuse("one repeat an axis")
    return [tuple(d * t for d, t in zip(dims, _positive(node, times), strict=True))]


def _pad(node: Node) -> list[Dims]:
    dims = list(node.shape(0))
    pads = list(node.attributes["pads"]) if "pads" in node.attributes else node.known(1)
    axes = node.known(3) if node.has(3) else list(range(len(dims)))
    if len(pads) != 2 * len(axes):
        node.refuse("two pads an axis")
    for at, axis in enumerate(axes):
        dims[node.from_front(axis, len(dims))] += pads[at] + pads[at + len(axes)]
    return [_positive(node, dims)]


def _norm(node: Node) -> list[Dims]:
    dims = node.shape(0)
    axis = node.axis(len(dims), -1)
    return [dims, *[(*dims[:axis], *(1 for _ in dims[axis:]))] * (node.outputs - 1)]


def _no_training(node: Node) -> None:
    data = node.value(2).data if node.op == "Dropout" and node.has(2) else None
    if node.op == "Dropout" and node.has(2) and (data is None or data.any()):
        node.refuse("dropout in training mode is random; export with model.eval()", "training_mode")
    if node.op == "BatchNormalization" and (node.attributes.get("training_mode") or node.outputs > 1):
        node.refuse("batch normalisation in training mode learns from rows; export with model.eval()", "training_mode")


def _sorting(node: Node, outputs: Sequence[Value]) -> int:
    return visits(node, outputs) * 8


_FLOAT, _BOOL, _WHOLE = T.FLOAT, T.BOOL, T.INT64
_SAME_SHAPE = """
    Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Celu Clip Cos Cosh CumProd CumSum Elu Erf Exp Floor Gelu HardSigmoid
    HardSwish Hardmax Identity InstanceNormalization LeakyRelu Log LogSoftmax LpNormalization MeanVarianceNormalization Mish
    Neg Not Reciprocal Relu RMSNormalization GroupNormalization Round Selu Shrink Sigmoid Sign Sin Sinh Softmax Softplus Softsign
    Sqrt Swish Tan Tanh ThresholdedRelu Trilu ScatterElements ScatterND Scatter"""
_ELEMENTWISE = "Add BitShift BitwiseAnd BitwiseOr BitwiseXor Div Max Mean Min Mod Mul PRelu Pow Sub Sum"
_LOGICAL = "And Equal Greater GreaterOrEqual Less LessOrEqual Or Xor"
_REDUCING = "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare"

TENSOR_OPERATORS: dict[str, Operator] = {
    **{name: Operator(same, as_input(0)) for name in _SAME_SHAPE.split()},
    **{name: Operator(same, kind_is(_BOOL)) for name in ("IsInf", "IsNaN")},
    **{name: Operator(_broadcast_all) for name in _ELEMENTWISE.split()},
    **{name: Operator(_broadcast_all, kind_is(_BOOL)) for name in _LOGICAL.split()},
    **{f"Reduce{name}": Operator(_reduce) for name in _REDUCING.split()},
    "ArgMax": Operator(_arg, kind_is(_WHOLE)),
    "ArgMin": Operator(_arg, kind_is(_WHOLE)),
    "BatchNormalization": Operator(same, as_input(0), check=_no_training),
    "Cast": Operator(same, lambda node: [node.attributes["to"]]),
    "CastLike": Operator(same, as_input(1)),
    "Concat": Operator(_concat),
    "Constant": Operator(_constant, _constant_kind, work=lambda node, outputs: 0),
    "ConstantOfShape": Operator(lambda node: [_positive(node, node.known(0))], _filled_kind, grows=True),
    "Dropout": Operator(same, lambda node: [node.value(0).kind, _BOOL][: node.outputs], check=_no_training),
    "Einsum": Operator(_einsum, work=_einsum_work, grows=True),
    "Expand": Operator(lambda node: [broadcast(node, [node.shape(0), _positive(node, node.known(1))])], grows=True),
    "EyeLike": Operator(same, lambda node: [node.attributes.get("dtype", node.value(0).kind)]),
    "Flatten": Operator(_flatten),
    "Gather": Operator(_gather),
    "GatherElements": Operator(lambda node: [node.shape(1)]),
    "GatherND": Operator(_gather_nd),
    "Gemm": Operator(_gemm, work=_gemm_work),
    "LayerNormalization": Operator(_norm, lambda node: [node.value(0).kind, _FLOAT, _FLOAT][: node.outputs]),
    "MatMul": Operator(_matmul, work=_matmul_work),
    "OneHot": Operator(_one_hot, as_input(2), grows=True),
    "Pad": Operator(_pad, grows=True),
    "Range": Operator(_range, grows=True),
    "Reshape": Operator(_reshape),
    "Shape": Operator(_shape_of, kind_is(_WHOLE), work=lambda node, outputs: 1),
    "Size": Operator(lambda node: [()], kind_is(_WHOLE), work=lambda node, outputs: 1),
    "Slice": Operator(_slice),
    "Split": Operator(_split, as_input(0)),
    "Squeeze": Operator(_squeeze),
    "Tile": Operator(_tile, grows=True),
    "TopK": Operator(_top_k, lambda node: [node.value(0).kind, _WHOLE][: node.outputs], grows=True, work=_sorting),
    "Transpose": Operator(_transpose),
    "Unsqueeze": Operator(_unsqueeze),
    "Where": Operator(_broadcast_all, as_input(1)),
}
