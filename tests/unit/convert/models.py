"""What the tests of conversions share: fields, rows at the thresholds, comparison with the library's own scores."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from model_registry.convert import Converted, FieldSpec, runner
from model_registry.errors import ModelRefused

GRADES = ("A", "B", "C", "D", "E", "M", "N")
FIELDS = [
    FieldSpec("tax.declaration.sales", "number"),
    FieldSpec("tax.declaration.profit", "number"),
    FieldSpec("tax.declaration.grade", "category", GRADES),
    FieldSpec("tax.declaration.members", "integer"),
]
NAN = math.nan
Rows = npt.NDArray[np.float64]


def table(count: int, seed: int) -> Rows:
    """Made-up companies: two numbers with gaps, a grade, a count."""
    rng = np.random.default_rng(seed)
    rows = np.column_stack(
        [
            rng.lognormal(10, 3, count),
            rng.normal(0, 1, count),
            rng.integers(0, len(GRADES), count),
            rng.integers(0, 40, count),
        ]
    )
    rows[rng.random(rows.shape) < 0.1] = NAN
    return rows


def defaults(rows: Rows, seed: int = 1) -> npt.NDArray[np.bool_]:
    """Which of them fail: by all four columns, grades not in their order, missing values in a way of their own."""
    bad = np.isin(rows[:, 2], [1, 3, 6]) + 0.5 * np.isnan(rows[:, 0]) - np.nan_to_num(rows[:, 1])
    bad += (np.nan_to_num(rows[:, 3]) > 20) + np.random.default_rng(seed).normal(0, 0.5, len(rows))
    found: npt.NDArray[np.bool_] = bad > 0.7
    return found


def edges(rows: Rows, thresholds: Sequence[float], dtype: type[np.floating] = np.float64) -> Rows:
    """Rows whose numbers are drawn from thresholds, their neighbours, zeros, extremes and NaN; grades from all."""
    rng, step = np.random.default_rng(7), np.asarray(thresholds, dtype)
    around = [step, np.nextafter(step, dtype(-np.inf)), np.nextafter(step, dtype(np.inf))]
    odd = np.array([0.0, -0.0, 1e-36, -1e-36, 1e-35, -1e-35, 1.1e-35, -1.1e-35, 1e300, -1e300, 1e-310, NAN], np.float64)
    pool = np.concatenate([np.concatenate(around).astype(np.float64), odd])
    drawn = rows.copy()
    for column in (0, 1):
        drawn[:, column] = rng.choice(pool, len(rows))
    return drawn


def scores(model: Converted, rows: Rows) -> list[float]:
    """What the converted model says of each row."""
    run = runner(model)
    return [run(row) for row in rows.tolist()]


def sums(model: Converted, rows: Rows) -> list[float]:
    """The sums of the leaves, before what the objective makes of them."""
    output = model.output.model_copy(update={"name": "raw"})
    graph = onnx.ModelProto.FromString(model.onnx)
    graph.graph.output.append(onnx.ValueInfoProto(name="raw"))
    return scores(replace(model, onnx=graph.SerializeToString(), output=output), rows)


@contextmanager
def refused(words: str) -> Iterator[None]:
    """What happens inside is refused, and the first reason has these words."""
    with pytest.raises(ModelRefused) as refusal:
        yield
    first = refusal.value.reasons[0]
    assert words in f"{first.code} {first.where} {first.text}"
