"""Hostile graphs: bombs, chance, indices that lead out of bounds, values made twice, things that are no numbers."""

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
    tree_ensemble,
    trees,
    with_nodes,
)


def _then_sum(*nodes: onnx.NodeProto, **members: Any) -> Build:
    """Nodes that make `big`, brought back to one number so that nothing shows at the output."""
    return with_nodes(*nodes, node("ReduceSum", ["big"], ["s"], keepdims=0), node("Add", ["score", "s"]), **members)


def _doubling(times: int) -> Build:
    names = ["score", *(f"d{i}" for i in range(times - 1)), "big"]
    return _then_sum(*(node("Concat", [a, a], [b], axis=1) for a, b in zip(names, names[1:], strict=False)))


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
    return sound(*(node("Neg", [a], [b]) for a, b in zip(names, names[1:], strict=False)))


def _shaped(*shape: Any, kind: int = FLOAT) -> Build:
    return lambda _: sound(inputs=[helper.make_tensor_value_info("X", kind, list(shape))])


def _random(op: str, **attributes: Any) -> Build:
    return with_nodes(node(op, [], ["r"], shape=[1, 1], **attributes), node("Add", ["score", "r"]))


def _svm(**changes: Any) -> Build:
    told: dict[str, Any] = {
        "n_supports": 2,
        "support_vectors": [1.0] * 6,
        "coefficients": [1.0, 1.0],
        "rho": [0.0],
        "kernel_params": [1.0, 0.0, 3.0],
    }
    return alone(helper.make_node("SVMRegressor", ["X"], ["y"], domain=LEARNING, **{**told, **changes}))


def _learning(op: str, *inputs: str, stored: Any = (), **attributes: Any) -> Build:
    return alone(helper.make_node(op, list(inputs or ["X"]), ["y"], domain=LEARNING, **attributes), stored=stored)


def _chain(depth: int) -> Build:
    """A path of splits longer than any stack."""
    ids = list(range(2 * depth + 1))
    split = [i % 2 == 0 and i < 2 * depth for i in ids]
    return alone(
        trees(
            nodes_treeids=[0] * len(ids),
            nodes_nodeids=ids,
            nodes_featureids=[0] * len(ids),
            nodes_values=[0.0] * len(ids),
            nodes_modes=["BRANCH_LEQ" if branch else "LEAF" for branch in split],
            nodes_truenodeids=[i + 1 if branch else 0 for i, branch in zip(ids, split, strict=True)],
            nodes_falsenodeids=[i + 2 if branch else 0 for i, branch in zip(ids, split, strict=True)],
            target_treeids=[0],
            target_nodeids=[1],
            target_ids=[0],
            target_weights=[1.0],
        )
    )


_TRAINING = [stored(name, [1.0], np.float32) for name in ("scale", "bias", "mean", "var")]

GRAPHS = [
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
        lambda _: alone(node("ReduceSum", ["X"]), width=100_000)(_),
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
    Hostile(
        "tree_loop",
        "a branch that leads to itself",
        "tree_invalid",
        alone(trees(nodes_modes=["BRANCH_LEQ"] * 3, nodes_truenodeids=[1, 2, 1], nodes_falsenodeids=[2, 2, 1])),
    ),
    Hostile(
        "tree_feature",
        "a column that the row does not have",
        "tree_invalid",
        alone(trees(nodes_featureids=[1000, 0, 0])),
    ),
    Hostile(
        "tree_feature_negative", "a column before the row", "tree_invalid", alone(trees(nodes_featureids=[-5, 0, 0]))
    ),
    Hostile(
        "tree_branch",
        "a branch to a node that is not there",
        "tree_invalid",
        alone(trees(nodes_truenodeids=[77, 0, 0])),
    ),
    Hostile("tree_target", "a leaf that writes behind the output", "tree_invalid", alone(trees(target_ids=[0, 4000]))),
    Hostile("tree_targets_many", "four billion targets", "tree_invalid", alone(trees(n_targets=2**32))),
    Hostile("tree_lengths", "lists of different lengths", "tree_invalid", alone(trees(nodes_values=[0.5]))),
    Hostile(
        "tree_mode",
        "a comparison that does not exist",
        "tree_invalid",
        alone(trees(nodes_modes=["BRANCH_EVIL", "LEAF", "LEAF"])),
    ),
    Hostile(
        "tree_unreached",
        "nodes that no root leads to",
        "tree_invalid",
        alone(trees(nodes_falsenodeids=[1, 0, 0])),
        True,
    ),
    Hostile("tree_deep", "a path of ten thousand splits", "tree_invalid", _chain(10_000), plain=True),
    Hostile("tree5_loop", "a branch to its own root", "tree_invalid", alone(tree_ensemble(nodes_trueleafs=[0]), ml=5)),
    Hostile(
        "tree5_leaf", "a leaf that is not there", "tree_invalid", alone(tree_ensemble(nodes_falsenodeids=[9]), ml=5)
    ),
    Hostile("tree5_root", "a root that is not there", "tree_invalid", alone(tree_ensemble(tree_roots=[12]), ml=5)),
    Hostile(
        "tree5_target",
        "a leaf that writes behind the output",
        "tree_invalid",
        alone(tree_ensemble(leaf_targetids=[0, 99]), ml=5),
    ),
    Hostile("svm_vectors", "fewer support vectors than are read", "learning_invalid", _svm(support_vectors=[1.0])),
    Hostile("svm_count", "more support vectors than there are", "learning_invalid", _svm(n_supports=1000)),
    Hostile("svm_kernel", "a kernel without parameters", "learning_invalid", _svm(kernel_params=[1.0])),
    Hostile(
        "linear_short",
        "fewer coefficients than columns",
        "learning_invalid",
        _learning("LinearRegressor", coefficients=[1.0]),
    ),
    Hostile(
        "linear_labels",
        "more classes than coefficients",
        "learning_invalid",
        alone(
            helper.make_node(
                "LinearClassifier",
                ["X"],
                ["label", "y"],
                domain=LEARNING,
                coefficients=[1.0] * 3,
                intercepts=[0.0],
                classlabels_ints=[0, 1, 2, 3],
            )
        ),
    ),
    Hostile(
        "scaler_short",
        "two offsets for three columns",
        "learning_invalid",
        _learning("Scaler", offset=[0.0, 0.0], scale=[1.0, 1.0]),
    ),
    Hostile(
        "imputer_both",
        "two lists of stand-ins",
        "learning_invalid",
        _learning("Imputer", imputed_value_floats=[0.0], imputed_value_int64s=[0]),
    ),
    Hostile(
        "extract_outside",
        "a column that the row does not have",
        "learning_invalid",
        _learning("ArrayFeatureExtractor", "X", "i", stored=[stored("i", [1000])]),
    ),
    Hostile(
        "encoder_uneven",
        "more keys than values",
        "learning_invalid",
        _learning("LabelEncoder", keys_floats=[0.0, 1.0], values_floats=[1.0]),
    ),
    Hostile(
        "one_hot_bomb",
        "a hundred thousand categories for each of many columns",
        "work_too_large",
        alone(
            node("OneHotEncoder", ["X"], ["h"], LEARNING, cats_int64s=list(range(100_000))),
            node("ReduceSum", ["h"]),
            width=200,
            kind=INT64,
        ),
        plain=True,
    ),
    Hostile(
        "vectorizer_widths",
        "declared widths beyond the inputs",
        "learning_invalid",
        _learning("FeatureVectorizer", inputdimensions=[1_000_000_000]),
    ),
]
