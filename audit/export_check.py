"""An export verified file by file while it is written: each bundle hangs on its tile, each tile on the one above.

The checkpoint's own tiles are led to its root by `audit.export.write_file`; signatures are for a policy to say.
"""

from hashlib import sha256

from audit.errors import ProofInvalid
from audit.merkle import leaf_hash, tree_hash
from audit.tiles import ENTRIES, TILE_WIDTH, Tile, decode_bundle, decode_tile, encode_tile


class ExportCheck:
    """Takes the files of an export in the order of `audit.export.files_of`; keeps 32 bytes for each tile."""

    def __init__(self) -> None:
        self.entries = 0  # entries seen
        self._expected: dict[Tile, bytes] = {}  # SHA-256 of a level 0 tile, by its address
        self._roots: dict[tuple[int, int], bytes] = {}  # of a full tile: a hash of the tile above

    def take(self, path: str, data: bytes) -> None:
        """Check the next tile or bundle.

        Raises:
            ProofInvalid: no such file, or it is not what an earlier one says.
        """
        tile = Tile.parse(path)
        if tile.level == ENTRIES:
            leaves = [leaf_hash(entry) for entry in decode_bundle(data)]
            self.entries += len(leaves)
            self._expected[Tile(0, tile.index, tile.width)] = sha256(encode_tile(leaves)).digest()
            return
        hashes = decode_tile(data, tile.width)
        if (expected := self._expected.pop(tile, None)) is not None and sha256(data).digest() != expected:
            raise ProofInvalid("a bundle is not what its tile says", public=f"{path} does not fit its bundle")
        for at, total in enumerate(hashes):
            if self._roots.pop((tile.level, tile.index * TILE_WIDTH + at), total) != total:
                raise ProofInvalid("a tile is not what the one above says", public=f"{path} does not fit those below")
        if tile.width == TILE_WIDTH:
            self._roots[tile.level + 1, tile.index] = tree_hash(hashes)

    def finish(self) -> None:
        """Check that nothing hangs loose before the checkpoint.

        Raises:
            ProofInvalid: a bundle came without its tile, or a full tile without the one above.
        """
        if self._expected or self._roots:
            raise ProofInvalid("tiles are missing", public="tiles are missing over some of the entries")
