"""Versions of models."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

from heixia.registry.v1 import registry_pb2 as pb
from heixia.registry.v1 import registry_pb2_grpc as rpc

from enclave_api import converters, version_converters
from enclave_api.errors import RequestInvalid
from enclave_api.identity import Principal
from enclave_api.interceptors import Context, caller
from enclave_api.uploads import Uploads, timed
from enclave_api.wire_limits import CHUNK_BYTES_MAX
from model_registry.bundle import CIPHERTEXT_BYTES_MAX, SealedBundle
from model_registry.registry import Registry
from model_registry.version_history import Reign
from model_registry.version_rows import check_own
from sandbox.versions import Versions

RULES_BYTES_MAX = 1024 * 1024  # of a bundle without a model: rules of 256 KiB, and 48 samples of 2,000 fields
CHANGES_DEFAULT = 100
CHANGES_MAX = 500  # some 200 bytes each


@dataclass
class RegistryServicer(rpc.RegistryServiceServicer):
    """RegistryService. Another institution's version is refused by its name, as one that does not exist."""

    registry: Registry
    versions: Versions
    uploads: Uploads

    async def SubmitVersion(
        self, request: AsyncIterator[pb.SubmitVersionRequest], context: Context
    ) -> pb.SubmitVersionResponse:
        """Takes a sealed bundle and has it inspected."""
        who = caller()
        async with self.uploads.place(who):
            bundle = await _receive(timed(request))
            stored = await self.registry.submit(bundle, who.organisation, str(who), self.versions.inspect)
        return pb.SubmitVersionResponse(version=version_converters.version(stored, who))

    async def ReplaceRules(self, request: pb.ReplaceRulesRequest, context: Context) -> pb.ReplaceRulesResponse:
        """Takes new rules for a version's model and has both inspected together."""
        who = caller()
        check_own(request.version, who.organisation)
        bundle = _whole(request)
        async with self.uploads.place(who):
            stored = await self.registry.replace_rules(
                request.version, bundle, who.organisation, str(who), self.versions.inspect
            )
        return pb.ReplaceRulesResponse(version=version_converters.version(stored, who))

    async def ApproveVersion(self, request: pb.ApproveVersionRequest, context: Context) -> pb.ApproveVersionResponse:
        """Approves, as a second person."""
        who = caller()
        stored = await self.registry.approve(request.version, who.organisation, str(who))
        return pb.ApproveVersionResponse(version=version_converters.version(stored, who))

    async def PromoteVersion(self, request: pb.PromoteVersionRequest, context: Context) -> pb.PromoteVersionResponse:
        """Makes a version champion."""
        who = caller()
        stored = await self.registry.promote(request.version, who.organisation, str(who), self.versions.prepare)
        return pb.PromoteVersionResponse(version=version_converters.version(stored, who))

    async def RollbackProduct(self, request: pb.RollbackProductRequest, context: Context) -> pb.RollbackProductResponse:
        """Makes an earlier version champion again."""
        who = caller()
        product, prepare = converters.product(request.product), self.versions.prepare
        stored = await self.registry.rollback(product, who.organisation, str(who), prepare, request.to)
        return pb.RollbackProductResponse(version=version_converters.version(stored, who))

    async def SuspendVersion(self, request: pb.SuspendVersionRequest, context: Context) -> pb.SuspendVersionResponse:
        """Stops a version at once."""
        who, reason = caller(), converters.reason(request.reason)
        stored = await self.registry.suspend(request.version, _holder(who), str(who), reason)
        return pb.SuspendVersionResponse(version=version_converters.version(stored, who))

    async def SuspendAllVersions(
        self, request: pb.SuspendAllVersionsRequest, context: Context
    ) -> pb.SuspendAllVersionsResponse:
        """Stops everything of the caller's institution."""
        who, reason = caller(), converters.reason(request.reason)
        return pb.SuspendAllVersionsResponse(
            versions=await self.registry.suspend_all(who.organisation, str(who), reason)
        )

    async def ResumeVersion(self, request: pb.ResumeVersionRequest, context: Context) -> pb.ResumeVersionResponse:
        """Lifts a suspension."""
        who, reason = caller(), converters.reason(request.reason)
        stored = await self.registry.resume(request.version, _holder(who), str(who), reason)
        return pb.ResumeVersionResponse(version=version_converters.version(stored, who))

    async def RetireVersion(self, request: pb.RetireVersionRequest, context: Context) -> pb.RetireVersionResponse:
        """Ends a version."""
        who = caller()
        stored = await self.registry.retire(request.version, who.organisation, str(who))
        await self.versions.forget(request.version)
        return pb.RetireVersionResponse(version=version_converters.version(stored, who))

    async def GetVersion(self, request: pb.GetVersionRequest, context: Context) -> pb.GetVersionResponse:
        """One of the caller's versions."""
        who = caller()
        stored = self.registry.get(request.version, who.organisation)
        return pb.GetVersionResponse(version=version_converters.version(stored, who), manifest_jws=stored.manifest_jws)

    async def ListProducts(self, request: pb.ListProductsRequest, context: Context) -> pb.ListProductsResponse:
        """The caller's products."""
        found = self.registry.products(caller().organisation)
        return pb.ListProductsResponse(products=[version_converters.product(one) for one in found])

    async def ListVersions(self, request: pb.ListVersionsRequest, context: Context) -> pb.ListVersionsResponse:
        """A product's versions."""
        who = caller()
        stored = self.registry.list(converters.product(request.product), who.organisation)
        return pb.ListVersionsResponse(versions=[version_converters.version(v, who) for v in stored])

    async def GetChampion(self, request: pb.GetChampionRequest, context: Context) -> pb.GetChampionResponse:
        """Which version was champion at a time, and what the log says of it."""
        who = caller()
        at = converters.moment(request.at) if request.HasField("at") else None
        if at is not None and at > max(datetime.now(UTC), self.registry.ledger.time):
            raise RequestInvalid("at", public="at lies in the future: nobody knows yet who is champion then")
        reign, after = self.registry.champion_at(converters.product(request.product), who.organisation, at)
        answer = pb.GetChampionResponse(promotion=self._promotion(reign), next=self._promotion(after))
        if reign is not None:
            stored = self.registry.get(reign.version, who.organisation)
            answer.version.CopyFrom(version_converters.version(stored, who))
            answer.promoted_index = reign.index
        return answer

    async def ListVersionChanges(
        self, request: pb.ListVersionChangesRequest, context: Context
    ) -> pb.ListVersionChangesResponse:
        """A product's history."""
        who, count = caller(), request.page_size or CHANGES_DEFAULT
        if count > CHANGES_MAX:
            raise RequestInvalid("page_size", public=f"page_size is at most {CHANGES_MAX}")
        before = converters.page_begin(request.page_token)
        noted = self.registry.history(converters.product(request.product), who.organisation, before, count + 1)
        return version_converters.changes(noted, count, who)

    def _promotion(self, reign: Reign | None) -> pb.Promotion | None:
        if reign is None:
            return None
        ledger = self.registry.ledger
        return pb.Promotion(entry=ledger.entry(reign.index), proof=ledger.prove(reign.index))


