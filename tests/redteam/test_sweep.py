"""Every system call number there is, and not only the known attacks."""

import pyseccomp
import pytest

from sandbox.jail import filters
from tests.redteam import attacks_kernel, harness, kernel
from tests.redteam.attack import BOTH, KILLED

X32 = 0x4000_0000
# uretprobe, uprobe: Linux on x86-64 lets them past every filter, and refuses whom no probe has sent (SIGILL, ENXIO)
PAST_FILTERS = {335, 336} if kernel.COLUMN == 0 else set()
NUMBERS = [*range(512), *range(X32, X32 + 512)]


def unconditional(rules: tuple[filters.Rule, ...]) -> set[int]:
    """Numbers that a filter allows whatever their arguments."""
    return {filters.SYSCALLS[rule.name][kernel.COLUMN] for rule in rules if not rule.tests}


@pytest.mark.parametrize(("deep", "rules"), [(False, filters.TEMPLATE), (True, filters.ONE_SHOT)])
def test_what_no_rule_allows_kills(deep: bool, rules: tuple[filters.Rule, ...]) -> None:
    """Of all numbers, with arguments no rule allows, those survive that a rule names without a condition."""
    with harness.running() as runner:
        alive = set(runner.sweep(NUMBERS, deep=deep))
    # the harness waits for its children, which the product's template may not; the filter of a one-shot kills it
    assert alive - PAST_FILTERS - {kernel.NUMBERS["wait4"][kernel.COLUMN]} == unconditional(rules)


@pytest.mark.skipif(kernel.COLUMN != 0, reason="x86-64 alone has a second entry")
def test_the_second_entry_is_closed_to_whoever_can_run_code() -> None:
    """With executable memory allowed, and nothing else, a call by the 32-bit entry still kills."""
    with harness.running() as runner:
        for position in BOTH:
            assert runner.run(attacks_kernel.map_executable, position, ["seccomp:mmap"]).end == "worked"
            assert runner.run(attacks_kernel.use_int80, position, ["seccomp:mmap"]).end == KILLED


@pytest.mark.parametrize("name", kernel.NUMBERS)
def test_numbers_are_those_of_libseccomp(name: str) -> None:
    """An attack under a wrong number would fail for the wrong reason."""
    for machine, number in zip((pyseccomp.Arch.X86_64, pyseccomp.Arch.AARCH64), kernel.NUMBERS[name], strict=True):
        assert pyseccomp.resolve_syscall(machine, name) == number
