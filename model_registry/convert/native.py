"""A boosted model's own scores, by its own library, of rows as the sandbox has them: what parity compares with."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from model_registry.convert.categories import Label, Numbering, given_orders
from model_registry.convert.fields import FieldSpec, Vector

Scores = Callable[[Sequence[Vector]], list[float]]


def lightgbm_scores(
    model: Any, fields: Sequence[FieldSpec], categories: Mapping[str, Sequence[Label]] | None = None
) -> Scores:
    """Returns rows → what LightGBM predicts; categories are given the numbers of training. See `from_lightgbm`."""
    from model_registry.convert.lightgbm_text import category_orders, read_text

    booster = getattr(model, "booster_", model)
    text = read_text(booster.model_to_string())
    numbering = Numbering(fields, category_orders(text, fields) | given_orders(fields, categories or {}))
    return lambda rows: [float(s) for s in booster.predict(_trained(rows, numbering, len(fields)), num_threads=1)]


def xgboost_scores(
    model: Any,
    fields: Sequence[FieldSpec],
    categories: Mapping[str, Sequence[Label]] | None = None,
    rounds: int | None = None,
) -> Scores:
    """Returns rows → what XGBoost predicts; categories are given the numbers of training. See `from_xgboost`."""
    import xgboost

    from model_registry.convert.xgboost_json import read_model
    from model_registry.convert.xgboost_model import as_json, counted_rounds

    booster = model.get_booster() if hasattr(model, "get_booster") else model
    rounds = counted_rounds(model, rounds)
    read = read_model(as_json(model), rounds)
    numbering = Numbering(fields, {**read.orders} | given_orders(fields, categories or {}))
    names, types = booster.feature_names, booster.feature_types

    def scores(rows: Sequence[Vector]) -> list[float]:
        table = _trained(rows, numbering, len(fields))
        matrix = xgboost.DMatrix(table, feature_names=names, feature_types=types, enable_categorical=True, nthread=1)
        return [float(s) for s in booster.predict(matrix, iteration_range=(0, rounds or 0))]

    return scores


def _trained(rows: Sequence[Vector], numbering: Numbering, width: int) -> npt.NDArray[np.float64]:
    """Rows with the numbers of training; what training never saw is missing."""
    table = np.array(rows, np.float64).reshape(-1, width)
    for at in range(width):
        if (numbers := numbering.of(at)) is not None:
            back = {here: float(n) for n, here in numbers.items()}
            table[:, at] = [back.get(value, np.nan) for value in table[:, at].tolist()]
    return table
