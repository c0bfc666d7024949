"""Mutated models: whatever comes of them is judged, and the judge lives on."""

import random
from pathlib import Path
from typing import Any

import onnx
import pytest
from heixia.registry.v1 import bundle_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from model_registry.admission import admit
from sandbox.jail.pool import JailPool, Program
from sandbox.jail.settings import JailSettings
from tests.exporters import torch_graphs, tree_graphs
from tests.hostile.models import alone, tree_ensemble, trees

NUMBERS = (0, 1, -1, 2, 7, 255, 1000, 10**9, 2**31 - 1, 2**31, -(2**31), 2**63 - 1, -(2**63))


def _alone(node: onnx.NodeProto) -> onnx.ModelProto:
    made = alone(node, ml=5 if node.op_type == "TreeEnsemble" else 3)(Path())
    assert isinstance(made, onnx.ModelProto)
    return made


SEEDS: dict[str, onnx.ModelProto] = {
    "mlp": torch_graphs.mlp(17),
    "attention": torch_graphs.attention(18),
    "expanded": torch_graphs.expanded(18),
    "gemm": tree_graphs.gemm(17),
    "traversal": tree_graphs.traversal(17),
    "trees": _alone(trees()),
    "tree_ensemble": _alone(tree_ensemble()),
}


def mutate(message: Any, dice: random.Random) -> None:
    """Change one member somewhere below: a number, a text, an item more or less."""
    members = message.ListFields()
    if not members:
        return
    descriptor, value = dice.choice(members)
    if descriptor.is_repeated:
        _mutate_list(value, descriptor.message_type is not None, dice)
    elif descriptor.message_type is not None:
        mutate(value, dice)
    elif isinstance(value, int) and descriptor.enum_type is None:
        _set(message, descriptor.name, dice.choice(NUMBERS))
    elif isinstance(value, str):
        _set(message, descriptor.name, dice.choice(["", "X", "y", "Loop", "Expand", "input"]))
    elif isinstance(value, bytes):
        _set(message, descriptor.name, value[: dice.randrange(len(value) + 1)])
    else:
        message.ClearField(descriptor.name)


def _mutate_list(values: Any, messages: bool, dice: random.Random) -> None:
    at = dice.randrange(len(values))
    if dice.random() < 0.15:
        del values[at]
    elif messages and dice.random() < 0.15:
        values.add().CopyFrom(values[at])
    elif messages:
        mutate(values[at], dice)
    elif isinstance(values[at], int):
        _set(values, at, dice.choice(NUMBERS))
    else:
        values[at] = values[dice.randrange(len(values))]


def _set(holder: Any, name: str | int, value: object) -> None:
    try:
        holder.__setitem__(name, value) if isinstance(name, int) else setattr(holder, name, value)
    except (ValueError, OverflowError):  # more than the member's type holds
        return


def mutant(name: str, seed: int) -> bytes:
    """A model after a few changes, of members or of bytes; the same for the same seed."""
    dice = random.Random(seed)
    if dice.random() < 0.3:
        body = bytearray(SEEDS[name].SerializeToString())
        for _ in range(dice.randrange(1, 6)):
            body[dice.randrange(len(body))] = dice.randrange(256)
        return bytes(body)
    model = onnx.ModelProto()
    model.CopyFrom(SEEDS[name])
    for _ in range(dice.randrange(1, 4)):
        mutate(model, dice)
    return bytes(model.SerializeToString())


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(SEEDS)), st.integers(0, 2**32))
def test_a_mutant_is_judged(name: str, seed: int) -> None:
    """Reasons with stable codes, or a model to run: never an exception, never neither."""
    admission = admit(mutant(name, seed), None)
    assert bool(admission.reasons) != bool(admission.runnable)
    assert all(reason.code.isidentifier() and reason.where for reason in admission.reasons)


@pytest.mark.parametrize("name", sorted(SEEDS))
def test_a_seed_is_admitted(name: str) -> None:
    """What the mutants come from is sound, so that a mutant's refusal is the mutation's."""
    assert admit(SEEDS[name].SerializeToString(), None).reasons == ()


async def test_mutants_do_not_bring_down_the_pool() -> None:
    """Behind the walls each mutant ends in a verdict, and the last word is a sound model's admission."""
    pool = await JailPool.start(JailSettings())
    try:
        refused = 0
        for seed in range(60):
            model = mutant(sorted(SEEDS)[seed % len(SEEDS)], seed)
            content = bundle_pb2.BundleContent(model=model).SerializeToString()
            refused += not (await pool.inspect(Program(b"", content, {}))).admitted
        assert refused
        sound = bundle_pb2.BundleContent(model=SEEDS["mlp"].SerializeToString()).SerializeToString()
        assert (await pool.inspect(Program(b"", sound, {}))).admitted
    finally:
        await pool.close()
