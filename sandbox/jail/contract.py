"""The manifest as the worker needs it: how a vector of fields becomes the model's inputs, and which number comes out.

The server has verified the manifest's signature and shape; this is the one small adapter from its JSON to code that the
walled process runs, where neither keys nor the signature code are wanted.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from model_registry.admission import Categories, ManifestView, TensorInput
from model_registry.errors import ModelRefused, Reason
from model_registry.rules.expressions import Value

_FLOATS: dict[str, type[np.generic]] = {"float32": np.float32, "float64": np.float64}
_NUMERIC = {**_FLOATS, "int64": np.int64, "bool": np.bool_}
_WIRE = np.dtype("<f8")
_LARGEST = float(np.finfo(np.float64).max)
_EXACT = 2.0**53  # beyond it float64 skips integers, so a vector cannot carry them

Vector = npt.NDArray[np.float64]
Feeds = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class FieldView:
    """A declared field: full name, catalogue type, what stands in where it is missing, its code list (or empty)."""

    name: str
    kind: str
    missing: str | float
    codes: tuple[str, ...]


@dataclass(frozen=True)
class Contract:
    """What the manifest says to the worker. Vectors are float64 in field order, NaN = missing, category = index."""

    fields: tuple[FieldView, ...]
    view: ManifestView
    levels: tuple[int, ...]
    columns: Mapping[str, Sequence[int]]
    encoders: tuple[Callable[[Vector], tuple[str, npt.NDArray[Any]]], ...]
    declining: npt.NDArray[np.intp]
    bounds: "Bounds"
    digests: Mapping[str, str]

    @property
    def vector_bytes(self) -> int:
        """Size of a request: eight bytes a field."""
        return 8 * len(self.fields)

    def read(self, request: bytes) -> Vector | None:
        """A request as a vector; None where a value is impossible for its field (a caller's defect, not a model's)."""
        if len(request) != self.vector_bytes:
            return None
        vector = np.frombuffer(request, _WIRE)
        return vector if self.bounds.allow(vector) else None

    def feeds(self, vector: Vector) -> Feeds | None:
        """The model's inputs; None where a field is missing whose rule is to decline."""
        if self.declining.size and np.isnan(vector[self.declining]).any():
            return None
        return dict(encode(vector) for encode in self.encoders)

    def picker(self, names: Collection[str]) -> Callable[[Vector], dict[str, Value | None]]:
        """How to pick some fields out of a vector as the rules see them: typed, None = missing."""
        picked = [(at, field) for at, field in enumerate(self.fields) if field.name in names]
        return lambda vector: {field.name: _value(field, float(vector[at])) for at, field in picked}


def parse_contract(manifest: bytes, codes: Mapping[str, Sequence[str]]) -> Contract:
    """Read a manifest's JSON.

    Args:
        manifest: the payload that the bank signed.
        codes: full field name → code list, for category fields.

    Raises:
        ModelRefused: `manifest_invalid` where the shape is wrong, `missing_rule_impossible` where an input cannot carry
            what the manifest says about a missing value.
    """
    try:
        return _contract(json.loads(manifest), codes)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError):
        raise ModelRefused(
            [Reason("manifest_invalid", "manifest", "the manifest does not have its documented shape")]
        ) from None


def _contract(data: Any, codes: Mapping[str, Sequence[str]]) -> Contract:
    fields = tuple(
        FieldView(
            f["name"],
            f["type"],
            f.get("missing", "decline"),
            tuple(codes[f["name"]]) if f["type"] == "category" else (),
        )
        for f in data["fields"]
    )
    positions = {field.name: position for position, field in enumerate(fields)}
    inputs = [(i["name"], i["dtype"], [positions[name] for name in i["fields"]]) for i in data["inputs"]]
    view = ManifestView(
        inputs=tuple(TensorInput(name, dtype, len(columns)) for name, dtype, columns in inputs),
        output_name=data["output"]["name"],
        output_index=int(data["output"]["index"]),
    )
    if len(positions) != len(fields) or not fields or view.output_index < 0:
        raise ValueError("doubled field, no field or negative index")
    if any(field.kind == "category" and not field.codes for field in fields):
        raise ValueError("a category without codes")
    encoders = tuple(_encoder(name, dtype, columns, fields) for name, dtype, columns in inputs)
    declining = np.array([p for p, field in enumerate(fields) if field.missing == "decline"], dtype=np.intp)
    levels = tuple(int(level) for level in data["levels"])
    # The server's own check of a manifest demands them; here they are compared where they are declared.
    digests = {part: str(data["digests"][part]) for part in ("model", "rules") if part in data.get("digests", {})}
    columns = {name: at for name, _, at in inputs}
    return Contract(fields, view, levels, columns, encoders, declining, Bounds.of(fields), digests)


