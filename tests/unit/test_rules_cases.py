"""Cases of a rules file: typed, run, refused where they fail; what they cover."""

import json
from collections.abc import Sequence

import pytest

from enclave_api.cli.example import FIELDS as EXAMPLE_FIELDS
from enclave_api.cli.example import LEVELS, RULES, SKLEARN_FIELDS, specs
from model_registry.errors import Problem, RulesCaseFailed, RulesInvalid
from model_registry.rules.cases import CaseResult, RulesFile, check_rules, read_rules_file
from model_registry.rules.coverage import Coverage, coverage_of
from sandbox.gate import snap
from sandbox.vault.catalog import load_catalog
from tests.unit.test_rules import COUNT, FIELDS, SALES

GRADE = "market.company.industry"
CODES = {GRADE: ("retail", "mining", "missing")}
FILE = f"""\
version: 1
exclusions:
  - {{name: 欠税, when: {COUNT} > 2, missing: skip}}
cutoffs:
  - {{name: weak, when: model.score < 0.4}}
caps:
  - {{name: a tenth, limit: '{SALES} * 0.1'}}
tables:
  - name: grid
    hit: first
    inputs: [{GRADE}]
    rows: |
      retail | 5000
      mining | decline
    otherwise: skip
    missing: skip
cases:
"""


def case(body: str) -> str:
    """A file with one case."""
    return f"{FILE}  - {{name: 店, {body}}}\n"


def read(text: str) -> RulesFile:
    """Compiled rules and cases."""
    return read_rules_file(text.encode(), FIELDS, CODES)


def level_of(yuan: float) -> int:
    """The levels of the product."""
    return snap(yuan, (0, 1000, 5000))


def said(text: str) -> Problem:
    """The one problem of a case."""
    (result,) = read(text).run(level_of)
    assert result.problem is not None
    return result.problem


def values(**changes: str) -> str:
    """A case's values: no arrears, sales of 90,000 yuan, retail."""
    told = {COUNT: "0", SALES: "90000", GRADE: "retail"} | {COUNT: changes.get("count", "0")}
    told |= {SALES: changes.get("sales", "90000"), GRADE: changes.get("grade", "retail")}
    return "values: {" + ", ".join(f"{name}: {value}" for name, value in told.items()) + "}"


@pytest.mark.parametrize(
    ("body", "limit", "level", "by"),
    [
        (f"{values()}, score: 0.5, limit: 5000, level: 5000", 5000, 5000, "grid"),
        (f"{values(sales='45678')}, score: 0.5, limit: 4567, level: 1000", 4567, 1000, "a tenth"),
        (f"{values(grade='missing')}, score: 0.5, limit: 9000", 9000, 5000, "a tenth"),
        (f"{values(count='null')}, score: 0.5, level: 5000", 5000, 5000, "grid"),
        (f"{values(count='3')}, declined: 欠税", 0, 0, "欠税"),
        (f"{values()}, score: 0.39, declined: weak", 0, 0, "weak"),
        (f"{values(sales='~')}, score: 0.5, limit: 0", 0, 0, "a tenth"),
        (f"{values(grade='mining')}, score: 0.5, declined: grid", 0, 0, "grid"),
        (f"{values(sales='9')}, score: 0.5, limit: 0", 0, 0, "a tenth"),
    ],
)
def test_a_case_says_what_the_rules_must_say(body: str, limit: int, level: int, by: str) -> None:
    """Limit before levels, level after, or the rule that declines; what decided is told."""
    (result,) = read(case(body)).run(level_of)
    assert (result.problem, result.limit, result.level, result.decided_by) == (None, limit, level, by)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (f"{values()}, score: 0.5, limit: 5001", "5,001 is expected, came out 5,000, by 'grid'"),
        (f"{values()}, score: 0.5, level: 1000", "level 1,000 is expected, 5,000 came out of 5,000"),
        (f"{values()}, score: 0.5, limit: 0", "0 is expected, came out 5,000"),
        (f"{values()}, score: 0.5, declined: weak", "declined by 'weak' is expected, came out 5,000, by 'grid'"),
        (f"{values(count='3')}, score: 0.5, declined: weak", "no offer came out, by '欠税'"),
        (f"{values(count='3')}, score: 0.5, limit: 5000", "5,000 is expected, no offer came out, by '欠税'"),
        (f"{values(sales='9')}, score: 0.5, declined: grid", "no offer came out, by 'a tenth'"),
    ],
)
def test_a_failing_case_is_named_with_what_came_out(body: str, words: str) -> None:
    """At the place of what it expects; sealing and admission refuse it by its own code."""
    problem = said(case(body))
    assert problem.text.startswith("case '店': ")
    assert words in problem.text
    assert problem.line == FILE.count("\n") + 1
    with pytest.raises(RulesCaseFailed) as refused:
        check_rules(case(body).encode(), FIELDS, CODES, level_of)
    assert refused.value.problems == (problem,)
    assert refused.value.code == "rules_case_failed"


def test_levels_are_not_judged_where_nobody_knows_them() -> None:
    """A rules file by itself has no levels: what a case says of them waits for the offer."""
    text = case(f"{values()}, score: 0.5, level: 1000")
    assert check_rules(text.encode(), FIELDS, CODES).rules
    (result,) = read(text).run()
    assert (result.problem, result.level) == (None, None)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (f"values: {{{COUNT}: 0}}, score: 0.5, limit: 1", f"reads {SALES}, and the case does not say it"),
        ("score: 0.5, limit: 1", f"reads {COUNT}"),
        (f"{values()}, limit: 1", "reads model.score"),
    ],
)
def test_a_case_says_every_value_that_its_rules_read(body: str, words: str) -> None:
    """What is missing is said, not left out; fields that no rule gets to need no word."""
    assert words in said(case(body)).text
    (declined,) = read(case(f"values: {{{COUNT}: 3}}, declined: 欠税")).run()
    assert declined.problem is None


