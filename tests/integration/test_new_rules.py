"""Rules replaced alone: a version of its own over another's model, inspected, approved and promoted like any."""

import hashlib
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from heixia.registry.v1 import registry_pb2 as pb
from typer.testing import CliRunner

from enclave_api.cli.main import app
from enclave_api.cli.offer_file import write_offer
from enclave_api.client.bank import Bank
from enclave_api.client.new_rules import NewRules, declared
from enclave_api.identity import Principal, Role
from model_registry.bundle import Sample, encode_content, seal_bundle
from model_registry.errors import ManifestInvalid, SignatureInvalid
from model_registry.manifest import Manifest, sign_manifest
from tests.integration.conftest import PRODUCT, Stage
from tests.integration.test_bad_consents import ask
from tests.integration.test_versions import code_of
from tests.room import ACCEPT, ALICE, BOB, OPERATOR, Room, decision_of, refused

NOBODY = "version: 1\ncutoffs:\n  - {name: nobody, when: model.score >= 0.0}\n"
FLAT = "version: 1\ncaps:\n  - {name: the same for all, limit: 100000.0}\n"


def replaced(bank: Bank, version: str, rules: str, **more: object) -> pb.Version:
    """New rules, submitted."""
    return bank.replace_rules(version, NewRules(rules, **more), bank.verify_enclave(ACCEPT).recipient())  # type: ignore[arg-type]


def launched(stage: Stage, version: str, rules: str, **more: object) -> str:
    """New rules, submitted, approved and promoted."""
    made = replaced(stage.room.alice, version, rules, **more).version
    stage.room.bob.approve(made)
    stage.room.bob.promote(made)
    return made


def stored(room: Room, query: str, *values: str) -> list[tuple[object, ...]]:
    """Rows of the server's database."""
    with closing(room.read_database()) as database:
        return database.execute(query, values).fetchall()


def test_new_rules_decide_under_their_own_number(stage: Stage) -> None:
    """The next call is decided by the new rules over the old model, and names both hashes of its own version."""
    before = decision_of(ask(stage, 1, stage.consent(1)).receipt.entry)
    version = launched(stage, stage.version, FLAT)
    answer = ask(stage, 1, stage.consent(1))
    decision = decision_of(answer.receipt.entry)
    assert (answer.yuan, decision.version) == (100_000, version)
    assert (decision.bundle_hash, decision.rules_hash) != (before.bundle_hash, before.rules_hash)
    told = stage.room.alice.version(version)
    assert (told.model_of, told.rules_hash, told.bundle_hash) == (
        stage.version,
        decision.rules_hash,
        decision.bundle_hash,
    )
    (small,) = stored(stage.room, "SELECT length(ciphertext) FROM bundle WHERE version = ?", version)
    assert int(str(small[0])) < 1_000
    stage.room.bob.rollback(PRODUCT)
    assert decision_of(ask(stage, 1, stage.consent(1)).receipt.entry).version == stage.version


def test_new_rules_of_new_rules_keep_one_model(stage: Stage) -> None:
    """Rules replaced twice name the version whose bundle holds the model, never a chain; four eyes hold for each."""
    first = replaced(stage.room.alice, stage.version, FLAT).version
    second = replaced(stage.room.alice, first, NOBODY)
    assert second.model_of == stage.version
    assert code_of(lambda: stage.room.alice.approve(second.version)) == "four_eyes_required"
    submitted = [e for e in stage.room.entries() if e["kind"] == "version.submitted"][-2:]
    assert [entry["model_of"] for entry in submitted] == [stage.version] * 2


