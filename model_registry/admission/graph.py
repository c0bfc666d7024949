"""The graph as a whole: each value made once, in an order, from what is there; map tails told apart from the rest."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

import onnx

from model_registry.admission.view import LEARNING, Refusal, clip, domain_of, node_place
from model_registry.errors import Reason

MAPS = "maps come from ZipMap alone, as an output of the graph that nothing reads; or convert with zipmap=False"


@dataclass(frozen=True)
class Order:
    """Nodes in an order in which they can run, and the map tails beside them.

    Attributes:
        nodes: (position in the graph, node), each after those it reads from, without the tails.
        tails: output of a ZipMap → the tensor that it makes maps of.
    """

    nodes: tuple[tuple[int, onnx.NodeProto], ...]
    tails: dict[str, str]


def graph_reasons(graph: onnx.GraphProto) -> Iterator[Reason]:
    """Say which values are made twice, never, or from nothing."""
    stored = [tensor.name for tensor in graph.initializer]
    for name in _doubled(stored):
        yield Reason("initializer_doubled", f"initializer {clip(name)}", "the name is used twice")
    if "" in stored:
        yield Reason("name_invalid", "initializer", "an initializer has no name")
    made = [name for node in graph.node for name in node.output if name]
    given = {value.name for value in graph.input} | set(stored)
    for name in dict.fromkeys([*_doubled(made), *(name for name in made if name in given)]):
        yield Reason("value_doubled", f"value {clip(name)}", "more than one node, input or initializer makes it")
    there = given.union(made)
    for position, node in enumerate(graph.node):
        for name in node.input:
            if name and name not in there:
                text = f"it reads {clip(name)!r}, which nothing makes"
                yield Reason("value_undefined", node_place(position, node), text)
    names = [value.name for value in graph.output]
    for name in _doubled(names):
        yield Reason("output_missing", f"output {clip(name)}", "the graph has it more than once")
    for name in names:
        if name not in there:
            yield Reason("value_undefined", f"output {clip(name)}", "nothing makes it")


def _doubled(names: Sequence[str]) -> list[str]:
    return [name for name, times in Counter(names).items() if times > 1]


def order(graph: onnx.GraphProto) -> Order:
    """Sort the nodes; raises Refusal for a loop, or a ZipMap that is no tail. Values are made once and exist."""
    tails = _tails(graph)
    nodes = [(i, node) for i, node in enumerate(graph.node) if not is_zip_map(node)]
    makers = {name: i for i, node in nodes for name in node.output if name}
    missing = {i: len({makers[name] for name in node.input if name in makers}) for i, node in nodes}
    readers: dict[int, set[int]] = {i: set() for i, _ in nodes}
    for i, node in nodes:
        for name in node.input:
            if name in makers:
                readers[makers[name]].add(i)
    ready, sorted_ = [i for i, _ in nodes if not missing[i]], []
    while ready:
        at = heappop(ready)  # as the exporter had them, wherever that is an order
        sorted_.append((at, graph.node[at]))
        for reader in readers[at]:
            missing[reader] -= 1
            if not missing[reader]:
                heappush(ready, reader)
    if len(sorted_) != len(nodes):
        left = next(i for i, _ in nodes if missing[i])
        raise Refusal("graph_cycle", node_place(left, graph.node[left]), "it reads what depends on itself")
    return Order(tuple(sorted_), tails)


def is_zip_map(node: onnx.NodeProto) -> bool:
    """Whether a node makes a sequence of maps."""
    return node.op_type == "ZipMap" and domain_of(node.domain) == LEARNING


def _tails(graph: onnx.GraphProto) -> dict[str, str]:
    outputs = {value.name for value in graph.output}
    read = {name for node in graph.node for name in node.input}
    tails = {}
    for position, node in enumerate(graph.node):
        if is_zip_map(node):
            if len(node.input) != 1 or len(node.output) != 1 or node.output[0] in read or node.output[0] not in outputs:
                raise Refusal("zipmap_inside", node_place(position, node), MAPS)
            tails[node.output[0]] = node.input[0]
    return tails


def needed(nodes: Sequence[tuple[int, onnx.NodeProto]], output: str) -> list[onnx.NodeProto]:
    """The nodes that an output depends on, in their order."""
    wanted, kept = {output}, []
    for _, node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(name for name in node.input if name)
    return kept[::-1]
