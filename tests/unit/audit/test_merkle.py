"""Merkle trees against known answers, a second definition of the tree, and the public negative corpora."""

from base64 import b64decode
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.edge import Edge
from audit.errors import ProofInvalid
from audit.merkle import (
    EMPTY_ROOT,
    HashReader,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_hash,
    tree_hash,
    verify_consistency,
    verify_inclusion,
)
from audit.tiles import tile_of
from tests.unit.audit.vectors import json_lines, needs_vectors

LEAVES_5 = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
WORDS = tuple(
    "one two three four five six seven eit nain ten ileven twelf threeten fourten fivten".split()  # noqa: SIM905
)
ROOTS_3 = {
    0: "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    1: "0Nc2CrefWKseHj/mStd+LqC8B+NrX0btIiPt2SmN+ek=",
    2: "T1X2GdkhUjV3iyufF9b0kVsWFxIU0VI4EpNml2Teci4=",
    3: "Wqx3HImawpLnS/Gv4ubjAvi1WIOy0b8Ze0amvqbavKk=",
    8: "bC+VwvrJbalNVjfkdI8kUgs7mJoXrqiXCE7bgnD28pY=",
    15: "rKbDipCvhuX1GZ7g5BBe8sA6BbJ7ja/1nk427v383cs=",
}
ROOTS_6 = {
    255: "32f85bcaa87d7bcd05728f09e9aeba350ba6a2f733830087f0597682848be5cb",
    256: "828515d033c19d8c901f37eccb8aed919667703486f8d2fff1cf7040321c5db1",
    257: "1eda049a4351d86f76252bd7ec0b7746ad75b7fa0316ad5f541dbda458a312c4",
    65536: "f025d06ed804859fd274a1bdacadd6e48ea87634aa91e1edb20143f9498cd02b",
    70000: "1a4cdfcb66374a0c0dcbef49acbd4976d13ee864fb3cb241fc943cad04f02f7e",
}
SIZES = st.integers(1, 700)


@cache
def numbered(size: int) -> tuple[bytes, ...]:
    """Make the leaf hashes of entries that are decimal numbers."""
    return tuple(leaf_hash(str(number).encode()) for number in range(size))


def words(size: int) -> list[bytes]:
    """Make the leaf hashes of the words of known answer 3."""
    return [leaf_hash(word.encode()) for word in WORDS[:size]]


def reader(leaves: tuple[bytes, ...] | list[bytes]) -> HashReader:
    """Read subtrees straight from leaf hashes; a subtree that is not complete is asked for wrongly."""

    def read(level: int, index: int) -> bytes:
        part = leaves[index << level : (index + 1) << level]
        assert len(part) == 1 << level
        return tree_hash(part)

    return read


def by_definition(leaves: tuple[bytes, ...] | list[bytes]) -> bytes:
    """Compute the root as RFC 6962 section 2.1 words it."""
    if len(leaves) < 2:
        return leaves[0] if leaves else EMPTY_ROOT
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(by_definition(leaves[:split]), by_definition(leaves[split:]))


@pytest.mark.parametrize(("size", "root"), ROOTS_3.items())
def test_roots_of_the_tiny_log(size: int, root: str) -> None:
    """Known answer 3: roots of the words' log."""
    assert tree_hash(words(size)) == b64decode(root)


def test_leaf_of_the_tiny_log() -> None:
    """Known answer 3: the leaf hash of "one"."""
    assert leaf_hash(b"one").hex() == "d0d7360ab79f58ab1e1e3fe64ad77e2ea0bc07e36b5f46ed2223edd9298df9e9"


def test_inclusion_in_the_tiny_log() -> None:
    """Known answer 3: the path of entry 4 in 15."""
    assert inclusion_proof(4, 15, reader(words(15))) == [
        b64decode("yiM+eia4w1wsk/Ukx7kF56IQVkDW3MWUaUz/VtJu+yU="),
        b64decode("nk9gCR+floFqznAPtqjjcnnV64dge2jQB95D5t164Hg="),
        b64decode("zY1lN35vrXYAPixXSd59LsU29xUJtuW4o2dNNg5Y2Co="),
        b64decode("5jLpqTgjsBDSEX6SgZiRnbTMdTuRd8bQ5tSsAOxe0Ks="),
    ]


