"""Values written in a rules file: stand-ins for missing fields, cells of tables, values of cases."""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from model_registry.rules.expressions import SCORE, Kind, Value

_NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,15})?")
_INTEGER = re.compile(r"-?\d{1,15}")
_EPOCH = date(1970, 1, 1)
_WRITTEN = {
    Kind.NUMBER: "a number like 0.5",
    Kind.INTEGER: "a whole number",
    Kind.BOOLEAN: "true or false",
    Kind.DATE: "a day like 2024-01-31",
}
Codes = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Fields:
    """The declared fields: full name → kind, and the code lists of categories, as far as they are known."""

    kinds: Mapping[str, Kind]
    codes: Codes

    def kind(self, name: str) -> Kind:
        """What a field's, or the score's, values are."""
        return Kind.NUMBER if name == SCORE else self.kinds[name]

    def literal(self, name: str, text: str) -> Value | None:
        """A value of the field as it is written; None where it is none."""
        kind = self.kind(name)
        if kind is Kind.BOOLEAN:
            return {"true": True, "false": False}.get(text)
        if kind is Kind.CATEGORY:
            return text if name not in self.codes or text in self.codes[name] else None
        if kind is Kind.NUMBER:
            return float(text) if _NUMBER.fullmatch(text) else None
        return _day(text) if kind is Kind.DATE and not _INTEGER.fullmatch(text) else _whole(text)

    def wanted(self, name: str, text: str) -> str:
        """What to write instead of something that is no value of the field."""
        if self.kind(name) is not Kind.CATEGORY:
            return f"{name} is {_WRITTEN[self.kind(name)]}"
        codes = list(self.codes.get(name, ()))
        close = difflib.get_close_matches(text[:100], codes, 1)
        return f"did you mean {close[0]}?" if close else f"codes of {name}: {', '.join(codes[:12])}"


def cel_literal(value: Value) -> str:
    """A value as CEL writes it. JSON's escapes are CEL's too."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else repr(value)


def _whole(text: str) -> int | None:
    return int(text) if _INTEGER.fullmatch(text) else None


def _day(text: str) -> int | None:
    """Days since 1970-01-01 of an ISO 8601 calendar date."""
    try:
        return (date.fromisoformat(text) - _EPOCH).days if len(text) == 10 else None
    except ValueError:
        return None
