"""Tree ensembles, checked before onnxruntime follows their indices: in range, without loops, every node reached.

Both spellings: TreeEnsembleClassifier/Regressor (ids within trees) and TreeEnsemble of ai.onnx.ml 5 (positions).
Source: Operators-ml.md.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from model_registry.admission.bounds import TREE_DEPTH_MAX, TREE_NODES_MAX
from model_registry.admission.tensors import STORED
from model_registry.admission.values import Dims, Node, Unknown, Value
from model_registry.admission.view import T

Whole = npt.NDArray[np.int64]
_MODES = {
    b"BRANCH_LEQ",
    b"BRANCH_LT",
    b"BRANCH_GTE",
    b"BRANCH_GT",
    b"BRANCH_EQ",
    b"BRANCH_NEQ",
    b"LEAF",
    b"BRANCH_MEMBER",
}
_LEAF = b"LEAF"


def check_ensemble(node: Node) -> None:
    """Check a TreeEnsembleClassifier or -Regressor; raises Refusal, or Unknown for an input of open width."""
    trees, ids = _whole(node, "nodes_treeids"), _whole(node, "nodes_nodeids")
    features = _whole(node, "nodes_featureids")
    modes = list(node.attributes.get("nodes_modes", ()))
    count = len(ids)
    if not 0 < count <= TREE_NODES_MAX:
        _bad(node, "there are no nodes, or too many")
    lengths = {len(trees), len(features), len(modes), _length(node, "nodes_values")}
    lengths |= {len(_whole(node, name)) for name in ("nodes_truenodeids", "nodes_falsenodeids")}
    optional = {_length(node, "nodes_hitrates"), _length(node, "nodes_missing_value_tracks_true")}
    if lengths != {count} or optional - {0, count}:
        _bad(node, "the nodes' lists are not equally long")
    if set(modes) - _MODES:
        _bad(node, "a node has an unknown mode")
    places = _Places(node, trees, ids)
    inner = np.flatnonzero(np.array([mode != _LEAF for mode in modes]))
    _features(node, features[inner])
    children = [
        places.find(trees[inner], _whole(node, name)[inner]) for name in ("nodes_truenodeids", "nodes_falsenodeids")
    ]
    rooted = np.ones(count, bool)
    for reached in children:
        rooted[reached] = False
    if _distinct(trees[rooted])[0].size != rooted.sum() or _distinct(trees)[0].size != rooted.sum():
        _bad(node, "a tree has not exactly one root")
    _follow(node, count, inner, children, np.flatnonzero(rooted))
    _targets(node, places)


def _targets(node: Node, places: "_Places") -> None:
    prefix = "class" if node.op == "TreeEnsembleClassifier" else "target"
    tree, at, target = (_whole(node, f"{prefix}_{part}") for part in ("treeids", "nodeids", "ids"))
    if {len(at), len(target), _length(node, f"{prefix}_weights")} != {len(tree)} or not len(tree):
        _bad(node, "the leaves' lists are not equally long, or empty")
    places.find(tree, at)
    most = ensemble_targets(node)
    if target.min() < 0 or target.max() >= most:
        _bad(node, f"a leaf's {prefix} is not one of {most}")
    if _length(node, "base_values") not in (0, 1, most):
        _bad(node, "there are not as many base values as targets")


def ensemble_targets(node: Node) -> int:
    """How many numbers a row gets."""
    if node.op == "TreeEnsembleClassifier":
        return labels(node)
    most = int(node.attributes.get("n_targets", 1))
    if not 0 < most <= TREE_NODES_MAX:
        _bad(node, "absurdly many targets")
    return most


def labels(node: Node) -> int:
    """How many classes a classifier names; raises Refusal where it names them twice or not at all."""
    counts = [_length(node, name) for name in node.attributes if name.startswith("classlabels_")]
    if len([c for c in counts if c]) != 1:
        node.refuse("a classifier has one list of class labels", "learning_invalid")
    return max(counts)


def check_tree_ensemble(node: Node) -> None:
    """Check a TreeEnsemble of ai.onnx.ml 5; raises Refusal, or Unknown for an input of open width."""
    features = _whole(node, "nodes_featureids")
    count, leaves = len(features), len(_whole(node, "leaf_targetids"))
    if not 0 < count <= TREE_NODES_MAX or not 0 < leaves <= TREE_NODES_MAX:
        _bad(node, "there are no nodes or leaves, or too many")
    names = (
        "nodes_splits",
        "nodes_modes",
        "nodes_truenodeids",
        "nodes_falsenodeids",
        "nodes_trueleafs",
        "nodes_falseleafs",
    )
    optional = {_length(node, "nodes_hitrates"), _length(node, "nodes_missing_value_tracks_true")}
    if {_length(node, name) for name in names} != {count} or optional - {0, count}:
        _bad(node, "the nodes' lists are not equally long")
    if _length(node, "leaf_weights") != leaves:
        _bad(node, "the leaves' lists are not equally long")
    _modes(node)
    _features(node, features)
    children, inner = [], []
    for side in ("true", "false"):
        to, leaf = _whole(node, f"nodes_{side}nodeids"), _whole(node, f"nodes_{side}leafs")
        if to.min() < 0 or (to >= np.where(leaf != 0, leaves, count)).any() or (leaf & ~1).any():
            _bad(node, "a branch leads to a node or leaf that is not there")
        inner.append(np.flatnonzero(leaf == 0))
        children.append(to[leaf == 0])
    roots, targets = _distinct(_whole(node, "tree_roots"))[0], _whole(node, "leaf_targetids")
    if not roots.size or roots[0] < 0 or roots[-1] >= count:
        _bad(node, "a root is not there")
    if targets.min() < 0 or targets.max() >= ensemble_targets(node):
        _bad(node, "a leaf's target is not there")
    _follow(node, count, np.concatenate(inner), [np.concatenate(children)], roots)


def _modes(node: Node) -> None:
    modes = node.attributes["nodes_modes"]
    if modes.data_type != T.UINT8:
        _bad(node, "modes are whole numbers of 8 bits")
    values = np.frombuffer(modes.raw_data, np.uint8) if modes.HasField("raw_data") else np.array(modes.int32_data)
    if values.min() < 0 or values.max() > 6:
        _bad(node, "a node has an unknown mode")
    members = node.attributes.get("membership_values")
    if (values == 6).any() and members is None:
        _bad(node, "a node asks for membership in a set that is not there")


class _Places:
    """Positions of nodes by (tree, id), each once."""

    def __init__(self, node: Node, trees: Whole, ids: Whole) -> None:
        self._node = node
        if trees.min() < 0 or ids.min() < 0 or trees.max() >= 2**31 or ids.max() >= 2**31:
            _bad(node, "an id is negative or absurd")
        keys = trees << 31 | ids
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]
        if (self._keys[1:] == self._keys[:-1]).any():
            _bad(node, "a node's id is given twice")

    def find(self, trees: Whole, ids: Whole) -> Whole:
        """Where those nodes stand; raises Refusal where one does not."""
        if not ids.size:
            return ids
        if trees.min() < 0 or ids.min() < 0 or trees.max() >= 2**31 or ids.max() >= 2**31:
            _bad(self._node, "an id is negative or absurd")
        keys = trees << 31 | ids
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        if (self._keys[at] != keys).any():
            _bad(self._node, "a branch or leaf names a node that is not there")
        found: Whole = self._order[at]
        return found


def _follow(node: Node, count: int, inner: Whole, children: Sequence[Whole], roots: Whole) -> None:
    """Peel the trees from their roots, level by level; what is left over lies in a loop or is not reached."""
    parents = np.concatenate([inner] * len(children)) if len(children) > 1 else inner
    reached = np.concatenate(children)
    order = np.argsort(parents, kind="stable")
    first = np.searchsorted(parents[order], np.arange(count + 1))
    edges, waiting = reached[order], np.bincount(reached, minlength=count)
    if waiting[roots].any():
        _bad(node, "a root has a parent")
    level, seen = roots, 0
    for _ in range(TREE_DEPTH_MAX):
        seen += level.size
        below = _edges_of(edges, first, level)
        if not below.size:
            break
        targets, times = _distinct(below)
        waiting[targets] -= times
        level = targets[waiting[targets] == 0]
    if seen != count:
        _bad(node, f"a loop, a node that no root leads to, or a path of more than {TREE_DEPTH_MAX} nodes")


def _edges_of(edges: Whole, first: Whole, level: Whole) -> Whole:
    sizes = first[level + 1] - first[level]
    total = int(sizes.sum())
    starts = np.repeat(first[level] - np.concatenate(([0], np.cumsum(sizes)[:-1])), sizes)
    below: Whole = edges[starts + np.arange(total)]
    return below


def _features(node: Node, features: Whole) -> None:
    if features.size and (features.min() < 0 or features.max() >= 2**31):
        _bad(node, "a feature id is negative or absurd")
    width = node.shape(0)[-1:]
    if features.size and width and features.max() >= width[0]:
        _bad(node, f"a node reads feature {features.max()} of a row of {width[0]}")


def ensemble_dims(node: Node) -> list[Dims]:
    """[rows, targets], after a classifier's labels [rows]."""
    dims = node.shape(0)
    rows = dims[0] if len(dims) > 1 else 1
    made = (rows, ensemble_targets(node))
    return [made] if node.op != "TreeEnsembleClassifier" else [(rows,), made][: node.outputs]


