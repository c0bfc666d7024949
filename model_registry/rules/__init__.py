"""The bank's own risk rules: exclusions, cutoffs, caps and tables over consented fields and the model's score.

    version: 1
    exclusions:                                   # any true → no offer
      - {name: in arrears, when: tax.arrears.count_12m > 0, missing: decline}
    cutoffs:                                      # the same, by convention about the score
      - {name: weak score, when: model.score < 0.4}
    caps:                                         # limit = the smallest that applies; none applies → no offer
      - {name: a tenth of sales, limit: tax.declaration.sales_12m * 0.1, missing: skip}
      - {name: product, limit: 500000}
    tables:                                       # a cap by rows; no row hits → otherwise
      - name: by grade and score
        hit: first                                # first | collect (all that hit: the smallest)
        inputs: [tax.declaration.taxpayer_grade, model.score]
        rows: |
          M    | -          | decline
          A, B | < 0.2      | 500000
          -    | [0.2..0.3) | tax.declaration.sales_12m * 0.05
        otherwise: decline                        # decline (the default) | skip | <amount>

Where nothing can set an amount the model's output is the limit. `missing` says what happens where a field the rule
reads has no value: `decline` (the default: no offer), `skip` (the rule is left out), or a value that stands in.
Everything fails closed: an evaluation error, and a NaN, infinite or negative limit are no offer; a condition that
compares a NaN of its own making (0.0 / 0.0) is false, as in CEL. A limit is rounded down to whole yuan. Pure: the
worker and the bank's own tools share it. docs/rules.md is the guide.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

from model_registry.errors import Problem, RulesInvalid
from model_registry.rules.compile import compile_rule
from model_registry.rules.decide import Known, Outcome, Rule, Step, Verdict, decide_singly
from model_registry.rules.document import Problems
from model_registry.rules.expressions import SCORE, Compiled, Compiler, Fused, Inputs, Kind, Value
from model_registry.rules.text import FileText, read_rules
from model_registry.rules.values import Fields

NO_CAP = "no cap applies"
CHARACTERS_MAX = 64_000  # of all expressions, those made of cells too: at worst (long lists) 9 ms of a call's slot
_PLACEHOLDERS: Mapping[Kind, Value] = {
    Kind.NUMBER: 1.0,
    Kind.INTEGER: 1,
    Kind.BOOLEAN: False,
    Kind.CATEGORY: "",
    Kind.DATE: 1,
}


class Rules:
    """Compiled rules; immutable, may be used from a forked process."""

    def __init__(self, rules: Sequence[Rule], fields: Fields, compiler: Compiler) -> None:
        self.rules = tuple(rules)
        self.fields = frozenset(name for rule in rules for name in rule.fields)  # all that any rule reads
        self.declared = fields
        self.capped = any(rule.caps for rule in rules)
        self._fused = Fused(compiler, [part for rule in rules for part in rule.parts()])
        self._placeholders: Inputs = {name: _PLACEHOLDERS[fields.kind(name)] for name in self.fields}

    def limit(self, score: float, values: Known) -> int | None:
        """The limit in whole yuan, rounded down, before levels; None = no offer.

        Args:
            score: the model's output.
            values: declared fields by full name; number float, integer int, boolean bool, category its code, date days
                since 1970-01-01; None, NaN or absent = missing.
        """
        known = self._known(score, values)
        if known is None:
            return None
        amounts = []
        for outcome in self._outcomes(score, known):
            if outcome is Verdict.DECLINE:
                return None
            if outcome is not Verdict.SKIP:
                amounts.append(outcome)
        return self.conclude(score, amounts)

    def steps(self, score: float, values: Known) -> Iterator[Step]:
        """Rule by rule what `limit` does, up to the first that declines; for explanations and coverage."""
        for rule in self.rules:
            step = decide_singly(rule, score, values)
            yield step
            if step.outcome is Verdict.DECLINE:
                return

    def conclude(self, score: float, amounts: Sequence[float]) -> int | None:
        """The limit where no rule declined: the smallest amount; without any rule that sets one, the score."""
        if not self.capped:
            return math.floor(score) if score >= 0 else None
        return math.floor(min(amounts)) if amounts else None

    def _known(self, score: float, values: Known) -> dict[str, Value] | None:
        """The values that are there; None where one is none that a comparison could be trusted with."""
        if not math.isfinite(score):  # comparisons with NaN are false, so a cutoff would let it pass
            return None
        known = {name: value for name in self.fields if (value := values.get(name)) is not None and value == value}
        finite = all(type(value) is not float or math.isfinite(value) for value in known.values())
        return known if finite else None

    def _outcomes(self, score: float, known: Inputs) -> Iterator[Outcome]:
        fused = self._fused.evaluate({**self._placeholders, **known, SCORE: score})

        def evaluate(part: Compiled) -> bool | float | None:
            # what erred beside others is evaluated by itself: an error in one rule must not decide another
            return fused[part] if part in fused else part.evaluate(inputs)

        inputs = {**known, SCORE: score}
        whole = len(known) == len(self.fields)
        for rule in self.rules:
            # a placeholder has no say: a rule that lacks a value is decided by its `missing`
            if whole or not rule.absent(known):
                yield rule.decide(evaluate)
            else:
                yield decide_singly(rule, score, known).outcome


def compile_rules(
    text: bytes,
    fields: Mapping[str, str],
    codes: Mapping[str, Sequence[str]] | None = None,
    known: Sequence[str] = (),
) -> Rules:
    """Compile and type-check a rules file; its cases are not run (model_registry.rules.cases does).

    Args:
        text: the file's bytes; empty = no rules.
        fields: declared fields, full name → number | integer | boolean | category | date.
        codes: code lists of category fields, to check values; fields without one are not checked.
        known: names of fields that could be declared, for hints.

    Raises:
        RulesInvalid: with every problem found, at its line and column.
    """
    problems = Problems()
    rules, _, _ = compile_text(text, fields, codes, known, problems)
    if problems.found:
        raise RulesInvalid(problems.found)
    return rules


def compile_text(
    text: bytes,
    fields: Mapping[str, str],
    codes: Mapping[str, Sequence[str]] | None,
    known: Sequence[str],
    problems: Problems,
) -> tuple[Rules, FileText, Compiler]:
    """The rules, the file as it is written, and what compiled it; not to be used where there are problems."""
    try:
        declared = Fields({name: Kind(kind) for name, kind in fields.items()}, _lists(fields, codes))
    except ValueError:
        raise RulesInvalid([Problem(0, 0, "a declared field has an unknown type")]) from None
    file = read_rules(text, problems) if text.strip() else FileText()
    compiler = Compiler(declared.kinds, known)
    compiled = [compile_rule(rule, compiler, declared, problems) for rule in file.rules]
    rules = [rule for rule in compiled if rule]
    if sum(len(part.source) for rule in rules for part, _ in rule.parts()) > CHARACTERS_MAX:
        problems.put(
            Problem(0, 0, f"more than {CHARACTERS_MAX} characters of expressions", "simplify, or split tables")
        )
    # not fused where something is wrong: nothing of it is run
    return Rules([] if problems.found else rules, declared, compiler), file, compiler


def _lists(fields: Mapping[str, str], codes: Mapping[str, Sequence[str]] | None) -> dict[str, Sequence[str]]:
    return {name: found for name, found in (codes or {}).items() if fields.get(name) == Kind.CATEGORY}
