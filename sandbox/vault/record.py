"""Packed records: all values of one dataset about one subject, in a few hundred bytes.

A record is a null bitmap and one fixed-width slot a field in the dataset's order, little endian, no padding:

    bitmap    ceil(n / 8) bytes; bit i % 8 (least significant first) of byte i // 8 set = field i is null
    number    8 bytes  IEEE 754 binary64, finite, not -0
    integer   8 bytes  signed, at most 2^53 in magnitude: models and rules compute in binary64, where it stays exact
    boolean   1 byte   0 or 1
    category  2 bytes  unsigned, index in the code list
    date      4 bytes  signed, days since 1970-01-01

Every value has one encoding: the slot of a null is zero, spare bits of the bitmap are zero, there is no negative zero.
So equal records are equal bytes and can be compared and hashed.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from itertools import count as numbers
from itertools import starmap
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sandbox.vault.catalog import Dataset, Field, FieldType
from sandbox.vault.errors import FieldUnknown, RecordInvalid

INTEGER_MAX = 2**53
"""Largest magnitude of an integer: up to here binary64, which models compute in, is exact."""

Column = NDArray[Any]
"""Values of one field; in a masked array, masked = null."""
Value = float | int | bool | str | date | None

_EPOCH = date(1970, 1, 1).toordinal()
_FIRST_DAY, _LAST_DAY = date.min.toordinal() - _EPOCH, date.max.toordinal() - _EPOCH
_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class _Slot:
    """How one type lies in a record: struct code, numpy format, kinds of numpy arrays that hold it."""

    code: str
    format: str
    kinds: str


_SLOTS = {
    FieldType.NUMBER: _Slot("d", "<f8", "fiu"),
    FieldType.INTEGER: _Slot("q", "<i8", "iu"),
    FieldType.BOOLEAN: _Slot("B", "u1", "biu"),
    FieldType.CATEGORY: _Slot("H", "<u2", "iuUO"),
    FieldType.DATE: _Slot("i", "<i4", "iuM"),
}


class Gather:
    """Reads chosen fields of a record as binary64, in the order they were asked for. Made by `RecordLayout.compile`."""

    __slots__ = ("_mask", "_pick", "_positions", "_unpack")

    def __init__(self, layout: "RecordLayout", indices: Sequence[int]) -> None:
        chosen = sorted(set(indices))
        order = {index: place for place, index in enumerate(chosen, start=1)}
        self._unpack = struct.Struct(layout.struct_format(chosen)).unpack
        self._mask = sum(1 << index for index in chosen)
        self._positions = {i: tuple(at for at, each in enumerate(indices) if each == i) for i in chosen}
        picked = [order[index] for index in indices]
        # Fields asked in stored order need no reordering; also, itemgetter of one index gives no tuple.
        self._pick = itemgetter(*picked) if picked != list(range(1, len(chosen) + 1)) else itemgetter(slice(1, None))

    def read(self, body: bytes) -> list[float]:
        """Return the values: NaN = null, category = index in its code list, boolean = 0 or 1, date = days since 1970.

        Raises:
            RecordInvalid: The record's length is not the layout's.
        """
        try:
            values = self._unpack(body)
        except struct.error:
            raise RecordInvalid("the record does not have the layout's length") from None
        result = list(map(float, self._pick(values)))
        nulls = int.from_bytes(values[0], "little") & self._mask
        while nulls:
            lowest = nulls & -nulls
            for position in self._positions[lowest.bit_length() - 1]:
                result[position] = _NAN
            nulls ^= lowest
        return result


class RecordLayout:
    """Where each field of a dataset lies in its packed record.

    Attributes:
        dataset: The dataset.
        width: Bytes of one record.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._bitmap_bytes = -(-len(dataset.fields) // 8)
        self._struct = struct.Struct(self.struct_format(range(len(dataset.fields))))
        self.width = self._struct.size
        names, formats = ["\0nulls"], [f"({self._bitmap_bytes},)u1"]
        names += [field.name for field in dataset.fields]
        formats += [_SLOTS[field.type].format for field in dataset.fields]
        self._dtype = np.dtype({"names": names, "formats": formats})
        self._raw_dtype = np.dtype(
            {"names": names, "formats": [formats[0], *(f"<u{np.dtype(f).itemsize}" for f in formats[1:])]}
        )
        self._index = {field.name: index for index, field in enumerate(dataset.fields)}

    @staticmethod
    @lru_cache(maxsize=256)
    def of(dataset: Dataset) -> "RecordLayout":
        """Return the dataset's layout, made once."""
        return RecordLayout(dataset)

    def struct_format(self, indices: Sequence[int]) -> str:
        """Return the struct format of a record that yields the bitmap and the slots at `indices` (ascending) alone."""
        wanted = set(indices)
        codes = [_SLOTS[field.type].code for field in self.dataset.fields]
        slots = (c if i in wanted else f"{struct.calcsize('<' + c)}x" for i, c in enumerate(codes))
        return f"<{self._bitmap_bytes}s" + "".join(slots)

    def validate(self, rows: bytes | memoryview, count: int) -> None:
        """Check that `rows` is `count` records, each in its one encoding.

        Raises:
            RecordInvalid: Names the first offending row and its field; never the value.
        """
        if len(rows) != count * self.width:
            raise RecordInvalid(f"{len(rows)} bytes are not {count} rows of {self.width}")
        table, raw = np.frombuffer(rows, self._dtype), np.frombuffer(rows, self._raw_dtype)
        bits = np.unpackbits(table["\0nulls"], axis=1, bitorder="little").astype(bool)
        found = list(self._faults(table, raw, bits))
        if found:
            row, name, reason = min(found, key=itemgetter(0))
            raise RecordInvalid(reason, row=row, field=name)

    def pack(self, columns: Mapping[str, Column], count: int) -> bytes:
        """Pack columns into records.

        Args:
            columns: By short field name, exactly the dataset's fields, each of length `count`; masked = null.
                A category is given as codes (str) or indices (int), a date as datetime64 or days since 1970.
            count: Number of rows.

        Raises:
            RecordInvalid: Columns missing, unknown, of another length or type, or a value outside its field's range.
        """
        if columns.keys() != self._index.keys():
            raise RecordInvalid("the columns are not exactly the dataset's fields")
        table = np.zeros(count, self._dtype)
        bits = np.zeros((count, self._bitmap_bytes * 8), dtype=bool)
        for index, field in enumerate(self.dataset.fields):
            column = columns[field.name]
            if column.shape != (count,):
                raise RecordInvalid(f"the column does not have {count} values", field=field.name)
            bits[:, index] = np.ma.getmaskarray(column)
            present = np.flatnonzero(~bits[:, index])
            table[field.name][present] = _encode(field, np.ma.getdata(column)[present], present)
        table["\0nulls"] = np.packbits(bits, axis=1, bitorder="little")
        return table.tobytes()

    def unpack(self, body: bytes) -> tuple[Value, ...]:
        """Return a record's values in field order: float, int, bool, code, date or None.

        Raises:
            RecordInvalid: The bytes are not one record in its one encoding.
        """
        self.validate(body, 1)
        bitmap, *slots = self._struct.unpack(body)
        nulls = int.from_bytes(bitmap, "little")
        present = starmap(_decode, zip(self.dataset.fields, slots, strict=True))
        return tuple(None if nulls >> i & 1 else value for i, value in zip(numbers(), present))

    def compile(self, names: Sequence[str]) -> Gather:
        """Prepare reading the fields of these full names, in this order.

        Raises:
            FieldUnknown: A name is not a field of this dataset.
        """
        head = f"{self.dataset.name}."
        try:
            return Gather(self, [self._index[name.removeprefix(head)] for name in names if _under(name, head)])
        except KeyError:
            raise FieldUnknown("the dataset has no such field") from None

    def _faults(
        self, table: NDArray[Any], raw: NDArray[Any], bits: NDArray[np.bool_]
    ) -> Iterator[tuple[int, str, str]]:
        """Yield (row, field, reason) of the first fault of each kind in each field."""
        for index, field in enumerate(self.dataset.fields):
            null = bits[:, index]
            yield from _first(null & (raw[field.name] != 0), field.name, "the slot of a null is not zero")
            yield from _first(~null & _outside(field, table[field.name]), field.name, _RANGES[field.type])
        yield from _first(bits[:, len(self.dataset.fields) :].any(axis=1), "", "spare bits of the bitmap are set")


_RANGES = {
    FieldType.NUMBER: "a number must be finite and not -0",
    FieldType.INTEGER: "an integer must be at most 2^53 in magnitude",
    FieldType.BOOLEAN: "a boolean must be 0 or 1",
    FieldType.CATEGORY: "a category must be one of the field's codes",
    FieldType.DATE: "a date must lie in the years 1 to 9999",
}


def _first(bad: Any, name: str, reason: str) -> Iterator[tuple[int, str, str]]:
    if bad.any():
        yield int(bad.argmax()), name, reason


def _under(name: str, head: str) -> bool:
    if not name.startswith(head):
        raise KeyError
    return True


def _outside(field: Field, values: NDArray[Any]) -> NDArray[np.bool_]:
    """Say which values break the field's range."""
    if field.type is FieldType.NUMBER:
        return np.asarray(~np.isfinite(values) | ((values == 0) & np.signbit(values)))
    bounds = {
        FieldType.INTEGER: (-INTEGER_MAX, INTEGER_MAX),
        FieldType.BOOLEAN: (0, 1),
        FieldType.CATEGORY: (0, len(field.codes) - 1),
        FieldType.DATE: (_FIRST_DAY, _LAST_DAY),
    }
    low, high = bounds[field.type]
    return np.asarray((values < low) | (values > high))


def _encode(field: Field, values: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[Any]:
    """Return the present values of a column as what its slots hold; `rows` says where they stand, for errors."""
    if values.dtype.kind not in _SLOTS[field.type].kinds:
        raise RecordInvalid(f"an array of kind {values.dtype.kind!r} does not hold a {field.type}", field=field.name)
    if field.type is FieldType.NUMBER:
        values = values.astype(np.float64) + 0.0  # -0 becomes 0
    elif values.dtype.kind == "M":
        values = values.astype("datetime64[D]").astype(np.int64)
    elif field.type is FieldType.CATEGORY and values.dtype.kind in "UO":
        values = _code_indices(field, values)
    bad = _outside(field, values)
    if bad.any():
        raise RecordInvalid(_RANGES[field.type], row=int(rows[bad.argmax()]), field=field.name)
    return values


def _code_indices(field: Field, values: NDArray[Any]) -> NDArray[np.int64]:
    """Return each code's index in the field's list, -1 for what is no code."""
    index = {code: number for number, code in enumerate(field.codes)}
    return np.fromiter((index.get(each, -1) for each in values.tolist()), dtype=np.int64, count=len(values))


def _decode(field: Field, slot: float) -> float | int | bool | str | date:
    """Return a valid slot's value; the caller discards what it makes of a null's zero."""
    if field.type is FieldType.BOOLEAN:
        return bool(slot)
    if field.type is FieldType.CATEGORY:
        return field.codes[int(slot)]
    return date.fromordinal(_EPOCH + int(slot)) if field.type is FieldType.DATE else slot
