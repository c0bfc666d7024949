"""Real loans and companies: converted models give every score and limit of the bank's own library, row by row."""

import csv
import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import pytest

from enclave_api.client.bank import Offer, Row, own_limits, vector_of
from model_registry.convert import FieldSpec, from_lightgbm, from_sklearn, from_xgboost, parity, row_of
from model_registry.convert.native import lightgbm_scores, xgboost_scores
from model_registry.convert.sklearn_model import sklearn_scores
from tests.conftest import fixture_file
from tests.integration.test_real_credit import LEVELS, POLISH, SBA, Source, typed

TRAIN, ASKED = 3000, 700


@dataclass(frozen=True)
class Loans:
    """Rows of a data set as vectors, a frame with texts, what became of them, and the bank's rules over them."""

    fields: list[FieldSpec]
    vectors: list[tuple[float, ...]]
    frame: pd.DataFrame
    failed: list[bool]
    offer: Offer

    @cached_property
    def _limit(self) -> Callable[[Row, float], int]:
        return own_limits(self.offer, self.fields)

    def limit_of(self, vector: Sequence[float], score: float) -> int:
        """The bank's limit."""
        return self._limit(row_of(self.fields, vector), score)


@pytest.fixture(scope="module", params=[POLISH, SBA], ids=["polish", "sba"])
def loans(request: pytest.FixtureRequest) -> Loans:
    """Reads a data set; its code list is the states that occur."""
    source: Source = request.param
    with gzip.open(fixture_file(source.file), "rt", newline="") as file:
        told = list(csv.DictReader(file))
    some = [told[i] for i in np.random.default_rng(2).permutation(len(told))[: TRAIN + ASKED]]
    values = [source.values(row) for row in some]
    states = tuple(sorted({value["state"] for value in values if value.get("state")}))
    kinds = {name: kind.split()[0] for name, kind in source.fields.items()}
    fields = [FieldSpec(f"real.credit.{n}", kind, states if kind == "category" else ()) for n, kind in kinds.items()]
    vectors = [vector_of(fields, typed(fields, value)) for value in values]
    frame = pd.DataFrame(vectors, columns=[field.name for field in fields])
    if states:
        texts = ["" if np.isnan(n) else states[int(n)] for n in frame["real.credit.state"]]
        frame["real.credit.state"] = texts
    failed = [source.defaulted(row) for row in some]
    return Loans(fields, vectors, frame, failed, Offer("zhongyuan/real", LEVELS, source.rules))


def _coded(loans: Loans) -> pd.DataFrame:
    """The frame with its texts as pandas categories, in an order of the bank's own."""
    told = loans.frame.copy()
    for field in loans.fields:
        if field.type == "category":
            texts = told[field.name].replace({"": None}).astype(object)
            told[field.name] = pd.Categorical(texts, categories=list(reversed(field.codes)))
    return told


def test_lightgbm_with_states_as_categories(loans: Loans) -> None:
    """Every score has the bits of LightGBM's, every limit is the bank's."""
    lightgbm = pytest.importorskip("lightgbm")
    coded = _coded(loans)
    model = lightgbm.LGBMClassifier(n_estimators=60, num_leaves=15, n_jobs=1, verbose=-1)
    model.fit(coded[:TRAIN], loans.failed[:TRAIN])
    own = np.asarray(model.predict_proba(coded[TRAIN:]))[:, 1].tolist()
    rows = loans.vectors[TRAIN:]
    found = parity(own, from_lightgbm(model, loans.fields), rows, loans.limit_of)
    assert (found.equal, found.flips) == (ASKED, ())
    assert lightgbm_scores(model, loans.fields)(rows) == own
    assert len({loans.limit_of(row, score) for row, score in zip(rows, own, strict=True)}) >= 5


def test_xgboost_with_states_as_categories(loans: Loans) -> None:
    """Scores agree to the last bits of a float, and no limit differs."""
    xgboost = pytest.importorskip("xgboost", reason="xgboost cannot be imported on this machine")
    coded = _coded(loans)
    model = xgboost.XGBClassifier(n_estimators=60, max_depth=4, n_jobs=1, enable_categorical=True)
    model.fit(coded[:TRAIN], loans.failed[:TRAIN])
    own = model.predict_proba(coded[TRAIN:])[:, 1].tolist()
    rows = loans.vectors[TRAIN:]
    found = parity(own, from_xgboost(model, loans.fields), rows, loans.limit_of)
    assert found.flips == ()
    assert found.relative < 3e-7
    assert found.equal > ASKED * 0.9
    assert xgboost_scores(model, loans.fields)(rows) == own


def test_a_pipeline_in_the_precision_that_it_needs(loans: Loans) -> None:
    """Scaled values beside thresholds take other branches as floats: auto writes doubles, and every limit agrees."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    texts = [field.name for field in loans.fields if field.type == "category"]
    numbers = [field.name for field in loans.fields if field.type != "category"]
    parts = [("n", StandardScaler(), numbers), ("t", OneHotEncoder(handle_unknown="ignore"), texts)]
    columns = ColumnTransformer(parts if texts else parts[:1], sparse_threshold=0)
    model = make_pipeline(columns, HistGradientBoostingClassifier(max_iter=30))
    model.fit(loans.frame[:TRAIN], loans.failed[:TRAIN])
    rows = loans.vectors[TRAIN:]
    made = from_sklearn(model, loans.fields, sample=rows, limit_of=loans.limit_of)
    own = sklearn_scores(model, loans.fields, list(loans.frame.columns))
    found = parity(own, made, rows, loans.limit_of)
    assert (found.flips, found.relative < 1e-12) == ((), True)
    assert made.precision == "float64"
    assert made.why.startswith("floats flip ")
