"""What a client accepts of an enclave's evidence."""

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from enclave_api.attestation.evidence import EnclaveFacts, Evidence, report_data
from enclave_api.attestation.hardware import HardwareVerdict
from enclave_api.attestation.policy import (
    Policy,
    UnsafeAcceptSimulated,
    UnsafeAcceptWarm,
    UnsafeAcceptWeakIsolation,
)
from enclave_api.attestation.saved import Saved
from enclave_api.attestation.sev_snp_policy import SevSnpPolicy, TcbFloor
from enclave_api.attestation.simulated import simulated as vouched_by_nobody
from enclave_api.attestation.steps import Step
from enclave_api.attestation.tdx_policy import TdxPolicy
from enclave_api.attestation.verify import Verdict, verify_evidence
from enclave_api.errors import EvidenceRefused, EvidenceUnreadable
from enclave_api.keys import Keys
from sandbox.jail.required import REQUIRED
from tests.unit.snp_machine import Machine
from tests.unit.tdx_machine import Scene, body

NONCE = bytes(range(32))
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SIMULATED = Policy(simulated=UnsafeAcceptSimulated())
WEAK = SIMULATED.model_copy(update={"weak_isolation": UnsafeAcceptWeakIsolation()})
WARM = SIMULATED.model_copy(update={"warm": UnsafeAcceptWarm()})
WALLS: Mapping[str, Mapping[str, Any]] = {name: {"on": True, "why": "built"} for name in REQUIRED}
POOR = {**WALLS, "landlock": {"on": False, "why": "Function not implemented"}}


def facts(mode: str = "one-shot", walls: Mapping[str, Mapping[str, Any]] = WALLS) -> EnclaveFacts:
    """An enclave's."""
    digest = hashlib.sha256(b"").hexdigest()
    recipient = Keys.from_root(bytes(32)).recipient(0).public()
    return EnclaveFacts(recipient, 0, "vkey", digest, digest, digest, mode, walls, datetime(2026, 1, 1, tzinfo=UTC))


def simulated(facts: EnclaveFacts, nonce: bytes) -> Evidence:
    """An enclave's evidence over a nonce, made at NOW."""
    return vouched_by_nobody(facts.claims(nonce, NOW))


def judged(evidence: Evidence, policy: Policy, **given: Any) -> Verdict:
    """The verdict on evidence that was asked for with NONCE, now."""
    return verify_evidence(evidence, NONCE, policy, **{"at": NOW, **given})


def failed(evidence: Evidence, policy: Policy, **given: Any) -> dict[str, str]:
    """The steps that failed, with their reasons."""
    verdict = judged(evidence, policy, **given)
    return {step.name: step.reason for step in verdict.steps if step.outcome == "failed"}


def test_whole_walls_are_accepted() -> None:
    """Nothing fails, and the key is the enclave's."""
    evidence = simulated(facts(), NONCE)
    assert failed(evidence, SIMULATED) == {}
    assert judged(evidence, SIMULATED).recipient().raw == facts().recipient.raw
    assert set(failed(evidence, Policy())) == {"not simulated"}


def test_weak_isolation_is_refused_unless_told() -> None:
    """The missing wall is named; told to, the client goes on and still names it."""
    evidence = simulated(facts(walls=POOR), NONCE)
    assert json.loads(evidence.claims)["isolation"] == "one-shot-weak"
    reasons = failed(evidence, SIMULATED)
    assert set(reasons) == {"walls acceptable"}
    assert "landlock" in reasons["walls acceptable"]
    with pytest.raises(EvidenceRefused) as refusal:
        judged(evidence, SIMULATED).recipient()
    assert "landlock" in refusal.value.public
    verdict = judged(evidence, WEAK)
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
    assert failed(both, WEAK.model_copy(update={"warm": UnsafeAcceptWarm()})) == {}


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
    assert set(failed(vouched_by_nobody(body), SIMULATED)) == steps


def test_a_weak_enclave_that_says_it_is_not_is_refused_whatever_was_told() -> None:
    """Who lists a missing wall and calls itself `one-shot` is not believed even by a client that accepts weakness."""
    claims = json.loads(simulated(facts(walls=POOR), NONCE).claims)
    body = rfc8785.dumps({**claims, "isolation": "one-shot"})
    assert set(failed(vouched_by_nobody(body), WEAK)) == {"isolation acceptable"}


