"""Which number a category had in training, and which it has here (its index in the catalogue's code list).

A library that trains on categories numbers them itself, and keeps the names only where it was given a data frame. A
split over categories becomes a set of our numbers; where the numbering cannot be known the model is refused, because a
guess would swap industries without an error.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from model_registry.convert.fields import FieldSpec, refused
from model_registry.convert.trees import Split

Label = str | int | float | bool
Numbers = Mapping[int, float]  # number in training → number here
_KNOWN_TYPES = {"category": "a category", "boolean": "a yes or no", "integer": "a whole number", "date": "a date"}


class Numbering:
    """The numberings of a model's fields, by position; a field without one travels as it is."""

    def __init__(self, fields: Sequence[FieldSpec], orders: Mapping[int, Sequence[Label]]) -> None:
        self._fields = fields
        self._numbers = {at: numbers_of(fields[at], order) for at, order in orders.items()}

    def of(self, at: int) -> Numbers | None:
        """The numbering of a field; None where it is the catalogue's own."""
        return self._numbers.get(at)

    def members(self, at: int, trained: Sequence[int]) -> tuple[float, ...]:
        """A set of training's numbers as ours. Those that the catalogue does not know cannot occur.

        Raises:
            ModelRefused: the numbering is not known.
        """
        field, numbers = self._fields[at], self.of(at)
        if field.type not in _KNOWN_TYPES:
            text = "a split over categories reads it and the catalogue says number; train it as a number"
            raise refused("category_not_whole", field.name, text)
        if numbers is not None:
            return tuple(sorted(numbers[n] for n in trained if n in numbers))
        if field.type == "category":
            text = "its categories were numbered in training and the model does not say how; give the order, "
            text += "categories={name: [code, ...]} or --categories FILE, or train on pandas categories"
            raise refused("categories_unknown", field.name, text)
        return tuple(float(n) for n in trained)

    def threshold(self, split: Split, below: Callable[[float, float], bool]) -> Split:
        """A split by threshold over a field that was numbered otherwise: the set of our numbers that go to `true`."""
        numbers, field = self.of(split.feature), self._fields[split.feature]
        if numbers is None or all(n == here for n, here in numbers.items()):
            return split
        known = {here: float(n) for n, here in numbers.items()}
        every = range(len(field.codes) if field.type == "category" else 2)
        if field.type not in ("category", "boolean"):
            raise refused("categories_unknown", field.name, "a threshold over renumbered whole numbers; train it plain")
        # What training never saw had no number there: missing.
        taken = (float(n) for n in every if (below(known[n], split.threshold) if n in known else split.missing_true))
        return Split(split.feature, 0.0, split.missing_true, split.true, split.false, tuple(taken))


def numbers_of(field: FieldSpec, order: Sequence[Label]) -> Numbers:
    """The numbering of one field from the order of its categories in training.

    Raises:
        ModelRefused: none of the categories is the catalogue's, or the field's type has none such.
    """
    if field.type == "category":
        places: dict[Label, float] = {code: float(at) for at, code in enumerate(field.codes)}
    elif field.type == "boolean":
        places = {"false": 0.0, "true": 1.0, "0": 0.0, "1": 1.0}
    else:
        places = {str(label): float(label) for label in order if _whole(label)}
    found = {n: places[_text(label)] for n, label in enumerate(order) if _text(label) in places}
    if not found:
        what = _KNOWN_TYPES.get(field.type, "a number")
        text = f"none of its categories in training is {what} of the catalogue; train with the catalogue's codes"
        raise refused("categories_unknown", field.name, text)
    return found


def given_orders(fields: Sequence[FieldSpec], categories: Mapping[str, Sequence[Label]]) -> dict[int, Sequence[Label]]:
    """Orders told by the bank, by position; raises ModelRefused for a field that the model does not read."""
    names = {field.name: at for at, field in enumerate(fields)}
    for name in categories.keys() - names.keys():
        raise refused("field_unknown", name, "an order of categories is given for it, and the model does not read it")
    return {names[name]: list(order) for name, order in categories.items()}


def check_label(read: object) -> Label:
    """A category as a file has it; raises ValueError where it is no text, whole or finite number, or yes or no."""
    if isinstance(read, str | bool | int) or (isinstance(read, float) and math.isfinite(read)):
        return read
    raise ValueError("a category is neither text nor number")


def _text(label: Label) -> str:
    return str(label).lower() if isinstance(label, bool) else str(int(label)) if _whole(label) else str(label)


def _whole(label: Label) -> bool:
    return not isinstance(label, str) and float(label).is_integer()
