"""The one number."""

from dataclasses import dataclass

from heixia.precredit.v1 import precredit_pb2 as pb
from heixia.precredit.v1 import precredit_pb2_grpc as rpc

from enclave_api import converters
from enclave_api.interceptors import Context, caller
from sandbox.decision import Decider


@dataclass
class PreCreditServicer(rpc.PreCreditServiceServicer):
    """PreCreditService."""

    decider: Decider

    async def RequestLimit(self, request: pb.RequestLimitRequest, context: Context) -> pb.RequestLimitResponse:
        """A company's limit under its consent."""
        wanted = converters.limit_request(request, str(caller()))
        return converters.limit_response(await self.decider.decide(wanted))
