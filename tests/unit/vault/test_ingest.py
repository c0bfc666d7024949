"""Loading tables: what is right comes in exactly, what is wrong is named by line and never quoted."""

import csv
import gzip
import io
import math
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from sandbox.vault.catalog import Cadence, Catalog, Dataset, Field, FieldType, load_catalog
from sandbox.vault.catalog_file import parse_catalog
from sandbox.vault.errors import (
    IngestError,
    TableEmpty,
    TableHeaderWrong,
    TableSubjectDuplicate,
    TableSubjectInvalid,
    TableTruncated,
    TableUnreadable,
    TableValueInvalid,
)
from sandbox.vault.ingest import Table, read_table
from sandbox.vault.record import RecordLayout, Value
from sandbox.vault.synthetic import generate

KINDS = {"sales": "number", "count": "integer", "late": "boolean", "grade": "category", "since": "date"}
DATASET = Dataset(
    "tax.declaration",
    "tax",
    "纳税申报",
    "declarations",
    Cadence.MONTHLY,
    tuple(Field(n, FieldType(k), "", ("A", "B") if k == "category" else (), n, n) for n, k in KINDS.items()),
)
SUBJECTS = generate(load_catalog(), 50, 3).subjects
HEADER = "subject,sales,count,late,grade,since\n"
ROW = ",1.5,2,true,A,2026-06-30\n"
GOOD = HEADER + SUBJECTS[0] + ROW + SUBJECTS[1] + ",,,,,\n"
CREDIT = Path(__file__).parents[4] / "shared" / "fixtures" / "credit"


def read(folder: Path, text: str | bytes) -> Table:
    """Read a CSV table of that text."""
    path = folder / "table.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_table(path, DATASET)


def values(table: Table, dataset: Dataset = DATASET) -> list[tuple[Value, ...]]:
    """Return a table's rows as values."""
    layout = RecordLayout.of(dataset)
    assert len(table.rows) == len(table.subjects) * table.width == len(table.subjects) * layout.width
    starts = range(0, len(table.rows), table.width)
    return [layout.unpack(table.rows[start : start + table.width]) for start in starts]


def test_a_good_table_comes_in(tmp_path: Path) -> None:
    """Values, nulls and the order of lines are kept."""
    table = read(tmp_path, GOOD)
    assert table.subjects == SUBJECTS[:2]
    assert values(table) == [(1.5, 2, True, "A", date(2026, 6, 30)), (None,) * 5]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + GOOD,
        GOOD.replace("\n", "\r\n"),
        f"late,since,subject,grade,count,sales\ntrue,2026-06-30,{SUBJECTS[0]},A,2,1.5\n,,{SUBJECTS[1]},,,\n",
        GOOD.replace(",true,", ",1,").replace(",1.5,", ',"1.50",').replace(",,,,,", ',"",,,,'),
        GOOD.replace(",1.5,", ",15e-1,").replace(",2,", ",002,"),
    ],
    ids=["byte order mark", "windows line ends", "other column order", "quotes and figures", "other spellings"],
)
def test_spellings_of_the_same_table_are_the_same(tmp_path: Path, text: str) -> None:
    """What spreadsheets do to a CSV file does not change what is read."""
    assert read(tmp_path, text).rows == read(tmp_path, GOOD).rows


