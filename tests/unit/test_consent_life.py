"""The life of a consent: its table, its uses, its time, by injected clocks."""

from datetime import UTC, date, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.consent_life import (
    TRANSITIONS,
    Change,
    State,
    Uses,
    calendar_period,
    check_usable,
    check_window,
    next_state,
    shown_state,
)
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

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
BEGIN, END = int(NOW.timestamp()), int(NOW.timestamp()) + 86_400
ENDS = set(State) - {State.GRANTED, State.PAUSED}
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))


@pytest.mark.parametrize(("state", "change"), list(product(State, Change)))
def test_the_table_is_the_life_of_a_consent(state: State, change: Change) -> None:
    """Granted ↔ paused; both can be revoked, superseded, invalidated; from an end nothing leads anywhere."""
    if (state, change) in TRANSITIONS:
        assert next_state(state, change) is TRANSITIONS[state, change]
        assert state not in ENDS
        assert (TRANSITIONS[state, change] in ENDS) == (change not in {Change.PAUSE, Change.RESUME})
    else:
        with pytest.raises(ConsentTransition):
            next_state(state, change)


def test_every_end_can_be_reached() -> None:
    """No state stands in the table for nothing, and each end but the computed two is reached from both live states."""
    assert set(TRANSITIONS.values()) == set(State)
    for change in (Change.REVOKE, Change.SUPERSEDE, Change.INVALIDATE):
        assert next_state(State.GRANTED, change) is next_state(State.PAUSED, change)


def test_only_a_granted_consent_with_a_use_left_may_be_used() -> None:
    """Each state has its own refusal; so have uses in all."""
    check_usable(State.GRANTED, Uses(4, 5), NOW)
    for spent in (5, 6):
        with pytest.raises(ConsentExhausted):
            check_usable(State.GRANTED, Uses(spent, 5), NOW)
    refusals: dict[State, type[ConsentRefused]] = {
        State.PAUSED: ConsentPaused,
        State.REVOKED: ConsentRevoked,
        State.SUPERSEDED: ConsentSuperseded,
        State.INVALIDATED: ConsentInvalidated,
    }
    for state, refusal in refusals.items():
        with pytest.raises(refusal):
            check_usable(state, Uses(0, 5), NOW)


@given(st.sampled_from(["day", "week", "month"]), st.integers(1, 5), st.lists(MOMENTS, max_size=60))
def test_no_unit_of_the_calendar_has_more_uses_than_allowed(unit: str, most: int, moments: list[datetime]) -> None:
    """Whatever calls come when, in the order of a log: each is spent if and only if its unit has a use left."""
    uses, spent = Uses(0, 1000, unit, most), dict[str, int]()
    for moment in sorted(moments):
        period = calendar_period(unit, moment)
        if spent.get(period, 0) < most:
            uses = uses.spend_at(moment)
            spent[period] = spent.get(period, 0) + 1
        else:
            with pytest.raises(ConsentTooFrequent):
                uses.spend_at(moment)
        assert (uses.spent, uses.in_period) == (sum(spent.values()), spent[period])


def test_units_are_those_of_the_utc_calendar() -> None:
    """Midnight, Monday and the first of the month, in UTC whatever zone a moment is told in; ISO years at New Year."""
    assert calendar_period("day", NOW) == "2026-11-23"
    assert calendar_period("month", NOW) == "2026-11"
    sunday, monday = datetime(2026, 11, 22, 23, 59, tzinfo=UTC), datetime(2026, 11, 23, tzinfo=UTC)
    assert (calendar_period("week", sunday), calendar_period("week", monday)) == ("2026-W47", "2026-W48")
    assert calendar_period("week", datetime(2027, 1, 3, tzinfo=UTC)) == "2026-W53"


@given(st.dates(date(2024, 1, 1), date(2030, 12, 31)))
def test_a_month_never_has_more_than_31_monitoring_uses(day: date) -> None:
    """Five a week cannot pass 31 in a calendar month, since no month touches more than six weeks."""
    days = [day.replace(day=1) + timedelta(days=n) for n in range(31)]
    weeks = {d.isocalendar()[:2] for d in days if d.month == day.month}
    assert 5 * len(weeks) <= 31


def test_the_window_is_closed_at_its_begin_and_open_at_its_end() -> None:
    """By an injected clock: a moment before, at the begin, a moment before the end, at the end and long after."""
    end = NOW + timedelta(days=1)
    check_window(BEGIN, END, NOW)
    check_window(BEGIN, END, end - timedelta(milliseconds=1))
    with pytest.raises(ConsentNotYetValid):
        check_window(BEGIN, END, NOW - timedelta(milliseconds=1))
    for late in (end, end + timedelta(days=1000)):
        with pytest.raises(ConsentExpired):
            check_window(BEGIN, END, late)


def test_expiry_and_exhaustion_are_computed_never_stored() -> None:
    """Shown by clock and count for a granted consent alone."""
    before, after = NOW, NOW + timedelta(days=1)
    assert shown_state(State.GRANTED, Uses(0, 1), END, before) is State.GRANTED
    assert shown_state(State.GRANTED, Uses(1, 1), END, before) is State.EXHAUSTED
    assert shown_state(State.GRANTED, Uses(1, 1), END, after) is State.EXPIRED
    for other in set(State) - {State.GRANTED}:
        assert shown_state(other, Uses(1, 1), END, after) is other
