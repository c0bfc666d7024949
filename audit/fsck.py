"""The first verdict on a log, its integrity: is what is stored what was signed?

Every tile of every level and the root are derived anew from the entry bundles alone and compared with the stored tiles
and the signed checkpoint. Entries are read strictly, their times never go back. Each good entry is handed on in order,
so that one reading serves the second verdict too (sandbox/replay). Pure over a `LogSource`; memory does not grow with
the log: a list of at most 256 hashes a level.

Of a part of a log (`first`, `end`) the bundles there are derived, and stored hashes lead from them to the root.

Source: c2sp.org/tlog-tiles; RFC 6962 section 2.1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from audit.errors import EntryUnknown, EventInvalid, LedgerCorrupt, ProofInvalid
from audit.event import Event, decode
from audit.findings import Findings
from audit.merkle import EMPTY_ROOT, leaf_hash, root_hash, tree_hash
from audit.note import Checkpoint, Note
from audit.policy import NONE, Policy
from audit.source import LogSource
from audit.tiles import ENTRIES, TILE_HEIGHT, TILE_WIDTH, Tile, decode_tile, tile_reader

MISSING_MAX: Final = 100  # bundles; a checkpoint may claim any size, and nobody should count to it

_PUBLISHED: Final = "public/checkpoint"

TEXTS: Final = {
    "checkpoint_malformed": "the checkpoint is no signed note of a tree's size and root",
    "checkpoint_unsigned": "no log of the policy signed the checkpoint, or a signature under it is false",
    "quorum_missing": "the checkpoint is not cosigned by the policy's quorum of witnesses",
    "bundle_missing": "the entry bundle is not there",
    "bundle_malformed": "the entry bundle is cut, too long or wrongly divided from here on",
    "tile_missing": "the tile is not there",
    "tile_malformed": "the tile is not as long as its width says",
    "entry_missing": "the entry is empty or not there",
    "entry_malformed": "the entry is not canonical JSON of a known kind",
    "leaf_differs": "the entry is not the one that the tile of level 0 has the hash of",
    "tile_differs": "the tile is not what the entries under it lead to",
    "time_back": "the entry is older than the one before it",
    "root_differs": "the entries do not lead to the signed root",
    "head_differs": "the head row does not say what its checkpoint and the last entry say",
    "published_differs": "the published checkpoint is not the log's, or not of an earlier state of it",
    "rows_superfluous": "there are rows of entries or hashes outside of the log",
}

Visit = Callable[[int, Event, datetime], None]
Hashes = list[bytes | None]


@dataclass(frozen=True)
class Integrity:
    """What was checked, and what was found.

    Attributes:
        checkpoint: as the log signed it; None where it did not: then nothing else was looked at.
        entries: how many were read.
        whole_until: all entries from the first one asked for up to this index were good and handed on.
        last_time: of the last good entry.
        findings: in the order of the log.
    """

    checkpoint: Checkpoint | None
    entries: int
    whole_until: int
    last_time: datetime | None
    findings: Findings


def check_log(
    source: LogSource,
    policy: Policy,
    visit: Visit,
    *,
    first: int = 0,
    end: int | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Integrity:
    """Check a log, or the part of it that the bundles around entries first .. end - 1 make up.

    Args:
        source: the log.
        policy: whose log it must be, and who must have cosigned it.
        visit: gets index, event and time of each good entry in order, up to the first that is not.
        first: index of the first entry; the bundle it lies in is read whole.
        end: index behind the last entry; None = all. Where the part is less than the log, the rest is taken as stored.
        progress: called after each bundle with the entries read and to be read.

    Raises:
        EntryUnknown: there is no checkpoint.
    """
    findings = Findings(TEXTS)
    # (1) The checkpoint, signed and cosigned as the policy asks.
    checkpoint = _read_checkpoint(source.checkpoint, policy, findings, "checkpoint")
    if checkpoint is None:
        findings.cut = "without a signed checkpoint nobody knows what the log should be"
        return Integrity(None, 0, first, None, findings)
    # (2) Every tile, from the bundles up.
    walk = _Walk(source, checkpoint.size, first, checkpoint.size if end is None else end, visit, findings, progress)
    root = walk.root()
    # (3) The root.
    if root is not None and root != checkpoint.root:
        findings.add("root_differs", None, "checkpoint")
    return Integrity(checkpoint, walk.entries, walk.whole_until, walk.last_time, findings)


def check_published(source: LogSource, policy: Policy, published: str | None, integrity: Integrity) -> None:
    """Add to a check of a whole log what is shown of it: a checkpoint that the quorum cosigned, and of its past.

    A log's own newest checkpoint is signed with every commit, and cosigned a little later.

    Args:
        source: the log that was checked.
        policy: with the quorum.
        published: the newest cosigned checkpoint; None = there is none.
        integrity: what was found so far.
    """
    findings, log = integrity.findings, integrity.checkpoint
    if published is None:
        if policy.quorum != NONE:
            findings.add("quorum_missing", None, _PUBLISHED, "none was ever published")
        return
    seen = _read_checkpoint(lambda: published, policy, findings, _PUBLISHED)
    if seen is None or log is None:
        return
    if seen.origin != log.origin or seen.size > log.size or _root_at(source, seen.size, log.size) != seen.root:
        findings.add("published_differs", None, _PUBLISHED)
    elif seen.size < log.size and policy.quorum != NONE:
        findings.lacks(f"entries from {seen.size} on are not cosigned by the quorum yet")


def _root_at(source: LogSource, size: int, of: int) -> bytes | None:
    """The root that the first `size` of so many entries have by the stored hashes, which were held against them."""
    try:
        return root_hash(size, tile_reader(of, lambda tile: decode_tile(source.read(tile), tile.width)))
    except (EntryUnknown, ProofInvalid, LedgerCorrupt):
        return None


def _read_checkpoint(read: Callable[[], str], policy: Policy, findings: Findings, place: str) -> Checkpoint | None:
    try:
        note = Note.parse(read())
        checkpoint = Checkpoint.parse(note.text)
    except (ProofInvalid, LedgerCorrupt):
        findings.add("checkpoint_malformed", None, place)
        return None
    try:
        signers = policy.signers(note)
        policy.check_log(checkpoint, signers)
    except ProofInvalid:
        findings.add("checkpoint_unsigned", None, place)
        return None
    try:
        policy.check_quorum(signers)
    except ProofInvalid:
        findings.add("quorum_missing", None, place)
    return checkpoint


class _TooMuchMissing(Exception):
    """More bundles are missing than it makes sense to count."""


class _Walk:
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
