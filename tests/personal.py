"""What must not be found anywhere: subjects, names and field values, in every spelling they might slip through in.

Needles are chosen so that what is found was meant. A subject's code has 18 characters, a name is Chinese: no accident
makes them. A value is looked for where it is rare: a number of seven digits or more, standing alone between characters
that belong to no number or word (hex digests are full of digits), or as the eight bytes of its IEEE double; and a date
of years before the run. Left out are small numbers, booleans and categories: `12`, `true` and `grade_a` stand in any
log without being anybody's.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from sandbox.vault.synthetic import World

DIGITS_MIN = 7
_NUMBER = re.compile(rb"(?<![\w.+/=])[0-9]+(?:\.[0-9]+)?(?![\w+/=])", re.ASCII)
_DATE = re.compile(rb"(?<![0-9])[0-9]{4}-[0-9]{2}-[0-9]{2}(?![0-9])")
_YEARS_BEFORE = 2025

Places = Mapping[str, bytes]


def spellings(text: str) -> dict[str, bytes]:
    """How a text may be written: as it is, escaped, encoded, hashed."""
    raw = text.encode()
    whole = {
        "utf-8": raw,
        "utf-16": text.encode("utf-16-le"),
        "gb18030": text.encode("gb18030"),
        "json": json.dumps(text).strip('"').encode(),
        "url": quote(text, safe="").encode(),
        "hex": raw.hex().encode(),
        "sha256": hashlib.sha256(raw).digest(),
        "sha256 hex": hashlib.sha256(raw).hexdigest().encode(),
        "sha256 base64": base64.b64encode(hashlib.sha256(raw).digest()).rstrip(b"="),
    }
    for shift in range(3):  # base64 of something longer holds one of these three
        inside = base64.b64encode(bytes(shift) + raw)[(0, 2, 3)[shift] :]
        whole[f"base64 +{shift}"] = inside[: len(inside) // 4 * 4 - 4]
    return whole


def names_of(subject: str) -> Iterator[str]:
    """A subject with and without its kind."""
    yield subject
    yield subject.partition(":")[2]


@dataclass(frozen=True)
class Needles:
    """Texts in all their spellings, and the values that are rare enough."""

    texts: Mapping[str, str]  # bytes as latin-1 → what it is
    numbers: frozenset[bytes]
    dates: frozenset[bytes]
    doubles: NDArray[np.uint64]

    @classmethod
    def of(cls, subjects: Iterable[str], names: Iterable[str], world: World, limits: Iterable[int]) -> "Needles":
        """Everything that is somebody's."""
        texts = {}
        for kind, words in (("subject", [n for s in subjects for n in names_of(s)]), ("name", names)):
            for number, word in enumerate(words):
                for how, spelled in spellings(word).items():
                    texts[spelled.decode("latin-1")] = f"{kind} {number} as {how}"
        numbers, dates, doubles = set[bytes](), set[bytes](), set[float]()
        for column in (c for name in world.catalog.datasets for c in world.columns(name).values()):
            values = column.compressed()
            if values.dtype.kind == "M":
                dates.update(day.encode() for day in map(str, values) if int(day[:4]) < _YEARS_BEFORE)
            elif values.dtype.kind in "fi":
                doubles.update(float(value) for value in values if len(_digits(repr(float(value)))) >= DIGITS_MIN)
        for value in (*doubles, *map(float, limits)):
            forms = {repr(abs(value)), f"{abs(value):.2f}", f"{abs(value):.0f}"}
            numbers.update(form.encode() for form in forms if len(_digits(form)) >= DIGITS_MIN)
        rare = np.array(sorted(doubles)).view(np.uint64)
        return cls(texts, frozenset(numbers), frozenset(dates), np.sort(rare))

    def found_in(self, places: Places) -> list[str]:
        """What was found, and where; never the value itself."""
        return [f"{what} in {place}" for place, content in places.items() for what in self._found(content)]

    def _found(self, content: bytes) -> Iterator[str]:
        text = content.decode("latin-1")
        yield from (what for needle, what in self.texts.items() if needle in text)
        yield from (f"a number ({len(token)} characters)" for token in self.numbers & set(_NUMBER.findall(content)))
        yield from ("a date" for _ in self.dates & set(_DATE.findall(content)))
        for order in ("<u8", ">u8"):
            for shift in range(min(8, len(content))):
                words = np.frombuffer(content, order, (len(content) - shift) // 8, shift)
                yield from (f"a double ({order})" for _ in range(int(np.isin(words, self.doubles).sum())))


def _digits(form: str) -> str:
    """The digits of a number that tell something: `1000000` has one."""
    return form.partition("e")[0].replace(".", "").strip("-0")
