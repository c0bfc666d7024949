"""A bank's model file: LightGBM's text or XGBoost's JSON. No pickle is ever loaded: it would run what it likes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from model_registry.convert import Converted, FieldSpec, from_lightgbm, from_xgboost
from model_registry.convert.fields import refused
from model_registry.convert.native import Scores, lightgbm_scores, xgboost_scores

MODEL_FILE_BYTES_MAX = 512 * 2**20  # text is several times the size of the 64 MiB that a sealed model may have
_WAYS = "LightGBM: booster.save_model('model.txt'); XGBoost: booster.save_model('model.json'); "
_WAYS += "scikit-learn: model_registry.convert.from_sklearn in Python"


@dataclass(frozen=True)
class ModelFile:
    """What kind of model a file holds, and what its features are called."""

    path: Path
    kind: Literal["LightGBM", "XGBoost"]
    features: tuple[str, ...]

    def convert(
        self, fields: Sequence[FieldSpec], categories: Mapping[str, Sequence[Any]], rounds: int | None
    ) -> Converted:
        """The model as ONNX; raises ModelRefused."""
        if self.kind == "LightGBM":
            return from_lightgbm(self.path, fields, categories)
        return from_xgboost(self.path, fields, categories, rounds)

    def scores(
        self, fields: Sequence[FieldSpec], categories: Mapping[str, Sequence[Any]], rounds: int | None
    ) -> Scores:
        """How the library itself scores rows; raises ModelRefused where it is not installed or cannot load the file."""
        try:
            if self.kind == "LightGBM":
                import lightgbm

                return lightgbm_scores(lightgbm.Booster(model_file=str(self.path)), fields, categories)
            import xgboost

            return xgboost_scores(xgboost.Booster(model_file=str(self.path)), fields, categories, rounds)
        except ImportError:
            text = (
                f"{self.kind} is not installed here, so its scores cannot be compared: install it, or put the bank's "
            )
            text += "own scores into the sample's column `score`"
            raise refused("conversion_failed", self.path.name, text) from None


def read_model_file(path: Path) -> ModelFile:
    """Finds out what a file holds by its first bytes.

    Raises:
        ModelRefused: it is neither, says how to save one.
        OSError: it cannot be read.
    """
    if path.stat().st_size > MODEL_FILE_BYTES_MAX:
        raise refused("model_too_large", path.name, f"more than {MODEL_FILE_BYTES_MAX // 2**20} MiB")
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith((b"tree\n", b"tree\r\n")):
        return ModelFile(path, "LightGBM", _lightgbm_features(path))
    if head.lstrip().startswith(b"{") and not head.startswith(b"{L"):  # {L starts UBJSON
        return ModelFile(path, "XGBoost", _xgboost_features(path))
    what = (
        "a pickle, which is never loaded" if head.startswith(b"\x80") else "neither LightGBM's text nor XGBoost's JSON"
    )
    raise refused("conversion_failed", path.name, f"it is {what}. {_WAYS}")


def _lightgbm_features(path: Path) -> tuple[str, ...]:
    from model_registry.convert.lightgbm_text import read_text

    try:
        return tuple(read_text(path.read_text(encoding="utf-8")).features)
    except UnicodeDecodeError:
        raise refused("conversion_failed", path.name, "it is no text") from None


def _xgboost_features(path: Path) -> tuple[str, ...]:
    try:
        return tuple(str(name) for name in json.loads(path.read_bytes())["learner"].get("feature_names") or ())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise refused("conversion_failed", path.name, "it is no JSON model of XGBoost. " + _WAYS) from None
