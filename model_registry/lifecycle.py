"""The life of a version as tables; nobody else asks `if state ==`.

`champion` is a place: the newest promotion of a product names who has it, and a promotion puts its predecessor back
among the approved. A suspension is laid over any state by whoever may suspend, and lifted by the same organisation
alone: a version is held back as long as anybody holds it. docs/version-states.svg is drawn from here.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum

from model_registry.errors import TransitionRefused


class State(StrEnum):
    """Where a version stands."""

    SUBMITTED = "submitted"
    ADMITTED = "admitted"
    REFUSED = "refused"
    APPROVED = "approved"
    CHAMPION = "champion"  # stored as approved: the newest promotion says the rest
    RETIRED = "retired"
    SUSPENDED = "suspended"  # shown alone: laid over any other state


class Change(StrEnum):
    """What can happen to a version."""

    ADMIT = "admit"
    REFUSE = "refuse"
    APPROVE = "approve"
    PROMOTE = "promote"
    REPLACE = "replace"
    DERIVE = "replace the rules of"
    RETIRE = "retire"


TRANSITIONS: Mapping[tuple[State, Change], State] = {
    (State.SUBMITTED, Change.ADMIT): State.ADMITTED,
    (State.SUBMITTED, Change.REFUSE): State.REFUSED,
    (State.ADMITTED, Change.APPROVE): State.APPROVED,
    (State.APPROVED, Change.PROMOTE): State.CHAMPION,
    (State.CHAMPION, Change.REPLACE): State.APPROVED,
    (State.ADMITTED, Change.RETIRE): State.RETIRED,
    (State.APPROVED, Change.RETIRE): State.RETIRED,
    # new rules over its model, as a version of their own; it stays what it is
    (State.ADMITTED, Change.DERIVE): State.ADMITTED,
    (State.APPROVED, Change.DERIVE): State.APPROVED,
    (State.CHAMPION, Change.DERIVE): State.CHAMPION,
}

# What cannot happen to a version that is held back, beside its scoring; the rest of its life goes on.
HELD = frozenset({Change.PROMOTE})

# Its bundle is kept in these; in the others, while a version of these has its rules over that model.
LIVING = frozenset({State.SUBMITTED, State.ADMITTED, State.APPROVED, State.CHAMPION})

# Who may hold a version back: role → whose. Each organisation lifts its own hold alone.
HOLDERS: Mapping[str, str] = {
    "institution": "its own institution",
    "operator": "the operator",
    "steward": "a department whose data it reads",
}


def next_state(state: State, change: Change, *, suspended: bool = False) -> State:
    """The state after a change; raises TransitionRefused where the table has none, or somebody holds it back."""
    if suspended and change in HELD:
        raise TransitionRefused(f"{change} while suspended", public="the version is suspended")
    try:
        return TRANSITIONS[state, change]
    except KeyError as error:
        public = f"cannot {change} a version that is {state}"
        raise TransitionRefused(f"{change} from {state}", public=public) from error


def stored(state: State) -> State:
    """How a state is stored in a version's row."""
    return State.APPROVED if state is State.CHAMPION else state


def may_hold(holder: str, institution: str, departments: Collection[str]) -> bool:
    """Whether an organisation, `role/organisation`, may hold back a version.

    Args:
        holder: who would.
        institution: the version's.
        departments: those whose data it reads.
    """
    role, _, organisation = holder.partition("/")
    if role == "steward":
        return organisation in departments
    return role == "operator" or holder == f"institution/{institution}"
