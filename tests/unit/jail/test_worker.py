"""What runs inside the walls, run outside them."""

import hashlib
import itertools
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper

from model_registry.errors import ModelRefused
from sandbox.jail import measure, worker
from sandbox.jail.status import ScoreStatus
from sandbox.jail.worker import Scorer
from tests.unit.jail import models
from tests.unit.jail.models import content, linear, manifest, unary, vector

CAPPED = b"""
version: 1
exclusions:
  - {name: arrears, when: tax.declaration.arrears_12m > 0.0, missing: skip}
caps:
  - {name: sales, limit: tax.declaration.sales_12m * 0.5}
  - {name: product, limit: 300000}
"""


def codes_of(error: pytest.ExceptionInfo[ModelRefused]) -> set[str]:
    """The codes of a refusal."""
    return {reason.code for reason in error.value.reasons}


def test_without_rules_the_output_is_the_limit() -> None:
    """A model alone gives yuan."""
    scorer = Scorer.load(manifest(), content(linear()), {})
    assert scorer.limit(vector(123_456.0, 0, 0)) == (ScoreStatus.OK, 123_456.0)
    assert scorer.level(vector(123_456.0, 0, 0)) == 100_000
    assert scorer.raw_score(vector(2.0, 0, 0)) == 2.0


def test_with_rules_the_smallest_cap_is_the_limit() -> None:
    """Rules read fields, and a true exclusion is no offer."""
    fields = [
        {"name": name, "type": "number", "missing": 0} for name in models.FIELDS
    ]  # 0 for the model, not for rules
    scorer = Scorer.load(manifest(fields), content(linear(), CAPPED), {})
    assert scorer.limit(vector(400_000.0, math.nan, 0)) == (ScoreStatus.OK, 200_000.0)
    assert scorer.limit(vector(4_000_000.0, 0.0, 0)) == (ScoreStatus.OK, 300_000.0)
    assert scorer.limit(vector(400_000.0, 1.0, 0)) == (ScoreStatus.NO_OFFER, 0.0)


def test_a_failing_case_of_the_rules_refuses_the_bundle() -> None:
    """Behind the walls the cases are run again, levels and all; the reason names the case and what came out."""
    told = "tax.declaration.sales_12m: 90000, tax.declaration.arrears_12m: 0"
    case = f"cases:\n  - {{name: 店, values: {{{told}}}, score: 1, limit: 45000, level: LEVEL}}\n"
    good = CAPPED + case.replace("LEVEL", "0").encode()
    Scorer.load(manifest(), content(linear(), good), {})
    with pytest.raises(ModelRefused) as refused:
        Scorer.load(manifest(), content(linear(), CAPPED + case.replace("LEVEL", "50000").encode()), {})
    (reason,) = refused.value.reasons
    assert reason.code == "rules_case_failed"
    assert reason.where.startswith("rules 9:")
    assert "case '店': the level 50,000 is expected, 0 came out of 45,000, by 'sales'" in reason.text


def test_a_failing_model_is_a_status() -> None:
    """NaN and infinity are the model's failure, a negative limit is no offer, an impossible request is ours."""
    square_root = Scorer.load(manifest(), content(unary("Sqrt")), {})
    assert square_root.limit(vector(-1.0, 0, 0)) == (ScoreStatus.MODEL_FAILURE, 0.0)
    reciprocal = Scorer.load(manifest(), content(unary("Reciprocal")), {})
    assert reciprocal.limit(vector(0.0, 0, 0)) == (ScoreStatus.MODEL_FAILURE, 0.0)
    assert Scorer.load(manifest(), content(linear()), {}).limit(vector(-1.0, 0, 0)) == (ScoreStatus.NO_OFFER, 0.0)
    assert square_root.limit(vector(1.0)) == (ScoreStatus.BAD_REQUEST, 0.0)
    assert square_root.limit(vector(math.inf, 0, 0)) == (ScoreStatus.BAD_REQUEST, 0.0)


def test_parity_samples_are_recomputed() -> None:
    """A bundle whose samples do not come out as the bank said is refused, naming the sample."""
    good = ((60_000.0, 0.0, 0.0), 50_000)
    Scorer.load(manifest(), content(linear(), samples=[good]), {})
    with pytest.raises(ModelRefused) as refused:
        Scorer.load(manifest(), content(linear(), samples=[good, ((60_000.0, 0.0, 0.0), 100_000)]), {})
    assert [(r.code, r.where) for r in refused.value.reasons] == [("parity_mismatch", "sample 1")]
    assert "100000" in refused.value.reasons[0].text
    assert "50000" in refused.value.reasons[0].text
    with pytest.raises(ModelRefused):
        Scorer.load(manifest(), content(linear(), samples=[((1.0,), 0)]), {})


