"""The bank's rules against a real server: cases at admission, lint over the served catalogue."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from heixia.registry.v1 import registry_pb2 as pb
from typer.testing import CliRunner

from enclave_api.cli.main import app
from enclave_api.cli.offer_file import write_offer
from enclave_api.client.bank import Bank, Offer, draft_manifest
from enclave_api.client.connection import Refused
from model_registry.bundle import SealedBundle, encode_content, seal_bundle
from model_registry.errors import RulesCaseFailed
from model_registry.manifest import sign_manifest
from tests.integration.conftest import PRODUCT, Stage
from tests.room import ACCEPT, ALICE, OPERATOR


def failing(stage: Stage) -> Offer:
    """The example's offer with one case that expects what does not come out."""
    rules = stage.example.offer.rules
    return replace(stage.example.offer, rules=rules.replace("limit: 750000", "limit: 750001"))


def sealed_unchecked(stage: Stage, offer: Offer) -> SealedBundle:
    """A bundle by a bank whose software does not run the cases."""
    alice, model = stage.room.alice, stage.example.model
    recipient = alice.verify_enclave(ACCEPT).recipient()
    content = encode_content(model.onnx, offer.rules.encode(), [])
    manifest = draft_manifest(model, offer, recipient, content)
    return seal_bundle(content, sign_manifest(manifest, alice.credentials.signing_key()), [recipient])


def test_a_failing_case_is_refused_before_sealing_and_at_admission(stage: Stage) -> None:
    """The bank's own client says so first; behind the walls it is said again, to the bank and to nobody else."""
    alice, offer = stage.room.alice, failing(stage)
    recipient = alice.verify_enclave(ACCEPT).recipient()
    with pytest.raises(RulesCaseFailed):
        alice.seal(stage.example.model, offer, recipient)
    with pytest.raises(Refused) as refused:
        alice.submit(sealed_unchecked(stage, offer))
    assert refused.value.code == "model_refused"
    told = "case 'good public credit, much risk': 750,001 is expected, came out 750,000, by 'by risk'"
    assert told in refused.value.public
    version = alice.versions(PRODUCT)[-1].version
    (reason,) = alice.version(version).reasons
    assert (reason.code, reason.text) == ("rules_case_failed", told)
    operator = stage.room.client(Bank, OPERATOR)
    assert not operator.suspend(version, "security").reasons
    with closing(sqlite3.connect(stage.room.home.database)) as database:
        (noted,) = database.execute("SELECT reasons FROM version WHERE version = ?", (version,)).fetchone()
    assert b"case" not in noted
    assert b"much risk" not in stage.room.log.read_bytes()


def test_cases_that_pass_are_admitted(stage: Stage) -> None:
    """The same bundle with its case put right."""
    version = stage.room.alice.submit(sealed_unchecked(stage, stage.example.offer))
    assert version.state == pb.VERSION_STATE_ADMITTED


def test_lint_asks_the_server_once_and_then_no_more(stage: Stage, tmp_path: Path) -> None:
    """Over the served catalogue; the fields that it saves serve without a server, with the same report."""
    offer, saved = write_offer(tmp_path / "offer", stage.example.model, failing(stage), []), tmp_path / "fields.yaml"
    lint = ["bank", "lint-rules", str(offer), "--json"]
    served = ["--as", str(stage.room.home.client(ALICE)), "--server", stage.room.server]
    online = CliRunner().invoke(app, [*lint, *served, "--save-fields", str(saved)])
    offline = CliRunner().invoke(app, [*lint, "--fields", str(saved)], env={"HEIXIA_AS": ""})
    assert online.exit_code == offline.exit_code == 1
    assert online.stdout == offline.stdout
    told = json.loads(online.stdout)
    assert [case["case"] for case in told["cases"] if not case["passed"]] == ["good public credit, much risk"]
    assert told["coverage"]["percent"] == 100
