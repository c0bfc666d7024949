"""Parity: does the converted model give the bank's own scores, and above all its limits, on the bank's own rows?"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from model_registry.convert.fields import Converted, Vector
from model_registry.convert.run import runner

Native = Callable[[Sequence[Vector]], Sequence[float]]
LimitOf = Callable[[Vector, float], int]
SHOWN_MAX = 20  # rows named in words; the object holds all


@dataclass(frozen=True)
class Difference:
    """A row, numbered from 1, whose limit differs; its values are not here, so that a report can be passed on."""

    row: int
    native_score: float
    score: float
    native_limit: int
    limit: int


@dataclass(frozen=True)
class Parity:
    """What a comparison found.

    Attributes:
        rows: how many rows were compared.
        equal: how many scores have the same bits.
        absolute: the largest difference of scores.
        relative: the largest difference of scores over the native score's size.
        flips: rows whose limit differs; empty where no limits were compared.
        limits: whether limits were compared.
        precision: the converted model's.
    """

    rows: int
    equal: int
    absolute: float
    relative: float
    flips: tuple[Difference, ...]
    limits: bool
    precision: str

    @property
    def holds(self) -> bool:
        """Whether no limit differs."""
        return not self.flips

    def lines(self) -> list[tuple[str, str]]:
        """A table for people: what, and the finding."""
        told = [
            ("rows compared", f"{self.rows:,}"),
            ("scores with the same bits", f"{self.equal:,}"),
            ("largest difference of scores", f"{self.absolute:.3g} ({self.relative:.3g} of the score)"),
        ]
        if self.limits:
            told.append(("limits that differ", f"{len(self.flips):,}"))
        if self.flips:
            named = ", ".join(str(flip.row) for flip in self.flips[:SHOWN_MAX])
            told.append(("in rows", named + (", ..." if len(self.flips) > SHOWN_MAX else "")))
            told.append(("what to do", self.advice))
        return told

    def members(self) -> dict[str, object]:
        """For programs: JSON values, the rows that flip by number."""
        return {
            "rows": self.rows,
            "equal": self.equal,
            "absolute": self.absolute,
            "relative": self.relative,
            "limits_differ": len(self.flips) if self.limits else None,
            "rows_that_differ": [flip.row for flip in self.flips],
            "advice": self.advice,
        }

    @property
    def advice(self) -> str:
        """What to do about limits that differ."""
        if self.holds:
            return ""
        if self.precision == "float32" and self.relative < 1e-4:
            return "floats round differently: convert with precision='double', or compute your own limits in floats"
        if self.relative < 1e-9:
            return "scores differ in their last bits: a cap or cut-off lies exactly on a score; move it, or round it"
        return "another model, other columns or other categories than the bank's: compare the rows one by one"


def parity(
    native: Native | Sequence[float],
    converted: Converted,
    rows: Sequence[Vector],
    limit_of: LimitOf | None = None,
    limits: Sequence[int | None] | None = None,
    progress: Callable[[Iterable[Vector]], Iterable[Vector]] = iter,
) -> Parity:
    """Runs the converted model over a sample and compares it with the bank's own.

    Args:
        native: the bank's own scores of the rows, or how to compute them.
        converted: what the sandbox will run.
        rows: vectors in field order, NaN = missing.
        limit_of: (vector, score) → limit in yuan, the bank's rules and levels; None = compare scores alone.
        limits: the bank's own limits of the rows, where it has them; None = by `limit_of` from its own scores.
        progress: wraps the rows, to show how far it is.

    Raises:
        ModelRefused: the converted model cannot be run on a row.
    """
    own = native(rows) if callable(native) else native
    run = runner(converted)
    equal, absolute, relative = 0, 0.0, 0.0
    flips: list[Difference] = []
    for number, (vector, mine) in enumerate(zip(progress(rows), own, strict=True), start=1):
        theirs = run(vector)
        if math.isnan(theirs) and _declines(converted, vector):
            equal += 1  # nothing is offered whatever the score: nothing to compare
            continue
        apart = _apart(float(mine), theirs)
        equal += apart == 0.0
        absolute = max(absolute, apart)
        relative = max(relative, apart / max(abs(float(mine)), 1e-300) if apart else 0.0)
        if limit_of is not None:
            told = limits[number - 1] if limits is not None else None
            bank, room = limit_of(vector, float(mine)) if told is None else told, limit_of(vector, theirs)
            if bank != room:
                flips.append(Difference(number, float(mine), theirs, bank, room))
    return Parity(len(rows), equal, absolute, relative, tuple(flips), limit_of is not None, converted.precision)


def _declines(model: Converted, vector: Vector) -> bool:
    return any(field.missing == "decline" and math.isnan(n) for field, n in zip(model.fields, vector, strict=True))


def _apart(mine: float, theirs: float) -> float:
    if mine == theirs or (math.isnan(mine) and math.isnan(theirs)):
        return 0.0
    return math.inf if math.isnan(mine) or math.isnan(theirs) else abs(mine - theirs)
