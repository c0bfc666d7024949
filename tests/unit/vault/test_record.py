"""Packed records: known bytes, one encoding a value, the same values back, nothing else accepted."""

import math
import struct
from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sandbox.vault.catalog import Cadence, Dataset, Field, FieldType, load_catalog
from sandbox.vault.errors import FieldUnknown, RecordInvalid
from sandbox.vault.record import INTEGER_MAX, RecordLayout, Value

CODES = ("A", "B", "M")
DATASET = Dataset(
    "tax.declaration",
    "tax",
    "纳税申报",
    "declarations",
    Cadence.MONTHLY,
    tuple(
        Field(name, FieldType(kind), "", CODES if kind == "category" else (), name, name)
        for name, kind in {
            "sales": "number",
            "count": "integer",
            "late": "boolean",
            "grade": "category",
            "since": "date",
            "a": "number",
            "b": "boolean",
            "c": "category",
            "d": "integer",
        }.items()
    ),
)
LAYOUT = RecordLayout.of(DATASET)
KNOWN_ROW: tuple[Value, ...] = (1.5, -2, True, "M", date(1970, 1, 2), None, False, None, INTEGER_MAX)
KNOWN_BODY = bytes.fromhex(
    "a000 000000000000f83f feffffffffffffff 01 0200 01000000 0000000000000000 00 0000 0000000000002000".replace(" ", "")
)
VALUES: Mapping[FieldType, st.SearchStrategy[Any]] = {
    FieldType.NUMBER: st.floats(allow_nan=False, allow_infinity=False),
    FieldType.INTEGER: st.integers(-INTEGER_MAX, INTEGER_MAX),
    FieldType.BOOLEAN: st.booleans(),
    FieldType.CATEGORY: st.sampled_from(CODES),
    FieldType.DATE: st.dates(),
}
KINDS: Mapping[FieldType, Any] = {
    FieldType.NUMBER: np.float64,
    FieldType.INTEGER: np.int64,
    FieldType.BOOLEAN: np.bool_,
    FieldType.CATEGORY: "U1",
    FieldType.DATE: "datetime64[D]",
}
rows_strategy = st.lists(st.tuples(*(st.none() | VALUES[field.type] for field in DATASET.fields)), max_size=5)


def columns_of(rows: list[tuple[Value, ...]]) -> dict[str, np.ma.MaskedArray[Any, Any]]:
    """Turn rows of values into masked arrays, with garbage under the masks."""
    garbage: dict[str, Any] = {
        "number": math.nan,
        "integer": 2**60,
        "boolean": True,
        "category": "?",
        "date": date(1990, 1, 1),
    }
    return {
        field.name: np.ma.MaskedArray(
            np.array([garbage[field.type] if row[i] is None else row[i] for row in rows], dtype=KINDS[field.type]),
            mask=[row[i] is None for row in rows],
        )
        for i, field in enumerate(DATASET.fields)
    }


def as_float(value: Value) -> float:
    """Return what a gather gives for a value."""
    if value is None:
        return math.nan
    if isinstance(value, date):
        return float((value - date(1970, 1, 1)).days)
    return float(CODES.index(value)) if isinstance(value, str) else float(value)


def test_the_known_record_has_the_known_bytes() -> None:
    """The format is what the module says, byte by byte."""
    assert LAYOUT.width == len(KNOWN_BODY) == 2 + 8 + 8 + 1 + 2 + 4 + 8 + 1 + 2 + 8
    assert LAYOUT.pack(columns_of([KNOWN_ROW]), 1) == KNOWN_BODY
    assert LAYOUT.unpack(KNOWN_BODY) == KNOWN_ROW


@given(rows_strategy)
def test_values_come_back_as_they_went_in(rows: list[tuple[Value, ...]]) -> None:
    """Packing and unpacking are inverse; whatever lies under a mask leaves no trace."""
    packed = LAYOUT.pack(columns_of(rows), len(rows))
    LAYOUT.validate(packed, len(rows))
    width = LAYOUT.width
    assert [LAYOUT.unpack(packed[i * width : (i + 1) * width]) for i in range(len(rows))] == rows


