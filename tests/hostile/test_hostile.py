"""Hostile models against the real command behind real walls: each is refused, for its own reason."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.jail.pool import JailPool, Program
from sandbox.jail.settings import JailSettings
from tests.hostile.bombs import BOMBS
from tests.hostile.graphs import GRAPHS
from tests.hostile.learning import LEARNING_MODELS
from tests.hostile.messages import MESSAGES
from tests.hostile.models import Hostile, sound, write_all
from tests.hostile.side_files import SIDE_FILES
from tests.unit.jail.models import content

HOSTILE = [*SIDE_FILES, *MESSAGES, *BOMBS, *GRAPHS, *LEARNING_MODELS]
PLAIN = [hostile.name for hostile in HOSTILE if hostile.plain]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every hostile model as a file."""
    return write_all(tmp_path_factory.mktemp("hostile"), HOSTILE)


@pytest.fixture(scope="module")
def verdicts(files: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """What `heixia bank inspect` says of each, one command for all."""
    command: list[str | Path] = [Path(sys.executable).parent / "heixia", "bank", "inspect", "--json", *files.values()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return dict(zip(files, lines, strict=True))


def test_names_are_each_used_once() -> None:
    """At least sixty models, told apart by their names."""
    assert len({hostile.name for hostile in HOSTILE}) == len(HOSTILE) >= 60


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_a_hostile_model_is_refused_for_what_it_tries(hostile: Hostile, verdicts: dict[str, dict[str, Any]]) -> None:
    """Its own reason is among those told, with a place and words; it did not just fall over."""
    verdict = verdicts[hostile.name]
    told = {reason["code"]: reason for reason in verdict["reasons"]}
    assert not verdict["admitted"]
    assert hostile.code in told, told
    assert told[hostile.code]["where"]
    assert told[hostile.code]["text"]


def test_checker_and_a_run_are_no_gate(files: dict[str, Path]) -> None:
    """Exactly the models marked so pass onnx.checker and a run of onnxruntime, and they are more than twenty-four."""
    command: list[str | Path] = [sys.executable, "-m", "tests.hostile.plain_run", *(files[name] for name in PLAIN)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert {Path(line).stem for line in done.stdout.split()} == set(PLAIN)
    assert len(PLAIN) >= 24


def _hundred(files: dict[str, Path]) -> Iterator[bytes]:
    names = list(files)
    for position in range(100):
        yield files[names[position % len(names)]].read_bytes()


async def test_after_a_hundred_hostile_models_a_good_one_is_admitted(files: dict[str, Path]) -> None:
    """One pool judges them all, each in a template that is thrown away, and is as good as new."""
    from heixia.registry.v1 import bundle_pb2

    pool = await JailPool.start(JailSettings())
    try:
        for model in _hundred(files):
            program = Program(b"", bundle_pb2.BundleContent(model=model).SerializeToString(), {})
            assert not (await pool.inspect(program)).admitted
        report = await pool.inspect(Program(b"", content(sound()), {}))
        assert report.admitted
        assert report.facts["inputs"] == [{"name": "X", "dtype": "float32", "width": 3}]
    finally:
        await pool.close()
