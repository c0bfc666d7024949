"""The bank's own rules: what they decide, what is refused, and that they fail closed."""

import contextlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_registry.errors import Problem, RulesInvalid
from model_registry.rules import Rules, compile_rules
from model_registry.rules.document import RULES_BYTES_MAX

FIELDS = {
    "tax.arrears.count_12m": "integer",
    "tax.declaration.sales_12m": "number",
    "market.company.industry": "category",
    "market.company.listed": "boolean",
    "market.company.founded": "date",
}
SALES, COUNT = "tax.declaration.sales_12m", "tax.arrears.count_12m"


def rules(text: str) -> Rules:
    """Compiled rules."""
    return compile_rules(text.encode(), FIELDS, {"market.company.industry": ("retail", "mining")})


def one(group: str, body: str) -> Rules:
    """Rules of one rule and, beside it, a cap of 100 yuan."""
    caps = "" if group == "caps" else "caps: [{name: base, limit: 100}]\n"
    return rules(f"version: 1\n{caps}{group}:\n  - {{name: it, {body}}}\n")


def problems(text: str | bytes) -> tuple[Problem, ...]:
    """What is wrong with a file."""
    with pytest.raises(RulesInvalid) as refused:
        compile_rules(text if isinstance(text, bytes) else text.encode(), FIELDS)
    return refused.value.problems


def test_exclusions_and_cutoffs_decline() -> None:
    """A true exclusion or cutoff is no offer; a false one changes nothing."""
    exclusion = one("exclusions", f"when: {COUNT} > 2")
    assert exclusion.limit(0.5, {COUNT: 3}) is None
    assert exclusion.limit(0.5, {COUNT: 2}) == 100.0
    cutoff = one("cutoffs", "when: model.score < 0.4")
    assert cutoff.limit(0.39, {}) is None
    assert cutoff.limit(0.4, {}) == 100.0


def test_the_limit_is_the_smallest_cap_that_applies() -> None:
    """Caps with a false condition do not count; where none applies there is no offer."""
    made = rules(
        f"version: 1\ncaps:\n  - {{name: a, limit: '{SALES} * 0.5'}}\n"
        "  - {name: b, when: model.score < 0.5, limit: 1000}\n"
    )
    assert made.limit(0.9, {SALES: 5000.0}) == 2500.0
    assert made.limit(0.1, {SALES: 5000.0}) == 1000.0
    assert one("caps", "when: model.score > 0.5, limit: 7").limit(0.5, {}) is None


def test_without_caps_the_output_is_the_limit() -> None:
    """A model that predicts yuan needs no cap; without rules at all likewise."""
    assert compile_rules(b"", FIELDS).limit(1234.5, {}) == 1234
    assert rules("version: 1\ncutoffs: [{name: a, when: model.score < 10.0}]").limit(1234.5, {}) == 1234


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, -1.0])
def test_an_output_that_is_no_limit_declines(score: float) -> None:
    """Without caps nothing but a finite amount >= 0 is an offer."""
    assert compile_rules(b"", FIELDS).limit(score, {}) is None


def test_a_score_that_is_not_a_number_never_passes_a_cutoff() -> None:
    """Every comparison with NaN is false, which must not read as `not cut off`."""
    assert one("cutoffs", "when: model.score < 0.4").limit(math.nan, {}) is None


@pytest.mark.parametrize("group", ["exclusions", "cutoffs", "caps"])
def test_missing_declines_unless_told(group: str) -> None:
    """A field without a value declines by default, and where the rule says so."""
    condition = f"when: {COUNT} > 2" + (", limit: 50" if group == "caps" else "")
    for body in (condition, f"{condition}, missing: decline"):
        assert one(group, body).limit(0.5, {COUNT: None}) is None
        assert one(group, body).limit(0.5, {}) is None


