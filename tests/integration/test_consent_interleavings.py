"""The race that a revocation must win, over real sockets: callers, authority, subject and operator all at once.

The law is judged by the log alone, with a little machine of this file's own: no decision under a consent that had
ended, or was paused, at a lower index; and what was acknowledged is in the log at the index that was told.
"""

import json
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from threading import Barrier
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from audit.errors import HeixiaError
from enclave_api.cli.example import FIELDS
from enclave_api.client.authority import Authority, Grant
from enclave_api.client.connection import Refused
from enclave_api.identity import Principal, Role
from tests.integration.conftest import PRODUCT, Stage
from tests.integration.test_bad_consents import ask, claims, signed
from tests.integration.test_kill_and_restart import kill, start_again
from tests.room import datasets_of, refused

EXAMPLES = 6
CALLERS = 6
CONSENTS = 3  # of each example: two of an authority that may lose its standing, one of one that stays
COMPANIES = count(60)
OFFICES = [Principal(Role.AUTHORITY, f"office-{n}") for n in range(EXAMPLES + 4)]
# What a call or a change may be told; anything else is a defect.
EXPECTED = {
    *("consent_paused", "consent_revoked", "consent_superseded", "consent_invalidated", "consent_exhausted"),
    *("consent_transition", "authority_revoked", "authority_already_revoked"),
}


@pytest.fixture(scope="module")
def stage(stage: Stage) -> Stage:
    """The stage, with authorities enough to lose one in each example."""
    for office in OFFICES:
        stage.room.client(Authority, office)
    stage.room.stop()
    stage.room.start()
    return stage


@pytest.fixture(scope="module")
def offices() -> Iterator[Principal]:
    """Each authority once."""
    return iter(OFFICES)


@dataclass
class Play:
    """One example: its consents, who registered them, and what was acknowledged."""

    stage: Stage
    office: Authority
    name: str
    consents: list[tuple[int, str, Authority, str]] = field(default_factory=list)
    answered: list[bytes] = field(default_factory=list)
    told: list[tuple[str, int]] = field(default_factory=list)  # consent id, index of its revocation

    def grant(self, authority: Authority, issuer: str, company: int, **changes: Any) -> str:
        """Registers a consent for five uses."""
        grant = Grant(self.stage.world.subjects[company], "zhongyuan", [PRODUCT], datasets_of(FIELDS), max_uses=5)
        made = claims(self.stage, company, iss=issuer, max_uses=grant.max_uses, fetch="periodic", **changes)
        key = authority.credentials.signing_key()
        return authority.register(signed(self.stage, made, key)).consent_id

    def act(self, what: str, which: int) -> str:
        """One step of one caller; returns how it ended."""
        company, consent_id, authority, issuer = self.consents[which]
        try:
            if what == "ask":
                self.answered.append(ask(self.stage, company, consent_id).receipt.entry)
            elif what == "renew":
                self.grant(authority, issuer, company, replaces=consent_id)
            elif what == "end authority":
                self.stage.room.revoke_authority(self.name)
            elif what == "revoke":
                self.told.append((consent_id, authority.revoke(consent_id, "subject-request").index))
            else:
                getattr(authority, what)(consent_id, "subject-request")
        except Refused as error:
            return error.code
        return "done"


def judge(entries: Sequence[dict[str, Any]]) -> list[str]:
    """What is wrong with a log, by the words of the law and nothing of the code under test."""
    state: dict[str, str] = {}
    owner: dict[str, str] = {}
    at: dict[int, str] = {}
    gone: set[str] = set()
    wrong = []
    for index, entry in enumerate(entries):
        kind, consent = entry["kind"], str(entry.get("consent"))
        if kind == "consent.granted":
            if entry["authority"] in gone:
                wrong.append(f"{index}: registered by an authority without standing")
            state[consent], owner[consent], at[index] = "granted", entry["authority"], consent
            if entry["replaces"] is not None:
                state[entry["replaces"]] = "ended"
        elif kind in ("consent.paused", "consent.resumed", "consent.revoked"):
            if state[consent] == "ended" or owner[consent] in gone:
                wrong.append(f"{index}: {kind} after the end")
            state[consent] = {"paused": "paused", "resumed": "granted", "revoked": "ended"}[kind.partition(".")[2]]
        elif kind == "authority.revoked":
            gone.add(entry["authority"])
        elif kind == "decision":
            used = at[entry["consent_index"]]
            if state[used] != "granted" or owner[used] in gone:
                wrong.append(f"{index}: a decision under a consent that is {state[used]}, of {owner[used]}")
    return wrong


