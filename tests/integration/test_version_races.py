"""Versions stopped, replaced and retired in the middle of calls: the log alone says who was too late."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from enclave_api.client.bank import Bank
from enclave_api.client.connection import Refused
from enclave_api.client.steward import Steward
from enclave_api.identity import Principal, Role
from tests.integration.conftest import PRODUCT, Stage
from tests.integration.test_bad_consents import ask
from tests.integration.test_fsck import check_sound
from tests.room import ALICE, OPERATOR, refused

TAX, WATER = Principal(Role.STEWARD, "tax"), Principal(Role.STEWARD, "water")
CALLERS, ROUNDS = 4, 4


def judge(entries: list[dict[str, Any]], champion: str) -> list[str]:
    """What is wrong, by the words of the law: a decision by a version that somebody held back, or that did not lead."""
    held: set[tuple[str, str]] = set()
    wrong = []
    for number, entry in enumerate(entries):
        if entry["kind"] == "version.promoted":
            champion = entry["version"]
        elif entry["kind"] == "version.suspended":
            held.add((entry["version"], entry["by"].rpartition("/")[0]))
        elif entry["kind"] == "version.resumed":
            held.discard((entry["version"], entry["by"].rpartition("/")[0]))
        elif entry["kind"] == "decision":
            if entry["version"] in {version for version, _ in held}:
                wrong.append(f"{number}: by a version held back")
            if entry["version"] != champion:
                wrong.append(f"{number}: by {entry['version']}, not {champion}")
    return wrong


def under_calls(stage: Stage, first: int, act: Callable[[], object]) -> list[str]:
    """Callers ask without pause while something is done; returns how their calls ended."""
    consents = [(company, stage.consent(company, uses=5)) for company in range(first, first + 12) for _ in range(2)]
    begin = threading.Barrier(CALLERS + 1)

    def calls(mine: int) -> list[str]:
        begin.wait()
        return [_ended(stage, company, consent) for company, consent in consents[mine::CALLERS]]

    with ThreadPoolExecutor(CALLERS) as threads:
        running = [threads.submit(calls, number) for number in range(CALLERS)]
        begin.wait()
        act()
        return [ended for one in running for ended in one.result()]


def _ended(stage: Stage, company: int, consent: str) -> str:
    try:
        ask(stage, company, consent)
    except Refused as error:
        return error.code
    return "answered"


@pytest.mark.parametrize("who", [ALICE, OPERATOR, TAX], ids=lambda who: str(who.role))
def test_a_stop_is_at_once(stage: Stage, who: Principal) -> None:
    """Whoever may stop it does so in the middle of calls: no decision stands between stop and resumption."""
    size, client = len(stage.room.entries()), stage.room.client(Bank, who)

    def stop_and_go() -> None:
        for _ in range(ROUNDS):
            client.suspend(stage.version, "security")
            assert _ended(stage, 99, stage.consent(99)) == "version_suspended"
            client.resume(stage.version, "security")

    ended = under_calls(stage, {ALICE: 100, OPERATOR: 120, TAX: 140}[who], stop_and_go)
    assert set(ended) <= {"answered", "version_suspended"}
    entries = stage.room.entries(size)
    assert judge(entries, stage.version) == []
    assert sum(entry["kind"] == "decision" for entry in entries) == ended.count("answered")


def test_replaced_and_retired_under_calls(stage: Stage) -> None:
    """Promoted, rolled back by name, and the loser retired at once: every call is answered, by the champion alone."""
    size = len(stage.room.entries())
    second, third = stage.room.approved(stage.example), stage.room.approved(stage.example)

    def change() -> None:
        stage.room.bob.promote(second)
        stage.room.bob.promote(third)
        stage.room.bob.retire(second)
        stage.room.bob.rollback(PRODUCT, stage.version)
        stage.room.bob.retire(third)

    assert set(under_calls(stage, 160, change)) == {"answered"}
    assert judge(stage.room.entries(size), stage.version) == []
    check_sound(stage.room.home.path)


def test_a_department_stops_what_reads_its_data(stage: Stage) -> None:
    """The tax office may, the waterworks get what a stranger gets; nobody lifts another's stop."""
    tax, water = stage.room.client(Bank, TAX), stage.room.client(Bank, WATER)
    with refused("version_unknown"):
        water.suspend(stage.version, "data-error")
    with refused("version_unknown"):
        tax.suspend(f"{PRODUCT}@999", "data-error")
    seen = tax.suspend(stage.version, "data-error")
    assert (list(seen.suspended_by), seen.submitted_by) == (["steward/tax"], "institution/zhongyuan")
    with refused("transition_refused"):
        stage.room.alice.resume(stage.version, "bank-decision")
    with refused("version_unknown"):
        water.resume(stage.version, "data-error")
    own = stage.room.alice.version(stage.version)
    assert (list(own.suspended_by), own.submitted_by) == (["steward/tax"], str(ALICE))
    steward = stage.room.client(Steward, TAX)
    assert steward.resume_version(stage.version, "data-error") == []
    assert steward.suspend_version(stage.version, "data-error") == ["steward/tax"]
    assert tax.resume(stage.version, "data-error").champion_since == own.champion_since
