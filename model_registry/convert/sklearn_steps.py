"""How some scikit-learn steps are written: trees from the estimators' own doubles, what skl2onnx gets wrong, or lacks.

Trees are written in doubles whatever the number type around them: they cost the same, and no float rounds a threshold.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper

from model_registry.convert.fields import refused
from model_registry.convert.sklearn_trees import Forest, forest_of
from model_registry.convert.trees import LESS_OR_EQUAL, Steps, Tree, ensemble


def check_steps(model: Any) -> None:
    """Raises ModelRefused for steps that skl2onnx converts to something else than they are."""
    if hasattr(model, "classes_") and not hasattr(model, "predict_proba"):
        text = "it gives no probabilities, so there is no one number to take as its score; train with probabilities "
        raise refused("objective_unsupported", type(model).__name__, text + "(CalibratedClassifierCV with sigmoid)")
    for step in _steps(model):
        if type(step).__name__ == "OrdinalEncoder" and any(c is not None for c in _rare(step)):
            text = "rare categories that it puts together (min_frequency, max_categories) are not converted; put them "
            raise refused("conversion_failed", "OrdinalEncoder", text + "together before training")
        if type(step).__name__ == "CalibratedClassifierCV" and step.method == "isotonic":
            text = "skl2onnx rounds isotonic calibration to the next knot, scikit-learn interpolates; use sigmoid"
            raise refused("conversion_failed", "CalibratedClassifierCV", text)


def _rare(encoder: Any) -> Sequence[Any]:
    return getattr(encoder, "infrequent_categories_", None) or ()


def prepared(model: Any) -> Any:
    """A copy in which a missing text is the category "", as the sandbox gives it, where training saw None or NaN."""
    copied = copy.deepcopy(model)
    for step in _steps(copied):
        if type(step).__name__ == "OneHotEncoder" and hasattr(step, "categories_"):
            step.categories_ = [_texts(c) if c.dtype == object else c for c in step.categories_]
        if type(step).__name__ == "VotingClassifier":
            step.flatten_transform = False  # of `transform` alone; skl2onnx insists
    return copied


def _texts(categories: Any) -> Any:
    if "" in categories or not any(isinstance(c, str) for c in categories):
        return categories
    return np.array(["" if _is_missing(c) else c for c in categories], object)


def _is_missing(category: Any) -> bool:
    return category is None or category != category


def _steps(model: Any) -> Iterator[Any]:
    """The model and every estimator inside it."""
    waiting, seen = [model], set()
    while waiting:
        step = waiting.pop()
        if isinstance(step, list | tuple):
            waiting += step
        elif hasattr(step, "get_params") and id(step) not in seen:
            seen.add(id(step))
            yield step
            waiting += [
                v for name, v in vars(step).items() if name not in ("_repr_html_",) and not name.startswith("__")
            ]
        elif type(step).__name__ == "_CalibratedClassifier":
            waiting.append(step.estimator)


def converters(double: bool) -> dict[type, Callable[..., None]]:
    """skl2onnx converters by estimator type."""
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OrdinalEncoder

    found: dict[type, Callable[..., None]] = dict.fromkeys(_classifiers(), _classifier)
    found |= dict.fromkeys(_regressors(), _regressor)
    found[OrdinalEncoder] = _ordinal
    return found | ({SimpleImputer: _imputer} if double else {})


def shapes(double: bool) -> dict[type, Callable[..., None]]:
    """skl2onnx shape calculators for the same types: its own, the last output of our number type."""
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from skl2onnx.common._registration import get_shape_calculator
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    number = DoubleTensorType if double else FloatTensorType

    def typed(own: Callable[..., None]) -> Callable[..., None]:
        def calculate(operator: Any) -> None:
            own(operator)
            operator.outputs[-1].set_type(number(operator.outputs[-1].type.shape))

        return calculate

    return {kind: typed(get_shape_calculator(sklearn_operator_name_map[kind])) for kind in converters(double)}


def _classifiers() -> list[type]:
    from sklearn import ensemble as e
    from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier

    boosted = [e.GradientBoostingClassifier, e.HistGradientBoostingClassifier]
    return [DecisionTreeClassifier, ExtraTreeClassifier, e.RandomForestClassifier, e.ExtraTreesClassifier, *boosted]


def _regressors() -> list[type]:
    from sklearn import ensemble as e
    from sklearn.tree import DecisionTreeRegressor, ExtraTreeRegressor

    boosted = [e.GradientBoostingRegressor, e.HistGradientBoostingRegressor]
    return [DecisionTreeRegressor, ExtraTreeRegressor, e.RandomForestRegressor, e.ExtraTreesRegressor, *boosted]


class _Graph:
    """Nodes with fresh names in skl2onnx's container; numbers are doubles."""

    def __init__(self, scope: Any, operator: Any, container: Any) -> None:
        self._scope, self._container = scope, container
        self.model = operator.raw_operator
        self.inputs: list[str] = [variable.full_name for variable in operator.inputs]
        self.outputs: list[str] = [variable.full_name for variable in operator.outputs]
        self.kind = operator.outputs[-1].type._get_element_onnx_type()

    def fresh(self, hint: str) -> str:
        return str(self._scope.get_unique_variable_name(hint))

    def add(
        self, op: str, inputs: Sequence[str], output: str = "", domain: str = "", version: int = 0, **told: Any
    ) -> str:
        output = output or self.fresh(op.lower())
        self._container.add_node(op, list(inputs), [output], op_domain=domain, op_version=version or None, **told)
        return output

    def stored(self, values: Any) -> str:
        name, values = self.fresh("stored"), np.asarray(values)
        self._container.add_initializer(name, None, None, numpy_helper.from_array(values, name))
        return name

    def cast(self, source: str, kind: int, output: str = "") -> str:
        return self.add("Cast", [source], output, version=13, to=kind)

    def row(self, through_float: bool) -> str:
        """The input as doubles; through floats, where the estimator casts its rows to them."""
        source = self.cast(self.inputs[0], TensorProto.FLOAT) if through_float else self.inputs[0]
        return self.cast(source, TensorProto.DOUBLE)

    def nodes(self, made: Sequence[Any], names: dict[str, str]) -> None:
        """Foreign nodes, every name fresh but those given."""
        for node in made:
            for name in (*node.input, *node.output):
                names.setdefault(name, self.fresh(name))
            told = {a.name: _attribute(a) for a in node.attribute}
            version = 3 if node.domain else 13  # the most that skl2onnx knows; the model says 5 in the end
            self.add(
                node.op_type,
                [names[name] for name in node.input],
                names[node.output[0]],
                node.domain,
                version,
                **told,
            )

    def sum(self, source: str, trees: Sequence[Tree]) -> str:
        target = self.fresh("sum")
        self.nodes([ensemble(trees, LESS_OR_EQUAL, np.float64, "x", "y")], {"x": source, "y": target})
        return target

    def then(self, source: str, steps: Steps) -> str:
        target = self.fresh("score")
        self.nodes(steps.into("y"), {"x": source, "y": target})
        return target


