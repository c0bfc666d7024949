"""The right edge: the proofs of a growth are those of RFC 6962, told another way."""

from hypothesis import given
from hypothesis import strategies as st

from audit.edge import Edge
from audit.merkle import inclusion_proof, leaf_hash, tree_hash


@given(old=st.integers(0, 300), grown=st.integers(1, 200))
def test_a_growths_proofs_are_the_trees(old: int, grown: int) -> None:
    """For each appended leaf, whatever the shapes of the old tree and the new one."""
    leaves = [leaf_hash(str(number).encode()) for number in range(old + grown)]
    growth = Edge(0, {}).grow(leaves[:old]).edge.grow(leaves[old:])

    def read(level: int, index: int) -> bytes:
        return tree_hash(leaves[index << level : (index + 1) << level])

    for index in range(old, old + grown):
        assert growth.proof(index) == inclusion_proof(index, old + grown, read)
    assert growth.edge.root == tree_hash(leaves)
