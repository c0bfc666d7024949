"""The catalogue: departments, their datasets, and the fields a consent can name and a model can ask for.

The catalogue is a value, read once from one file that stewards edit (catalog.yaml says how); catalog_file.py reads it.
Nothing about departments or fields is written in code: another city brings another file.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from dataclasses import field as attribute
from enum import StrEnum
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import rfc8785

from sandbox.vault.errors import DatasetUnknown, FieldUnknown


class FieldType(StrEnum):
    """What a field's values are."""

    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    CATEGORY = "category"
    DATE = "date"


class Cadence(StrEnum):
    """How often a department delivers a dataset."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    QUARTERLY = "quarterly"
    YEARLY = "yearly"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a dataset.

    Attributes:
        name: Short name, unique in its dataset.
        type: What its values are.
        unit: Unit of a number or integer ("CNY", "%", "person" ...); "" for a plain count, ratio or score.
        codes: The closed code list of a category in stored order; empty for other types.
        label_zh: What the field is, in Chinese.
        label_en: The same in English.
        code_list: Name of the shared code list, "" if the codes were written at the field.
    """

    name: str
    type: FieldType
    unit: str
    codes: tuple[str, ...]
    label_zh: str
    label_en: str
    code_list: str = ""


@dataclass(frozen=True)
class Dataset:
    """Fields one department delivers together: one stored row a subject.

    Attributes:
        name: `<department>.<dataset>`.
        department: Name of the department.
        label_zh: What it is, in Chinese.
        label_en: The same in English.
        cadence: How often it is delivered.
        fields: In stored order.
    """

    name: str
    department: str
    label_zh: str
    label_en: str
    cadence: Cadence
    fields: tuple[Field, ...]

    @cached_property
    def field_names(self) -> tuple[str, ...]:
        """Full names `<department>.<dataset>.<name>` in stored order."""
        return tuple(f"{self.name}.{each.name}" for each in self.fields)


@dataclass(frozen=True, slots=True)
class Department:
    """A department that publishes datasets."""

    name: str
    label_zh: str
    label_en: str


@dataclass(frozen=True, slots=True)
class Code:
    """One entry of a shared code list."""

    code: str
    label_zh: str
    label_en: str


@dataclass(frozen=True)
class Catalog:
    """Everything that can be asked for.

    Attributes:
        departments: By name, in file order.
        datasets: By full name `<department>.<dataset>`, in file order.
        code_lists: Shared code lists by name, with the codes' labels.
    """

    departments: Mapping[str, Department]
    datasets: Mapping[str, Dataset]
    code_lists: Mapping[str, tuple[Code, ...]] = attribute(default_factory=dict)

    @cached_property
    def fields(self) -> Mapping[str, Field]:
        """All fields by full name, in file order."""
        every = self.datasets.values()
        return MappingProxyType({n: f for d in every for n, f in zip(d.field_names, d.fields, strict=True)})

    def dataset(self, name: str) -> Dataset:
        """Return the dataset `<department>.<dataset>`.

        Raises:
            DatasetUnknown: There is none.
        """
        try:
            return self.datasets[name]
        except KeyError:
            raise DatasetUnknown("the catalogue has no such dataset") from None

    def field(self, name: str) -> Field:
        """Return the field `<department>.<dataset>.<name>`.

        Raises:
            FieldUnknown: There is none.
        """
        try:
            return self.fields[name]
        except KeyError:
            raise FieldUnknown("the catalogue has no such field") from None

    def dataset_of(self, field_name: str) -> Dataset:
        """Return the dataset that holds the field of that full name.

        Raises:
            FieldUnknown: There is no such field.
        """
        self.field(field_name)
        return self.datasets[field_name.rpartition(".")[0]]

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the catalogue's canonical JSON (RFC 8785): any change of meaning changes it."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(rfc8785.dumps(_plain(self))).hexdigest()


def load_catalog(path: Path | None = None) -> Catalog:
    """Read a catalogue file.

    Args:
        path: The file; None for the built-in one.

    Raises:
        CatalogInvalid: The file is missing, is not YAML or breaks a rule; the message says where and what to do.
    """
    return _built_in() if path is None else _read(path)


@cache
def _built_in() -> Catalog:
    return _read(Path(__file__).with_name("catalog.yaml"))


def _read(path: Path) -> Catalog:
    from sandbox.vault.catalog_file import read_catalog_file

    return read_catalog_file(path)


def _plain(catalog: Catalog) -> dict[str, Any]:
    """Return the catalogue as JSON values; order of fields and codes is meaning, order of datasets is not."""
    return {
        "departments": {name: asdict(each) for name, each in catalog.departments.items()},
        "datasets": {name: asdict(each) for name, each in catalog.datasets.items()},
        "code_lists": {name: [asdict(code) for code in codes] for name, codes in catalog.code_lists.items()},
    }


def layout_hash(dataset: Dataset) -> str:
    """SHA-256, hex, of names, types and code lists in stored order: equal hashes pack alike."""
    return hashlib.sha256(rfc8785.dumps([[f.name, f.type, list(f.codes)] for f in dataset.fields])).hexdigest()
