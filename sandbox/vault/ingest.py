"""Reads the table a steward wants to load, on the steward's own machine, into packed records.

A table has a column `subject` and exactly the dataset's fields under their short names, in any order.

    CSV      UTF-8, header line, one line a row, every line ended; empty = null; number and integer plain decimal,
             boolean true, false, 1 or 0, category one of the field's codes, date YYYY-MM-DD
    Parquet  the same as strings, or typed columns: integers, floats, decimals, booleans, dates, timestamps at midnight

A table is right as a whole or refused as a whole, and a refusal names the line, not the value.
"""

import csv as plain_csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv, parquet

from sandbox.vault.catalog import Dataset, Field, FieldType
from sandbox.vault.errors import (
    IngestError,
    RecordInvalid,
    SubjectInvalid,
    TableEmpty,
    TableHeaderWrong,
    TableSubjectDuplicate,
    TableSubjectInvalid,
    TableTruncated,
    TableUnreadable,
    TableValueInvalid,
)
from sandbox.vault.record import Column, RecordLayout
from sandbox.vault.subject import parse_subject
from sandbox.vault.subject_columns import first_invalid_subject

SUBJECT = "subject"
"""Name of the column that says whom a row is about."""

HEADER_BYTES_MAX = 1 << 20
"""4,096 names of 63 characters fit four times."""

_INTEGER = r"^-?[0-9]{1,18}$"
_NUMBER = r"^-?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_RAGGED = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)")
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_BOOLEANS = ("false", "true", "0", "1")
"""A boolean's value is the lowest bit of its place here."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table that was read.

    Attributes:
        subjects: In file order, valid and distinct.
        rows: One packed record a subject, in the same order.
        width: Bytes of one record.
    """

    subjects: list[str]
    rows: bytes
    width: int


def read_table(path: Path, dataset: Dataset) -> Table:
    """Read a CSV (`.csv`) or Parquet (`.parquet`) file that holds the dataset.

    Raises:
        IngestError: One of the errors below it in errors.py; nothing was read then.
    """
    if path.suffix not in _READERS:
        raise TableUnreadable("a table is a file named .csv or .parquet")
    try:
        raw = _READERS[path.suffix](path, dataset)
    except OSError as error:
        raise TableUnreadable(f"the file cannot be read: {error.strerror or 'not a whole file'}") from None
    except pa.ArrowException as error:
        # Arrow's own text quotes the file, and data must not get into a message.
        encoding = "invalid UTF8" in str(error)
        reason = "not UTF-8; save it as 'CSV UTF-8'" if encoding else "damaged, or not what its name says"
        raise TableUnreadable(f"the file is {reason}") from None
    if raw.num_rows == 0:
        raise TableEmpty("the table has no rows")
    subjects = _subjects(raw.column(SUBJECT))
    layout = RecordLayout.of(dataset)
    columns = {field.name: _column(field, raw.column(field.name)) for field in dataset.fields}
    try:
        rows = layout.pack(columns, raw.num_rows)
    except RecordInvalid as error:
        raise TableValueInvalid(error.reason, line=_line(error.row or 0), column=error.field) from None
    return Table(subjects, rows, layout.width)


def _line(row: int) -> int:
    """Return the line of a row: lines count from 1 and the first is the header."""
    return row + 2


def _read_csv(path: Path, dataset: Dataset) -> pa.Table:
    with path.open("rb") as file:
        head = file.readline(HEADER_BYTES_MAX)
        if not head:
            raise TableEmpty("the file is empty")
        file.seek(-1, 2)
        whole = file.read() in (b"\n", b"\r")
    names = _check_header(_header_names(head), dataset)
    try:
        table = csv.read_csv(
            path,
            # One thread: only then does Arrow number the line it could not split.
            read_options=csv.ReadOptions(use_threads=False),
            parse_options=csv.ParseOptions(ignore_empty_lines=False),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
            ),
        )
    except pa.ArrowInvalid as error:
        if match := _RAGGED.search(str(error)):
            raise _ragged(path, *map(int, match.groups())) from None
        raise
    if not whole:
        raise TableTruncated(f"line {_line(table.num_rows - 1)}, the last, does not end with a line break")
    if table.column_names != names:
        raise TableUnreadable("the header line cannot be split into names; write it without quotes")
    return table


def _ragged(path: Path, line: int, wanted: int, found: int) -> IngestError:
    """Return the error for a line with the wrong number of columns: a short last line is a cut file."""
    with path.open("rb") as file:
        last = sum(1 for _ in file)
    if line == last and found < wanted:
        return TableTruncated(f"line {line}, the last, has {found} columns of {wanted}; copy the file again")
    return TableUnreadable(f"line {line} has {found} columns, the header has {wanted}")


def _header_names(head: bytes) -> list[str]:
    try:
        return next(plain_csv.reader([head.decode("utf-8-sig")]), [])
    except (UnicodeDecodeError, plain_csv.Error):
        raise TableUnreadable("the header line is not UTF-8 CSV; save the table as 'CSV UTF-8'") from None


def _read_parquet(path: Path, dataset: Dataset) -> pa.Table:
    with parquet.ParquetFile(path) as file:
        _check_header(file.schema_arrow.names, dataset)
        return file.read()


_READERS: dict[str, Callable[[Path, Dataset], pa.Table]] = {".csv": _read_csv, ".parquet": _read_parquet}


