"""What a check finds: a bounded list, a count for each code, and the first bad index."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

LISTED_MAX: Final = 100  # findings told one by one; a broken log can have millions, and the first says where to look


class Verdict(StrEnum):
    """How a check ended."""

    SOUND = "sound"
    BROKEN = "broken"
    UNCHECKED = "unchecked"  # it could not be made, or not to the end; nothing was found up to there


@dataclass(frozen=True)
class Finding:
    """Something that is not as the laws of the log say. It repeats names of the log's own, never a stored value."""

    code: str
    text: str
    index: int | None  # the entry at fault, or the first one under a hash; None where no entry says anything about it
    place: str  # a tile's path or a table's name; "" where the index says it all


class Findings:
    """Findings of one check. `texts` says each of its codes in plain words."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts
        self.counts: Counter[str] = Counter()
        self.listed: list[Finding] = []
        self.first_bad: int | None = None
        self.unjudged: list[str] = []  # what was not looked at, each with its reason
        self.cut = ""  # why the check did not come to its end; "" where it did

    def add(self, code: str, index: int | None, place: str = "", detail: str = "") -> None:
        """Note a finding; `detail` says more in the log's own words or numbers."""
        self.counts[code] += 1
        if index is not None and (self.first_bad is None or index < self.first_bad):
            self.first_bad = index
        if len(self.listed) < LISTED_MAX:
            text = f"{self._texts[code]}: {detail}" if detail else self._texts[code]
            self.listed.append(Finding(code, text, index, place))

    def lacks(self, what: str) -> None:
        """Note that something was not looked at, and why."""
        if what not in self.unjudged:
            self.unjudged.append(what)

    @property
    def total(self) -> int:
        """How many findings there are, listed or not."""
        return self.counts.total()

    @property
    def verdict(self) -> Verdict:
        """Broken as soon as there is a finding; sound only where the check came to its end."""
        if self.total:
            return Verdict.BROKEN
        return Verdict.UNCHECKED if self.cut else Verdict.SOUND
