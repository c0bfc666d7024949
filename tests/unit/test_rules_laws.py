"""Laws of the rules: together as one by one, what missing means, and that hostile files cost little."""

import contextlib
import resource
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_registry.errors import RulesInvalid
from model_registry.rules import Rules, compile_rules
from model_registry.rules.cases import check_rules, read_rules_file
from model_registry.rules.decide import Verdict
from model_registry.rules.document import PROBLEMS_MAX, RULES_BYTES_MAX
from model_registry.rules.expressions import Value
from model_registry.rules.text import CASES_MAX, RULES_MAX
from tests.unit.twelve_rules import CODES, FIELDS, TWELVE, VALUES, twelve_rules

Values = Mapping[str, Value | None]
NAMES = {"a.b.n": "number", "a.b.i": "integer", "a.b.f": "boolean", "a.b.c": "category", "a.b.d": "date"}
CONDITIONS = [
    "a.b.n > 10.0",
    "a.b.i >= 2",
    "a.b.f",
    'a.b.c in ["x", "y"]',
    "a.b.d < 100",
    "model.score < 0.5",
    "1 / a.b.i > 0",
    "int(a.b.n) % a.b.i == 0",
    "a.b.i + 9223372036854775807 > 0",
    "a.b.f || 1 / a.b.i > 0",
    'a.b.c.startsWith("x") && a.b.n > 0.0 // text',
    "true",
    "false",
]
LIMITS = ["100", "a.b.n * 2.0", "a.b.i * 7", "model.score * 1000.0", "1000 / a.b.i", "a.b.n / (a.b.n - 10.0)", "-1.0"]
MISSING = ["decline", "skip", "0", "3", "x", "true"]


def _fits(condition: str, missing: str) -> bool:
    """Whether a stand-in fits every field of an expression."""
    kinds = {"n": "03", "i": "03", "d": "03", "f": "true", "c": "x"}
    used = [letter for letter in kinds if f"a.b.{letter}" in condition]
    return missing in ("decline", "skip") or all(missing in kinds[letter] for letter in used)


@st.composite
def files(draw: st.DrawFn) -> str:
    """A rules file of a few rules and tables."""
    text = "version: 1\n"
    for group in ("exclusions", "caps", "tables"):
        text += f"{group}:\n"
        for number in range(draw(st.integers(0, 3))):
            rows = draw(
                st.lists(st.tuples(st.sampled_from(CONDITIONS), st.sampled_from(LIMITS)), min_size=1, max_size=3)
            )
            rows = rows if group == "tables" else rows[:1]
            whole = " ".join(f"{when} {'' if group == 'exclusions' else limit}" for when, limit in rows)
            missing = draw(st.sampled_from([m for m in MISSING if _fits(whole, m)]))
            text += f"  - name: {group}{number}\n    missing: {missing}\n"
            text += _body(group, rows, draw(st.sampled_from(["first", "collect"])))
    return text.replace("exclusions:\ncaps", "caps").replace("caps:\ntables", "tables").removesuffix("tables:\n")


def _body(group: str, rows: list[tuple[str, str]], hit: str) -> str:
    when, limit = rows[0]
    if group == "exclusions":
        return f"    when: '{when}'\n"
    if group == "caps":
        return f"    when: '{when}'\n    limit: '{limit}'\n"
    lines = "".join(f"      - {{when: '{when}', limit: '{limit}'}}\n" for when, limit in rows)
    return f"    hit: {hit}\n    otherwise: skip\n    rows:\n{lines}"


VALUES_OR_NONE = st.fixed_dictionaries(
    {
        "a.b.n": st.none() | st.sampled_from([0.0, 10.0, 1e308, -5.0]) | st.floats(allow_infinity=False),
        "a.b.i": st.none() | st.integers(-2, 4),
        "a.b.f": st.none() | st.booleans(),
        "a.b.c": st.none() | st.sampled_from(["x", "y", "", "行业"]),
        "a.b.d": st.none() | st.integers(-200, 200),
    }
)


