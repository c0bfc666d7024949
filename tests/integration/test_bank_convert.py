"""`heixia bank convert`: from a model file and a sample to an offer whose limits are the bank's, offline."""

import csv
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet
from typer.testing import CliRunner, Result

from enclave_api.cli.example import FIELDS, LEVELS, RULES, rows_of, specs
from enclave_api.cli.main import app
from enclave_api.client.bank import Row, vector_of
from sandbox.vault.catalog import load_catalog
from sandbox.vault.synthetic import generate

lightgbm = pytest.importorskip("lightgbm")

GRADE = "tax.declaration.taxpayer_grade"
NAMES = [*FIELDS, GRADE]
ROOT = Path(__file__).resolve().parents[2]
CATALOG, GUIDE = ROOT / "sandbox" / "vault" / "catalog.yaml", ROOT / "docs" / "convert.md"


@dataclass(frozen=True)
class Desk:
    """A bank's folder: model files, rules, a sample of made-up companies."""

    folder: Path
    rows: list[Row]

    def convert(self, model: str, out: str, *words: str, sample: str = "rows.csv", catalog: bool = True) -> Result:
        """The command, in the folder."""
        told = ["--product", "zhongyuan/loan", "--levels", ",".join(map(str, LEVELS)), "--json", *words]
        told += ["--rules", str(self.folder / "rules.yaml")]
        told += ["--sample", str(self.folder / sample)] if sample else []
        told += ["--catalog", str(CATALOG)] if catalog else []
        return CliRunner().invoke(app, ["bank", "convert", str(self.folder / model), str(self.folder / out), *told])


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Trains on made-up companies, with a category in an order of the bank's own."""
    folder, catalog = tmp_path_factory.mktemp("bank"), load_catalog()
    world = generate(catalog, 400, 1)
    rows = rows_of(world, NAMES)
    frame = pd.DataFrame([vector_of(specs(catalog, NAMES), row) for row in rows], columns=NAMES)
    frame[GRADE] = pd.Categorical(
        [row.get(GRADE) for row in rows], categories=list(reversed(catalog.fields[GRADE].codes))
    )
    settings = {"objective": "binary", "verbose": -1, "num_threads": 1, "max_cat_to_onehot": 1, "min_data_per_group": 5}
    data = lightgbm.Dataset(frame, label=world.defaulted, categorical_feature=[GRADE])
    lightgbm.train(settings, data, 20).save_model(folder / "model.txt")
    (folder / "rules.yaml").write_text(RULES)
    _write(folder / "rows.csv", rows)
    return Desk(folder, rows)


def _write(path: Path, rows: list[Row], **more: list[object]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*NAMES, *more])
        writer.writeheader()
        for at, row in enumerate(rows):
            told = {name: "" if row.get(name) is None else row[name] for name in NAMES}
            writer.writerow(told | {name: values[at] for name, values in more.items()})


