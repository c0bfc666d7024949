"""Tile addresses and entry bundles against known answers and a real log."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.errors import ProofInvalid
from audit.merkle import inclusion_proof, leaf_hash, root_hash, tree_hash, verify_inclusion
from audit.tiles import (
    ENTRIES,
    Tile,
    bundle_of,
    decode_bundle,
    decode_tile,
    encode_bundle,
    encode_tile,
    tile_of,
    tile_reader,
    tiles_of,
)
from tests.unit.audit.test_merkle import WORDS, numbered
from tests.unit.audit.vectors import TLOG, needs_vectors


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (bundle_of(256, 257), "tile/entries/001.p/1"),
        (bundle_of(123456789 * 256, 123456790 * 256), "tile/entries/x123/x456/789"),
        (Tile(15, 123456789, 41), "tile/15/x123/x456/789.p/41"),
        (Tile(0, 1234067), "tile/0/x001/x234/067"),
        (Tile(0, 0, 1), "tile/0/000.p/1"),
        (Tile(63, 1000), "tile/63/x001/000"),
    ],
)
def test_paths(tile: Tile, path: str) -> None:
    """Known answer 7, and the example of the specification."""
    assert tile.path == path
    assert Tile.parse(path) == tile


@given(st.integers(ENTRIES, 63), st.integers(0, 2**64), st.integers(1, 256))
def test_paths_come_back(level: int, index: int, width: int) -> None:
    """Every address has one path."""
    tile = Tile(level, index, width)
    assert Tile.parse(tile.path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/0/1",
        "tile/0/0000",
        "tile/0/x000/001",
        "tile/00/001",
        "tile/64/001",
        "tile/-1/001",
        "tile/data/001",
        "tile/0/001.p/0",
        "tile/0/001.p/01",
        "tile/0/001.p/256",
        "tile/0/001.p/257",
        "tile/0/001.p/",
        "tile/0/001/002",
        "tile/0/x001",
        "/tile/0/001",
        "tile/0/001\n",
        "tile/0/０01",
        "tile/0/../001",
        "tile/0/" + "x001/" * 5000 + "001",
    ],
)
def test_other_paths_are_refused(path: str) -> None:
    """What is not the one spelling of an address is no address."""
    with pytest.raises(ProofInvalid):
        Tile.parse(path)


def test_tiles_of_70000_entries() -> None:
    """The digest's example: 273 full tiles and one of 112, one full and one of 17, one of 1."""
    tiles = [tile.path for tile in tiles_of(70_000)]
    hashes = [path for path in tiles if "entries" not in path]
    assert len(tiles) == 274 + len(hashes)
    assert len(hashes) == 274 + 2 + 1
    assert hashes[-4:] == ["tile/0/273.p/112", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"]
    assert [tile.path for tile in tiles_of(256)] == ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]
    assert list(tiles_of(0)) == []


@pytest.mark.parametrize("index", [-1, 5])
def test_no_bundle_of_an_unknown_entry(index: int) -> None:
    """An entry outside the log lies in no bundle."""
    with pytest.raises(ProofInvalid):
        bundle_of(index, 5)
    assert tile_of(0, 1, 256) is None


@given(st.lists(st.binary(max_size=300), max_size=256))
def test_bundles_come_back(entries: list[bytes]) -> None:
    """A bundle holds its entries, and no cut of it reads as the same."""
    bundle = encode_bundle(entries)
    assert decode_bundle(bundle) == entries
    if bundle:
        with pytest.raises(ProofInvalid):
            decode_bundle(bundle[:-1])


def test_bundle_bounds() -> None:
    """65,535 bytes are an entry, 65,536 are not; 256 entries are a bundle, 257 are not."""
    assert decode_bundle(encode_bundle([b"x" * 65_535])) == [b"x" * 65_535]
    with pytest.raises(ProofInvalid):
        encode_bundle([b"x" * 65_536])
    with pytest.raises(ProofInvalid):
        decode_bundle(b"\0\0" * 257)


def test_first_bundle_of_the_tiny_log() -> None:
    """Known answer 3: the bundle of "one" and "two"."""
    assert encode_bundle([b"one", b"two"]).hex() == "00036f6e65000374776f"


@needs_vectors
@pytest.mark.parametrize("size", range(1, 16))
def test_tiles_and_bundles_of_a_real_log(size: int) -> None:
    """Every partial tile and bundle of Tessera's test log is re-derived to the byte."""
    entries = [word.encode() for word in WORDS[:size]]
    folder = TLOG / "tessera_log"
    assert (folder / bundle_of(size - 1, size).path).read_bytes() == encode_bundle(entries)
    tile = tile_of(0, 0, size)
    assert tile is not None
    data = (folder / tile.path).read_bytes()
    assert data == encode_tile([leaf_hash(entry) for entry in entries])
    assert tree_hash(decode_tile(data, size)) == tree_hash([leaf_hash(entry) for entry in entries])


def test_a_tile_of_another_length_is_refused() -> None:
    """A cut tile is no tile."""
    with pytest.raises(ProofInvalid):
        decode_tile(bytes(33), 1)


@cache
def hashes_of(tile: Tile, size: int) -> list[bytes]:
    """Make the hashes of a tile from its entries."""
    leaves, span, first = numbered(size), 256**tile.level, tile.index * 256
    return [tree_hash(leaves[at * span : (at + 1) * span]) for at in range(first, first + tile.width)]


@settings(max_examples=40)
@given(st.data(), st.sampled_from([1, 255, 256, 257, 600, 65_535, 65_536, 66_000]))
def test_proofs_from_tiles(data: st.DataObject, size: int) -> None:
    """Roots and proofs read from tiles are right, and read few of them, each once."""
    leaves, asked = numbered(size), []

    def read(tile: Tile) -> list[bytes]:
        asked.append(tile)
        return hashes_of(tile, size)

    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, tile_reader(size, read))
    assert len(asked) == len(set(asked)) <= 6
    assert set(asked) <= set(tiles_of(size))
    verify_inclusion(leaves[index], index, size, proof, root_hash(size, tile_reader(size, read)))


def test_a_hash_outside_the_tree_is_refused() -> None:
    """Nothing is read beyond the size."""
    with pytest.raises(ProofInvalid):
        tile_reader(5, lambda tile: [])(0, 256)
