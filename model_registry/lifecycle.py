"""The life of a version as a table; nobody else asks `if state ==`.

`champion` is not a state but a place: the newest promotion of a product names it. A suspension is laid over the state
by whoever suspends, and lifted by the same organisation alone.
"""

from collections.abc import Mapping
from enum import StrEnum

from model_registry.errors import TransitionRefused


class State(StrEnum):
    """Where a version stands."""

    SUBMITTED = "submitted"
    ADMITTED = "admitted"
    REFUSED = "refused"
    APPROVED = "approved"
    RETIRED = "retired"
    # shown, never stored: laid over `approved` and over any state
    CHAMPION = "champion"
    SUSPENDED = "suspended"


class Change(StrEnum):
    """What can happen to a version."""

    ADMIT = "admit"
    REFUSE = "refuse"
    APPROVE = "approve"
    PROMOTE = "promote"
    RETIRE = "retire"


TRANSITIONS: Mapping[tuple[State, Change], State] = {
    (State.SUBMITTED, Change.ADMIT): State.ADMITTED,
    (State.SUBMITTED, Change.REFUSE): State.REFUSED,
    (State.ADMITTED, Change.APPROVE): State.APPROVED,
    (State.APPROVED, Change.PROMOTE): State.APPROVED,
    (State.ADMITTED, Change.RETIRE): State.RETIRED,
    (State.APPROVED, Change.RETIRE): State.RETIRED,
}


def next_state(state: State, change: Change) -> State:
    """The state after a change; raises TransitionRefused where the table has none."""
    try:
        return TRANSITIONS[state, change]
    except KeyError as error:
        public = f"cannot {change} a version that is {state}"
        raise TransitionRefused(f"{change} from {state}", public=public) from error
