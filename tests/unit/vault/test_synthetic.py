"""Made-up companies: the same from the same seed, plausible, loadable, and worth training on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sandbox.vault.catalog import FieldType, load_catalog
from sandbox.vault.catalog_file import parse_catalog
from sandbox.vault.errors import DatasetUnknown
from sandbox.vault.ingest import read_table
from sandbox.vault.record import RecordLayout
from sandbox.vault.subject import parse_subject
from sandbox.vault.subject_columns import first_invalid_subject
from sandbox.vault.synthetic import COUNT_MAX, World, generate
from sandbox.vault.synthetic_values import family_of

CATALOG = load_catalog()
WORLD = generate(CATALOG, 3000, 7)
SENSIBLE = [
    "tax.declaration.sales_12m",
    "tax.declaration.late_declarations_12m",
    "tax.declaration.taxpayer_grade",
    "social_security.contribution.months_paid_12m",
    "social_security.contribution.arrears",
    "electricity.usage.usage_growth_rate_12m",
    "water.usage.late_months_12m",
    "market_regulation.registration.established_on",
    "public_credit.judicial.enforced_amount_36m",
    "housing_fund.deposit.headcount_avg_12m",
]
PAIRS = [(24, 12), (12, 6), (12, 3), (6, 3), (3, 1), (36, 24), (24, 6)]  # months: wide, narrow


def test_subjects_are_valid_and_distinct() -> None:
    """Every subject passes the public checksum, and none occurs twice."""
    assert first_invalid_subject(WORLD.subjects) is None
    assert [parse_subject(subject) for subject in WORLD.subjects[:50]] == WORLD.subjects[:50]
    assert len(set(WORLD.subjects)) == len(WORLD.subjects) == 3000


def test_no_subject_can_be_a_real_company_s() -> None:
    """The codes belong to an administrative division that does not exist, with a right organisation code inside."""
    assert all(subject.startswith("uscc:91419901MA") for subject in WORLD.subjects)
    weights = (3, 7, 9, 10, 5, 8, 4, 2)
    for subject in WORLD.subjects[:200]:
        body, check = subject[13:21], subject[21]
        total = sum(int(character, 36) * weight for character, weight in zip(body, weights, strict=True))
        assert check == "0123456789X"[(11 - total % 11) % 11]


def test_the_same_seed_makes_the_same_bytes_in_any_order() -> None:
    """Worlds are equal down to the packed rows, whichever dataset is asked for first; another seed is another world."""
    names = list(CATALOG.datasets)
    again, other = generate(CATALOG, 3000, 7), generate(CATALOG, 3000, 8)
    for name in (*reversed(names[:4]), names[10]):
        assert again.packed(name) == WORLD.packed(name)
    assert again.subjects == WORLD.subjects
    assert (again.defaulted == WORLD.defaulted).all()
    assert other.packed(names[0]) != WORLD.packed(names[0])
    assert not set(other.subjects) & set(WORLD.subjects)


@pytest.mark.parametrize("name", CATALOG.datasets)
def test_every_dataset_packs_and_has_gaps(name: str) -> None:
    """The rows of every dataset obey the layout; there are nulls, and nothing is null throughout."""
    layout, present = RecordLayout.of(CATALOG.datasets[name]), int(WORLD.present(name).sum())
    layout.validate(WORLD.packed(name), present)
    columns = WORLD.columns(name)
    masks = [np.ma.getmaskarray(column) for column in columns.values()]
    assert all(len(mask) == present and not mask.all() for mask in masks)
    assert 0.01 < np.mean(masks) < 0.15


@pytest.mark.parametrize("name", CATALOG.datasets)
def test_longer_windows_hold_shorter_ones(name: str) -> None:
    """Sums, counts and maxima over a longer time are never below those over a shorter one inside it."""
    columns, checked = WORLD.columns(name), 0
    for field in columns:
        family = family_of(field)
        if not family.months or family.words & {"avg", "rate", "growth"}:
            continue
        for wide, narrow in PAIRS:
            inside = columns.get(f"{family.stem}_{narrow}m")
            if family.months == wide and inside is not None:
                assert (columns[field] >= inside).all(), field
                checked += 1
    assert checked or name == "market_regulation.annual_report"


def test_values_are_of_their_field_s_kind() -> None:
    """Percentages, months and persons stay in their ranges; money has no third decimal."""
    for name, dataset in CATALOG.datasets.items():
        columns = WORLD.columns(name)
        for field in dataset.fields:
            values, family = columns[field.name].compressed(), family_of(field.name)
            if field.unit == "%" and not family.words & {"growth", "change"}:
                assert ((values >= 0) & (values <= 100)).all(), field
            if field.unit == "mo" and family.months:
                assert ((values >= 0) & (values <= family.months)).all(), field
            if field.unit == "person":
                assert (values >= 0).all(), field
            if field.type is FieldType.NUMBER:
                assert (np.round(values, 2) == values).all(), field


def test_related_values_agree() -> None:
    """No more is paid than billed or won than bid, and fines go with penalties, within rounding."""
    water, bids, tax = (WORLD.columns(n) for n in ("water.usage", "public_resources.bidding", "tax.declaration"))
    assert (water["paid_12m"] <= water["billed_12m"] + 0.01).all()
    assert (bids["wins_goods_12m"] <= bids["bids_goods_12m"]).all()
    assert (tax["arrears"] <= tax["arrears_max_12m"] + 0.01).all()
    both = ~np.ma.getmaskarray(tax["penalties_12m"]) & ~np.ma.getmaskarray(tax["penalty_amount_12m"])
    assert ((tax["penalties_12m"] > 0) == (tax["penalty_amount_12m"] > 0))[both].all()


def test_trouble_is_mostly_absent() -> None:
    """Amounts in arrears are zero for most companies and heavy-tailed for the others."""
    arrears = WORLD.columns("tax.declaration")["arrears"].compressed()
    assert 0.6 < (arrears == 0).mean() < 0.95
    there = arrears[arrears > 0]
    assert there.mean() > 1.5 * np.median(there)


def test_some_companies_are_unknown_to_some_departments() -> None:
    """Everybody is registered; farms are few; who has gas is not everybody."""
    assert WORLD.present("market_regulation.registration").all()
    assert 0.05 < WORLD.present("agriculture.operation").mean() < 0.4
    assert 0.2 < WORLD.present("gas.usage").mean() < 0.6


def matrix(world: World, names: list[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the fields as a model sees them: through packed rows and gathers, NaN where there is none."""
    result = np.full((world.count, len(names)), np.nan)
    for place, name in enumerate(names):
        dataset = world.catalog.dataset_of(name)
        layout, body = RecordLayout.of(dataset), world.packed(dataset.name)
        gather = layout.compile([name])
        rows = [gather.read(body[at : at + layout.width])[0] for at in range(0, len(body), layout.width)]
        result[world.present(dataset.name), place] = rows
    return result


