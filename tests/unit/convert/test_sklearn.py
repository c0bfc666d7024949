"""scikit-learn pipelines and their conversions give the same scores; doubles where floats flip a limit."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from model_registry.convert import FieldSpec, from_sklearn
from model_registry.convert.sklearn_model import sklearn_scores
from tests.unit.convert.models import FIELDS, GRADES, Rows, defaults, refused, scores, table

pytest.importorskip("sklearn")

COLUMNS = ["sales", "profit", "grade", "members"]
ROWS = table(600, 3)


def frame(rows: Rows) -> pd.DataFrame:
    """The bank's data frame: numbers as doubles, the grade as text, "" where missing."""
    told = pd.DataFrame(rows, columns=COLUMNS)
    told["grade"] = ["" if np.isnan(n) else GRADES[int(n)] for n in rows[:, 2]]
    return told


def pipelines() -> dict[str, Any]:
    """Pipelines as banks build them, each with its own way of missing values and categories."""
    from sklearn import ensemble, linear_model, neural_network, tree
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

    numbers, texts = ["sales", "profit", "members"], ["grade"]
    scaled = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    ordinal = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)

    def over(number: Any, text: Any, model: Any) -> Any:
        parts = ColumnTransformer([("n", number, numbers), ("t", text, texts)], sparse_threshold=0)
        return Pipeline([("columns", parts), ("model", model)])

    one_hot = OneHotEncoder(handle_unknown="ignore")
    return {
        "logistic": over(scaled, one_hot, linear_model.LogisticRegression()),
        "mlp": over(scaled, one_hot, neural_network.MLPClassifier((8,), max_iter=60, random_state=1)),
        "forest": over("passthrough", ordinal, ensemble.RandomForestClassifier(15, random_state=1)),
        "extra": over(SimpleImputer(), ordinal, ensemble.ExtraTreesClassifier(9, random_state=1)),
        "tree": over("passthrough", one_hot, tree.DecisionTreeClassifier(max_depth=5)),
        "boosting": over(SimpleImputer(), one_hot, ensemble.GradientBoostingClassifier(n_estimators=15)),
        "exponential": over(scaled, ordinal, ensemble.GradientBoostingClassifier(n_estimators=9, loss="exponential")),
        "histogram": over("passthrough", ordinal, ensemble.HistGradientBoostingClassifier(max_iter=15)),
        "calibrated": over(scaled, one_hot, CalibratedClassifierCV(linear_model.LogisticRegression(), cv=3)),
        "calibrated_forest": over(
            SimpleImputer(), one_hot, CalibratedClassifierCV(ensemble.RandomForestClassifier(5, random_state=1), cv=3)
        ),
        "ridge": over(scaled, one_hot, linear_model.Ridge()),
        "forest_regressor": over("passthrough", ordinal, ensemble.RandomForestRegressor(9, random_state=1)),
        "boosting_regressor": over(SimpleImputer(), one_hot, ensemble.GradientBoostingRegressor(n_estimators=9)),
        "histogram_regressor": over("passthrough", one_hot, ensemble.HistGradientBoostingRegressor(max_iter=9)),
        "poisson": over("passthrough", one_hot, ensemble.HistGradientBoostingRegressor(max_iter=9, loss="poisson")),
    }


def fitted(name: str) -> Any:
    """One of them, trained."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pipelines()[name].fit(frame(ROWS), defaults(ROWS).astype(int))


@pytest.mark.parametrize("name", pipelines())
def test_doubles_give_the_pipelines_scores(name: str) -> None:
    """Up to the last bits of a double: what linear algebra adds in another order."""
    model = fitted(name)
    made = from_sklearn(model, FIELDS, precision="double")
    own = sklearn_scores(model, FIELDS, COLUMNS)(ROWS[:200].tolist())
    assert np.allclose(scores(made, ROWS[:200]), own, rtol=1e-12, atol=1e-14)
    assert [i.dtype for i in made.inputs] == ["float64", "float64", "string", "float64"]
    assert made.precision == "float64"


@pytest.mark.parametrize("name", pipelines())
def test_floats_give_them_up_to_a_float(name: str) -> None:
    """On values that are floats: what the float conversion rounds is the score alone."""
    model = fitted(name)
    rows = ROWS[:200].astype(np.float32).astype(np.float64)
    made = from_sklearn(model, FIELDS, precision="float")
    own = sklearn_scores(model, FIELDS, COLUMNS)(rows.tolist())
    assert np.allclose(scores(made, rows), own, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("gap", [None, np.nan], ids=["none", "nan"])
def test_a_missing_text_is_the_gap_that_training_saw(gap: float | None) -> None:
    """Training saw None or NaN for a missing grade, the sandbox sends "": both encoders take it for the same."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

    told = frame(ROWS)
    told["grade"] = np.array([gap if text == "" else text for text in told["grade"]], object)
    for encoder in (OneHotEncoder(handle_unknown="ignore"), OrdinalEncoder(encoded_missing_value=-2)):
        parts = ColumnTransformer([("t", encoder, ["grade"])], remainder="passthrough", sparse_threshold=0)
        model = make_pipeline(parts, RandomForestClassifier(9, random_state=1)).fit(told, defaults(ROWS))
        own = model.predict_proba(told)[:, 1].tolist()
        made = from_sklearn(model, FIELDS, precision="double")
        assert scores(made, ROWS) == pytest.approx(own, rel=1e-12)