def one_by_one(rules: Rules, score: float, values: Values) -> int | None:
    """The limit by the steps that explanations and coverage are made of: no expression beside another."""
    amounts = []
    for step in rules.steps(score, values):
        if step.outcome is Verdict.DECLINE:
            return None
        if not isinstance(step.outcome, Verdict):
            amounts.append(step.outcome)
    return rules.conclude(score, amounts)


@settings(max_examples=300)
@given(files(), VALUES_OR_NONE, st.floats(0, 1))
def test_all_at_once_is_one_by_one(text: str, values: dict[str, Value | None], score: float) -> None:
    """Whatever errs or is missing, evaluating everything as a list gives what each rule by itself gives."""
    rules = compile_rules(text.encode(), NAMES)
    present = {name: None if value != value else value for name, value in values.items()}
    assert rules.limit(score, values) == one_by_one(rules, score, present)


@given(VALUES_OR_NONE, st.floats(0, 1), st.sampled_from(CONDITIONS), st.sampled_from(LIMITS))
def test_missing_laws(values: dict[str, Value | None], score: float, when: str, limit: str) -> None:
    """Skip = the rule is not there; decline = no offer; where a rule's fields are there `missing` has no say."""
    body = f"name: it, when: '{when}', limit: '{limit}'"
    base = "version: 1\ncaps: [{name: base, limit: 50}"
    made = {how: compile_rules(f"{base}, {{{body}, missing: {how}}}]".encode(), NAMES) for how in ("skip", "decline")}
    read = made["skip"].fields
    if any(values[name] is None or values[name] != values[name] for name in read):
        assert made["skip"].limit(score, values) == 50
        assert made["decline"].limit(score, values) is None
    else:
        assert made["skip"].limit(score, values) == made["decline"].limit(score, values)


@given(st.dictionaries(st.sampled_from(sorted(VALUES)), st.none(), max_size=6), st.floats(0, 1))
def test_the_twelve_rules_of_the_bench_keep_the_law(absent: dict[str, None], score: float) -> None:
    """What is measured is what is decided: with fields missing, too."""
    rules = twelve_rules()
    assert len(rules.rules) == 12
    values = {**VALUES, **absent}
    assert rules.limit(score, values) == one_by_one(rules, score, values)


def test_the_order_of_a_file_changes_no_limit() -> None:
    """The limit is the smallest of all amounts, and one decline is enough."""
    reversed_rows = TWELVE.replace(b"A, B | >= 60    | < 0.1      | 2000000\n", b"")
    assert compile_rules(reversed_rows, FIELDS, CODES).limit(0.12, VALUES) == twelve_rules().limit(0.12, VALUES)


