"""How many bits a hostile model gets out: through the grid at most its logarithm, through time nothing."""

import numpy as np
import pytest

from tests.redteam import leakage
from tests.redteam.estimate import information

CALLS = 1_000


def test_the_estimator_knows_a_known_channel() -> None:
    """A bit that is flipped once in ten times carries 0.531 bits, one that is chance carries none."""
    generator = np.random.default_rng(7)
    sent = generator.integers(0, 2, CALLS)
    flipped = (sent ^ (generator.random(CALLS) < 0.1)).astype(float)
    found = information(sent, flipped, generator)
    assert found.low < 0.531 < found.high
    assert found.distinguishable
    assert not information(sent, generator.random(CALLS), generator).distinguishable


def test_the_limit_tells_no_more_than_its_price() -> None:
    """Through the grid log2 N bits at most; without it (the control) the model gets all four out."""
    with_grid = leakage.simulate(leakage.next_multiple, CALLS)
    without = leakage.simulate(leakage.no_grid, CALLS)
    assert with_grid.limit.low <= with_grid.limit_bound
    assert with_grid.limit.bits <= with_grid.limit_bound + 0.02
    assert without.limit.low > without.limit_bound + 0.5


@pytest.mark.parametrize("gate", [leakage.at_once, leakage.next_multiple])
def test_waiting_for_the_next_multiple_hides_no_long_run(gate: leakage.Gate) -> None:
    """A model that computes for longer than a quantum tells a whole bit by it: rounding up time does not hide it."""
    found = leakage.simulate(gate, CALLS).timing
    assert found.distinguishable
    assert found.low > 0.8


def test_a_fixed_budget_leaves_nothing_in_the_time() -> None:
    """Where the score step always takes the same time, the time of the answer tells nothing."""
    found = leakage.simulate(leakage.fixed_budget, CALLS)
    assert not found.timing.distinguishable
    assert found.limit.bits <= found.limit_bound


async def test_real_processes_and_real_time_say_the_same() -> None:
    """Over the pool: rounded up time tells the bit, the slot hides it but for what a busy machine's clock shows.

    The bound is wide, as a hundred calls on a shared machine estimate no better; leakage.py run for longer does.
    """
    leaky = await leakage.measure(leakage.next_multiple, 60)
    tight = await leakage.measure(leakage.blurred, 100, leakage.SLOT_MS)
    assert leaky.timing.bits > 0.6 > 0.35 > tight.timing.bits
    assert leaky.timing.distinguishable
    assert tight.limit.low <= tight.limit_bound
