"""Example models for the tour, the demonstration, tests and bench: trained on made-up companies.

Two of them, because banks differ: gradient-boosted trees over numbers, and a scikit-learn pipeline with a category
that travels as text and with missing values.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enclave_api.client.bank import Offer, Row, own_limits, vector_of
from model_registry.bundle import Sample
from model_registry.convert import Converted, FieldSpec, from_lightgbm, from_sklearn
from sandbox.vault.catalog import Catalog
from sandbox.vault.record import RecordLayout
from sandbox.vault.synthetic import World

LEVELS = (0, 50_000, 100_000, 200_000, 300_000, 500_000, 800_000, 1_000_000, 1_500_000, 2_000_000, 3_000_000)

FIELDS = (
    "market_regulation.registration.registered_capital",
    "market_regulation.annual_report.assets_y1",
    "market_regulation.annual_report.liabilities_y1",
    "tax.declaration.sales_3m",
    "tax.declaration.sales_12m",
    "tax.invoice.amount_issued_12m",
    "social_security.contribution.insured_pension",
    "housing_fund.deposit.members",
    "electricity.usage.usage_12m",
    "public_credit.lists.score",
    "public_credit.judicial.defendant_12m",
    "customs.trade.amount_export_12m",
)

SKLEARN_FIELDS = (
    "tax.declaration.taxpayer_grade",
    "tax.declaration.sales_12m",
    "public_credit.lists.score",
    "public_credit.judicial.defendant_12m",
    "electricity.usage.usage_12m",
)

RULES = Path(__file__).with_name("example_rules.yaml").read_text()


@dataclass(frozen=True)
class Example:
    """A trained model, its offer, and what the bank knows about the rows it trained on."""

    model: Converted
    offer: Offer
    rows: list[Row]
    scores: NDArray[np.float64]
    auc: float
    native: Callable[[Sequence[tuple[float, ...]]], list[float]] = lambda _: []  # scores of other rows (vectors)

    def own_limits(self) -> list[int]:
        """The limit of each row as the bank computes it with its native model."""
        limit = own_limits(self.offer, self.model.fields)
        return [limit(row, float(score)) for row, score in zip(self.rows, self.scores, strict=True)]

    def samples(self, count: int = 20) -> list[Sample]:
        """Parity samples from the first rows."""
        limit = own_limits(self.offer, self.model.fields)
        some = zip(self.rows[:count], self.scores[:count], strict=True)
        return [Sample(vector_of(self.model.fields, row), limit(row, float(score))) for row, score in some]


def rows_of(world: World, names: Sequence[str]) -> list[Row]:
    """Every company's values of the named fields, as the vault would hand them out (None = missing)."""
    rows: list[dict[str, Any]] = [{} for _ in world.subjects]
    for dataset in dict.fromkeys(name.rpartition(".")[0] for name in names):
        layout = RecordLayout.of(world.catalog.dataset(dataset))
        packed, width = world.packed(dataset), layout.width
        wanted = [(i, n) for i, n in enumerate(world.catalog.dataset(dataset).field_names) if n in names]
        for at, company in enumerate(np.flatnonzero(world.present(dataset)).tolist()):
            values = layout.unpack(packed[at * width : (at + 1) * width])
            rows[company].update({name: values[i] for i, name in wanted})
    return list(rows)


def specs(catalog: Catalog, names: Sequence[str]) -> list[FieldSpec]:
    """Field specifications from a catalogue at hand."""
    return [FieldSpec.of(name, catalog.fields) for name in names]


def train_lightgbm(world: World, product: str, names: Sequence[str] = FIELDS, trees: int = 300) -> Example:
    """Trains boosted trees on the world's defaults."""
    import lightgbm
    from sklearn.metrics import roc_auc_score

    fields, rows = specs(world.catalog, names), rows_of(world, names)
    features = np.array([vector_of(fields, row) for row in rows])
    booster = lightgbm.LGBMClassifier(n_estimators=trees, learning_rate=0.03, num_leaves=15, n_jobs=1, verbose=-1)
    booster.fit(features, world.defaulted)
    scores = np.asarray(booster.predict_proba(features))[:, 1]
    offer = Offer(product, LEVELS, RULES, comment="boosted trees")
    auc = float(roc_auc_score(world.defaulted, scores))

    def native(vectors: Sequence[tuple[float, ...]]) -> list[float]:
        return [float(score) for score in np.asarray(booster.predict_proba(np.array(vectors)))[:, 1]]

    return Example(from_lightgbm(booster, fields), offer, rows, scores, auc, native)


def train_sklearn(world: World, product: str, names: Sequence[str] = SKLEARN_FIELDS) -> Example:
    """Trains a pipeline: imputed and scaled numbers, a one-hot category, logistic regression."""
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    fields, rows = specs(world.catalog, names), rows_of(world, names)
    text = [f.name.rpartition(".")[2] for f in fields if f.type == "category"]
    columns = [f.name.rpartition(".")[2] for f in fields]
    frame = pd.DataFrame({c: [row.get(f.name) for row in rows] for c, f in zip(columns, fields, strict=True)})
    for column in text:
        frame[column] = frame[column].fillna("")
    numbers = [c for c in columns if c not in text]
    frame[numbers] = frame[numbers].astype("float32")
    prepare = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
            ("text", OneHotEncoder(handle_unknown="ignore"), text),
        ]
    )
    pipeline = Pipeline([("prepare", prepare), ("classify", LogisticRegression(max_iter=1000))])
    pipeline.fit(frame, world.defaulted)
    scores = pipeline.predict_proba(frame)[:, 1]
    model = from_sklearn(pipeline, fields, columns)
    offer = Offer(product, LEVELS, RULES, comment="logistic regression")
    return Example(model, offer, rows, scores, float(roc_auc_score(world.defaulted, scores)))
