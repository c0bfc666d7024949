"""Cases of a rules file: made-up companies with what the rules must say of them.

    cases:
      - name: a good shop
        values: {tax.declaration.sales_12m: 2000000, tax.arrears.count_12m: missing}
        score: 0.9
        limit: 200000                 # whole yuan, rounded down, before levels; 0 = no offer, whatever the reason
        level: 200000                 # after levels; may stand instead or beside; checked where the levels are known
      - {name: a debtor, values: {tax.arrears.count_12m: 3}, declined: in arrears}

A case says the value of every field that its rules get to read: what is missing is said, not left out.
"""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from model_registry.errors import Problem, RulesCaseFailed, RulesInvalid
from model_registry.rules import NO_CAP, Rules, compile_text
from model_registry.rules.decide import Step, Verdict
from model_registry.rules.document import Problems, Text
from model_registry.rules.expressions import Compiler, Value
from model_registry.rules.text import CaseText

THE_OUTPUT = "the model's output"
_SCORE = re.compile(r"-?\d{1,15}(\.\d{1,15})?")
_YUAN = re.compile(r"\d{1,15}")
LevelOf = Callable[[float], int]


@dataclass(frozen=True)
class Case:
    """A case, typed; None = a missing value, or nothing said."""

    text: CaseText
    values: Mapping[str, Value | None]
    score: float | None
    limit: int | None
    level: int | None


@dataclass(frozen=True)
class CaseResult:
    """What came out of a case: the limit before levels (0 = no offer), which rule decided it, and why it fails."""

    case: Case
    limit: int
    level: int | None
    decided_by: str
    steps: tuple[Step, ...]
    problem: Problem | None


@dataclass(frozen=True)
class RulesFile:
    """A rules file that compiles."""

    rules: Rules
    cases: tuple[Case, ...]

    def run(self, level_of: LevelOf | None = None) -> list[CaseResult]:
        """Every case; `level_of` snaps an amount to the product's levels, None = they are not known."""
        return [run_case(self.rules, case, level_of) for case in self.cases]


def read_rules_file(
    text: bytes,
    fields: Mapping[str, str],
    codes: Mapping[str, Sequence[str]] | None = None,
    known: Sequence[str] = (),
) -> RulesFile:
    """Compile rules and type-check cases; arguments as of `compile_rules`.

    Raises:
        RulesInvalid: with every problem found, at its line and column.
    """
    problems = Problems()
    rules, file, compiler = compile_text(text, fields, codes, known, problems)
    names = [rule.name.value for rule in file.rules]
    cases = tuple(_case(case, rules, compiler, names, problems) for case in file.cases)
    if problems.found:
        raise RulesInvalid(problems.found)
    return RulesFile(rules, cases)


def check_rules(
    text: bytes,
    fields: Mapping[str, str],
    codes: Mapping[str, Sequence[str]] | None = None,
    level_of: LevelOf | None = None,
) -> Rules:
    """Compile rules and run their cases: what sealing and admission ask for.

    Raises:
        RulesInvalid: the file does not compile.
        RulesCaseFailed: a case comes out otherwise than it says.
    """
    file = read_rules_file(text, fields, codes)
    failed = [result.problem for result in file.run(level_of) if result.problem is not None]
    if failed:
        raise RulesCaseFailed(failed)
    return file.rules


def run_case(rules: Rules, case: Case, level_of: LevelOf | None = None) -> CaseResult:
    """One case, rule by rule."""
    score = 0.0 if case.score is None else case.score
    steps: list[Step] = []
    for step in rules.steps(score, case.values):
        if unsaid := _unsaid(step, case):
            return CaseResult(case, 0, None, "", tuple(steps), case.text.name.problem(*unsaid))
        steps.append(step)
    if case.score is None and not rules.capped and not (steps and steps[-1].outcome is Verdict.DECLINE):
        what = _named(case, "the model's output is the limit, and the case says no score")
        return CaseResult(case, 0, None, "", tuple(steps), case.text.name.problem(what, "score: 100000"))
    limit, decided_by = _conclude(rules, score, steps)
    level = level_of(limit) if level_of is not None else None
    return CaseResult(case, limit, level, decided_by, tuple(steps), _difference(case, limit, level, decided_by))


def _unsaid(step: Step, case: Case) -> tuple[str, str] | None:
    unsaid = [name for name in step.rule.fields if name not in case.values]
    if unsaid:
        what = f"the rule {step.rule.name!r} reads {unsaid[0]}, and the case does not say it"
        return _named(case, what), f"values: {{{unsaid[0]}: missing}}, or a value"
    if case.score is None and step.rule.reads_score:
        return _named(
            case, f"the rule {step.rule.name!r} reads model.score, and the case does not say it"
        ), "score: 0.5"
    return None


def _conclude(rules: Rules, score: float, steps: Sequence[Step]) -> tuple[int, str]:
    if steps and steps[-1].outcome is Verdict.DECLINE:
        return 0, steps[-1].rule.name
    amounts = [(step.outcome, step.rule.name) for step in steps if not isinstance(step.outcome, Verdict)]
    limit = rules.conclude(score, [amount for amount, _ in amounts])
    if not rules.capped:
        return limit or 0, THE_OUTPUT
    return (limit or 0, min(amounts, key=lambda each: each[0])[1]) if amounts else (0, NO_CAP)


def _difference(case: Case, limit: int, level: int | None, decided_by: str) -> Problem | None:
    came = f"came out {limit:,}, by {decided_by!r}" if limit else f"no offer came out, by {decided_by!r}"
    said = case.text
    if said.declined is not None and (said.declined.value != decided_by or limit):
        return said.declined.problem(_named(case, f"declined by {said.declined.value!r} is expected, {came}"))
    if said.limit is not None and case.limit != limit:
        return said.limit.problem(_named(case, f"{case.limit:,} is expected, {came}"))
    if said.level is not None and level is not None and case.level != level:
        what = f"the level {case.level:,} is expected, {level:,} came out of {limit:,}, by {decided_by!r}"
        return said.level.problem(_named(case, what))
    return None


def _named(case: Case, what: str) -> str:
    return f"case {case.text.name.value!r}: {what}"


def _case(text: CaseText, rules: Rules, compiler: Compiler, names: Sequence[str], problems: Problems) -> Case:
    values: dict[str, Value | None] = {}
    for name, written in text.values:
        if compiler.field(name, problems, score=False):
            values[name.value] = None if written is None else _value(name.value, written, rules, problems)
    score = _number(text.score, _SCORE, "the score is no number", problems)
    limit = _number(text.limit, _YUAN, "a limit in whole yuan is wanted", problems)
    level = _number(text.level, _YUAN, "a level in whole yuan is wanted", problems)
    if text.declined is not None and text.declined.value not in names:
        close = difflib.get_close_matches(text.declined.value[:200], names, 1)
        hint = f"did you mean {close[0]}?" if close else "limit: 0 where no rule declines"
        problems.put(text.declined.problem("there is no rule of that name", hint))
    whole = [None if number is None else int(number) for number in (limit, level)]
    return Case(text, values, score, whole[0], whole[1])


def _value(name: str, written: Text, rules: Rules, problems: Problems) -> Value | None:
    value = rules.declared.literal(name, written.value)
    if value is None and not problems.full:
        what = f"{written.value[:60]!r} is no value of {name}"
        problems.put(written.problem(what, rules.declared.wanted(name, written.value)))
    return value


def _number(text: Text | None, shape: re.Pattern[str], what: str, problems: Problems) -> float | None:
    if text is None:
        return None
    if not shape.fullmatch(text.value):
        problems.put(text.problem(what))
        return None
    return float(text.value)