def test_a_wall_of_a_strangers_naming_is_quoted() -> None:
    """What a server invents is cut and cannot write to a terminal."""
    walls = {**WALLS, "\x1b[2Jmoat" * 20: {"on": False, "why": "dry"}}
    reason = failed(simulated(facts(walls=walls), NONCE), SIMULATED)["walls acceptable"]
    assert reason.isprintable()
    assert len(reason) < 160


def spoilt(**changes: str) -> Evidence:
    """Evidence with members of the claims replaced, and a report over the new ones."""
    return vouched_by_nobody(rfc8785.dumps({**json.loads(facts().claims(NONCE, NOW)), **changes}))


def test_the_walls_that_may_be_missing_are_named() -> None:
    """A policy that accepts one missing wall accepts no other."""
    accepts = SIMULATED.model_copy(update={"weak_isolation": UnsafeAcceptWeakIsolation(("landlock",))})
    assert failed(simulated(facts(walls=POOR), NONCE), accepts) == {}
    poorer = {**POOR, "seccomp": {"on": False, "why": "Function not implemented"}}
    reasons = failed(simulated(facts(walls=poorer), NONCE), accepts)
    assert set(reasons) == {"walls acceptable"}
    assert "missing: seccomp;" in reasons["walls acceptable"]


def test_claims_are_bound_to_report_question_and_connection() -> None:
    """Another report, nonce or TLS key each fail their own step, and no other."""
    evidence = simulated(facts(), NONCE)
    other = Evidence(evidence.claims, "simulated", report_data(b"other claims"))
    assert set(failed(other, SIMULATED)) == {"report data = claims"}
    assert set(failed(simulated(facts(), bytes(32)), SIMULATED)) == {"nonce is ours"}
    assert failed(evidence, SIMULATED, tls_key_hash=facts().tls_key_hash) == {}
    assert set(failed(evidence, SIMULATED, tls_key_hash="0" * 64)) == {"TLS key = connection"}
    assert set(failed(spoilt(hpke_key_id="0" * 16), SIMULATED)) == {"key matches its id"}
    assert set(failed(spoilt(hpke_key="00"), SIMULATED)) == {"key matches its id"}


def test_digests_are_held_against_the_policy() -> None:
    """Where a policy names code or configuration, the enclave's must be among them; else the step is skipped."""
    evidence, digest = simulated(facts(), NONCE), facts().code_digest
    both = {"code_digests": (digest, "1" * 64), "config_digests": (digest,)}
    verdict = judged(evidence, SIMULATED.model_copy(update=both))
    assert {s.name: s.outcome for s in verdict.steps if "accepted" in s.name} == {
        "code digest accepted": "passed",
        "configuration accepted": "passed",
    }
    for member, step in (("code_digests", "code digest accepted"), ("config_digests", "configuration accepted")):
        policy = SIMULATED.model_copy(update={member: ("2" * 64,)})
        assert set(failed(evidence, policy)) == {step}
        skipped = {s.name for s in judged(evidence, SIMULATED).steps if s.outcome == "skipped"}
        assert step in skipped


def test_code_is_believed_of_a_tdx_guest_measured_up_to_its_kernel() -> None:
    """Firmware that everybody may start vouches for no claim: kernel and command line must be named too."""
    claims = facts().claims(NONCE, NOW)
    scene = Scene(body=body(report_data=report_data(claims)))
    measured = {"rtmr1": ("31" * 48,), "rtmr2": ("32" * 48,)}
    for named in ({}, {"rtmr1": measured["rtmr1"]}, {"rtmr2": measured["rtmr2"]}, measured):
        policy = Policy(code_digests=(facts().code_digest,), tdx=scene.but(policy=named).tdx_policy())
        verdict = judged(Evidence(claims, "tdx", scene.quote), policy, at=scene.at, material=scene.material)
        refused = {step.name for step in verdict.steps if step.outcome == "failed"}
        assert refused == (set() if named == measured else {"code digest accepted"})
        assert verdict.accepted == (named == measured)


def test_age_is_judged_at_the_time_given() -> None:
    """Evidence older than the policy allows, from the future, or without a time fails; clocks may differ by minutes."""
    policy = SIMULATED.model_copy(update={"age_minutes_max": 15})
    evidence = simulated(facts(), NONCE)
    for minutes, holds in ((0, True), (15, True), (16, False), (-4, True), (-6, False), (60 * 24 * 400, False)):
        found = failed(evidence, policy, at=NOW + timedelta(minutes=minutes))
        assert set(found) == (set() if holds else {"age acceptable"})
    assert set(failed(spoilt(issued="yesterday"), policy)) == {"age acceptable"}


