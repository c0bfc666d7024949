"""Decision tables: what rows and cells mean, where mistakes are, and that a table is nothing but caps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_registry.errors import Problem, RulesInvalid
from model_registry.rules import Rules, compile_rules
from model_registry.rules.cases import read_rules_file
from model_registry.rules.document import PROBLEMS_MAX
from model_registry.rules.values import Fields
from tests.unit.test_rules import FIELDS, SALES, problems, rules

GRADE = "market.company.industry"
CODES = {GRADE: ("retail", "mining", "a, b", "x|y")}


def table(rows: str, *, inputs: str = f"{GRADE}, model.score", rest: str = "hit: first") -> bytes:
    """A file of one table; `rows` are lines of cells."""
    lines = "".join(f"      {line.strip()}\n" for line in rows.strip().splitlines())
    return f"version: 1\ntables:\n  - name: 表\n    {rest}\n    inputs: [{inputs}]\n    rows: |\n{lines}".encode()


def made(rows: str, **how: str) -> Rules:
    """A compiled table."""
    return compile_rules(table(rows, **how), FIELDS, CODES)


def mistakes(text: bytes) -> tuple[Problem, ...]:
    """What is wrong with a file."""
    with pytest.raises(RulesInvalid) as refused:
        compile_rules(text, FIELDS, CODES)
    return refused.value.problems


def test_the_first_row_that_hits_decides() -> None:
    """Rows are read from above; a row that declines is an exclusion, one that skips sets no cap."""
    grid = made("retail | < 0.3 | 500\n- | < 0.1 | 300\nmining | - | decline\nretail | > 0.9 | skip")
    assert grid.limit(0.05, {GRADE: "retail"}) == 500
    assert grid.limit(0.05, {GRADE: "mining"}) == 300
    assert grid.limit(0.2, {GRADE: "mining"}) is None
    assert grid.limit(0.5, {GRADE: "retail"}) is None  # no row: declined, as nothing else is said
    assert grid.limit(0.95, {GRADE: "retail"}) is None  # skipped: no cap is left


def test_collect_takes_the_smallest_of_all_that_hit() -> None:
    """Every row that hits counts; one that declines ends it."""
    grid = made("- | - | 500\nretail | - | 300\n- | > 0.5 | decline\n- | < 0.1 | skip", rest="hit: collect")
    assert grid.limit(0.2, {GRADE: "mining"}) == 500
    assert grid.limit(0.2, {GRADE: "retail"}) == 300
    assert grid.limit(0.05, {GRADE: "retail"}) == 300
    assert grid.limit(0.6, {GRADE: "retail"}) is None


@pytest.mark.parametrize(
    ("otherwise", "limit"),
    [("decline", None), ("skip", 100), ("70", 70), ("model.score * 100.0", 50), ("800", 100), ("1.0 / 0.0", None)],
)
def test_where_no_row_hits_otherwise_is_said(otherwise: str, limit: int | None) -> None:
    """`decline`, `skip` or an amount; the other caps stand beside it."""
    text = (
        table("- | > 2 | 5", rest=f"hit: first\n    otherwise: {otherwise}").decode()
        + "caps: [{name: a, limit: 100}]\n"
    )
    assert compile_rules(text.encode(), FIELDS, CODES).limit(0.5, {GRADE: "retail"}) == limit


@pytest.mark.parametrize(("missing", "limit"), [("decline", None), ("skip", 100), ("retail", 5)])
def test_a_table_says_what_follows_where_a_field_is_missing(missing: str, limit: int | None) -> None:
    """Any of its fields, also where a row that hits does not look at it."""
    text = table("- | < 0.1 | 9\nretail | - | 5", rest=f"hit: first\n    missing: {missing}").decode()
    both = compile_rules((text + "caps: [{name: a, limit: 100}]\n").encode(), FIELDS, CODES)
    assert both.limit(0.5, {}) == limit
    assert both.limit(0.5, {GRADE: "retail"}) == 5


def test_a_table_that_only_declines_leaves_the_output_be() -> None:
    """Where nothing can set an amount the model's output is the limit."""
    grid = made("mining | - | decline", rest="hit: first\n    otherwise: skip")
    assert grid.limit(1234.5, {GRADE: "retail"}) == 1234
    assert grid.limit(1234.5, {GRADE: "mining"}) is None