def contract_of(view: ManifestView, known: Categories) -> Contract:
    """A contract for a model without manifest: each column a field of its own, with the categories the model knows."""
    kinds = {"int64": "integer", "bool": "boolean", "string": "category"}
    names = {i.name: [f"input{n}.{column}" for column in range(i.width)] for n, i in enumerate(view.inputs)}
    fields = [{"name": n, "type": kinds.get(i.dtype, "number")} for i in view.inputs for n in names[i.name]]
    codes = {names[i.name][c]: known.get((i.name, c), ("",)) for i in view.inputs for c in range(i.width)}
    data = {
        "fields": fields,
        "inputs": [{"name": i.name, "dtype": i.dtype, "fields": names[i.name]} for i in view.inputs],
        "output": {"name": view.output_name, "index": view.output_index},
        "levels": [0],
    }
    return _contract(data, {name: [str(code) for code in found] for name, found in codes.items()})


def trial_rows(contract: Contract, known: Categories) -> list[Vector]:
    """Two rows, of noughts and of ones, but for columns where the model refuses categories that it does not know."""
    rows = [np.zeros(len(contract.fields)), np.minimum(1.0, contract.bounds.most)]
    for (name, column), categories in known.items():
        at = contract.columns[name][column]
        codes = contract.fields[at].codes
        numbers = [codes.index(c) if c in codes else -1 for c in map(str, categories)] if codes else categories
        found = [float(number) for number in numbers if number != -1 or not codes]
        for row, number in zip(rows, (found[:1], found[1:2] or found[:1]), strict=True):
            row[at : at + 1] = number or row[at]
    return rows


def _encoder(
    name: str, dtype: str, columns: list[int], fields: Sequence[FieldView]
) -> Callable[[Vector], tuple[str, npt.NDArray[Any]]]:
    bound = [fields[column] for column in columns]
    index = np.array(columns, dtype=np.intp)
    if dtype == "string":
        return _string_encoder(name, columns, bound)
    target = np.dtype(_NUMERIC[dtype])
    if dtype not in _FLOATS and any(field.missing == "nan" for field in bound):
        text = f"a {dtype} input cannot carry NaN; set missing to decline or to a value"
        raise ModelRefused([Reason("missing_rule_impossible", f"input {name[:64]}", text)])
    stand_ins = np.array([_stand_in(field) for field in bound])

    def encode(vector: Vector) -> tuple[str, npt.NDArray[Any]]:
        row = vector[index]
        row = np.where(row == row, row, stand_ins)
        if target == np.float64:
            return name, row.reshape(1, -1)
        with np.errstate(over="ignore"):  # a double beyond float32 becomes inf, as it does on the bank's side
            return name, row.astype(target).reshape(1, -1)

    return encode


def _string_encoder(
    name: str, columns: list[int], bound: Sequence[FieldView]
) -> Callable[[Vector], tuple[str, npt.NDArray[Any]]]:
    if any(field.kind != "category" for field in bound):
        raise ModelRefused(
            [Reason("input_type", f"input {name[:64]}", "a string input can carry category fields alone")]
        )
    missing = ["" if field.missing in ("nan", "decline") else field.codes[int(_stand_in(field))] for field in bound]

    def encode(vector: Vector) -> tuple[str, npt.NDArray[Any]]:
        row = np.empty((1, len(columns)), dtype=object)
        for at, (number, field) in enumerate(zip(vector[columns].tolist(), bound, strict=True)):
            row[0, at] = missing[at] if number != number else field.codes[int(number)]
        return name, row

    return encode


def _stand_in(field: FieldView) -> float:
    """What a missing value becomes in a numeric row; NaN where the row never gets that far or may carry it."""
    if field.missing in ("nan", "decline"):
        return float("nan")
    if isinstance(field.missing, str):
        if field.kind != "category":
            raise ValueError("a text stands in for a number")
        return float(field.codes.index(field.missing))
    stand_in = np.array([float(field.missing)])
    if not Bounds.of([field]).allow(stand_in):
        raise ValueError("impossible stand-in")
    return float(stand_in[0])


@dataclass(frozen=True)
class Bounds:
    """What is possible for each field's type: finite, whole where whole, a code within its list."""

    whole: npt.NDArray[np.intp]
    least: Vector
    most: Vector

    @classmethod
    def of(cls, fields: Sequence[FieldView]) -> Self:
        """The bounds of a list of fields."""
        least = [0.0 if field.kind in ("boolean", "category") else -_EXACT for field in fields]
        whole = np.array([field.kind != "number" for field in fields])
        most = np.array([_top(field) for field in fields])
        return cls(np.flatnonzero(whole), np.where(whole, least, -_LARGEST), np.where(whole, most, _LARGEST))

    def allow(self, vector: Vector) -> bool:
        """Whether every present value is possible."""
        # comparisons with NaN are false: what is missing is within every bound, and is left out of the last line
        if ((vector < self.least) | (vector > self.most)).any():
            return False
        whole = vector[self.whole]
        return not ((whole != np.floor(whole)) & (whole == whole)).any()


def _top(field: FieldView) -> float:
    return {"boolean": 1.0, "category": float(len(field.codes) - 1)}.get(field.kind, _EXACT)


def _value(field: FieldView, number: float) -> Value | None:
    if number != number:
        return None
    if field.kind == "number":
        return number
    if field.kind == "boolean":
        return bool(number)
    if field.kind == "category":
        return field.codes[int(number)]
    return int(number)
