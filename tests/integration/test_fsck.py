"""The check of a whole log on real rooms: sound after busy days and after a kill, and it names what was edited."""

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from enclave_api.cli.example import FIELDS
from enclave_api.client.authority import Grant
from enclave_api.client.bank import Bank
from enclave_api.client.subject import Subject
from tests.integration.conftest import PRODUCT, Stage
from tests.room import OFFICE, OPERATOR, Room, datasets_of, refused


def fsck(*options: str | Path) -> tuple[int, dict[str, Any]]:
    """Runs the command as an auditor would; its exit code and report."""
    command = [sys.executable, "-m", "enclave_api", "audit", "fsck", *map(str, options), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, json.loads(done.stdout) if done.stdout else {"stderr": done.stderr}


def check_sound(home: Path) -> dict[str, Any]:
    """Both verdicts are sound; the report."""
    code, report = fsck("--home", home)
    assert (code, report["integrity"]["findings"], report["completeness"]["findings"]) == (0, [], [])
    assert (report["integrity"]["verdict"], report["completeness"]["verdict"]) == ("sound", "sound")
    return report


def ask(stage: Stage, company: int, consent_id: str) -> None:
    """Asks for a limit."""
    stage.room.portal.request_limit(subject=stage.world.subjects[company], product=PRODUCT, consent_id=consent_id)


def register(stage: Stage, company: int, **terms: Any) -> str:
    """A consent with terms of its own; its id."""
    grant = Grant(stage.world.subjects[company], "zhongyuan", [PRODUCT], datasets_of(FIELDS), **terms)
    office = stage.room.office
    return office.register(office.sign(grant, datetime.now(UTC))).consent_id


def watch(stage: Stage, company: int) -> None:
    """Consents that may be used at intervals, and one that takes another's place."""
    often = {"purpose": "monitoring", "days": 365, "max_uses": 20}
    old = register(stage, company, frequency=("month", 9), **often)
    ask(stage, company, old)
    new = register(stage, company, frequency=("week", 2), replaces=old, **often)
    with refused("consent_superseded"):
        ask(stage, company, old)
    ask(stage, company, new)
    ask(stage, company, new)
    with refused("consent_too_frequent"):
        ask(stage, company, new)


def be_erased(stage: Stage, company: int) -> None:
    """A company is erased and comes back; what it consented to before permits nothing."""
    before = stage.consent(company, uses=3)
    ask(stage, company, before)
    stage.room.client(Subject, OFFICE).erase(stage.world.subjects[company])
    with refused("subject_erased"):
        ask(stage, company, before)
    after = stage.consent(company, uses=2)
    with refused("subject_erased"):
        ask(stage, company, before)
    ask(stage, company, after)
    ask(stage, company, after)


def be_busy(stage: Stage, company: int) -> None:
    """A day at the room: every kind of entry that its doors can leave, refusals too."""
    room, office = stage.room, stage.room.office
    watch(stage, company + 2)
    be_erased(stage, company + 3)
    consent_id = stage.consent(company, uses=3)
    ask(stage, company, consent_id)
    office.pause(consent_id, "subject-request")
    with refused("consent_paused"):
        ask(stage, company, consent_id)
    office.resume(consent_id, "subject-request")
    ask(stage, company, consent_id)
    room.alice.suspend(stage.version, "bank-decision")
    room.client(Bank, OPERATOR).suspend(stage.version, "security")
    with refused("version_suspended"):
        ask(stage, company, consent_id)
    room.alice.resume(stage.version, "bank-decision")
    room.client(Bank, OPERATOR).resume(stage.version, "security")
    newer = room.launch(stage.example)
    ask(stage, company, consent_id)
    with refused("consent_exhausted"):
        ask(stage, company, consent_id)
    room.bob.rollback(PRODUCT)
    room.bob.retire(newer)
    office.revoke(consent_id, "subject-request")
    with refused("consent_revoked"):
        ask(stage, company, consent_id)
    dataset = stage.room.catalog.dataset(datasets_of(FIELDS)[0])
    steward = room.steward(dataset.department)
    steward.suspend(dataset.name, "data-error")
    with refused("dataset_closed"):
        ask(stage, company + 1, stage.consent(company + 1))
    steward.resume(dataset.name, "data-error")
    with refused("consent_unknown"):
        ask(stage, company, "00000000-0000-4000-8000-000000000000")


def test_a_busy_room_is_sound_while_it_serves(stage: Stage) -> None:
    """Grants, revocations, promotions, suspensions, rollbacks, refusals: all of it replays to the very tables."""
    be_busy(stage, 10)
    report = check_sound(stage.room.home.path)
    assert report["size"] == report["entries"] == len(stage.room.entries())


def test_a_killed_room_is_sound(stage: Stage) -> None:
    """After SIGKILL the home is checked as it lies there, with the write-ahead log unfolded, and again when served."""
    stage.room.kill()
    before = check_sound(stage.room.home.path)
    stage.room.start()
    be_busy(stage, 30)
    assert check_sound(stage.room.home.path)["size"] > before["size"]


NOW = """
import runpy, sys
from enclave_api import nightly
nightly.seconds_until = lambda *_: 0.5
sys.argv = sys.argv[3:]
runpy.run_module("enclave_api", run_name="__main__", alter_sys=True)
"""


def test_a_server_checks_itself(tmp_path: Path) -> None:
    """At its hour (here: at once) the check runs beside the calls, and its verdict is an entry."""
    room = Room.make(tmp_path, fsck_hour_utc=3)
    room.launcher = (sys.executable, "-c", NOW)
    room.start()
    try:
        until = time.monotonic() + 60
        while not (told := [one for one in room.entries() if one["kind"] == "audit.checked"]):
            assert time.monotonic() < until, room.log.read_text()
            time.sleep(0.05)
    finally:
        assert room.stop() == 0
    verdict = {name: told[0][name] for name in ("by", "size", "integrity", "completeness", "first_bad")}
    assert verdict == {"by": "server", "size": 1, "integrity": "sound", "completeness": "sound", "first_bad": None}
    assert '"event": "log checked"' in room.log.read_text()


def test_what_cannot_be_checked_is_no_verdict(stage: Stage, tmp_path: Path) -> None:
    """Nothing there, a policy of nobody, options that say nothing: 2, with a word what to do; never 1."""
    nowhere, policy = tmp_path / "nowhere", stage.room.home.policy
    here = stage.room.home.path
    for options in (
        f"--home {nowhere}",
        f"--dir {nowhere} --policy {policy}",
        f"--dir {nowhere}",
        f"--home {here} --policy {nowhere}",
        f"--home {here} --policy {here / 'heixia.toml'}",
    ):
        code, said = fsck(*options.split())
        assert code == 2
        assert "rror" in said["stderr"]
        assert "Traceback" not in said["stderr"]


def test_an_edited_home_is_broken(stage: Stage, tmp_path: Path) -> None:
    """By the command: 1, and the first bad index; for people the same in words."""
    stage.room.answer(stage.world.subjects[3], PRODUCT, datasets_of(FIELDS))
    home = tmp_path / "home"
    (home / "public").mkdir(parents=True)
    shutil.copy(stage.room.home.policy, home / "public")
    with closing(stage.room.read_database()) as live, closing(sqlite3.connect(home / "heixia.db")) as copy:
        live.backup(copy)
        query = 'SELECT idx, body FROM entry WHERE instr(body, CAST(\'"kind":"decision"\' AS BLOB)) ORDER BY idx'
        index, body = copy.execute(query).fetchone()
        copy.execute("UPDATE entry SET body = ? WHERE idx = ?", (body.replace(b'"use":1', b'"use":2'), index))
        copy.commit()
    code, report = fsck("--home", home)
    assert (code, report["first_bad"]) == (1, index)
    assert report["integrity"]["counts"] == {"leaf_differs": 1, "root_differs": 1}
    assert report["completeness"]["counts"]["use_number"] >= 1
    command = [sys.executable, "-m", "enclave_api", "audit", "fsck", "--home", str(home)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert f"first bad index  {index}" in said
    assert "integrity     BROKEN: 2 findings" in said
