"""The one number."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from heixia.precredit.v1 import precredit_pb2 as pb
from heixia.precredit.v1 import precredit_pb2_grpc as rpc

from enclave_api import converters
from enclave_api.interceptors import Context, caller
from sandbox.decision import Decider


@dataclass
class PreCreditServicer(rpc.PreCreditServiceServicer):
    """PreCreditService. `answered(institution, seconds)` gets the time of each answer, as its caller saw it."""

    decider: Decider
    answered: Callable[[str, float], None] = field(default=lambda *_: None)

    async def RequestLimit(self, request: pb.RequestLimitRequest, context: Context) -> pb.RequestLimitResponse:
        """A company's limit under its consent."""
        wanted = converters.limit_request(request, str(caller()))
        began = time.monotonic()
        answer = await self.decider.decide(wanted)
        self.answered(wanted.product.partition("/")[0], time.monotonic() - began)
        return converters.limit_response(answer)
