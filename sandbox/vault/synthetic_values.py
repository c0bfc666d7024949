"""How made-up values follow from a company's traits and from what a field is called; see synthetic.py."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sandbox.vault.catalog import Dataset, Field, FieldType

AS_OF = date(2026, 6, 30)
"""The day all made-up records are as of."""

ADVERSE = frozenset(
    """
    abnormal accident accidents arrears black claims complaints consumption defendant defaulted deferral dishonest
    disputes enforced enforcement exceeded expired failed fatigue fines frozen hazards idle injuries lapsed late
    layoffs losses lost major mortgaged offline overdue overload penalties penalty pledged pledges reduced rejected
    restricted reversed seized seizures serious shut shutdown terminated unpaid unresolved violation violations voided
    warning warnings zero
    """.split()  # noqa: SIM905 - a list of words reads better so
)
"""Words of a field's name that mean trouble: such values are mostly zero and grow as health falls."""

# A part is a share of its whole, so that never more was paid than billed or won than bid. (part, whole, typical share)
_PARTS = (
    ("paid_in_capital", "registered_capital", 0.7),
    ("main_revenue", "revenue", 0.95),
    ("net_profit", "profit", 0.8),
    ("liabilities", "assets", 0.5),
    ("equity", "assets", 0.5),
    ("female_employees", "employees", 0.4),
    ("graduate_employees", "employees", 0.2),
    ("sales_export", "sales", 0.15),
    ("cost", "revenue", 0.85),
    ("top1_rate", "top5_rate", 0.5),
    ("new_partners", "partners", 0.3),
    ("wins", "bids", 0.25),
    ("paid_", "billed_", 0.97),
    ("usage_production", "usage", 0.6),
    ("usage_domestic", "usage", 0.4),
    ("usage_peak", "usage", 0.3),
    ("usage_flat", "usage", 0.35),
    ("usage_valley", "usage", 0.2),
    ("arrears", "arrears_max_12m", 0.6),
    ("inspections_failed", "inspections", 0.1),
    ("inspection_failed", "inspections", 0.1),
    ("site_tests_failed", "site_tests", 0.1),
    ("residue_failed", "residue_checks", 0.1),
    ("voided_count", "count_issued", 0.03),
    ("hazards_unresolved", "hazards_3m", 0.2),
)
_RESTS = {"equity": "liabilities", "usage_domestic": "usage_production"}
"""What is left of the whole after the other part."""
_SELDOM = frozenset({"sales_export"})
"""Parts that most companies do not have at all."""
# No amount without a case: the first is zero wherever the second is. (prefix of the amount, prefix of the count)
_NEEDS = (
    ("won_amount", "wins"),
    ("amount_in", "transfers_in"),
    ("amount_out", "transfers_out"),
    ("plaintiff_amount", "plaintiff"),
    ("project_funds", "projects"),
    ("donated", "donations"),
    ("value_", "owned_"),
    ("value_", "count_"),
    ("area_", "count_"),
    ("tech_contracts_sold_amount", "tech_contracts_sold"),
    ("tech_contracts_bought_amount", "tech_contracts_bought"),
    ("guarantees_given_y", "guarantees_given_count_y"),
)
_RATES = {"burden": 3.0, "employer_rate": 8.0, "employee_rate": 8.0, "rd_spend": 6.0, "voided": 2.0, "reversed": 2.0}
"""Typical percentages, where one would notice."""
# Yearly sums as a share of sales; other money is a share drawn for its family.
_SHARES = {"output_tax": 0.1, "input_tax": 0.075, "amount_received": 0.7, "wage_total": 0.18, "paid_vat": 0.025}
_WHOLE_SALES = frozenset({"sales", "revenue", "output", "assets", "issued"})
_STAFF = frozenset({"employees", "insured", "members", "headcount"})
_CORE = _WHOLE_SALES | _STAFF | {"usage", "billed", "received", "tax", "wage"}

_EDGES = np.array([0, 1, 3, 6, 12, 24, 36])
_WINDOW = re.compile(r"(.+)_(?:(\d{1,2})m|y([1-9]))")

