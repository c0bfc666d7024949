"""What is known of a value before anything runs: element type, shape, how many elements at most, small contents.

With one row of known width nearly every shape of a real model is a plain number; where one is not, the bound is kept.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from model_registry.admission.view import Refusal, T

Dims = tuple[int, ...]
Array = npt.NDArray[Any]


class Unknown(Exception):
    """A shape that depends on what the row holds."""


@dataclass(frozen=True)
class Value:
    """A value of the graph.

    Attributes:
        kind: TensorProto element type.
        dims: shape; None where it depends on the row.
        most: elements at most.
        data: contents, where they are few and follow from the model alone.
        stored: whether it is an initializer or constant, which costs nothing for each row.
    """

    kind: int
    dims: Dims | None
    most: int
    data: Array | None = None
    stored: bool = False

    @property
    def shape(self) -> Dims:
        """The shape; raises Unknown."""
        if self.dims is None:
            raise Unknown
        return self.dims


@dataclass
class Node:
    """A node as a rule sees it."""

    op: str
    where: str
    version: int
    inputs: Sequence[Value | None]
    attributes: Mapping[str, Any]
    outputs: int

    def value(self, position: int) -> Value:
        """An input that the operator needs; raises Refusal where it is left out."""
        if position >= len(self.inputs) or (found := self.inputs[position]) is None:
            raise Refusal("node_invalid", self.where, f"input {position} is missing")
        return found

    def has(self, position: int) -> bool:
        """Whether an optional input is given."""
        return position < len(self.inputs) and self.inputs[position] is not None

    def shape(self, position: int) -> Dims:
        """The shape of an input; raises Unknown."""
        return self.value(position).shape

    def known(self, position: int) -> list[int]:
        """The contents of an input as whole numbers; raises Unknown where they depend on the row."""
        data = self.value(position).data
        if data is None:
            raise Unknown
        return [int(number) for number in data.reshape(-1)]

    def axis(self, rank: int, default: int = 0) -> int:
        """The attribute `axis`, counted from the front; raises Refusal where there is none such."""
        return self.from_front(self.attributes.get("axis", default), rank)

    def from_front(self, axis: int, rank: int) -> int:
        """An axis counted from the front; raises Refusal where there is none such."""
        if not -rank <= axis < max(rank, 1):
            self.refuse("the axis does not exist")
        return axis % max(rank, 1)

    def refuse(self, text: str, code: str = "node_invalid") -> None:
        """Raise a Refusal of this node."""
        raise Refusal(code, self.where, text)


DimsRule = Callable[[Node], Sequence[Dims]]
KindRule = Callable[[Node], Sequence[int]]
WorkRule = Callable[[Node, Sequence[Value]], int]


def visits(node: Node, outputs: Sequence[Value]) -> int:
    """The work of most operators: each element that is read or computed."""
    return sum(v.most for v in outputs) + sum(v.most for v in node.inputs if v is not None)


def picks(node: Node, outputs: Sequence[Value]) -> int:
    """The work of operators that pick: of a large table they read what they give."""
    return sum(v.most for v in outputs) + sum(v.most for v in node.inputs[1:] if v is not None)


@dataclass(frozen=True)
class Operator:
    """An allowed operator.

    Attributes:
        dims: shapes of the outputs, or Unknown raised.
        kinds: element types of the outputs.
        grows: its size is given by a value: refused where that depends on the row.
        check: raises Refusal where attributes or inputs contradict each other.
        work: multiply-adds or element visits.
    """

    dims: DimsRule
    kinds: KindRule = lambda node: [node.value(0).kind]
    grows: bool = False
    check: Callable[[Node], None] | None = None
    work: WorkRule = visits


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes by name, as numbers, bytes, tensors or repeated ones; the message has been checked."""
    members = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints", 8: "strings"}
    return {a.name: getattr(a, members[a.type]) for a in node.attribute if a.type in members}


def known_value(kind: int, data: Array) -> Value:
    """A value whose contents are known."""
    return Value(kind, data.shape, data.size, data)


def same(node: Node) -> list[Dims]:
    """As the first input."""
    return [node.shape(0)] * node.outputs


def kind_is(*kinds: int) -> KindRule:
    """Fixed element types; the last stands for all that follow."""
    return lambda node: [kinds[min(i, len(kinds) - 1)] for i in range(node.outputs)]


def as_input(position: int) -> KindRule:
    """Every output of the element type of one input."""
    return lambda node: [node.value(position).kind] * node.outputs


def broadcast(node: Node, shapes: Sequence[Dims]) -> Dims:
    """The shape of an element-wise operation; raises Refusal where shapes do not fit."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        node.refuse("the shapes do not broadcast")
        raise


def elements(dims: Dims) -> int:
    """How many elements a shape has, as an exact whole number."""
    return prod(dims)


@dataclass
class Totals:
    """What a whole graph asks for, for one row."""

    work: int = 0
    computed: int = 0
    largest: int = 0
    largest_bytes: int = 0
    values: dict[str, Value] = field(default_factory=dict)


ITEM_BYTES: dict[int, int] = {T.DOUBLE: 8, T.INT64: 8, T.UINT64: 8, T.STRING: 32, T.BOOL: 1, T.UINT8: 1, T.INT8: 1}
