"""scikit-learn pipelines and their conversions give the same scores; doubles where floats flip a limit."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from model_registry.convert import from_sklearn
from model_registry.convert.sklearn_model import sklearn_scores
from tests.unit.convert.models import FIELDS, GRADES, Rows, defaults, scores, table

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