def test_levels_and_samples_go_with_new_rules(stage: Stage) -> None:
    """A new grid is the new version's; samples are held against model and rules together; a wrong one refuses it."""
    levels, vector = [0, 70_000, 140_000], stage.example.samples(1)[0].vector
    good, bad = Sample(vector, 70_000), Sample(vector, 140_000)
    version = launched(stage, stage.version, FLAT, levels=levels, samples=[good])
    assert ask(stage, 2, stage.consent(2)).yuan == 70_000
    stage.room.bob.rollback(PRODUCT)
    with refused("model_refused"):
        replaced(stage.room.alice, version, FLAT, levels=levels, samples=[bad])


@pytest.mark.parametrize("member", ["fields", "output", "inputs", "digests"])
def test_only_rules_may_differ(stage: Stage, member: str) -> None:
    """Another field list, input, output or model under the name of replaced rules is refused, and named."""
    alice, key = stage.room.alice, stage.room.alice.credentials.signing_key()
    stub_told = alice.call(alice._stub.GetVersion, pb.GetVersionRequest(version=stage.version))
    before = declared(stub_told.manifest_jws, stage.version, key)
    recipient = alice.verify_enclave(ACCEPT).recipient()
    manifest = NewRules(FLAT).manifest(before, recipient)
    members: dict[str, dict[str, Any]] = {
        "fields": {"fields": (before.fields[0].model_copy(update={"missing": 1.5}), *before.fields[1:])},
        "output": {"output": before.output.model_copy(update={"index": 0 if before.output.index else 1})},
        "inputs": {"inputs": (before.inputs[0].model_copy(update={"name": "other"}), *before.inputs[1:])},
        "digests": {"digests": manifest.digests.model_copy(update={"model": "0" * 64})},
    }
    with refused("manifest_invalid"):
        _submit(alice, stage.version, manifest.model_copy(update=members[member]), NewRules(FLAT).content())


def _submit(bank: Bank, version: str, manifest: Manifest, content: bytes) -> pb.Version:
    jws = sign_manifest(manifest, bank.credentials.signing_key())
    bundle = seal_bundle(content, jws, [bank.verify_enclave(ACCEPT).recipient()])
    header = pb.BundleHeader(manifest_jws=jws, sealed_keys=bundle.sealed_keys, ciphertext_bytes=len(bundle.ciphertext))
    request = pb.ReplaceRulesRequest(version=version, header=header, ciphertext=bundle.ciphertext)
    return bank.call(bank._stub.ReplaceRules, request).version


def test_a_model_beside_the_rules_is_refused_behind_the_walls(stage: Stage) -> None:
    """Content that brings a model of its own is no replacement of rules, whatever its manifest says."""
    alice, key = stage.room.alice, stage.room.alice.credentials.signing_key()
    told = alice.call(alice._stub.GetVersion, pb.GetVersionRequest(version=stage.version))
    content = encode_content(stage.example.model.onnx[:1000], FLAT.encode(), [])
    manifest = NewRules(FLAT).manifest(
        declared(told.manifest_jws, stage.version, key), alice.verify_enclave(ACCEPT).recipient()
    )
    digests = manifest.digests.model_copy(update={"bundle": hashlib.sha256(content).hexdigest()})
    with refused("model_refused"):
        _submit(alice, stage.version, manifest.model_copy(update={"digests": digests}), content)


def test_what_others_stopped_gets_no_new_rules(stage: Stage) -> None:
    """A bank mends what it stopped itself; under the operator's or a department's stop the model goes no further."""
    alice, operator = stage.room.alice, stage.room.client(Bank, OPERATOR)
    alice.suspend(stage.version, "bank-decision")
    mended = replaced(alice, stage.version, FLAT).version
    operator.suspend(stage.version, "security")
    for base in (stage.version, mended):
        assert code_of(lambda base=base: replaced(alice, base, FLAT)) == "transition_refused"
    operator.resume(stage.version, "security")
    alice.resume(stage.version, "bank-decision")
    alice.retire(mended)
    assert code_of(lambda: replaced(alice, mended, FLAT)) == "transition_refused"


