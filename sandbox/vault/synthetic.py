"""Made-up companies for demonstrations and tests: no value here is about anybody.

A few hidden traits of a company (health, size, industry, age) drive every value, so datasets agree with one another and
a model can learn something. Each department sees health through noise of its own: several together tell more than one.

What a field is like follows from its type, unit and the words of its name (synthetic_values.py), so any catalogue can
be filled: `_12m` families are sums over nested windows, names with a word of `ADVERSE` grow as health falls, lists
ending in `_grade` run from best to worst. Every family has a random stream of its own, keyed by seed and name: the same
seed gives the same bytes, whichever datasets are asked for and in whichever order.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sandbox.vault.catalog import Catalog
from sandbox.vault.record import RecordLayout
from sandbox.vault.subject_columns import credit_code_check
from sandbox.vault.synthetic_values import Floats, MaskedColumn, Traits, ValueMaker, sigmoid

COUNT_MAX = 31**6
"""So many credit codes the made-up region has."""

# Whose data a department has, by GB/T 4754 section; departments not named have nearly everybody's.
_INDUSTRIES = {
    "agriculture": "A",
    "civil_affairs": "OPQR",
    "commerce": "FHL",
    "construction": "EK",
    "customs": "CFGI",
    "environment": "BCDN",
    "gas": "CHQ",
    "health": "HOPQ",
    "intellectual_property": "CIMR",
    "science_technology": "CIM",
    "statistics": "BCDEFGI",
    "transport": "CFG",
}
_EVERYBODY = {"market_regulation": 1.0, "tax": 0.98, "social_security": 0.95, "electricity": 0.96}
_WEIGHTS = dict(zip("ABCDEFGHIJKLMNOPQR", (4, 1, 24, 1, 9, 28, 5, 5, 6, 0.5, 2, 6, 5, 1, 3, 1, 1, 1.5), strict=True))


def generate(catalog: Catalog, count: int, seed: int) -> "World":
    """Make `count` companies; the same arguments make the same world.

    Raises:
        ValueError: `count` is negative or above `COUNT_MAX`; a mistake of the programmer, not of a caller.
    """
    if not 0 <= count <= COUNT_MAX:
        raise ValueError(f"count must be between 0 and {COUNT_MAX}")
    return World(catalog, count, seed)


class World:
    """Made-up companies and what every department knows about them.

    Attributes:
        subjects: Unique, valid `uscc:` subjects of a region that does not exist; a company's row is its place here.
        health: The hidden trait, standard normal; shape (count,).
        defaulted: Whether the company defaults within a year: the label to train on; shape (count,).
    """

    def __init__(self, catalog: Catalog, count: int, seed: int) -> None:
        self.catalog, self.count, self.seed = catalog, count, seed
        self.subjects = _subjects(count, seed)
        rng = self._rng("traits")
        self.health: Floats = rng.standard_normal(count)
        weights = np.array(list(_WEIGHTS.values()))
        industry = rng.choice(len(weights), size=count, p=weights / weights.sum())
        age = np.minimum(2 + rng.gamma(1.6, 60.0, count) * np.exp(0.15 * self.health), 480.0)
        headcount = np.ceil(np.exp(2.6 + 1.15 * rng.standard_normal(count) + 0.2 * self.health))
        sales = headcount * 4e5 * np.exp(0.6 * rng.standard_normal(count) + 0.25 * self.health)
        self._traits = Traits(self.health, industry, age, headcount, sales)
        young = np.clip((36 - age) / 36, 0, 1)
        odds = -3.0 - 2.2 * self.health + 0.8 * young - 0.15 * (np.log(headcount) - 2.6)
        self.defaulted: NDArray[np.bool_] = rng.random(count) < sigmoid(odds)

    def present(self, dataset_name: str) -> NDArray[np.bool_]:
        """Say which companies have a row in the dataset, shape (count,); the other methods give rows for them alone.

        Raises:
            DatasetUnknown: No such dataset.
        """
        department = self.catalog.dataset(dataset_name).department
        chance = np.full(self.count, _EVERYBODY.get(department, 0.93))
        if sections := _INDUSTRIES.get(department):
            member = np.array([section in sections for section in _WEIGHTS])
            chance = np.where(member[self._traits.industry], 0.95, 0.12)
        return np.asarray(self._rng(dataset_name, "present").random(self.count) < chance)

    def columns(self, dataset_name: str) -> Mapping[str, MaskedColumn]:
        """Return masked arrays by short field name: float64, int64, bool, str (codes) or datetime64[D]; masked = null.

        Raises:
            DatasetUnknown: No such dataset.
        """
        dataset = self.catalog.dataset(dataset_name)
        present = self.present(dataset_name)
        maker = ValueMaker(self._traits, dataset, self._rng)
        return {field.name: maker.column(field)[present] for field in dataset.fields}

    def packed(self, dataset_name: str) -> bytes:
        """Return the records of the companies present, in the order of subjects.

        Raises:
            DatasetUnknown: No such dataset.
        """
        layout = RecordLayout.of(self.catalog.dataset(dataset_name))
        return layout.pack(self.columns(dataset_name), int(self.present(dataset_name).sum()))

    def write(self, folder: Path, dataset_name: str, format: str = "csv") -> Path:  # noqa: A002
        """Write the table a steward would load and return its path, `<dataset>.csv` or `<dataset>.parquet`.

        Raises:
            DatasetUnknown: No such dataset.
        """
        import pyarrow as pa
        from pyarrow import csv, parquet

        present = self.present(dataset_name).tolist()
        subjects = [s for s, here in zip(self.subjects, present, strict=True) if here]
        columns = {
            n: pa.array(np.ma.getdata(c), mask=np.ma.getmaskarray(c)) for n, c in self.columns(dataset_name).items()
        }
        table, path = pa.table({"subject": subjects, **columns}), folder / f"{dataset_name}.{format}"
        if format == "csv":
            csv.write_csv(table, path, csv.WriteOptions(quoting_style="needed"))
        else:
            parquet.write_table(table, path)
        return path

    def _rng(self, *key: str) -> np.random.Generator:
        digest = hashlib.sha256("\n".join(key).encode()).digest()
        return np.random.default_rng([self.seed & (2**64 - 1), int.from_bytes(digest[:8], "little")])


def _subjects(count: int, seed: int) -> list[str]:
    """Return distinct credit codes of companies (91) in 4199xx, a division that does not exist: nobody's real code."""
    alphabet = np.frombuffer(b"0123456789ABCDEFGHJKLMNPQRTUWXY", dtype=np.uint8).astype(np.int64)
    # A step coprime to 31^6 visits every number once, so codes are distinct without being looked up.
    numbers = (np.arange(count, dtype=np.int64) * 274_876_859 + (seed % COUNT_MAX) * 7_919) % COUNT_MAX
    serial = numbers[:, None] // 31 ** np.arange(5, -1, -1) % 31
    organisation = np.hstack([np.tile([21, 10], (count, 1)), serial])  # MA......
    body = np.hstack([np.tile([9, 1, 4, 1, 9, 9, 0, 1], (count, 1)), organisation])
    body = np.hstack([body, _organisation_check(alphabet[organisation])[:, None]])
    codes = alphabet[np.hstack([body, credit_code_check(body)[:, None]])].astype(np.uint8)
    return ["uscc:" + row.tobytes().decode("ascii") for row in codes]


def _organisation_check(characters: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the check character of an organisation code (GB 11714-1997, modulus 11) as an ordinal of GB 32100."""
    values = np.where(characters >= ord("A"), characters - ord("A") + 10, characters - ord("0"))
    check = (11 - values @ np.array([3, 7, 9, 10, 5, 8, 4, 2]) % 11) % 11
    return np.where(check == 10, 29, check)  # 10 is written X, number 29 of the alphabet
