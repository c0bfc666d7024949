"""The SDK for application flows: ask for a limit."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from heixia.precredit.v1 import precredit_pb2 as pb
from heixia.precredit.v1 import precredit_pb2_grpc

from audit.receipt import Opening, Receipt
from enclave_api.client.connection import Client, Refused

RETRIES = 2  # of a call that found no process free: it spent nothing, and the next moment may have one


@dataclass(frozen=True)
class Limit:
    """An answer: whole yuan (0 = no offer), until when, and the receipt that proves it."""

    yuan: int
    valid_until: datetime
    receipt: Receipt


class Application(Client):
    """An application flow."""

    def request_limit(self, *, subject: str, product: str, consent_id: str, request_id: str | None = None) -> Limit:
        """Asks for a company's limit. Repeating a request id repeats the answer and costs nothing.

        Args:
            subject: `uscc:...` or `ric:...`.
            product: `<institution>/<product>`.
            consent_id: UUID of a registered consent.
            request_id: UUID; None = a fresh one.

        Raises:
            Refused: which law stopped the call.
            ConnectionFailed: no answer; repeat with the same request id.
        """
        request = pb.RequestLimitRequest(
            request_id=request_id or str(uuid.uuid4()), consent_id=consent_id, subject=subject, product=product
        )
        answer = self._ask(request)
        opening = Opening(answer.receipt.salt, answer.limit.units)
        receipt = Receipt(answer.receipt.entry, answer.receipt.proof, opening)
        return Limit(answer.limit.units, answer.valid_until.ToDatetime(UTC), receipt)

    def _ask(self, request: pb.RequestLimitRequest) -> pb.RequestLimitResponse:
        ask = precredit_pb2_grpc.PreCreditServiceStub(self.channel).RequestLimit
        for _ in range(RETRIES):
            try:
                return self.call(ask, request)
            except Refused as refusal:
                if refusal.code != "jail_unavailable":
                    raise
        return self.call(ask, request)
