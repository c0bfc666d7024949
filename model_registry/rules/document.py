"""Bounded YAML: a stranger's bytes → nodes and positioned texts, nothing interpreted.

YAML is read as events and nodes, never constructed into objects: no tags, no anchors or aliases, no YAML 1.1 surprises
(`no` stays the two letters it is), bounded bytes, depth and number of nodes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import yaml

from model_registry.errors import Problem

RULES_BYTES_MAX = 256 * 1024  # 300 rules and rows of 300 bytes, 200 cases of 800 bytes: what one review can hold
NODES_MAX = 20_000  # 200 cases with 40 values each; PyYAML takes about 10 µs for one
PROBLEMS_MAX = 50  # as in admission: a report is read by people
_DEPTH_MAX = 6  # file, tables, table, rows, row; one more so that the complaint names the rule


@dataclass(frozen=True)
class Text:
    """A scalar of the file, with the place where it starts, both from 1.

    Attributes:
        indent: characters before each further line of a literal block.
        exact: whether a place inside the value is a place in the file; not so where YAML folds lines or has escapes.
        bare: written without quotes, so that words like `missing` are keywords.
    """

    value: str
    line: int
    column: int
    indent: int = 0
    exact: bool = True
    bare: bool = False

    def problem(self, what: str, hint: str = "", offset: int = 0) -> Problem:
        """Something wrong at a character of the value."""
        before = self.value[:offset]
        lines = before.count("\n") if self.exact else 0
        if not self.exact:
            return Problem(self.line, self.column, what, hint)
        within = offset - (before.rfind("\n") + 1)
        return Problem(self.line + lines, within + (self.indent + 1 if lines else self.column), what, hint)

    def offset(self, line: int, column: int) -> int:
        """The character at a line and column of the value, both from 1."""
        lines = self.value.split("\n")
        return sum(len(each) + 1 for each in lines[: line - 1]) + column - 1

    def part(self, start: int, end: int) -> "Text":
        """A part of one line of the value, without the spaces around it."""
        raw = self.value[start:end]
        place = self.problem("", offset=start + len(raw) - len(raw.lstrip()))
        return Text(raw.strip(), place.line, place.column, exact=self.exact, bare=True)


class Mark(Protocol):
    """A place as PyYAML gives it, counted from 0; its C and Python parsers have a class each."""

    @property
    def line(self) -> int:
        """Lines before it."""
        ...

    @property
    def column(self) -> int:
        """Characters before it on its line."""
        ...


@dataclass
class Problems:
    """Collects what is wrong; a file is reported whole, not one mistake at a time. The first PROBLEMS_MAX are kept."""

    found: list[Problem] = field(default_factory=list)

    @property
    def full(self) -> bool:
        """Whether no further one is kept: the work of finding and explaining more would be for nobody."""
        return len(self.found) >= PROBLEMS_MAX

    def add(self, mark: Mark | None, text: str, hint: str = "") -> None:
        """Note a problem at a place in the file (None = the file as a whole)."""
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
        self.put(Problem(line, column, text, hint))

    def put(self, *problems: Problem) -> None:
        """Note problems that have their places."""
        self.found.extend(problems[: max(0, PROBLEMS_MAX - len(self.found))])


class Document:
    """A rules file's nodes, and how they are read."""

    def __init__(self, text: bytes, problems: Problems) -> None:
        self.problems = problems
        self._lines: list[str] = []
        self.root = self._compose(text)

    def members(self, node: yaml.Node, known: frozenset[str]) -> dict[str, yaml.Node]:
        """A mapping's values by key; unknown and doubled keys are problems."""
        members: dict[str, yaml.Node] = {}
        for name, value in self.pairs(node):
            if name.value not in known:
                what = f"unknown key {name.value[:40]!r}"
                self.problems.put(name.problem(what, f"known here: {', '.join(sorted(known))}"))
            elif name.value in members:
                self.problems.put(name.problem(f"key {name.value!r} occurs twice"))
            else:
                members[name.value] = value
        return members

    def pairs(self, node: yaml.Node) -> Iterator[tuple[Text, yaml.Node]]:
        """A mapping's keys and values."""
        if not isinstance(node, yaml.MappingNode):
            self.problems.add(node.start_mark, "expected `key: value` pairs")
            return
        for key, value in node.value:
            name = self.scalar("the key", key)
            if name is not None:
                yield name, value

    def items(self, node: yaml.Node | None, what: str, hint: str) -> list[yaml.Node]:
        """A list's items; none where there is no node."""
        if node is not None and not isinstance(node, yaml.SequenceNode):
            self.problems.add(node.start_mark, what, hint)
        return list(node.value) if isinstance(node, yaml.SequenceNode) else []

    def scalar(self, key: str, node: yaml.Node) -> Text | None:
        """A scalar with its place; None, and a problem, where it is none or empty."""
        if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
            self.problems.add(node.start_mark, f"`{key}` must be a text or a number")
            return None
        start, end = node.start_mark, node.end_mark
        if node.style == "|":
            return self._literal(node)
        quoted = node.style in ("'", '"')
        # escapes, doubled quotes and folded lines make the value shorter or longer than what stands in the file
        exact = start.line == end.line and end.column - start.column == len(node.value) + 2 * quoted
        return Text(node.value, start.line + 1, start.column + 1 + quoted, exact=exact, bare=not node.style)

    def _literal(self, node: yaml.ScalarNode) -> Text:
        """A `|` block keeps its lines: they stand in the file below the marker, indented."""
        first = node.start_mark.line + 1
        for number, line in enumerate(node.value.split("\n")):
            if line.strip() and first + number < len(self._lines):
                whole = self._lines[first + number].removesuffix("\r")
                indent = len(whole) - len(line)
                exact = indent >= 0 and whole.endswith(line)
                return Text(node.value, first + 1, max(indent, 0) + 1, max(indent, 0), exact)
        return Text(node.value, first, node.start_mark.column + 1, exact=False)

    def _compose(self, text: bytes) -> yaml.MappingNode | None:
        if len(text) > RULES_BYTES_MAX:
            self.problems.add(None, f"the file has more than {RULES_BYTES_MAX} bytes")
            return None
        try:
            decoded = text.decode("utf-8")
            # events first: composing recurses, so depth and aliases are judged before anything is built
            if not self._plain(decoded):
                return None
            root = yaml.compose(decoded, Loader=yaml.CSafeLoader)
        except UnicodeDecodeError:
            self.problems.add(None, "the file is not UTF-8")
            return None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            self.problems.add(mark, f"not YAML: {getattr(error, 'problem', None) or 'unreadable'}"[:200])
            return None
        if not isinstance(root, yaml.MappingNode):
            self.problems.add(None, "the file must be a mapping that starts with `version: 1`")
            return None
        self._lines = decoded.split("\n")
        return root

    def _plain(self, text: str) -> bool:
        depth = documents = nodes = 0
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            documents += isinstance(event, yaml.DocumentStartEvent)
            nodes += isinstance(event, yaml.NodeEvent)
            if isinstance(event, yaml.NodeEvent) and (event.anchor or getattr(event, "tag", None)):
                self.problems.add(event.start_mark, "anchors, aliases and tags are refused", "write the value out")
                return False
            if depth > _DEPTH_MAX or documents > 1:
                self.problems.add(event.start_mark, "nested too deep, or more than one document")
                return False
            if nodes > NODES_MAX:
                self.problems.add(event.start_mark, f"more than {NODES_MAX} values in the file")
                return False
        return True
