"""The bounded walk: how large every value of one row becomes, and how much work it is, before anything runs.

onnxruntime folds constants while it loads, so a few bytes that ask for gigabytes must be seen before it sees them.
"""

from collections.abc import Mapping, Sequence
from math import prod

import onnx

from model_registry.admission import bounds
from model_registry.admission.fold import fold
from model_registry.admission.operators import OPERATORS
from model_registry.admission.tensors import STORED, contents
from model_registry.admission.values import ITEM_BYTES, Dims, Node, Operator, Totals, Unknown, Value, attributes_of
from model_registry.admission.view import DTYPES, Refusal, T, TensorInput, domain_of, kind_name, node_place

BY_ROW = "its size depends on what the row holds; export with fixed shapes (no dynamic axis but the batch)"


def walk(
    nodes: Sequence[tuple[int, onnx.NodeProto]],
    initializers: Sequence[onnx.TensorProto],
    inputs: Sequence[TensorInput],
    versions: Mapping[str, int],
) -> Totals:
    """Follow a graph whose message has been checked.

    Args:
        nodes: (position, node), each after those it reads from; tails that are cut off left out.
        initializers: stored tensors.
        inputs: what one row is.
        versions: domain → operator set version.

    Raises:
        Refusal: a tensor or the sum is too large, a size is unknown, or an operator's parts contradict each other.
    """
    totals = Totals()
    for tensor in initializers:
        dims = tuple(tensor.dims)
        totals.values[tensor.name] = Value(tensor.data_type, dims, prod(dims), contents(tensor), True)
    for given in inputs:
        totals.values[given.name] = Value(DTYPES[given.dtype], (1, given.width), given.width)
    for position, proto in nodes:
        domain = domain_of(proto.domain)
        found = [totals.values[name] if name else None for name in proto.input]
        where = node_place(position, proto)
        node = Node(proto.op_type, where, versions[domain], found, attributes_of(proto), len(proto.output))
        outputs = _outputs(OPERATORS[domain, proto.op_type], node)
        _add(totals, OPERATORS[domain, proto.op_type], node, outputs)
        totals.values.update((name, value) for name, value in zip(proto.output, outputs, strict=True) if name)
    return totals


def _outputs(operator: Operator, node: Node) -> list[Value]:
    try:
        if operator.check is not None:
            operator.check(node)
    except Unknown:
        node.refuse(BY_ROW, "size_unknown")
    kinds = list(operator.kinds(node))
    for kind in kinds:
        if kind not in STORED:
            node.refuse(f"{kind_name(kind)} elements are refused", "tensor_refused")
    try:
        shapes: Sequence[Dims | None] = operator.dims(node)
        sizes = [prod(dims) for dims in shapes if dims is not None]
    except Unknown:
        shapes, sizes = [None] * node.outputs, [_at_most(operator, node)] * node.outputs
    made = []
    for kind, dims, size in zip(kinds, shapes, sizes, strict=True):
        if size > (bounds.TEXTS_MAX if kind == T.STRING else bounds.COMPUTED_MAX) and node.op != "Constant":
            node.refuse(f"it makes a tensor of {size} elements for one row", "work_too_large")
        data = None if dims is None else fold(node, dims, kind)
        made.append(Value(kind, dims, size, data, node.op == "Constant"))
    return made


def _at_most(operator: Operator, node: Node) -> int:
    """A bound where shapes depend on the row: only operators that grow make more than all pairs of their inputs."""
    if operator.grows:
        node.refuse(BY_ROW, "size_unknown")
    sizes = [max(1, value.most) for value in node.inputs if value is not None]
    return max(prod(sizes), sum(sizes))


def _add(totals: Totals, operator: Operator, node: Node, outputs: Sequence[Value]) -> None:
    try:
        totals.work += operator.work(node, outputs)
    except Unknown:
        totals.work += prod(value.most for value in node.inputs if value is not None)
    for value in outputs:
        size = value.most * ITEM_BYTES.get(value.kind, 4)
        if not value.stored:
            totals.computed += value.most
            totals.largest = max(totals.largest, value.most)
        totals.largest_bytes = max(totals.largest_bytes, size)
    if totals.work > bounds.WORK_MAX or totals.computed > bounds.COMPUTED_TOTAL_MAX:
        text = (
            f"one row takes more than {bounds.WORK_MAX} multiply-adds or {bounds.COMPUTED_TOTAL_MAX} computed elements"
        )
        raise Refusal("work_too_large", node.where, text)
