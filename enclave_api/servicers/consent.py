"""Consents. What a subject sees of them, and erasure, are not served yet (docs/status.md)."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from heixia.consent.v1 import consent_pb2 as pb
from heixia.consent.v1 import consent_pb2_grpc as rpc

from enclave_api import converters
from enclave_api.interceptors import Context, caller, not_served
from sandbox.consent import Change
from sandbox.consent_store import ConsentRecord, ConsentStore


@dataclass
class ConsentServicer(rpc.ConsentServiceServicer):
    """ConsentService."""

    consents: ConsentStore
    clock: Callable[[], datetime]

    EraseSubject = not_served
    GetSubjectDisclosure = not_served
    ListSubjectConsents = not_served
    ListSubjectUses = not_served

    async def RegisterConsent(self, request: pb.RegisterConsentRequest, context: Context) -> pb.RegisterConsentResponse:
        """Registers a signed consent."""
        stored = await self.consents.register(request.consent_jws, caller().organisation)
        return pb.RegisterConsentResponse(consent=converters.consent(stored))

    async def GetConsent(self, request: pb.GetConsentRequest, context: Context) -> pb.GetConsentResponse:
        """One consent of the caller's."""
        consent_id = converters.uuid(request.consent_id, "consent_id")
        stored = self.consents.get(consent_id, caller().organisation, self.clock())
        return pb.GetConsentResponse(consent=converters.consent(stored))

    async def RevokeConsent(self, request: pb.RevokeConsentRequest, context: Context) -> pb.RevokeConsentResponse:
        """Revokes; answers when durable."""
        stored, index = await self._change(request.consent_id, Change.REVOKE, request.reason)
        return pb.RevokeConsentResponse(consent=converters.consent(stored), index=index)

    async def PauseConsent(self, request: pb.PauseConsentRequest, context: Context) -> pb.PauseConsentResponse:
        """Pauses."""
        stored, _ = await self._change(request.consent_id, Change.PAUSE, request.reason)
        return pb.PauseConsentResponse(consent=converters.consent(stored))

    async def ResumeConsent(self, request: pb.ResumeConsentRequest, context: Context) -> pb.ResumeConsentResponse:
        """Resumes."""
        stored, _ = await self._change(request.consent_id, Change.RESUME, request.reason)
        return pb.ResumeConsentResponse(consent=converters.consent(stored))

    async def _change(self, consent_id: str, what: Change, reason: str) -> tuple[ConsentRecord, int]:
        name = converters.uuid(consent_id, "consent_id")
        who = caller()
        return await self.consents.change(name, what, who.organisation, str(who), converters.reason(reason))
