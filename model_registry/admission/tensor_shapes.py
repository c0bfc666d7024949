"""How large outputs of ai.onnx operators become, from shapes and small contents of their inputs.

Source: Operators.md (github.com/onnx/onnx), opsets 7 to 28.
"""

from collections.abc import Sequence

from model_registry.admission.values import (
    Dims,
    Node,
    Unknown,
    Value,
    broadcast,
    elements,
    visits,
)
from model_registry.admission.view import T


def broadcast_all_dims(node: Node) -> list[Dims]:
    """Element-wise: every input broadcast."""
    return [broadcast(node, [v.shape for v in node.inputs if v is not None])]


def _axes(node: Node, position: int) -> list[int] | None:
    """Axes, which an attribute gave before they became an input."""
    if "axes" in node.attributes:
        return list(node.attributes["axes"])
    return node.known(position) if node.has(position) else None


def reduce_dims(node: Node) -> list[Dims]:
    """Reduced axes gone, or kept as one."""
    dims, axes = node.shape(0), _axes(node, 1)
    if axes is None or (not axes and not node.attributes.get("noop_with_empty_axes")):
        gone = set(range(len(dims)))
    else:
        gone = {node.from_front(axis, len(dims)) for axis in axes}
    return [_without(dims, gone, bool(node.attributes.get("keepdims", 1)))]


def arg_dims(node: Node) -> list[Dims]:
    """One axis gone, or kept as one."""
    dims = node.shape(0)
    return [_without(dims, {node.axis(len(dims))}, bool(node.attributes.get("keepdims", 1)))]


def _without(dims: Dims, gone: set[int], keep: bool) -> Dims:
    return tuple(1 if i in gone else d for i, d in enumerate(dims) if keep or i not in gone)


def matmul_dims(node: Node) -> list[Dims]:
    """Matrices and stacks of them, as numpy.matmul."""
    a, b = node.shape(0), node.shape(1)
    if not a or not b or a[-1] != (b[-2] if len(b) > 1 else b[0]):
        node.refuse("the shapes do not multiply")
    rows, columns = a[-2:-1], b[-1:] if len(b) > 1 else ()
    return [(*broadcast(node, [a[:-2], b[:-2]]), *rows, *columns)]


def matmul_work(node: Node, outputs: Sequence[Value]) -> int:
    """Multiply-adds."""
    depth = node.value(0).dims or (node.value(0).most,)
    return outputs[0].most * (depth[-1] if depth else 1)


def gemm_dims(node: Node) -> list[Dims]:
    """Two matrices, either turned, and a bias."""
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


def gemm_work(node: Node, outputs: Sequence[Value]) -> int:
    """Multiply-adds, at most."""
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


def einsum_dims(node: Node) -> list[Dims]:
    """The letters behind the arrow."""
    sizes = _einsum_sizes(node)
    return [tuple(sizes.get(letter, 1) for letter in _einsum_terms(node)[1])]


def einsum_work(node: Node, outputs: Sequence[Value]) -> int:  # noqa: ARG001 - a WorkRule
    """Every combination of letters."""
    return elements(tuple(_einsum_sizes(node).values()))


def constant_dims(node: Node) -> list[Dims]:
    """The stored value's own."""
    return [_constant_dims(node)]


def _constant_dims(node: Node) -> Dims:
    if len(node.attributes) != 1:
        node.refuse("a constant has exactly one value")
    name, value = next(iter(node.attributes.items()))
    if name == "value":
        return tuple(value.dims)
    return (len(value),) if name.endswith("s") else ()


def constant_kind(node: Node) -> list[int]:
    """The stored value's own element type."""
    kinds = {"value_int": T.INT64, "value_ints": T.INT64, "value_string": T.STRING, "value_strings": T.STRING}
    name = next(iter(node.attributes), "")
    return [node.attributes["value"].data_type if name == "value" else kinds.get(name, T.FLOAT)]


def filled_kind(node: Node) -> list[int]:
    """The filling's element type."""
    return [node.attributes["value"].data_type if "value" in node.attributes else T.FLOAT]


def positive(node: Node, sizes: Sequence[int]) -> Dims:
    """Sizes as a shape; raises Refusal where one is negative."""
    if any(size < 0 for size in sizes):
        node.refuse("a size is negative")
    return tuple(sizes)


def expand_dims(node: Node) -> list[Dims]:
    """The input broadcast to the wanted shape."""
    return [broadcast(node, [node.shape(0), positive(node, node.known(1))])]


def filled_dims(node: Node) -> list[Dims]:
    """The wanted shape."""
    return [positive(node, node.known(0))]


def reshape_dims(node: Node) -> list[Dims]:
    """The wanted shape, -1 and 0 worked out."""
    wanted, dims = node.known(1), node.value(0).dims
    count = elements(node.shape(0)) if -1 in wanted or dims is not None else None
    keep = not node.attributes.get("allowzero")
    sizes = [
        node.shape(0)[i] if size == 0 and keep and i < len(node.shape(0)) else size for i, size in enumerate(wanted)
    ]
    if -1 in sizes:
        rest = elements(tuple(size for size in sizes if size != -1))
        sizes[sizes.index(-1)] = (count or 0) // rest if rest else 0
    made = positive(node, sizes)
    if count is not None and elements(made) != count:
        node.refuse("the shape has another number of elements")
    return [made]


def shape_of_dims(node: Node) -> list[Dims]:
    """One number an axis."""
    cut = slice(node.attributes.get("start", 0), node.attributes.get("end"))
    return [(len(node.shape(0)[cut]),)]


def slice_dims(node: Node) -> list[Dims]:
    """What the slices leave."""
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


