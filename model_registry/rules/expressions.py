"""Expressions of the rules: a default-deny part of CEL, compiled and type-checked, evaluated failing closed.

Of CEL (github.com/google/cel-spec) remain: declared variables, literals, operators, lists and six functions. No macros
(nested over lists they take exponential time), no regular expressions, no clock, no randomness, no messages and maps.
"""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cel_expr_python import cel

from model_registry.errors import Problem
from model_registry.rules.document import Problems, Text

EXPRESSION_CHARACTERS_MAX = 2_000  # longer ones nobody reviews; CEL itself stops at nesting depth 32
SCORE = "model.score"
HINTS_MAX = 20  # close names are searched for: 10 ms each among 1,700
_FUSED_MAX = 32  # expressions of one list: where one errs, so many are evaluated singly
_FUNCTIONS = frozenset({"double", "int", "size", "contains", "startsWith", "endsWith"})
_WORDS = frozenset({"in", "true", "false", "null"})
_TOKEN = re.compile(
    r"""(?P<prefixed>[rRbB]{1,2}["'])|(?P<triple>\"{3}|'{3})|(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
    |(?P<comment>//[^\n]*)|(?P<number>\d[\w.]*)|(?P<word>[A-Za-z_][A-Za-z0-9_]*)|(?P<space>\s+)|(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_OVERLOAD = re.compile(r"no matching overload for '_(\S+?)_' applied to '\((\w+), (\w+)\)'")
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
Inputs = Mapping[str, Value]


@dataclass(frozen=True, eq=False)
class Compiled:
    """A checked expression and the fields it may read (a superset)."""

    source: str
    expression: cel.Expression
    fields: tuple[str, ...]
    reads_score: bool

    def evaluate(self, values: Inputs) -> bool | float | None:
        """Evaluate; None = any error. An error is a value in this library, so its type is tested, not its truth.

        Args:
            values: the fields and `model.score` that the expression may read, none missing.
        """
        try:
            result = self.expression.eval(data=values)
            kind = result.type()
            if kind == cel.Type.BOOL:
                return bool(result.value())
            if kind in (cel.Type.DOUBLE, cel.Type.INT):
                return float(result.value())
        except (RuntimeError, TypeError, ValueError, OverflowError):
            return None
        return None


class Compiler:
    """Compiles expressions over one set of declared fields.

    Args:
        fields: the declared fields.
        known: names of fields that exist but are not declared, for hints.
    """

    def __init__(self, fields: Mapping[str, Kind], known: Collection[str] = ()) -> None:
        self._names = frozenset(fields) | {SCORE}
        self._known = frozenset(known)
        self._hints = 0
        variables = {name: _CEL_TYPES[kind] for name, kind in fields.items()}
        self.environment = cel.NewEnv(variables={**variables, SCORE: cel.Type.DOUBLE})

    def compile(self, text: Text, wanted: str, problems: Problems) -> Compiled | None:
        """Compile one expression.

        Args:
            text: the expression with its place in the file.
            wanted: `condition` (must be BOOL) or `amount` (must be INT or DOUBLE, yuan).
            problems: gets what is wrong, at its place in the file; then the result is None.
        """
        refused = list(self._refused(text))
        if refused:
            problems.put(*refused)
            return None
        try:
            expression = self.environment.compile(text.value)
            kind = expression.return_type()
        except (RuntimeError, TypeError, ValueError) as error:
            problems.put(*_explain(str(error), text))
            return None
        if wanted == "condition" and kind != cel.Type.BOOL:
            problems.put(text.problem("the condition is not true or false", "compare with something"))
            return None
        if wanted == "amount" and kind not in (cel.Type.DOUBLE, cel.Type.INT):
            problems.put(text.problem("the limit is not a number of yuan"))
            return None
        used = {name for _, chain, _ in _chains(text.value) if (name := self._longest(chain))}
        return Compiled(text.value, expression, tuple(sorted(used - {SCORE})), SCORE in used)

    def field(self, name: Text, problems: Problems, *, score: bool = True) -> bool:
        """Whether a name alone is a declared field, or the score where that is allowed; a problem where it is not."""
        found = name.value in self._names and (score or name.value != SCORE)
        if not found:
            problems.put(self._unknown(name, 0, name.value))
        return found

    def _refused(self, text: Text) -> Iterator[Problem]:
        if len(text.value) > EXPRESSION_CHARACTERS_MAX:
            yield text.problem(f"longer than {EXPRESSION_CHARACTERS_MAX} characters", "split the rule")
            return
        tokens = [m for m in _TOKEN.finditer(text.value) if m.lastgroup not in ("space", "comment")]
        if not tokens:
            yield text.problem("not an expression")
        for token, after in zip(tokens, [*(each.group() for each in tokens[1:]), ""], strict=False):
            calls = after == "("
            if token.lastgroup in ("prefixed", "triple"):
                what = "raw, byte and triple-quoted strings are refused"
                yield text.problem(what, 'write "..."', token.start())
            elif token.group() == "{":
                yield text.problem("maps and messages are refused", "", token.start())
            elif token.lastgroup == "word" and calls and token.group() not in _FUNCTIONS | {"in"}:
                what = f"function {token.group()[:40]!r} is not available"
                yield text.problem(what, f"available: {', '.join(sorted(_FUNCTIONS))}", token.start())
        for offset, chain, called in _chains(text.value):
            path = chain.rpartition(".")[0] if called else chain
            if path and path not in _WORDS and not self._longest(path):
                yield self._unknown(text, offset, path)

    def _longest(self, chain: str) -> str | None:
        """The declared name that a chain of names reads: CEL takes the longest that there is."""
        parts = chain.split(".")
        names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
        return next((name for name in names if name in self._names), None)

    def _unknown(self, text: Text, offset: int, name: str) -> Problem:
        shown = name[:100]
        if name in self._known:
            return text.problem(f"{shown} is not a field of the manifest", "add it to the offer's fields", offset)
        self._hints += 1
        near = self._nearest(name) if self._hints <= HINTS_MAX else None
        return text.problem(f"unknown field {shown}", f"did you mean {near}?" if near else "", offset)

    def _nearest(self, name: str) -> str | None:
        ending = [each for each in self._names if each.endswith("." + name)]
        close = difflib.get_close_matches(name[:200], sorted(self._names), 1)
        return next(iter(ending or close), None) if len(ending) < 2 else min(ending)


class Fused:
    """Many expressions evaluated as few lists: an evaluation costs more than what is evaluated.

    Args:
        compiler: what the expressions were compiled with.
        parts: pairs of an expression and its guard: where the guard is false the expression is not evaluated.
    """

    def __init__(self, compiler: Compiler, parts: Sequence[tuple[Compiled, Compiled | None]]) -> None:
        self._environment = compiler.environment
        self._chunks: list[tuple[list[Compiled], cel.Expression]] = []
        for start in range(0, len(parts), _FUSED_MAX):
            chunk = parts[start : start + _FUSED_MAX]
            sources = [_guarded(part, guard) for part, guard in chunk]
            try:
                expression = self._environment.compile(f"[{', '.join(sources)}]")
            except (RuntimeError, TypeError, ValueError):  # together too long or too deep: they stay single
                continue
            self._chunks.append(([part for part, _ in chunk], expression))

    def evaluate(self, values: Inputs) -> dict[Compiled, bool | float]:
        """What was evaluated without an error; what is left out is to be evaluated by itself.

        Args:
            values: every field that any part reads, and `model.score`.
        """
        found: dict[Compiled, bool | float] = {}
        try:
            activation = self._environment.Activation(values)
            for parts, expression in self._chunks:
                results = expression.eval(activation).plain_value()
                if type(results) is list and len(results) == len(parts):  # an error is a text
                    found.update(zip(parts, results, strict=True))
        except (RuntimeError, TypeError, ValueError, OverflowError):
            return found
        return found


def _guarded(part: Compiled, guard: Compiled | None) -> str:
    """A part as an element of a list; the line feed ends a comment."""
    if part.expression.return_type() == cel.Type.BOOL:
        return f"({part.source}\n)"
    return f"(({guard.source}\n) ? double({part.source}\n) : 0.0)" if guard else f"double({part.source}\n)"


def _chains(text: str) -> Iterator[tuple[int, str, bool]]:
    """Names joined by dots: where each starts, the chain, whether its last name is called. Not members of a result."""
    chain, start, before = "", 0, ""
    for token in _TOKEN.finditer(text + "\n\0"):  # an end for the last chain, which no comment swallows
        if token.lastgroup in ("space", "comment"):
            continue
        word = token.lastgroup == "word"
        if (word and (not chain or chain.endswith("."))) or (token.group() == "." and not chain.endswith(".")):
            start = token.start() if not chain else start
            chain += token.group()
            continue
        if chain and not (chain.startswith(".") and before in (")", "]", "string")) and chain.strip("."):
            shift = len(chain) - len(chain.lstrip("."))
            yield start + shift, chain.strip("."), token.group() == "("
        before = "string" if token.lastgroup == "string" else token.group()
        chain, start = (token.group(), token.start()) if word else ("", 0)


def _explain(message: str, text: Text) -> Iterator[Problem]:
    found = _PLACE.findall(message)
    if not found:
        yield text.problem("nested too deep" if "recursion" in message else "not an expression")
    for line, column, said in found[:3]:
        what, hint = said[:200], ""
        if mixed := _OVERLOAD.search(said):
            sign, *kinds = mixed.groups()
            what = f"`{sign}` does not go between {' and '.join(kinds)}"
            hint = "write 1.0 instead of 1, or double(field)" if sorted(kinds) == ["double", "int"] else ""
        yield text.problem(what, hint, text.offset(max(int(line), 1), max(int(column), 1)))
