"""Data as it should not arrive: tables that are wrong, and packed rows from a client that checks nothing."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from heixia.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from typer.testing import CliRunner

from enclave_api.cli.example import FIELDS, LEVELS
from enclave_api.cli.main import app
from enclave_api.wire_limits import CHUNK_BYTES_MAX
from sandbox.vault.catalog import layout_hash
from sandbox.vault.record import RecordLayout
from tests.integration.conftest import PRODUCT, Stage
from tests.room import datasets_of, refused

NAME = "tax.declaration"
TURNS = itertools.count(1)
Part = catalog_pb2.LoadDatasetRequest


@pytest.fixture(autouse=True)
def _goes_on(stage: Stage) -> Iterator[None]:
    """Whatever a test sent, nothing of it is stored, and the next good call reads what was there before."""
    with stage.room.gains():
        yield
    company = next(TURNS)
    limit = stage.room.answer(stage.world.subjects[company], PRODUCT, datasets_of(FIELDS))
    assert limit in LEVELS


# --- tables -----------------------------------------------------------------------------------------------------------

Spoil = Callable[[list[str]], str]


def _cell(lines: list[str], column: int, text: str) -> str:
    cells = lines[1].rstrip("\n").split(",")
    cells[column] = text
    return "".join([lines[0], ",".join(cells) + "\n", *lines[2:]])


TABLES: dict[str, tuple[Spoil, str]] = {
    "nothing": (lambda lines: "", "table_empty"),
    "a header alone": (lambda lines: lines[0], "table_empty"),
    "no header": (lambda lines: "".join(lines[1:]), "table_header_wrong"),
    "a column missing": (lambda lines: "".join(x.rpartition(",")[0] + "\n" for x in lines), "table_header_wrong"),
    "a column too many": (lambda lines: "".join(x.rstrip("\n") + ",x\n" for x in lines), "table_header_wrong"),
    "a column twice": (
        lambda lines: "".join(x.rstrip("\n") + "," + x.rstrip("\n").rpartition(",")[2] + "\n" for x in lines),
        "table_header_wrong",
    ),
    "another dataset's header": (lambda lines: "subject,paid_12m\n" + "".join(lines[1:]), "table_header_wrong"),
    "text for a value": (lambda lines: _cell(lines, 1, "a lot"), "table_value_invalid"),
    "no number": (lambda lines: _cell(lines, 1, "nan"), "table_value_invalid"),
    "a formula": (lambda lines: _cell(lines, 1, "=1+1"), "table_value_invalid"),
    "a subject twice": (lambda lines: "".join(lines) + lines[1], "table_subject_duplicate"),
    "a wrong check character": (lambda lines: _cell(lines, 0, "uscc:91350100M000100Y44"), "table_subject_invalid"),
    "no subject": (lambda lines: _cell(lines, 0, ""), "table_subject_invalid"),
    "a cut last line": (lambda lines: "".join(lines)[:-9], "table_truncated"),
    "a cut last value": (lambda lines: "".join(lines)[:-1], "table_truncated"),
    "a ragged line": (lambda lines: "".join(lines[:3]) + lines[3].rstrip("\n") + ",1\n", "table_unreadable"),
}


@pytest.fixture(scope="module")
def table(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The lines of a good table."""
    folder = tmp_path_factory.mktemp("tables")
    stage.world.write(folder, NAME, "csv")
    return next(folder.glob("*.csv")).read_text().splitlines(keepends=True)


def load_file(stage: Stage, path: Path) -> tuple[int, str]:
    """Runs `heixia steward load`; returns exit code and what it said on stderr."""
    steward = stage.room.steward("tax").credentials.folder
    command = ["steward", "load", "--as", str(steward), "--server", stage.room.server, NAME, str(path)]
    done = CliRunner().invoke(app, command)
    return done.exit_code, done.stderr


@pytest.mark.parametrize("name", TABLES)
def test_wrong_tables_are_refused_before_anything_is_sent(
    stage: Stage, table: list[str], tmp_path: Path, name: str
) -> None:
    """The command ends with 1, names the error, and says nothing of a value or a subject."""
    spoil, code = TABLES[name]
    path = tmp_path / "table.csv"
    path.write_text(spoil(table))
    exit_code, said = load_file(stage, path)
    assert (exit_code, f"[{code}]" in said) == (1, True), said
    assert table[1].split(",")[0] not in said


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("table.csv", b"\xff\xfe\x00subject\n"),
        ("table.parquet", b"PAR1 is not enough"),
        ("table.xlsx", b"PK\x03\x04"),
        ("table.csv", b"\0" * 5000),
    ],
)
def test_files_of_other_kinds_are_refused(stage: Stage, tmp_path: Path, file: str, content: bytes) -> None:
    """Other encodings, other formats, noise."""
    path = tmp_path / file
    path.write_bytes(content)
    exit_code, said = load_file(stage, path)
    assert exit_code == 1
    assert "[table_unreadable]" in said or "[table_truncated]" in said or "[table_header_wrong]" in said


def test_a_file_that_is_not_there_is_refused(stage: Stage, tmp_path: Path) -> None:
    """A missing file and a folder are told so in one line."""
    for path in (tmp_path / "nothing.csv", tmp_path):
        exit_code, said = load_file(stage, path)
        assert (exit_code, "[table_unreadable]" in said) == (1, True), said


# --- packed rows, from a client of the attacker's own -----------------------------------------------------------------


