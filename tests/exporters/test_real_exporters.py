"""What banks' exporters really write passes the real command, behind real walls; what cannot pass is told how to."""

import functools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest

from model_registry.convert import FieldSpec, from_lightgbm, from_sklearn, from_xgboost
from tests.exporters import sklearn_models, torch_graphs, tree_graphs
from tests.exporters.catboost_graphs import catboost_models
from tests.exporters.sklearn_models import BINARY, ROWS, Named

pytest.importorskip("sklearn")


def inspect(models: Iterator[Named], folder: Path) -> dict[str, dict[str, Any]]:
    """Verdicts of `heixia bank inspect` by name."""
    files = {name: folder / f"{name}.onnx" for name, make in models if _written(folder / f"{name}.onnx", make)}
    command: list[str | Path] = [Path(sys.executable).parent / "heixia", "bank", "inspect", "--json", *files.values()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == int(not all(line["admitted"] for line in lines)), done.stderr
    return dict(zip(files, lines, strict=True))


def _written(path: Path, make: Callable[[], onnx.ModelProto]) -> bool:
    path.write_bytes(make().SerializeToString())
    return True


def drawn_models() -> Iterator[Named]:
    """Graphs as PyTorch's exporters and hummingbird write them, in every operator set that has their operators."""
    for opset in range(11, 29):
        for draw in (torch_graphs.mlp, torch_graphs.embedding, torch_graphs.attention, torch_graphs.expanded):
            yield f"torch_{draw.__name__}_{opset}", functools.partial(draw, opset)
        for draw in (tree_graphs.gemm, tree_graphs.traversal, tree_graphs.perfect_traversal):
            yield f"trees_{draw.__name__}_{opset}", functools.partial(draw, opset)
        if opset >= 18:
            yield f"dynamo_{opset}", functools.partial(torch_graphs.dynamo, opset)


FAMILIES = {
    "sklearn": sklearn_models.sklearn_models,
    "types": sklearn_models.typed_models,
    "columns": sklearn_models.column_models,
    "lightgbm": sklearn_models.boosted_models,
    "xgboost": sklearn_models.xgboost_models,
    "catboost": catboost_models,
    "drawn": drawn_models,
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.filterwarnings("ignore")
def test_a_real_export_is_admitted(family: str, tmp_path: Path) -> None:
    """Every model of the family, whatever its tail, labels, inputs and operator set."""
    if family in ("lightgbm", "xgboost"):
        pytest.importorskip(family, reason=f"{family} cannot be imported on this machine")
    verdicts = inspect(FAMILIES[family](), tmp_path)
    assert {name: v["reasons"] for name, v in verdicts.items() if not v["admitted"]} == {}
    assert len(verdicts) >= 4
    for verdict in verdicts.values():
        facts = verdict["facts"]
        assert facts["deterministic"] is True
        assert facts["run_cpu_us"] > 0
        assert facts["memory_bytes"] > 0


@pytest.mark.filterwarnings("ignore")
def test_maps_are_cut_off_a_classifier(tmp_path: Path) -> None:
    """skl2onnx's default tail becomes the tensor before it, whatever the labels; without one nothing is cut."""
    models = [
        m for m in sklearn_models.sklearn_models() if m[0] in ("logistic_two", "logistic_text", "logistic_two_plain")
    ]
    verdicts = inspect(iter(models), tmp_path)
    assert {name: v["facts"]["zipmap"] for name, v in verdicts.items()} == {
        "logistic_two": "cut",
        "logistic_two_plain": "none",
        "logistic_text": "cut",
    }
    assert verdicts["logistic_text"]["facts"]["output"] == {
        "name": "output_probability",
        "tensor": "probabilities",
        "index": 1,
    }


def converted_models() -> Iterator[Named]:
    """Our own conversions, as `heixia bank convert` and the SDK write them: categories, zeros as missing, doubles."""
    import lightgbm
    from sklearn import ensemble, pipeline, preprocessing

    rows, numbers = ROWS.astype(np.float64), [FieldSpec(f"a.b.c{i}", "number") for i in range(5)]
    coded = np.column_stack([rows[:, :4], np.arange(len(rows)) % 7])
    fields = [*numbers[:4], FieldSpec("a.b.code", "category", tuple("ABCDEFG"))]
    orders = {"a.b.code": tuple("GFEDCBA")}
    settings: dict[str, Any] = {"n_estimators": 20, "verbose": -1, "n_jobs": 1}
    target = BINARY ^ (coded[:, 4] == 3)
    categories = lightgbm.LGBMClassifier(**settings, max_cat_to_onehot=1, min_data_per_group=5)
    boosted = {
        "own_lightgbm": from_lightgbm(lightgbm.LGBMClassifier(**settings).fit(rows, BINARY), numbers),
        "own_zeros": from_lightgbm(
            lightgbm.LGBMClassifier(**settings, zero_as_missing=True).fit(rows, BINARY), numbers
        ),
        "own_categories": from_lightgbm(categories.fit(coded, target, categorical_feature=[4]), fields, orders),
    }
    frame = pd.DataFrame(rows, columns=[f"c{i}" for i in range(5)])
    for model in (ensemble.HistGradientBoostingClassifier(max_iter=9), ensemble.RandomForestClassifier(9)):
        made = pipeline.make_pipeline(preprocessing.StandardScaler(), model).fit(frame, BINARY)
        boosted[f"own_{type(model).__name__}"] = from_sklearn(made, numbers, precision="double")
    for name, each in boosted.items():
        yield name, functools.partial(onnx.ModelProto.FromString, each.onnx)


def converted_xgboost() -> Iterator[Named]:
    """XGBoost's conversions by ourselves."""
    import xgboost

    numbers = [FieldSpec(f"a.b.c{i}", "number") for i in range(5)]
    for booster in ("gbtree", "dart"):
        model = xgboost.XGBClassifier(n_estimators=9, n_jobs=1, booster=booster).fit(ROWS, BINARY)
        yield f"own_{booster}", functools.partial(onnx.ModelProto.FromString, from_xgboost(model, numbers).onnx)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("library", "models"), [("lightgbm", converted_models), ("xgboost", converted_xgboost)])
def test_our_own_conversion_is_admitted(library: str, models: Callable[[], Iterator[Named]], tmp_path: Path) -> None:
    """What `heixia bank convert` and the SDK write stands before the same walls as others' exports."""
    pytest.importorskip(library, reason=f"{library} cannot be imported on this machine")
    verdicts = inspect(models(), tmp_path)
    assert {name: verdict["reasons"] for name, verdict in verdicts.items() if verdict["reasons"]} == {}
    wanted = {"name": "fields", "dtype": "float32" if library == "xgboost" else "float64", "width": 5}
    assert all(verdict["facts"]["inputs"] == [wanted] for verdict in verdicts.values())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "way"), [("neighbours", "unroll"), ("side_file", "save_as_external_data=False")])
def test_a_refusal_says_how_to_export_instead(name: str, way: str, tmp_path: Path) -> None:
    """Nearest neighbours need a loop, side files are not read: refused by name, with the way out."""
    from skl2onnx import to_onnx
    from sklearn.neighbors import KNeighborsClassifier

    def side_file() -> onnx.ModelProto:
        model = torch_graphs.mlp(17)
        onnx.save_model(
            model, tmp_path / "kept.onnx", save_as_external_data=True, location="kept.data", size_threshold=0
        )
        return onnx.load(tmp_path / "kept.onnx", load_external_data=False)

    models = {"neighbours": lambda: to_onnx(KNeighborsClassifier().fit(ROWS, BINARY), ROWS[:1]), "side_file": side_file}
    (verdict,) = inspect(iter([(name, models[name])]), tmp_path).values()
    assert not verdict["admitted"]
    assert any(way in reason["text"] for reason in verdict["reasons"])
