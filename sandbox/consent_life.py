"""The life of a consent: its states, what may happen in each, and whether it may be used now. Pure.

The picture of the table: docs/consent-states.svg, drawn by scripts/draw_consent_states.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sandbox.errors import (
    ConsentExhausted,
    ConsentExpired,
    ConsentInvalidated,
    ConsentNotYetValid,
    ConsentPaused,
    ConsentRefused,
    ConsentRevoked,
    ConsentSuperseded,
    ConsentTooFrequent,
    ConsentTransition,
)


class State(StrEnum):
    """Where a consent stands. Exhausted, expired and invalidated are computed, never stored."""

    GRANTED = "granted"
    PAUSED = "paused"
    REVOKED = "revoked"
    SUPERSEDED = "superseded"
    INVALIDATED = "invalidated"
    EXHAUSTED = "exhausted"
    EXPIRED = "expired"


class Change(StrEnum):
    """What can happen to a consent: the first three by its authority or subject, the rest by something else."""

    PAUSE = "pause"
    RESUME = "resume"
    REVOKE = "revoke"
    SUPERSEDE = "supersede"  # a newer consent replaces it
    INVALIDATE = "invalidate"  # its authority is revoked
    EXHAUST = "exhaust"  # its last use is spent
    EXPIRE = "expire"  # its time is over


# There is no way back from an end.
TRANSITIONS: Mapping[tuple[State, Change], State] = {
    (State.GRANTED, Change.PAUSE): State.PAUSED,
    (State.PAUSED, Change.RESUME): State.GRANTED,
    **{(state, Change.REVOKE): State.REVOKED for state in (State.GRANTED, State.PAUSED)},
    **{(state, Change.SUPERSEDE): State.SUPERSEDED for state in (State.GRANTED, State.PAUSED)},
    **{(state, Change.INVALIDATE): State.INVALIDATED for state in (State.GRANTED, State.PAUSED)},
    (State.GRANTED, Change.EXHAUST): State.EXHAUSTED,
    (State.GRANTED, Change.EXPIRE): State.EXPIRED,
}

_REFUSALS: Mapping[State, type[ConsentRefused]] = {
    State.PAUSED: ConsentPaused,
    State.REVOKED: ConsentRevoked,
    State.SUPERSEDED: ConsentSuperseded,
    State.INVALIDATED: ConsentInvalidated,
}


def next_state(state: State, change: Change) -> State:
    """The state after a change; raises ConsentTransition where the table has none."""
    try:
        return TRANSITIONS[state, change]
    except KeyError as error:
        public = f"cannot {change} a consent that is {state}"
        raise ConsentTransition(f"{change} from {state}", public=public) from error


@dataclass(frozen=True)
class Uses:
    """Uses spent and allowed in all; and, where there is a `unit`, those in the unit of the calendar named `period`."""

    spent: int
    allowed: int
    unit: str | None = None
    a_period: int | None = None
    period: str | None = None
    in_period: int = 0

    def left_at(self, now: datetime) -> None:
        """Raises ConsentExhausted or ConsentTooFrequent where no use is left at a moment."""
        if self.spent >= self.allowed:
            raise ConsentExhausted("no use left")
        if self.a_period is not None and self._in_period_of(now) >= self.a_period:
            raise ConsentTooFrequent("frequency", public=f"at most {self.a_period} in a {self.unit}")

    def spend_at(self, now: datetime) -> "Uses":
        """After one more use at a moment; raises as `left_at`."""
        self.left_at(now)
        period = None if self.unit is None else calendar_period(self.unit, now)
        in_period = 0 if self.unit is None else self._in_period_of(now) + 1
        return Uses(self.spent + 1, self.allowed, self.unit, self.a_period, period, in_period)

    def _in_period_of(self, now: datetime) -> int:
        return self.in_period if self.unit and self.period == calendar_period(self.unit, now) else 0


def calendar_period(unit: str, moment: datetime) -> str:
    """The unit of the UTC calendar that a moment falls into: `2026-11-24`, `2026-W48` (ISO 8601), `2026-11`."""
    return moment.strftime({"day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}[unit])


def check_usable(state: State, uses: Uses, now: datetime) -> None:
    """Only a granted consent with a use left may be used; raises the ConsentRefused of what fails."""
    if state is not State.GRANTED:
        raise _REFUSALS[state](str(state))
    uses.left_at(now)


def check_window(not_before: int, expires: int, now: datetime) -> None:
    """Whether `now` lies in [not_before, expires), Unix seconds; raises ConsentNotYetValid or ConsentExpired."""
    if now.timestamp() < not_before:
        raise ConsentNotYetValid("before nbf")
    if now.timestamp() >= expires:
        raise ConsentExpired("after exp")


def shown_state(state: State, uses: Uses, expires: int, now: datetime) -> State:
    """The state a person is shown: a granted consent may be expired or exhausted by now."""
    if state is State.GRANTED and now.timestamp() >= expires:
        return next_state(state, Change.EXPIRE)
    if state is State.GRANTED and uses.spent >= uses.allowed:
        return next_state(state, Change.EXHAUST)
    return state
