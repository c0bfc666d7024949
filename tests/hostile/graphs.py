"""Hostile graphs: chance, values made twice or never, things that are no numbers."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from tests.hostile.models import (
    FLOAT,
    INT64,
    LEARNING,
    STRING,
    Build,
    Hostile,
    alone,
    changed,
    node,
    sound,
    stored,
    with_nodes,
)


def _rename(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = "score"
    model.graph.output[0].name = "score"


def _no_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "elsewhere"


def _no_input(model: onnx.ModelProto) -> None:
    del model.graph.input[:]
    model.graph.initializer.append(stored("X", [[1.0, 2.0, 3.0]], np.float32))


def _cycle(_: Path) -> onnx.ModelProto:
    return sound(node("Add", ["score", "b"], ["a"]), node("Identity", ["a"], ["b"]), node("Identity", ["b"]))


def _typed(kind: str) -> Build:
    def build(_: Path) -> onnx.ModelProto:
        tensor = helper.make_tensor_type_proto(FLOAT, [None, 3])
        types = {
            "sequence": helper.make_sequence_type_proto(tensor),
            "optional": helper.make_optional_type_proto(tensor),
            "map": helper.make_map_type_proto(STRING, helper.make_tensor_type_proto(FLOAT, [])),
        }
        return sound(inputs=[helper.make_value_info("X", types[kind])])

    return build


def _zip_map_read(_: Path) -> onnx.ModelProto:
    zipped = node("ZipMap", ["score"], ["maps"], LEARNING, classlabels_int64s=[0])
    return sound(zipped, node("Identity", ["maps"]))


def _dict_vectorizer(_: Path) -> onnx.ModelProto:
    given = helper.make_value_info("X", helper.make_map_type_proto(STRING, helper.make_tensor_type_proto(FLOAT, [])))
    vectorize = node("DictVectorizer", ["X"], ["v"], LEARNING, string_vocabulary=["a", "b", "c"])
    graph = helper.make_graph([vectorize], "g", [given], [helper.make_tensor_value_info("v", FLOAT, None)])
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(LEARNING, 3)], ir_version=9
    )


def _many_nodes(_: Path) -> onnx.ModelProto:
    names = ["score", *(f"n{i}" for i in range(12_000)), "y"]
    return sound(*(node("Neg", [a], [b]) for a, b in itertools.pairwise(names)))


def _shaped(*shape: Any, kind: int = FLOAT) -> Build:
    return lambda _: sound(inputs=[helper.make_tensor_value_info("X", kind, list(shape))])


def _random(op: str, **attributes: Any) -> Build:
    return with_nodes(node(op, [], ["r"], shape=[1, 1], **attributes), node("Add", ["score", "r"]))


_TRAINING = [stored(name, [1.0], np.float32) for name in ("scale", "bias", "mean", "var")]

GRAPHS = [
    Hostile("random_normal", "another answer each time", "operator_refused", _random("RandomNormal"), plain=True),
    Hostile(
        "random_seeded", "the same with a seed", "operator_refused", _random("RandomUniform", seed=1.0), plain=True
    ),
    Hostile(
        "random_like",
        "noise in the score's shape",
        "operator_refused",
        with_nodes(node("RandomNormalLike", ["score"])),
        True,
    ),
    Hostile(
        "bernoulli",
        "a coin",
        "operator_refused",
        with_nodes(node("Sigmoid", ["score"], ["p"]), node("Bernoulli", ["p"])),
        True,
    ),
    Hostile(
        "multinomial",
        "a draw of classes",
        "operator_refused",
        with_nodes(node("Multinomial", ["score"], dtype=INT64), kind=INT64),
        True,
    ),
    Hostile(
        "dropout_training",
        "dropout that stays on",
        "training_mode",
        with_nodes(
            node("Dropout", ["score", "r", "t"]), stored=[stored("r", 0.5, np.float32), stored("t", True, np.bool_)]
        ),
        True,
    ),
    Hostile(
        "dropout_by_row",
        "dropout that the row switches on",
        "training_mode",
        with_nodes(
            node("Greater", ["score", "zero"], ["b"]),
            node("Reshape", ["b", "none"], ["t"]),
            node("Dropout", ["score", "r", "t"]),
            stored=[stored("r", 0.5, np.float32), stored("zero", [0.0], np.float32), stored("none", [], np.int64)],
        ),
        plain=True,
    ),
    Hostile(
        "batch_norm_training",
        "statistics that learn from the row",
        "training_mode",
        with_nodes(
            node("BatchNormalization", ["score", "scale", "bias", "mean", "var"], ["y", "m2", "v2"], training_mode=1),
            stored=_TRAINING,
        ),
        True,
    ),
    Hostile(
        "sequence_operators",
        "tensors in a sequence",
        "operator_refused",
        with_nodes(
            node("SequenceConstruct", ["score"], ["s"]), node("SequenceAt", ["s", "n"]), stored=[stored("n", 0)]
        ),
        True,
    ),
    Hostile(
        "optional_operators",
        "a value that may not be there",
        "operator_refused",
        with_nodes(node("Optional", ["score"], ["o"]), node("OptionalGetElement", ["o"]), opset=18),
        True,
    ),
    Hostile(
        "text_doubling",
        "text that grows with every node",
        "operator_refused",
        with_nodes(node("Cast", ["score"], ["t"], to=STRING), node("StringConcat", ["t", "t"]), opset=20, kind=STRING),
        True,
    ),
    Hostile(
        "text_expand",
        "a long category copied a million times",
        "work_too_large",
        with_nodes(
            node("Expand", ["t", "n"], ["y"]),
            stored=[
                onnx.TensorProto(name="t", data_type=STRING, dims=[1], string_data=[b"x" * 4000]),
                stored("n", [1_000_000]),
            ],
            kind=STRING,
        ),
    ),
    Hostile(
        "tf_idf",
        "text taken apart",
        "operator_refused",
        with_nodes(
            node("Cast", ["score"], ["c"], to=INT64),
            node(
                "TfIdfVectorizer",
                ["c"],
                max_gram_length=1,
                max_skip_count=0,
                min_gram_length=1,
                mode="TF",
                ngram_counts=[0],
                ngram_indexes=[0],
                pool_int64s=[1],
            ),
        ),
        True,
    ),
    Hostile(
        "quantize",
        "eight-bit weights",
        "operator_refused",
        with_nodes(
            node("QuantizeLinear", ["score", "s"], ["q"]),
            node("DequantizeLinear", ["q", "s"]),
            stored=[stored("s", 0.1, np.float32)],
        ),
        True,
    ),
    Hostile(
        "convolution",
        "an operator nobody needs for a table",
        "operator_refused",
        with_nodes(
            node("Unsqueeze", ["score", "ax"], ["u"]),
            node("Conv", ["u", "k"]),
            stored=[stored("ax", [0]), stored("k", [[[1.0]]], np.float32)],
        ),
        True,
    ),
    Hostile("sequence_input", "an input that is a sequence", "input_not_tensor", _typed("sequence")),
    Hostile("optional_input", "an input that may be left out", "input_not_tensor", _typed("optional")),
    Hostile("map_input", "an input that is a dictionary", "input_not_tensor", _typed("map")),
    Hostile("dict_vectorizer", "the same with the operator that reads it", "operator_refused", _dict_vectorizer),
    Hostile("zipmap_inside", "maps that are read again", "zipmap_inside", _zip_map_read),
    Hostile(
        "text_output",
        "a score that is text",
        "output_not_number",
        with_nodes(node("Cast", ["score"], to=STRING), kind=STRING),
        True,
    ),
    Hostile("many_inputs_rows", "ten rows at once", "input_shape", _shaped(10, 3), plain=True),
    Hostile("cube_input", "three axes", "input_shape", _shaped(None, 1, 3), plain=True),
    Hostile(
        "wide_input",
        "more columns than a manifest can name",
        "input_shape",
        alone(node("ReduceSum", ["X"]), width=100_000),
        True,
    ),
    Hostile(
        "absurd_output",
        "a declared output of 2^50 elements",
        "shape_refused",
        changed(lambda m: m.graph.output[0].CopyFrom(helper.make_tensor_value_info("score", FLOAT, [1, 2**50]))),
        plain=True,
    ),
    Hostile(
        "no_input",
        "an answer that does not depend on anybody",
        "input_missing",
        changed(_no_input),
        True,
    ),
    Hostile("value_twice", "one name for two values", "value_doubled", changed(_rename, node("Neg", ["score"]))),
    Hostile(
        "initializer_twice",
        "two tensors of one name",
        "initializer_doubled",
        changed(lambda m: m.graph.initializer.append(stored("W", [[0.0]] * 3, np.float32))),
    ),
    Hostile(
        "input_shadowed",
        "a node that makes the input",
        "value_doubled",
        changed(lambda m: m.graph.node.append(node("Neg", ["score"], ["X"]))),
    ),
    Hostile(
        "input_twice",
        "one input listed twice",
        "input_unbound",
        changed(lambda m: m.graph.input.append(m.graph.input[0])),
    ),
    Hostile(
        "undefined", "a value that nothing makes", "value_undefined", with_nodes(node("Add", ["score", "nowhere"]))
    ),
    Hostile("output_undefined", "an output that nothing makes", "value_undefined", changed(_no_output)),
    Hostile("cycle", "two nodes that wait for each other", "graph_cycle", _cycle),
    Hostile("many_nodes", "twelve thousand nodes", "model_too_large", _many_nodes, True),
    Hostile(
        "many_outputs",
        "a hundred outputs",
        "model_too_large",
        changed(
            lambda m: m.graph.output.extend(helper.make_tensor_value_info(f"o{i}", FLOAT, None) for i in range(100))
        ),
    ),
    Hostile(
        "many_initializers",
        "fifty thousand tensors",
        "model_too_large",
        changed(lambda m: m.graph.initializer.extend(stored(f"i{i}", 0) for i in range(50_000))),
        True,
    ),
]
