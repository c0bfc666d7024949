"""Expressions of the rules: a default-deny part of CEL, compiled and type-checked, evaluated failing closed.

Of CEL (github.com/google/cel-spec) remain: declared variables, literals, operators, lists and six functions. No macros
(nested over lists they take exponential time), no regular expressions, no clock, no messages and maps.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from cel_expr_python import cel

from model_registry.errors import Problem
from model_registry.rules_text import Text

EXPRESSION_CHARACTERS_MAX = 2_000  # longer ones nobody reviews; CEL itself stops at nesting depth 32
SCORE = "model.score"
_FUNCTIONS = frozenset({"double", "int", "size", "contains", "startsWith", "endsWith"})
_OPERATOR_WORDS = frozenset({"in"})
_TOKEN = re.compile(
    r"""(?P<prefixed>[rRbB]{1,2}["'])|(?P<triple>\"{3}|'{3})|(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
    |(?P<comment>//[^\n]*)|(?P<word>[A-Za-z_][A-Za-z0-9_]*)|(?P<space>\s+)|(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_PLACE = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): ([^\n]*)")


class Kind(StrEnum):
    """Types of fields, as the catalogue has them."""

    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    CATEGORY = "category"
    DATE = "date"


_CEL_TYPES = {
    Kind.NUMBER: cel.Type.DOUBLE,
    Kind.INTEGER: cel.Type.INT,
    Kind.BOOLEAN: cel.Type.BOOL,
    Kind.CATEGORY: cel.Type.STRING,
    Kind.DATE: cel.Type.INT,  # days since 1970-01-01
}
Value = float | int | bool | str


@dataclass(frozen=True)
class Compiled:
    """A checked expression and the fields it may read (a superset)."""

    expression: cel.Expression
    fields: tuple[str, ...]
    reads_score: bool

    def evaluate(self, values: Mapping[str, Value]) -> bool | float | None:
        """Evaluate; None = any error. An error is a value in this library, so its type is tested, not its truth.

        Args:
            values: the fields and `model.score` that the expression may read, none missing.
        """
        try:
            result = self.expression.eval(data=values)
        except (RuntimeError, TypeError, ValueError):
            return None
        kind = result.type()
        if kind == cel.Type.BOOL:
            return bool(result.value())
        if kind in (cel.Type.DOUBLE, cel.Type.INT):
            return float(result.value())
        return None


class Compiler:
    """Compiles expressions over one set of declared fields."""

    def __init__(self, fields: Mapping[str, Kind]) -> None:
        self._names = frozenset(fields)
        variables = {name: _CEL_TYPES[kind] for name, kind in fields.items()}
        self._environment = cel.NewEnv(variables={**variables, SCORE: cel.Type.DOUBLE})

    def compile(self, text: Text, *, wanted: str) -> Compiled | list[Problem]:
        """Compile one expression.

        Args:
            text: the expression with its place in the file.
            wanted: `condition` (must be BOOL) or `amount` (must be INT or DOUBLE, yuan).

        Returns:
            The compiled expression, or what is wrong with it at file positions.
        """
        refused = list(self._refused(text))
        if refused:
            return refused
        try:
            expression = self._environment.compile(text.value)
            kind = expression.return_type()
        except (RuntimeError, TypeError, ValueError) as error:
            return list(_explain(str(error), text))
        if wanted == "condition" and kind != cel.Type.BOOL:
            return [Problem(text.line, text.column, "the condition is not true or false", "compare with something")]
        if wanted == "amount" and kind not in (cel.Type.DOUBLE, cel.Type.INT):
            return [Problem(text.line, text.column, "the limit is not a number of yuan")]
        used = self._used(text.value)
        return Compiled(expression, tuple(sorted(used - {SCORE})), SCORE in used)

    def _refused(self, text: Text) -> Iterator[Problem]:
        if len(text.value) > EXPRESSION_CHARACTERS_MAX:
            yield Problem(
                text.line, text.column, f"longer than {EXPRESSION_CHARACTERS_MAX} characters", "split the rule"
            )
            return
        tokens = [m for m in _TOKEN.finditer(text.value) if m.lastgroup not in ("space", "comment")]
        for token, after in zip(tokens, [*tokens[1:], None], strict=True):
            calls = after is not None and after.group() == "("
            if token.lastgroup in ("prefixed", "triple"):
                yield _at(text, token.start(), "raw, byte and triple-quoted strings are refused", 'write "..."')
            elif token.group() == "{":
                yield _at(text, token.start(), "maps and messages are refused")
            elif token.lastgroup == "word" and calls and token.group() not in _FUNCTIONS | _OPERATOR_WORDS:
                hint = f"available: {', '.join(sorted(_FUNCTIONS))}"
                yield _at(text, token.start(), f"function {token.group()[:40]!r} is not available", hint)

    def _used(self, text: str) -> set[str]:
        """Names a text may read. Too many is harmless; a field overlooked fails closed at evaluation."""
        used: set[str] = set()
        for chain in _chains(text):
            parts = chain.split(".")
            prefixes = {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
            used |= prefixes & (self._names | {SCORE})
        return used


def _chains(text: str) -> Iterator[str]:
    chain = ""
    for token in _TOKEN.finditer(text):
        if token.lastgroup in ("space", "comment"):
            continue
        if token.group() == "." or (token.lastgroup == "word" and chain.endswith(".")):
            chain += token.group()
            continue
        yield chain.strip(".")
        chain = token.group() if token.lastgroup == "word" else ""
    yield chain.strip(".")


def _at(text: Text, offset: int, what: str, hint: str = "") -> Problem:
    before = text.value[:offset]
    line = before.count("\n")
    column = offset - (before.rfind("\n") + 1)
    return _place(text, line + 1, column + 1, what, hint)


def _place(text: Text, line: int, column: int, what: str, hint: str) -> Problem:
    if not text.exact:  # a block scalar starts on the line after its marker; its indentation is not known here
        return Problem(text.line + line, 0, what, hint)
    return Problem(text.line + line - 1, column + (text.column - 1 if line == 1 else 0), what, hint)


def _explain(message: str, text: Text) -> Iterator[Problem]:
    found = _PLACE.findall(message)
    if not found:
        yield Problem(text.line, text.column, "nested too deep" if "recursion" in message else "not an expression")
    for line, column, what in found[:3]:
        mixed = "no matching overload" in what and "int" in what and "double" in what
        hint = "write 1.0 instead of 1, or double(field)" if mixed else ""
        yield _place(text, max(int(line), 1), max(int(column), 1), what[:200], hint)