@given(rows_strategy, st.lists(st.sampled_from(DATASET.field_names), max_size=12))
def test_a_gather_reads_what_unpacking_reads(rows: list[tuple[Value, ...]], names: list[str]) -> None:
    """Any fields, in any order, even twice: the same values as binary64, NaN for null."""
    packed = LAYOUT.pack(columns_of(rows), len(rows))
    gather = LAYOUT.compile(names)
    for row, start in zip(rows, range(0, len(packed), LAYOUT.width), strict=True):
        expected = [as_float(row[DATASET.field_names.index(name)]) for name in names]
        read = gather.read(packed[start : start + LAYOUT.width])
        assert all(type(value) is float for value in read)
        assert struct.pack(f"{len(read)}d", *read) == struct.pack(f"{len(names)}d", *(x + 0.0 for x in expected))


@given(st.binary(min_size=LAYOUT.width, max_size=LAYOUT.width))
@settings(max_examples=300)
def test_what_validates_has_one_encoding(body: bytes) -> None:
    """Any bytes are refused, or are exactly what packing their values gives."""
    try:
        row = LAYOUT.unpack(body)
    except RecordInvalid:
        return
    assert LAYOUT.pack(columns_of([row]), 1) == body


@given(rows_strategy.filter(bool), st.data())
def test_a_flipped_bit_makes_another_record_or_none(rows: list[tuple[Value, ...]], data: st.DataObject) -> None:
    """No two different byte strings are the same record."""
    body = bytearray(LAYOUT.pack(columns_of(rows[:1]), 1))
    body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        changed = LAYOUT.unpack(bytes(body))
    except RecordInvalid:
        return
    assert changed != rows[0]


def slot(name: str) -> int:
    """Return the offset of a field's slot in the test layout."""
    widths = {"number": 8, "integer": 8, "boolean": 1, "category": 2, "date": 4}
    index = [field.name for field in DATASET.fields].index(name)
    return 2 + sum(widths[field.type] for field in DATASET.fields[:index])


@pytest.mark.parametrize(
    ("field", "at", "replacement"),
    [
        ("sales", slot("sales"), struct.pack("<d", math.nan)),
        ("sales", slot("sales"), struct.pack("<d", -math.inf)),
        ("sales", slot("sales"), struct.pack("<d", -0.0)),
        ("count", slot("count"), struct.pack("<q", INTEGER_MAX + 1)),
        ("count", slot("count"), struct.pack("<q", -(2**63))),
        ("late", slot("late"), b"\x02"),
        ("grade", slot("grade"), struct.pack("<H", len(CODES))),
        ("since", slot("since"), struct.pack("<i", 2**31 - 1)),
        ("since", slot("since"), struct.pack("<i", date.min.toordinal() - 719_164)),
        ("a", slot("a"), b"\x01"),
        ("a", slot("a"), struct.pack("<d", -0.0)),
        ("c", slot("c"), b"\x01"),
        ("", 1, b"\x82"),
    ],
)
def test_a_broken_rule_is_named_with_its_row(field: str, at: int, replacement: bytes) -> None:
    """Each rule of the layout is checked for every row, and the message tells where, not what."""
    rows = bytearray(KNOWN_BODY * 3)
    start = 2 * LAYOUT.width + at
    rows[start : start + len(replacement)] = replacement
    with pytest.raises(RecordInvalid) as caught:
        LAYOUT.validate(bytes(rows), 3)
    assert (caught.value.row, caught.value.field) == (2, field)
    LAYOUT.validate(memoryview(rows)[: 2 * LAYOUT.width], 2)


def test_the_first_bad_row_is_reported() -> None:
    """With faults in several rows and fields, the lowest row is named."""
    rows = bytearray(KNOWN_BODY * 3)
    rows[2 * LAYOUT.width + slot("sales") + 7] = 0xFF
    rows[2 * LAYOUT.width + slot("sales") + 6] = 0xFF
    rows[LAYOUT.width + slot("late")] = 7
    with pytest.raises(RecordInvalid, match="row 1, field late"):
        LAYOUT.validate(bytes(rows), 3)


