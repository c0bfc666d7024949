"""Codes that a condition compares a category with: one that is not in the list is never met, and nobody would know."""

import re
from collections.abc import Iterator

from model_registry.rules.document import Problems, Text
from model_registry.rules.expressions import Compiled
from model_registry.rules.values import Fields

_STRING = r"\"[^\"\\\n]*\"|'[^'\\\n]*'"


def check_codes(text: Text, compiled: Compiled, fields: Fields, problems: Problems) -> None:
    """Puts a problem at each text that is compared (`==`, `!=`, `in [...]`) with a category that has no such code.

    Texts with escapes are left alone: no code list needs one.
    """
    for name in compiled.fields:
        if name in fields.codes:
            for offset, code in _compared(text.value, name):
                if problems.full:
                    return
                if code not in fields.codes[name]:
                    what = f"{code[:60]!r} is no code of {name}"
                    problems.put(text.problem(what, fields.wanted(name, code), offset))


def _compared(text: str, name: str) -> Iterator[tuple[int, str]]:
    field = rf"(?<![\w.]){re.escape(name)}(?![\w.])"
    for found in re.finditer(rf"{field}\s*[=!]=\s*({_STRING})|({_STRING})\s*[=!]=\s*{field}", text):
        # texts may be put together with + before they are compared
        if not text[: found.start()].rstrip().endswith("+") and not text[found.end() :].lstrip().startswith("+"):
            group = 1 if found.group(1) else 2
            yield found.start(group), found.group(group)[1:-1]
    for listed in re.finditer(rf"{field}\s+in\s*\[((?:[\s,]|{_STRING})*)\]", text):
        if not text[: listed.start()].rstrip().endswith("+"):
            for each in re.finditer(_STRING, listed.group(1)):
                yield listed.start(1) + each.start(), each.group()[1:-1]