def _attribute(told: Any) -> Any:
    from onnx import helper

    return helper.get_attribute_value(told)


def _classifier(scope: Any, operator: Any, container: Any) -> None:
    """Probabilities [1, classes] and the label, of a tree, a forest or a boosted model."""
    graph = _Graph(scope, operator, container)
    sums = _sums(graph, forest_of(graph.model))
    if len(sums) == 1 and len(graph.model.classes_) == 2:
        sums = [graph.add("Sub", [graph.stored(np.ones(1)), sums[0]], version=14), *sums]
    every = graph.add("Concat", sums, version=13, axis=1)
    graph.cast(every, graph.kind, graph.outputs[1])
    best = graph.add("ArgMax", [every], version=13, axis=1, keepdims=0)
    labels = graph.stored(np.asarray(graph.model.classes_))
    kind = operator.outputs[0].type._get_element_onnx_type()
    graph.cast(graph.add("Gather", [labels, best], version=13), kind, graph.outputs[0])


def _regressor(scope: Any, operator: Any, container: Any) -> None:
    """The prediction [1, 1] of a tree, a forest or a boosted model."""
    graph = _Graph(scope, operator, container)
    (only,) = _sums(graph, forest_of(graph.model))
    graph.cast(only, graph.kind, graph.outputs[0])