@pytest.mark.parametrize(
    ("field", "cell", "hits", "misses"),
    [
        (SALES, "-", [0.0, -1.0], []),
        (SALES, "5", [5.0], [5.1]),
        (SALES, "1, 2.5", [1.0, 2.5], [2.0]),
        (SALES, "< 5", [4.9, -9.0], [5.0]),
        (SALES, "<= 5", [5.0], [5.1]),
        (SALES, "> -5", [-4.0], [-5.0]),
        (SALES, ">=5", [5.0], [4.0]),
        (SALES, "[1..5)", [1.0, 4.9], [5.0, 0.9]),
        (SALES, "(1 .. 5]", [1.1, 5.0], [1.0, 5.1]),
        (SALES, "[2..2]", [2.0], [1.9]),
        (SALES, "not([1..5], 7)", [0.0, 6.0], [1.0, 3.0, 7.0]),
        (SALES, "< 1, > 9", [0.0, 10.0], [5.0]),
        ("tax.arrears.count_12m", "[0..2]", [0, 2], [3]),
        (GRADE, "retail", ["retail"], ["mining"]),
        (GRADE, '"retail", mining', ["retail", "mining"], ["x|y"]),
        (GRADE, '"a, b"', ["a, b"], ["retail"]),
        (GRADE, '"x|y"', ["x|y"], ["retail"]),
        (GRADE, "not(retail)", ["mining"], ["retail"]),
        ("market.company.listed", "true", [True], [False]),
        ("market.company.founded", ">= 1970-01-31", [30, 99], [29]),
        ("market.company.founded", "[1969-12-31..1970-01-02)", [-1, 0], [-2, 1]),
    ],
)
def test_cells_are_tests_of_their_column(field: str, cell: str, hits: list[object], misses: list[object]) -> None:
    """Each kind of test on each kind of field; numbers need no `.0`, codes and days no quotes."""
    grid = made(f"{cell} | 5", inputs=field)
    assert [grid.limit(0.5, {field: value}) for value in hits] == [5] * len(hits)  # type: ignore[dict-item]
    assert [grid.limit(0.5, {field: value}) for value in misses] == [None] * len(misses)  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("rows", "line", "column", "hint"),
    [
        ("retail | < 0.3 | 500\nretial | < 0.1 | 300", 8, 7, "did you mean retail?"),
        ("retail | < O.3 | 500", 7, 18, "a number like 0.5"),
        ("retail, 矿业 | < 0.3 | 500", 7, 15, "codes of"),
        ("retail | [0.7..0.5) | 500", 7, 16, "least"),
        ("retail | [0.7..x) | 500", 7, 22, "a number"),
        ("retail | not(< 1, y) | 500", 7, 25, "a number"),
        ("retail | - ", 7, 7, "the limit is the last"),
        ("retail | | 500", 7, 16, "write -"),
        ("retail | - | sales_12m", 7, 20, f"did you mean {SALES}?"),
        ("retail | - | 1 | 2", 7, 22, ""),
        ("# 注释\nretail | - | model.score * 2", 8, 32, "1.0"),
        ("retail | true | 1", 7, 16, "a number"),
        ("retail | 0.5..0.7 | 1", 7, 16, "a number"),
        ('"retail | - | 1', 7, 7, "the limit is the last"),
    ],
)
def test_a_mistake_is_found_in_its_cell(rows: str, line: int, column: int, hint: str) -> None:
    """Line and column are those of the cell, or of the test in it; the hint says what to write."""
    found = mistakes(table(rows))[0]
    assert (found.line, found.column) == (line, column), found
    assert hint in found.hint


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\ntables: [{name: t, rows: [{when: 'true', limit: 1}]}]",
        "version: 1\ntables: [{name: t, hit: any, rows: [{when: 'true', limit: 1}]}]",
        "version: 1\ntables: [{name: t, hit: first, rows: []}]",
        "version: 1\ntables: [{name: t, hit: first, rows: [{when: 'true'}]}]",
        "version: 1\ntables: [{name: t, hit: first, rows: '- | 1'}]",
        f"version: 1\ntables: [{{name: t, hit: first, inputs: [{SALES}], rows: [{{when: 'true', limit: 1}}]}}]",
        f"version: 1\ntables: [{{name: t, hit: first, inputs: {SALES}, rows: '- | 1'}}]",
        "version: 1\ntables: [{name: t, hit: first, inputs: [tax.none], rows: '- | 1'}]",
        "version: 1\ntables: [{name: t, hit: first, rows: [{when: 'true', limit: 1}], otherwise: maybe}]",
        f"version: 1\ntables: [{{name: t, hit: first, missing: x, rows: [{{when: '{SALES} > 1.0', limit: 1}}]}}]",
        "version: 1\ncaps: [{name: t, limit: 1}]\ntables: [{name: t, hit: first, rows: [{when: 'true', limit: 1}]}]",
        "version: 1\ncaps: [{name: t, limit: decline}]",
        f"version: 1\ntables: [{{name: t, hit: first, inputs: [{', '.join([SALES] * 17)}], rows: '- | 1'}}]",
        f"version: 1\ntables: [{{name: {'n' * 101}, hit: first, rows: [{{when: 'true', limit: 1}}]}}]",
        f"version: 1\ntables:\n- name: t\n  hit: first\n  inputs: [{SALES}]\n  rows: >\n   - | 1\n",
    ],
)
def test_what_is_no_table_is_refused(text: str) -> None:
    """Hit policy, rows and limits are said; a name is of one rule."""
    assert problems(text)