def test_missing_can_skip_or_be_replaced() -> None:
    """`skip` leaves the rule out; a value stands in for the missing field."""
    assert one("exclusions", f"when: {COUNT} > 2, missing: skip").limit(0.5, {}) == 100.0
    assert one("exclusions", f"when: {COUNT} > 2, missing: 3").limit(0.5, {}) is None
    assert one("exclusions", f"when: {COUNT} > 2, missing: 0").limit(0.5, {}) == 100.0
    assert one("caps", f"limit: '{SALES}', missing: skip").limit(0.5, {}) is None
    assert one("exclusions", 'when: market.company.industry == "mining", missing: mining').limit(0.5, {}) is None
    assert one("exclusions", "when: market.company.listed, missing: true").limit(0.5, {}) is None


@pytest.mark.parametrize("text", [f"10 / {COUNT} > 1", f"9223372036854775807 + {COUNT} > 0"])
def test_an_evaluation_error_declines(text: str) -> None:
    """Division by zero and overflow are errors as values in CEL; they must not read as false, nor as true."""
    values = {COUNT: 0 if "/" in text else 1}
    assert one("exclusions", f"when: '{text}'").limit(0.5, values) is None
    assert one("caps", f"when: '{text}', limit: 50").limit(0.5, values) is None
    # the smallest cap may be the one that failed, so the others do not save the offer
    beside = f"version: 1\ncaps:\n  - {{name: a, limit: 9}}\n  - {{name: b, when: '{text}', limit: 5}}\n"
    assert rules(beside).limit(0.5, values) is None


@pytest.mark.parametrize("amount", ["model.score / 0.0", "-1", "0.0 / 0.0"])
def test_a_cap_that_is_no_limit_declines(amount: str) -> None:
    """Infinite, negative and undefined caps are no offer, whatever other caps say."""
    text = f"version: 1\ncaps:\n  - {{name: a, limit: 100}}\n  - {{name: b, limit: '{amount}'}}\n"
    assert rules(text).limit(0.5, {}) is None


@given(st.floats(), st.none() | st.floats(), st.none() | st.integers(-(2**53), 2**53))
def test_a_limit_is_finite_and_not_negative(score: float, sales: float | None, count: int | None) -> None:
    """Whatever the model and the data, an offer is an amount of money."""
    made = rules(
        f"version: 1\nexclusions: [{{name: e, when: 100 / {COUNT} > 3, missing: skip}}]\n"
        f"caps: [{{name: a, limit: '{SALES} * model.score', missing: 5}}, {{name: b, limit: 1000}}]\n"
    )
    limit = made.limit(score, {SALES: sales, COUNT: count})
    assert limit is None or (math.isfinite(limit) and 0 <= limit <= 1000)


def test_a_limit_is_rounded_down_to_whole_yuan() -> None:
    """Before levels, whatever it was: nothing is rounded up into an offer."""
    assert one("caps", "limit: 99.999").limit(0.5, {}) == 99
    assert one("caps", f"limit: '{SALES} / 3.0'").limit(0.5, {SALES: 100.0}) == 33
    assert one("caps", "limit: 0.9").limit(0.5, {}) == 0


@pytest.mark.parametrize("value", [math.inf, -math.inf, "5", "x" * 10**6, b"5", [5.0], {}, 10**400])
def test_a_value_that_is_none_of_its_field_declines(value: object) -> None:
    """Infinities, texts where numbers belong, and what no vault hands out: no offer, and no exception."""
    values: dict[str, Any] = {SALES: value}
    for made in (one("exclusions", f"when: {SALES} > 9.0"), one("caps", f"limit: '{SALES} * 1.0'")):
        assert made.limit(0.5, values) is None
        assert made.limit(0.5, {SALES: 5.0}) is not None


def test_a_number_that_is_not_there_is_missing() -> None:
    """NaN, which every comparison finds false, must not read as `not excluded`."""
    assert one("exclusions", f"when: {SALES} > 9.0").limit(0.5, {SALES: math.nan}) is None
    assert one("exclusions", f"when: {SALES} > 9.0, missing: skip").limit(0.5, {SALES: math.nan}) == 100
    assert one("exclusions", f"when: {SALES} > 9.0, missing: 10").limit(0.5, {SALES: math.nan}) is None


