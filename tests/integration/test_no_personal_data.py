"""A whole run, refusals, revocations and erasures included: nobody's id, name or value in anything that others see."""

import base64
import contextlib
import io
import os
import signal
import socket
import sqlite3
import urllib.request
import uuid
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from audit.index_filter import Filter
from audit.note import Checkpoint, Note
from audit.policy import Policy
from audit.schema import open_engine
from audit.source import DatabaseSource
from audit.tiles import tiles_of
from enclave_api.cli.demo import PRODUCT, Play
from enclave_api.cli.example import FIELDS
from enclave_api.client.authority import Grant, draft_consent
from enclave_api.client.connection import Refused
from enclave_api.client.subject import Subject
from enclave_api.errors import HomeInvalid
from enclave_api.home import issue_client
from enclave_api.identity import Principal, Role
from sandbox.consent import sign_consent
from sandbox.vault.catalog import load_catalog
from tests.personal import Needles, Places, spellings
from tests.room import OFFICE, Room, datasets_of
from tests.subjects import as_subject

NAMES = ("郑州晨光精密机械有限公司", "王晓明", "Morning Light Precision Machinery Co")
COMPANIES, CALLERS = 80, 20
NOBODY = "uscc:91350100M000100Y43"  # a right code that no data is about


class Watched(Room):
    """A room whose metrics and output are kept when its server ends."""

    metrics: bytes = b""
    printed: bytes = b""
    address: str = ""

    def start(self, *options: str) -> "Watched":
        """Serves metrics too."""
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        return super().start("--metrics", self.address, "--step-metrics", *options)

    def _end(self, number: signal.Signals) -> int:
        if self.process is None or self.process.stdout is None:
            return super()._end(number)
        with urllib.request.urlopen(f"http://{self.address}/metrics") as answer:
            self.metrics += answer.read()
        kept = os.dup(self.process.stdout.fileno())
        code = super()._end(number)
        with os.fdopen(kept, "rb") as printed:
            self.printed += printed.read()
        return code


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Places, Needles]:
    """The demonstration, then what it leaves out; everything that others see of it."""
    folder = tmp_path_factory.mktemp("run")
    room, told = Watched.make(folder), list[str]()
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        stack.callback(room.stop)
        listen(patch, told)
        play = Play(Console(file=io.StringIO(), width=100), folder, room, COMPANIES, CALLERS)
        play.run()
        assert not play.broken
        limits = go_on(room, play.world.subjects, folder)
        room.stop()
    subjects = [*play.world.subjects, NOBODY]
    needles = Needles.of(subjects, NAMES, play.world, [*limits, *play.example.offer.levels])
    files = {f"export/{path.name}": path.read_bytes() for path in (folder / "export").rglob("*") if path.is_file()}
    return {**seen(room), **files, "error texts": "\n".join(told).encode()}, needles


def listen(patch: pytest.MonkeyPatch, told: list[str]) -> None:
    """Keeps the text of every refusal."""
    plain = Refused.__init__

    def init(self: Refused, code: str, status: str, text: str) -> None:
        told.append(f"{code} {status} {text}")
        plain(self, code, status, text)

    patch.setattr(Refused, "__init__", init)


