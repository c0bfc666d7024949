"""An export is verified while it comes: any file that does not fit its neighbours ends it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import ProofInvalid
from audit.export import files_of
from audit.export_check import ExportCheck
from audit.source import CHECKPOINT
from tests.unit.audit.memory import MemorySource

PARTS = [*((n, 0, n) for n in (1, 255, 256, 257, 1000, 70_000)), (1000, 300, 700), (70_000, 66_000, 66_001)]


def check(files: list[tuple[str, bytes]]) -> ExportCheck:
    """Take the files in order."""
    made = ExportCheck()
    for path, data in files:
        made.take(path, data)
    made.finish()
    return made


@pytest.mark.parametrize(("size", "first", "end"), PARTS)
def test_an_honest_export_passes(size: int, first: int, end: int) -> None:
    """The whole log or a part of it; every entry was seen."""
    files = [file for file in files_of(MemorySource(size), first, end) if file[0] != CHECKPOINT]
    assert check(files).entries >= end - first


@given(data=st.data(), size=st.sampled_from((257, 1000)))
def test_any_changed_byte_is_found(data: st.DataObject, size: int) -> None:
    """In a bundle or in a tile of hashes over entries; what only the root can tell, write_file leads to it."""
    files = [file for file in files_of(MemorySource(size)) if file[0] != CHECKPOINT]
    covered = [n for n, (path, _) in enumerate(files) if path.startswith(("tile/entries", "tile/0/"))]
    at = data.draw(st.sampled_from(covered))
    path, content = files[at]
    byte = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[byte] ^= data.draw(st.integers(1, 255))
    files[at] = path, bytes(changed)
    with pytest.raises(ProofInvalid):
        check(files)


@pytest.mark.parametrize("prefix", ["tile/0/", "tile/1/"])
def test_a_missing_tile_is_found(prefix: str) -> None:
    """A bundle without its tile, a full tile without the one above."""
    files = [file for file in files_of(MemorySource(1000)) if file[0] != CHECKPOINT]
    with pytest.raises(ProofInvalid):
        check([file for file in files if not file[0].startswith(prefix)])


@pytest.mark.parametrize("path", ["../x", "tile/0/000/..", "/etc/passwd", "tile/entries/0", "checkpoint", ""])
def test_no_other_path_is_taken(path: str) -> None:
    """What is no path of a tile or bundle is refused before a byte is looked at."""
    with pytest.raises(ProofInvalid):
        ExportCheck().take(path, b"")