@pytest.fixture(scope="module")
def packed(stage: Stage) -> tuple[list[str], bytes, int]:
    """Good rows: subjects, records, and the width of one."""
    here = stage.world.present(NAME)
    subjects = [s for s, is_here in zip(stage.world.subjects, here, strict=True) if is_here][:10]
    width = RecordLayout.of(stage.room.catalog.dataset(NAME)).width
    return subjects, stage.world.packed(NAME)[: 10 * width], width


def header(stage: Stage, rows: int, *, dataset: str = NAME, layout: str = "", at: Timestamp | None = None) -> Part:
    """A header for so many rows."""
    known = layout or layout_hash(stage.room.catalog.dataset(NAME))
    stamp = at or Timestamp()
    if at is None:
        stamp.FromDatetime(datetime.now(UTC))
    return Part(header=catalog_pb2.LoadHeader(dataset=dataset, layout_hash=known, event_at=stamp, rows=rows))


def chunk(subjects: Sequence[str], records: bytes) -> Part:
    """Some rows."""
    return Part(chunk=catalog_pb2.LoadChunk(subjects=subjects, records=records))


def send(stage: Stage, *parts: Part, department: str = "tax") -> None:
    """Sends the parts of a load."""
    steward = stage.room.steward(department)
    steward.call(catalog_pb2_grpc.CatalogServiceStub(steward.channel).LoadDataset, iter(parts))


def test_headers_that_promise_the_impossible_are_refused(stage: Stage) -> None:
    """Unknown datasets, other departments', other layouts, no rows, too many, days to come."""
    future, odd = Timestamp(), Timestamp(seconds=2**62)
    future.FromDatetime(datetime.now(UTC) + timedelta(days=2))
    cases = [
        ({"dataset": "tax.nothing"}, 1, "dataset_unknown"),
        ({"dataset": "' OR 1=1"}, 1, "dataset_unknown"),
        ({"dataset": "water.usage"}, 1, "dataset_not_yours"),
        ({"layout": "0" * 64}, 1, "load_invalid"),
        ({"layout": "x"}, 1, "load_invalid"),
        ({}, 0, "load_invalid"),
        ({}, 200_001, "load_invalid"),
        ({}, 2**64 - 1, "load_invalid"),
        ({"at": future}, 1, "load_invalid"),
        ({"at": odd}, 1, "request_invalid"),
    ]
    for options, rows, code in cases:
        with refused(code):
            send(stage, header(stage, rows, **options))  # type: ignore[arg-type]


def test_datasets_that_are_not_open_take_nothing(stage: Stage) -> None:
    """A load for a dataset that its steward has not published is refused."""
    name = next(n for n in stage.room.catalog.datasets if n not in datasets_of(FIELDS))
    described = stage.room.catalog.dataset(name)
    part = header(stage, 1, dataset=name, layout=layout_hash(described))
    with refused("dataset_closed"):
        send(stage, part, department=described.department)


def test_rows_that_do_not_match_their_header_are_refused(stage: Stage, packed: tuple[list[str], bytes, int]) -> None:
    """Fewer, more, cut, doubled, oversized, out of order: all or nothing."""
    subjects, records, width = packed
    cases: list[tuple[list[Part], str]] = [
        ([header(stage, 10)], "load_invalid"),
        ([header(stage, 10), chunk(subjects[:9], records[: 9 * width])], "load_invalid"),
        ([header(stage, 9), chunk(subjects, records)], "load_invalid"),
        ([header(stage, 10), chunk(subjects, records[:-1])], "load_invalid"),
        ([header(stage, 10), chunk(subjects, records + b"\0")], "load_invalid"),
        ([header(stage, 10), chunk(subjects[:9], records)], "load_invalid"),
        ([header(stage, 10), chunk([], records)], "load_invalid"),
        ([header(stage, 10), header(stage, 10), chunk(subjects, records)], "request_invalid"),
        ([header(stage, 10), Part()], "request_invalid"),
        ([header(stage, 200_000), chunk(subjects, bytes(CHUNK_BYTES_MAX + 1))], "request_invalid"),
        ([header(stage, 10), chunk([*subjects[:9], subjects[0]], records)], "load_invalid"),
        (
            [
                header(stage, 10),
                chunk(subjects[:5], records[: 5 * width]),
                chunk([*subjects[5:9], subjects[0]], records[5 * width :]),
            ],
            "load_invalid",
        ),
        ([header(stage, 10), chunk([*subjects[:9], "uscc:91350100M000100Y44"], records)], "load_invalid"),
        ([header(stage, 10), chunk([*subjects[:9], ""], records)], "load_invalid"),
        ([header(stage, 10), chunk([*subjects[:9], subjects[9].lower()], records)], "load_invalid"),
    ]
    wrong = []
    for number, (parts, code) in enumerate(cases):
        try:
            with refused(code):
                send(stage, *parts)
        except AssertionError as error:
            wrong.append((number, str(error)))
    assert wrong == []


def test_records_in_another_encoding_are_refused(stage: Stage, packed: tuple[list[str], bytes, int]) -> None:
    """Every value has one encoding: any row of all ones, or a null with a value in its slot, is refused."""
    subjects, records, width = packed
    for row in (b"\xff" * width, b"\xff" + records[1:width], records[: width - 8] + b"\xff" * 8):
        with refused("load_invalid"):
            send(stage, header(stage, 1), chunk(subjects[:1], row))


def test_reasons_for_a_stop_are_codes(stage: Stage) -> None:
    """Free text cannot get into the log through a steward's reason."""
    for reason in ("", "because of the Wang family", "x" * 65):
        with refused("request_invalid"):
            stage.room.steward("tax").suspend(NAME, reason)
