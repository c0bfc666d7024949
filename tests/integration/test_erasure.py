"""Erased by a real server: what becomes of answers, consents, receipts and proofs; and killed around it."""

import os
import signal
import sqlite3
import threading
import uuid
from contextlib import closing, suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.merkle import leaf_hash, tree_hash
from audit.policy import Policy
from audit.receipt import verify_receipt
from enclave_api.cli.main import app
from enclave_api.client.connection import Refused
from enclave_api.client.subject import Subject
from enclave_api.errors import ConnectionFailed
from tests.integration.conftest import PRODUCT, Stage
from tests.room import AUDITOR, OFFICE, refused
from tests.subjects import as_subject, credentials_of


def ask(stage: Stage, company: int, consent_id: str, request_id: str | None = None) -> int:
    """Asks for a limit."""
    subject = stage.world.subjects[company]
    ask_for = stage.room.portal.request_limit
    return ask_for(subject=subject, product=PRODUCT, consent_id=consent_id, request_id=request_id).yuan


def key_of(stage: Stage, tag: str) -> bytes | None:
    """The stored, wrapped key of a subject."""
    with closing(stage.room.read_database()) as database:
        row = database.execute("SELECT wrapped FROM subject_key WHERE subject_tag = ?", (tag,)).fetchone()
    return None if row is None else bytes(row[0])


def in_files(stage: Stage, key: bytes) -> bool:
    """Whether the bytes stand in any file of the home."""
    return any(key in path.read_bytes() for path in stage.room.home.path.rglob("*") if path.is_file())


def test_the_life_after_an_erasure(stage: Stage, tmp_path: Path) -> None:
    """Repeats and old consents are refused, uses stay without their outcome, proofs hold, a new consent begins anew."""
    subject, request_id = stage.world.subjects[150], str(uuid.uuid4())
    consent_id = stage.consent(150, uses=3)
    ask(stage, 150, consent_id, request_id)
    index = len(stage.room.entries()) - 1
    tag = stage.room.entries()[index]["subject_tag"]
    key = key_of(stage, tag)
    assert key is not None
    assert in_files(stage, key)
    with as_subject(stage.room, subject, tmp_path) as company:
        kept = company.receipt(subject, index)
        with stage.room.gains("subject.erased", changes={"subject_key", "erased_subject"}):
            done = company.erase(subject)
        assert done.removed
        assert stage.room.entries()[done.index] | {"time": ""} == {
            "kind": "subject.erased",
            "v": 1,
            "time": "",
            "subject_tag": tag,
            "by": "subject",
        }
        assert not in_files(stage, key)
        check_old_things(stage, company, consent_id, request_id)
        (use,) = company.uses(subject).uses
        assert (use.index, use.outcome, use.departments) == (index, "unknown", ())
        (consent,) = company.consents(subject)
        assert (consent.erased, list(consent.departments)) == (True, [])
        bare = company.receipt(subject, index)
        policy = Policy.parse(stage.room.home.policy.read_text())
        assert (bare.entry, bare.opening) == (kept.entry, None)
        assert all(step.ok for receipt in (bare, kept) for step in verify_receipt(receipt, policy))
        with stage.room.gains(), refused("subject_erased"):
            company.erase(subject)
        (spent,) = company.disclosure(subject)
        assert spent.spent_milli == use.bits_milli  # erased, not forgiven

        fresh = stage.consent(150, uses=2)
        assert kept.opening is not None
        assert ask(stage, 150, fresh) == kept.opening.limit
        check_old_things(stage, company, consent_id, request_id)
        newest, oldest = company.uses(subject).uses
        assert (newest.outcome == "unknown", oldest.outcome) == (False, "unknown")
        assert [one.erased for one in company.consents(subject)] == [False, True]
        assert company.receipt(subject, newest.index).opening is not None
        assert company.receipt(subject, index).opening is None
        stage.room.office.revoke(consent_id, "subject-request")  # it may still be ended by name
        assert company.erase(subject).index > done.index


def check_old_things(stage: Stage, company: Subject, consent_id: str, request_id: str) -> None:
    """A repeat and a call under an old consent are refused; the refusals are entries without the subject."""
    for old in (request_id, None):
        with stage.room.gains("refusal"), refused("subject_erased"):
            ask(stage, 150, consent_id, old)


def test_the_log_verifies_with_every_erasure_in_it(stage: Stage) -> None:
    """The signed root is re-derived, before and after."""
    policy = Policy.parse(stage.room.home.policy.read_text())
    ask(stage, 151, stage.consent(151))
    before = policy.verify(stage.room.auditor.checkpoint())
    stage.room.client(Subject, OFFICE).erase(stage.world.subjects[151])
    now = policy.verify(stage.room.auditor.checkpoint())
    with closing(stage.room.read_database()) as database:
        leaves = [leaf_hash(body) for (body,) in database.execute("SELECT body FROM entry ORDER BY idx")]
    assert tree_hash(leaves[: before.size]) == before.root
    assert tree_hash(leaves[: now.size]) == now.root
    verify = ["audit", "verify", "--policy", str(stage.room.home.policy), "--server", stage.room.server]
    done = CliRunner().invoke(app, [*verify, "--as", str(stage.room.home.client(AUDITOR))])
    assert done.exit_code == 0, done.output