def go_on(room: Watched, subjects: list[str], folder: Path) -> list[int]:
    """What the play does not show: names in consents; companies that look, revoke, are erased; malformed requests."""
    office, looking = room.office, room.client(Subject, OFFICE)
    mine, names = subjects[-1], datasets_of(FIELDS)
    now = datetime.now(UTC)
    drafted = draft_consent(Grant(mine, "zhongyuan", [PRODUCT], names, 31, 5), "consent-office", now)
    texts = {"withdraw": NAMES[0], "separate_consents": NAMES, "purpose": {"code": "precredit", "text": NAMES[1]}}
    named = type(drafted).model_validate({**drafted.model_dump(by_alias=True, mode="json"), **texts})
    consent_id = office.register(sign_consent(named, office.credentials.signing_key())).consent_id
    limits = [room.portal.request_limit(subject=mine, product=PRODUCT, consent_id=consent_id).yuan for _ in range(2)]
    second = room.consent(mine, PRODUCT, names, uses=2)
    office.pause(second, "subject-request")
    with as_subject(room, mine, folder) as company:
        company.revoke(second)
        for who in (company, looking):
            who.consents(mine)
            index = who.uses(mine).uses[0].index
            who.receipt(mine, index)
            who.disclosure(mine)
        room.auditor.disclosure(mine)
        room.auditor.disclosure(NOBODY)
        company.erase(mine)
        refuse(room, company, looking, mine, consent_id)
    looking.erase(subjects[0])
    policy = Policy.parse(room.home.policy.read_text())
    for name in (mine, subjects[0]):
        assert [hit.index for hit in room.auditor.search(Filter(), policy, subject=name)]
    room.auditor.statistics()
    room.auditor.anomalies()
    room.auditor.export(folder / "export", policy)
    return limits


def refuse(room: Watched, company: Subject, looking: Subject, mine: str, consent_id: str) -> None:
    """Requests that are wrong in every place that takes text: none of it may come back or be kept."""
    ask = room.portal.request_limit
    signed = room.office.sign(Grant(mine, "zhongyuan", [PRODUCT], ["tax.declaration"]), datetime.now(UTC))
    attempts: list[Any] = [
        lambda: company.erase(mine),
        lambda: ask(subject=mine, product=PRODUCT, consent_id=consent_id),
        lambda: looking.uses(mine, token=NAMES[0]),
        lambda: looking.uses(NOBODY),
        lambda: room.office.register(NAMES[0].encode()),
        lambda: room.office.register(signed[:-9]),
    ]
    for word in (*NAMES, mine, mine[5:], mine.lower(), mine + " ", NOBODY):
        attempts += [
            lambda word=word: ask(subject=word, product=PRODUCT, consent_id=str(uuid.uuid4())),
            lambda word=word: ask(subject=mine, product=word, consent_id=consent_id),
            lambda word=word: ask(subject=mine, product=PRODUCT, consent_id=word),
            lambda word=word: ask(subject=mine, product=PRODUCT, consent_id=consent_id, request_id=word),
            lambda word=word: room.office.revoke(word, "subject-request"),
            lambda word=word: room.office.revoke(consent_id, word),
            lambda word=word: room.office.register(word.encode()),
            lambda word=word: looking.erase(word),
            lambda word=word: company.uses(word),
            lambda word=word: company.revoke(word),
        ]
    for attempt in attempts:
        with contextlib.suppress(Refused):  # `uses` of itself is answered
            attempt()


def seen(room: Watched) -> dict[str, bytes]:
    """Everything that others see: the log as exported, what the server said, every file of the home by itself."""
    places = {"metrics": room.metrics, "stdout": room.printed, **exported(room.home.database)}
    for path in sorted(room.home.path.rglob("*")):
        name = path.relative_to(room.home.path).as_posix()
        places["file names"] = places.get("file names", b"") + name.encode() + b"\n"
        if path.is_file() and name != "catalog.yaml":
            places[name] = path.read_bytes()
    return places


def exported(database: Path) -> dict[str, bytes]:
    """The log as a stranger gets it: checkpoint, tiles, entry bundles."""
    engine = open_engine(database, create=False)
    try:
        source = DatabaseSource(engine)
        checkpoint = source.checkpoint()
        size = Checkpoint.parse(Note.parse(checkpoint).text).size
        return {"checkpoint": checkpoint.encode(), **{tile.path: source.read(tile) for tile in tiles_of(size)}}
    finally:
        engine.dispose()


def test_nobody_is_found(run: tuple[Places, Needles]) -> None:
    """Not in the log, its tiles, the server's log, metrics, error texts, the database or any other file."""
    places, needles = run
    assert needles.found_in(places) == []