TABLE = "version: 1\ntables:\n  - name: t\n    hit: first\n    inputs: [a.b.n]\n    rows: |\n"
RULE = "version: 1\nexclusions:\n"
HOSTILE = {
    "deep lists": b"[" * RULES_BYTES_MAX,
    "deep mappings": b"{a: " * (RULES_BYTES_MAX // 4),
    "deep blocks": b"- " * (RULES_BYTES_MAX // 2),
    "laughs": b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "1e5 cases": b"version: 1\ncases: [" + b"1," * 100_000 + b"]",
    "long": b"#" * (RULES_BYTES_MAX + 1),
    "rules": (RULE + "".join(f"  - {{name: r{i}, when: 'true'}}\n" for i in range(RULES_MAX + 1))).encode(),
    "cases": (RULE[:11] + "cases:\n" + "  - {name: c, limit: 1}\n" * (CASES_MAX + 1)).encode(),
    "rows": (TABLE + "      1 | 1\n" * 15_000).encode(),
    "bars": (TABLE + "      " + "|" * 200_000).encode(),
    "commas": (TABLE + "      " + "," * 200_000 + "| 1").encode(),
    "quotes": (TABLE + "      " + '"' * 200_001).encode(),
    "nots": (TABLE + "      " + "not(" * 450 + "| 1").encode(),
    "ranges": (TABLE + "      [1" + " .." * 600 + "| 1").encode(),
    "unknown": (
        RULE + "".join(f"  - {{name: r{i}, when: '{'a.x > 1 || ' * 30} true'}}\n" for i in range(300))
    ).encode(),
    "parentheses": (RULE + f"  - {{name: r, when: '{'(' * 900}true{')' * 900}'}}\n").encode(),
    "characters": (
        RULE + "".join(f"  - {{name: r{i}, when: 'a.b.n in [{'1.0,' * 180}1.0]'}}\n" for i in range(120))
    ).encode(),
    "nul": b"\0" * 1000,
    "names": (RULE + f"  - {{name: {'n' * 200_000}, when: 'true'}}\n").encode(),
    "values": b"version: 1\ncases: [{name: a, limit: 0, values: {"
    + b",".join(b"k%d: 1" % i for i in range(9000))
    + b"}}]",
}


@pytest.mark.parametrize("what", sorted(HOSTILE))
def test_a_hostile_file_is_refused_and_costs_little(what: str) -> None:
    """Bounded problems, CPU seconds and memory, whatever is deep, many or long."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(RulesInvalid) as refused:
        check_rules(HOSTILE[what], NAMES)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert 0 < len(refused.value.problems) <= PROBLEMS_MAX
    assert all(len(problem.text) + len(problem.hint) < 1000 for problem in refused.value.problems)
    assert after.ru_utime - before.ru_utime < 5  # CPU, not the clock: it is 0.6 at most
    assert after.ru_maxrss - before.ru_maxrss < 100 * 1024  # KiB


def test_the_largest_file_that_is_allowed_is_run() -> None:
    """All rules and all cases that there may be: admitted, each case at each rule."""
    rules = "".join(f"  - {{name: r{i}, when: a.b.n > {i}.0}}\n" for i in range(RULES_MAX))
    cases = "".join(f"  - {{name: c{i}, values: {{a.b.n: 0}}, score: 5.0, limit: 5}}\n" for i in range(CASES_MAX))
    file = read_rules_file(f"{RULE}{rules}cases:\n{cases}".encode(), NAMES)
    assert [len(result.steps) for result in file.run()] == [RULES_MAX] * CASES_MAX


WORDS = [
    "version: 1\n",
    "tables:\n",
    "cases:\n",
    "  - ",
    "name: a\n",
    "    hit: first\n",
    "    rows: |\n",
    "      - | 1\n",
]
WORDS += [
    "    inputs: [a.b.n]\n",
    "    values: {a.b.n: 1}\n",
    "    limit: 1\n",
    "    rows: ",
    "[{when: true, limit: 1}]\n",
]
WORDS += [
    "    declined: a\n",
    "caps:\n",
    "exclusions:\n",
    "    when: a.b.n > 1.0\n",
    "\n",
    "  ",
    "|",
    "#",
    "not(",
    "[1..2)",
]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=25))
def test_no_text_raises_anything_but_rules_invalid(words: list[str]) -> None:
    """Pieces of files in any order are rules with cases, or refused."""
    with contextlib.suppress(RulesInvalid):
        check_rules("".join(words).encode("utf-8", "surrogatepass"), NAMES)


@given(st.text(alphabet='ABab"\\|,.()[]<>=-! 0159not行', max_size=40))
def test_no_cell_raises_anything_but_rules_invalid(cell: str) -> None:
    """A cell of any characters is a test, or refused; what is a test evaluates to something."""
    for field, values in (("a.b.n", {"a.b.n": 1.0}), ("a.b.c", {"a.b.c": "A"}), ("a.b.d", {"a.b.d": 9})):
        text = TABLE.replace("a.b.n", field) + f"      {cell} | 5\n"
        try:
            made = compile_rules(text.encode(), NAMES)
        except RulesInvalid:
            continue
        assert made.limit(0.5, values) in (None, 5)