@pytest.mark.parametrize("text", ["", "x" * 10**6, "\0", "\ud800", "行业" * 1000, '"', "retail\n"])
def test_texts_that_nobody_expects_are_compared_or_decline(text: str) -> None:
    """Long, empty, broken and foreign texts: operations on them give a limit or none, never an exception."""
    for what in ("startsWith", "endsWith", "contains"):
        made = one("exclusions", f"when: 'market.company.industry.{what}(\"retail\")'")
        assert made.limit(0.5, {"market.company.industry": text}) in (None, 100)
    sized = one("exclusions", "when: size(market.company.industry) > 10")
    assert sized.limit(0.5, {"market.company.industry": text}) == (None if len(text) > 10 or text == "\ud800" else 100)


@pytest.mark.parametrize("expression", [f"double({COUNT}) / 0.0 > 1.0", f"int({SALES}) > 0", f"{COUNT} % 0 == 0"])
def test_what_cannot_be_computed_declines_where_it_counts(expression: str) -> None:
    """Division by zero, a number beyond the integers, a remainder of nothing: declined, where it is asked at all."""
    values = {COUNT: 1, SALES: 1e300}
    assert one("exclusions", f"when: '{expression}'").limit(0.5, values) is None
    assert one("exclusions", f"when: 'model.score > 9.0 && {expression}'").limit(0.5, values) == 100


def test_an_error_in_one_rule_decides_no_other() -> None:
    """Rules are evaluated together; beside an error the others still say what they said."""
    text = "version: 1\ncaps:\n  - {name: a, when: 'model.score > 9.0 && 1 / tax.arrears.count_12m > 0', limit: 5}\n"
    beside = text + f"  - {{name: b, when: '1 / {COUNT} > 0', limit: 7, missing: skip}}\n  - {{name: c, limit: 9}}\n"
    assert rules(beside).limit(0.5, {COUNT: 1}) == 7
    assert rules(beside).limit(0.5, {COUNT: 0}) is None
    harmless = (
        text + "  - {name: c, limit: 9}\n  - {name: d, when: 'false && 1 / tax.arrears.count_12m > 0', limit: 1}\n"
    )
    assert rules(harmless).limit(0.5, {COUNT: 0}) == 9


def test_problems_have_places_and_hints() -> None:
    """The line and column are those of the mistake in the file, and mixing int with double gets a hint."""
    found = problems(f"version: 1\ncutoffs:\n  - name: a\n    when: {SALES} > 1\n")
    assert [(p.line, p.column) for p in found] == [(4, 11 + len(SALES) + 1)]
    assert "1.0" in found[0].hint
    quoted = problems("version: 1\ncutoffs:\n  - name: a\n    when: 'foo > 1'\n")
    assert (quoted[0].line, quoted[0].column) == (4, 12)


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("version: 1\ncutoffs:\n  - name: 行业\n    when: tax.declaration.sale_12m > 1.0\n", (4, 11), "sales_12m?"),
        ("version: 1\ncutoffs:\n  - name: 甲\n    when: true || sales_12m > 1.0\n", (4, 19), f"mean {SALES}?"),
        ("version: 1\ncutoffs: [{name: 销售, when: model.scor > 1.0}]\n", (2, 28), "model.score?"),
        ("version: 1\ncutoffs:\n  - name: a\n    when: |\n      true ||\n        foo > 1\n", (6, 9), ""),
        ("version: 1\ncutoffs:\n  - name: a\n    when: |\n      // 注释\n      model.score > 1\n", (6, 19), "1.0"),
        ("version: 1\ncutoffs:\n  - name: a\n    when: 'market.company.industry == \"中文\" && foo'\n", (4, 47), ""),
        ("# 中文 😀\nversion: 1\n甲: []\n", (3, 1), "known here"),
        ("version: 1\ncaps: [{name: 上限, limit: 1, missing: soon, 未知: 2}]\n", (2, 44), "limit"),
        ("version: 1\ncutoffs:\n  - {name: a, when: '[1].exists(x, x > 1)'}\n", (3, 26), "available: "),
    ],
)
def test_places_are_right(text: str, place: tuple[int, int], hint: str) -> None:
    """Line and column from 1, in characters, also behind Chinese, in blocks, and for names that are nearly right."""
    found = problems(text)[0]
    assert (found.line, found.column) == place, found
    assert hint in found.hint