def split_dims(node: Node) -> list[Dims]:
    """The parts."""
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
    return [(*dims[:axis], part, *dims[axis + 1 :]) for part in positive(node, parts)]


def squeeze_dims(node: Node) -> list[Dims]:
    """Axes of one element gone."""
    dims, axes = node.shape(0), _axes(node, 1)
    gone = {i for i, d in enumerate(dims) if d == 1} if axes is None else {node.from_front(a, len(dims)) for a in axes}
    if any(dims[i] != 1 for i in gone):
        node.refuse("only axes of one element can be squeezed")
    return [_without(dims, gone, False)]


def unsqueeze_dims(node: Node) -> list[Dims]:
    """Axes of one element more."""
    dims, axes = list(node.shape(0)), _axes(node, 1) or []
    rank = len(dims) + len(axes)
    for at in sorted(node.from_front(axis, rank) for axis in axes):
        dims.insert(at, 1)
    return [tuple(dims)]


def transpose_dims(node: Node) -> list[Dims]:
    """Axes in another order."""
    dims = node.shape(0)
    order = list(node.attributes.get("perm", range(len(dims))[::-1]))
    if sorted(order) != list(range(len(dims))):
        node.refuse("the order is no permutation")
    return [tuple(dims[i] for i in order)]


def concat_dims(node: Node) -> list[Dims]:
    """The sum along one axis."""
    shapes = [v.shape for v in node.inputs if v is not None]
    axis = node.axis(len(shapes[0]))
    if any(
        len(s) != len(shapes[0]) or (s[:axis], s[axis + 1 :]) != (shapes[0][:axis], shapes[0][axis + 1 :])
        for s in shapes
    ):
        node.refuse("the shapes do not line up")
    return [(*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])]


def flatten_dims(node: Node) -> list[Dims]:
    """A matrix."""
    dims = node.shape(0)
    axis = node.attributes.get("axis", 1)
    axis += len(dims) if axis < 0 else 0
    return [(elements(dims[:axis]), elements(dims[axis:]))]


def gather_dims(node: Node) -> list[Dims]:
    """The indices' shape in place of one axis."""
    dims = node.shape(0)
    axis = node.axis(len(dims))
    return [(*dims[:axis], *node.shape(1), *dims[axis + 1 :])]


def gather_nd_dims(node: Node) -> list[Dims]:
    """The indices' shape, and what one index leaves."""
    dims, index, batch = node.shape(0), node.shape(1), node.attributes.get("batch_dims", 0)
    if not index or batch + index[-1] > len(dims):
        node.refuse("the indices are deeper than the data")
    return [(*index[:-1], *dims[batch + index[-1] :])]


def one_hot_dims(node: Node) -> list[Dims]:
    """One axis more, as deep as asked."""
    dims = list(node.shape(0))
    at = node.from_front(node.attributes.get("axis", -1), len(dims) + 1)
    dims.insert(at, *positive(node, node.known(1)[:1]))
    return [tuple(dims)]


def top_k_dims(node: Node) -> list[Dims]:
    """As many as asked along one axis."""
    dims = node.shape(0)
    axis = node.axis(len(dims), -1)
    (size,) = positive(node, [node.attributes["k"]] if "k" in node.attributes else node.known(1)[:1])
    return [(*dims[:axis], min(size, dims[axis]), *dims[axis + 1 :])] * node.outputs


def range_dims(node: Node) -> list[Dims]:
    """As many as from start to limit."""
    data = [node.value(i).data for i in range(3)]
    if any(part is None or part.size != 1 for part in data):
        raise Unknown
    start, limit, step = (float(part.reshape(-1)[0]) for part in data if part is not None)
    if not step or not abs(limit - start) < 2**53 * abs(step):
        node.refuse("no such range")
    return [(max(0, int(-(-(limit - start) // step))),)]


def tile_dims(node: Node) -> list[Dims]:
    """Each axis as often as asked."""
    dims, times = node.shape(0), node.known(1)
    if len(dims) != len(times):
        node.refuse("one repeat an axis")
    return [tuple(d * t for d, t in zip(dims, positive(node, times), strict=True))]


def pad_dims(node: Node) -> list[Dims]:
    """Each axis as much longer as asked."""
    dims = list(node.shape(0))
    pads = list(node.attributes["pads"]) if "pads" in node.attributes else node.known(1)
    axes = node.known(3) if node.has(3) else list(range(len(dims)))
    if len(pads) != 2 * len(axes):
        node.refuse("two pads an axis")
    for at, axis in enumerate(axes):
        dims[node.from_front(axis, len(dims))] += pads[at] + pads[at + len(axes)]
    return [positive(node, dims)]


def norm_dims(node: Node) -> list[Dims]:
    """The input, and its statistics."""
    dims = node.shape(0)
    axis = node.axis(len(dims), -1)
    return [dims, *[(*dims[:axis], *(1 for _ in dims[axis:]))] * (node.outputs - 1)]


def no_training(node: Node) -> None:
    """Raises Refusal where dropout or batch normalisation would train."""
    data = node.value(2).data if node.op == "Dropout" and node.has(2) else None
    if node.op == "Dropout" and node.has(2) and (data is None or data.any()):
        node.refuse("dropout in training mode is random; export with model.eval()", "training_mode")
    if node.op == "BatchNormalization" and (node.attributes.get("training_mode") or node.outputs > 1):
        node.refuse("batch normalisation in training mode learns from rows; export with model.eval()", "training_mode")


def sorting(node: Node, outputs: Sequence[Value]) -> int:
    """A few visits an element."""
    return visits(node, outputs) * 8