CONDITIONS = (
    "model.score < 0.5",
    f"{SALES} > 100.0",
    f"1 / tax.arrears.count_12m > 0 && {SALES} > 5.0",
    "true",
    "false",
    "market.company.listed",
)
LIMITS = ("100", "7.5", f"{SALES} * 2.0", "model.score * 10.0", "1 / tax.arrears.count_12m", "0 - 5")
ROWS = st.lists(st.tuples(st.sampled_from(CONDITIONS), st.sampled_from(LIMITS)), min_size=1, max_size=6)
VALUES = st.fixed_dictionaries(
    {
        SALES: st.floats(-10, 1000),
        "tax.arrears.count_12m": st.integers(0, 2),
        "market.company.listed": st.booleans(),
    }
)


def _table_of(rows: list[tuple[str, str]], hit: str) -> str:
    lines = "".join(f"      - {{when: '{when}', limit: '{limit}'}}\n" for when, limit in rows)
    return f"version: 1\ntables:\n  - name: t\n    hit: {hit}\n    rows:\n{lines}"


@given(ROWS, VALUES, st.floats(0, 1))
def test_a_collecting_table_is_its_rows_as_caps(
    rows: list[tuple[str, str]], values: dict[str, float | int | bool], score: float
) -> None:
    """Row by row a cap with the row's condition: the same limit, errors included."""
    caps = "".join(f"  - {{name: r{i}, when: '{when}', limit: '{limit}'}}\n" for i, (when, limit) in enumerate(rows))
    expanded = rules(f"version: 1\ncaps:\n{caps}")
    assert rules(_table_of(rows, "collect")).limit(score, values) == expanded.limit(score, values)


@given(ROWS, VALUES, st.floats(0, 1))
def test_a_first_hit_table_is_caps_whose_conditions_exclude_the_rows_above(
    rows: list[tuple[str, str]], values: dict[str, float | int | bool], score: float
) -> None:
    """A cap for each row, applying where the row does and none above it; an error above is an error."""
    above, caps = "false", ""
    for number, (when, limit) in enumerate(rows):
        caps += f"  - {{name: r{number}, when: '({above}) ? false : ({when})', limit: '{limit}'}}\n"
        above = f"({above}) ? true : ({when})"
    expanded = rules(f"version: 1\ncaps:\n{caps}")
    assert rules(_table_of(rows, "first")).limit(score, values) == expanded.limit(score, values)


def test_hints_are_searched_for_no_more_problems_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A close code costs milliseconds: a table, a condition, cases of nothing but wrong codes must not take minutes."""
    asked: list[str] = []

    def wanted(_: Fields, name: str, text: str) -> str:
        asked.append(text)
        return ""

    monkeypatch.setattr(Fields, "wanted", wanted)
    wrong = ", ".join(f"code{number}" for number in range(150))
    compared = f"{GRADE} in [{', '.join(repr(str(number)) for number in range(150))}]"
    values = "".join(f"  - {{name: c{number}, values: {{{GRADE}: no}}, limit: 0}}\n" for number in range(100))
    exclusions = f'exclusions:\n  - {{name: e, when: "{compared}"}}\n'
    for text in (
        table(f"{wrong} | - | decline\n" * 20),
        f"version: 1\n{exclusions}".encode(),
        f"version: 1\ncases:\n{values}".encode(),
    ):
        asked.clear()
        with pytest.raises(RulesInvalid) as refused:
            read_rules_file(text, FIELDS, CODES)
        assert len(refused.value.problems) == PROBLEMS_MAX
        assert len(asked) == PROBLEMS_MAX