def test_a_case_without_caps_needs_a_score() -> None:
    """The model's output is the limit then; no rule that reads it asks for it."""
    text = f"version: 1\nexclusions: [{{name: a, when: {COUNT} > 2}}]\ncases:\n"
    missing = said(f"{text}  - {{name: x, values: {{{COUNT}: 0}}, limit: 7}}\n")
    assert "the case says no score" in missing.text
    (result,) = read(f"{text}  - {{name: x, values: {{{COUNT}: 0}}, score: 7.9, limit: 7}}\n").run()
    assert (result.problem, result.decided_by) == (None, "the model's output")


@pytest.mark.parametrize(
    "body",
    [
        "limit: 1.5",
        "limit: -1",
        "limit: many",
        "level: x",
        "score: high, limit: 1",
        "score: .nan, limit: 1",
        "declined: weka",
        "declined: weak, limit: 0",
        "score: 0.5",
        "limit: 1, colour: red",
        f"values: {{{COUNT}: 1.5}}, limit: 1",
        f"values: {{{COUNT}: }}, limit: 1",
        f"values: {{{COUNT}: 1, {COUNT}: 2}}, limit: 1",
        f"values: {{{SALES}: lots}}, limit: 1",
        f"values: {{{GRADE}: wholesale}}, limit: 1",
        "values: {market.company.listed: yes}, limit: 1",
        "values: {market.company.founded: 2023-02-30}, limit: 1",
        "values: {tax.unknown.field: 1}, limit: 1",
        "values: {model.score: 1.0}, limit: 1",
        "values: [1], limit: 1",
        "values: 1, limit: 1",
    ],
)
def test_what_is_no_case_is_refused(body: str) -> None:
    """Values of their field's type, whole yuan, names of rules that there are, one expectation."""
    with pytest.raises(RulesInvalid) as refused:
        read(case(body))
    assert refused.value.code == "rules_invalid"
    assert all(problem.line for problem in refused.value.problems)


def test_values_have_their_fields_types() -> None:
    """Days as ISO 8601, codes quoted where they are words of the format, integers whole, booleans true or false."""
    body = (
        f'values: {{market.company.founded: 1970-01-31, {GRADE}: "missing", market.company.listed: true, '
        f"{COUNT}: 4, {SALES}: 2.5}}, limit: 0"
    )
    (told,) = read(case(body)).cases
    typed = {"market.company.founded": 30, GRADE: "missing", "market.company.listed": True, COUNT: 4, SALES: 2.5}
    assert told.values == typed
    assert [type(value) for value in told.values.values()] == [int, str, bool, int, float]


def lines(coverage: Coverage) -> dict[tuple[str, str], tuple[int, int | None, int | None, int | None]]:
    """A coverage's lines by rule and row."""
    return {(each.rule, each.row): (each.reached, each.true, each.false, each.missing) for each in coverage.lines}


def results(bodies: Sequence[str]) -> tuple[RulesFile, list[CaseResult]]:
    """The results of some cases."""
    text = FILE + "".join(f"  - {{name: c{number}, {body}}}\n" for number, body in enumerate(bodies))
    file = read(text)
    return file, file.run()


def test_coverage_counts_the_paths_that_cases_take() -> None:
    """For each rule and row: reached, true, false, missing; `None` where there is no such path."""
    file, ran = results([f"{values()}, score: 0.5, limit: 5000", f"{values(count='3')}, declined: 欠税"])
    covered = coverage_of(file.rules, ran)
    assert lines(covered) == {
        ("欠税", ""): (2, 1, 1, 0),
        ("weak", ""): (1, 0, 1, None),
        ("a tenth", ""): (1, 1, None, 0),
        ("grid", ""): (1, None, None, 0),
        ("grid", "row 1"): (1, 1, 0, None),
        ("grid", "row 2"): (0, 0, 0, None),
        ("grid", "otherwise"): (0, 0, None, None),
    }
    assert covered.percent == pytest.approx(100 * 5 / 13)
    assert coverage_of(file.rules, []).percent == 0
    assert coverage_of(read("version: 1").rules, []).percent == 100


def test_an_error_is_neither_true_nor_false() -> None:
    """A condition that cannot be evaluated was reached, and covers nothing."""
    text = f"version: 1\nexclusions: [{{name: a, when: 1 / {COUNT} > 0}}]\ncases:\n"
    file = read(f"{text}  - {{name: x, values: {{{COUNT}: 0}}, declined: a}}\n")
    assert lines(coverage_of(file.rules, file.run())) == {("a", ""): (1, 0, 0, 0)}


@pytest.mark.parametrize("names", [EXAMPLE_FIELDS, SKLEARN_FIELDS], ids=["lightgbm", "sklearn"])
def test_the_example_covers_its_rules(names: Sequence[str]) -> None:
    """The rules that `heixia bank example` writes pass their cases, which take every path."""
    fields = specs(load_catalog(), names)
    file = read_rules_file(RULES.encode(), {f.name: f.type for f in fields})
    ran = file.run(lambda yuan: snap(yuan, LEVELS))
    assert [result.problem for result in ran] == [None] * len(file.cases)
    assert coverage_of(file.rules, ran).percent == 100
    assert json.dumps(sorted(file.rules.fields)) == json.dumps(
        ["public_credit.judicial.defendant_12m", "public_credit.lists.score", "tax.declaration.sales_12m"]
    )
