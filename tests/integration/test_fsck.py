"""The check of a whole log on real rooms: sound after busy days and after a kill, and it names what was edited."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from enclave_api.cli.example import FIELDS
from enclave_api.client.bank import Bank
from tests.integration.conftest import PRODUCT, Stage
from tests.room import OPERATOR, datasets_of, refused


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


def be_busy(stage: Stage, company: int) -> None:
    """A day at the room: every kind of entry that its doors can leave, refusals too."""
    room, office = stage.room, stage.room.office
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
