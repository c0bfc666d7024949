"""Sets of entry indexes as bitmaps, a chunk of 65,536 entries at a time: what a term's row in the index holds.

A chunk in which a term is rare is kept as its positions, one in which it is common as a bitmap, whichever is shorter
(Roaring bitmaps, Chambi, Lemire et al. 2016). In memory a chunk is a Python integer, bit i = position i: to intersect
and count a million entries are some thirty operations on long integers.
"""

import sys
from array import array
from collections.abc import Iterable, Iterator
from typing import Final

CHUNK: Final = 1 << 16  # entries of a chunk: a position is a uint16
_BITMAP_BYTES: Final = CHUNK // 8
_LIST_MAX: Final = _BITMAP_BYTES // 2 - 1  # positions of two bytes that are shorter than the bitmap


def add_positions(data: bytes, positions: Iterable[int]) -> bytes:
    """Write a chunk again with more positions in it, ascending and all behind those that it has; b"" = none yet.

    Raises:
        ValueError: `data` is no chunk.
    """
    if len(data) == _BITMAP_BYTES:
        return _bitmap(positions, data)
    listed = _list(data)
    listed.extend(positions)
    if len(listed) > _LIST_MAX:
        return _bitmap(listed)
    if sys.byteorder == "big":
        listed.byteswap()
    return listed.tobytes()


def unpack_bits(data: bytes) -> int:
    """Read a chunk as an integer, bit i = position i.

    Raises:
        ValueError: no chunk.
    """
    return int.from_bytes(data if len(data) == _BITMAP_BYTES else _bitmap(_list(data)), "little")


def window(chunk: int, first: int, end: int) -> int:
    """The bits of those positions of a chunk whose entries are first .. end - 1."""
    low, high = (min(max(at - chunk * CHUNK, 0), CHUNK) for at in (first, end))
    return (1 << high) - (1 << low) if high > low else 0


def descending(bits: int, most: int) -> Iterator[int]:
    """List the `most` highest set positions, highest first."""
    while bits and most:
        top = bits.bit_length() - 1
        yield top
        bits ^= 1 << top
        most -= 1


def _list(data: bytes) -> "array[int]":
    if len(data) > _BITMAP_BYTES:
        raise ValueError("a chunk is too long")
    listed = array("H")
    listed.frombytes(data)
    if sys.byteorder == "big":
        listed.byteswap()
    return listed


def _bitmap(positions: Iterable[int], old: bytes = bytes(_BITMAP_BYTES)) -> bytes:
    made = bytearray(old)
    for at in positions:
        made[at >> 3] |= 1 << (at & 7)
    return bytes(made)
