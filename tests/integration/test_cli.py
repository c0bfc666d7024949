"""The commands that the README's tour does not run, against a real server."""

import json
import uuid
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from enclave_api.cli.main import app
from enclave_api.identity import Principal, Role
from tests.integration.conftest import PRODUCT, Stage
from tests.room import ALICE, AUDITOR, BOB, OFFICE, PORTAL


def run(stage: Stage, principal: Principal, *words: str) -> Result:
    """A command as a principal."""
    folder = stage.room.home.client(principal)
    command, rest = words[:2], words[2:]
    return CliRunner().invoke(app, [*command, "--as", str(folder), "--server", stage.room.server, *rest])


def test_a_dataset_is_stopped_and_opened_by_command(stage: Stage) -> None:
    """While a steward holds a dataset back its product refuses, and says which dataset."""
    tax = Principal(Role.STEWARD, "tax")
    subject, consent_id = stage.world.subjects[200], stage.consent(200)
    assert run(stage, tax, "steward", "suspend", "tax.declaration").exit_code == 0
    listed = run(stage, tax, "steward", "datasets", "tax", "--json").stdout.splitlines()
    states = {row["dataset"]: row["state"] for row in map(json.loads, listed)}
    assert states["tax.declaration"] == "suspended"
    ask = ["--as", str(stage.room.home.client(PORTAL)), "--server", stage.room.server]
    refused = CliRunner().invoke(app, ["request", *ask, subject, PRODUCT, consent_id])
    assert refused.exit_code == 1
    assert "dataset_closed" in refused.stderr
    assert "tax.declaration" in refused.stderr
    assert run(stage, tax, "steward", "resume", "tax.declaration").exit_code == 0
    answered = CliRunner().invoke(app, ["request", *ask, subject, PRODUCT, consent_id, "--json"])
    assert json.loads(answered.stdout)["limit_yuan"] >= 0


def test_a_consent_is_paused_shown_and_resumed_by_command(stage: Stage) -> None:
    """Each command shows the state it leads to; a revoked consent is not resumed."""
    consent_id = stage.consent(201)
    for verb, state in (("pause", "paused"), ("show", "paused"), ("resume", "granted"), ("show", "granted")):
        shown = dict(
            line.split(None, 1) for line in run(stage, OFFICE, "consent", verb, consent_id).stdout.splitlines()
        )
        assert shown["state"] == state
    assert run(stage, OFFICE, "consent", "revoke", consent_id).exit_code == 0
    again = run(stage, OFFICE, "consent", "resume", consent_id)
    assert again.exit_code == 1
    assert "consent_transition" in again.stderr


def test_a_version_is_suspended_listed_and_rolled_back_by_command(stage: Stage) -> None:
    """A second version becomes champion, is rolled back, and a suspension stops the first at once."""
    second = stage.room.launch(stage.example)
    listed = run(stage, ALICE, "bank", "versions", PRODUCT, "--json").stdout.splitlines()
    assert [json.loads(row)["state"] for row in listed] == ["approved", "champion"]
    assert stage.version in run(stage, BOB, "bank", "rollback", PRODUCT).stdout
    assert run(stage, ALICE, "bank", "suspend", stage.version).exit_code == 0
    subject, consent_id = stage.world.subjects[202], stage.consent(202)
    ask = ["--as", str(stage.room.home.client(PORTAL)), "--server", stage.room.server, subject, PRODUCT, consent_id]
    assert "version_suspended" in CliRunner().invoke(app, ["request", *ask]).stderr
    assert run(stage, BOB, "bank", "resume", stage.version).exit_code == 0
    assert CliRunner().invoke(app, ["request", *ask]).exit_code == 0
    assert second != stage.version


def test_rules_are_linted_by_command(stage: Stage, tmp_path: Path) -> None:
    """A whole number beside a decimal is found at its line and column, with what to write."""
    made = CliRunner().invoke(app, ["bank", "example", str(tmp_path / "offer"), "--companies", "200"])
    assert made.exit_code == 0, made.output
    rules = tmp_path / "offer" / "rules.yaml"
    rules.write_text(rules.read_text().replace("model.score > 0.35", "model.score > 1"))
    found = run(stage, ALICE, "bank", "lint-rules", str(tmp_path / "offer" / "offer.yaml"))
    assert found.exit_code == 1
    assert "1.0" in found.stdout
    assert "rules_invalid" in found.stderr


def test_one_entry_is_shown_whole(stage: Stage, tmp_path: Path) -> None:
    """The first entry says how the enclave started; its proof is kept."""
    shown = run(stage, AUDITOR, "audit", "entry", "0", "--json", "--proof", str(tmp_path / "0.tlog-proof"))
    assert json.loads(shown.stdout)["kind"] == "enclave.started"
    assert (tmp_path / "0.tlog-proof").read_text().startswith("c2sp.org/tlog-proof@v1\nindex 0\n")


@pytest.mark.parametrize("words", [("audit", "log"), ("bank", "evidence"), ("steward", "datasets")])
def test_a_server_that_is_not_there_is_said_so(stage: Stage, words: tuple[str, str], tmp_path: Path) -> None:
    """No trace, one line, exit 1."""
    folder = stage.room.home.client(ALICE)
    gone = CliRunner().invoke(app, [*words, "--as", str(folder), "--server", "127.0.0.1:1"])
    assert gone.exit_code == 1
    assert "connection_failed" in gone.stderr
    assert gone.stderr.count("\n") == 1
    nobody = CliRunner().invoke(app, [*words, "--as", str(tmp_path), "--server", "127.0.0.1:1"])
    assert "credentials_missing" in nobody.stderr


def test_an_unknown_consent_is_one_line(stage: Stage) -> None:
    """An error names its code and nothing else."""
    shown = run(stage, OFFICE, "consent", "show", str(uuid.uuid4()))
    assert shown.exit_code == 1
    assert shown.stderr == "error: No such consent. [consent_unknown]\n"