@pytest.mark.parametrize(
    ("column", "bad"),
    [
        ("sales", ["nan", "NaN", "inf", "-Infinity", "1e999", "1,5", "1.5 ", "0x10", "abc", "１", "--1", "null"]),
        ("count", ["1.0", "1e3", "0x10", "9007199254740993", "-9007199254740993", "99999999999999999999", " 1", "x"]),
        ("late", ["True", "yes", "2", "-1", "01", "t"]),
        ("grade", ["a", "C", "AB", " A", "0", "null"]),
        ("since", ["2026-02-30", "2026-6-30", "30.06.2026", "2026-06-30T00:00", "20260630", "2026/06/30", "0"]),
    ],
)
def test_a_value_that_does_not_fit_is_named_by_line_and_column(tmp_path: Path, column: str, bad: list[str]) -> None:
    """The first bad value is found wherever it stands; the message does not hold it."""
    place = list(KINDS).index(column)
    for text in bad:
        cells = ["1.5", "2", "true", "A", "2026-06-30"]
        lines = [f"{subject},{','.join(cells)}" for subject in SUBJECTS[:9]]
        cells[place] = f'"{text}"'
        lines[5] = lines[7] = f"{SUBJECTS[10]},{','.join(cells)}"
        lines[7] = lines[7].replace(SUBJECTS[10], SUBJECTS[11])
        with pytest.raises(TableValueInvalid) as caught:
            read(tmp_path, HEADER + "\n".join(lines) + "\n")
        assert (caught.value.line, caught.value.column) == (7, column), text
        assert len(text) < 4 or text not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "missing", "unknown"),
    [
        ("subject,sales,count,late,grade\n", ("since",), ()),
        ("sales,count,late,grade,since\n", ("subject",), ()),
        ("subject,sales,count,late,grade,since,more\n", (), ("more",)),
        ("subject,sales,count,late,grade,Since\n", ("since",), ("Since",)),
        ("subject,sales,count,late,grade,since,sales\n", (), ()),
        ("subject;sales;count;late;grade;since\n", ("subject", *KINDS), ()),
        ("subject,tax.declaration.sales,count,late,grade,since\n", ("sales",), ()),
    ],
)
def test_a_wrong_header_says_what_is_missing_and_unknown(
    tmp_path: Path, header: str, missing: tuple[str, ...], unknown: tuple[str, ...]
) -> None:
    """The columns must be exactly the subject and the dataset's fields, each once."""
    with pytest.raises(TableHeaderWrong) as caught:
        read(tmp_path, header + SUBJECTS[0] + ROW)
    assert (caught.value.missing, caught.value.unknown) == (missing, unknown)
    assert all(name in str(caught.value) for name in (*missing, *unknown))


def test_a_table_without_header_does_not_leak_its_first_line(tmp_path: Path) -> None:
    """Data where the names should be stays out of the message."""
    with pytest.raises(TableHeaderWrong) as caught:
        read(tmp_path, SUBJECTS[0] + ROW)
    assert SUBJECTS[0] not in str(caught.value)
    assert "2026" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (GOOD.replace(SUBJECTS[1], SUBJECTS[1].lower()), 3),
        (GOOD.replace(SUBJECTS[0], SUBJECTS[0][5:]), 2),
        (GOOD.replace(SUBJECTS[1], ""), 3),
        (GOOD.replace(SUBJECTS[1], SUBJECTS[1][:-1]), 3),
    ],
)
def test_a_bad_subject_is_named_by_line(tmp_path: Path, text: str, line: int) -> None:
    """Wrong, missing and misspelt subjects are refused without being quoted."""
    with pytest.raises(TableSubjectInvalid) as caught:
        read(tmp_path, text)
    assert caught.value.line == line
    assert SUBJECTS[line - 2][5:] not in str(caught.value)


def test_a_double_subject_is_named_with_both_lines(tmp_path: Path) -> None:
    """The second line of a subject is refused and the first is pointed out."""
    with pytest.raises(TableSubjectDuplicate) as caught:
        read(tmp_path, GOOD + SUBJECTS[0] + ROW)
    assert (caught.value.line, caught.value.first_line) == (4, 2)
    assert SUBJECTS[0] not in str(caught.value)


