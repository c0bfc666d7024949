"""Who was champion when: one query, the log's proof, and the history of a product."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.champion import UNTOLD, ChampionProof, LoggedPromotion, verify_champion
from audit.errors import ProofInvalid
from audit.event import decode, encode
from audit.kinds import VersionPromoted
from audit.policy import Policy
from enclave_api.cli.main import app
from enclave_api.client.bank import Bank
from tests.integration.conftest import PRODUCT, Stage
from tests.integration.test_versions import code_of
from tests.room import ALICE, OPERATOR

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def champions(stage: Stage) -> list[str]:
    """Three champions after each other, then the first again."""
    versions = [stage.version, stage.room.launch(stage.example), stage.room.launch(stage.example)]
    stage.room.bob.rollback(PRODUCT, versions[0])
    return [*versions, versions[0]]


def policy_of(stage: Stage) -> Policy:
    """Whose log is trusted."""
    return Policy.parse((stage.room.home.path / "public" / "log.policy").read_bytes())


def wrong(proof: ChampionProof, stage: Stage) -> list[str]:
    """The steps that fail."""
    return [step.name for step in verify_champion(proof, policy_of(stage)) if not step.ok]


def promotions(stage: Stage) -> list[tuple[datetime, str]]:
    """When each became champion, by the log."""
    found = [entry for entry in stage.room.entries() if entry["kind"] == "version.promoted"]
    return [(datetime.fromisoformat(entry["time"]), entry["version"]) for entry in found]


def test_each_moment_has_its_champion(stage: Stage, champions: list[str]) -> None:
    """At the very millisecond of a promotion and until the last before the next; each answer is proved offline."""
    made = promotions(stage)
    assert [version for _, version in made] == champions
    for number, (time, version) in enumerate(made):
        last = made[number + 1][0] - timedelta(milliseconds=1) if number + 1 < len(made) else datetime.now(UTC)
        for at in (time, last):
            found = stage.room.alice.champion(PRODUCT, at)
            assert (found.version, found.since) == (version, time)
            assert found.proof is not None
            assert wrong(ChampionProof.load(found.proof.dump()), stage) == []
    newest = stage.room.alice.champion(PRODUCT)
    assert (newest.version, newest.until) == (champions[-1], None)
    assert newest.proof is not None
    assert UNTOLD in {step.detail for step in verify_champion(newest.proof, policy_of(stage))}


def test_before_the_first_there_was_none(stage: Stage, champions: list[str]) -> None:
    """The first promotion names none before it, which shows that there was none."""
    found = stage.room.alice.champion(PRODUCT, LONG_AGO)
    assert (found.version, found.until) == ("", promotions(stage)[0][0])
    assert found.proof is not None
    assert wrong(found.proof, stage) == []
    nothing = stage.room.alice.champion("zhongyuan/never-sold")
    assert (nothing.version, nothing.proof) == ("", None)


def test_the_future_has_no_champion_yet(stage: Stage, champions: list[str]) -> None:
    """A proof for a time to come would hold offline, and a later promotion make it wrong: it is not given."""
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert code_of(lambda: stage.room.alice.champion(PRODUCT, tomorrow)) == "request_invalid"


def test_a_champion_left_out_is_noticed(stage: Stage, champions: list[str]) -> None:
    """Another entry, an edited one, another time, another product, a promotion skipped: each fails at its step."""
    times = [time for time, _ in promotions(stage)]
    first, second, third = (stage.room.alice.champion(PRODUCT, time).proof for time in times[:3])
    assert first and second and third  # noqa: PT018 - for the type checker
    assert first.promotion
    event, time = decode(first.promotion.entry)
    assert isinstance(event, VersionPromoted)
    edited = LoggedPromotion(encode(replace(event, version=champions[1]), time), first.promotion.proof)
    lies = {
        "promotion was made by then": [replace(first, at=LONG_AGO)],
        "promotion is the product's": [replace(first, product="zhongyuan/other")],
        "promotion is in a signed tree": [replace(first, promotion=edited)],
        # the first, as if it had lasted until the third, or for ever where its successor is shown
        "next promotion names this one before it": [
            replace(first, next=third.promotion),
            replace(first, promotion=None),
        ],
        "next promotion is the product's, and later": [replace(first, at=times[1])],
    }
    for step, made in lies.items():
        for lie in made:
            assert step in wrong(lie, stage)
    with pytest.raises(ProofInvalid):
        ChampionProof.load(json.dumps({**json.loads(first.dump()), "more": 1}))
    with pytest.raises(ProofInvalid):
        ChampionProof.load(json.dumps({**json.loads(first.dump()), "promotion": None, "next": None}))
    with pytest.raises(ProofInvalid):
        ChampionProof.load("[]")


def test_rollback_to_any_earlier_approved_version(stage: Stage, champions: list[str]) -> None:
    """By name to one that never was champion; not to one that is not approved, not earlier, or not of the product."""
    room, approved = stage.room, stage.room.approved(stage.example)
    newest = room.launch(stage.example)
    assert room.bob.rollback(PRODUCT, approved).version == approved
    assert code_of(lambda: room.bob.rollback(PRODUCT, newest)) == "transition_refused"
    assert code_of(lambda: room.bob.rollback(PRODUCT, approved)) == "transition_refused"
    assert code_of(lambda: room.bob.rollback(PRODUCT, f"{PRODUCT}@999")) == "version_unknown"
    assert code_of(lambda: room.bob.rollback(PRODUCT, "otherbank/loan@1")) == "version_unknown"
    room.bob.suspend(champions[1], "model-error")
    assert code_of(lambda: room.bob.rollback(PRODUCT, champions[1])) == "transition_refused"
    room.bob.resume(champions[1], "model-error")


def test_history_tells_every_change(stage: Stage, champions: list[str]) -> None:
    """By index, kind and person as the log has them, newest first; another organisation's person is not named."""
    stage.room.client(Bank, OPERATOR).suspend(champions[0], "security")
    stage.room.client(Bank, OPERATOR).resume(champions[0], "security")
    told = [(c.index, c.kind, c.version, c.by) for c in stage.room.alice.history(PRODUCT)]
    entries = list(enumerate(stage.room.entries()))
    logged = [(i, e["kind"], e["version"], e.get("by", "")) for i, e in entries if e["kind"].startswith("version.")]
    assert told == logged[::-1]
    assert {by for *_, by in told} == {"", "institution/zhongyuan/alice", "institution/zhongyuan/bob", str(OPERATOR)}


