"""Every attack three times: behind the product's walls, behind all walls seen from outside, and without its walls."""

import asyncio
from collections.abc import Iterator

import pytest

from sandbox.jail.pool import DrillResult, JailPool
from sandbox.jail.settings import JailSettings
from tests.redteam import attacks_files, attacks_kernel, attacks_processes, harness
from tests.redteam.attack import ATTACKS, KILLED, ONE_SHOT, SECCOMP, TEMPLATE, Attack, script
from tests.redteam.kernel import call_number
from tests.redteam.weak_zygote import LIMITS

MODULES = (attacks_files, attacks_kernel, attacks_processes)
SETTINGS = JailSettings(score_deadline_ms=2_000, load_deadline_ms=8_000, memory_bytes_max=LIMITS.memory_bytes)
LANDLOCK_ABI = 6  # the first with TCP (4) and with signals and abstract sockets
PAIRS = [(attack, position) for attack in ATTACKS for position in attack.positions]
# a second of spinning is tried in the harness alone: the pool's own limit is longer
POOLED = [(attack, position) for attack, position in PAIRS if not attack.name.startswith("compute")]
DEEP = [(a, p) for a, p in PAIRS if a.without > SECCOMP and a.stopped == KILLED]
ALONE = [
    (attack, position, wall, end)
    for attack, position in PAIRS
    for wall, end in attack.alone.items()
    if position == ONE_SHOT or not wall.startswith("one_shot_")
]


def named(value: object) -> str | None:
    """The id of a parameter."""
    return value.name if isinstance(value, Attack) else None


@pytest.fixture(scope="module")
def runner() -> Iterator[harness.Runner]:
    """A weak zygote as an ordinary user."""
    with harness.running() as made:
        yield made


@pytest.fixture(scope="module")
def root_runner() -> Iterator[harness.Runner]:
    """A weak zygote as the machine's root, for what needs true privileges."""
    if not harness.privileged():
        pytest.skip("the control of this attack needs the machine's root")
    with harness.running(root=True) as made:
        yield made


@pytest.fixture(scope="module")
def drilled() -> dict[tuple[str, str], DrillResult]:
    """Every attack in both positions of the product's own pool."""

    async def gather() -> dict[tuple[str, str], DrillResult]:
        pool = await JailPool.start(SETTINGS)
        if not pool.walls["user_namespace"]["on"]:
            pytest.skip("this machine refuses namespaces")
        try:
            with harness.targets() as constants:
                return {(a.name, p): await pool.drill(_drill(script(a.source, constants), p)) for a, p in POOLED}
        finally:
            await pool.close()

    return asyncio.run(gather())


def _drill(text: str, position: str) -> bytes:
    body = "attempt(); return b'done'" if position == ONE_SHOT else "return b'done'"
    top = "attempt()" if position == TEMPLATE else ""
    return f"{text}\n{top}\ndef run(request):\n    {body}\n".encode()


def test_there_are_enough_attacks() -> None:
    """At least 45 of them, no name twice."""
    assert len(ATTACKS) >= 45
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)


@pytest.mark.parametrize(("attack", "position"), POOLED, ids=named)
def test_it_fails_in_the_pool(attack: Attack, position: str, drilled: dict[tuple[str, str], DrillResult]) -> None:
    """In the product's own processes the attack ends the process, or is refused, as it should."""
    result = drilled[attack.name, position]
    if attack.stopped.startswith("killed"):
        assert (result.ended, result.answer) == ("ended", b"")
    else:
        word = {"refused: EAGAIN": b"BlockingIOError", "refused: MemoryError": b"MemoryError"}[attack.stopped]
        assert result.answer.startswith(b"!" + word)


@pytest.mark.parametrize(("attack", "position"), PAIRS, ids=named)
def test_the_right_wall_stops_it(attack: Attack, position: str, runner: harness.Runner) -> None:
    """Behind all walls it ends for the reason that it names."""
    outcome = runner.run(attack, position)
    assert outcome.missing == harness.walls_seen(frozenset(), position)
    assert outcome.end == attack.stopped


@pytest.mark.parametrize(("attack", "position"), PAIRS, ids=named)
def test_without_its_walls_it_works(attack: Attack, position: str, request: pytest.FixtureRequest) -> None:
    """The control: with the walls in question missing, and no others, the attack does what it tries."""
    runner = request.getfixturevalue("root_runner" if attack.privileged else "runner")
    without = harness.missing_walls(attack)
    outcome = runner.run(attack, position, without)
    assert outcome.missing == harness.walls_seen(without, position)
    if outcome.end in attack.lacking:
        pytest.skip(attack.lacking[outcome.end])
    assert outcome.end in ("worked", *attack.works), outcome


@pytest.mark.parametrize(("attack", "position"), DEEP, ids=named)
def test_the_filter_alone_stops_it(attack: Attack, position: str, runner: harness.Runner) -> None:
    """With every other wall against it missing, the filter is enough."""
    assert runner.run(attack, position, attack.without - SECCOMP).end == KILLED


@pytest.mark.parametrize(("attack", "position", "wall", "end"), ALONE, ids=named)
def test_each_other_wall_alone_stops_it(
    attack: Attack, position: str, wall: str, end: str, runner: harness.Runner
) -> None:
    """With the filter and all others against it missing, one wall is enough."""
    if wall == "landlock" and call_number(444, None, 0, 1) < LANDLOCK_ABI:
        pytest.skip("this kernel's Landlock knows neither networks nor scopes")
    outcome = runner.run(attack, position, attack.without - {wall})
    if outcome.end in attack.lacking:
        pytest.skip(attack.lacking[outcome.end])
    assert outcome.end == end
