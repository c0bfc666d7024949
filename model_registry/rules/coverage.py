"""Which paths through the rules the cases take: for each rule and row, true, false, and a missing value."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from model_registry.rules import Rules
from model_registry.rules.cases import CaseResult
from model_registry.rules.decide import OTHERWISE, Rule, Step


@dataclass(frozen=True)
class CoverageLine:
    """A rule, or a row of a table. Numbers of cases; None = there is no such path."""

    group: str
    rule: str
    row: str
    reached: int
    true: int | None
    false: int | None
    missing: int | None

    @property
    def paths(self) -> list[int]:
        """The cases on each path that there is."""
        return [number for number in (self.true, self.false, self.missing) if number is not None]


@dataclass(frozen=True)
class Coverage:
    """All lines, in the order in which rules decide."""

    lines: tuple[CoverageLine, ...]

    @property
    def percent(self) -> float:
        """Paths that some case takes, of all; 100 where there is none to take."""
        paths = [number for line in self.lines for number in line.paths]
        return 100.0 * sum(number > 0 for number in paths) / len(paths) if paths else 100.0


def coverage_of(rules: Rules, results: Sequence[CaseResult]) -> Coverage:
    """Counts what the steps of the cases' results went through."""
    steps = [step for result in results for step in result.steps]
    return Coverage(tuple(line for rule in rules.rules for line in _lines(rule, [s for s in steps if s.rule is rule])))


def _lines(rule: Rule, steps: Sequence[Step]) -> Iterator[CoverageLine]:
    missing = sum(bool(step.absent) for step in steps) if rule.fields else None
    if rule.group == "tables":
        yield CoverageLine(rule.group, rule.name, "", len(steps), None, None, missing)
    for number, row in enumerate(rule.rows):
        false = None if row.when is None else _count(steps, number, "false")
        true, name = _count(steps, number, "true"), f"row {number + 1}"
        if rule.group == "tables":
            yield CoverageLine(rule.group, rule.name, name, _count(steps, number), true, false, None)
        else:
            yield CoverageLine(rule.group, rule.name, "", len(steps), true, false, missing)
    # a row without a condition leaves nothing over
    if rule.group == "tables" and all(row.when is not None for row in rule.rows):
        reached = _count(steps, OTHERWISE)
        yield CoverageLine(rule.group, rule.name, "otherwise", reached, reached, None, None)


def _count(steps: Sequence[Step], row: int, said: str = "") -> int:
    """Steps that looked at a row, or that found it true or false; an error is neither."""
    return sum(any(at == row and said in ("", what) for at, what in step.seen) for step in steps)