def ensemble_work(node: Node, outputs: Sequence[Value]) -> int:
    """At most every node of every tree, for each row; most take a path alone, which is not counted here."""
    rows = (node.value(0).dims or (node.value(0).most,))[0] if node.value(0).dims != () else 1
    name = "nodes_nodeids" if "nodes_nodeids" in node.attributes else "nodes_featureids"
    return len(node.attributes.get(name, ())) * rows + sum(v.most for v in outputs)


def _distinct(values: Whole) -> tuple[Whole, Whole]:
    """Distinct values in order, and how often each is there (np.unique imports modules late, where no files are)."""
    ordered = np.sort(values)
    first = np.flatnonzero(np.concatenate((np.ones(min(1, ordered.size), bool), ordered[1:] != ordered[:-1])))
    return ordered[first], np.diff(np.concatenate((first, [ordered.size])))


def _whole(node: Node, name: str) -> Whole:
    return np.array(node.attributes.get(name, ()), np.int64)


def _length(node: Node, name: str) -> int:
    """The length of a list, given as such or as a tensor; raises Refusal where it is given both ways."""
    plain, tensor = node.attributes.get(name, ()), node.attributes.get(f"{name}_as_tensor")
    tensor = plain if hasattr(plain, "dims") else tensor
    if tensor is None:
        return len(plain)
    if (plain is not tensor and len(plain)) or len(tensor.dims) != 1 or tensor.data_type not in STORED:
        _bad(node, f"{name} is given twice, or not as a list")
    return int(tensor.dims[0])


def _bad(node: Node, text: str) -> Any:
    node.refuse(text, "tree_invalid")
    raise Unknown
