"""What the server makes of a silent process."""

import pytest

from sandbox.jail.processes import Schedule
from sandbox.jail.template_handle import _starved


@pytest.mark.parametrize(
    ("ran", "stood", "starved"),
    [
        (0.0, 0.019, True),  # it got no core
        (0.000001, 0.019, False),  # it ran, and may have read the request
        (0.0, 0.0, False),  # asleep: waiting stands in no line
        (0.028, 0.0, False),  # computing on a quiet machine
        (0.010, 0.019, False),  # computing on a crowded one
        (0.0002, 0.001, False),  # silent though it had its chance
    ],
)
def test_only_a_process_without_a_core_is_excused(ran: float, stood: float, starved: bool) -> None:
    """A model that spins or sleeps cannot pass for one that the machine starved."""
    before = Schedule(1.0, 2.0)
    assert _starved(before, Schedule(1.0 + ran, 2.0 + stood), 0.03) is starved


def test_a_kernel_that_tells_nothing_excuses_nobody() -> None:
    """Without the kernel's word a silent process is at fault."""
    assert not _starved(Schedule(0.0, 0.0), Schedule(0.0, 0.0), 0.03)
