"""Allowed operators of ai.onnx.ml, and what their lists must agree on before onnxruntime reads beyond an end.

Source: Operators-ml.md (github.com/onnx/onnx), versions 1 to 5.
"""

from collections.abc import Callable, Sequence

from model_registry.admission import trees
from model_registry.admission.values import (
    Dims,
    DimsRule,
    Node,
    Operator,
    Value,
    as_input,
    elements,
    kind_is,
    same,
    visits,
)
from model_registry.admission.view import T


def _count(node: Node, name: str) -> int:
    value = node.attributes.get(name, ())
    return elements(tuple(value.dims)) if hasattr(value, "dims") else len(value)


def _width(node: Node) -> int:
    dims = node.shape(0)
    return dims[-1] if dims else 1


def _rows(node: Node) -> int:
    dims = node.shape(0)
    return elements(dims[:-1])


def _agree(node: Node, holds: bool, text: str) -> None:
    if not holds:
        node.refuse(text, "learning_invalid")


def _one_or_width(*names: str) -> Callable[[Node], None]:
    def check(node: Node) -> None:
        width = _width(node)
        for name in names:
            _agree(node, _count(node, name) in (0, 1, width), f"{name} has neither one nor {width} numbers")

    return check


def _imputer(node: Node) -> None:
    floats, wholes = _count(node, "imputed_value_floats"), _count(node, "imputed_value_int64s")
    _agree(node, bool(floats) != bool(wholes), "exactly one list of stand-ins")
    _one_or_width("imputed_value_floats", "imputed_value_int64s")(node)


def _linear_classifier(node: Node) -> None:
    width, count, bias = _width(node), _count(node, "coefficients"), _count(node, "intercepts")
    classes = trees.labels(node)
    rows = count // width if width else 0
    _agree(node, count > 0 and rows * width == count, f"{count} coefficients are no rows of {width}")
    _agree(node, bias in (0, rows), f"{bias} intercepts for {rows} rows of coefficients")
    _agree(node, classes == rows or (rows == 1 and classes == 2), f"{classes} labels for {rows} rows of coefficients")


def _linear_regressor(node: Node) -> None:
    targets, count, bias = node.attributes.get("targets", 1), _count(node, "coefficients"), _count(node, "intercepts")
    _agree(node, count > 0 and targets > 0 and targets * _width(node) == count, "coefficients are not targets x fields")
    _agree(node, bias in (0, targets), "there are not as many intercepts as targets")


def _svm_common(node: Node, supports: int) -> int:
    width, vectors, factors = _width(node), _count(node, "support_vectors"), _count(node, "coefficients")
    _agree(node, _count(node, "kernel_params") in (0, 3), "a kernel has three parameters")
    _agree(node, vectors == supports * width, f"{vectors} numbers are not {supports} support vectors of {width}")
    _agree(node, factors > 0, "no coefficients")
    return factors


def _svm_classifier(node: Node) -> None:
    per_class, classes = list(node.attributes.get("vectors_per_class", ())), trees.labels(node)
    _agree(node, all(n >= 0 for n in per_class), "a negative number of support vectors")
    supports, rho = sum(per_class), _count(node, "rho")
    factors = _svm_common(node, supports)
    pairs = classes * (classes - 1) // 2
    if supports:
        _agree(node, len(per_class) == classes, "there are not as many counts of support vectors as classes")
        _agree(node, factors == supports * (classes - 1), "coefficients are not support vectors x other classes")
        _agree(node, rho == pairs, f"{rho} offsets for {pairs} pairs of classes")
        for name in ("prob_a", "prob_b"):
            _agree(node, _count(node, name) in (0, pairs), f"{name} is not one number a pair of classes")
        _agree(node, _count(node, "prob_a") == _count(node, "prob_b"), "prob_a without prob_b")
    else:
        _agree(
            node, factors % _width(node) == 0 and factors // _width(node) in (1, classes), "coefficients are no rows"
        )
        _agree(node, rho >= 1, "no offset")


def _svm_regressor(node: Node) -> None:
    supports = node.attributes.get("n_supports", 0)
    _agree(node, supports >= 0, "a negative number of support vectors")
    factors = _svm_common(node, supports)
    _agree(node, factors == (supports or _width(node)), "there are not as many coefficients as support vectors")
    _agree(node, _count(node, "rho") >= 1, "no offset")


def _label_encoder(node: Node) -> None:
    keys = [_count(node, name) for name in node.attributes if name.startswith("keys_")]
    values = [_count(node, name) for name in node.attributes if name.startswith("values_")]
    if "classes_strings" in node.attributes:  # version 1: a list of texts, numbered from nought
        _agree(node, not keys and not values, "both lists of classes and keys")
    else:
        _agree(
            node, len(keys) == len(values) == 1 and keys == values and keys[0] > 0, "keys and values differ in number"
        )


