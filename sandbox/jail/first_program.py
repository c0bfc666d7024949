"""A small program of our own, loaded once in the zygote, so that what libraries set up at first use is shared.

onnx registers its operators, onnxruntime its kernels, CEL its types, and the interpreter adapts its instructions when
they are first used: some 12 MB and 30 ms, which every template would pay again, and every child again copy.
"""

import json

import numpy as np
import numpy.typing as npt
from heixia.registry.v1 import bundle_pb2
from onnx import TensorProto, helper, numpy_helper

from sandbox.jail.worker import Scorer

_RUNS = 32  # after so many the interpreter stops rewriting its instructions
_RULES = b"""\
version: 1
exclusions: [{name: a, when: a.b.flag, missing: skip}]
cutoffs: [{name: b, when: model.score > 1000.0}]
caps: [{name: c, limit: a.b.number * 0.1 + 1.0, missing: decline}, {name: d, limit: 3000000.0 * (1.0 - model.score)}]
"""


def rehearse() -> None:
    """Load and run the program; raises what a defect of ours raises."""
    scorer = Scorer.load(_manifest(), _content(), {})
    for _ in range(_RUNS):
        scorer.limit(np.array([1.0, 0.0]).tobytes())
        scorer.limit(np.array([np.nan, 1.0]).tobytes())


def _manifest() -> bytes:
    names = ("a.b.number", "a.b.flag")
    kinds = ("number", "boolean")
    fields = [{"name": name, "type": kind, "missing": "nan"} for name, kind in zip(names, kinds, strict=True)]
    inputs = [{"name": "x", "dtype": "float64", "fields": names}]
    output = {"name": "score", "index": 0}
    return json.dumps({"fields": fields, "inputs": inputs, "output": output, "levels": [0, 1, 2]}).encode()


def _content() -> bytes:
    tree = helper.make_node(
        "TreeEnsemble",
        ["x"],
        ["sum"],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function=1,
        post_transform=0,
        tree_roots=[0],
        nodes_featureids=[0],
        nodes_modes=_tensor("modes", np.zeros(1, np.uint8)),
        nodes_splits=_tensor("splits", np.zeros(1)),
        nodes_missing_value_tracks_true=[1],
        nodes_truenodeids=[0],
        nodes_trueleafs=[1],
        nodes_falsenodeids=[1],
        nodes_falseleafs=[1],
        leaf_targetids=[0, 0],
        leaf_weights=_tensor("weights", np.array([0.0, 1.0])),
    )
    shape = (helper.make_tensor_value_info(name, TensorProto.DOUBLE, [1, n]) for name, n in (("x", 2), ("score", 1)))
    graph = helper.make_graph([tree, helper.make_node("Sigmoid", ["sum"], ["score"])], "g", [next(shape)], [*shape])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 5)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return bundle_pb2.BundleContent(model=model.SerializeToString(), rules=_RULES).SerializeToString()


def _tensor(name: str, values: npt.NDArray[np.generic]) -> TensorProto:
    return numpy_helper.from_array(values, name)
