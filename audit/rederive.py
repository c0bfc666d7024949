"""The tree of a log derived anew from its entry bundles, every tile compared with the stored one on the way.

Pure over a `LogSource`. What is found has the codes of audit/fsck.py.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from audit.errors import EntryUnknown, EventInvalid, LedgerCorrupt, ProofInvalid
from audit.event import decode
from audit.findings import Findings
from audit.kinds import Event
from audit.merkle import EMPTY_ROOT, leaf_hash, tree_hash
from audit.source import LogSource
from audit.tiles import ENTRIES, TILE_HEIGHT, TILE_WIDTH, Tile, decode_tile

MISSING_MAX: Final = 100  # bundles; a checkpoint may claim any size, and nobody should count to it

Visit = Callable[[int, Event, datetime], None]
Hashes = list[bytes | None]


class _TooMuchMissing(Exception):
    """More bundles are missing than it makes sense to count."""


class Walk:
    """Goes through the tree from left to right; each tile is compared as soon as what lies under it was derived."""

    def __init__(
        self,
        source: LogSource,
        size: int,
        first: int,
        end: int,
        visit: Visit,
        findings: Findings,
        progress: Callable[[int, int], None],
    ) -> None:
        self._source, self._size, self._findings = source, size, findings
        self._visit, self._progress = visit, progress
        self._first = min(first, size) // TILE_WIDTH * TILE_WIDTH
        self._end = min(-(-end // TILE_WIDTH) * TILE_WIDTH, size)
        self.entries = 0
        self.whole_until = self._first
        self.last_time: datetime | None = None
        self._missing = 0

    def root(self) -> bytes | None:
        """The root, derived; None where what is there does not lead to it."""
        try:
            edges = [self._hashes(tile) for tile in _right_edge(self._size)]
        except _TooMuchMissing:
            self._findings.cut = f"{MISSING_MAX} bundles are missing; the rest was not looked for"
            return None
        below: Hashes = []
        for hashes in reversed(edges):
            below = [_total(hashes + below)]
        root = below[0] if below else EMPTY_ROOT
        if root is None and not self._findings.total:
            self._findings.cut = "what is there does not lead to the signed root: upper tiles are missing"
        return root

    def _hashes(self, tile: Tile) -> Hashes:
        stored = self._stored(tile)
        known: Hashes = list(stored) if stored else [None] * tile.width
        derived: Hashes = []
        explained = [False] * tile.width
        if tile.level == 0:
            derived = self._leaves(tile, known)
        else:
            for place, one in enumerate(known):
                before = self._findings.total
                derived.append(self._subtree(tile.level - 1, tile.index * TILE_WIDTH + place, one))
                explained[place] = self._findings.total > before
        if stored is not None and derived != known:
            self._compare(tile, derived, known, explained)
        return derived

    def _compare(self, tile: Tile, derived: Hashes, known: Hashes, explained: list[bool]) -> None:
        """Name the first hash that differs, but for those that do so because of what was found under them."""
        for place, (one, other) in enumerate(zip(derived, known, strict=True)):
            if one != other and not explained[place]:
                code = "tile_differs" if tile.level else "leaf_differs"
                self._findings.add(code, _first_entry(tile, place), tile.path)
                return

    def _subtree(self, level: int, index: int, stored: bytes | None) -> bytes | None:
        tile = Tile(level, index)
        begin, end = _first_entry(tile, 0), _first_entry(tile, TILE_WIDTH)
        outside = end <= self._first or begin >= self._end
        return stored if outside else _total(self._hashes(tile))

    def _stored(self, tile: Tile) -> Sequence[bytes] | None:
        try:
            return decode_tile(self._source.read(tile), tile.width)
        except EntryUnknown:
            # A part of a log need not hold a tile that it covers in part.
            if self._first <= _first_entry(tile, 0) and min(_first_entry(tile, tile.width), self._size) <= self._end:
                self._findings.add("tile_missing", _first_entry(tile, 0), tile.path)
        except (ProofInvalid, LedgerCorrupt):
            self._findings.add("tile_malformed", _first_entry(tile, 0), tile.path)
        return None

    def _leaves(self, tile: Tile, known: Hashes) -> Hashes:
        begin = tile.index * TILE_WIDTH
        if not self._first <= begin < self._end:  # the ragged end of a log whose part was asked for
            return known
        bundle = Tile(ENTRIES, tile.index, tile.width)
        try:
            entries, whole = _split(self._source.read(bundle), tile.width)
        except EntryUnknown:
            self._miss(bundle, begin)
            return known
        except (ProofInvalid, LedgerCorrupt):
            entries, whole = [], False
        for index, body in enumerate(entries, begin):
            self._entry(index, body)
        if not whole:
            self._findings.add("bundle_malformed", begin + len(entries), bundle.path)
        self.entries += len(entries)
        self._progress(self.entries, self._end - self._first)
        return [leaf_hash(body) for body in entries] + known[len(entries) :]

    def _miss(self, bundle: Tile, begin: int) -> None:
        self._findings.add("bundle_missing", begin, bundle.path)
        self._missing += 1
        if self._missing >= MISSING_MAX:
            raise _TooMuchMissing

    def _entry(self, index: int, body: bytes) -> None:
        try:
            event, time = decode(body)
        except EventInvalid:
            self._findings.add("entry_malformed" if body else "entry_missing", index)
            return
        if self.last_time is not None and time < self.last_time:
            self._findings.add("time_back", index)
        self.last_time = time
        if index == self.whole_until:
            self._visit(index, event, time)
            self.whole_until = index + 1


def _split(bundle: bytes, width: int) -> tuple[list[bytes], bool]:
    """As many whole entries as there are, at most `width`; and whether that is all and nothing follows."""
    entries: list[bytes] = []
    at = 0
    while at < len(bundle) and len(entries) < width:
        start = at + 2
        stop = start + int.from_bytes(bundle[at:start], "big")
        if stop > len(bundle):
            break
        entries.append(bundle[start:stop])
        at = stop
    return entries, len(entries) == width and at == len(bundle)


def _right_edge(size: int) -> list[Tile]:
    """The tiles that no other tile lies above, the highest (which covers the oldest entries) first."""
    edge = []
    level, hashes = 0, size
    while hashes:
        if hashes % TILE_WIDTH:
            edge.append(Tile(level, hashes // TILE_WIDTH, hashes % TILE_WIDTH))
        level, hashes = level + 1, hashes >> TILE_HEIGHT
    return edge[::-1]


def _first_entry(tile: Tile, place: int) -> int:
    return (tile.index * TILE_WIDTH + place) << (TILE_HEIGHT * tile.level)


def _total(hashes: Hashes) -> bytes | None:
    known = [one for one in hashes if one is not None]
    return tree_hash(known) if len(known) == len(hashes) else None
