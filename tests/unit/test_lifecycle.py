"""The life of a version: the tables and nothing beside them."""

from itertools import product

import pytest

from enclave_api.identity import Role
from model_registry.errors import TransitionRefused
from model_registry.lifecycle import HELD, HOLDERS, LIVING, TRANSITIONS, Change, State, may_hold, next_state, stored

EXPECTED = {
    (State.SUBMITTED, Change.ADMIT): State.ADMITTED,
    (State.SUBMITTED, Change.REFUSE): State.REFUSED,
    (State.ADMITTED, Change.APPROVE): State.APPROVED,
    (State.APPROVED, Change.PROMOTE): State.CHAMPION,
    (State.CHAMPION, Change.REPLACE): State.APPROVED,
    (State.ADMITTED, Change.RETIRE): State.RETIRED,
    (State.APPROVED, Change.RETIRE): State.RETIRED,
    (State.ADMITTED, Change.DERIVE): State.ADMITTED,
    (State.APPROVED, Change.DERIVE): State.APPROVED,
    (State.CHAMPION, Change.DERIVE): State.CHAMPION,
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


@pytest.mark.parametrize("change", list(Change))
def test_a_suspension_stops_promotion_alone(change: Change) -> None:
    """Whoever holds a version back keeps it from calls; its bank goes on to approve, retire or replace it."""
    state = next(state for state, possible in TRANSITIONS if possible is change)
    if change in HELD:
        with pytest.raises(TransitionRefused, match="suspended"):
            next_state(state, change, suspended=True)
    else:
        assert next_state(state, change, suspended=True) is TRANSITIONS[state, change]
    assert frozenset({Change.PROMOTE}) == HELD


def test_ends_are_ends() -> None:
    """From refused and retired nothing leads anywhere, their bundles go; what is shown alone is never stored."""
    starts = {state for state, _ in TRANSITIONS}
    assert starts.isdisjoint({State.REFUSED, State.RETIRED, State.SUSPENDED})
    assert State.SUSPENDED not in TRANSITIONS.values()
    assert {state for state in State if state not in LIVING} == {State.REFUSED, State.RETIRED, State.SUSPENDED}
    assert {stored(state) for state in TRANSITIONS.values()} == LIVING - {State.SUBMITTED, State.CHAMPION} | {
        State.REFUSED,
        State.RETIRED,
    }


def test_nothing_runs_that_was_not_inspected_and_approved() -> None:
    """Every way from submission to promotion leads through admission and approval, in this order."""

    def ways(state: State, so_far: tuple[Change, ...]) -> set[tuple[Change, ...]]:
        if Change.PROMOTE in so_far:
            return {so_far}
        found: set[tuple[Change, ...]] = set()
        for (start, change), end in TRANSITIONS.items():
            if start is state and end is not state:
                found |= ways(end, (*so_far, change))
        return found

    assert ways(State.SUBMITTED, ()) == {(Change.ADMIT, Change.APPROVE, Change.PROMOTE)}


def test_who_may_hold_a_version_back() -> None:
    """Its bank, any operator, the departments whose data it reads; nobody else, whatever their name."""
    assert set(HOLDERS) == {"institution", "operator", "steward"}
    may = {
        f"{role}/{name}"
        for role in Role
        for name in ("bank", "other", "tax", "water", "")
        if may_hold(f"{role}/{name}", "bank", {"tax"})
    }
    operators = {f"operator/{name}" for name in ("bank", "other", "tax", "water", "")}
    assert may == operators | {"institution/bank", "steward/tax"}
    assert not may_hold("institution/bank/alice", "bank", {"tax"})