def _check_header(names: list[str], dataset: Dataset) -> list[str]:
    wanted = [SUBJECT, *(field.name for field in dataset.fields)]
    missing = tuple(name for name in wanted if name not in names)
    unknown = [name for name in names if name not in wanted]
    double = sorted({name for name in names if names.count(name) > 1 and name in wanted})
    if missing or unknown or double:
        # A table without a header has data where names should be, and data must not get into a message.
        shown = tuple(name for name in unknown if name.isidentifier() and name.isascii())
        said = [f"missing: {', '.join(missing)}"] if missing else []
        said += [f"unknown: {', '.join(shown) or f'{len(unknown)} columns'}"] if unknown else []
        said += [f"double: {', '.join(double)}"] if double else []
        raise TableHeaderWrong(f"{dataset.name}: " + "; ".join(said), missing=missing, unknown=shown)
    return names


def _subjects(column: pa.ChunkedArray) -> list[str]:
    """Return the subjects, all valid and distinct."""
    if not _is_text(column.type):
        raise TableSubjectInvalid("a subject is text", line=_line(0), column=SUBJECT)
    subjects: list[str] = ["" if each is None else each for each in column.to_pylist()]
    if (bad := first_invalid_subject(subjects)) is not None:
        raise TableSubjectInvalid(_why(subjects[bad]), line=_line(bad), column=SUBJECT)
    first: dict[str, int] = {}
    for row, subject in enumerate(subjects):
        if (before := first.setdefault(subject, row)) != row:
            raise TableSubjectDuplicate(line=_line(row), first_line=_line(before))
    return subjects


def _why(subject: str) -> str:
    try:
        parse_subject(subject)
    except SubjectInvalid as error:
        return str(error) if subject else "the subject is empty"
    return "not a subject"


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _column(field: Field, column: pa.ChunkedArray) -> Column:
    """Return a column's values as `RecordLayout.pack` takes them."""
    array = column.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_null(array.type) or (field.type is FieldType.BOOLEAN and _holds(field, array.type)):
        array = array.cast(pa.string())
    elif not _holds(field, array.type):
        reason = f"a column of {array.type} does not hold a {field.type}"
        raise TableValueInvalid(reason, line=_line(0), column=field.name)
    if field.type in (FieldType.BOOLEAN, FieldType.CATEGORY):
        return _places(field, array)
    if _is_text(array.type):
        _check_spelling(field, array)
    target = {FieldType.NUMBER: pa.float64(), FieldType.INTEGER: pa.int64()}.get(field.type, pa.date32())
    values = _cast(field, array, target)
    return _masked(values.cast(pa.int32()) if field.type is FieldType.DATE else values)


def _holds(field: Field, kind: pa.DataType) -> bool:
    """Say whether a column of Arrow's type `kind` can hold the field: as text always, else in its own kind."""
    t = pa.types
    own = {
        FieldType.NUMBER: (t.is_floating, t.is_integer, t.is_decimal),
        FieldType.INTEGER: (t.is_integer,),
        FieldType.BOOLEAN: (t.is_boolean, t.is_integer),
        FieldType.CATEGORY: (),
        FieldType.DATE: (t.is_date, t.is_timestamp),
    }
    return _is_text(kind) or any(holds(kind) for holds in own[field.type])


def _places(field: Field, array: pa.Array) -> Column:
    """Return the indices of codes in the field's list, or booleans."""
    words = field.codes if field.type is FieldType.CATEGORY else _BOOLEANS
    places = pc.index_in(array, value_set=pa.array(words, type=array.type))
    _refuse_first(field, pc.and_(array.is_valid(), places.is_null()), _EXPECTED[field.type])
    column = _masked(places)
    return column % 2 if field.type is FieldType.BOOLEAN else column


_EXPECTED = {
    FieldType.NUMBER: "expected a number such as 1234.5, or nothing",
    FieldType.INTEGER: "expected a whole number, or nothing",
    FieldType.BOOLEAN: "expected true, false, 1, 0, or nothing",
    FieldType.CATEGORY: "expected one of the field's codes, or nothing",
    FieldType.DATE: "expected a date such as 2026-06-30, or nothing",
}


def _check_spelling(field: Field, array: pa.Array) -> None:
    """Refuse what Arrow would read but the format does not have: 0x10, NaN, Infinity."""
    pattern = {FieldType.NUMBER: _NUMBER, FieldType.INTEGER: _INTEGER}.get(field.type, _DATE)
    _refuse_first(field, pc.invert(pc.match_substring_regex(array, pattern)), _EXPECTED[field.type])


def _cast(field: Field, array: pa.Array, target: pa.DataType) -> pa.Array:
    try:
        values = array.cast(target)
    except pa.ArrowInvalid:
        row = _first_uncastable(array, target)
        raise TableValueInvalid(_EXPECTED[field.type], line=_line(row), column=field.name) from None
    if pa.types.is_timestamp(array.type):
        # Arrow drops the time of day without a word.
        _refuse_first(field, pc.not_equal(values.cast(array.type), array), _EXPECTED[field.type])
    return values


def _first_uncastable(array: pa.Array, target: pa.DataType) -> int:
    """Return the row of the first value that does not cast, by halving: Arrow does not say which it was."""
    low, high = 0, len(array)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            array.slice(low, middle - low).cast(target)
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low


def _refuse_first(field: Field, bad: pa.BooleanArray, reason: str) -> None:
    row = pc.index(bad, True).as_py()
    if row >= 0:
        raise TableValueInvalid(reason, line=_line(row), column=field.name)


def _masked(array: pa.Array) -> Column:
    mask: NDArray[np.bool_] = array.is_null().to_numpy(zero_copy_only=False)
    return np.ma.MaskedArray(array.fill_null(0).to_numpy(zero_copy_only=False), mask=mask)
