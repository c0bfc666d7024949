"""The right edge of a growing tree: all that is needed to append to it and to prove what was appended.

An edge holds the roots of the complete subtrees that a tree splits into, one for each bit set in its size (the
"compact range" of transparency-dev/merkle): 70,000 entries need six hashes. A proof for a leaf appended to it needs
nothing else from the old tree, because a left sibling that lies wholly in the old tree is always one of those roots.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from audit.merkle import HashReader, range_hash, range_nodes, root_hash
from audit.merkle import node_hash as parent_of
from audit.tiles import TILE_HEIGHT


@dataclass(frozen=True)
class Edge:
    """The tree of `size` leaves; `nodes` are its complete subtrees' roots by (level, index)."""

    size: int
    nodes: dict[tuple[int, int], bytes]

    @classmethod
    def read(cls, size: int, read: HashReader) -> "Edge":
        """Take the edge of a stored tree."""
        return cls(size, {node: read(*node) for node in range_nodes(0, size)})

    @property
    def root(self) -> bytes:
        """The root of the tree."""
        return root_hash(self.size, self._read)

    def grow(self, leaves: Iterable[bytes]) -> "Growth":
        """Append leaf hashes. The edge itself stays as it is, for the case that the append is not kept."""
        nodes, size = dict(self.nodes), self.size
        for leaf in leaves:
            level, index, total = 0, size, leaf
            nodes[level, index] = total
            while index & 1:  # a right child completes its parent
                total = parent_of(nodes[level, index - 1], total)
                level, index = level + 1, index >> 1
                nodes[level, index] = total
            size += 1
        return Growth(self.size, size, nodes)

    def _read(self, level: int, index: int) -> bytes:
        return self.nodes[level, index]


@dataclass(frozen=True)
class Growth:
    """A tree that grew from `old_size` to `size` leaves, with every node completed on the way.

    `ragged` keeps, by level, the hash of what stands at the right without being complete, once a proof asked for it.
    """

    old_size: int
    size: int
    nodes: dict[tuple[int, int], bytes]
    ragged: dict[int, bytes] = field(default_factory=dict)

    @property
    def edge(self) -> Edge:
        """The right edge after the growth."""
        return Edge(self.size, {node: self.nodes[node] for node in range_nodes(0, self.size)})

    def proof(self, index: int) -> list[bytes]:
        """Prove that a leaf appended in this growth is in the grown tree (old_size <= index < size).

        The same as `audit.merkle.inclusion_proof`, told from the leaf up: a sibling is a complete subtree, or the
        ragged one at the right, of which each level has one for all proofs; or there is none, and the node moves up.
        """
        path = []
        for level in range((self.size - 1).bit_length()):
            node = level, (index >> level) ^ 1
            if node in self.nodes:
                path.append(self.nodes[node])
            elif node[1] << level < self.size:
                if level not in self.ragged:
                    self.ragged[level] = range_hash(node[1] << level, self.size, lambda *at: self.nodes[at])
                path.append(self.ragged[level])
        return path

    def tile_hashes(self) -> list[tuple[int, int, bytes]]:
        """List the hashes completed for tiles of level 1 and up: (tile level, index, hash)."""
        return [
            (level // TILE_HEIGHT, index, total)
            for (level, index), total in self.nodes.items()
            if level and level % TILE_HEIGHT == 0 and (index + 1) << level > self.old_size
        ]