def test_a_history_of_many_pages(stage: Stage, champions: list[str]) -> None:
    """Pages meet without a gap."""
    for _ in range(60):
        stage.room.alice.suspend(champions[1], "maintenance")
        stage.room.alice.resume(champions[1], "maintenance")
    indexes = [change.index for change in stage.room.alice.history(PRODUCT)]
    assert len(indexes) == len(set(indexes)) > 120
    assert indexes == sorted(indexes, reverse=True)


def test_by_command(stage: Stage, champions: list[str], tmp_path: Path) -> None:
    """Champion, its proof kept and verified offline, and the history, for people and for programs."""
    run = CliRunner()
    as_ = ["--as", str(stage.room.home.client(ALICE)), "--server", stage.room.server]
    kept, policy = tmp_path / "champion.json", str(stage.room.home.path / "public" / "log.policy")
    time = promotions(stage)[1][0].isoformat()
    shown = run.invoke(app, ["bank", "champion", PRODUCT, *as_, "--at", time, "--proof", str(kept), "--json"])
    assert json.loads(shown.stdout)["version"] == champions[1]
    verified = run.invoke(app, ["bank", "verify-champion", str(kept), "--policy", policy])
    assert verified.exit_code == 0, verified.output
    kept.write_text(kept.read_text().replace(PRODUCT, "zhongyuan/other"))
    assert "proof_invalid" in run.invoke(app, ["bank", "verify-champion", str(kept), "--policy", policy]).stderr
    assert "none" in run.invoke(app, ["bank", "champion", PRODUCT, *as_, "--at", "2020-01-01"]).stdout
    history = run.invoke(app, ["bank", "history", PRODUCT, *as_, "--json"])
    assert json.loads(history.stdout.splitlines()[0])["change"] == "resumed"
    listed = run.invoke(app, ["bank", "versions", PRODUCT, *as_]).stdout.splitlines()
    assert all(len(line) <= 100 for line in listed)
    assert any("champion" in line for line in listed)
