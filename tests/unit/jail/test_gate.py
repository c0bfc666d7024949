"""The gate."""

import math

from hypothesis import given
from hypothesis import strategies as st

from sandbox.gate import BLUR, release_delay, snap

LEVELS = st.lists(st.integers(1, 10**10), unique=True, max_size=63).map(lambda rest: [0, *sorted(rest)])


@given(st.floats(), LEVELS)
def test_snap_gives_a_level_not_above_the_value(value: float, levels: list[int]) -> None:
    """Whatever a model returns, only a level leaves, and never a larger one than it said."""
    level = snap(value, levels)
    assert level in levels
    assert level == 0 or level <= value


@given(st.floats(0, 1e12), LEVELS)
def test_snap_gives_the_largest_such_level(value: float, levels: list[int]) -> None:
    """No level lies between the answer and the value."""
    assert not [level for level in levels if snap(value, levels) < level <= value]


def test_snap_declines_what_is_no_limit() -> None:
    """NaN, infinities, negative values and an empty grid are no offer; a level itself is kept."""
    for value in (math.nan, math.inf, -math.inf, -0.01):
        assert snap(value, (0, 50_000)) == 0
    assert snap(1e9, ()) == 0
    assert snap(50_000.0, (0, 50_000)) == 50_000
    assert snap(49_999.999, (0, 50_000)) == 0


@given(st.floats(), st.floats(), LEVELS)
def test_snap_keeps_the_order_and_the_levels(one: float, other: float, levels: list[int]) -> None:
    """A larger finite value never gets a smaller level, and a level is its own."""
    if math.isfinite(one) and math.isfinite(other):
        low, high = sorted((one, other))
        assert snap(low, levels) <= snap(high, levels)
    assert [snap(float(level), levels) for level in levels] == levels


@given(st.floats(0, 1e6), st.integers(1, 1000))
def test_an_answer_leaves_at_a_whole_quantum(elapsed: float, quantum: int) -> None:
    """Never at once, never later than the next beat, and the beat is a multiple of the quantum since the call began."""
    delay, step = release_delay(elapsed, quantum), quantum / 1000
    assert 0 <= delay <= step * (1 + 1e-9) + 1e-9
    beats = (elapsed + delay) / step
    assert abs(beats - round(beats)) < 1e-6 * max(1.0, beats)


@given(st.floats(0, 1e3), st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
def test_chance_adds_a_tenth_of_a_quantum_at_most(elapsed: float, quantum: int, chance: float) -> None:
    """The blur never makes an answer leave before its beat, and never brings it near the next."""
    added = release_delay(elapsed, quantum, chance) - release_delay(elapsed, quantum)
    assert -1e-9 <= added <= BLUR * quantum / 1000 + 1e-9


def test_no_quantum_holds_nothing_back() -> None:
    """0 switches it off."""
    assert release_delay(0.123, 0, 0.5) == 0
