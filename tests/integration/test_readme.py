"""The tour of the README runs as it stands, and both languages show the same commands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import lightgbm
import numpy as np
from heixia.registry.v1.registry_pb2 import VersionState

from tests.integration.conftest import Stage
from tests.room import ALICE, BOB

ROOT = Path(__file__).resolve().parents[2]
_SDK = re.compile(r"```python\n(.*?)```", re.DOTALL)
_TOUR = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def _tour(name: str) -> list[str]:
    (block,) = _TOUR.findall((ROOT / name).read_text())
    return [line for line in block.splitlines() if line and not line.startswith("#")]


def test_both_languages_show_the_same_commands() -> None:
    """A command that changes in one README changes in the other."""
    assert _tour("README.md") == _tour("README.zh-CN.md")
    assert _SDK.findall((ROOT / "README.md").read_text()) == _SDK.findall((ROOT / "README.zh-CN.md").read_text())


def test_the_tour_runs(tmp_path: Path) -> None:
    """Every command succeeds, in order, and the last ones verify a receipt and the log."""
    first, *rest = _tour("README.md")
    assert first.startswith("make .venv/.installed && ")
    # The environment is the one that runs this test; a port of its own lets tests run side by side.
    script = "\n".join(["set -e", first.partition(" && ")[2], *rest])
    script = script.replace(
        "heixia serve --metrics off &", "heixia serve --metrics off --log-listen off --listen 127.0.0.1:27443 &"
    )
    environment = {**os.environ, "HEIXIA_SERVER": "127.0.0.1:27443"}
    folder = Path(sys.executable).parent
    script = script.replace("$PWD/.venv/bin", str(folder)).replace(" python3 ", f" {sys.executable} ")
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.count("  SOUND") == 2
    assert "limit_yuan" in done.stdout


def test_the_sdk_example_runs_and_is_short(stage: Stage) -> None:
    """At most fifteen lines of Python take a trained model to champion."""
    (block,) = _SDK.findall((ROOT / "README.md").read_text())
    assert len([line for line in block.splitlines() if line]) <= 15
    rng = np.random.default_rng(3)
    booster = lightgbm.LGBMRegressor(n_estimators=5, verbose=-1).fit(rng.random((200, 2)), rng.random(200) * 200_000)
    code = block.replace("127.0.0.1:7443", stage.room.server).replace('"clients/', f'"{stage.room.home.path}/clients/')
    exec(compile(code, "README.md", "exec"), {"booster": booster})
    newest = stage.room.alice.versions("zhongyuan/second-loan")[-1]
    assert (newest.state, newest.approved_by) == (VersionState.VERSION_STATE_CHAMPION, str(BOB))


def test_a_banks_own_model_is_converted_by_the_command_line(stage: Stage, tmp_path: Path) -> None:
    """A LightGBM text model becomes an offer that seals and is admitted."""
    rng = np.random.default_rng(3)
    lightgbm.LGBMRegressor(n_estimators=5, verbose=-1).fit(rng.random((200, 2)), rng.random(200)).booster_.save_model(
        tmp_path / "model.txt"
    )
    (tmp_path / "fields.txt").write_text("tax.declaration.sales_12m\npublic_credit.lists.score\n")
    alice = ["--as", str(stage.room.home.client(ALICE)), "--server", stage.room.server]
    for command in (
        [
            "convert",
            *alice,
            "model.txt",
            "offer",
            "--product",
            "zhongyuan/own",
            "--levels",
            "0,1,2",
            "--fields",
            "fields.txt",
        ],
        ["seal", *alice, "--accept-simulated", "offer/offer.yaml", "--out", "own.heixia"],
        ["submit", *alice, "own.heixia"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "enclave_api", "bank", *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert "admitted" in done.stdout
