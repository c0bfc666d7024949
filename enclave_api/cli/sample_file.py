"""A bank's sample rows from a file: CSV, JSON Lines or Parquet, a column for each field under its full name.

Empty or null = missing; boolean true, false, 1 or 0; a category as its code; a date as YYYY-MM-DD. Two more columns may
hold what the bank computed itself: `score` and `limit_yuan`. Other columns are left aside.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from enclave_api.errors import SampleInvalid
from model_registry.convert import FieldSpec

SCORE, LIMIT = "score", "limit_yuan"
ROWS_MAX = 200_000  # of 200 fields: 320 MB in memory
_BOOLEANS = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0}
_EPOCH_DAY = date(1970, 1, 1).toordinal()


@dataclass(frozen=True)
class SampleRows:
    """Rows as vectors in field order (NaN = missing), and the bank's own scores and limits where the file has them."""

    vectors: list[tuple[float, ...]]
    scores: list[float] | None
    limits: list[int | None] | None


def read_sample(path: Path, fields: Sequence[FieldSpec], aliases: Mapping[str, str] | None = None) -> SampleRows:
    """Reads a sample.

    Args:
        path: by its ending .csv, .jsonl (or .ndjson) or .parquet.
        fields: in the order of the vectors.
        aliases: full field name → another name that its column may have.

    Raises:
        SampleInvalid: which column is missing, or which row (numbered from 1) has an impossible value in which column.
    """
    rows = list(_rows(path))
    if not rows or len(rows) > ROWS_MAX:
        raise SampleInvalid("rows", public=f"{path}: a sample has 1 to {ROWS_MAX:,} rows, this one {len(rows):,}")
    columns = [_column(path, rows[0], field, (aliases or {}).get(field.name, "")) for field in fields]
    vectors = []
    for number, row in enumerate(rows, start=1):
        told = zip(fields, columns, strict=True)
        vectors.append(
            tuple(_number(field, row.get(column), f"{path}, row {number}, {column}") for field, column in told)
        )
    return SampleRows(
        vectors,
        _own(path, rows, SCORE, float),
        _own(path, rows, LIMIT, lambda value: None if value in (None, "") else int(float(value))),
    )


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        if path.suffix == ".csv":
            yield from _csv(path)
        elif path.suffix == ".parquet":
            from pyarrow import parquet

            yield from parquet.read_table(path).to_pylist()
        elif path.suffix in (".jsonl", ".ndjson"):
            with path.open(encoding="utf-8") as file:
                yield from (_mapping(json.loads(line)) for line in file if line.strip())
        else:
            raise SampleInvalid("ending", public=f"{path}: a sample is a .csv, .jsonl or .parquet file")
    except (ValueError, RecursionError) as error:  # pyarrow's errors of content are ValueErrors too
        raise SampleInvalid("content", public=f"{path}: {str(error).splitlines()[0][:200]}") from None


def _csv(path: Path) -> Iterator[Mapping[str, Any]]:
    import csv

    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            yield from csv.DictReader(file, strict=True)
        except csv.Error as error:
            raise ValueError(str(error)) from None


def _mapping(line: Any) -> Mapping[str, Any]:
    if not isinstance(line, dict):
        raise ValueError("a line is no JSON object")
    return line


def _column(path: Path, first: Mapping[str, Any], field: FieldSpec, alias: str) -> str:
    for name in (field.name, alias, field.name.rpartition(".")[2]):
        if name and name in first:
            return name
    raise SampleInvalid("column", public=f"{path} has no column {field.name}; name the columns by field")


def _number(field: FieldSpec, value: Any, where: str) -> float:
    if value is None or value == "" or value != value:
        return math.nan
    try:
        number = _PARSERS[field.type](field, value)
    except (ValueError, KeyError, TypeError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        what = f"one of {', '.join(field.codes[:5])} ..." if field.type == "category" else f"a {field.type}"
        raise SampleInvalid("value", public=f"{where}: not {what}")
    return number


def _day(_: FieldSpec, value: Any) -> float:
    found = value if isinstance(value, date) else date.fromisoformat(str(value)[:10])
    return float(found.toordinal() - _EPOCH_DAY)


def _whole(_: FieldSpec, value: Any) -> float:
    number = float(value)
    return number if number.is_integer() else math.nan


_PARSERS: dict[str, Callable[[FieldSpec, Any], float]] = {
    "number": lambda _, value: float(value),
    "integer": _whole,
    "boolean": lambda _, value: _BOOLEANS[str(value).lower().removesuffix(".0")],
    "category": lambda field, value: float(field.codes.index(str(value))),
    "date": _day,
}


def _own(path: Path, rows: Sequence[Mapping[str, Any]], name: str, read: Callable[[Any], Any]) -> list[Any] | None:
    """The bank's own numbers, if the file has that column."""
    if name not in rows[0]:
        return None
    found = []
    for number, row in enumerate(rows, start=1):
        try:
            found.append(read(row[name]))
        except (ValueError, TypeError, KeyError, OverflowError):
            raise SampleInvalid("value", public=f"{path}, row {number}, {name}: not a number") from None
    return found
