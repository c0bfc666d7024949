"""Consents, and what a subject, or an authority that acts for it, may see and do about it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from heixia.consent.v1 import consent_pb2 as pb
from heixia.consent.v1 import consent_pb2_grpc as rpc

from enclave_api import converters
from enclave_api.errors import PermissionRefused, RequestInvalid
from enclave_api.identity import Role
from enclave_api.interceptors import Context, caller
from enclave_api.reads import Reads
from enclave_api.servicers.audit import record_read
from sandbox.consent_life import Change
from sandbox.consent_store import ConsentRecord, ConsentStore
from sandbox.disclosure import Disclosed, disclosed, disclosed_in_all
from sandbox.erasure import Eraser
from sandbox.subject_view import SubjectView
from sandbox.vault.subject import parse_subject

USES_DEFAULT = 100
USES_MAX = 500  # a page of them takes a thread a tenth of a second
THREADS = 2  # of looks at subjects; SQLite and decryption leave the interpreter to the calls now and then
LOOKS_MAX = 32  # under way or waiting: 3 s of waiting at most


@dataclass
class ConsentServicer(rpc.ConsentServiceServicer):
    """ConsentService."""

    consents: ConsentStore
    clock: Callable[[], datetime]
    budget_milli: int
    view: SubjectView = field(init=False)
    eraser: Eraser = field(init=False)
    looks: Reads = field(default_factory=lambda: Reads("subject", THREADS, LOOKS_MAX))

    def __post_init__(self) -> None:
        """Subjects' affairs are about the same store."""
        self.view = SubjectView(self.consents)
        self.eraser = Eraser(self.consents.ledger, self.consents.engine)

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
        who = caller()
        if who.role is Role.SUBJECT:
            name, reason = converters.uuid(request.consent_id, "consent_id"), converters.reason(request.reason)
            tag = self.consents.keys.subject_tag(parse_subject(who.organisation))
            stored, index = await self.view.revoke(tag, name, str(who), reason)
        else:
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

    async def ListSubjectConsents(
        self, request: pb.ListSubjectConsentsRequest, context: Context
    ) -> pb.ListSubjectConsentsResponse:
        """A subject's consents."""
        tag = self._tag_of(request.subject)
        found = await self.looks.run(partial(self.view.list_consents, tag, self.clock()))
        await self._record(f"consents {tag}")
        shown = [converters.subject_consent(one) for one in found]
        return pb.ListSubjectConsentsResponse(consents=shown, since=converters.timestamp(self.view.since))

    async def ListSubjectUses(self, request: pb.ListSubjectUsesRequest, context: Context) -> pb.ListSubjectUsesResponse:
        """A page of the uses of a subject's data."""
        tag = self._tag_of(request.subject)
        count = request.page_size or USES_DEFAULT
        if count > USES_MAX:
            raise RequestInvalid("page_size", public=f"page_size is at most {USES_MAX}")
        before = converters.page_begin(request.page_token)
        page = await self.looks.run(partial(self.view.list_uses, tag, count, before))
        await self._record(f"uses {tag}")
        return converters.uses(page, self.view.since)

    async def GetSubjectReceipt(
        self, request: pb.GetSubjectReceiptRequest, context: Context
    ) -> pb.GetSubjectReceiptResponse:
        """What proves one use; the opening for the subject alone."""
        tag = self._tag_of(request.subject)
        proof = await self.looks.run(partial(self.view.prove, tag, request.index))
        await self._record(f"receipt {request.index} {tag}")
        return converters.subject_receipt(proof, with_opening=caller().role is Role.SUBJECT)

    async def EraseSubject(self, request: pb.EraseSubjectRequest, context: Context) -> pb.EraseSubjectResponse:
        """Destroys a subject's key; answers when durable."""
        who = caller()
        authority = who.organisation if who.role is Role.AUTHORITY else None
        index, removed = await self.eraser.erase(self._tag_of(request.subject), str(who), authority)
        return pb.EraseSubjectResponse(index=index, removed=removed)

    async def GetSubjectDisclosure(
        self, request: pb.GetSubjectDisclosureRequest, context: Context
    ) -> pb.GetSubjectDisclosureResponse:
        """What left about a subject; a look by anybody but the subject is an entry itself."""
        everybody = caller().role is Role.AUDITOR and not request.subject
        tag = None if everybody else self._tag_of(request.subject)
        rows = await self.looks.run(partial(self._disclosed, tag))  # over all subjects it may take a while
        await self._record(f"disclosure {tag or 'of all subjects'}")
        shown = [converters.disclosure(row, self.budget_milli) for row in rows]
        return pb.GetSubjectDisclosureResponse(disclosures=shown)

    async def RevokeAuthority(self, request: pb.RevokeAuthorityRequest, context: Context) -> pb.RevokeAuthorityResponse:
        """Ends an authority's standing; answers when durable."""
        authority, reason = converters.organisation(request.authority, "authority"), converters.reason(request.reason)
        return pb.RevokeAuthorityResponse(index=await self.consents.revoke_authority(authority, str(caller()), reason))

    def _disclosed(self, tag: str | None) -> list[Disclosed]:
        with self.consents.engine.connect() as connection:
            return disclosed(connection, tag) if tag else disclosed_in_all(connection)

    async def _record(self, what: str) -> None:
        if caller().role is not Role.SUBJECT:  # to look at oneself leaves no trace
            await record_read(self.consents.ledger, what)

    def _tag_of(self, subject: str) -> str:
        who = caller()
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