def test_a_flip_between_float_and_double_is_named() -> None:
    """A limit that the next float32 would give is a flip, and the row is named; one that it would not is a mismatch."""
    near = 100_000.003  # the nearest float32 lies on the level itself
    step = models.model([helper.make_node("Floor", ["x"], ["score"])])
    step.graph.node.insert(0, helper.make_node("MatMul", ["X", "W"], ["x"]))
    step.graph.initializer.append(helper.make_tensor("W", TensorProto.FLOAT, [3, 1], [1.0, 0.0, 0.0]))
    with pytest.raises(ModelRefused) as refused:
        Scorer.load(manifest(), content(step, samples=[((near, 0.0, 0.0), 50_000), ((near, 0.0, 0.0), 0)]), {})
    told = [(r.code, r.where) for r in refused.value.reasons]
    assert told == [("parity_flip", "sample 0"), ("parity_mismatch", "sample 1")]


def test_what_a_model_takes_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPU and memory are facts, and beyond their bounds reasons."""
    facts: dict[str, float] = {}
    Scorer.load(manifest(), content(linear()), {}, facts)
    assert 0 < facts["run_cpu_us"] < measure.RUN_CPU_US_MAX
    assert 0 < facts["memory_bytes"] < measure.MEMORY_BYTES_MAX
    for name, bound, code in (("RUN_CPU_US_MAX", 0, "model_too_slow"), ("MEMORY_BYTES_MAX", 1000, "model_too_heavy")):
        with monkeypatch.context() as patch:
            patch.setattr(worker, name, bound)
            with pytest.raises(ModelRefused) as refused:
                Scorer.load(manifest(), content(linear()), {}, facts)
        assert codes_of(refused) == {code}


def test_a_slow_model_is_refused_by_the_clock() -> None:
    """Few enough operations for the estimate, each of them slow: the run tells."""
    shape = helper.make_tensor("S", TensorProto.INT64, [2], [1, 4_000_000])
    names = ["x0", "e", "p0", "p1", "p2", "p3", "p4", "p5"]
    slow = [helper.make_node("Expand", ["x0", "S"], ["e"])]
    slow += [helper.make_node("Tan", [a], [b]) for a, b in itertools.pairwise(names[1:])]
    slow += [helper.make_node("ReduceSum", ["p5"], ["score"])]
    first = models.unary("Abs").graph
    body = content(models.model([first.node[0], *slow], initializers=[*first.initializer, shape]))
    with pytest.raises(ModelRefused) as refused:
        Scorer.load(manifest(), body, {})
    assert codes_of(refused) == {"model_too_slow"}


def test_without_a_manifest_a_model_is_judged_by_itself() -> None:
    """Its own inputs, no rules, no samples; facts are told of a refused one too."""
    facts: dict[str, object] = {}
    Scorer.load(b"", content(linear()), {}, facts)
    assert facts["deterministic"] is True
    refused = unary("Abs")
    refused.graph.node[1].op_type = "Resize"
    with pytest.raises(ModelRefused):
        Scorer.load(b"", content(refused), {}, facts)
    assert facts["operators"] == {"MatMul": 1, "Resize": 1}


def test_an_output_without_the_element_is_refused_at_load() -> None:
    """The first run shows what the graph's open shapes hide."""
    with pytest.raises(ModelRefused) as refused:
        Scorer.load(manifest(output={"name": "score", "index": 1}), content(linear()), {})
    assert codes_of(refused) == {"output_missing"}


def test_a_model_that_does_not_run_is_refused() -> None:
    """Admitted operators in an impossible arrangement fail before they are loaded, with a reason for the owner."""
    wrong = helper.make_tensor("W", TensorProto.FLOAT, [5, 1], [1.0] * 5)
    bad = models.model([helper.make_node("MatMul", ["X", "W"], ["score"])], initializers=[wrong])
    with pytest.raises(ModelRefused) as refused:
        Scorer.load(manifest(), content(bad), {})
    assert codes_of(refused) == {"node_invalid"}


def test_a_model_that_runs_on_no_row_is_refused() -> None:
    """An index beyond the end shows when it runs; a model that fails on one row and runs on another is admitted."""
    index = helper.make_tensor("I", TensorProto.INT64, [1], [9])
    outside = models.model([helper.make_node("Gather", ["X", "I"], ["score"], axis=1)], initializers=[index])
    with pytest.raises(ModelRefused) as refused:
        Scorer.load(manifest(), content(outside), {})
    assert codes_of(refused) == {"model_run_failed"}
    by_row = [
        helper.make_node("Cast", ["x0"], ["i"], to=TensorProto.INT64),
        helper.make_node("Gather", ["T", "i"], ["score"]),
    ]
    table = helper.make_tensor("T", TensorProto.FLOAT, [1], [5.0])
    first = models.unary("Abs").graph
    some = models.model([first.node[0], *by_row], initializers=[*first.initializer, table])
    facts: dict[str, object] = {}
    Scorer.load(manifest(), content(some), {}, facts)
    assert facts["trial_rows"] == 1


