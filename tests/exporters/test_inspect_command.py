"""`heixia bank inspect` as a bank uses it: offline, many files of any kind, against a manifest or without one."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.jail.models import linear, manifest, model

HEIXIA = Path(sys.executable).parent / "heixia"


def inspect(*arguments: object) -> tuple[int, list[dict[str, Any]], str]:
    """(exit code, lines, stderr), without any home, server or certificate."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HEIXIA_")}
    command: list[str | Path] = [str(HEIXIA), "bank", "inspect", "--json", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd="/")
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A sound model's file, under a name of its own."""
    path = tmp_path / "信用 model.onnx"
    path.write_bytes(linear().SerializeToString())
    return path


def test_one_line_for_each_file_whatever_it_is(good: Path, tmp_path: Path) -> None:
    """Missing, a folder, a pipe, a device, too large, empty: a verdict each, and the good one among them."""
    pipe, huge, empty = tmp_path / "pipe", tmp_path / "huge.onnx", tmp_path / "empty.onnx"
    os.mkfifo(pipe)
    huge.touch()
    os.truncate(huge, 65 * 2**20)
    empty.touch()
    files = [tmp_path / "none.onnx", tmp_path, pipe, "/dev/zero", huge, empty, good]
    code, lines, _ = inspect(*files)
    assert code == 1
    assert [line["file"] for line in lines] == [str(file) for file in files]
    assert [[r["code"] for r in line["reasons"]] for line in lines] == [
        *[["file_unusable"]] * 4,
        ["model_too_large"],
        ["model_empty"],
        [],
    ]
    assert [line["admitted"] for line in lines] == [False] * 6 + [True]


def test_admitted_alone_is_exit_nought(good: Path) -> None:
    """All facts are told."""
    code, (line,), errors = inspect(good)
    assert (code, line["admitted"], line["reasons"]) == (0, True, [])
    assert {"sha256", "opsets", "inputs", "outputs", "work", "load_ms", "run_cpu_us", "memory_bytes", "zipmap"} <= set(
        line["facts"]
    )
    assert "error" not in errors


def test_for_people_a_few_lines(good: Path, tmp_path: Path) -> None:
    """Without --json: the verdict, the file, what counts as the score, the reasons."""
    command: list[str | Path] = [HEIXIA, "bank", "inspect", good, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.startswith(f"admitted  {good}\n")
    assert done.stdout.splitlines()[1].endswith(", score score[0]")
    assert f"REFUSED   {tmp_path}\n  file_unusable at file: " in done.stdout


def test_a_reader_that_has_enough_is_no_error(good: Path) -> None:
    """As before `| head`: the command ends without a word."""
    gone, pipe = os.pipe()
    os.close(gone)
    command: list[str | Path] = [HEIXIA, "bank", "inspect", good]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with os.fdopen(pipe, "wb") as closed:
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_manifest_is_json_or_a_jws(good: Path, tmp_path: Path) -> None:
    """Both bind the inputs that the bank signed; another model is refused against them."""
    payload = manifest()
    plain, signed = tmp_path / "manifest.json", tmp_path / "manifest.jws"
    plain.write_bytes(payload)
    signed.write_bytes(b"e30." + base64.urlsafe_b64encode(payload).rstrip(b"=") + b".c2ln")
    other = tmp_path / "other.onnx"
    other.write_bytes(linear((1.0, 1.0)).SerializeToString())
    for file in (plain, signed):
        code, lines, _ = inspect(good, other, "--manifest", file)
        assert code == 1
        assert [[r["code"] for r in line["reasons"]] for line in lines] == [[], ["input_shape"]]


def test_a_digest_in_the_manifest_is_compared(good: Path, tmp_path: Path) -> None:
    """The signed digest is of the file's own bytes; the rules' digest has nothing to be compared with here."""
    declared = tmp_path / "manifest.json"
    declared.write_bytes(manifest(digests={"bundle": "0" * 64, "model": "0" * 64, "rules": "0" * 64}))
    _, (line,), _ = inspect(good, "--manifest", declared)
    assert [(r["code"], r["where"]) for r in line["reasons"]] == [("digest_mismatch", "model")]


def test_an_offer_brings_rules_and_samples(good: Path, tmp_path: Path) -> None:
    """offer.yaml: what `seal` would send is judged as a whole, parity samples included."""
    (tmp_path / "samples.jsonl").write_text(json.dumps({"vector": [60000.0, 0.0, 0.0], "limit_yuan": 100000}) + "\n")
    names = ["tax.declaration.sales_12m", "tax.declaration.sales_3m", "tax.invoice.amount_issued_12m"]
    offer = {
        "product": "bank/loan",
        "model": good.name,
        "samples": "samples.jsonl",
        "levels": [0, 50_000, 100_000],
        "fields": [{"name": name, "missing": "nan"} for name in names],
        "inputs": [{"name": "X", "dtype": "float32", "fields": names}],
        "output": {"name": "score", "index": 0},
    }
    path = tmp_path / "offer.yaml"
    path.write_text(yaml.safe_dump(offer))
    _, (line,), _ = inspect(good, "--manifest", path)
    assert [(r["code"], r["where"]) for r in line["reasons"]] == [("parity_mismatch", "sample 0")]


@pytest.mark.parametrize("body", [b"", b"[1]", b"a.b", b'{"fields": 7}', b"{}", b"\xff" * 10])
def test_what_is_no_manifest_is_one_clear_error(body: bytes, good: Path, tmp_path: Path) -> None:
    """Nothing is judged against nonsense."""
    path = tmp_path / "manifest"
    path.write_bytes(body)
    code, lines, errors = inspect(good, "--manifest", path)
    assert (code, lines) == (1, [])
    assert "manifest_invalid" in errors
    assert "Traceback" not in errors


def test_a_name_of_a_model_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    """Control characters in a stranger's names arrive as question marks."""
    proto = model([])
    proto.graph.node.add(op_type="\x1b[2J" + "x" * 200, input=["X"], output=["score"])
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    done = subprocess.run([HEIXIA, "bank", "inspect", path], capture_output=True, check=False)
    assert b"\x1b" not in done.stdout
