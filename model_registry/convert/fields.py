"""What a converted model reads and gives, apart from how it was converted."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from model_registry.errors import ModelRefused, Reason
from model_registry.manifest import ModelInput, ModelOutput

Vector = Sequence[float]  # in field order; NaN = missing, category = index in its code list, boolean = 0 or 1


class CatalogField(Protocol):
    """What is needed of a catalogue field, whichever side it comes from."""

    type: str
    codes: Sequence[str]


@dataclass(frozen=True)
class FieldSpec:
    """A field that the model reads. `missing`: `nan`, `decline`, or the value that stands in."""

    name: str
    type: str
    codes: tuple[str, ...] = ()
    missing: str | float | int = "nan"

    @classmethod
    def of(cls, name: str, known: Mapping[str, Any]) -> Self:
        """From a catalogue by full name; raises ModelRefused where it has no such field."""
        if name not in known:
            raise refused("field_unknown", name, "the catalogue has no such field")
        return cls(name, str(known[name].type), tuple(known[name].codes))


@dataclass(frozen=True)
class Converted:
    """An ONNX model and what its manifest must say about it.

    Attributes:
        onnx: serialised ModelProto.
        fields: what the model reads, in the order of a vector.
        inputs: which fields each ONNX input carries.
        output: which number is the score.
        precision: number type of thresholds and sums: `float32` or `float64`; "" where it is not known.
        why: why that type, in words.
    """

    onnx: bytes
    fields: tuple[FieldSpec, ...]
    inputs: tuple[ModelInput, ...]
    output: ModelOutput
    precision: str = ""
    why: str = ""


def row_of(fields: Sequence[FieldSpec], vector: Vector) -> dict[str, float | int | bool | str | None]:
    """A vector as a row by full field name: typed values, None = missing."""
    return {field.name: _value(field, number) for field, number in zip(fields, vector, strict=True)}


def _value(field: FieldSpec, number: float) -> float | int | bool | str | None:
    if math.isnan(number):
        return None
    if field.type == "category":
        return field.codes[int(number)]
    if field.type == "boolean":
        return bool(number)
    return float(number) if field.type == "number" else int(number)


def check_width(found: int, fields: Sequence[FieldSpec], where: str, names: Sequence[str] = ()) -> None:
    """Raises ModelRefused where the model has not as many features as fields are given, or has them in another order.

    Args:
        found: how many features the model has.
        fields: as given, in the order of the features.
        where: what to call the model.
        names: what the model calls its features, where it knows; other names than the fields' say nothing.
    """
    if found != len(fields):
        raise refused("fields_mismatch", where, f"the model has {found} features, {len(fields)} fields are given")
    given = [field.name for field in fields]
    if sorted(names) == sorted(given) and list(names) != given:
        first = next(at for at, name in enumerate(names) if name != given[at])
        text = f"the fields are given in another order than the model has them: its feature {first + 1} is "
        raise refused("fields_mismatch", where, f"{text}{names[first]}, given is {given[first]}")


def refused(code: str, where: str, text: str) -> ModelRefused:
    """One reason, ready to raise."""
    return ModelRefused([Reason(code, where, text)])
