"""The reference: a bare grpc.aio service that runs the same ONNX model in process, with nothing protected.

No TLS, no consent, no data, no walls, no log: what a call costs when nobody is careful. Run by bench as a process.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import grpc
import numpy as np
import onnxruntime

METHOD = "/bare.Bare/Score"


async def main(model: bytes, width: int) -> None:
    """Serves the model on a free loopback port and prints the port."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options)

    async def score(request: bytes, _: Any) -> bytes:
        row = np.frombuffer(request, np.float64).reshape(1, width)
        return bytes(session.run(["score"], {"fields": row})[0].tobytes())

    handler = grpc.method_handlers_generic_handler("bare.Bare", {"Score": grpc.unary_unary_rpc_method_handler(score)})
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]).read_bytes(), int(sys.argv[2])))
