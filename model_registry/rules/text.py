"""The rules file as it is written: rules, tables and cases as positioned texts, nothing compiled yet.

What the texts mean is the package's business. An exclusion, a cutoff and a cap are read as tables of one row, so that
one way of deciding serves all.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import yaml

from model_registry.rules.document import Document, Problems, Text

RULES_MAX = 300  # rules and rows together; at worst evaluated one by one at 5 µs, two expressions each: 3 ms
CASES_MAX = 200  # each walks every rule: at worst 0.6 s of the time that an inspection has
INPUTS_MAX = 16  # columns of a table; wider ones nobody reviews
LINE_CHARACTERS_MAX = 2_000  # of a table's row; as long as an expression
NAME_CHARACTERS_MAX = 100  # a name stands in refusals and tables
GROUPS = ("exclusions", "cutoffs", "caps")
_KEYS = {
    "exclusions": frozenset({"name", "when", "missing"}),
    "cutoffs": frozenset({"name", "when", "missing"}),
    "caps": frozenset({"name", "when", "limit", "missing"}),
}
_REQUIRED = {"exclusions": ("name", "when"), "cutoffs": ("name", "when"), "caps": ("name", "limit")}
_TABLE = frozenset({"name", "hit", "inputs", "rows", "otherwise", "missing"})
_CASE = frozenset({"name", "values", "score", "limit", "level", "declined"})


@dataclass(frozen=True)
class RowText:
    """A row: a condition, or a cell for each of the table's inputs. No limit = no offer; neither = always."""

    when: Text | None
    limit: Text | None
    cells: tuple[Text, ...] = ()


@dataclass(frozen=True)
class RuleText:
    """A rule or a table as written; `otherwise` None is `skip` for a rule, `decline` for a table."""

    group: str
    name: Text
    rows: tuple[RowText, ...]
    missing: Text | None
    hit: Text | None = None
    inputs: tuple[Text, ...] = ()
    otherwise: Text | None = None


@dataclass(frozen=True)
class CaseText:
    """A case as written; None = a value written as null."""

    name: Text
    values: tuple[tuple[Text, Text | None], ...]
    score: Text | None
    limit: Text | None
    level: Text | None
    declined: Text | None


@dataclass(frozen=True)
class FileText:
    """All of a rules file, in file order."""

    rules: tuple[RuleText, ...] = ()
    cases: tuple[CaseText, ...] = ()


def read_rules(text: bytes, problems: Problems) -> FileText:
    """Read a rules file.

    Args:
        text: the file's bytes, anything at all.
        problems: gets what is wrong; where anything was added the result must not be used.

    Returns:
        At most RULES_MAX rules and rows and CASES_MAX cases, required members present; never raises on any bytes.
    """
    document = Document(text, problems)
    if document.root is None:
        return FileText()
    members = document.members(document.root, frozenset({"version", "tables", "cases", *GROUPS}))
    version = members.get("version")
    if not isinstance(version, yaml.ScalarNode) or version.value != "1":
        problems.add(version.start_mark if version else None, "the file must say `version: 1`", "version: 1")
    rules = [rule for group in GROUPS for rule in _group(document, group, members.get(group))]
    rules += _tables(document, members.get("tables"))
    if sum(len(rule.rows) for rule in rules) > RULES_MAX:
        problems.add(None, f"more than {RULES_MAX} rules and rows of tables")
        return FileText()
    cases = document.items(members.get("cases"), "`cases` must be a list", "start each case with `- name: ...`")
    if len(cases) > CASES_MAX:
        problems.add(cases[CASES_MAX].start_mark, f"more than {CASES_MAX} cases")
        return FileText()
    read = [case for node in cases if (case := _case(document, node))]
    _unique([rule.name for rule in rules], "the rule's name occurs twice", problems)
    _unique([case.name for case in read], "the case's name occurs twice", problems)
    return FileText(tuple(rules), tuple(read))


def _unique(names: list[Text], what: str, problems: Problems) -> None:
    seen: set[str] = set()
    for name in names:
        if len(name.value) > NAME_CHARACTERS_MAX:
            problems.put(name.problem(f"a name of more than {NAME_CHARACTERS_MAX} characters"))
        if name.value in seen:
            problems.put(name.problem(what))
        seen.add(name.value)


def _group(document: Document, group: str, node: yaml.Node | None) -> Iterator[RuleText]:
    items = document.items(node, f"`{group}` must be a list of rules", "start each rule with `- name: ...`")
    for item in items:
        texts = _texts(document, item, _KEYS[group], _REQUIRED[group], "rule")
        if (name := texts.get("name")) is not None:
            yield RuleText(group, name, (RowText(texts.get("when"), texts.get("limit")),), texts.get("missing"))


def _texts(
    document: Document, node: yaml.Node, known: frozenset[str], required: tuple[str, ...], what: str
) -> dict[str, Text | None]:
    members = document.members(node, known)
    for key in required:
        if key not in members:
            document.problems.add(node.start_mark, f"the {what} has no `{key}`")
    return {key: document.scalar(key, value) for key, value in members.items()}


