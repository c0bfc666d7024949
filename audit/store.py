"""The log in its tables: reading and writing rows, and re-deriving the right edge when a ledger opens.

Plain SQL text with prepared-statement caching, because these statements are on the way of every call.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from audit.edge import Edge, Growth
from audit.errors import EventInvalid, LedgerCorrupt, ProofInvalid
from audit.event import decode, format_time, parse_time
from audit.merkle import EMPTY_ROOT, HASH_BYTES, leaf_hash, root_hash, tree_hash
from audit.note import Checkpoint, Note, NoteSigner, NoteVerifier
from audit.prepared import driver
from audit.tiles import ENTRIES, TILE_WIDTH, Tile, tile_of, tile_reader

_HEAD = "SELECT size, root, checkpoint, time FROM head WHERE one = 1"
_FIRST_HEAD = "INSERT INTO head (one, size, root, checkpoint, time) VALUES (1, ?, ?, ?, ?)"
_NEXT_HEAD = "UPDATE head SET size = ?, root = ?, checkpoint = ?, time = ? WHERE one = 1"
_LAST_INDEX = "SELECT max(idx) FROM entry"
_ADD_ENTRY = "INSERT INTO entry (idx, leaf, body) VALUES (?, ?, ?)"
_ADD_SUBTREE = "INSERT INTO subtree (level, idx, hash) VALUES (?, ?, ?)"
_ENTRIES = "SELECT idx, leaf, body FROM entry WHERE idx >= ? AND idx < ? ORDER BY idx"
_LEAVES = "SELECT leaf FROM entry WHERE idx >= ? AND idx < ? ORDER BY idx"
_SUBTREES = "SELECT hash FROM subtree WHERE level = ? AND idx >= ? AND idx < ? ORDER BY idx"


@dataclass(frozen=True)
class Head:
    """The state of the log: size, root, the signed checkpoint that says so, and the last entry's time."""

    size: int
    root: bytes
    checkpoint: str
    time: datetime

    @classmethod
    def signed(cls, edge: Edge, time: datetime, origin: str, signer: NoteSigner) -> "Head":
        """Sign the checkpoint of a tree."""
        root = edge.root
        checkpoint = Checkpoint(origin, edge.size, root)
        return cls(edge.size, root, signer.sign(checkpoint.text, int(time.timestamp())), time)


def read_head(connection: Connection) -> Head | None:
    """Read the head row.

    Raises:
        LedgerCorrupt: it is malformed.
    """
    row = driver(connection).execute(_HEAD).fetchone()
    if row is None:
        return None
    size, root, checkpoint, time = row
    # SQLite keeps any type in any column, and a file may have been edited.
    if (type(size), type(root), type(checkpoint), type(time)) != (int, bytes, str, str):
        raise LedgerCorrupt("the head is malformed")
    try:
        return Head(size, root, checkpoint, parse_time(time))
    except EventInvalid as error:
        raise LedgerCorrupt("the head's time is malformed") from error


def write_head(connection: Connection, head: Head, *, first: bool = False) -> None:
    """Write the head row."""
    values = (head.size, head.root, head.checkpoint, format_time(head.time))
    driver(connection).execute(_FIRST_HEAD if first else _NEXT_HEAD, values)


def write_entries(connection: Connection, bodies: Sequence[bytes], leaves: Sequence[bytes], growth: Growth) -> None:
    """Write new entries and the subtree hashes that they complete."""
    first = growth.old_size
    rows = [(first + at, leaf, body) for at, (leaf, body) in enumerate(zip(leaves, bodies, strict=True))]
    driver(connection).executemany(_ADD_ENTRY, rows)
    if hashes := growth.tile_hashes():
        driver(connection).executemany(_ADD_SUBTREE, hashes)


def read_entries(connection: Connection, first: int, count: int) -> list[tuple[int, bytes]]:
    """Read entries by index, each checked against its leaf hash.

    Raises:
        LedgerCorrupt: one is missing or is not what was hashed.
    """
    rows = connection.exec_driver_sql(_ENTRIES, (first, first + count)).all()
    if len(rows) != count:
        raise LedgerCorrupt(f"entries are missing from {first} on")
    for index, leaf, body in rows:
        if not isinstance(body, bytes) or leaf_hash(body) != leaf:
            raise LedgerCorrupt(f"entry {index} is not what was hashed")
    return [(index, body) for index, _, body in rows]


