"""Cells of decision tables: unary tests, typed by their column, as CEL.

A part of the unary tests of S-FEEL (Object Management Group, Decision Model and Notation, chapter "Simple Expression
Language"), with codes and days written without quotes:

    -                 anything
    0.5   A   true    equal (a comma is `or`: A, B)
    < 0.5   >= 2      compared
    [0.5..0.7)        from and up to, the bound included at [ and ], excluded at ( and )
    not(A, B)         none of them
"""

import re
from collections.abc import Iterator

from model_registry.rules.document import Problems, Text
from model_registry.rules.expressions import Kind, Value
from model_registry.rules.values import Fields, cel_literal

_PIECE = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^,])+')
_NOT = re.compile(r"not\s*\((.*)\)", re.DOTALL)
_RANGE = re.compile(r"([\[(])\s*(\S+?)\s*\.\.\s*(\S+?)\s*([\])])")
_COMPARED = re.compile(r"(<=|>=|<|>)\s*(.*)", re.DOTALL)


def cell_condition(cell: Text, field: str, fields: Fields, problems: Problems) -> str | None:
    """A cell as a CEL condition; "" where anything will do; None, and a problem, where it is no cell.

    Args:
        cell: as written.
        field: the column's field, declared, or `model.score`.
        fields: kinds and code lists.
        problems: gets what is wrong, at its place.
    """
    if cell.value == "-":
        return ""
    inner, start = cell.value, 0
    if negated := _NOT.fullmatch(cell.value):
        inner, start = negated.group(1), negated.start(1)
    pieces = [cell.part(start + a, start + b) for a, b in _pieces(inner)]
    if fields.kind(field) is Kind.CATEGORY:
        codes = [_value(piece, field, fields, problems) for piece in pieces]
        either = f"{field} in [{', '.join(cel_literal(code) for code in codes if code is not None)}]"
        known = len(codes) - codes.count(None)
    else:
        tests = [test for piece in pieces if (test := _test(piece, field, fields, problems))]
        either, known = " || ".join(f"({test})" for test in tests), len(tests)
    if known < len(pieces):
        return None
    return f"!({either})" if negated else either


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Where the parts between commas lie; a comma inside double quotes is none, an empty part is a part."""
    at = 0
    while True:
        found = _PIECE.match(text, at)
        end = found.end() if found else at
        yield at, end
        if end >= len(text):
            return
        at = end + 1


def _test(text: Text, field: str, fields: Fields, problems: Problems) -> str | None:
    ordered = fields.kind(field) is not Kind.BOOLEAN
    if ordered and (span := _RANGE.fullmatch(text.value)):
        return _range(text, span, field, fields, problems)
    if ordered and (compared := _COMPARED.fullmatch(text.value)):
        value = _value(text.part(compared.start(2), compared.end(2)), field, fields, problems)
        return None if value is None else f"{field} {compared.group(1)} {cel_literal(value)}"
    value = _value(text, field, fields, problems)
    return None if value is None else f"{field} == {cel_literal(value)}"


def _range(text: Text, span: re.Match[str], field: str, fields: Fields, problems: Problems) -> str | None:
    ends = [_value(text.part(*span.span(group)), field, fields, problems) for group in (2, 3)]
    least, most = ends
    if least is None or most is None:
        return None
    closed = span.group(1) == "[" and span.group(4) == "]"
    if float(least) > float(most) or (least == most and not closed):
        problems.put(text.problem("nothing lies in this range", "[least..most)"))
        return None
    above, below = (">=" if span.group(1) == "[" else ">"), ("<=" if span.group(4) == "]" else "<")
    return f"{field} {above} {cel_literal(least)} && {field} {below} {cel_literal(most)}"


def _value(text: Text, field: str, fields: Fields, problems: Problems) -> Value | None:
    written = text.value
    if len(written) >= 2 and written[0] == written[-1] == '"':
        written = re.sub(r"\\(.)", r"\1", written[1:-1])
    value = fields.literal(field, written) if written else None
    if value is None and not problems.full:  # a close code is searched for in milliseconds, and a table has thousands
        problems.put(text.problem(f"{text.value[:60]!r} is no test of {field}", fields.wanted(field, written)))
    return value
