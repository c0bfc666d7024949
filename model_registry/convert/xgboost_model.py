"""XGBoost → TreeEnsemble of floats: values cast to float32, `<`, float32 sums in the order of the trees, as XGBoost.

Read from XGBoost's own JSON, so that a file needs no library. Sources: github.com/dmlc/xgboost, doc/model.schema,
src/predictor/cpu_predictor.cc, src/common/categorical.h (a category of the set goes right, an unknown one left),
src/objective/regression_loss.h (links), src/gbm/gbtree.cc (dart).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from model_registry.convert.categories import Label, Numbering, given_orders
from model_registry.convert.fields import Converted, FieldSpec, check_width, refused
from model_registry.convert.trees import INPUT, LESS, RAW, SCORE, Split, Steps, Tree, ensemble, one_tensor_model
from model_registry.convert.xgboost_json import read_model

WHY = "XGBoost compares and adds floats"


def from_xgboost(
    model: Any,
    fields: Sequence[FieldSpec],
    categories: Mapping[str, Sequence[Label]] | None = None,
    rounds: int | None = None,
) -> Converted:
    """Converts an XGBoost Booster, scikit-learn estimator or JSON file: one score, gbtree or dart.

    Args:
        model: the trained model, or the path of what `save_model("m.json")` wrote.
        fields: what each feature is, in the order of the model's features.
        categories: full field name → its categories in training's order, where the model does not hold them (XGBoost
            before 3.1, or training without pandas categories).
        rounds: how many boosting rounds count. Needed where training stopped early and the model is no estimator:
            then a Booster predicts with all, an estimator with the best.

    Returns:
        A model whose output is what `predict` of a Booster gives: the probability (binary), or the prediction.

    Raises:
        ModelRefused: several classes or targets, linear booster, an objective without conversion, categories or rounds
            that cannot be known.
    """
    read = read_model(as_json(model), counted_rounds(model, rounds))
    check_width(read.width, fields, "booster", read.names)
    numbering = Numbering(fields, {**read.orders} | given_orders(fields, categories or {}))
    base = Tree([], [float(read.margin)])  # first in the sum, as XGBoost starts from it
    trees = [base, *(Tree([_split(split, numbering) for split in tree.splits], tree.leaves) for tree in read.trees)]
    nodes = [ensemble(trees, LESS, np.float32, INPUT, RAW), *_score(read.link).into(SCORE)]
    return one_tensor_model(nodes, fields, "float32", "float32", WHY)


def as_json(model: Any) -> dict[str, Any]:
    """XGBoost's own JSON of a booster, an estimator or a file; raises ModelRefused where it is none."""
    try:
        if isinstance(model, str | Path):
            read = json.loads(Path(model).read_bytes())
        else:
            read = json.loads(bytes(_booster(model).save_raw("json")))
    except (ValueError, RecursionError):
        text = "it is no JSON model of XGBoost; write one with save_model('model.json')"
        raise refused("conversion_failed", "booster", text) from None
    if not isinstance(read, dict):
        raise refused("conversion_failed", "booster", "it is no JSON model of XGBoost")
    return read


def _booster(model: Any) -> Any:
    if not hasattr(model, "get_booster"):
        return model
    missing = model.missing
    if missing is not None and not np.isnan(missing):
        text = f"it was trained with missing={missing:g}; train with missing=nan: a missing field arrives as NaN"
        raise refused("missing_rule_impossible", "estimator", text)
    return model.get_booster()


def counted_rounds(model: Any, rounds: int | None) -> int | None:
    """What is said, or what an estimator itself predicts with."""
    if rounds is None and hasattr(model, "get_booster"):
        best = model.get_booster().attr("best_iteration")
        return None if best is None else int(best) + 1
    return rounds


def _split(split: Split, numbering: Numbering) -> Split:
    if split.members is None:
        return numbering.threshold(split, lambda x, threshold: bool(np.float32(x) < threshold))
    return replace(split, members=numbering.members(split.feature, [int(n) for n in split.members]))


def _score(link: str) -> Steps:
    """From the margin to what `predict` gives. The exponential is a rounded double: within two last bits."""
    steps = Steps(RAW, np.float32)
    if link == "exp":
        steps.cast(np.float64).then("Exp").cast(np.float32)
    elif link == "logistic":
        steps.cast(np.float64).then("Neg").then("Exp").cast(np.float32).then("Add", 1.0).then("Div", 1.0, first=True)
    return steps
