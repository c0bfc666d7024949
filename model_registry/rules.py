"""The bank's own risk rules: exclusions, cutoffs and caps over consented fields and the model's score.

    version: 1
    exclusions:                                   # any true → no offer
      - {name: in arrears, when: tax.arrears.count_12m > 0, missing: decline}
    cutoffs:                                      # the same, by convention about the score
      - {name: weak score, when: model.score < 0.4}
    caps:                                         # limit = the smallest that applies; none applies → no offer
      - {name: a tenth of sales, limit: tax.declaration.sales_12m * 0.1, missing: skip}
      - {name: product, limit: 500000}

Without caps the model's output is the limit. `missing` says what happens where a field the rule reads has no value:
`decline` (the default: no offer), `skip` (the rule is left out), or a value that stands in. Everything fails closed: an
evaluation error, NaN, an infinite or negative limit are no offer. Pure: the worker and the bank's own tools share it.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from model_registry.errors import Problem, RulesInvalid
from model_registry.expressions import SCORE, Compiled, Compiler, Kind, Value
from model_registry.rules_text import Problems, RuleText, Text, read_rules

_NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,15})?")
_INTEGER = re.compile(r"-?\d{1,15}")
_ALWAYS = Text("true", 0, 0)


class _Declined(Exception):
    """A rule ended the evaluation: no offer."""


@dataclass(frozen=True)
class _Rule:
    """One rule; `stand_in` is used where `missing` was a value, else None."""

    group: str
    when: Compiled
    limit: Compiled | None
    skip: bool
    stand_in: Mapping[str, Value]

    def inputs(self, score: float, values: Mapping[str, Value | None]) -> dict[str, Value] | None:
        """The variables the rule reads; None = skip the rule. Raises _Declined where a missing field declines."""
        inputs: dict[str, Value] = {}
        for part in (self.when, self.limit):
            if part is None:
                continue
            if part.reads_score:
                inputs[SCORE] = score
            for name in part.fields:
                value = values.get(name)
                if value is None:
                    value = self.stand_in.get(name)
                if value is None and self.skip:
                    return None
                if value is None:
                    raise _Declined
                inputs[name] = value
        return inputs


class Rules:
    """Compiled rules; immutable, may be used from a forked process."""

    def __init__(self, rules: Sequence[_Rule]) -> None:
        self._stops = tuple(rule for rule in rules if rule.group != "caps")
        self._caps = tuple(rule for rule in rules if rule.group == "caps")
        parts = [part for rule in rules for part in (rule.when, rule.limit) if part is not None]
        self.fields = frozenset(name for part in parts for name in part.fields)  # all that any rule reads

    def limit(self, score: float, values: Mapping[str, Value | None]) -> float | None:
        """The limit in yuan before snapping, or None for no offer.

        Args:
            score: the model's output.
            values: declared fields by full name; number float, integer int, boolean bool, category its code, date days
                since 1970-01-01; None or absent = missing.
        """
        try:
            return self._limit(score, values)
        except _Declined:
            return None

    def _limit(self, score: float, values: Mapping[str, Value | None]) -> float | None:
        if math.isnan(score):  # comparisons with NaN are false, so a cutoff would let it pass
            return None
        for rule in self._stops:
            inputs = rule.inputs(score, values)
            # anything but a clean `false` declines
            if inputs is not None and rule.when.evaluate(inputs) is not False:
                return None
        amounts = (
            [score] if not self._caps else [a for cap in self._caps if (a := _amount(cap, score, values)) is not None]
        )
        if not amounts or not all(math.isfinite(a) and a >= 0 for a in amounts):
            return None
        return min(amounts)


def _amount(cap: _Rule, score: float, values: Mapping[str, Value | None]) -> float | None:
    """The cap's limit; None = the cap does not apply. Raises _Declined where it cannot be evaluated."""
    inputs = cap.inputs(score, values)
    if inputs is None:
        return None
    applies = cap.when.evaluate(inputs)
    if applies is False:
        return None
    amount = cap.limit.evaluate(inputs) if cap.limit is not None else None
    # a cap that errs must not be left out: the smallest cap may be the one that failed
    if applies is not True or amount is None:
        raise _Declined
    return float(amount)


def compile_rules(text: bytes, fields: Mapping[str, str], codes: Mapping[str, Sequence[str]] | None = None) -> Rules:
    """Compile and type-check a rules file.

    Args:
        text: the file's bytes; empty = no rules.
        fields: declared fields, full name → number | integer | boolean | category | date.
        codes: code lists of category fields, to check stand-in values; fields without one are not checked.

    Raises:
        RulesInvalid: with every problem found, at its line and column.
    """
    problems = Problems()
    raw = read_rules(text, problems) if text.strip() else []
    try:
        kinds = {name: Kind(kind) for name, kind in fields.items()}
    except ValueError:
        raise RulesInvalid([Problem(0, 0, "a declared field has an unknown type")]) from None
    compiler = Compiler(kinds)
    rules = [_compile(rule, compiler, kinds, codes or {}, problems) for rule in raw]
    if problems.found:
        raise RulesInvalid(problems.found)
    return Rules([rule for rule in rules if rule is not None])


def _compile(
    rule: RuleText,
    compiler: Compiler,
    kinds: Mapping[str, Kind],
    codes: Mapping[str, Sequence[str]],
    problems: Problems,
) -> _Rule | None:
    when = compiler.compile(rule.when or _ALWAYS, wanted="condition")
    limit = compiler.compile(rule.limit, wanted="amount") if rule.limit is not None else None
    for outcome in (when, limit):
        if isinstance(outcome, list):
            problems.found.extend(outcome)
    if isinstance(when, list) or isinstance(limit, list):
        return None
    used = sorted({*when.fields, *(limit.fields if limit else ())})
    keyword = rule.missing.value if rule.missing else "decline"
    stand_in: dict[str, Value] = {}
    if rule.missing is not None and keyword not in ("decline", "skip"):
        stand_in = _stand_ins(rule.missing, used, kinds, codes, problems)
    return _Rule(rule.group, when, limit, keyword == "skip", stand_in)


def _stand_ins(
    text: Text, used: Sequence[str], kinds: Mapping[str, Kind], codes: Mapping[str, Sequence[str]], problems: Problems
) -> dict[str, Value]:
    values = {name: _literal(text.value, kinds[name], codes.get(name)) for name in used}
    for name, value in values.items():
        if value is None:
            what = f"the value for missing does not fit the {kinds[name].value} field {name}"
            problems.found.append(Problem(text.line, text.column, what, "use decline, skip, or split the rule"))
    return {name: value for name, value in values.items() if value is not None}


def _literal(text: str, kind: Kind, codes: Sequence[str] | None) -> Value | None:
    if kind is Kind.BOOLEAN:
        return {"true": True, "false": False}.get(text)
    if kind is Kind.CATEGORY:
        return text if codes is None or text in codes else None
    if kind is Kind.NUMBER:
        return float(text) if _NUMBER.fullmatch(text) else None
    return int(text) if _INTEGER.fullmatch(text) else None
