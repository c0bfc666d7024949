"""Evidence, fresh over the caller's nonce, and the keys in it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from heixia.attestation.v1 import attestation_pb2 as pb
from heixia.attestation.v1 import attestation_pb2_grpc as rpc

from enclave_api import converters
from enclave_api.attestation.evidence import NONCE_BYTES
from enclave_api.attestation.simulated import Attester
from enclave_api.errors import RequestInvalid
from enclave_api.interceptors import Context, caller
from enclave_api.key_epochs import KeyEpochs
from model_registry.key_epochs import OVERLAP_DAYS_MAX

OVERLAP_DAYS = 30  # a bank that seals a version a month sees the new key in time


@dataclass
class AttestationServicer(rpc.AttestationServiceServicer):
    """AttestationService."""

    epochs: KeyEpochs
    attester: Attester
    clock: Callable[[], datetime]

    async def GetEvidence(self, request: pb.GetEvidenceRequest, context: Context) -> pb.GetEvidenceResponse:
        """Fresh evidence; raises RequestInvalid for a nonce of another length, Busy, EvidenceUnavailable."""
        if len(request.nonce) != NONCE_BYTES:
            raise RequestInvalid("nonce", public=f"nonce must be {NONCE_BYTES} bytes")
        made = await self.attester.attest(self.epochs.facts.claims(request.nonce, self.clock()))
        return pb.GetEvidenceResponse(evidence=converters.evidence(made))

    async def ListKeys(self, request: pb.ListKeysRequest, context: Context) -> pb.ListKeysResponse:
        """Every epoch's public facts."""
        return pb.ListKeysResponse(keys=[converters.key_epoch(one) for one in self.epochs.list()])

    async def RotateKey(self, request: pb.RotateKeyRequest, context: Context) -> pb.RotateKeyResponse:
        """A new key, in the evidence when this answers."""
        days = request.overlap_days if request.HasField("overlap_days") else OVERLAP_DAYS
        if days > OVERLAP_DAYS_MAX:
            raise RequestInvalid("overlap_days", public=f"overlap_days must be 0 to {OVERLAP_DAYS_MAX}")
        made = await self.epochs.rotate(str(caller()), request.key_id, timedelta(days=days))
        return pb.RotateKeyResponse(key=converters.key_epoch(made))
