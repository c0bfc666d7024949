"""Consents, and what was disclosed about a subject. Lists of consents and uses, and erasure, are not served yet."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from heixia.consent.v1 import consent_pb2 as pb
from heixia.consent.v1 import consent_pb2_grpc as rpc

from enclave_api import converters
from enclave_api.errors import PermissionRefused
from enclave_api.identity import Principal, Role
from enclave_api.interceptors import Context, caller, not_served
from enclave_api.servicers.audit import record_read
from sandbox.consent_life import Change
from sandbox.consent_store import ConsentRecord, ConsentStore
from sandbox.disclosure import Disclosed, disclosed, disclosed_in_all
from sandbox.vault.subject import parse_subject


@dataclass
class ConsentServicer(rpc.ConsentServiceServicer):
    """ConsentService."""

    consents: ConsentStore
    clock: Callable[[], datetime]
    budget_milli: int

    EraseSubject = not_served
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

    async def GetSubjectDisclosure(
        self, request: pb.GetSubjectDisclosureRequest, context: Context
    ) -> pb.GetSubjectDisclosureResponse:
        """What left about a subject; a look by anybody but the subject is an entry itself."""
        who = caller()
        tag = self._tag_for(who, request.subject)
        rows = await asyncio.to_thread(self._disclosed, tag)  # over all subjects it may take a while
        if who.role is not Role.SUBJECT:
            await record_read(self.consents.ledger, f"disclosure {tag or 'of all subjects'}")
        shown = [converters.disclosure(row, self.budget_milli) for row in rows]
        return pb.GetSubjectDisclosureResponse(disclosures=shown)

    def _disclosed(self, tag: str | None) -> list[Disclosed]:
        with self.consents.engine.connect() as connection:
            return disclosed(connection, tag) if tag else disclosed_in_all(connection)

    def _tag_for(self, who: Principal, subject: str) -> str | None:
        if who.role is Role.AUDITOR and not subject:
            return None
        parse_subject(subject)
        if who.role is Role.SUBJECT and subject != who.organisation:
            raise PermissionRefused("another subject", public="your certificate is another subject's")
        tag = self.consents.keys.subject_tag(subject)
        if who.role is Role.AUTHORITY:
            self.consents.check_acts_for(who.organisation, tag)
        return tag

    async def _change(self, consent_id: str, what: Change, reason: str) -> tuple[ConsentRecord, int]:
        name = converters.uuid(consent_id, "consent_id")
        who = caller()
        return await self.consents.change(name, what, who.organisation, str(who), converters.reason(reason))
