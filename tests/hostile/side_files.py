"""Weights that lie elsewhere, in every spelling."""

import os
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.hostile.models import FLOAT, Build, Hostile, changed, node, sound, stored


def _external(location: str, **entries: str) -> Build:
    """W's bytes in a side file, under a name that says where."""

    def build(folder: Path) -> onnx.ModelProto:
        for side in ("side.bin", "origin.bin"):
            (folder / side).write_bytes(np.ones(3, np.float32).tobytes())
        for name, make in (("link.bin", os.symlink), ("hard.bin", os.link)):
            if not (folder / name).exists():
                make(folder / "origin.bin", folder / name)
        model = sound()
        _move_away(model.graph.initializer[0], location.replace("FOLDER", str(folder)), **entries)
        return model

    return build


def _move_away(tensor: onnx.TensorProto, location: str, **entries: str) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)


def _quiet_entry(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].external_data.add(key="location", value="side.bin")


def _constant_elsewhere(model: onnx.ModelProto) -> None:
    _move_away(model.graph.node[1].attribute[0].t, "side.bin")


def _function(model: onnx.ModelProto) -> None:
    hidden = [helper.make_node("RandomNormal", [], ["r"], shape=[1, 1]), helper.make_node("Add", ["a", "r"], ["b"])]
    model.functions.append(helper.make_function("local", "Score", ["a"], ["b"], hidden, [helper.make_opsetid("", 17)]))
    model.opset_import.append(helper.make_opsetid("local", 1))


def _function_elsewhere(model: onnx.ModelProto) -> None:
    _function(model)
    constant = helper.make_node("Constant", [], ["c"], value=stored("c", [1.0], np.float32))
    _move_away(constant.attribute[0].t, "side.bin")
    model.functions[0].node.append(constant)


def _training(model: onnx.ModelProto) -> None:
    tensor = model.training_info.add().initialization.initializer.add(data_type=FLOAT, dims=[1], name="t")
    _move_away(tensor, "/etc/passwd")


_LEAKY = node("LeakyRelu", ["score"], alpha=0.1)
_CONSTANT = helper.make_node("Constant", [], ["c"], value=stored("c", [1.0], np.float32))

SIDE_FILES = [
    Hostile("external_file", "weights in a file beside it", "external_data", _external("side.bin"), plain=True),
    Hostile("external_symlink", "weights through a symbolic link", "external_data", _external("link.bin")),
    Hostile("external_hardlink", "weights through a second name of a file", "external_data", _external("hard.bin")),
    Hostile("external_absolute", "weights from any file of the machine", "external_data", _external("/etc/passwd")),
    Hostile("external_parent", "weights from the folder above", "external_data", _external("../side.bin")),
    Hostile(
        "external_nested_parent",
        "weights from the folder above, spelled deeper",
        "external_data",
        _external("x/../../side.bin"),
    ),
    Hostile(
        "external_offset",
        "a length beyond the file",
        "external_data",
        _external("side.bin", offset="0", length="99999999999"),
    ),
    Hostile(
        "external_memory",
        "onnxruntime's marker for an address in its own memory",
        "external_data",
        _external("*/_ORT_MEM_ADDR_/*", offset="4096", length="12"),
    ),
    Hostile(
        "external_default", "entries of a side file without the flag", "external_data", changed(_quiet_entry), True
    ),
    Hostile(
        "external_constant",
        "a side file in a Constant node",
        "external_data",
        changed(_constant_elsewhere, _CONSTANT, node("Add", ["score", "c"])),
    ),
    Hostile("external_function", "a side file in a function's body", "function_refused", changed(_function_elsewhere)),
    Hostile(
        "external_training", "a side file in training information", "training_info_refused", changed(_training), True
    ),
    Hostile(
        "segment",
        "a tensor in pieces",
        "external_data",
        changed(lambda m: setattr(m.graph.initializer[0].segment, "begin", 0)),
        plain=True,
    ),
]