def _holder(who: Principal) -> str:
    return f"{who.role}/{who.organisation}"


def _whole(request: pb.ReplaceRulesRequest) -> SealedBundle:
    header = request.header
    if not 0 < len(request.ciphertext) <= RULES_BYTES_MAX:
        public = (
            f"the bundle has {len(request.ciphertext):,} bytes; one without a model has at most {RULES_BYTES_MAX:,}"
        )
        raise RequestInvalid("ciphertext", public=public)
    if len(request.ciphertext) != header.ciphertext_bytes:
        raise RequestInvalid("ciphertext", public="not as many bytes as announced")
    return SealedBundle(header.manifest_jws, tuple(header.sealed_keys), request.ciphertext)


async def _receive(parts: AsyncIterator[pb.SubmitVersionRequest]) -> SealedBundle:
    first = await anext(parts, None)
    if first is None or first.WhichOneof("part") != "header":
        raise RequestInvalid("header", public="the first part of an upload must be its header")
    header = first.header
    if not 0 < header.ciphertext_bytes <= CIPHERTEXT_BYTES_MAX:
        public = f"the bundle has {header.ciphertext_bytes:,} bytes; at most {CIPHERTEXT_BYTES_MAX:,}"
        raise RequestInvalid("ciphertext_bytes", public=public)
    ciphertext = bytearray()
    async for part in parts:
        if part.WhichOneof("part") != "chunk" or len(part.chunk) > CHUNK_BYTES_MAX:
            raise RequestInvalid("chunk", public="after the header come chunks of at most 1 MiB")
        ciphertext += part.chunk
        if len(ciphertext) > header.ciphertext_bytes:
            raise RequestInvalid("ciphertext", public="more bytes than announced")
    if len(ciphertext) != header.ciphertext_bytes:
        raise RequestInvalid("ciphertext", public="fewer bytes than announced: the upload was cut")
    return SealedBundle(header.manifest_jws, tuple(header.sealed_keys), bytes(ciphertext))