STEP = st.tuples(
    st.sampled_from(["ask"] * 6 + ["pause", "resume", "resume", "revoke", "renew", "end authority"]),
    st.integers(0, CONSENTS - 1),
)
PLANS = st.lists(st.lists(STEP, min_size=3, max_size=8), min_size=CALLERS, max_size=CALLERS)


@given(plans=PLANS)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.generate],  # an interleaving does not come again, so there is nothing to shrink
    suppress_health_check=list(HealthCheck),
)
def test_no_answer_stands_above_the_end_of_its_consent(
    stage: Stage, offices: Iterator[Principal], plans: list[list[tuple[str, int]]]
) -> None:
    """Random steps of six callers at once: the log keeps the law, and says what each of them was told."""
    who = next(offices)
    play, size = Play(stage, stage.room.client(Authority, who), who.organisation), len(stage.room.entries())
    for issuer, authority in [(play.name, play.office)] * 2 + [("consent-office", stage.room.office)]:
        company = next(COMPANIES)
        play.consents.append((company, play.grant(authority, issuer, company), authority, issuer))
    begin = Barrier(CALLERS)

    def run(plan: list[tuple[str, int]]) -> list[str]:
        begin.wait()
        return [play.act(*step) for step in plan]

    with ThreadPoolExecutor(CALLERS) as threads:
        ended = [code for codes in threads.map(run, plans) for code in codes]
    assert set(ended) <= EXPECTED | {"done"}
    entries = stage.room.entries()
    assert judge(entries) == []
    decisions = [json.dumps(e, sort_keys=True) for e in entries[size:] if e["kind"] == "decision"]
    assert sorted(decisions) == sorted(json.dumps(json.loads(body), sort_keys=True) for body in play.answered)
    for consent_id, index in play.told:
        assert (entries[index]["kind"], entries[index]["consent"]) == ("consent.revoked", consent_id)
    for consent_id in {consent_id for consent_id, _ in play.told}:
        company = next(company for company, name, *_ in play.consents if name == consent_id)
        with refused("consent_revoked"):
            ask(stage, company, consent_id)


def test_the_judge_sees_what_it_must() -> None:
    """A decision after a revocation, a pause, a renewal, an authority's end; a registration after that end."""

    def granted(consent: str, replaces: str | None = None) -> dict[str, Any]:
        return {"kind": "consent.granted", "consent": consent, "authority": "office", "replaces": replaces}

    use = {"kind": "decision", "consent_index": 0}
    for end in (
        {"kind": "consent.revoked", "consent": "a"},
        {"kind": "consent.paused", "consent": "a"},
        granted("b", replaces="a"),
        {"kind": "authority.revoked", "authority": "office"},
    ):
        assert judge([granted("a"), use, end]) == []
        assert len(judge([granted("a"), end, use])) == 1
    assert len(judge([granted("a"), {"kind": "authority.revoked", "authority": "office"}, granted("b")])) == 1


ENDS = ("revoke", "pause", "renew", "end authority")


@pytest.mark.parametrize("what", ENDS)
def test_acknowledged_and_then_killed(stage: Stage, offices: Iterator[Principal], what: str) -> None:
    """The power fails the moment that an end is acknowledged, in the middle of calls: started again, it is the end."""
    who = next(offices)
    play = Play(stage, stage.room.client(Authority, who), who.organisation)
    companies = [next(COMPANIES) for _ in range(4)]
    for company in companies:
        play.consents.append((company, play.grant(play.office, play.name, company), play.office, play.name))
    portal = stage.room.portal

    def call(which: int) -> None:
        company, consent_id, *_ = play.consents[which]
        for _ in range(5):
            try:
                portal.request_limit(
                    subject=stage.world.subjects[company],
                    product=PRODUCT,
                    consent_id=consent_id,
                    request_id=str(uuid.uuid4()),
                )
            except HeixiaError:  # refused or cut off: the log says what was answered
                return

    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(call, which) for which in range(4)]
        assert play.act(what, 0) == "done"
        kill(stage)
        for made in calls:
            made.result()
    start_again(stage)
    assert judge(stage.room.entries()) == []
    company, consent_id, *_ = play.consents[0]
    told = {"revoke": "revoked", "pause": "paused", "renew": "superseded", "end authority": "invalidated"}[what]
    with refused(f"consent_{told}"):
        ask(stage, company, consent_id)