@pytest.mark.parametrize(
    ("condition", "wrong", "hint"),
    [
        ('market.company.industry == "minnig"', '"minnig"', "did you mean mining?"),
        ('true && "行业" != market.company.industry', '"行业"', "codes of"),
        ("market.company.industry in ['retail', \"x\"]", '"x"', "codes of"),
        ('market.company.industry in ["mining"]', "", ""),
        ("'it is ' + market.company.industry == 'it is mining'", "", ""),
        ("market.company.industry == 'min' + 'ing'", "", ""),
    ],
)
def test_a_code_that_there_is_not_is_refused(condition: str, wrong: str, hint: str) -> None:
    """It would never be met; texts that are put together are left alone."""
    text = f"version: 1\ncutoffs:\n  - name: a\n    when: |\n     {condition}\n".encode()
    codes = {"market.company.industry": ("retail", "mining")}
    if not wrong:
        assert compile_rules(text, FIELDS, codes).rules
        return
    with pytest.raises(RulesInvalid) as refused:
        compile_rules(text, FIELDS, codes)
    (found,) = refused.value.problems
    assert (found.line, found.column) == (5, 6 + condition.index(wrong))
    assert hint in found.hint


def test_a_field_of_the_catalogue_that_is_not_declared_is_named_so() -> None:
    """A bank that forgot to declare a field is told that, not that there is no such field."""
    text = b"version: 1\ncutoffs: [{name: a, when: customs.trade.amount > 1.0}]\n"
    with pytest.raises(RulesInvalid) as refused:
        compile_rules(text, FIELDS, known=["customs.trade.amount"])
    assert "not a field of the manifest" in refused.value.problems[0].text


def test_all_problems_are_reported_together() -> None:
    """A file with several mistakes is not a guessing game."""
    found = problems("version: 1\ncutoffs:\n  - {name: a, when: foo}\n  - {name: b, when: bar}\nextra: 1\n")
    assert sorted(p.line for p in found) == [3, 4, 5]


@pytest.mark.parametrize(
    "text",
    [
        "version: 2",
        "caps: []",
        "version: 1\nversion: 1",
        "version: 1\ntables: 3",
        "version: 1\nnonsense: []",
        "version: 1\ncaps: 3",
        "version: 1\ncaps: [3]",
        "version: 1\ncaps: [{name: a}]",
        "version: 1\ncaps: [{limit: 1}]",
        "version: 1\ncaps: [{name: a, limit: 1, colour: red}]",
        "version: 1\ncaps: [{name: a, limit: [1]}]",
        "version: 1\ncaps: [{name: a, limit: 1}, {name: a, limit: 2}]",
        "version: 1\ncaps: [{name: a, limit: 'true'}]",
        "version: 1\ncutoffs: [{name: a, when: '1'}]",
        "version: 1\ncutoffs: [{name: a}]",
        "version: 1\ncutoffs: [{name: a, when: '\"x\"'}]",
        "- 1",
        "version: 1\n---\nversion: 1",
        "version: &a 1\ncaps: [{name: *a, limit: 1}]",
        "version: !!int 1",
        "version: 1\ncaps: [[[[[[[[]]]]]]]]",
        "[" * 10_000,
        "version: 1\ncaps: [",
        f"version: 1\ncaps: [{{name: a, limit: '{SALES}', missing: soon}}]",
        "version: 1\ncaps: [{name: a, limit: '1', when: market.company.listed, missing: 1}]",
    ],
)
def test_what_is_no_rules_file_is_refused(text: str) -> None:
    """Unknown keys, wrong shapes, YAML tricks, wrong types and stand-ins that do not fit."""
    assert problems(text)


