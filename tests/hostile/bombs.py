"""Bombs: a few bytes that ask for memory or time."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tests.hostile.models import (
    FLOAT,
    INT64,
    Build,
    Hostile,
    node,
    sound,
    stored,
    with_nodes,
)


def _then_sum(*nodes: onnx.NodeProto, **members: Any) -> Build:
    """Nodes that make `big`, brought back to one number so that nothing shows at the output."""
    return with_nodes(*nodes, node("ReduceSum", ["big"], ["s"], keepdims=0), node("Add", ["score", "s"]), **members)


def _doubling(times: int) -> Build:
    names = ["score", *(f"d{i}" for i in range(times - 1)), "big"]
    return _then_sum(*(node("Concat", [a, a], [b], axis=1) for a, b in itertools.pairwise(names)))


def _outer(times: int) -> Build:
    """A vector times itself, reshaped, times itself."""
    nodes = [node("Expand", ["score", "wide"], ["v0"])]
    for i in range(times):
        column, row = f"c{i}", f"r{i}"
        nodes += [node("Reshape", [f"v{i}", "column"], [column]), node("Reshape", [f"v{i}", "row"], [row])]
        nodes.append(node("MatMul", [column, row], [f"v{i + 1}" if i < times - 1 else "big"]))
    shapes = [stored("wide", [1, 64]), stored("column", [-1, 1]), stored("row", [1, -1])]
    return _then_sum(*nodes, stored=shapes)


def _slow(_: Path) -> onnx.ModelProto:
    """Matrices that are computed, not stored, multiplied again and again."""
    nodes = [node("Expand", ["score", "square"], ["m0"])]
    nodes += [node("MatMul", [f"m{i}", f"m{i}"], [f"m{i + 1}"]) for i in range(6)]
    nodes += [node("ReduceSum", ["m6"], keepdims=0)]
    return sound(*nodes, stored=[stored("square", [512, 512])])


BOMBS = [
    Hostile(
        "constant_of_shape",
        "sixteen gigabytes of zeros",
        "work_too_large",
        _then_sum(node("ConstantOfShape", ["n"], ["big"]), stored=[stored("n", [2**32])]),
    ),
    Hostile(
        "constant_of_shape_modest",
        "a hundred megabytes, folded into the model as it loads",
        "work_too_large",
        _then_sum(node("ConstantOfShape", ["n"], ["big"]), stored=[stored("n", [25_000_000])]),
        True,
    ),
    Hostile(
        "constant_of_shape_many",
        "many zeros that are each small enough",
        "work_too_large",
        with_nodes(
            *(node("ConstantOfShape", ["n"], [f"z{i}"]) for i in range(12)),
            node("Sum", ["score", *(f"z{i}" for i in range(12))]),
            stored=[stored("n", [1, 4_000_000])],
        ),
        plain=True,
    ),
    Hostile(
        "expand",
        "one number expanded to a billion",
        "work_too_large",
        _then_sum(node("Expand", ["score", "n"], ["big"]), stored=[stored("n", [1, 2**30])]),
    ),
    Hostile(
        "expand_by_row",
        "a size that the row decides",
        "size_unknown",
        _then_sum(
            node("Cast", ["score"], ["c"], to=INT64),
            node("Reshape", ["c", "one"], ["n"]),
            node("Expand", ["score", "n"], ["big"]),
            stored=[stored("one", [1])],
        ),
        plain=True,
    ),
    Hostile(
        "one_hot",
        "a depth of two billion",
        "work_too_large",
        _then_sum(
            node("Cast", ["score"], ["c"], to=INT64),
            node("OneHot", ["c", "n", "v"], ["big"]),
            stored=[stored("n", [2**31 - 1]), stored("v", [0.0, 1.0], np.float32)],
        ),
    ),
    Hostile(
        "reshape_expand",
        "a shape worked out in nodes, so that no tensor holds it",
        "work_too_large",
        _then_sum(
            node("Mul", ["k", "k"], ["n"]), node("ConstantOfShape", ["n"], ["big"]), stored=[stored("k", [2**16])]
        ),
    ),
    Hostile("doubling", "thirty times twice as long", "work_too_large", _doubling(30)),
    Hostile("doubling_modest", "twenty-three times twice as long", "work_too_large", _doubling(23), plain=True),
    Hostile("outer_product", "a vector times itself until memory ends", "work_too_large", _outer(4)),
    Hostile("slow", "six products of large matrices for each row", "work_too_large", _slow, True),
    Hostile(
        "folded",
        "hours of arithmetic over stored weights, done while the model loads",
        "work_too_large",
        with_nodes(
            *(node("ReduceSum", ["T"], [f"r{i}"]) for i in range(200)),
            node("Sum", ["score", *(f"r{i}" for i in range(200))]),
            stored=[stored("T", np.zeros(2_000_000), np.float32)],
        ),
        plain=True,
    ),
    Hostile(
        "tile",
        "a tile of a billion",
        "work_too_large",
        _then_sum(node("Tile", ["score", "n"], ["big"]), stored=[stored("n", [1, 2**30])]),
    ),
    Hostile(
        "range",
        "all numbers up to a billion",
        "work_too_large",
        _then_sum(
            node("Range", ["a", "b", "c"], ["r"]),
            node("Cast", ["r"], ["big"], to=FLOAT),
            stored=[stored("a", 0), stored("b", 2**30), stored("c", 1)],
        ),
    ),
    Hostile(
        "pad",
        "a billion zeros around one number",
        "work_too_large",
        _then_sum(node("Pad", ["score", "n"], ["big"]), stored=[stored("n", [0, 0, 0, 2**30])]),
    ),
    Hostile(
        "resize",
        "an image of one pixel, enlarged",
        "operator_refused",
        _then_sum(node("Resize", ["score", "", "f"], ["big"]), stored=[stored("f", [1.0, 1e6], np.float32)]),
        plain=True,
    ),
    Hostile(
        "resize_modest",
        "enlarged so little that nothing shows",
        "operator_refused",
        with_nodes(node("Resize", ["score", "", "f"]), stored=[stored("f", [1.0, 2.0], np.float32)]),
        True,
    ),
    Hostile(
        "top_k",
        "a negative number of results",
        "node_invalid",
        _then_sum(node("TopK", ["score", "k"], ["big", "i"]), stored=[stored("k", [-5])]),
    ),
    Hostile(
        "einsum",
        "a sum over indices that never meet",
        "work_too_large",
        _then_sum(
            node("Expand", ["score", "n"], ["e"]),
            node("Einsum", ["e", "e", "e"], ["big"], equation="ab,cd,ef->bdf"),
            stored=[stored("n", [1, 1024])],
        ),
    ),
]
