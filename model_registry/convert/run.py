"""A converted model run on the bank's machine as the sandbox runs it: one row at a time, one thread."""

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from model_registry.convert.fields import Converted, FieldSpec, Vector, refused
from model_registry.manifest import ModelInput

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read at import: onnxruntime reports to its vendor unless told not to

_NUMBERS: dict[str, Any] = {"float32": np.float32, "float64": np.float64, "int64": np.int64, "bool": np.bool_}
_Encoder = Callable[[Vector], Any]


def runner(model: Converted) -> Callable[[Vector], float]:
    """Returns vector → score; NaN where a missing field declines.

    Raises:
        ModelRefused: onnxruntime cannot load the model, or (from what is returned) cannot run it on a row.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # as in the sandbox: sums have one order
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.onnx, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime derives its errors from RuntimeError, ValueError and bare Exception
        raise refused("model_load_failed", "model", str(error)[:200]) from None
    encode = feeds(model.inputs, model.fields)
    declining = [at for at, field in enumerate(model.fields) if field.missing == "decline"]

    def score(vector: Vector) -> float:
        if any(math.isnan(vector[at]) for at in declining):
            return math.nan
        try:
            (made,) = session.run([model.output.name], encode(vector))
        except Exception as error:  # see above
            raise refused("model_run_failed", "model", str(error)[:200]) from None
        return float(np.asarray(made).reshape(-1)[model.output.index])

    return score


def feeds(inputs: Sequence[ModelInput], fields: Sequence[FieldSpec]) -> Callable[[Vector], dict[str, Any]]:
    """Returns vector → the model's inputs by name, as sandbox/jail/contract.py makes them (a test compares both)."""
    places = {field.name: at for at, field in enumerate(fields)}
    encoders = {i.name: _encoder(i, [places[name] for name in i.fields], fields) for i in inputs}
    return lambda vector: {name: encode(vector) for name, encode in encoders.items()}


def _encoder(given: ModelInput, places: Sequence[int], fields: Sequence[FieldSpec]) -> _Encoder:
    bound = [fields[at] for at in places]
    if given.dtype == "string":
        texts = [(at, field.codes, _text(field)) for at, field in zip(places, bound, strict=True)]
        return lambda vector: np.array(
            [[gap if math.isnan(vector[at]) else codes[int(vector[at])] for at, codes, gap in texts]], object
        )
    at, gaps, dtype = list(places), np.array([_number(field) for field in bound]), _NUMBERS[given.dtype]

    def encode(vector: Vector) -> Any:
        row = np.asarray(vector, np.float64)[at]
        with np.errstate(over="ignore"):  # beyond float32 becomes inf, as on the bank's side
            return np.where(np.isnan(row), gaps, row).astype(dtype).reshape(1, -1)

    return encode


def _text(field: FieldSpec) -> str:
    return "" if field.missing in ("nan", "decline") else str(field.missing)


def _number(field: FieldSpec) -> float:
    if field.missing in ("nan", "decline"):
        return math.nan
    return float(field.codes.index(field.missing) if isinstance(field.missing, str) else field.missing)
