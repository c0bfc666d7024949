"""A bank's trained model → ONNX with declared fields, inputs and output, and the proof that it gives the bank's limits.

`from_lightgbm` and `from_xgboost` write one TreeEnsemble of ai.onnx.ml 5 over one tensor of all fields, in the number
type in which the library itself compares (LightGBM doubles, XGBoost floats): a row takes the same branches and the sums
have the same bits. `from_sklearn` gives each field an input of its own, so that categories travel as text.
`parity` runs the result over the bank's sample and names the rows whose limit differs.
"""

import importlib
from typing import TYPE_CHECKING, Any

from model_registry.convert.fields import CatalogField, Converted, FieldSpec, row_of

if TYPE_CHECKING:
    from model_registry.convert.compare import Parity, parity
    from model_registry.convert.lightgbm_model import from_lightgbm
    from model_registry.convert.run import runner
    from model_registry.convert.sklearn_model import from_sklearn
    from model_registry.convert.xgboost_model import from_xgboost

__all__ = [
    "CatalogField",
    "Converted",
    "FieldSpec",
    "Parity",
    "from_lightgbm",
    "from_sklearn",
    "from_xgboost",
    "parity",
    "row_of",
    "runner",
]

_LATE = {
    "Parity": "compare",
    "from_lightgbm": "lightgbm_model",
    "from_sklearn": "sklearn_model",
    "from_xgboost": "xgboost_model",
    "parity": "compare",
    "runner": "run",
}


def __getattr__(name: str) -> Any:
    """Loads onnx and numpy with the first conversion: most commands need the field types alone (PEP 562)."""
    if name not in _LATE:
        raise AttributeError(name)
    return getattr(importlib.import_module(f"{__name__}.{_LATE[name]}"), name)
