"""Promotion and rollback while calls run: not one call fails, and each names the champion of its moment."""

import threading
from concurrent.futures import ThreadPoolExecutor

from tests.integration.conftest import PRODUCT, Stage
from tests.integration.test_bad_consents import ask
from tests.integration.test_versions import sealed
from tests.room import decision_of

COMPANIES, CALLERS = range(100, 160), 4


def test_promotions_under_load_fail_no_call(stage: Stage) -> None:
    """Callers ask without pause through promotions, a rollback, and one to a named version; every call is answered."""
    first = stage.version
    second = stage.room.alice.submit(sealed(stage)).version
    stage.room.bob.approve(second)
    third = stage.room.approved(stage.example)
    consents = [(company, stage.consent(company, uses=5)) for company in COMPANIES for _ in range(4)]
    begin, size = threading.Barrier(CALLERS + 1), len(stage.room.entries())

    def calls(mine: int) -> list[str | None]:
        begin.wait()
        answers = [ask(stage, company, consent) for company, consent in consents[mine::CALLERS]]
        return [decision_of(answer.receipt.entry).version for answer in answers]

    with ThreadPoolExecutor(CALLERS) as threads:
        running = [threads.submit(calls, number) for number in range(CALLERS)]
        begin.wait()
        stage.room.bob.promote(second)
        stage.room.bob.rollback(PRODUCT)
        stage.room.bob.promote(third)
        stage.room.bob.rollback(PRODUCT, second)
        named = [version for call in running for version in call.result()]
    assert len(named) == len(consents)
    assert set(named) <= {first, second, third}
    champion = first
    for entry in stage.room.entries(size):  # what the log says: each decision by the champion at its index
        if entry["kind"] == "version.promoted":
            champion = entry["version"]
        elif entry["kind"] == "decision":
            assert entry["version"] == champion
    assert champion == second
    # and it holds for the very next call
    assert decision_of(ask(stage, 99, stage.consent(99)).receipt.entry).version == second
    stage.room.bob.rollback(PRODUCT, first)
    assert decision_of(ask(stage, 99, stage.consent(99)).receipt.entry).version == first