def test_the_command_asks_first(stage: Stage, tmp_path: Path) -> None:
    """Without a yes nothing happens; with it the answer says what is gone; then there is nothing left to erase."""
    subject = stage.world.subjects[152]
    ask(stage, 152, stage.consent(152))
    erase = ["subject", "erase", "--server", stage.room.server]
    erase += ["--as", str(credentials_of(stage.room, subject, tmp_path))]
    with stage.room.gains():
        no = CliRunner().invoke(app, erase, input="n\n")
        assert no.exit_code == 1
        assert "unreadable for good" in no.stderr
    yes = CliRunner().invoke(app, [*erase, "--yes"])
    assert (yes.exit_code, "gone from every file" in yes.stdout) == (0, True)
    again = CliRunner().invoke(app, [*erase, "--yes", "--json"])
    assert (again.exit_code, "[subject_erased]" in again.stderr, subject in again.output) == (1, True, False)
    shown = CliRunner().invoke(app, ["subject", "uses", *erase[2:]])
    assert "what came of it is erased" in shown.stdout


def test_a_kill_around_it_leaves_all_or_nothing(stage: Stage) -> None:
    """Killed a little before, in or after an erasure: the entry and the destroyed key, or neither; then it is gone."""
    seen = set()
    for round_ in range(8):
        company = 160 + round_
        ask(stage, company, stage.consent(company))
        tag = stage.room.entries()[-1]["subject_tag"]
        key = key_of(stage, tag)
        assert key is not None
        office = stage.room.client(Subject, OFFICE)
        killer = threading.Timer(0.0006 * round_, kill, [stage])
        answered = False
        with suppress(ConnectionFailed, Refused):
            killer.start()
            office.erase(stage.world.subjects[company])
            answered = True
        killer.join()
        stage.room.stop()
        stage.room.start()
        erased = bool([e for e in stage.room.entries() if e["kind"] == "subject.erased" and e["subject_tag"] == tag])
        assert erased or not answered
        assert (key_of(stage, tag) is None) == erased
        assert in_files(stage, key) != erased  # the start finishes what the kill cut off
        seen.add(erased)
        if not erased:
            assert stage.room.client(Subject, OFFICE).erase(stage.world.subjects[company]).removed
            assert not in_files(stage, key)
    assert False in seen, "no kill came before the commit: the test shows nothing"


def kill(stage: Stage) -> None:
    """Ends the server's process as a power cut would."""
    assert stage.room.process is not None
    os.kill(stage.room.process.pid, signal.SIGKILL)
    stage.room.process.wait(timeout=20)
    if stage.room.process.stdout:
        stage.room.process.stdout.close()
    stage.room.process = None


def test_a_call_at_hand_is_not_answered_after_it(stage: Stage) -> None:
    """Whoever asks meanwhile gets an answer of before, or none; no decision stands above the erasure."""
    subject = stage.world.subjects[170]
    consent_id, codes = stage.consent(170, uses=5), list[str]()

    def call() -> None:
        try:
            ask(stage, 170, consent_id)
        except Refused as refusal:
            codes.append(str(getattr(refusal, "code", "")))

    threads = [threading.Thread(target=call) for _ in range(5)]
    for thread in threads:
        thread.start()
    erased = stage.room.client(Subject, OFFICE).erase(subject).index
    for thread in threads:
        thread.join()
    tag = stage.room.entries()[erased]["subject_tag"]
    decisions = [i for i, e in enumerate(stage.room.entries()) if e["kind"] == "decision" and e["subject_tag"] == tag]
    assert all(index < erased for index in decisions)
    assert len(decisions) + codes.count("subject_erased") == 5


def test_a_killed_server_cleans_up_at_its_start(stage: Stage) -> None:
    """An erasure that was committed, its old page still in the write-ahead log: the next start writes it over."""
    ask(stage, 171, stage.consent(171))
    tag = stage.room.entries()[-1]["subject_tag"]
    key = key_of(stage, tag)
    assert key is not None
    with closing(sqlite3.connect(stage.room.home.database)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM subject_key").fetchone()
        assert not stage.room.client(Subject, OFFICE).erase(stage.world.subjects[171]).removed
        assert in_files(stage, key)
        kill(stage)
        stage.room.stop()
    stage.room.start()
    assert key_of(stage, tag) is None
    assert not in_files(stage, key)


@pytest.fixture(autouse=True)
def _served(stage: Stage) -> None:
    if stage.room.process is None:
        stage.room.start()