@pytest.mark.parametrize(
    "expression",
    [
        'market.company.industry.matches("a+")',
        'matches(market.company.industry, "a+")',
        "[1, 2].exists(x, x > 1)",
        "[[1], [2]].all(x, x.all(y, y > 1))",
        "[1].map(x, x) == [1]",
        "timestamp(0) == timestamp(0)",
        "dyn(1) == 1.0",
        'has({"a": 1}.a)',
        '{"a": 1}["a"] == 1',
        'r"a" == "a"',
        'b"a" == b"a"',
        '"""a""" == "a"',
        "now() > 1",
        "(" * 100 + "true" + ")" * 100,
        "true || " * 300 + "true",
        "tax.other.field > 1",
        "model.other > 1.0",
        "",
        "1 +",
    ],
)
def test_what_is_outside_the_allowed_part_of_cel_is_refused(expression: str) -> None:
    """Regular expressions, macros, clocks, dynamic types, maps, undeclared names, deep and long texts."""
    block = f"version: 1\ncutoffs:\n  - name: a\n    when: |\n      {expression}\n"
    assert problems(block)


def test_sizes_are_bounded() -> None:
    """Bytes, number of rules and length of an expression."""
    assert problems(b"#" * (RULES_BYTES_MAX + 1))
    assert problems("version: 1\ncaps:\n" + "".join(f"  - {{name: r{i}, limit: 1}}\n" for i in range(301)))
    assert problems(f"version: 1\ncutoffs: [{{name: a, when: 'true{' ' * 2000}'}}]")


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_bytes_compile_or_are_refused(text: bytes) -> None:
    """No bytes raise anything but RulesInvalid."""
    with contextlib.suppress(RulesInvalid):
        compile_rules(text, FIELDS)


@given(st.text(alphabet="abx\"'.()[]{}<>=!&|+-*/%?:, 0123456789\\\n\t_é", max_size=60))
def test_any_expression_compiles_or_is_refused(expression: str) -> None:
    """No expression raises anything but RulesInvalid, and none that compiles raises at evaluation."""
    quoted = expression.replace("'", "''").replace("\n", " ")
    try:
        made = compile_rules(f"version: 1\ncutoffs: [{{name: a, when: '{quoted}'}}]".encode(), FIELDS)
    except RulesInvalid:
        return
    made.limit(0.5, {})


def test_a_name_in_a_text_is_not_a_field_and_a_field_in_disguise_fails_closed() -> None:
    """Fields inside quotes are not read; a field written with spaces or a leading dot still is."""
    assert one("exclusions", f'when: \'"{COUNT}" == "x"\'').limit(0.5, {}) == 100.0
    for disguise in (
        "tax . arrears . count_12m > 2",
        ".tax.arrears.count_12m > 2",
        "2 < tax.arrears.count_12m // a comment behind it",
        "2 < tax.arrears.count_12m //",
    ):
        made = one("exclusions", f"when: {disguise}, missing: skip")
        assert made.limit(0.5, {}) == 100.0
        assert made.limit(0.5, {COUNT: 3}) is None


def test_a_field_before_a_comment_is_missing_though_another_rule_reads_it() -> None:
    """What stands in for a value in an evaluation of all rules together must not decide a rule that asks for it."""
    made = rules(
        f"version: 1\nexclusions: [{{name: e, when: '9 < {COUNT} // more than nine'}}]\n"
        f"caps: [{{name: a, when: '{COUNT} > 5', limit: 7, missing: skip}}, {{name: b, limit: 100}}]\n"
    )
    assert made.limit(0.5, {COUNT: 3}) == 100
    assert made.limit(0.5, {COUNT: 10}) is None
    assert made.limit(0.5, {}) is None
    assert made.rules[0].fields == (COUNT,)


def test_a_number_divided_by_zero_is_what_the_guide_says() -> None:
    """Infinite, or NaN and then no condition holds; the guard that docs/rules.md shows does."""
    ratio = f"{SALES} / (model.score - 0.5) > 0.5"
    assert one("exclusions", f"when: {ratio}").limit(0.5, {SALES: 1.0}) is None
    assert one("exclusions", f"when: {ratio}").limit(0.5, {SALES: 0.0}) == 100
    assert one("exclusions", f"when: model.score == 0.5 || {ratio}").limit(0.5, {SALES: 0.0}) is None
