"""What a careless server would do with a model: onnx.checker, then a run. Prints the files that get through.

A process of its own, with limits: these models are hostile.
"""

import contextlib
import os
import resource
import sys

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx
import onnxruntime

TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


def passes(path: str) -> bool:
    """Whether checker and runtime find nothing wrong."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    with contextlib.suppress(Exception):
        onnx.checker.check_model(path)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        rows = {i.name: [d if isinstance(d, int) else 1 for d in i.shape] for i in session.get_inputs()}
        session.run(None, {i.name: np.ones(rows[i.name], TYPES[i.type]) for i in session.get_inputs()})
        return True
    return False


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))
    sys.stdout.write("\n".join(path for path in sys.argv[1:] if passes(path)))
