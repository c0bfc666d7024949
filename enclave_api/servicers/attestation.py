"""Evidence, fresh over the caller's nonce."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from heixia.attestation.v1 import attestation_pb2 as pb
from heixia.attestation.v1 import attestation_pb2_grpc as rpc

from enclave_api import converters
from enclave_api.attestation.evidence import NONCE_BYTES, EnclaveFacts
from enclave_api.attestation.simulated import Attester
from enclave_api.errors import RequestInvalid
from enclave_api.interceptors import Context


@dataclass
class AttestationServicer(rpc.AttestationServiceServicer):
    """AttestationService."""

    facts: EnclaveFacts
    attester: Attester
    clock: Callable[[], datetime]

    async def GetEvidence(self, request: pb.GetEvidenceRequest, context: Context) -> pb.GetEvidenceResponse:
        """Fresh evidence; raises RequestInvalid for a nonce of another length, Busy, EvidenceUnavailable."""
        if len(request.nonce) != NONCE_BYTES:
            raise RequestInvalid("nonce", public=f"nonce must be {NONCE_BYTES} bytes")
        made = await self.attester.attest(self.facts.claims(request.nonce, self.clock()))
        return pb.GetEvidenceResponse(evidence=converters.evidence(made))