def _label_kind(node: Node) -> list[int]:
    kinds = {"values_strings": T.STRING, "values_int64s": T.INT64, "values_floats": T.FLOAT}
    if "values_tensor" in node.attributes:
        return [node.attributes["values_tensor"].data_type]
    named = [kind for name, kind in kinds.items() if name in node.attributes]
    return [named[0] if named else _other_kind(node)]


def _other_kind(node: Node) -> int:
    return T.INT64 if node.value(0).kind == T.STRING else T.STRING


def _category_mapper(node: Node) -> None:
    _agree(node, 0 < _count(node, "cats_int64s") == _count(node, "cats_strings"), "categories differ in number")


def _categories(node: Node) -> int:
    counts = (_count(node, "cats_int64s"), _count(node, "cats_strings"))
    _agree(node, sorted(map(bool, counts)) == [False, True], "exactly one list of categories")
    return max(counts)


def _extract(node: Node) -> list[Dims]:
    dims, index = node.shape(0), node.value(1)
    width, data = _width(node), index.data
    if data is not None and data.size:
        _agree(node, data.min() >= 0 and data.max() < width, f"a position is not one of {width}")
    count = index.most if index.dims is None else elements(index.shape)
    return [(*dims[:-1], count) if len(dims) > 1 else (1, count)]


def _vectorize(node: Node) -> list[Dims]:
    widths = list(node.attributes.get("inputdimensions", ()))
    found = [v.shape for v in node.inputs if v is not None]
    _agree(node, widths == [dims[-1] if dims else 1 for dims in found], "declared widths are not those of the inputs")
    return [(found[0][0] if len(found[0]) > 1 else 1, sum(widths))]


def _scores(node: Node) -> list[Dims]:
    return [(_rows(node),), (_rows(node), _score_count(node))][: node.outputs]


def _score_count(node: Node) -> int:
    classes = trees.labels(node)
    pairs = classes * (classes - 1) // 2
    # without calibration a support vector machine gives one score for each pair of classes
    raw = (
        node.op == "SVMClassifier" and not _count(node, "prob_a") and sum(node.attributes.get("vectors_per_class", ()))
    )
    return max(classes, pairs) if raw else classes


def _score_kinds(node: Node) -> list[int]:
    label: int = T.STRING if _count(node, "classlabels_strings") else T.INT64
    return [label, T.FLOAT][: node.outputs]


def _listed_work(node: Node, outputs: Sequence[Value]) -> int:
    rows = node.value(0).most if node.value(0).dims is None else _rows(node)
    return visits(node, outputs) + rows * (_count(node, "coefficients") + _count(node, "support_vectors"))


def _sums(name: str) -> DimsRule:
    return lambda node: [(_rows(node), int(node.attributes.get(name, 1)))]


LEARNING_OPERATORS: dict[str, Operator] = {
    "ArrayFeatureExtractor": Operator(_extract),
    "Binarizer": Operator(same),
    "CategoryMapper": Operator(same, lambda node: [_other_kind(node)], check=_category_mapper),
    "FeatureVectorizer": Operator(_vectorize, kind_is(T.FLOAT)),
    "Imputer": Operator(same, check=_imputer),
    "LabelEncoder": Operator(same, _label_kind, check=_label_encoder),
    "LinearClassifier": Operator(_scores, _score_kinds, check=_linear_classifier, work=_listed_work),
    "LinearRegressor": Operator(_sums("targets"), kind_is(T.FLOAT), check=_linear_regressor, work=_listed_work),
    "Normalizer": Operator(same, kind_is(T.FLOAT)),
    "OneHotEncoder": Operator(lambda node: [(*node.shape(0), _categories(node))], kind_is(T.FLOAT)),
    "SVMClassifier": Operator(_scores, _score_kinds, check=_svm_classifier, work=_listed_work),
    "SVMRegressor": Operator(
        lambda node: [(_rows(node), 1)], kind_is(T.FLOAT), check=_svm_regressor, work=_listed_work
    ),
    "Scaler": Operator(same, kind_is(T.FLOAT), check=_one_or_width("offset", "scale")),
    "TreeEnsemble": Operator(
        trees.ensemble_dims, as_input(0), check=trees.check_tree_ensemble, work=trees.ensemble_work
    ),
    "TreeEnsembleClassifier": Operator(
        trees.ensemble_dims, _score_kinds, check=trees.check_ensemble, work=trees.ensemble_work
    ),
    "TreeEnsembleRegressor": Operator(
        trees.ensemble_dims, kind_is(T.FLOAT), check=trees.check_ensemble, work=trees.ensemble_work
    ),
    "ZipMap": Operator(same),  # a tail, cut off before sizes are asked for,
}