def test_the_evidence_hash_is_the_same_for_every_asking() -> None:
    """What decisions name depends on neither nonce nor time; any other member changes it."""
    later = vouched_by_nobody(facts().claims(bytes(32), NOW + timedelta(hours=1)))
    assert judged(later, SIMULATED).evidence_hash == judged(simulated(facts(), NONCE), SIMULATED).evidence_hash
    assert judged(later, SIMULATED).evidence_hash == facts().evidence_hash
    assert judged(simulated(facts("warm"), NONCE), SIMULATED).evidence_hash != facts().evidence_hash


@pytest.mark.parametrize(
    "claims", [b"", b"[]", b"{", b"\xff", b'{"schema":"heixia.evidence/v2"}', b"[" * 100_000, b"1e999"]
)
def test_unreadable_claims_fail_every_step_about_them(claims: bytes) -> None:
    """No claims, no key: nothing raises, and nothing passes that hangs on them."""
    verdict = judged(vouched_by_nobody(claims), SIMULATED)
    assert {s.name for s in verdict.steps if s.outcome == "passed"} == {"report data = claims"}
    with pytest.raises(EvidenceRefused):
        verdict.recipient()


def test_claims_in_another_spelling_are_refused() -> None:
    """Claims that are not canonical would have two hashes for one meaning."""
    loose = json.dumps(json.loads(facts().claims(NONCE, NOW)), indent=1).encode()
    assert "claims readable" in failed(vouched_by_nobody(loose), SIMULATED)


NOTHING: dict[str, Any] = {"roots": ["0" * 64], "measurements": ["0" * 96]}
FLOOR = TcbFloor(bootloader=0, tee=0, snp=0, microcode=0)
TABLES = SIMULATED.model_copy(
    update={"sev_snp": SevSnpPolicy(minimum_tcb={"Milan": FLOOR}, **NOTHING), "tdx": TdxPolicy(**NOTHING)}
)


@given(
    st.binary(max_size=2000),
    st.sampled_from(["sev-snp", "tdx", "simulated", "nitro", ""]) | st.text(max_size=20),
    st.sampled_from([b"", Machine().report()]) | st.binary(max_size=2000),
    st.lists(st.binary(max_size=200), max_size=3),
)
def test_no_bytes_raise_and_none_are_accepted(
    claims: bytes, form: str, report: bytes, certificates: list[bytes]
) -> None:
    """Whatever a server sends in evidence's place, the verdict is refused, and its reasons can be printed."""
    verdict = judged(Evidence(claims, form, report, tuple(certificates)), TABLES)
    assert not verdict.accepted
    assert all(step.reason.isprintable() for step in verdict.steps)
    told = Saved.of(Evidence(claims, "sev-snp", report, tuple(certificates)), NONCE)
    assert told.evidence() == Evidence(claims, "sev-snp", report, tuple(certificates))


def test_no_file_is_made_of_what_is_no_evidence() -> None:
    """A format that would write to a terminal, or certificates without end, are not kept."""
    for evidence in (Evidence(b"", "\x1b[2J", b""), Evidence(b"", "tdx", b"", (b"",) * 65)):
        with pytest.raises(EvidenceUnreadable):
            Saved.of(evidence, NONCE)


def test_a_report_that_skips_what_it_must_show_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were a verifier to skip the signature without failing, the verdict would name it and refuse."""
    skips = HardwareVerdict(
        (Step("report signature", "skipped", "no reason"),), report_data(facts().claims(NONCE, NOW))
    )
    monkeypatch.setattr("enclave_api.attestation.verify_sev_snp.verify_sev_snp", lambda *_: skips)
    policy = TABLES.model_copy(update={"code_digests": (facts().code_digest,)})
    verdict = judged(Evidence(facts().claims(NONCE, NOW), "sev-snp", b""), policy)
    assert all(step.outcome != "failed" for step in verdict.steps)
    assert not verdict.accepted
    with pytest.raises(EvidenceRefused):
        verdict.recipient()


def test_hardware_needs_its_table() -> None:
    """A format without a table in the policy, or of a stranger's invention, is refused, quoted and cut."""
    claims = facts().claims(NONCE, NOW)
    for form in ("sev-snp", "tdx", "\x1b[2Jnitro" * 20):
        reasons = failed(Evidence(claims, form, bytes(1184)), SIMULATED)
        assert "format accepted" in reasons
        assert all(reason.isprintable() for reason in reasons.values())