@pytest.mark.parametrize("kept", range(1, len(SUBJECTS[1]) + 6))
def test_a_cut_last_line_is_noticed_wherever_it_is_cut(tmp_path: Path, kept: int) -> None:
    """A file that was cut in its last line is never read as a shorter table."""
    with pytest.raises(TableTruncated, match="line 3, the last"):
        read(tmp_path, HEADER + SUBJECTS[0] + ROW + (SUBJECTS[1] + ",,,,,\n")[:kept])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", TableEmpty),
        (HEADER, TableEmpty),
        (HEADER + "\n" + SUBJECTS[0] + ROW, TableSubjectInvalid),
        (GOOD + "\n", TableSubjectInvalid),
        (HEADER.encode() + b"\xff,1\n" + SUBJECTS[0].encode() + ROW.encode(), TableUnreadable),
        (HEADER.encode() + b'"' + SUBJECTS[0].encode() + ROW.encode() * 3, TableUnreadable),
        (HEADER + SUBJECTS[0] + ",1\n" + SUBJECTS[1] + ROW, TableUnreadable),
        (HEADER + SUBJECTS[0] + ROW.replace("\n", ",more\n"), TableUnreadable),
        (GOOD.replace("A", "甲").encode("gb18030"), TableUnreadable),
        ("企业,".encode("gb18030") + GOOD.encode(), TableUnreadable),
        (b"\x1f\x8b\x08\x00" + bytes(60), TableUnreadable),
        (GOOD.encode("utf-16"), TableUnreadable),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, text: str | bytes, error: type[IngestError]) -> None:
    """Empty, ragged, wrongly encoded and foreign files have their own errors."""
    with pytest.raises(error):
        read(tmp_path, text)


def test_files_that_are_not_there_or_have_another_name_are_refused(tmp_path: Path) -> None:
    """The file's name says its format; a missing file, a folder and an unknown name are refused."""
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "table.xlsx").write_text(GOOD)
    (tmp_path / "table.parquet").write_text(GOOD)
    for name in ("none.csv", "none.parquet", "folder.csv", "table.xlsx", "table.parquet"):
        with pytest.raises(TableUnreadable):
            read_table(tmp_path / name, DATASET)


@given(data=st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_tables_are_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    """Any damage gives a table of valid rows or an IngestError, never another error."""
    text = bytearray(GOOD.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 4))] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b'"', b"\n", b"\r", b",", b'""', b"\0"])
        )
    try:
        table = read(tmp_path, bytes(text))
    except IngestError:
        return
    assert len(values(table)) == len(set(table.subjects))


def write_parquet(folder: Path, columns: dict[str, Any]) -> Path:
    """Write a Parquet file of one row (or more) with the good values but for `columns`."""
    good: dict[str, Any] = {
        "subject": SUBJECTS[:2],
        "sales": [1.5, None],
        "count": [2, None],
        "late": [True, None],
        "grade": ["A", None],
        "since": [date(2026, 6, 30), None],
    }
    parquet.write_table(pa.table(good | columns), folder / "table.parquet")
    return folder / "table.parquet"


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"sales": pa.array([1.5, None], pa.float32()), "count": pa.array([2, None], pa.uint8())},
        {"sales": [Decimal("1.50"), None], "late": pa.array([1, None], pa.int8())},
        {"since": [datetime(2026, 6, 30), None], "grade": pa.array(["A", None]).dictionary_encode()},
        {"sales": ["1.5", None], "count": ["2", None], "late": ["true", None], "since": ["2026-06-30", None]},
    ],
)
def test_parquet_reads_like_csv(tmp_path: Path, columns: dict[str, Any]) -> None:
    """Typed columns and text columns give the rows that the CSV file gives."""
    assert read_table(write_parquet(tmp_path, columns), DATASET).rows == read(tmp_path, GOOD).rows


def test_a_column_of_nulls_alone_is_a_column_of_nulls(tmp_path: Path) -> None:
    """Parquet's null type is accepted for every field."""
    path = write_parquet(tmp_path, {name: pa.nulls(2) for name in KINDS})
    assert values(read_table(path, DATASET)) == [(None,) * 5] * 2