def test_consistency_in_the_tiny_log() -> None:
    """Known answer 3: from size 3 to 15."""
    assert consistency_proof(3, 15, reader(words(15))) == [
        b64decode("Zx8UbF5HHooag6PCFM5LqQe486WIjRTMjNPOdbsS75Q="),
        b64decode("9xWrP6pdBx5uKsS7mU1b9zWUPcw3mdoNCF55gM+5M2o="),
        b64decode("T1X2GdkhUjV3iyufF9b0kVsWFxIU0VI4EpNml2Teci4="),
        b64decode("g0ZoeYWtIV8Q8i+4CmgqPnBvH2il107lyCgTQsyB7H4="),
        b64decode("5jLpqTgjsBDSEX6SgZiRnbTMdTuRd8bQ5tSsAOxe0Ks="),
    ]


@pytest.mark.parametrize(
    ("size", "root"),
    [
        (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
        (7, "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
    ],
)
def test_roots_of_rfc_6962_trees(size: int, root: str) -> None:
    """Known answer 5: the trees of Google's tests."""
    assert tree_hash([leaf_hash(bytes.fromhex(leaf)) for leaf in LEAVES_5[:size]]).hex() == root


@pytest.mark.parametrize(("size", "root"), ROOTS_6.items())
def test_roots_of_big_trees(size: int, root: str) -> None:
    """Known answer 6: big trees, hashed at once and grown in two steps."""
    leaves = numbered(size)
    assert tree_hash(leaves).hex() == root
    half = Edge(0, {}).grow(leaves[: size // 2]).edge
    assert half.grow(leaves[size // 2 :]).edge.root.hex() == root


@needs_vectors
@pytest.mark.parametrize("case", json_lines("inclusion.jsonl"), ids=lambda case: case["path"][9:-5])
def test_inclusion_corpus(case: dict[str, Any]) -> None:
    """An inclusion proof of transparency-dev/merkle verifies if and only if it should."""
    leaf, root, *proof = (b64decode(item) for item in (case["leafHash"], case["root"], *(case["proof"] or ())))
    if case["wantErr"]:
        with pytest.raises(ProofInvalid):
            verify_inclusion(leaf, case["leafIdx"], case["treeSize"], proof, root)
    else:
        verify_inclusion(leaf, case["leafIdx"], case["treeSize"], proof, root)


@needs_vectors
@pytest.mark.parametrize("case", json_lines("consistency.jsonl"), ids=lambda case: case["path"][9:-5])
def test_consistency_corpus(case: dict[str, Any]) -> None:
    """A consistency proof of transparency-dev/merkle verifies if and only if it should."""
    old, new, *proof = (b64decode(item) for item in (case["root1"], case["root2"], *(case["proof"] or ())))
    if case["wantErr"]:
        with pytest.raises(ProofInvalid):
            verify_consistency(case["size1"], case["size2"], old, new, proof)
    else:
        verify_consistency(case["size1"], case["size2"], old, new, proof)


@given(st.integers(0, 300))
def test_tree_hash_is_the_definition(size: int) -> None:
    """The row-by-row hash, the subtree reader and the recursive definition agree."""
    leaves = numbered(size)
    assert tree_hash(leaves) == by_definition(leaves) == root_hash(size, reader(leaves))


@given(st.data(), SIZES)
def test_inclusion_proofs_verify(data: st.DataObject, size: int) -> None:
    """Every leaf's proof verifies, for that leaf, index, size and root alone."""
    leaves, index = numbered(size), data.draw(st.integers(0, size - 1))
    proof, root = inclusion_proof(index, size, reader(leaves)), tree_hash(leaves)
    verify_inclusion(leaves[index], index, size, proof, root)
    other = data.draw(st.integers(0, size).filter(lambda number: number != index))
    # A proof does not fix the size: a size under which the path has the same turns must come with its own root.
    for args in (
        (leaves[index], other, size, proof, root),
        (numbered(size + 1)[other], index, size, proof, root),
        (leaves[index], index, size, [*proof, root], root),
        (leaves[index], index, size, proof, leaf_hash(root)),
        (leaves[index], index, size, proof, root[:31]),
    ):
        with pytest.raises(ProofInvalid):
            verify_inclusion(*args)


@given(st.data(), SIZES)
def test_a_flipped_bit_breaks_an_inclusion_proof(data: st.DataObject, size: int) -> None:
    """No bit of a path is idle."""
    leaves, index = numbered(size), data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, reader(leaves))
    if proof:
        flipped = flip(data, proof)
        with pytest.raises(ProofInvalid):
            verify_inclusion(leaves[index], index, size, flipped, tree_hash(leaves))
        with pytest.raises(ProofInvalid):
            verify_inclusion(leaves[index], index, size, proof[:-1], tree_hash(leaves))


@given(st.data(), SIZES)
def test_consistency_proofs_verify(data: st.DataObject, size: int) -> None:
    """Every prefix is proved, and the proof holds for those two roots alone."""
    old = data.draw(st.integers(1, size))
    leaves = numbered(size)
    old_root, root = tree_hash(leaves[:old]), tree_hash(leaves)
    proof = consistency_proof(old, size, reader(leaves))
    verify_consistency(old, size, old_root, root, proof)
    assert proof or old == size or old & (old - 1) == 0
    bad = leaf_hash(b"")
    attempts = [(bad, root, proof), (old_root, bad, proof), (old_root, root, [*proof, bad])]
    if proof:
        attempts += [(old_root, root, proof[:-1]), (old_root, root, flip(data, proof)), (old_root, root, [])]
    for args in attempts:
        with pytest.raises(ProofInvalid):
            verify_consistency(old, size, *args)


def flip(data: st.DataObject, proof: list[bytes]) -> list[bytes]:
    """Flip one bit of one hash."""
    at, bit = data.draw(st.integers(0, len(proof) - 1)), data.draw(st.integers(0, 255))
    item = bytearray(proof[at])
    item[bit // 8] ^= 1 << bit % 8
    return [*proof[:at], bytes(item), *proof[at + 1 :]]


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (-1, 5)])
def test_no_proof_of_a_leaf_that_is_not_there(index: int, size: int) -> None:
    """An index outside the tree is refused."""
    with pytest.raises(ProofInvalid):
        inclusion_proof(index, size, reader(numbered(size)))


@pytest.mark.parametrize(("old", "size"), [(0, 5), (6, 5), (-1, 5)])
def test_no_consistency_between_other_sizes(old: int, size: int) -> None:
    """Nothing is consistent with the empty tree or with a smaller one."""
    with pytest.raises(ProofInvalid):
        consistency_proof(old, size, reader(numbered(5)))
    with pytest.raises(ProofInvalid):
        verify_consistency(old, size, EMPTY_ROOT, EMPTY_ROOT, [])


@given(st.lists(st.integers(0, 300), min_size=1, max_size=4))
def test_growth_is_the_tree_in_any_portions(portions: list[int]) -> None:
    """However appends are grouped, root, proofs and stored tile hashes are those of the whole tree."""
    leaves = numbered(sum(portions))
    edge, stored = Edge(0, {}), {}
    for portion in portions:
        growth = edge.grow(leaves[edge.size : edge.size + portion])
        assert edge.grow([]).edge == edge
        for index in range(edge.size, growth.size):
            verify_inclusion(leaves[index], index, growth.size, growth.proof(index), growth.edge.root)
        for level, index, total in growth.tile_hashes():
            assert (level, index) not in stored
            stored[level, index] = total
        edge = growth.edge
    assert edge == Edge.read(len(leaves), reader(leaves))
    assert edge.root == by_definition(leaves)
    assert len(edge.nodes) == edge.size.bit_count()
    assert stored.keys() == {(1, index) for index in range(len(leaves) // 256)}


def test_growth_completes_the_tiles_of_all_levels() -> None:
    """At 65,536 entries level 1 is full and level 2 begins; every hash is that of its leaves."""
    leaves = numbered(70_000)
    stored = {(level, index): total for level, index, total in Edge(0, {}).grow(leaves).tile_hashes()}
    read = reader(leaves)
    for level in (1, 2, 3):
        tiles = [tile_of(level, index, 70_000) for index in range(2)]
        width = sum(tile.width for tile in tiles if tile)
        assert {index for at, index in stored if at == level} == set(range(width))
    for level, index in [(1, 0), (1, 272), (2, 0)]:
        assert stored[level, index] == read(8 * level, index)
