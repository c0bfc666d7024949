"""The gate: what may leave is a level of the product's published grid, nothing between two levels."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

BLUR: Final = 0.1  # of a quantum


def snap(value: float, levels: Sequence[int]) -> int:
    """Round a limit down to the grid.

    Args:
        value: the limit in yuan as the model and the rules gave it; anything a float can be.
        levels: the product's grid in whole yuan, ascending, its first level 0.

    Returns:
        The largest level that is <= value; 0 (no offer) where value is NaN, infinite, negative or below the grid.
    """
    # +inf too: a model that divides by zero must not be granted the highest level
    if not math.isfinite(value) or value < 0:
        return 0
    position = bisect_right(levels, value)
    return levels[position - 1] if position else 0


def release_delay(elapsed_s: float, quantum_ms: int, chance: float = 0.0) -> float:
    """Seconds to wait so that an answer leaves soon after a whole multiple of the quantum since its call began.

    Up to a tenth of the quantum is added by chance: a machine that was kept busy wakes up some tenths of a millisecond
    later, and who counts many answers would see it.

    Args:
        elapsed_s: seconds since the call began.
        quantum_ms: the quantum; 0 = leave at once.
        chance: 0 <= chance < 1, unpredictable and fresh for each answer.
    """
    if quantum_ms <= 0:
        return 0.0
    quantum = quantum_ms / 1000
    return (math.floor(elapsed_s / quantum) + 1 + BLUR * chance) * quantum - elapsed_s
