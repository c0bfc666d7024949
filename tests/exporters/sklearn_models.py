"""What scikit-learn, LightGBM and XGBoost models become in the hands of skl2onnx and onnxmltools, by name."""

import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pandas as pd

Named = tuple[str, Callable[[], onnx.ModelProto]]
_RANDOM = np.random.default_rng(0)
ROWS = _RANDOM.normal(size=(200, 5)).astype(np.float32)
BINARY = (ROWS[:, 0] + ROWS[:, 1] * ROWS[:, 2] > 0).astype(int)
THREE = np.digitize(ROWS[:, 0], [-0.5, 0.5])
TEXT = np.where(BINARY, "good", "bad")
AMOUNT = ROWS[:, 0] * 3 + ROWS[:, 1]
FRAME = pd.DataFrame(
    {
        "sales": ROWS[:, 0],
        "tax": ROWS[:, 1],
        "members": _RANDOM.integers(0, 5, 200),
        "grade": _RANDOM.choice(["A", "B", "C"], 200),
        "city": _RANDOM.choice(["郑州", "洛阳"], 200),
        "listed": _RANDOM.random(200) > 0.5,
        "kind": _RANDOM.integers(0, 3, 200),
    }
)


def classifiers() -> dict[str, Any]:
    """Untrained classifiers as banks use them, alone and behind the usual preparation."""
    from sklearn import ensemble, linear_model, naive_bayes, neural_network, preprocessing, svm, tree
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.decomposition import PCA
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    def behind(*steps: Any) -> Any:
        return make_pipeline(*steps, linear_model.LogisticRegression())

    return {
        "logistic": linear_model.LogisticRegression(),
        "sgd": linear_model.SGDClassifier(loss="log_loss"),
        "tree": tree.DecisionTreeClassifier(max_depth=6),
        "forest": ensemble.RandomForestClassifier(20),
        "extra": ensemble.ExtraTreesClassifier(20),
        "boosting": ensemble.GradientBoostingClassifier(n_estimators=20),
        "ada": ensemble.AdaBoostClassifier(n_estimators=5),
        "bagging": ensemble.BaggingClassifier(n_estimators=5),
        "stacking": ensemble.StackingClassifier([("a", linear_model.LogisticRegression())]),
        "mlp": neural_network.MLPClassifier(hidden_layer_sizes=(16, 8), max_iter=50),
        "svc": svm.SVC(),
        "svc_probability": svm.NuSVC(probability=True),
        "linear_svc": svm.LinearSVC(),
        "bayes": naive_bayes.GaussianNB(),
        "calibrated": CalibratedClassifierCV(svm.LinearSVC()),
        "isotonic": CalibratedClassifierCV(linear_model.LogisticRegression(), method="isotonic"),
        "imputed": behind(SimpleImputer(), preprocessing.MinMaxScaler()),
        "indicator": behind(SimpleImputer(add_indicator=True), preprocessing.RobustScaler()),
        "polynomial": behind(preprocessing.PolynomialFeatures(2), preprocessing.StandardScaler()),
        "bins": behind(preprocessing.KBinsDiscretizer(4, encode="onehot-dense")),
        "ordinal_bins": behind(preprocessing.KBinsDiscretizer(4, encode="ordinal")),
        "quantile": behind(preprocessing.QuantileTransformer(n_quantiles=20)),
        "power": behind(preprocessing.PowerTransformer()),
        "pca": behind(PCA(3)),
    }


def regressors() -> dict[str, Any]:
    """Untrained regressors."""
    from sklearn import ensemble, linear_model, neural_network, svm, tree

    return {
        "linear": linear_model.LinearRegression(),
        "ridge": linear_model.Ridge(),
        "quantile_regressor": linear_model.QuantileRegressor(solver="highs"),
        "tree_regressor": tree.DecisionTreeRegressor(max_depth=6),
        "forest_regressor": ensemble.RandomForestRegressor(20),
        "boosting_regressor": ensemble.GradientBoostingRegressor(n_estimators=20),
        "mlp_regressor": neural_network.MLPRegressor(hidden_layer_sizes=(16,), max_iter=50),
        "svr": svm.SVR(),
        "isolation": ensemble.IsolationForest(n_estimators=10),
    }


def sklearn_models() -> Iterator[Named]:
    """Classifiers of two, three and text classes with and without ZipMap; regressors; versions of the operators."""
    from skl2onnx import to_onnx

    for name, model in classifiers().items():
        for kind, target in (("two", BINARY), ("three", THREE), ("text", TEXT)):
            trained = _fitted(model, target)
            yield f"{name}_{kind}", functools.partial(to_onnx, trained, ROWS[:1])
            if name != "linear_svc":  # has no ZipMap to leave off
                options = {"zipmap": kind == "three" and "columns"}
                yield f"{name}_{kind}_plain", functools.partial(to_onnx, trained, ROWS[:1], options=options)
    for name, model in regressors().items():
        opsets = {"": 17, "ai.onnx.ml": 3}
        yield name, functools.partial(to_onnx, _fitted(model, AMOUNT), ROWS[:1], target_opset=opsets)
    for name in ("logistic", "forest", "mlp", "boosting"):
        trained = _fitted(classifiers()[name], BINARY)
        for opset in range(9, 23):
            yield f"{name}_opset{opset}", functools.partial(to_onnx, trained, ROWS[:1], target_opset=opset)


