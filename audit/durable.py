"""Files that are whole or not there, whatever happens: what was written is on the disk when a call returns.

A file is written under another name beside its own, synced, renamed, and then its folder is synced. The folder stays
open throughout, so that an error of writing it back is not lost between two openings. Known hole: after a sync that
failed, what the kernel's cache says is not what the disk holds; so nothing is read back, the caller stops.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_FRESH: Final = ".new"  # no path of a log ends so


def write_durably(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put a file in its place, replacing what is there; for one writer at a time.

    Raises:
        OSError: what was there before is there still, or the new file is; never a part of it.
    """
    make_folder(path.parent)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fresh = path.name + _FRESH
        with suppress(FileNotFoundError):
            os.unlink(fresh, dir_fd=folder)  # of a writer that was killed
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode, dir_fd=folder)
        with os.fdopen(file, "wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(file)
        os.replace(fresh, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
    finally:
        os.close(folder)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, each durable in the one that holds it; raises OSError."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with suppress(FileExistsError):
        path.mkdir()
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make durable what a folder lists; raises OSError."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