@pytest.mark.parametrize(
    ("column", "bad", "line"),
    [
        ("sales", [1.5, math.nan], 3),
        ("sales", [True, False], 2),
        ("sales", [[1.5], None], 2),
        ("count", [1.0, 2.0], 2),
        ("count", pa.array([1, 2**63], pa.uint64()), 3),
        ("count", [0, 2**53 + 1], 3),
        ("late", [0, 2], 3),
        ("late", [0.0, 1.0], 2),
        ("grade", [0, 1], 2),
        ("grade", ["A", ""], 3),
        ("since", [0, 1], 2),
        ("since", [datetime(2026, 6, 30), datetime(2026, 6, 30, 12)], 3),
    ],
)
def test_parquet_values_that_do_not_fit_are_named(tmp_path: Path, column: str, bad: Any, line: int) -> None:
    """A column of another kind or a value out of range is refused with its line, as in CSV."""
    with pytest.raises(TableValueInvalid) as caught:
        read_table(write_parquet(tmp_path, {column: bad}), DATASET)
    assert (caught.value.line, caught.value.column) == (line, column)


def test_parquet_has_the_other_errors_too(tmp_path: Path) -> None:
    """Columns, subjects and emptiness are judged as in CSV; a cut file is unreadable."""
    with pytest.raises(TableHeaderWrong):
        read_table(write_parquet(tmp_path, {"more": [1, 2]}), DATASET)
    with pytest.raises(TableSubjectInvalid):
        read_table(write_parquet(tmp_path, {"subject": [1, 2]}), DATASET)
    with pytest.raises(TableSubjectDuplicate):
        read_table(write_parquet(tmp_path, {"subject": SUBJECTS[:1] * 2}), DATASET)
    path = write_parquet(tmp_path, {})
    parquet.write_table(parquet.read_table(path).slice(0, 0), path)
    with pytest.raises(TableEmpty):
        read_table(path, DATASET)
    path.write_bytes(write_parquet(tmp_path, {}).read_bytes()[:-3])
    with pytest.raises(TableUnreadable):
        read_table(path, DATASET)


def polish_catalog(names: list[str]) -> Catalog:
    """Write a catalogue for columns of numbers, as a steward would."""
    lines = "".join(f"          {name}: number | 指标 {name} | {name}\n" for name in names)
    text = (
        "departments:\n  poland:\n    label: 波兰 | Poland\n    datasets:\n      ratios:\n"
        f"        label: 财务比率 | financial ratios\n        cadence: yearly\n        fields:\n{lines}"
    )
    return parse_catalog(text.encode())


@pytest.mark.skipif(not CREDIT.is_dir(), reason="the shared credit fixtures are not here")
def test_real_ratios_of_real_companies_come_in_exactly(tmp_path: Path) -> None:
    """Every value of the Polish companies file arrives as Python reads it; empty cells are null."""
    text = gzip.decompress((CREDIT / "polish_companies_5year.csv.gz").read_bytes()).decode()
    header, *rows = csv.reader(io.StringIO(text))
    names = [name.lower() for name in header]
    # `class` may not be known when the model is asked; a steward would not publish it.
    dataset = polish_catalog(names[:-1]).datasets["poland.ratios"]
    subjects = generate(load_catalog(), len(rows), 5).subjects
    path = tmp_path / "ratios.csv"
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(
            [["subject", *names[:-1]], *([s, *row[:-1]] for s, row in zip(subjects, rows, strict=True))]
        )
    table = read_table(path, dataset)
    gather = RecordLayout.of(dataset).compile(dataset.field_names)
    nulls = 0
    for index, row in enumerate(rows):
        body = table.rows[index * table.width : (index + 1) * table.width]
        expected = [float(cell) if cell else math.nan for cell in row[:-1]]
        read_back = gather.read(body)
        assert all(a == b or (a != a and b != b) for a, b in zip(read_back, expected, strict=True))
        nulls += sum(map(math.isnan, read_back))
    assert nulls == 4666
