"""From a rule as written to a rule that decides: conditions, cells, amounts, what stands in for missing values."""

import re
from collections.abc import Sequence

from model_registry.rules.cells import cell_condition
from model_registry.rules.codes import check_codes
from model_registry.rules.decide import Amount, Row, Rule, Verdict
from model_registry.rules.document import Problems, Text
from model_registry.rules.expressions import SCORE, Compiled, Compiler, Value
from model_registry.rules.text import RowText, RuleText
from model_registry.rules.values import Fields

_YUAN = re.compile(r"\d{1,15}(\.\d{1,15})?")
_VERDICTS = {"decline": Verdict.DECLINE, "skip": Verdict.SKIP}


def compile_rule(rule: RuleText, compiler: Compiler, fields: Fields, problems: Problems) -> Rule | None:
    """Compile a rule or table; None, and problems, where something is wrong with it."""
    table = rule.group == "tables"
    inputs = [compiler.field(name, problems) for name in rule.inputs]
    if not all(inputs):
        return None
    before = len(problems.found)
    rows = tuple(_row(row, rule, compiler, fields, problems) for row in rule.rows)
    default = Verdict.DECLINE if table else Verdict.SKIP
    otherwise = default if rule.otherwise is None else _amount(rule.otherwise, True, compiler, problems)
    if table and rule.hit is not None and rule.hit.value not in ("first", "collect"):
        problems.put(rule.hit.problem("`hit` is first or collect", "hit: first"))
    used = _used([*(part for row in rows for part in (row.when, row.limit)), otherwise])
    used |= {name.value for name in rule.inputs}
    names = tuple(sorted(used - {SCORE}))
    missing, stand_in = _missing(rule.missing, names, fields, problems)
    if len(problems.found) > before:
        return None
    collect = rule.hit is not None and rule.hit.value == "collect"
    return Rule(rule.group, rule.name.value, rows, collect, otherwise, missing, stand_in, names)


def _row(row: RowText, rule: RuleText, compiler: Compiler, fields: Fields, problems: Problems) -> Row:
    if row.cells:
        when = _cells(row.cells, rule.inputs, compiler, fields, problems)
    else:
        when = compiler.compile(row.when, "condition", problems) if row.when is not None else None
        if row.when is not None and when is not None:
            check_codes(row.when, when, fields, problems)
    if row.limit is None:
        return Row(when, Verdict.DECLINE)
    return Row(when, _amount(row.limit, rule.group == "tables", compiler, problems))


def _cells(
    cells: Sequence[Text], inputs: Sequence[Text], compiler: Compiler, fields: Fields, problems: Problems
) -> Compiled | None:
    """The row's cells as one condition; None where anything will do, or something is wrong."""
    made = [cell_condition(cell, name.value, fields, problems) for cell, name in zip(cells, inputs, strict=True)]
    condition = " && ".join(f"({test})" for test in made if test)
    return (
        compiler.compile(Text(condition, cells[0].line, cells[0].column, exact=False), "condition", problems)
        if condition
        else None
    )


def _amount(text: Text, verdicts: bool, compiler: Compiler, problems: Problems) -> Amount:
    if verdicts and text.value in _VERDICTS:
        return _VERDICTS[text.value]
    if _YUAN.fullmatch(text.value):
        return float(text.value)
    # what does not compile is a problem: the rule is never used
    return compiler.compile(text, "amount", problems) or Verdict.DECLINE


def _used(parts: Sequence[Amount | None]) -> set[str]:
    return {name for part in parts if isinstance(part, Compiled) for name in part.fields}


def _missing(
    text: Text | None, names: Sequence[str], fields: Fields, problems: Problems
) -> tuple[Verdict | None, dict[str, Value]]:
    if text is None:
        return Verdict.DECLINE, {}
    if text.value in _VERDICTS:
        return _VERDICTS[text.value], {}
    values = {name: fields.literal(name, text.value) for name in names}
    for name, value in values.items():
        if value is None:
            what = f"the value for missing does not fit the {fields.kind(name).value} field {name}"
            problems.put(text.problem(what, "use decline, skip, or split the rule"))
    return None, {name: value for name, value in values.items() if value is not None}
