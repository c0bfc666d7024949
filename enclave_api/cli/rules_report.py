"""Rules for people and for programs: problems under their source line, results of cases, coverage, explanations."""

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from model_registry.errors import Problem
from model_registry.rules.cases import CaseResult
from model_registry.rules.coverage import Coverage, CoverageLine
from model_registry.rules.decide import OTHERWISE, Step, Verdict

SHOWN_CHARACTERS = 120  # of a source line, around the place


def problem_lines(path: str, source: Sequence[str], problem: Problem) -> Iterator[str]:
    """A problem as compilers print it: place and text, the line, a caret under the place, the hint."""
    place = f"{path}:{problem.line}:{problem.column}" if problem.line else path
    yield f"{place}: {printable(problem.text)}"
    if 0 < problem.line <= len(source):
        line, column = source[problem.line - 1], max(problem.column, 1) - 1
        start = max(0, column - SHOWN_CHARACTERS // 2)
        before, shown = line[start:column], line[start : start + SHOWN_CHARACTERS]
        yield f"{problem.line:>6} | {printable(shown)}"
        if problem.column:
            yield f"{'':>6} | {' ' * sum(map(_width, before))}^"
    if problem.hint:
        yield f"{'':>6} = {printable(problem.hint)}"


def printable(text: str) -> str:
    """Text that no terminal acts upon."""
    return "".join(c if c.isprintable() else " " for c in text)


def _width(character: str) -> int:
    """Columns of a terminal (Unicode Standard Annex 11)."""
    return 0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")


def problem_json(problem: Problem) -> dict[str, Any]:
    """A problem's members."""
    return {"line": problem.line, "column": problem.column, "text": problem.text, "hint": problem.hint}


def case_json(result: CaseResult) -> dict[str, Any]:
    """A case and what came out of it."""
    return {
        "case": result.case.text.name.value,
        "passed": result.problem is None,
        "limit": result.limit,
        "level": result.level,
        "decided_by": result.decided_by,
        "line": result.case.text.name.line,
    }


def coverage_json(coverage: Coverage) -> dict[str, Any]:
    """Coverage in percent and by line; null = there is no such path."""
    return {"percent": round(coverage.percent, 1), "lines": [_line_json(line) for line in coverage.lines]}


def _line_json(line: CoverageLine) -> dict[str, Any]:
    counted = {"reached": line.reached, "true": line.true, "false": line.false, "missing": line.missing}
    return {"group": line.group, "rule": line.rule, "row": line.row, **counted}


def case_rows(results: Sequence[CaseResult]) -> list[tuple[str, ...]]:
    """Rows of a table: case, passed, limit, level, by which rule."""
    return [
        (
            printable(result.case.text.name.value),
            "passed" if result.problem is None else "FAILED",
            f"{result.limit:,}",
            "-" if result.level is None else f"{result.level:,}",
            printable(result.decided_by),
        )
        for result in results
    ]


def coverage_rows(coverage: Coverage) -> list[tuple[str, ...]]:
    """Rows of a table: group, rule, row, cases that reach it and take each path; `-` = no such path."""
    return [
        (
            line.group,
            printable(line.rule),
            line.row,
            str(line.reached),
            *("-" if number is None else str(number) for number in (line.true, line.false, line.missing)),
            f"{100 * sum(n > 0 for n in line.paths) // len(line.paths)} %" if line.paths else "-",
        )
        for line in coverage.lines
    ]


def step_json(step: Step) -> dict[str, Any]:
    """What one rule did."""
    rows = [{"row": "otherwise" if row == OTHERWISE else row + 1, "found": found} for row, found in step.seen]
    outcome = step.outcome.value if isinstance(step.outcome, Verdict) else step.outcome
    group, name = step.rule.group, step.rule.name
    return {"group": group, "rule": name, "missing": list(step.absent), "rows": rows, "outcome": outcome}


def step_rows(steps: Sequence[Step]) -> list[tuple[str, ...]]:
    """Rows of a table: group, rule, what was looked at, what followed."""
    return [(step.rule.group, printable(step.rule.name), ", ".join(_looked(step)), _followed(step)) for step in steps]


def _looked(step: Step) -> Iterator[str]:
    if step.absent:
        yield f"missing: {' '.join(step.absent)}"
    for row, found in step.seen:
        if row == OTHERWISE:
            yield from ["otherwise"] if step.rule.group == "tables" else []
        else:
            yield f"row {row + 1} {found}" if step.rule.group == "tables" else found


def _followed(step: Step) -> str:
    if isinstance(step.outcome, float):
        return f"at most {step.outcome:,.2f}"
    return "no offer" if step.outcome is Verdict.DECLINE else "goes on"