Floats = NDArray[np.float64]
Column = NDArray[Any]
MaskedColumn = np.ma.MaskedArray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Traits:
    """What is behind all values of a company; arrays of shape (count,).

    Attributes:
        health: Standard normal.
        industry: Index of the GB/T 4754 section.
        age: Months since it was established.
        headcount: Staff.
        sales: Yearly sales in CNY.
    """

    health: Floats
    industry: NDArray[np.int64]
    age: Floats
    headcount: Floats
    sales: Floats


@dataclass(frozen=True, slots=True)
class Family:
    """What a field's name says: `sales_12m` is of the family `sales`, a sum over 12 months."""

    stem: str
    months: int
    year: int
    adverse: bool
    words: frozenset[str]


@lru_cache(maxsize=8192)
def family_of(name: str) -> Family:
    """Read a field's short name."""
    match = _WINDOW.fullmatch(name)
    stem, months, year = (match[1], int(match[2] or 0), int(match[3] or 0)) if match else (name, 0, 0)
    words = frozenset(stem.split("_"))
    return Family(stem, months, year, bool(words & ADVERSE), words)


def sigmoid(x: Floats) -> Floats:
    """Return the logistic function."""
    return np.asarray(1 / (1 + np.exp(-x)))


class ValueMaker:
    """Makes the columns of one dataset for all companies, present there or not."""

    def __init__(self, traits: Traits, dataset: Dataset, stream: Callable[..., np.random.Generator]) -> None:
        self.traits, self.dataset, self.count, self.stream = traits, dataset, len(traits.health), stream
        self.fields = {field.name: field for field in dataset.fields}
        noise = stream(dataset.department, "view").standard_normal(self.count)
        self.view: Floats = 0.85 * traits.health + 0.53 * noise  # what this department sees of health
        self.makers: Mapping[FieldType, Callable[[Field, Family], Column]] = {
            FieldType.NUMBER: self.number,
            FieldType.INTEGER: self.integer,
            FieldType.BOOLEAN: self.boolean,
            FieldType.CATEGORY: self.category,
            FieldType.DATE: self.date,
        }

    def rng(self, *key: str) -> np.random.Generator:
        """Return the random stream of that key in this dataset."""
        return self.stream(self.dataset.name, *key)

    def column(self, field: Field) -> MaskedColumn:
        """Return a field's values of all companies as a masked array."""
        family = family_of(field.name)
        values = self.makers[field.type](field, family)
        rng = self.rng(family.stem, "missing")
        core = field.name in {"status", "industry", "established_on"}
        return np.ma.MaskedArray(values, mask=rng.random(self.count) < (0.0 if core else rng.uniform(0, 0.1)))

    def number(self, field: Field, family: Family) -> Floats:
        """Return a number, to the cent."""
        return np.round(self.real(field, family), 2)

    def integer(self, field: Field, family: Family) -> NDArray[np.int64]:
        """Return a whole number."""
        return np.floor(self.real(field, family) + 1e-9).astype(np.int64)

    def real(self, field: Field, family: Family) -> Floats:
        """Return the values of a number or integer before they are rounded."""
        if whole := self.whole(field.name):
            return self.real(self.fields[whole[0]], family_of(whole[0])) * self.share(family, whole[1])
        if family.words & {"profit", "income"} and field.unit == "CNY":
            return self.profit(family)
        if field.unit == "%":
            return self.percent(family)
        if field.unit == "mo" and family.months:
            return self.months(family)
        if field.name in {"score", "climate_index"}:
            return np.clip(70 + 11 * self.view + self.rng(field.name).normal(0, 6, self.count), 0, 100)
        values = self.events(field, family) if family.adverse else self.amount(field, family)
        return np.asarray(values * self.cases(field.name))

    def cases(self, name: str) -> NDArray[np.bool_] | bool:
        """Say where an amount can be: where there was at least one of what it is the amount of."""
        for amount, count in _NEEDS:
            if name.startswith(amount) and (other := self.fields.get(name.replace(amount, count, 1))):
                return self.integer(other, family_of(other.name)) > 0
        return True

    def whole(self, name: str) -> tuple[str, float] | None:
        """Return the field this one is a part of, and the typical share."""
        for part, whole, share in _PARTS:
            if name.startswith(part) and (other := name.replace(part, whole, 1)) in self.fields:
                return other, share
            if name == part and whole in self.fields:
                return whole, share
        return None

    def share(self, family: Family, typical: float) -> Floats:
        """Return a part's share of its whole, the same in every window so that parts stay below their wholes."""
        if rest_of := _RESTS.get(family.stem):
            return 1 - self.share(family_of(rest_of), 1 - typical)
        rng = self.rng(family.stem)
        load = -0.7 if family.adverse or "liabilities" in family.words else 0.5
        share = sigmoid(np.log(typical / (1 - typical)) + load * self.view + 0.5 * rng.standard_normal(self.count))
        return np.asarray(share * (rng.random(self.count) < (0.4 if family.stem in _SELDOM else 1.0)))

    def scale(self, field: Field, family: Family, rng: np.random.Generator) -> Floats:
        """Return the typical yearly value of a field that is not trouble: a share of sales, staff or use."""
        share = _SHARES.get(family.stem, float(np.exp(rng.uniform(-5, -2))))
        monthly = 12 if "avg" in family.words and family.months else 1
        if field.unit == "CNY":
            if family.words & {"avg", "base"}:
                return np.asarray(6e3 * monthly * np.exp(0.1 * self.view))
            named = family.stem in _SHARES or not family.words & _WHOLE_SALES
            return self.traits.sales * (share if named else 1.0)
        if field.unit == "person":
            return self.traits.headcount * (1.0 if family.words & _STAFF else share * 3) * monthly
        if field.unit:
            return np.asarray(self.traits.headcount * np.exp(rng.uniform(3, 7)))
        return np.asarray(np.sqrt(self.traits.headcount) * np.exp(rng.uniform(-2, 1.5)))

    def amount(self, field: Field, family: Family) -> Floats:
        """Return sums over windows, states of closed years, or a present state; some families are zero for many."""
        rng = self.rng(family.stem)
        core = bool(family.words & _CORE)
        scale = self.scale(field, family, rng) * np.exp(0.35 * rng.standard_normal(self.count) + 0.2 * self.view)
        active = rng.random(self.count) < (0.97 if core else rng.uniform(0.25, 0.95) + 0.03 * self.view)
        growth = 0.12 * self.view + 0.1 * rng.standard_normal(self.count)
        if not family.months:
            return np.asarray(active * scale * np.exp(-growth * family.year))
        return self.windows(family, active[:, None] * self.parts(scale / 12, growth, rng))

    def parts(self, monthly: Floats, growth: Floats, rng: np.random.Generator) -> Floats:
        """Return the sums of the stretches between window edges; who grows had less the longer ago it is."""
        lengths, middles = np.diff(_EDGES), (_EDGES[1:] + _EDGES[:-1]) / 24
        wobble = np.exp(0.15 * rng.standard_normal((self.count, len(lengths))))
        return np.asarray(monthly[:, None] * lengths * np.exp(-growth[:, None] * middles) * wobble)

    def windows(self, family: Family, parts: Floats) -> Floats:
        """Return a window's sum, monthly average or highest month from its stretches."""
        last = int(np.searchsorted(_EDGES, family.months)) or 1
        inside = parts[:, : min(last, parts.shape[1])]
        if "max" in family.words:
            return np.asarray((inside / np.diff(_EDGES)[: inside.shape[1]]).max(axis=1, initial=0) * 1.3)
        total = inside.sum(axis=1)
        return np.asarray(total / family.months if "avg" in family.words else total)

    def events(self, field: Field, family: Family) -> Floats:
        """Return counts of bad events, or their amounts: more than zero exactly where there were events."""
        # Fines and numbers of fines, amounts and numbers of cases tell of the same events.
        shared = family.stem.replace("_amount", "").replace("penalty", "penalties")
        rng, months = self.rng(shared, "events"), np.diff(_EDGES)
        rate = np.exp(rng.uniform(-3.4, -2.2) - 1.1 * self.view + 0.4 * rng.standard_normal(self.count)) / 12
        counts = rng.poisson(np.minimum(rate[:, None] * months, 200.0)).astype(np.float64)
        own = self.rng(family.stem, "amounts")
        heavy = np.exp(0.8 * own.standard_normal(counts.shape))
        if field.unit == "CNY":
            size = self.traits.sales[:, None] * np.exp(own.uniform(-6, -4.5))
            counts = counts * np.maximum(size * heavy, 10.0)
        elif field.unit:
            counts = np.ceil(counts * 2 * heavy)
        state = family if family.months else Family(family.stem, 12, 0, True, frozenset())
        return self.windows(state, counts)

    def months(self, family: Family) -> Floats:
        """Return in how many months of the window something was so."""
        rng = self.rng(family.stem)
        level = (-4.2 - 1.2 * self.view) if family.adverse else (2.4 + 0.9 * self.view)
        chance = sigmoid(level + 0.5 * rng.standard_normal(self.count))
        parts = rng.binomial(np.diff(_EDGES), chance[:, None]).astype(np.float64)
        return self.windows(family, parts)

    def percent(self, family: Family) -> Floats:
        """Return growth rates (may be negative) or shares (0 to 100)."""
        rng = self.rng(family.stem)
        known = [rate for words, rate in _RATES.items() if words in family.stem]
        level = np.log(known[0] / (100 - known[0])) if known else rng.uniform(-1.5, 1.0) - 1.5 * family.adverse
        lasting = rng.standard_normal(self.count)
        fresh = self.rng(family.stem, str(family.months), str(family.year)).standard_normal(self.count)
        if family.words & {"growth", "change"}:
            return np.clip(4 + 11 * self.view + 14 * lasting + 6 * fresh, -100, 400)
        load = -0.6 if family.adverse or family.words & {"top5", "turnover", "mortgage"} else 0.3
        return 100 * sigmoid(level + load * self.view + 0.6 * lasting + 0.2 * fresh)

    def profit(self, family: Family) -> Floats:
        """Return a year's profit: a margin on sales, below zero for many of the unhealthy."""
        rng = self.rng(family.stem.replace("taxable_income", "profit"))
        fresh = self.rng(family.stem, str(family.year)).standard_normal(self.count)
        margin = 0.05 + 0.06 * self.view + 0.05 * rng.standard_normal(self.count) + 0.02 * fresh
        return np.asarray(self.traits.sales * margin * np.exp(-0.1 * family.year))

    def boolean(self, field: Field, family: Family) -> NDArray[np.bool_]:
        """Return truth values; what is bad is rare, and being on time is the rule."""
        rng = self.rng(family.stem)
        if family.adverse:
            level = rng.uniform(-5.0, -3.6) - 1.2 * self.view
        else:
            level = (2.5 if "time" in family.words else rng.uniform(-2, 1)) + 0.5 * self.view
        fresh = self.rng(field.name, "fresh").random(self.count)
        return np.asarray(fresh < sigmoid(level))

    def category(self, field: Field, family: Family) -> Column:
        """Return codes: grades follow health, industry and size are the company's own, the rest is chance."""
        rng, size = self.rng(family.stem), len(field.codes)
        if field.code_list.endswith("_grade"):
            fresh = self.rng(family.stem, str(family.year)).standard_normal(self.count)
            seen = self.view + 0.35 * rng.standard_normal(self.count) + 0.25 * fresh
            cuts = np.linspace(1.0, -1.9, size)[: size - 1]
            index = (seen[:, None] < cuts).sum(axis=1)
        elif field.code_list == "industry_section":
            index = self.traits.industry
        elif field.code_list == "company_size":
            index = 3 - np.searchsorted([10, 100, 400], self.traits.headcount)
        else:
            steepness = 4.0 if field.code_list == "company_status" else 1.3
            weights = 1 / np.arange(1, size + 1) ** steepness
            index = rng.choice(size, size=self.count, p=weights / weights.sum())
        return np.asarray(np.array(field.codes)[np.minimum(index, size - 1)])

    def date(self, field: Field, family: Family) -> NDArray[np.datetime64]:
        """Return days: ends lie around `AS_OF`, the latest events shortly before, first ones in the company's life."""
        rng = self.rng(field.name)
        life = self.traits.age * 30.4
        if field.name == "established_on":
            ago = life
        elif "ends" in family.words:
            ago = -rng.uniform(-120, 1400, self.count)
        elif family.words & {"last", "up"}:
            ago = np.minimum(life, rng.exponential(30 * np.exp(-0.35 * self.view)))
        else:
            ago = life * rng.beta(4, 1.2, self.count)
        return np.datetime64(AS_OF, "D") - np.floor(ago).astype("timedelta64[D]")