def test_a_retired_model_stays_while_rules_need_it(stage: Stage) -> None:
    """Retired versions lose their bundles but for the one whose model a living version has; then that goes too."""
    alice, bundles = stage.room.alice, "SELECT version FROM bundle WHERE version IN (?, ?)"
    base = stage.room.approved(stage.example)
    rules = launched(stage, base, FLAT)
    alice.retire(base)
    assert len(stored(stage.room, bundles, base, rules)) == 2
    stage.room.stop()
    stage.room.start()
    assert ask(stage, 3, stage.consent(3)).yuan == 100_000  # loaded again, from both bundles
    stage.room.bob.promote(stage.version)
    stage.room.bob.retire(rules)
    assert stored(stage.room, bundles, base, rules) == []
    assert code_of(lambda: stage.room.bob.promote(rules)) == "transition_refused"


def test_another_model_in_the_table_does_not_run(stage: Stage) -> None:
    """Whoever edits `model_of` to another version's bundle gets a version that does not load: the digest differs."""
    rules = replaced(stage.room.alice, stage.version, FLAT).version
    stage.room.bob.approve(rules)
    with closing(sqlite3.connect(stage.room.home.database)) as database, database:
        database.execute("UPDATE version SET model_of = version WHERE version = ?", (rules,))
    with refused("model_refused"):
        stage.room.bob.promote(rules)
    assert ask(stage, 4, stage.consent(4)).yuan >= 0
    assert stage.room.alice.champion(PRODUCT).version == stage.version


def test_a_cutoff_is_changed_in_one_command(stage: Stage, tmp_path: Path) -> None:
    """Version and file are enough; with the offer at hand it is compared, and one of another model is refused."""
    file, as_ = tmp_path / "rules.yaml", ["--as", str(stage.room.home.client(ALICE)), "--server", stage.room.server]
    file.write_text(stage.example.offer.rules.replace("0.35", "0.3"))
    words = ["bank", "replace-rules", stage.version, *as_, "--rules", str(file), "--accept-simulated"]
    made = CliRunner().invoke(app, words)
    assert made.exit_code == 0, made.output
    assert f"model of      {stage.version}" in " ".join(made.stdout.split("\n")).replace("  ", "  ")
    offer = write_offer(tmp_path / "offer", stage.example.model, stage.example.offer, [])
    assert CliRunner().invoke(app, [*words, "--offer", str(offer)]).exit_code == 0
    (tmp_path / "offer" / "model.onnx").write_bytes(b"another")
    other = CliRunner().invoke(app, [*words, "--offer", str(offer)])
    assert (other.exit_code, "manifest_invalid" in other.stderr, "model" in other.stderr) == (1, True, True)
    assert CliRunner().invoke(app, words[:-3]).exit_code == 2


def test_a_colleague_and_a_stranger(stage: Stage) -> None:
    """A colleague with a key of his own replaces rules too; another bank gets no further than the version's name."""
    assert replaced(stage.room.bob, stage.version, FLAT).submitted_by == str(BOB)
    eve = stage.room.client(Bank, Principal(Role.INSTITUTION, "otherbank", "eve"))
    with refused("version_unknown"):
        replaced(eve, stage.version, FLAT)


def test_what_the_enclave_says_is_compared(stage: Stage) -> None:
    """A manifest of another product, or of another model than the bank's own copy, is not signed anew."""
    alice = stage.room.alice
    told = alice.call(alice._stub.GetVersion, pb.GetVersionRequest(version=stage.version))
    with pytest.raises(ManifestInvalid, match="product"):
        declared(told.manifest_jws, "zhongyuan/other@1", alice.credentials.signing_key())
    with pytest.raises(SignatureInvalid):
        declared(told.manifest_jws[:-8] + "AAAAAAAA", stage.version, alice.credentials.signing_key())
    with pytest.raises(ManifestInvalid, match="own copy"):
        replaced(alice, stage.version, FLAT, model=replace(stage.example.model, onnx=b"another"))