def read_bound_entries(connection: Connection, first: int, size: int) -> Iterator[bytes]:
    """Read entries first .. size - 1 of a log whose right edge was re-derived, each led up to that edge beforehand.

    Raises:
        LedgerCorrupt: a hash on the way does not fit.
    """
    for level, full in _full_tiles(size):
        if level:  # 1/256 of the log and less: all of them, so that every bundle's hash hangs on the edge
            for index in range(full):
                _check_tile(connection, level, index)
    for bundle in range(first // TILE_WIDTH, -(-size // TILE_WIDTH)):
        begin = bundle * TILE_WIDTH
        if begin + TILE_WIDTH <= size:
            _check_tile(connection, 0, bundle)
        for index, body in read_entries(connection, begin, min(TILE_WIDTH, size - begin)):
            if index >= first:
                yield body


def read_tile(connection: Connection, tile: Tile) -> list[bytes]:
    """Read the hashes of a tile.

    Raises:
        LedgerCorrupt: one is missing or malformed.
    """
    first = tile.index * TILE_WIDTH
    if tile.level == 0:
        rows = connection.exec_driver_sql(_LEAVES, (first, first + tile.width))
    else:
        rows = connection.exec_driver_sql(_SUBTREES, (tile.level, first, first + tile.width))
    hashes = list(rows.scalars())
    if len(hashes) != tile.width or any(type(item) is not bytes or len(item) != HASH_BYTES for item in hashes):
        raise LedgerCorrupt(f"hashes are missing from {tile.path}, or malformed")
    return hashes


def recover(connection: Connection, verifiers: Sequence[NoteVerifier], origin: str) -> tuple[Head, Edge]:
    """Read head and right edge, re-derived: what the next append will build upon is what was signed.

    Older entries are not read again here; that is the business of a full check.

    Args:
        connection: inside a transaction.
        verifiers: the log's keys; the first must have signed, and what the others signed must verify too.
        origin: the log's name.

    Raises:
        LedgerCorrupt: head, checkpoint, entries or hashes disagree.
    """
    head = read_head(connection)
    if head is None:
        raise LedgerCorrupt("the log has no head")
    _check_checkpoint(head, verifiers, origin)
    if connection.exec_driver_sql(_LAST_INDEX).scalar_one() != (head.size - 1 if head.size else None):
        raise LedgerCorrupt("the log holds more or fewer entries than its head says")
    _check_last_bundle(connection, head)
    _check_last_tiles(connection, head.size)
    edge = Edge.read(head.size, tile_reader(head.size, lambda tile: read_tile(connection, tile)))
    if edge.root != head.root:
        raise LedgerCorrupt("the right edge of the tree does not lead to the signed root")
    return head, edge


def root_at(connection: Connection, size: int, stored: int) -> bytes:
    """Return the root that the first `size` of `stored` entries have."""
    return root_hash(size, tile_reader(stored, lambda tile: read_tile(connection, tile)))


def create(connection: Connection, head: Head) -> None:
    """Write the head of an empty log.

    Raises:
        LedgerCorrupt: there are entries without a head.
    """
    if head.root != EMPTY_ROOT or connection.exec_driver_sql(_LAST_INDEX).scalar_one() is not None:
        raise LedgerCorrupt("the log has entries but no head")
    write_head(connection, head, first=True)


def _check_checkpoint(head: Head, verifiers: Sequence[NoteVerifier], origin: str) -> None:
    try:
        note = Note.parse(head.checkpoint)
        if verifiers[0] not in note.verify(verifiers):
            raise ProofInvalid("not signed by the log's first key")
        checkpoint = Checkpoint.parse(note.text)
    except ProofInvalid as error:
        raise LedgerCorrupt(f"the log's checkpoint does not verify under this key: {error}") from error
    if checkpoint != Checkpoint(origin, head.size, head.root):
        raise LedgerCorrupt("the log's checkpoint is of another origin, size or root than its head")


def _check_last_bundle(connection: Connection, head: Head) -> None:
    bundle = tile_of(ENTRIES, max(head.size - 1, 0) // TILE_WIDTH, head.size)
    if bundle is None:
        return
    entries = read_entries(connection, bundle.index * TILE_WIDTH, bundle.width)
    try:
        _, time = decode(entries[-1][1])
    except EventInvalid as error:
        raise LedgerCorrupt("the last entry is no event") from error
    if time != head.time:
        raise LedgerCorrupt("the last entry is of another time than the head")


def _check_last_tiles(connection: Connection, size: int) -> None:
    """Check that the last full tile of each level is what the level above says."""
    for level, full in _full_tiles(size):
        _check_tile(connection, level, full - 1)


def _full_tiles(size: int) -> Iterator[tuple[int, int]]:
    """List each level that has full tiles, and how many."""
    level, full = 0, size // TILE_WIDTH
    while full:
        yield level, full
        level, full = level + 1, full // TILE_WIDTH


def _check_tile(connection: Connection, level: int, index: int) -> None:
    total = tree_hash(read_tile(connection, Tile(level, index)))
    above = connection.exec_driver_sql(_SUBTREES, (level + 1, index, index + 1)).scalar_one_or_none()
    if total != above:
        raise LedgerCorrupt(f"full tile {index} of level {level} is not what the level above says")
