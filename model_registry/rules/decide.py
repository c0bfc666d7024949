"""How one rule decides. Exclusions, cutoffs and caps are tables of one row; everything fails closed.

Hit policies are those of DMN (Object Management Group, Decision Model and Notation, chapter "Decision Table"): `first`
is FIRST, `collect` is COLLECT with the aggregation MIN.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from model_registry.rules.expressions import SCORE, Compiled, Value

OTHERWISE = -1  # the row number of a table's `otherwise`
Known = Mapping[str, Value | None]


class Verdict(Enum):
    """What a rule says that sets no amount."""

    DECLINE = "decline"
    SKIP = "skip"


Amount = Compiled | float | Verdict  # what is to be found out, known, or no amount at all
Outcome = float | Verdict
Evaluate = Callable[[Compiled], bool | float | None]


@dataclass(frozen=True)
class Row:
    """A condition (None = always) and what follows from it."""

    when: Compiled | None
    limit: Amount


@dataclass(frozen=True)
class Rule:
    """A rule or table. `missing` is what follows where a field of it has no value; None = `stand_in` has the values."""

    group: str
    name: str
    rows: tuple[Row, ...]
    collect: bool
    otherwise: Amount
    missing: Verdict | None
    stand_in: Mapping[str, Value]
    fields: tuple[str, ...]

    def parts(self) -> list[tuple[Compiled, Compiled | None]]:
        """Every expression of the rule with its guard, the condition without which it does not count."""
        whens = [(row.when, None) for row in self.rows if row.when is not None]
        limits = [(row.limit, row.when) for row in self.rows if isinstance(row.limit, Compiled)]
        last = [(self.otherwise, None)] if isinstance(self.otherwise, Compiled) else []
        return [*whens, *limits, *last]

    @property
    def caps(self) -> bool:
        """Whether it can set an amount."""
        return any(not isinstance(amount, Verdict) for amount in (*(row.limit for row in self.rows), self.otherwise))

    @property
    def reads_score(self) -> bool:
        """Whether the model's output has a say."""
        return any(part.reads_score for part, _ in self.parts())

    def absent(self, known: Known) -> list[str]:
        """The fields that the rule reads and that have no value."""
        return [name for name in self.fields if known.get(name) is None]

    def decide(self, evaluate: Evaluate, seen: list[tuple[int, str]] | None = None) -> Outcome:
        """What follows, every field having a value.

        Args:
            evaluate: gives an expression's value, None = an error.
            seen: gets each row that was looked at, with `true`, `false` or `error`.
        """
        amounts, hit = [], False
        for number, row in enumerate(self.rows):
            applies = True if row.when is None else evaluate(row.when)
            if seen is not None:
                seen.append((number, "true" if applies is True else "false" if applies is False else "error"))
            if applies is False:
                continue
            # a condition that errs must not be left out: the smallest cap may be the one that failed
            outcome = _outcome(row.limit, evaluate) if applies is True else Verdict.DECLINE
            if outcome is Verdict.DECLINE or not self.collect:
                return outcome
            hit = True
            if outcome is not Verdict.SKIP:
                amounts.append(outcome)
        if hit:
            return min(amounts, default=Verdict.SKIP)
        if seen is not None:
            seen.append((OTHERWISE, "true"))
        return _outcome(self.otherwise, evaluate)


@dataclass(frozen=True)
class Step:
    """What one rule did: outcome, rows looked at, the fields that had no value."""

    rule: Rule
    outcome: Outcome
    seen: tuple[tuple[int, str], ...]
    absent: tuple[str, ...]


def decide_singly(rule: Rule, score: float, known: Known) -> Step:
    """One rule, its expressions evaluated one by one.

    Args:
        rule: the rule.
        score: the model's output, finite.
        known: values of the declared fields; None or absent = missing.
    """
    absent = rule.absent(known)
    if absent and rule.missing is not None:
        return Step(rule, rule.missing, (), tuple(absent))
    inputs: dict[str, Value] = {SCORE: score}
    for name in rule.fields:
        value = known.get(name)
        inputs[name] = rule.stand_in[name] if value is None else value
    seen: list[tuple[int, str]] = []
    outcome = rule.decide(lambda part: part.evaluate(inputs), seen)
    return Step(rule, outcome, tuple(seen), tuple(absent))


def _outcome(amount: Amount, evaluate: Evaluate) -> Outcome:
    if isinstance(amount, Verdict):
        return amount
    yuan = evaluate(amount) if isinstance(amount, Compiled) else amount
    # no number, NaN, infinite or negative: no limit whatever other caps say
    return yuan if type(yuan) is float and math.isfinite(yuan) and yuan >= 0 else Verdict.DECLINE