@pytest.mark.parametrize("part", ["model", "rules"])
def test_declared_digests_are_checked(part: str) -> None:
    """A bundle whose model or rules are others than the manifest names is refused, though its own digest fits."""
    body, digests = content(linear()), {"model": sha256(linear().SerializeToString()), "rules": sha256(b"")}
    Scorer.load(manifest(digests=digests), body, {})
    with pytest.raises(ModelRefused) as refusal:
        Scorer.load(manifest(digests={**digests, part: "0" * 64}), body, {})
    assert [(r.code, r.where) for r in refusal.value.reasons] == [("digest_mismatch", part)]


def sha256(body: bytes) -> str:
    """Hex digest."""
    return hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"\xff\xff\xff", "content_invalid"),
        (b"", "model_empty"),
        (content(linear(), b"version: 2"), "rules_invalid"),
        (content(linear(), b"\xff"), "rules_invalid"),
    ],
)
def test_bad_content_is_refused_with_its_code(body: bytes, code: str) -> None:
    """Each part of a bundle has its own refusal."""
    with pytest.raises(ModelRefused) as refused:
        Scorer.load(manifest(), body, {})
    assert codes_of(refused) == {code}


def test_a_lightgbm_model_keeps_its_scores() -> None:
    """What LightGBM computes, the worker computes, missing values included."""
    lightgbm = pytest.importorskip("lightgbm")
    converter = pytest.importorskip("onnxmltools")
    from onnxmltools.convert.common.data_types import FloatTensorType

    random = np.random.default_rng(7)
    rows = random.normal(size=(400, 3)).astype(np.float32)
    rows[random.random(rows.shape) < 0.1] = np.nan
    labels = (np.nan_to_num(rows).sum(axis=1) > 0).astype(int)
    trained = lightgbm.LGBMClassifier(n_estimators=20, n_jobs=1, verbose=-1).fit(rows, labels)
    types = [("X", FloatTensorType([None, 3]))]
    proto = converter.convert_lightgbm(trained, initial_types=types, zipmap=False, target_opset=15)
    declared = manifest(output={"name": "probabilities", "index": 1})
    scorer = Scorer.load(declared, content(proto), {})
    scores = [scorer.raw_score(vector(*row)) for row in rows[:50].astype(float)]
    assert np.allclose(scores, trained.predict_proba(rows[:50])[:, 1], atol=1e-6)


def test_a_pipeline_with_a_text_category_keeps_its_scores() -> None:
    """A scikit-learn pipeline with one named input per field, a code list and missing numbers."""
    pytest.importorskip("sklearn")
    convert = pytest.importorskip("skl2onnx")
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    random = np.random.default_rng(3)
    industry = random.choice(["retail", "mining"], size=200)
    table = np.empty((200, 2), dtype=object)
    table[:, 0] = random.normal(size=200).astype(np.float32)
    table[::9, 0] = np.nan
    table[:, 1] = industry
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = ColumnTransformer([("n", numbers, [0]), ("c", OneHotEncoder(handle_unknown="ignore"), [1])])
    trained = make_pipeline(columns, LogisticRegression()).fit(table, industry == "mining")
    types = [("sales", FloatTensorType([None, 1])), ("industry", StringTensorType([None, 1]))]
    proto = convert.to_onnx(trained, initial_types=types, options={"zipmap": False})
    fields = [
        {"name": "a.b.sales", "type": "number", "missing": "nan"},
        {"name": "a.b.industry", "type": "category", "missing": "nan"},
    ]
    inputs = [
        {"name": "sales", "dtype": "float32", "fields": ["a.b.sales"]},
        {"name": "industry", "dtype": "string", "fields": ["a.b.industry"]},
    ]
    declared = manifest(fields, inputs=inputs, output={"name": "probabilities", "index": 1})
    codes = ("retail", "mining")
    scorer = Scorer.load(declared, content(proto), {"a.b.industry": codes})
    scores = [scorer.raw_score(vector(float(x), codes.index(c))) for x, c in table[:40]]
    assert np.allclose(scores, trained.predict_proba(table[:40])[:, 1], atol=1e-5)


def test_onnxruntime_is_imported_without_telemetry() -> None:
    """The runtime that sees models must not report on them; off means no second thread."""
    program = "import os, sandbox.jail.worker; print(len(os.listdir('/proc/self/task')))"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ORT_")}
    environment["OPENBLAS_NUM_THREADS"] = "1"
    environment.pop("CI", None)  # the runtime is silent under CI anyway; the test must not lean on that
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
