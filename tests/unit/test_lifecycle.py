"""The life of a version: the table and nothing beside it."""

from itertools import product

import pytest

from model_registry.errors import TransitionRefused
from model_registry.lifecycle import TRANSITIONS, Change, State, next_state

EXPECTED = {
    (State.SUBMITTED, Change.ADMIT): State.ADMITTED,
    (State.SUBMITTED, Change.REFUSE): State.REFUSED,
    (State.ADMITTED, Change.APPROVE): State.APPROVED,
    (State.APPROVED, Change.PROMOTE): State.APPROVED,
    (State.ADMITTED, Change.RETIRE): State.RETIRED,
    (State.APPROVED, Change.RETIRE): State.RETIRED,
}


@pytest.mark.parametrize(("state", "change"), list(product(State, Change)))
def test_each_cell_of_the_table(state: State, change: Change) -> None:
    """What the table has leads on; everything else is refused, and says from where."""
    if (state, change) in EXPECTED:
        assert next_state(state, change) is EXPECTED[state, change]
    else:
        with pytest.raises(TransitionRefused) as refusal:
            next_state(state, change)
        assert state in refusal.value.public
    assert dict(TRANSITIONS) == EXPECTED


def test_ends_are_ends() -> None:
    """From refused and retired nothing leads anywhere; what is shown alone is never stored by the table."""
    starts = {state for state, _ in TRANSITIONS}
    assert starts.isdisjoint({State.REFUSED, State.RETIRED, State.CHAMPION, State.SUSPENDED})
    assert {State.CHAMPION, State.SUSPENDED}.isdisjoint(TRANSITIONS.values())


def test_nothing_runs_that_was_not_inspected_and_approved() -> None:
    """Every way from submission to promotion leads through admission and approval, in this order."""

    def ways(state: State, so_far: tuple[Change, ...]) -> set[tuple[Change, ...]]:
        if Change.PROMOTE in so_far:
            return {so_far}
        found: set[tuple[Change, ...]] = set()
        for (start, change), end in TRANSITIONS.items():
            if start is state:
                found |= ways(end, (*so_far, change))
        return found

    assert ways(State.SUBMITTED, ()) == {(Change.ADMIT, Change.APPROVE, Change.PROMOTE)}