def test_a_model_learns_from_sensible_fields_but_not_everything() -> None:
    """LightGBM on ten fields of seven departments ranks defaults with an AUC that a bank would believe."""
    lightgbm = pytest.importorskip("lightgbm")
    metrics = pytest.importorskip("sklearn.metrics")
    x, y = matrix(WORLD, SENSIBLE), WORLD.defaulted
    assert 0.08 < y.mean() < 0.25
    model = lightgbm.LGBMClassifier(n_estimators=60, num_leaves=7, learning_rate=0.07, n_jobs=1, verbose=-1)
    score = model.fit(x[:2000], y[:2000]).predict_proba(x[2000:])[:, 1]
    assert 0.75 < metrics.roc_auc_score(y[2000:], score) < 0.92


@pytest.mark.parametrize("format", ["csv", "parquet"])
@pytest.mark.parametrize("name", ["market_regulation.registration", "tax.invoice"])
def test_what_is_written_is_what_is_loaded(tmp_path: Path, name: str, format: str) -> None:  # noqa: A002
    """A table written for a steward comes back through ingestion as exactly the packed rows."""
    path = WORLD.write(tmp_path, name, format)
    table = read_table(path, CATALOG.datasets[name])
    assert table.rows == WORLD.packed(name)
    assert table.subjects == [s for s, here in zip(WORLD.subjects, WORLD.present(name), strict=True) if here]


def test_any_catalogue_can_be_filled() -> None:
    """A steward's own file with every type gets plausible rows without a line of code."""
    text = """
departments:
  elsewhere:
    label: 别处 | Elsewhere
    datasets:
      things:
        label: 事物 | things
        cadence: daily
        fields:
          ratio: number | 比率 | ratio
          turnover_{3,6}m: number CNY | {1}个月营业额 | turnover of {1} months
          people: integer person | 人数 | people
          sure: boolean | 是否 | sure
          state: category [OR, LA] | 州 | state
          since: date | 日期 | since
          late_payments_48m: integer | 逾期次数 | late payments
"""
    world = generate(parse_catalog(text.encode()), 20, 1)
    RecordLayout.of(world.catalog.dataset("elsewhere.things")).validate(
        world.packed("elsewhere.things"), int(world.present("elsewhere.things").sum())
    )


def test_odd_counts() -> None:
    """No companies make empty tables; impossible numbers are the programmer's error; unknown datasets the caller's."""
    empty = generate(CATALOG, 0, 1)
    assert (empty.subjects, empty.packed("tax.invoice")) == ([], b"")
    for count in (-1, COUNT_MAX + 1):
        with pytest.raises(ValueError, match="count"):
            generate(CATALOG, count, 1)
    with pytest.raises(DatasetUnknown):
        empty.columns("tax.none")
