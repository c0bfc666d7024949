"""The commands of docs/consent.md run as they stand; the operator's last one is asked for twice."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import Stage
from tests.integration.test_bad_consents import ask
from tests.room import OFFICE, OPERATOR, refused

PAGE = Path(__file__).resolve().parents[2] / "docs" / "consent.md"
NAMES = ["tax.declaration", "public_credit.lists"]


def heixia(stage: Stage, *words: str) -> subprocess.CompletedProcess[str]:
    """One command of `heixia consent`."""
    command = [sys.executable, "-m", "enclave_api", "consent", *words]
    environment = {**os.environ, "HEIXIA_SERVER": stage.room.server}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--uses", "6"], "consent_invalid"),
        (["--days", "32"], "consent_invalid"),
        (["--purpose", "marketing"], "consent_invalid"),
        (["--purpose", "monitoring"], "consent_invalid"),
        (["--purpose", "monitoring", "--every", "month:32"], "consent_invalid"),
        (["--purpose", "monitoring", "--every", "week:6"], "consent_invalid"),
        (["--purpose", "monitoring", "--every", "day:2"], "consent_invalid"),
        (["--replaces", "6ba7b810-9dad-41d1-80b4-00c04fd430c8"], "consent_unknown"),
    ],
)
def test_a_grant_beyond_the_caps_is_refused_in_words(stage: Stage, words: list[str], code: str) -> None:
    """One line on stderr with what is wrong and the code; no trace, nothing on stdout."""
    office = ["--as", str(stage.room.home.client(OFFICE))]
    done = heixia(stage, "grant", *office, stage.world.subjects[3], "zhongyuan/quick-loan", *NAMES, *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.endswith(f"[{code}]\n")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("every", ["31", "month", "month:", "month:x", "year:1", ":5"])
def test_a_frequency_has_one_form(stage: Stage, every: str) -> None:
    """Anything but day, week or month and a number is no frequency, and what one looks like is said."""
    office = ["--as", str(stage.room.home.client(OFFICE))]
    done = heixia(stage, "grant", *office, stage.world.subjects[3], "a/b", "tax.declaration", "--every", every)
    assert done.returncode == 2
    assert "month:31" in done.stderr


def test_a_companys_key_is_its_own(stage: Stage, tmp_path: Path) -> None:
    """Only its owner reads it, nothing is overwritten, and it has no name."""
    file = tmp_path / "company.jwk"
    made = json.loads(heixia(stage, "make-key", str(file), "--json").stdout)
    assert file.stat().st_mode & 0o777 == 0o600
    assert set(json.loads(file.read_text())) == {"kty", "crv", "x", "d"}
    assert len(made["thumbprint"]) == 43
    before = file.read_bytes()
    again = heixia(stage, "make-key", str(file))
    assert (again.returncode, again.stderr) == (
        1,
        f"error: Nothing is overwritten: {file} exists already [folder_not_empty]\n",
    )
    assert file.read_bytes() == before


def test_a_key_file_that_is_none_is_called_so(stage: Stage, tmp_path: Path) -> None:
    """A subject key that is no JWK is blamed on its file, not on anybody's signature."""
    file = tmp_path / "notes.json"
    file.write_text("{}")
    office = ["--as", str(stage.room.home.client(OFFICE))]
    done = heixia(
        stage, "grant", *office, stage.world.subjects[3], "a/b", "tax.declaration", "--subject-key", str(file)
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {file}: no private key")


def test_ending_an_authority_takes_two_words_and_a_name_that_is_one(stage: Stage) -> None:
    """Without --yes nothing happens; a slip in the name is an error; who is no operator may not."""
    operator = ["--as", str(stage.room.home.client(OPERATOR))]
    office = ["--as", str(stage.room.home.client(OFFICE))]
    for words, code in (
        ([*operator, "consent-office"], "not_confirmed"),
        ([*operator, "consent-ofice", "--yes"], "authority_unknown"),
        ([*office, "consent-office", "--yes"], "permission_refused"),
    ):
        with stage.room.gains():
            done = heixia(stage, "revoke-authority", *words)
        assert (done.returncode, done.stderr.rpartition(" ")[2].strip()) == (1, f"[{code}]")


def test_the_page_runs(stage: Stage, tmp_path: Path) -> None:
    """Every command of the page succeeds, in order, and each consent ends as the page says."""
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    company = 5
    environment = {
        **os.environ,
        "HEIXIA_SERVER": stage.room.server,
        "C": str(stage.room.home.path / "clients"),
        "SUBJECT": stage.world.subjects[company],
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    before = stage.consent(company)
    script = ["bash", "-ec", block]
    done = subprocess.run(
        script, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "superseded" in done.stdout
    signed = json.loads((tmp_path / "second.jws").read_text())
    assert len(signed["signatures"]) == 2
    with refused("consent_invalidated"):
        ask(stage, company, before)
    with stage.room.gains(), refused("authority_already_revoked"):
        stage.room.revoke_authority("consent-office")
