"""scikit-learn pipelines → ONNX: categories travel as text (missing = ""), numbers as NaN where missing.

skl2onnx writes the steps; trees, and what it computes otherwise than scikit-learn, are written by sklearn_steps.py.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from model_registry.convert.compare import LimitOf, Parity, parity
from model_registry.convert.fields import Converted, FieldSpec, Vector, check_width, refused
from model_registry.convert.run import runner
from model_registry.convert.trees import INPUT, ML_OPSET, OPSET
from model_registry.errors import ModelRefused
from model_registry.manifest import ModelInput, ModelOutput

BRANCH_MOVE = 1e-4  # of the largest score: rounding moves one by 1e-6, another branch of a tree by more
Precision = Literal["auto", "float", "double"]


def from_sklearn(
    model: Any,
    fields: Sequence[FieldSpec],
    columns: Sequence[str] | None = None,
    precision: Precision = "auto",
    sample: Sequence[Vector] = (),
    limit_of: LimitOf | None = None,
) -> Converted:
    """Converts a scikit-learn classifier or regressor (usually a Pipeline) trained on a data frame.

    Args:
        model: the trained model.
        fields: what each column is. Categories become string inputs (missing = ""), all else numbers (missing = NaN).
        columns: the data frame's column names, in the order of `fields`; None = as the model remembers them.
        precision: of numbers: `float`, `double`, or `auto`: float, and double where floats flip a limit of the sample
            or take another branch, which flips limits of other rows.
        sample: rows (vectors in field order) for `auto`.
        limit_of: (vector, score) → limit, for `auto`.

    Returns:
        A model whose output is the probability of the last class, or the prediction of a regressor; its `precision`
        and `why` say what was chosen.

    Raises:
        ModelRefused: a step has no conversion, or none in doubles where doubles are asked for.
    """
    names = list(columns if columns is not None else getattr(model, "feature_names_in_", ()))
    if not names:
        text = "it was not trained on a data frame, so its columns have no names; give columns=[...]"
        raise refused("fields_mismatch", type(model).__name__, text)
    check_width(len(names), fields, type(model).__name__, names)
    if precision == "double":
        return replace(_convert(model, fields, names, np.float64), why="asked for")
    made = _convert(model, fields, names, np.float32)
    if precision == "float":
        return replace(made, why="asked for")
    if not sample or limit_of is None:
        return replace(made, why="no sample and rules to compare limits with")
    own = sklearn_scores(model, fields, names)(sample)
    found = parity(own, made, sample, limit_of)
    if found.holds and found.absolute <= BRANCH_MOVE * max(map(abs, own)):
        return replace(made, why=f"no limit differs in {found.rows:,} rows")
    return _in_doubles(made, found, lambda: _convert(model, fields, names, np.float64), own, sample, limit_of)


def _in_doubles(
    made: Converted,
    found: Parity,
    convert: Callable[[], Converted],
    own: Sequence[float],
    sample: Sequence[Vector],
    limit_of: LimitOf,
) -> Converted:
    flips = f"floats flip {len(found.flips)} of {found.rows:,} limits"
    flips += "" if found.flips else f", and move a score by {found.absolute:.2g}"
    try:
        better = convert()
        left = parity(own, better, sample, limit_of)
    except ModelRefused as error:
        return replace(made, why=f"{flips}, and a step has no conversion in doubles: {error.reasons[0].text}")
    if len(left.flips) >= max(1, len(found.flips)):
        return replace(made, why=f"{flips}, doubles {len(left.flips)}: the difference is not one of rounding")
    return replace(better, why=f"{flips}, doubles {len(left.flips)}")


def sklearn_scores(
    model: Any, fields: Sequence[FieldSpec], columns: Sequence[str]
) -> Callable[[Sequence[Vector]], list[float]]:
    """Returns rows → scores of the model itself, on data frames of doubles and texts ("" = missing)."""
    import pandas as pd

    def scores(rows: Sequence[Vector]) -> list[float]:
        table = np.asarray(rows, np.float64).reshape(-1, len(fields))
        frame = pd.DataFrame(
            {c: _column(f, table[:, at]) for at, (c, f) in enumerate(zip(columns, fields, strict=True))}
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # names or no names: the columns' order is what counts
            told = model.predict_proba(frame)[:, -1] if hasattr(model, "predict_proba") else model.predict(frame)
        return [float(score) for score in np.asarray(told).reshape(-1)]

    return scores


def _column(field: FieldSpec, numbers: Any) -> Any:
    if field.type != "category":
        return numbers
    return np.array(["" if np.isnan(n) else field.codes[int(n)] for n in numbers], object)


def _convert(model: Any, fields: Sequence[FieldSpec], columns: Sequence[str], dtype: Any) -> Converted:
    from skl2onnx import convert_sklearn

    from model_registry.convert.sklearn_steps import check_steps, converters, prepared, shapes

    check_steps(model)
    model, double = prepared(model), dtype is np.float64
    inputs = _inputs(model, fields, columns, np.dtype(dtype).name)
    classes = getattr(model, "classes_", None)
    try:
        made = convert_sklearn(
            model,
            initial_types=[(i.name, _type(i)) for i in inputs],
            options={id(model): {"zipmap": False}} if classes is not None else None,
            target_opset={"": OPSET, "ai.onnx.ml": 3},
            custom_conversion_functions=converters(double),
            custom_shape_calculators=shapes(double),
        )
    except ModelRefused:
        raise
    except Exception as error:  # skl2onnx raises many kinds
        text = f"skl2onnx cannot convert it ({type(error).__name__}: {str(error).splitlines()[0][:160]})"
        raise refused("conversion_failed", type(model).__name__, text) from error
    for entry in made.opset_import:
        if entry.domain == "ai.onnx.ml" and any(node.op_type == "TreeEnsemble" for node in made.graph.node):
            entry.version = ML_OPSET  # skl2onnx knows 3 at most
    # skl2onnx writes names without dots and spaces, in the order in which they were given
    named = zip(inputs, made.graph.input, strict=True)
    inputs = tuple(told.model_copy(update={"name": given.name}) for told, given in named)
    output = ModelOutput(name=made.graph.output[-1].name, index=len(classes) - 1 if classes is not None else 0)
    converted = Converted(bytes(made.SerializeToString()), tuple(fields), inputs, output, np.dtype(dtype).name)
    runner(converted)  # onnxruntime lacks some operators for doubles: better refused here than in the sandbox
    return converted


def _inputs(model: Any, fields: Sequence[FieldSpec], columns: Sequence[str], dtype: str) -> tuple[ModelInput, ...]:
    """An input for each column where a ColumnTransformer asks for columns by name; else one tensor, which is faster."""
    first = model.steps[0][1] if hasattr(model, "steps") else model
    if not hasattr(first, "transformers") and all(field.type != "category" for field in fields):
        return (ModelInput(name=INPUT, dtype=_float(dtype), fields=tuple(field.name for field in fields)),)
    return tuple(
        ModelInput(name=column, dtype="string" if f.type == "category" else _float(dtype), fields=(f.name,))
        for column, f in zip(columns, fields, strict=True)
    )


def _float(dtype: str) -> Literal["float32", "float64"]:
    return "float64" if dtype == "float64" else "float32"


def _type(given: ModelInput) -> Any:
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

    kinds = {"string": StringTensorType, "float32": FloatTensorType, "float64": DoubleTensorType}
    return kinds[given.dtype]([None, len(given.fields)])