@pytest.mark.parametrize("body", [b"", KNOWN_BODY[:-1], KNOWN_BODY + b"\0"])
def test_a_record_of_another_length_is_refused_everywhere(body: bytes) -> None:
    """Short and long records never reach a model."""
    with pytest.raises(RecordInvalid):
        LAYOUT.compile(DATASET.field_names).read(body)
    with pytest.raises(RecordInvalid):
        LAYOUT.compile([]).read(body)
    with pytest.raises(RecordInvalid):
        LAYOUT.unpack(body)
    with pytest.raises(RecordInvalid):
        LAYOUT.validate(body, 1)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("sales", np.array([1.0, math.nan])),
        ("sales", np.array(["1", "2"])),
        ("sales", np.array([1.0])),
        ("sales", np.array([[1.0], [2.0]])),
        ("count", np.array([1.0, 2.0])),
        ("count", np.array([1, INTEGER_MAX + 1])),
        ("count", np.array([1, 2**63], dtype=np.uint64)),
        ("late", np.array([0, 256])),
        ("late", np.array([0, -1])),
        ("grade", np.array([0, 3])),
        ("grade", np.array(["A", "a"])),
        ("grade", np.array(["A", None], dtype=object)),
        ("since", np.array(["2026-01-01", "NaT"], dtype="datetime64[D]")),
        ("since", np.array([0, 2**40])),
    ],
)
def test_columns_that_do_not_fit_are_refused(name: str, column: np.ndarray[Any, Any]) -> None:
    """Nothing wraps around, is rounded or is taken for null on its way into a record."""
    columns: dict[str, Any] = columns_of([KNOWN_ROW, KNOWN_ROW])
    with pytest.raises(RecordInvalid) as caught:
        LAYOUT.pack({**columns, name: column}, 2)
    assert caught.value.field == name


def test_columns_must_be_exactly_the_fields() -> None:
    """A missing or an unknown column is refused."""
    columns = columns_of([KNOWN_ROW])
    with pytest.raises(RecordInvalid):
        LAYOUT.pack({**columns, "more": columns["a"]}, 1)
    del columns["a"]
    with pytest.raises(RecordInvalid):
        LAYOUT.pack(columns, 1)


def test_indices_and_days_pack_like_codes_and_dates() -> None:
    """A category may come as its index, a date as days, a boolean as 0 or 1, a time as its day."""
    columns: dict[str, Any] = columns_of([KNOWN_ROW])
    columns |= {"grade": np.array([2]), "since": np.array([1]), "late": np.array([1])}
    assert LAYOUT.pack(columns, 1) == KNOWN_BODY
    columns["since"] = np.array(["1970-01-02T11:00"], dtype="datetime64[m]")
    assert LAYOUT.pack(columns, 1) == KNOWN_BODY


@pytest.mark.parametrize("name", ["sales", "tax.declaration.none", "tax.invoice.sales", "tax.declaration.", ""])
def test_unknown_fields_do_not_compile(name: str) -> None:
    """Only full names of this dataset's fields can be gathered."""
    with pytest.raises(FieldUnknown):
        LAYOUT.compile(["tax.declaration.sales", name])


@given(st.integers(1, 70), st.data())
@settings(max_examples=40)
def test_every_number_of_fields_has_its_bitmap(count: int, data: st.DataObject) -> None:
    """Around every multiple of eight, each null is found at its own bit."""
    fields = tuple(Field(f"f{i}", FieldType.NUMBER, "", (), "", "") for i in range(count))
    layout = RecordLayout(Dataset("d.s", "d", "", "", Cadence.DAILY, fields))
    nulls = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    assume(layout.width == (count + 7) // 8 + 8 * count)
    columns = {f.name: np.ma.MaskedArray([1.0], mask=[null]) for f, null in zip(fields, nulls, strict=True)}
    body = layout.pack(columns, 1)
    assert [value is None for value in layout.unpack(body)] == nulls
    read = layout.compile([f"d.s.{field.name}" for field in fields]).read(body)
    assert [math.isnan(value) for value in read] == nulls


def test_layouts_are_made_once_for_a_dataset() -> None:
    """The cached layout is the same object, and every built-in dataset has one."""
    assert RecordLayout.of(DATASET) is LAYOUT
    for dataset in load_catalog().datasets.values():
        assert RecordLayout.of(dataset).width > len(dataset.fields) // 8