def _fitted(model: Any, target: Any) -> Any:
    from sklearn.base import clone

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return clone(model).fit(ROWS, target)


def typed_models() -> Iterator[Named]:
    """Other declarations of the input: doubles, whole numbers, an open number of columns, exactly one row."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType

    declared = {
        "doubles": DoubleTensorType([None, 5]),
        "wholes": Int64TensorType([None, 5]),
        "open": FloatTensorType([None, None]),
        "one_row": FloatTensorType([1, 5]),
    }
    for name in ("logistic", "forest", "mlp", "svc_probability", "bayes"):
        trained = _fitted(classifiers()[name], BINARY)
        for kind, type_ in declared.items():
            yield f"{name}_{kind}", functools.partial(convert_sklearn, trained, initial_types=[("X", type_)])


def column_models() -> Iterator[Named]:
    """A named input for each field: numbers, texts, booleans; encoders that refuse the unknown or not."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import BooleanTensorType, FloatTensorType, Int64TensorType, StringTensorType
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

    types = [
        ("sales", FloatTensorType([None, 1])),
        ("tax", FloatTensorType([None, 1])),
        ("members", Int64TensorType([None, 1])),
        ("grade", StringTensorType([None, 1])),
        ("city", StringTensorType([None, 1])),
        ("kind", Int64TensorType([None, 1])),
        ("listed", BooleanTensorType([None, 1])),
    ]
    encoders = {
        "refusing": OneHotEncoder(handle_unknown="error"),
        "ignoring": OneHotEncoder(handle_unknown="ignore"),
        "ordinal": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    }
    finals = {
        "logistic": LogisticRegression(),
        "forest": RandomForestClassifier(10),
        "boosting": GradientBoostingClassifier(n_estimators=5),
    }
    for encoding, encoder in encoders.items():
        for final, model in finals.items():
            parts = [
                ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["sales", "tax"]),
                ("texts", encoder, ["grade", "city"]),
                ("wholes", "passthrough", ["members"]),
                ("kinds", OneHotEncoder(handle_unknown="error"), ["kind"]),
            ]
            pipeline = Pipeline([("columns", ColumnTransformer(parts, sparse_threshold=0)), ("model", model)])
            trained = pipeline.fit(FRAME, TEXT)
            yield f"columns_{encoding}_{final}", functools.partial(convert_sklearn, trained, initial_types=types[:6])
    flagged = ColumnTransformer([("f", "passthrough", ["listed"]), ("n", StandardScaler(), ["sales"])])
    trained = Pipeline([("columns", flagged), ("model", LogisticRegression())]).fit(FRAME, TEXT)
    yield "columns_boolean", functools.partial(convert_sklearn, trained, initial_types=[types[6], types[0]])


def boosted_models() -> Iterator[Named]:
    """Onnxmltools' conversions of LightGBM: two and three classes, text labels, categories, split ensembles."""
    import lightgbm
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    settings: dict[str, Any] = {"n_estimators": 15, "verbose": -1, "n_jobs": 1}
    types = [("X", FloatTensorType([None, 5]))]
    for kind, target in (("two", BINARY), ("three", THREE), ("text", TEXT)):
        trained = lightgbm.LGBMClassifier(**settings).fit(ROWS, target)
        for opset in (9, 12, 15):
            for zipmap in (True, False):
                made = functools.partial(convert_lightgbm, trained, None, types, zipmap=zipmap, target_opset=opset)
                yield f"lightgbm_{kind}_{opset}_{zipmap}", made
    regressor = lightgbm.LGBMRegressor(**settings).fit(ROWS, AMOUNT)
    yield "lightgbm_regressor", functools.partial(convert_lightgbm, regressor, None, types)
    yield "lightgbm_split", functools.partial(convert_lightgbm, regressor, None, types, split=4)
    coded = np.column_stack([ROWS, _RANDOM.integers(0, 6, 200)]).astype(np.float32)
    categories = lightgbm.LGBMClassifier(**settings).fit(coded, BINARY, categorical_feature=[5])
    wide = [("X", FloatTensorType([None, 6]))]
    yield "lightgbm_categories", functools.partial(convert_lightgbm, categories, None, wide)


def xgboost_models() -> Iterator[Named]:
    """Onnxmltools' conversions of XGBoost."""
    import xgboost
    from onnxmltools import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    settings: dict[str, Any] = {"n_estimators": 10, "n_jobs": 1}
    trained = {
        "two": xgboost.XGBClassifier(**settings).fit(ROWS, BINARY),
        "three": xgboost.XGBClassifier(**settings).fit(ROWS, THREE),
        "linear": xgboost.XGBRegressor(**settings).fit(ROWS, AMOUNT),
        "poisson": xgboost.XGBRegressor(**settings, objective="count:poisson").fit(ROWS, np.abs(AMOUNT)),
        "logistic": xgboost.XGBRegressor(**settings, objective="reg:logistic").fit(ROWS, BINARY),
        "forest": xgboost.XGBRFClassifier(**settings).fit(ROWS, BINARY),
    }
    for name, model in trained.items():
        for opset in (9, 15):
            types = [("X", FloatTensorType([None, 5]))]
            yield f"xgboost_{name}_{opset}", functools.partial(convert_xgboost, model, None, types, target_opset=opset)
