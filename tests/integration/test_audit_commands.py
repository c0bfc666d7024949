"""The auditors' commands: those of docs/audit.md as they stand, in order, and what they say to people and programs."""

import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.index_rules import RULES
from enclave_api.cli.main import app
from tests.integration.conftest import PRODUCT, Stage
from tests.room import AUDITOR, refused

ROOT = Path(__file__).resolve().parents[2]
_BLOCKS = re.compile(r"```sh\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def played(stage: Stage) -> Stage:
    """A room with some answers, repeats and refusals."""
    room, subjects = stage.room, stage.world.subjects
    for company in range(3):
        consent_id = stage.consent(company, uses=5)
        for _ in range(4):
            room.portal.request_limit(subject=subjects[company], product=PRODUCT, consent_id=consent_id)
    with refused("consent_unknown"):
        room.portal.request_limit(subject=subjects[4], product=PRODUCT, consent_id=str(uuid.uuid4()))
    return stage


def run(stage: Stage, *words: str, **environment: str) -> str:
    """What a command prints; it must succeed."""
    known = {"HEIXIA_AS": str(stage.room.home.client(AUDITOR)), "HEIXIA_SERVER": stage.room.server}
    done = CliRunner().invoke(app, ["audit", *words], env=known | environment)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_manual_runs(played: Stage, tmp_path: Path) -> None:
    """Every command of docs/audit.md succeeds as it is written, with a certificate, a policy and a subject."""
    first, *blocks = _BLOCKS.findall((ROOT / "docs" / "audit.md").read_text())
    assert first.startswith("export HEIXIA_SERVER=")
    commands = [line for block in blocks for line in block.splitlines() if line]
    assert len(commands) > 12
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HEIXIA_SERVER": played.room.server,
        "HEIXIA_AS": str(played.room.home.client(AUDITOR)),
        "HEIXIA_POLICY": str(played.room.home.policy),
        "SUBJECT": played.world.subjects[1],
    }
    script = "\n".join(["set -e", *commands])
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "every proof leads to the signed checkpoint" in done.stdout
    assert "NOT checked" not in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"decisions.csv", "refusals.jsonl", "log", "log.index"}


def test_the_manual_names_every_rule_and_threshold(played: Stage) -> None:
    """The table of findings is that of the rules."""
    table = (ROOT / "docs" / "audit.md").read_text().partition("| finding |")[2].partition("\n\n")[0]
    rows = {
        code: (line.split("|")[2].strip(), line)
        for line in table.splitlines()
        for code in re.findall(r"`([a-z_]+)`", line.split("|")[1] if line.count("|") > 2 else "")
    }
    assert {code: severity for code, (severity, _) in rows.items()} == {rule.code: rule.severity for rule in RULES}
    for rule in RULES:
        if rule.threshold > 1:
            assert re.search(rf"\b{rule.threshold}\b", rows[rule.code][1]), rule.code


def test_tables_say_how_many_and_what_next(played: Stage) -> None:
    """Newest first, the total, whether signatures were checked, and a page token that goes on."""
    shown = run(played, "search", "--kind", "decision", "--count", "2")
    assert "2 of 12 that match" in shown
    assert "NOT checked: give --policy" in shown
    (token,) = re.findall(r"--page (\S+)", shown)
    following = run(played, "search", "--kind", "decision", "--count", "2", "--page", token)
    indexes = [re.findall(r"^(\d+) +20", text, re.MULTILINE) for text in (shown, following)]
    numbers = [int(index) for page in indexes for index in page]
    assert numbers == sorted(numbers, reverse=True)
    assert len(set(numbers)) == 4


def test_programs_get_json(played: Stage, tmp_path: Path) -> None:
    """Search: a head and the hits; stats and anomalies: an object a line; the same offline."""
    policy = str(played.room.home.policy)
    head, *hits = map(json.loads, run(played, "search", "--json", "--all", "--outcome", "repeated").splitlines())
    assert head["total"] == len(hits) == 9
    (known,) = map(json.loads, run(played, "stats", "--json", "--institution", "zhongyuan").splitlines())
    assert (known["answered"], known["repeated"]) == (12, 9)
    run(played, "export", str(tmp_path / "log"), "--policy", policy)
    folder = ["--json", "--dir", str(tmp_path / "log")]
    (there,) = map(json.loads, run(played, "stats", *folder, "--institution", "zhongyuan").splitlines())
    assert there == known | {"answered_ms": {}}
    (offline, *_) = map(json.loads, run(played, "search", *folder, "--all").splitlines())
    assert offline["entries_searched"] == offline["total"] > 12


def test_stats_are_a_picture(played: Stage) -> None:
    """Bars, refusals by code, and a word on what the times are."""
    shown = run(played, "stats")
    assert "█" in shown
    assert re.search(r"consent_unknown +1 ", shown)
    assert "as this server measured it" in shown


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("search", "--institution", "Not A Name"), "search_invalid"),
        (("search", "--since", "yesterday"), "request_invalid"),
        (("search", "--page", "x"), "search_invalid"),
        (("search", "--subject", "uscc:1"), "subject_invalid"),
        (("search", "--out", "x.xlsx"), "request_invalid"),
        (("stats", "--from", "x"), "request_invalid"),
        (("search", "--dir", "/nowhere"), "file_unusable"),
        (("search", "--policy", "/nowhere"), "file_unusable"),
    ],
)
def test_mistakes_are_said_in_one_line(words: tuple[str, ...], code: str, played: Stage) -> None:
    """Exit 1 and a code, no trace."""
    known = {"HEIXIA_AS": str(played.room.home.client(AUDITOR)), "HEIXIA_SERVER": played.room.server}
    done = CliRunner().invoke(app, ["audit", *words], env=known)
    assert done.exit_code == 1, done.output
    assert f"[{code}]" in done.stderr
    assert done.stderr.count("\n") == 1


def test_who_is_asked_must_be_said(played: Stage) -> None:
    """Neither certificate nor folder: what to give is said; a subject cannot be looked up in a folder."""
    done = CliRunner().invoke(app, ["audit", "stats"], env={"HEIXIA_AS": ""})
    assert "give --as FOLDER (your certificate), or --dir EXPORT" in done.stderr