def test_doubles_where_floats_flip_a_limit() -> None:
    """Auto keeps floats that flip nothing, writes doubles where they do, and says which and why."""
    model = fitted("logistic")
    own = sklearn_scores(model, FIELDS, COLUMNS)
    asked = ROWS[:300].tolist()
    edge = sorted(own(asked))[150]

    def coarse(_: Any, score: float) -> int:
        return int(score * 4)

    def sharp(_: Any, score: float) -> int:
        return int(abs(score - edge) < 1e-12)

    floats = from_sklearn(model, FIELDS, sample=asked, limit_of=coarse)
    assert (floats.precision, floats.why) == ("float32", "no limit differs in 300 rows")
    doubles = from_sklearn(model, FIELDS, sample=asked, limit_of=sharp)
    assert doubles.precision == "float64"
    assert doubles.why.startswith("floats flip ")
    assert doubles.why.endswith("of 300 limits, doubles 0")
    assert from_sklearn(model, FIELDS).why == "no sample and rules to compare limits with"


def test_doubles_that_a_step_lacks_are_said_so() -> None:
    """A step without doubles: auto keeps floats and says why, `double` is refused."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PowerTransformer

    numbers = [FIELDS[1]]
    rows = np.nan_to_num(ROWS[:, 1:2])
    told = pd.DataFrame(rows, columns=["profit"])
    model = make_pipeline(PowerTransformer(), LogisticRegression()).fit(told, rows[:, 0] > 0)
    made = from_sklearn(model, numbers, sample=rows[:50].tolist(), limit_of=lambda _, score: int(score * 1e12))
    assert made.precision == "float32"
    assert "no conversion in doubles" in made.why
    with refused("conversion_failed"):
        from_sklearn(model, numbers, precision="double")


def test_what_is_converted_wrongly_is_refused() -> None:
    """Isotonic calibration that would be rounded, categories inside boosting, columns without names."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression

    rows, good = np.nan_to_num(ROWS) / [1e9, 1, 1, 1], defaults(ROWS).astype(int)
    told = pd.DataFrame(rows, columns=COLUMNS)
    numbers = [FieldSpec(f"a.b.{column}", "number") for column in COLUMNS]
    isotonic = CalibratedClassifierCV(LogisticRegression(), method="isotonic", cv=2).fit(told, good)
    inside = HistGradientBoostingClassifier(max_iter=3, categorical_features=["grade"]).fit(told, good)
    for model, way in ((isotonic, "sigmoid"), (inside, "encode before")):
        with refused(way):
            from_sklearn(model, numbers)
    with refused("fields_mismatch"):
        from_sklearn(LogisticRegression().fit(rows, good), numbers)


def test_a_bare_estimator_reads_one_tensor() -> None:
    """Without a ColumnTransformer nothing asks for columns by name: one input, and the same scores."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    numbers = [FieldSpec(f"a.b.{column}", "number") for column in COLUMNS]
    told = pd.DataFrame(ROWS, columns=COLUMNS)
    forest = RandomForestClassifier(7, random_state=1)
    for model in (forest, make_pipeline(StandardScaler(), RandomForestClassifier(7, random_state=1))):
        made = from_sklearn(model.fit(told, defaults(ROWS)), numbers, precision="double")
        assert [len(i.fields) for i in made.inputs] == [4]
        assert scores(made, ROWS) == pytest.approx(model.predict_proba(told)[:, 1].tolist(), rel=1e-12)


@pytest.mark.parametrize("rare", [{"min_frequency": 60}, {"max_categories": 3}])
def test_rare_categories_put_together_are_refused(rare: dict[str, int]) -> None:
    """The encoder then numbers otherwise than its list of categories says: a wrong branch without an error."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    rows = np.nan_to_num(ROWS)
    rows[100:, 2] = rows[100:, 2] // 5 + 5  # the first grades are the rare ones
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, **rare)
    parts = ColumnTransformer([("t", encoder, ["grade"])], remainder="passthrough")
    model = make_pipeline(parts, RandomForestClassifier(3, random_state=1)).fit(frame(rows), defaults(rows))
    with refused("before training"):
        from_sklearn(model, FIELDS)


def test_a_classifier_without_probabilities_is_refused() -> None:
    """Labels, margins and votes are no score that its `predict` would give."""
    from sklearn.ensemble import VotingClassifier
    from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
    from sklearn.svm import SVC

    rows = np.nan_to_num(ROWS)
    voting = VotingClassifier(
        [("a", LogisticRegression(max_iter=1000)), ("b", LogisticRegression(C=0.1, max_iter=1000))], voting="hard"
    )
    numbers = [FieldSpec(field.name, "number") for field in FIELDS]
    for model in (SVC(), SGDClassifier(), RidgeClassifier(), voting):
        model.fit(pd.DataFrame(rows, columns=COLUMNS), defaults(ROWS))
        with refused("no probabilities"):
            from_sklearn(model, numbers)


def test_fields_in_another_order_than_the_columns_are_refused() -> None:
    """Columns that are called as the fields are tell which is which."""
    from sklearn.linear_model import Ridge

    names = [field.name for field in FIELDS]
    numbers = [FieldSpec(name, "number") for name in names]
    model = Ridge().fit(pd.DataFrame(np.nan_to_num(ROWS), columns=names), ROWS[:, 3] > 3)
    assert from_sklearn(model, numbers).fields == tuple(numbers)
    with refused("another order"):
        from_sklearn(model, numbers[::-1])