def test_an_offer_is_written_that_the_sandbox_admits(desk: Desk) -> None:
    """Every limit of the sample is the model's own; behind the walls the offer's samples give the bank's limits."""
    made = desk.convert("model.txt", "offer")
    assert made.exit_code == 0, made.output
    told = json.loads(made.stdout)
    assert told["parity"]["rows"] == told["parity"]["equal"] == 400
    assert told["parity"]["limits_differ"] == 0
    assert told["precision"].startswith("float64")
    offer = desk.folder / "offer"
    samples = [json.loads(line) for line in (offer / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 50
    assert len({sample["limit_yuan"] for sample in samples}) >= 5
    assert yaml.safe_load((offer / "offer.yaml").read_text())["inputs"][0]["fields"] == NAMES
    judged = ["bank", "inspect", str(offer / "model.onnx"), "--manifest", str(offer / "offer.yaml"), "--json"]
    verdict = CliRunner().invoke(app, judged)
    assert verdict.exit_code == 0, verdict.output
    assert json.loads(verdict.stdout)["facts"]["deterministic"] is True


def test_rules_that_the_levels_contradict_are_told_before_anything_is_written(desk: Desk) -> None:
    """A case of the rules file that comes out otherwise on this grid would be refused at admission; it is said here."""
    made = desk.convert("model.txt", "offer-coarse", "--levels", "0,1000000")
    assert made.exit_code == 1
    assert "rules_case_failed" in made.stderr
    assert not (desk.folder / "offer-coarse").exists()


def test_the_commands_of_the_guide_run(desk: Desk, tmp_path: Path) -> None:
    """docs/convert.md: as they stand, in a folder with the files that they name."""
    (block,) = re.findall(r"```sh\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    for name in ("model.txt", "rows.csv"):
        shutil.copy(desk.folder / name, tmp_path)
    # the example's cases name levels of a finer grid than the guide's
    rules = (desk.folder / "rules.yaml").read_text()
    (tmp_path / "rules.yaml").write_text(re.sub(r"(?m)^ +level: \d+\n", "", rules))
    shutil.copy(CATALOG, tmp_path / "catalog.yaml")
    programs = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-ec", block], cwd=tmp_path, env=programs, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "limits that differ            0" in done.stdout
    assert "admitted" in done.stdout


def test_xgboosts_json_is_converted_too(desk: Desk) -> None:
    """By the same command; its floats are kept."""
    xgboost = pytest.importorskip("xgboost", reason="xgboost cannot be imported on this machine")
    catalog = load_catalog()
    table = np.array([vector_of(specs(catalog, FIELDS), row) for row in desk.rows])
    model = xgboost.XGBClassifier(n_estimators=10, n_jobs=1).fit(table, table[:, 9] > np.nanmedian(table[:, 9]))
    model.save_model(desk.folder / "model.json")
    (desk.folder / "fields.txt").write_text("\n".join(FIELDS))
    unnamed = desk.convert("model.json", "offer-xgb")
    assert unnamed.exit_code == 2
    assert "--fields" in unnamed.stderr
    made = desk.convert("model.json", "offer-xgb", "--fields", str(desk.folder / "fields.txt"))
    assert made.exit_code == 0, made.output
    told = json.loads(made.stdout)
    assert told["parity"]["limits_differ"] == 0
    assert told["precision"].startswith("float32")
    offer = desk.folder / "offer-xgb"
    judged = ["bank", "inspect", str(offer / "model.onnx"), "--manifest", str(offer / "offer.yaml")]
    assert CliRunner().invoke(app, judged).exit_code == 0


def test_limits_that_differ_are_named_and_nothing_is_written(desk: Desk) -> None:
    """The bank's own limit of row 7 is another one: its number is told, not its values."""
    catalog = load_catalog()
    booster = lightgbm.Booster(model_file=str(desk.folder / "model.txt"))
    told = pd.DataFrame([vector_of(specs(catalog, NAMES), row) for row in desk.rows], columns=NAMES)
    top = len(catalog.fields[GRADE].codes) - 1
    told[GRADE] = top - told[GRADE]  # training numbered the grades backwards
    scores = booster.predict(told.to_numpy()).tolist()
    limits: list[object] = [""] * 400
    limits[6] = 123
    _write(desk.folder / "own.csv", desk.rows, score=scores, limit_yuan=limits)
    made = desk.convert("model.txt", "differs", sample="own.csv")
    assert made.exit_code == 1
    assert json.loads(made.stdout)["parity"]["rows_that_differ"] == [7]
    assert json.loads(made.stdout)["parity"]["equal"] == 400
    assert "parity_mismatch" in made.stderr
    assert not (desk.folder / "differs").exists()


def test_samples_may_be_json_lines_or_parquet(desk: Desk) -> None:
    """The same rows give the same comparison."""
    plain = [{name: row.get(name) for name in NAMES} for row in desk.rows[:60]]
    (desk.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in plain))
    parquet.write_table(pa.Table.from_pylist(plain), desk.folder / "rows.parquet")
    for ending in ("jsonl", "parquet"):
        made = desk.convert("model.txt", f"offer-{ending}", sample=f"rows.{ending}")
        assert made.exit_code == 0, made.output
        assert json.loads(made.stdout)["parity"]["equal"] == 60


def test_what_is_wrong_is_said_with_what_to_do(desk: Desk) -> None:
    """A pickle, another file, a lacking column, a value that is none, nobody to ask for fields: one line each."""
    (desk.folder / "model.pkl").write_bytes(pickle.dumps({"a": 1}))
    (desk.folder / "model.onnx").write_bytes(b"\x08\x09")
    (desk.folder / "short.csv").write_text("a,b\n1,2\n")
    bad: list[Row] = [{**desk.rows[0], GRADE: "A"}, {**desk.rows[1], GRADE: "excellent"}]
    _write(desk.folder / "bad.csv", bad)
    for result, words in (
        (desk.convert("model.pkl", "no"), ["never loaded", "save_model"]),
        (desk.convert("model.onnx", "no"), ["neither LightGBM's text nor XGBoost's JSON"]),
        (desk.convert("gone.txt", "no"), ["file_unusable"]),
        (desk.convert("model.txt", "no", sample="short.csv"), ["sample_invalid", FIELDS[0]]),
        (desk.convert("model.txt", "no", sample="bad.csv"), ["row 2", GRADE, "not one of"]),
        (desk.convert("model.txt", "no", sample="rules.yaml"), [".jsonl"]),
        (desk.convert("model.txt", "no", catalog=False), ["--catalog"]),
    ):
        assert result.exit_code in (1, 2)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        said = " ".join(result.stderr.replace("│", " ").split())
        assert all(word in said for word in words), said
        assert "excellent" not in said
    assert not (desk.folder / "no").exists()