def test_the_run_was_a_whole_one(run: tuple[Places, Needles]) -> None:
    """Entries about subjects and callers, refusals, metrics are all there: there was something to find."""
    places, needles = run
    bundles = b"".join(content for name, content in places.items() if name.startswith("tile/entries/"))
    kinds = (
        "decision",
        "refusal",
        "consent.granted",
        "consent.revoked",
        "consent.paused",
        "subject.erased",
        "audit.read",
    )
    assert [kind for kind in kinds if b'"kind":"%s"' % kind.encode() not in bundles] == []
    for code in ("subject_invalid", "request_invalid", "subject_erased", "consent_invalid", "consent_unknown"):
        assert code.encode() in places["error texts"]
        assert b'outcome="%s"' % code.encode() in places["metrics"]
    assert b'"refused"' in places["serve.log"]
    assert {"heixia.db", "tile/0/000", "anchor/checkpoint"} <= {name.partition(".p/")[0] for name in places}
    assert len(places["error texts"].splitlines()) > 80
    assert len(needles.texts) > 1000
    assert len(needles.numbers) > 10_000
    assert len(needles.doubles) > 10_000
    assert len(needles.dates) > 100


def spelled(needles: Needles, begin: str) -> list[bytes]:
    """Every spelling of one of them."""
    return [needle.encode("latin-1") for needle, what in needles.texts.items() if what.startswith(begin)]


@pytest.mark.parametrize("kind", ["subject", "name", "number", "date", "double"])
def test_what_is_planted_is_found(run: tuple[Places, Needles], kind: str) -> None:
    """The control: one of each, in each spelling, in the middle of what the server said."""
    places, needles = run
    noise = places["serve.log"][:4000]
    planted = {
        "subject": spelled(needles, "subject 3 "),
        "name": spelled(needles, "name 0 "),
        "number": [b' "%s",' % number for number in sorted(needles.numbers)[::5000]],
        "date": [b'"%s"' % date for date in sorted(needles.dates)[::50]],
        "double": [bytes([1]) * shift + bytes(needles.doubles[5:6].tobytes()) for shift in range(8)],
    }[kind]
    assert len(planted) > 2
    for plant in planted:
        assert needles.found_in({"here": noise + plant + noise})


def test_every_spelling_is_its_own() -> None:
    """Base64 of a longer text is recognised wherever in it the name begins."""
    for shift in range(12):
        longer = base64.b64encode(b"x" * shift + NAMES[0].encode() + b"yz")
        assert any(form in longer for how, form in spellings(NAMES[0]).items() if how.startswith("base64"))


def test_a_plant_in_the_log_is_found(run: tuple[Places, Needles], tmp_path: Path) -> None:
    """The control for the export: a subject in one entry of a copied database comes out in its bundle, and is seen."""
    places, needles = run
    copy = tmp_path / "heixia.db"
    copy.write_bytes(places["heixia.db"])
    subject = next(needle for needle, what in needles.texts.items() if what == "subject 6 as json")
    with closing(sqlite3.connect(copy)) as database:
        database.execute("UPDATE entry SET body = CAST(body || ? AS BLOB) WHERE idx = 5", (subject.encode("latin-1"),))
        database.commit()
    found = needles.found_in({name: content for name, content in exported(copy).items() if "entries" in name})
    assert [what for what in found if what.startswith("subject 6 as json in tile/entries/000")]


def test_there_are_no_names_in_the_data() -> None:
    """No field is free text: what the vault holds are numbers, days, yes or no, and codes of closed lists."""
    catalog = load_catalog()
    types = {field.type for dataset in catalog.datasets for field in catalog.dataset(dataset).fields}
    assert types <= {"number", "integer", "boolean", "category", "date"}


def test_a_home_has_no_folder_for_a_subject(tmp_path: Path) -> None:
    """It would be named after the subject: neither a path nor a certificate is made, and the error does not name it."""
    home, company = Room.make(tmp_path).home, Principal(Role.SUBJECT, NOBODY)
    for attempt in (partial(home.client, company), partial(issue_client, home, company, datetime.now(UTC))):
        with pytest.raises(HomeInvalid) as refusal:
            attempt()
        assert NOBODY not in str(refusal.value) + refusal.value.public
    assert not list((home.path / "clients").glob("subject*"))
