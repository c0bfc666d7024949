"""The rules file as text: YAML in, positioned strings out, nothing interpreted yet.

YAML is read as events and nodes, never constructed into objects: no tags, no anchors or aliases, no YAML 1.1 surprises
(`no` stays the two letters it is), bounded depth. What a rule means is model_registry/rules.py's business.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import yaml

from model_registry.errors import Problem

RULES_BYTES_MAX = 64 * 1024  # 200 rules of 300 bytes; a page a risk officer can still review
RULES_MAX = 200  # evaluated one by one at 8 µs: 1.6 ms of the score deadline
_DEPTH_MAX = 4  # file, list, rule; one more so that the complaint names the rule
GROUPS = ("exclusions", "cutoffs", "caps")
_KEYS = {
    "exclusions": frozenset({"name", "when", "missing"}),
    "cutoffs": frozenset({"name", "when", "missing"}),
    "caps": frozenset({"name", "when", "limit", "missing"}),
}
_REQUIRED = {"exclusions": ("name", "when"), "cutoffs": ("name", "when"), "caps": ("name", "limit")}


@dataclass(frozen=True)
class Text:
    """A scalar of the file with the place where it starts, both from 1.

    Attributes:
        exact: whether a column inside the value is `column` plus an offset (not so in block scalars).
    """

    value: str
    line: int
    column: int
    exact: bool = True


@dataclass(frozen=True)
class RuleText:
    """One rule as written."""

    group: str
    name: Text
    when: Text | None
    limit: Text | None
    missing: Text | None


class _Mark(Protocol):
    """A place as PyYAML gives it, counted from 0; its C and Python parsers have a class each."""

    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...


@dataclass
class Problems:
    """Collects what is wrong; a file is reported whole, not one mistake at a time."""

    found: list[Problem] = field(default_factory=list)

    def add(self, mark: _Mark | None, text: str, hint: str = "") -> None:
        """Note a problem at a place in the file (None = the file as a whole)."""
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
        self.found.append(Problem(line, column, text, hint))


def read_rules(text: bytes, problems: Problems) -> list[RuleText]:
    """Read the rules in file order.

    Args:
        text: the file's bytes, anything at all.
        problems: gets what is wrong; where anything was added the result must not be used.

    Returns:
        At most `RULES_MAX` rules with their required members present; never raises on any bytes.
    """
    root = _compose(text, problems)
    if root is None:
        return []
    members = _members(root, frozenset({"version", "tables", *GROUPS}), problems)
    version = members.get("version")
    if not isinstance(version, yaml.ScalarNode) or version.value != "1":
        problems.add(version.start_mark if version else None, "the file must say `version: 1`", "version: 1")
    if "tables" in members:
        problems.add(members["tables"].start_mark, "`tables` are not available yet", "write the rows as caps")
    rules = [rule for group in GROUPS for rule in _group(group, members.get(group), problems)]
    _check_count_and_names(rules, problems)
    return rules


def _check_count_and_names(rules: list[RuleText], problems: Problems) -> None:
    if len(rules) > RULES_MAX:
        problems.add(None, f"more than {RULES_MAX} rules")
    seen: set[str] = set()
    for rule in rules:
        if rule.name.value in seen:
            problems.found.append(Problem(rule.name.line, rule.name.column, "the rule's name occurs twice"))
        seen.add(rule.name.value)


def _compose(text: bytes, problems: Problems) -> yaml.MappingNode | None:
    if len(text) > RULES_BYTES_MAX:
        problems.add(None, f"the file has more than {RULES_BYTES_MAX} bytes")
        return None
    try:
        decoded = text.decode("utf-8")
        # events first: composing recurses, so depth and aliases are judged before anything is built
        if not _plain(decoded, problems):
            return None
        root = yaml.compose(decoded, Loader=yaml.CSafeLoader)
    except UnicodeDecodeError:
        problems.add(None, "the file is not UTF-8")
        return None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problems.add(mark, f"not YAML: {getattr(error, 'problem', None) or 'unreadable'}"[:200])
        return None
    if not isinstance(root, yaml.MappingNode):
        problems.add(None, "the file must be a mapping that starts with `version: 1`")
        return None
    return root


def _plain(text: str, problems: Problems) -> bool:
    depth = documents = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        documents += isinstance(event, yaml.DocumentStartEvent)
        if isinstance(event, yaml.NodeEvent) and (event.anchor or getattr(event, "tag", None)):
            problems.add(event.start_mark, "anchors, aliases and tags are refused", "write the value out")
            return False
        if depth > _DEPTH_MAX or documents > 1:
            problems.add(event.start_mark, "nested too deep, or more than one document")
            return False
    return True


def _members(node: yaml.Node, known: frozenset[str], problems: Problems) -> dict[str, yaml.Node]:
    if not isinstance(node, yaml.MappingNode):
        problems.add(node.start_mark, "expected `key: value` pairs")
        return {}
    members: dict[str, yaml.Node] = {}
    for key, value in node.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else ""
        if name not in known:
            problems.add(key.start_mark, f"unknown key {name[:40]!r}", f"known here: {', '.join(sorted(known))}")
        elif name in members:
            problems.add(key.start_mark, f"key {name!r} occurs twice")
        else:
            members[name] = value
    return members


def _group(group: str, node: yaml.Node | None, problems: Problems) -> Iterator[RuleText]:
    if node is None:
        return
    if not isinstance(node, yaml.SequenceNode):
        problems.add(node.start_mark, f"`{group}` must be a list of rules", "start each rule with `- name: ...`")
        return
    for item in node.value:
        members = _members(item, _KEYS[group], problems)
        texts = {key: _scalar(key, value, problems) for key, value in members.items()}
        for key in _REQUIRED[group]:
            if key not in members:
                problems.add(item.start_mark, f"the rule has no `{key}`")
        name = texts.get("name")
        if name is not None:
            yield RuleText(group, name, texts.get("when"), texts.get("limit"), texts.get("missing"))


def _scalar(key: str, node: yaml.Node, problems: Problems) -> Text | None:
    if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
        problems.add(node.start_mark, f"`{key}` must be a text or a number")
        return None
    quoted = node.style in ("'", '"')
    block = node.style in ("|", ">")
    return Text(node.value, node.start_mark.line + 1, node.start_mark.column + 1 + quoted, not block)
