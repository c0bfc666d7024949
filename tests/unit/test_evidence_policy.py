"""What a client accepts of an enclave's evidence."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import rfc8785

from enclave_api.attestation.evidence import EnclaveFacts, Evidence, report_data, simulated
from enclave_api.attestation.policy import (
    Policy,
    UnsafeAcceptSimulated,
    UnsafeAcceptWarm,
    UnsafeAcceptWeakIsolation,
    verify_evidence,
)
from enclave_api.errors import EvidenceRefused
from enclave_api.keys import Keys
from sandbox.jail.required import REQUIRED

NONCE = bytes(range(32))
SIMULATED = Policy(simulated=UnsafeAcceptSimulated())
WEAK = replace(SIMULATED, weak_isolation=UnsafeAcceptWeakIsolation())
WARM = replace(SIMULATED, warm=UnsafeAcceptWarm())
WALLS: Mapping[str, Mapping[str, Any]] = {name: {"on": True, "why": "built"} for name in REQUIRED}
POOR = {**WALLS, "landlock": {"on": False, "why": "Function not implemented"}}


def facts(mode: str = "one-shot", walls: Mapping[str, Mapping[str, Any]] = WALLS) -> EnclaveFacts:
    """An enclave's."""
    digest = hashlib.sha256(b"").hexdigest()
    recipient = Keys.from_root(bytes(32)).recipient(0).public()
    return EnclaveFacts(recipient, 0, "vkey", digest, digest, digest, mode, walls, datetime(2026, 1, 1, tzinfo=UTC))


def failed(evidence: Evidence, policy: Policy) -> dict[str, str]:
    """The steps that failed, with their reasons."""
    verdict = verify_evidence(evidence, NONCE, policy)
    return {step.name: step.reason for step in verdict.steps if step.outcome == "failed"}


def test_whole_walls_are_accepted() -> None:
    """Nothing fails, and the key is the enclave's."""
    evidence = simulated(facts(), NONCE)
    assert failed(evidence, SIMULATED) == {}
    assert verify_evidence(evidence, NONCE, SIMULATED).recipient().raw == facts().recipient.raw
    assert set(failed(evidence, Policy())) == {"not simulated"}


def test_weak_isolation_is_refused_unless_told() -> None:
    """The missing wall is named; told to, the client goes on and still names it."""
    evidence = simulated(facts(walls=POOR), NONCE)
    assert json.loads(evidence.claims)["isolation"] == "one-shot-weak"
    reasons = failed(evidence, SIMULATED)
    assert set(reasons) == {"walls acceptable"}
    assert "landlock" in reasons["walls acceptable"]
    with pytest.raises(EvidenceRefused) as refusal:
        verify_evidence(evidence, NONCE, SIMULATED).recipient()
    assert "landlock" in refusal.value.public
    verdict = verify_evidence(evidence, NONCE, WEAK)
    assert verdict.accepted
    assert "landlock" in next(step.reason for step in verdict.steps if step.name == "walls acceptable")


def test_warm_isolation_is_refused_unless_told() -> None:
    """Warm is another promise than a process for each call; being told of weak walls does not cover it."""
    evidence = simulated(facts("warm"), NONCE)
    assert set(failed(evidence, SIMULATED)) == set(failed(evidence, WEAK)) == {"isolation acceptable"}
    assert failed(evidence, WARM) == {}
    both = simulated(facts("warm", POOR), NONCE)
    assert json.loads(both.claims)["isolation"] == "warm-weak"
    assert set(failed(both, SIMULATED)) == {"isolation acceptable", "walls acceptable"}
    assert set(failed(both, WARM)) == {"walls acceptable"}
    assert failed(both, replace(WEAK, warm=UnsafeAcceptWarm())) == {}


def _without(claims: dict[str, Any], name: str) -> None:
    del claims["walls"][name]


ODD: dict[str, tuple[Callable[[dict[str, Any]], object], set[str]]] = {
    "a wall left out": (lambda c: _without(c, "seccomp"), {"walls acceptable", "isolation acceptable"}),
    "on as a number": (
        lambda c: c["walls"]["landlock"].update(on=1),
        {"walls acceptable", "isolation acceptable"},
    ),
    "a wall as a text": (lambda c: c["walls"].update(landlock="on"), {"walls acceptable", "isolation acceptable"}),
    "walls as a list": (lambda c: c.update(walls=list(WALLS)), {"walls acceptable", "isolation acceptable"}),
    "no walls": (lambda c: c.pop("walls"), {"walls acceptable", "isolation acceptable"}),
    "no isolation": (lambda c: c.pop("isolation"), {"isolation acceptable"}),
    "an unknown isolation": (lambda c: c.update(isolation="one-shot-plus"), {"isolation acceptable"}),
    "isolation as a list": (lambda c: c.update(isolation=["one-shot"]), {"isolation acceptable"}),
    "weak without a cause": (lambda c: c.update(isolation="one-shot-weak"), {"isolation acceptable"}),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_claims_fail_their_step(name: str) -> None:
    """A report that lacks, twists or contradicts something counts as missing walls; nothing raises."""
    spoil, steps = ODD[name]
    claims = json.loads(simulated(facts(), NONCE).claims)
    spoil(claims)
    body = rfc8785.dumps(claims)
    assert set(failed(Evidence(body, "simulated", report_data(body)), SIMULATED)) == steps


def test_a_weak_enclave_that_says_it_is_not_is_refused_whatever_was_told() -> None:
    """Who lists a missing wall and calls itself `one-shot` is not believed even by a client that accepts weakness."""
    claims = json.loads(simulated(facts(walls=POOR), NONCE).claims)
    body = rfc8785.dumps({**claims, "isolation": "one-shot"})
    assert set(failed(Evidence(body, "simulated", report_data(body)), WEAK)) == {"isolation acceptable"}


def test_a_wall_of_a_strangers_naming_is_quoted() -> None:
    """What a server invents is cut and cannot write to a terminal."""
    walls = {**WALLS, "\x1b[2Jmoat" * 20: {"on": False, "why": "dry"}}
    reason = failed(simulated(facts(walls=walls), NONCE), SIMULATED)["walls acceptable"]
    assert reason.isprintable()
    assert len(reason) < 160