def _tables(document: Document, node: yaml.Node | None) -> Iterator[RuleText]:
    for item in document.items(node, "`tables` must be a list of tables", "start each table with `- name: ...`"):
        members = document.members(item, _TABLE)
        for key in ("name", "hit", "rows"):
            if key not in members:
                document.problems.add(item.start_mark, f"the table has no `{key}`")
        texts = {k: document.scalar(k, members[k]) for k in ("name", "hit", "otherwise", "missing") if k in members}
        inputs = _inputs(document, members.get("inputs"))
        # one more than allowed, which is then said
        rows = tuple(islice(_rows(document, members["rows"], inputs), RULES_MAX + 1)) if "rows" in members else ()
        if "rows" in members and not rows:
            document.problems.add(members["rows"].start_mark, "the table has no row")
        if (name := texts.get("name")) is not None:
            yield RuleText("tables", name, rows, texts.get("missing"), texts.get("hit"), inputs, texts.get("otherwise"))


def _inputs(document: Document, node: yaml.Node | None) -> tuple[Text, ...]:
    items = document.items(node, "`inputs` must be a list of fields", "inputs: [model.score]")
    if len(items) > INPUTS_MAX:
        document.problems.add(items[INPUTS_MAX].start_mark, f"more than {INPUTS_MAX} inputs")
    return tuple(name for item in items[:INPUTS_MAX] if (name := document.scalar("inputs", item)) is not None)


def _rows(document: Document, node: yaml.Node, inputs: tuple[Text, ...]) -> Iterator[RowText]:
    if isinstance(node, yaml.ScalarNode) and inputs:
        yield from _lines(document, node, inputs)
        return
    hint = "rows: | and a line a row, its cells apart by |" if inputs else "- {when: ..., limit: ...}"
    if inputs:
        document.problems.add(node.start_mark, "a table with `inputs` has its rows as text", hint)
        return
    for item in document.items(node, "`rows` must be a list, or the table must have `inputs`", hint):
        texts = _texts(document, item, frozenset({"when", "limit"}), ("when", "limit"), "row")
        yield RowText(texts.get("when"), texts.get("limit"))


def _lines(document: Document, node: yaml.ScalarNode, inputs: tuple[Text, ...]) -> Iterator[RowText]:
    """Rows as lines of cells: one for each input, the limit last; blank lines and lines that begin with # are none."""
    block = document.scalar("rows", node)
    if block is None or node.style == ">":
        document.problems.add(node.start_mark, "the rows are no block of lines", "rows: |")
        return
    start = 0
    for line in block.value.split("\n"):
        if document.problems.full:
            return
        if len(line) > LINE_CHARACTERS_MAX:
            document.problems.put(block.problem(f"longer than {LINE_CHARACTERS_MAX} characters", "split it", start))
        elif line.strip() and not line.lstrip().startswith("#"):
            cells = [block.part(start + a, start + b) for a, b in _cuts(line, len(inputs))]
            if len(cells) != len(inputs) + 1:
                what = f"the row has {len(cells)} cells, not {len(inputs)} and a limit"
                document.problems.put(cells[0].problem(what, "cells stand apart by |, the limit is the last"))
            elif empty := next((cell for cell in cells if not cell.value), None):
                document.problems.put(empty.problem("an empty cell", "write - where anything will do"))
            else:
                yield RowText(None, cells[-1], tuple(cells[:-1]))
        start += len(line) + 1


def _cuts(line: str, most: int) -> Iterator[tuple[int, int]]:
    """Where the cells of a line lie; | inside double quotes, and in the limit, does not cut."""
    start, quoted, cuts = 0, False, 0
    for at, character in enumerate(line):
        quoted ^= character == '"'
        if character == "|" and not quoted and cuts < most:
            yield start, at
            start, cuts = at + 1, cuts + 1
    yield start, len(line)


def _case(document: Document, node: yaml.Node) -> CaseText | None:
    members = document.members(node, _CASE)
    if "name" not in members:
        document.problems.add(node.start_mark, "the case has no `name`")
    if not members.keys() & {"limit", "level", "declined"}:
        document.problems.add(node.start_mark, "the case expects nothing", "limit: <yuan>, or declined: <rule's name>")
    if "declined" in members and members.keys() & {"limit", "level"}:
        document.problems.add(members["declined"].start_mark, "a case is declined or has a limit, not both")
    texts = {key: document.scalar(key, value) for key, value in members.items() if key != "values"}
    pairs = document.pairs(members["values"]) if "values" in members else iter(())
    values = [(name, _value(document, name, value)) for name, value in pairs]
    _unique([name for name, _ in values], "the field occurs twice", document.problems)
    name = texts.get("name")
    expected = (texts.get(key) for key in ("score", "limit", "level", "declined"))
    return CaseText(name, tuple(values), *expected) if name is not None else None


def _value(document: Document, name: Text, node: yaml.Node) -> Text | None:
    """A case's value; None where it is missing, which must be written."""
    bare = isinstance(node, yaml.ScalarNode) and not node.style
    if bare and node.value in ("missing", "null", "~"):
        return None
    if bare and not node.value:
        document.problems.put(name.problem("the value is not said", f"{name.value}: missing"))
        return None
    return document.scalar("values", node)
