"""A log as a folder: what belongs into it, that it is written durably and once, and what it refuses."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.errors import EntryUnknown, ExportDiffers, ExportUnwritable, ProofInvalid
from audit.export import entries_in, files_of, tiles_in, write_file
from audit.merkle import consistency_proof, inclusion_proof, leaf_hash, verify_consistency, verify_inclusion
from audit.note import Checkpoint, Note
from audit.source import CHECKPOINT, FolderSource, LogSource
from audit.tiles import ENTRIES, Tile, bundle_of, decode_bundle, decode_tile, tile_reader, tiles_of
from tests.unit.audit.memory import MemorySource, body
from tests.unit.audit.vectors import ORIGIN, signer

SIZES = [0, 1, 5, 255, 256, 257, 512, 1000, 70_000]


def export(source: LogSource, folder: Path, first: int = 0, end: int | None = None, held: int = 0) -> None:
    """Write what a source has of a range into a folder."""
    for path, data in files_of(source, first, end, held=held):
        write_file(folder, path, data)


def files_in(folder: Path) -> set[str]:
    """List the files below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def verify(folder: Path, first: int, end: int) -> None:
    """Verify a folder as a stranger would: checkpoint, each entry's inclusion, each size's consistency."""
    source = FolderSource(folder)
    note = Note.parse(source.checkpoint())
    assert note.verify([signer().verifier])
    head = Checkpoint.parse(note.text)
    read = tile_reader(head.size, lambda tile: decode_tile(source.read(tile), tile.width))
    for index in range(first, end, 1 + (end - first) // 50):
        bundle = bundle_of(index, head.size)
        entry = decode_bundle(source.read(bundle))[index % 256]
        verify_inclusion(leaf_hash(entry), index, head.size, inclusion_proof(index, head.size, read), head.root)
    for old in {*range(first, end, 1 + (end - first) // 50), end} - {0}:
        proof = consistency_proof(old, head.size, read)
        verify_consistency(old, head.size, MemorySource(old).root, head.root, proof)


@pytest.mark.parametrize("size", SIZES)
def test_a_whole_log_is_exactly_its_tiles(size: int, tmp_path: Path) -> None:
    """An export of everything holds the files that tlog-tiles names for the checkpoint, no others, and verifies."""
    export(MemorySource(size), tmp_path)
    assert files_in(tmp_path) == {CHECKPOINT, *(tile.path for tile in tiles_of(size))}
    assert entries_in(tmp_path) == ([range(size)] if size else [])
    verify(tmp_path, 0, size)


@pytest.mark.parametrize(
    ("size", "first", "end"),
    [(1000, 0, 1), (1000, 255, 257), (1000, 999, 1000), (70_000, 300, 300), (70_000, 65_536, 65_537), (512, 256, 512)],
)
def test_a_part_proves_itself(size: int, first: int, end: int, tmp_path: Path) -> None:
    """A part holds its bundles and enough hashes to prove each of its entries and the sizes between."""
    export(MemorySource(size), tmp_path, first, end)
    verify(tmp_path, first, end)
    held = entries_in(tmp_path)
    assert held == ([range(first // 256 * 256, min(-(-end // 256) * 256, size))] if end > first else [])
    level_0 = [tile for tile in tiles_in(size, first, end) if tile.level == 0]
    assert len(level_0) <= -(-(end - first) // 256) + 2


@pytest.mark.parametrize(("first", "end", "held"), [(-1, 5, 0), (3, 2, 0), (0, 11, 0), (0, 10, 11)])
def test_no_entries_that_are_not_there(first: int, end: int, held: int) -> None:
    """A range beyond the log, backwards, or a receiver that knows more is refused before anything is given."""
    with pytest.raises(EntryUnknown):
        next(files_of(MemorySource(10), first, end, held=held))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.sampled_from([0, 1, 200, 255, 256, 257, 300, 511, 512, 700]), min_size=1, max_size=5))
def test_growing_exports(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    """However a log grows between exports into one folder, it ends as if it had been exported once, files unchanged."""
    folder = tmp_path_factory.mktemp("log")
    for size in sorted(sizes):
        before = {name: (folder / name).stat().st_ino for name in files_in(folder) - {CHECKPOINT}}
        export(MemorySource(size), folder)
        after = {name: (folder / name).stat().st_ino for name in files_in(folder)}
        assert after.keys() == {CHECKPOINT, *(tile.path for tile in tiles_of(size))}
        assert all(after[name] == inode for name, inode in before.items() if name in after)  # not written again
        verify(folder, 0, size)


def test_a_part_goes_on_where_another_ended(tmp_path: Path) -> None:
    """A later part needs what proves its checkpoint an extension of the folder's; with the hint it comes along."""
    export(MemorySource(300), tmp_path, 290, 300)
    with pytest.raises(ExportDiffers, match="not proved") as refusal:
        export(MemorySource(70_000), tmp_path, 1000, 1200)
    assert "from entry 300 or below" in refusal.value.public
    export(MemorySource(70_000), tmp_path, 1000, 1200, held=300)
    verify(tmp_path, 1000, 1200)
    assert entries_in(tmp_path) == [range(256, 300), range(768, 1280)]


def test_the_checkpoint_goes_last(tmp_path: Path) -> None:
    """A checkpoint whose tiles are not there yet is refused: a folder that has one is complete up to its root."""
    *tiles, (path, note) = files_of(MemorySource(300))
    write_file(tmp_path, *tiles[0])
    with pytest.raises(ProofInvalid, match="missing"):
        write_file(tmp_path, path, note)
    assert not (tmp_path / CHECKPOINT).exists()


def test_a_cut_export_goes_on(tmp_path: Path) -> None:
    """Whatever file an export was cut at, temporary ones left behind, a new one completes it."""
    files = list(files_of(MemorySource(600)))
    for count in range(len(files)):
        folder = tmp_path / str(count)
        for path, data in files[:count]:
            write_file(folder, path, data)
        left = folder / f"{files[count][0]}.new"
        left.parent.mkdir(parents=True, exist_ok=True)
        left.write_bytes(b"half")
        left.chmod(0o444)
        export(MemorySource(600), folder)
        assert files_in(folder) == {path for path, _ in files}
        verify(folder, 0, 600)


@pytest.mark.parametrize("size", [299, 300, 301, 700])
def test_another_history_is_refused(size: int, tmp_path: Path) -> None:
    """A log that does not go on from the folder's own never gets over it, in tiles or checkpoint; the folder stays."""
    export(MemorySource(300), tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)}
    fork = MemorySource(size, forked_at=280)
    with pytest.raises(ExportDiffers):
        export(fork, tmp_path)
    for path, data in files_of(fork):  # one that presses on after refusals
        try:
            write_file(tmp_path, path, data)
        except (ExportDiffers, ProofInvalid):
            continue
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    verify(tmp_path, 0, 300)


def test_an_older_state_is_refused(tmp_path: Path) -> None:
    """A smaller checkpoint, though true once, does not replace a larger one."""
    export(MemorySource(300), tmp_path)
    with pytest.raises(ExportDiffers, match="later state"):
        export(MemorySource(299), tmp_path)


def test_another_log_is_refused(tmp_path: Path) -> None:
    """A log of another name does not get into the folder, though its tiles were the same."""
    export(MemorySource(300), tmp_path)
    with pytest.raises(ExportDiffers, match="another log"):
        write_file(tmp_path, CHECKPOINT, MemorySource(300, origin="other.example").checkpoint().encode())


def test_cosignatures_are_gained_and_not_lost(tmp_path: Path) -> None:
    """A checkpoint of the same tree with more signatures takes the place, one with fewer does not."""
    source = MemorySource(3)
    export(source, tmp_path)
    plain = source.checkpoint()
    cosigned = plain + signer("w.example").sign("x\n").partition("\n\n")[2]
    write_file(tmp_path, CHECKPOINT, cosigned.encode())
    assert (tmp_path / CHECKPOINT).read_text() == cosigned
    write_file(tmp_path, CHECKPOINT, plain.encode())
    assert (tmp_path / CHECKPOINT).read_text() == cosigned


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "/etc/passwd",
        "../checkpoint",
        "checkpoint/",
        "./checkpoint",
        "checkpoint.new",
        "tile/0/../../x",
        "tile//0/000",
        "tile/0/000/",
        "tile/0/000.new",
        "tile/entries/000.p/1/../2",
        "tile/0/000\x00",
    ],
)
def test_no_file_elsewhere(path: str, tmp_path: Path) -> None:
    """A hostile server writes where a log's files lie, or nowhere."""
    folder = tmp_path / "log"
    with pytest.raises(ProofInvalid):
        write_file(folder, path, b"")
    assert files_in(tmp_path) == set()


@pytest.mark.parametrize(
    ("tile", "data"),
    [
        (Tile(0, 0, 1), bytes(31)),
        (Tile(0, 0, 1), bytes(64)),
        (Tile(0, 0), bytes(255 * 32)),
        (Tile(ENTRIES, 0, 1), b""),
        (Tile(ENTRIES, 0, 1), b"\0\1"),
        (Tile(ENTRIES, 0, 1), b"\0\0\0\0"),
        (Tile(ENTRIES, 0), b"\0\0"),
    ],
)
def test_no_file_of_another_shape(tile: Tile, data: bytes, tmp_path: Path) -> None:
    """A tile has its hashes, a bundle its entries: what is cut or too long is not written."""
    with pytest.raises(ProofInvalid):
        write_file(tmp_path, tile.path, data)
    assert files_in(tmp_path) == set()


@pytest.mark.parametrize("note", [b"", b"\xff", b"x\n", b"x" * 1_000_001, signer().sign("no checkpoint\n").encode()])
def test_no_checkpoint_of_another_shape(note: bytes, tmp_path: Path) -> None:
    """What is no signed checkpoint is not written."""
    with pytest.raises(ProofInvalid):
        write_file(tmp_path, CHECKPOINT, note)
    assert files_in(tmp_path) == set()


def test_modes(tmp_path: Path) -> None:
    """Tiles are read-only, the checkpoint is not."""
    export(MemorySource(3), tmp_path)
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in files_in(tmp_path)}
    assert modes.pop(CHECKPOINT) & 0o200
    assert {mode & 0o222 for mode in modes.values()} == {0}


def test_everything_is_synced_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is synced before it gets its name, and its folder after: the order that survives a power cut."""
    calls: list[tuple[str, str]] = []
    real_sync, real_rename = os.fsync, os.replace

    def sync(file: int) -> None:
        calls.append(("sync", os.readlink(f"/proc/self/fd/{file}")))
        real_sync(file)

    def rename(old: str, new: str, **folders: int) -> None:
        folder = os.readlink(f"/proc/self/fd/{folders['dst_dir_fd']}")
        calls.append(("rename", f"{folder}/{new}"))
        real_rename(old, new, **folders)

    monkeypatch.setattr("os.fsync", sync)
    monkeypatch.setattr("os.replace", rename)
    export(MemorySource(1), tmp_path)
    for name in files_in(tmp_path):
        path = tmp_path / name
        at = calls.index(("rename", str(path)))
        assert calls[at - 1] == ("sync", f"{path}.new")
        assert calls[at + 1] == ("sync", str(path.parent))
    for folder in ("tile", "tile/0", "tile/0/000.p"):
        assert ("sync", str((tmp_path / folder).parent)) in calls


@pytest.mark.parametrize("failing", ["os.fsync", "os.replace"])
def test_a_disk_that_fails(failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the disk is said in our words, no half file has a file's name, and a later run completes it."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(failing, fail)
        with pytest.raises(ExportUnwritable) as refusal:
            export(MemorySource(3), tmp_path)
    assert "No space left" in refusal.value.public
    assert all(name.endswith(".new") for name in files_in(tmp_path))
    export(MemorySource(3), tmp_path)
    verify(tmp_path, 0, 3)


def test_bodies_of_the_memory_log() -> None:
    """The log of these tests is what it says."""
    assert MemorySource(2).read(Tile(ENTRIES, 0, 2)) == b"\0\1" + body(0) + b"\0\1" + body(1)
    assert Checkpoint.parse(Note.parse(MemorySource(2).checkpoint()).text).origin == ORIGIN
