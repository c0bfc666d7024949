"""A log as a folder that a stranger's tools can verify: C2SP tlog-tiles under one checkpoint.

`files_of` lists what belongs into the folder, `write_file` puts it there. Between the two may lie a network: what
arrives is written only where a log's files lie, only in a log's shape, and never over something else. So a folder that
was filled once cannot be turned into another history, and a re-export only adds what is new.

A part of a log has the bundles of that part, the hash tiles of level 0 over them, every level above (1/255 of the
hashes), and the right edge: enough to prove each of its entries, and each size from `first` to `end`, against the
checkpoint. Bundles are whole, so up to 255 neighbours come along. Which entries a folder holds is told by the bundles
that lie in it: `entries_in`.

Sources: c2sp.org/tlog-tiles; for durable writing the practice of FiloSottile/sunlight and transparency-dev/tessera.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from audit.durable import write_durably
from audit.errors import EntryUnknown, ExportDiffers, ExportUnwritable, ProofInvalid
from audit.merkle import EMPTY_ROOT, consistency_proof, root_hash, verify_consistency
from audit.note import NOTE_BYTES_MAX, Checkpoint, Note, head_of
from audit.source import CHECKPOINT, FolderSource, LogSource, hash_reader
from audit.tiles import ENTRIES, LEVEL_MAX, TILE_WIDTH, Tile, decode_bundle, decode_tile, tile_of


def files_of(
    source: LogSource, first: int = 0, end: int | None = None, *, held: int = 0
) -> Iterator[tuple[str, bytes]]:
    """List path and bytes of each file of a log or of a part of it; the checkpoint was read first and comes last.

    Args:
        source: where the log is read from; it may grow meanwhile.
        first: index of the first entry wanted.
        end: index behind the last entry wanted; None = all that the checkpoint covers.
        held: size of the checkpoint that the receiving folder has, if any: what proves the new one an extension of it
            comes along. For a part that begins above it alone; a whole log needs no hint.

    Raises:
        EntryUnknown: the log has no such entries, or a tile is missing.
    """
    note = source.checkpoint()
    size = head_of(note).size
    end = size if end is None else end
    if not 0 <= first <= end <= size or held > size:
        raise EntryUnknown(f"no entries {first} to {end}", public=f"the log has {size} entries")
    for tile in tiles_in(size, first, end, held):
        yield tile.path, source.read(tile)
    yield CHECKPOINT, note.encode()


def tiles_in(size: int, first: int, end: int, held: int = 0) -> Iterator[Tile]:
    """List the bundles and tiles that entries first .. end - 1 of a log of `size` entries need to be proved."""
    span = range(first // TILE_WIDTH, -(-end // TILE_WIDTH) if end > first else 0)
    edges = {at // TILE_WIDTH for at in (size, held, first, end) if at % TILE_WIDTH}
    for level, indices in ((ENTRIES, span), (0, sorted(edges | {*span}))):
        yield from filter(None, (tile_of(level, index, size) for index in indices))
    for level in range(1, LEVEL_MAX + 1):
        index = 0
        while tile := tile_of(level, index, size):
            yield tile
            index += 1


def write_file(folder: Path, path: str, data: bytes) -> None:
    """Put a file of a log into a folder, durably; what is there already stays as it is. For one writer at a time.

    Args:
        folder: of one log; made where it is missing.
        path: of a tile or a bundle, or `checkpoint`, which goes last: the tiles in the folder must lead to its root.
        data: the file's bytes. Signatures of a checkpoint are not checked here.

    Raises:
        ProofInvalid: no path of a log, or no such file's shape, or the tiles do not lead to the checkpoint's root.
        ExportDiffers: the folder holds another log, a later state of it, or another history. It was not changed.
        ExportUnwritable: the disk is full, fails or forbids it.
    """
    try:
        if path == CHECKPOINT:
            _write_checkpoint(folder, data)
        else:
            _write_tile(folder, Tile.parse(path), data)
    except OSError as error:
        raise ExportUnwritable(f"cannot write {path}", public=f"{folder / path}: {error.strerror}") from error


def entries_in(folder: Path) -> list[range]:
    """Tell which entries a folder holds, as ranges in order; a partial bundle counts as far as it goes.

    Raises:
        EntryUnknown: there is no checkpoint in it.
        ProofInvalid: the checkpoint is malformed.
    """
    size = head_of(FolderSource(folder).checkpoint()).size
    found: list[range] = []
    for index in range(-(-size // TILE_WIDTH)):
        width = max(_widths(folder, ENTRIES, index), default=0)
        first = index * TILE_WIDTH
        entries = range(first, min(first + width, size))
        if found and found[-1].stop == first:
            found[-1] = range(found[-1].start, entries.stop)
        elif entries:
            found.append(entries)
    return found


def _write_tile(folder: Path, tile: Tile, data: bytes) -> None:
    # (1) Its shape.
    if tile.level != ENTRIES:
        decode_tile(data, tile.width)
    elif len(decode_bundle(data)) != tile.width:
        raise ProofInvalid("a bundle has not as many entries as its width says")
    # (2) What is there of it in other widths begins alike: hashes and entries are only ever added.
    widths = _widths(folder, tile.level, tile.index)
    for width in widths:
        known = (folder / Tile(tile.level, tile.index, width).path).read_bytes()
        longer, shorter = (data, known) if tile.width >= width else (known, data)
        if not longer.startswith(shorter) or (tile.width == width and data != known):
            raise ExportDiffers(f"{tile.path} differs", public=f"{folder / tile.path}")
    # (3) Written once.
    if tile.width not in widths:
        write_durably(folder / tile.path, data, 0o444)
    # (4) Its partial forerunners are of no more use.
    if tile.width == TILE_WIDTH:
        _remove(folder, [Tile(tile.level, tile.index, width) for width in widths if width < TILE_WIDTH])


def _write_checkpoint(folder: Path, data: bytes) -> None:
    if len(data) > NOTE_BYTES_MAX:
        raise ProofInvalid("a checkpoint is too long")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ProofInvalid("a checkpoint is not text") from error
    new, source = head_of(text), FolderSource(folder)
    if _read_root(source, new) != new.root:
        raise ProofInvalid("the tiles do not lead to the checkpoint's root")
    if not (folder / CHECKPOINT).exists() or _adds(source, text, new):
        write_durably(folder / CHECKPOINT, data)
    # Done whatever was there: an export that was killed here before is finished by the next.
    for tile in tiles_in(new.size, new.size, new.size):
        if tile.width < TILE_WIDTH:
            _remove_shorter(folder, tile)
    if bundle := tile_of(ENTRIES, new.size // TILE_WIDTH, new.size):
        _remove_shorter(folder, bundle)


def _adds(source: LogSource, text: str, new: Checkpoint) -> bool:
    """Whether a checkpoint says more than the one that is there, which may have more cosignatures."""
    old = source.checkpoint()
    _check_extends(source, head_of(old), new)
    return head_of(old) != new or not {*Note.parse(text).signatures} <= {*Note.parse(old).signatures}


def _read_root(source: LogSource, checkpoint: Checkpoint) -> bytes:
    if not checkpoint.size:
        return EMPTY_ROOT
    try:
        return root_hash(checkpoint.size, hash_reader(source, checkpoint.size))
    except EntryUnknown as error:
        raise ProofInvalid("a tile on the way to the checkpoint's root is missing") from error


def _check_extends(source: LogSource, old: Checkpoint, new: Checkpoint) -> None:
    if old.origin != new.origin:
        raise ExportDiffers("another log", public=f"it holds the log {old.origin}")
    if old.size > new.size:
        raise ExportDiffers("a later state", public=f"it holds {old.size} entries already, this one has {new.size}")
    if not old.size:
        return
    try:
        read = hash_reader(source, new.size)
        verify_consistency(old.size, new.size, old.root, new.root, consistency_proof(old.size, new.size, read))
    except EntryUnknown as error:
        hint = f"what proves it an extension is missing: export from entry {old.size} or below"
        raise ExportDiffers("extension not proved", public=hint) from error
    except ProofInvalid as error:
        raise ExportDiffers("another history", public="the log does not go on from the one it holds") from error


def _widths(folder: Path, level: int, index: int) -> list[int]:
    """List in which widths a tile lies in a folder."""
    full = folder / Tile(level, index).path
    widths = [TILE_WIDTH] if full.exists() else []
    with suppress(FileNotFoundError):
        names = os.listdir(f"{full}.p")
        widths += [int(name) for name in names if name.isdecimal() and 0 < int(name) < TILE_WIDTH]
    return widths


def _remove_shorter(folder: Path, tile: Tile) -> None:
    widths = _widths(folder, tile.level, tile.index)
    if max(widths, default=0) >= tile.width:
        _remove(folder, [Tile(tile.level, tile.index, width) for width in widths if width < tile.width])


def _remove(folder: Path, tiles: list[Tile]) -> None:
    for tile in tiles:
        (folder / tile.path).unlink(missing_ok=True)
    if tiles:
        with suppress(OSError):  # not empty: other widths, or somebody else's file
            (folder / tiles[0].path).parent.rmdir()