def _sums(graph: _Graph, forest: Forest) -> list[str]:
    source = graph.row(forest.floats)
    return [graph.then(graph.sum(source, trees), _link(forest)) for trees in forest.sums]


def _link(forest: Forest) -> Steps:
    steps = Steps("x", np.float64)
    if forest.divisor != 1:
        steps.then("Div", float(forest.divisor))
    if forest.link.startswith("expit"):
        slope = -2.0 if forest.link == "expit2" else -1.0
        steps.then("Mul", slope).then("Exp").then("Add", 1.0).then("Div", 1.0, first=True)
    elif forest.link == "exp":
        steps.then("Exp")
    return steps


def _imputer(scope: Any, operator: Any, container: Any) -> None:
    """SimpleImputer over doubles: onnxruntime's own Imputer takes floats alone."""
    graph = _Graph(scope, operator, container)
    model, told = graph.model, "SimpleImputer"
    if model.add_indicator or not (isinstance(model.missing_values, float) and np.isnan(model.missing_values)):
        raise refused(
            "conversion_failed", told, "in doubles SimpleImputer is converted for NaN without indicator alone"
        )
    gaps = np.asarray(model.statistics_)
    if gaps.dtype.kind != "f" or np.isnan(gaps).any():
        raise refused("conversion_failed", told, "in doubles SimpleImputer is converted for numbers with values alone")
    row = graph.inputs[0] if len(graph.inputs) == 1 else graph.add("Concat", graph.inputs, version=13, axis=1)
    missing = graph.add("IsNaN", [row], version=13)
    graph.add("Where", [missing, graph.stored(gaps.reshape(1, -1)), row], graph.outputs[0], version=9)


def _ordinal(scope: Any, operator: Any, container: Any) -> None:
    """OrdinalEncoder over texts: unknown and missing ("") as the encoder says, NaN too."""
    graph = _Graph(scope, operator, container)
    if any(type(variable.type).__name__ != "StringTensorType" for variable in operator.inputs):
        raise refused("conversion_failed", "OrdinalEncoder", "it is converted for categories alone; encode texts")
    columns = []
    for at, categories in enumerate(graph.model.categories_):
        codes = {str(c): float(n) for n, c in enumerate(categories) if not _is_missing(c)}
        for n, gap in enumerate(categories):
            if _is_missing(gap):  # None is a category like others, NaN has a code of its own
                codes.setdefault("", float(n if gap is None else graph.model.encoded_missing_value))
        columns.append(_looked_up(graph, _column(graph, at), codes))
    graph.cast(graph.add("Concat", columns, version=13, axis=1), graph.kind, graph.outputs[0])


def _column(graph: _Graph, at: int) -> str:
    if len(graph.inputs) > 1:
        return graph.inputs[at]
    return graph.add("Gather", [graph.inputs[0], graph.stored(np.array([at]))], version=13, axis=1)


def _looked_up(graph: _Graph, texts: str, codes: dict[str, float]) -> str:
    unknown = graph.model.unknown_value if graph.model.handle_unknown == "use_encoded_value" else np.nan
    keys, values = list(codes), list(codes.values())
    told: dict[str, Any] = {"keys_strings": keys, "values_floats": values, "default_float": float(unknown)}
    return graph.add("LabelEncoder", [texts], domain="ai.onnx.ml", version=2, **told)
