"""Every row and column of every state table, edited in the database of a busy room: found, and named by its table."""

import json
import shutil
import sqlite3
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from audit.findings import Verdict
from audit.policy import Policy
from enclave_api.cli.example import FIELDS, Example
from enclave_api.client.bank import Bank
from enclave_api.client.new_rules import NewRules
from enclave_api.fsck import Report, check_home
from enclave_api.home import Home
from enclave_api.identity import Principal, Role
from sandbox.replay.rows import TABLES
from sandbox.vault.synthetic import World
from tests.integration.conftest import PRODUCT, Stage
from tests.integration.test_fsck import ask, be_busy
from tests.room import ACCEPT, OPERATOR, Room, datasets_of

NAMES = [table.name for table in TABLES] + ["call"]
COLUMNS = [(table.name, column) for table in TABLES for column in (*table.key, *table.values)]
COLUMNS += [("call", "idx"), ("call", "subject_tag"), ("call", "request_hash")]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, world: World, example: Example) -> Path:
    """A stopped home whose every table has a row."""
    room = Room.make(tmp_path_factory.mktemp("room")).start()
    try:
        room.load(world, datasets_of(FIELDS))
        stage = Stage(room, world, example, room.launch(example))
        be_busy(stage, 10)
        ask(stage, 20, stage.consent(20, uses=2))
        rules = NewRules(example.offer.rules.replace("0.35", "0.3"))
        derived = room.alice.replace_rules(stage.version, rules, room.alice.verify_enclave(ACCEPT).recipient()).version
        room.client(Bank, Principal(Role.STEWARD, "tax")).suspend(derived, "data-error")
        room.alice.retire(room.approved(example))
        room.alice.suspend(stage.version, "bank-decision")
        room.client(Bank, OPERATOR).suspend(stage.version, "security")
        room.revoke_authority("consent-office")
    finally:
        room.stop()
    return room.home.path


@pytest.fixture
def edited(home: Path, tmp_path: Path) -> Iterator[tuple[Path, sqlite3.Connection]]:
    """A copy of the database, to be edited by its administrator."""
    path = tmp_path / "heixia.db"
    shutil.copy(home / "heixia.db", path)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA ignore_check_constraints=ON")
        yield path, database


def check(home: Path, database: Path) -> Report:
    """Both verdicts."""
    policy = Policy.parse((home / "public" / "log.policy").read_text())
    return check_home(Home(database.parent), policy, lambda *_: None)


def found(report: Report) -> set[tuple[str, str]]:
    """What completeness found, with the table; nothing else may be broken."""
    assert report.verdicts == (Verdict.SOUND, Verdict.BROKEN)
    return {(one.code, one.place) for one in report.completeness.listed}


def test_the_room_itself_is_sound(home: Path) -> None:
    """Before anything is edited there is nothing to find, and no table of these tests is empty."""
    report = check(home, home / "heixia.db")
    assert (report.exit_code, report.completeness.listed) == (0, [])
    with closing(sqlite3.connect(f"file:{home}/heixia.db?mode=ro", uri=True)) as database:
        empty = {name for name in NAMES if not database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]}
    assert not empty


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=[".".join(pair) for pair in COLUMNS])
def test_an_edited_value(home: Path, edited: tuple[Path, sqlite3.Connection], table: str, column: str) -> None:
    """Whatever column of whatever row says something else: the row is named, with the entry that said it last."""
    path, database = edited
    set_to = f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?'
    for value, row in database.execute(f'SELECT "{column}", max(rowid) FROM "{table}" GROUP BY 1 LIMIT 3').fetchall():
        database.execute(set_to, (_other(value), row))
        report = check(home, path)
        assert found(report) & {("row_differs", table), ("row_missing", table)}
        assert report.first_bad is not None
        assert report.first_bad < report.integrity.entries
        database.execute(set_to, (value, row))


def _other(value: object) -> object:
    if isinstance(value, int):
        return value + 1_000_000
    return value[:-1] + bytes([value[-1] ^ 1]) if isinstance(value, bytes) else f"{value}x"


@pytest.mark.parametrize("table", NAMES)
def test_a_missing_row(home: Path, edited: tuple[Path, sqlite3.Connection], table: str) -> None:
    """Whatever row is deleted is named by its table and its entry."""
    path, database = edited
    gone = database.execute(f'DELETE FROM "{table}" WHERE rowid = (SELECT max(rowid) FROM "{table}")').rowcount
    if gone:
        report = check(home, path)
        assert found(report) == {("row_missing", table)}
        assert report.first_bad is not None


@pytest.mark.parametrize("table", NAMES)
def test_a_superfluous_row(home: Path, edited: tuple[Path, sqlite3.Connection], table: str) -> None:
    """Whatever row is added that no entry says is counted."""
    path, database = edited
    columns = [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]
    key = next(row[1] for row in database.execute(f'PRAGMA table_info("{table}")') if row[5])
    kept = database.execute(f'SELECT * FROM "{table}" LIMIT 1').fetchone()
    made = dict(zip(columns, kept, strict=True))
    made[key] = made[key] + 1_000_000 if isinstance(made[key], int) else f"{made[key]}x"
    if "number" in made:
        made["number"] += 1_000_000
    marks = ", ".join("?" * len(columns))
    database.execute(f'INSERT INTO "{table}" VALUES ({marks})', tuple(made.values()))
    report = check(home, path)
    assert ("row_superfluous", table) in found(report)


def test_a_department_that_stopped_what_reads_none_of_its_data(
    home: Path, edited: tuple[Path, sqlite3.Connection]
) -> None:
    """With a manifest at hand that names no such department, its stop of the version is found, at its entry."""
    path, database = edited
    (jws,) = database.execute("SELECT manifest_jws FROM version WHERE model_of IS NOT NULL").fetchone()
    head, payload, signature = jws.split(".")
    told = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    told["fields"] = [field for field in told["fields"] if not field["name"].startswith("tax.")]
    other = urlsafe_b64encode(json.dumps(told).encode()).decode().rstrip("=")
    database.execute("UPDATE version SET manifest_jws = ? WHERE manifest_jws = ?", (f"{head}.{other}.{signature}", jws))
    entries = [json.loads(body) for (body,) in database.execute("SELECT body FROM entry ORDER BY idx")]
    stopped = [at for at, entry in enumerate(entries) if entry.get("by") == "steward/tax" and "version" in entry]
    told_of = check(home, path).completeness.listed
    assert [one.index for one in told_of if one.code == "version_steward"] == stopped


def test_findings_repeat_no_stored_value(home: Path, edited: tuple[Path, sqlite3.Connection]) -> None:
    """What an administrator wrote into a row, a name say, does not come out in the report."""
    path, database = edited
    database.execute("UPDATE consent SET institution = 'Zhang San 91410100MA40000000', purpose = CAST(x'FF' AS TEXT)")
    database.execute("UPDATE version SET submitted_by = 'Zhang San'")
    report = check(home, path)
    assert ("row_differs", "consent") in found(report)
    said = json.dumps(report.as_dict())
    assert "Zhang" not in said
    assert PRODUCT not in said


def test_a_room_put_back_is_found_by_its_numbers(home: Path, edited: tuple[Path, sqlite3.Connection]) -> None:
    """A whole table put back to what it was yesterday is found, row by row."""
    path, database = edited
    database.execute("UPDATE consent SET uses = 0, state = 'granted'")
    database.execute("DELETE FROM budget")
    report = check(home, path)
    assert found(report) == {("row_differs", "consent"), ("row_missing", "budget")}
