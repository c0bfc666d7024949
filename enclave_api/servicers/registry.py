"""Versions of models. Replacing rules alone is not served yet (docs/status.md)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from heixia.registry.v1 import registry_pb2 as pb
from heixia.registry.v1 import registry_pb2_grpc as rpc

from enclave_api import converters
from enclave_api.config import CHUNK_BYTES_MAX
from enclave_api.errors import RequestInvalid
from enclave_api.identity import Principal, Role
from enclave_api.interceptors import Context, caller, not_served
from enclave_api.uploads import Uploads, timed
from model_registry.bundle import CIPHERTEXT_BYTES_MAX, SealedBundle
from model_registry.registry import Registry
from model_registry.version_rows import Version
from sandbox.versions import Versions


@dataclass
class RegistryServicer(rpc.RegistryServiceServicer):
    """RegistryService."""

    registry: Registry
    versions: Versions
    uploads: Uploads

    ReplaceRules = not_served

    async def SubmitVersion(
        self, request: AsyncIterator[pb.SubmitVersionRequest], context: Context
    ) -> pb.SubmitVersionResponse:
        """Takes a sealed bundle and has it inspected."""
        who = caller()
        async with self.uploads.place(who):
            bundle = await _receive(timed(request))
            stored = await self.registry.submit(bundle, who.organisation, str(who), self.versions.inspect)
        return pb.SubmitVersionResponse(version=converters.version(stored))

    async def ApproveVersion(self, request: pb.ApproveVersionRequest, context: Context) -> pb.ApproveVersionResponse:
        """Approves, as a second person."""
        who = caller()
        stored = await self.registry.approve(request.version, who.organisation, str(who))
        return pb.ApproveVersionResponse(version=converters.version(stored))

    async def PromoteVersion(self, request: pb.PromoteVersionRequest, context: Context) -> pb.PromoteVersionResponse:
        """Makes a version champion."""
        who = caller()
        stored = await self.registry.promote(request.version, who.organisation, str(who), self.versions.ready)
        return pb.PromoteVersionResponse(version=converters.version(stored))

    async def RollbackProduct(self, request: pb.RollbackProductRequest, context: Context) -> pb.RollbackProductResponse:
        """Makes the champion before this one champion again."""
        who = caller()
        product = converters.product(request.product)
        stored = await self.registry.rollback(product, who.organisation, str(who), self.versions.ready)
        return pb.RollbackProductResponse(version=converters.version(stored))

    async def SuspendVersion(self, request: pb.SuspendVersionRequest, context: Context) -> pb.SuspendVersionResponse:
        """Stops a version at once."""
        who, reason = caller(), converters.reason(request.reason)
        stored = await self.registry.suspend(request.version, _holder(who), str(who), reason)
        return pb.SuspendVersionResponse(version=_seen_by(who, stored))

    async def ResumeVersion(self, request: pb.ResumeVersionRequest, context: Context) -> pb.ResumeVersionResponse:
        """Lifts a suspension."""
        who, reason = caller(), converters.reason(request.reason)
        stored = await self.registry.resume(request.version, _holder(who), str(who), reason)
        return pb.ResumeVersionResponse(version=_seen_by(who, stored))

    async def RetireVersion(self, request: pb.RetireVersionRequest, context: Context) -> pb.RetireVersionResponse:
        """Ends a version."""
        who = caller()
        stored = await self.registry.retire(request.version, who.organisation, str(who))
        await self.versions.forget(request.version)
        return pb.RetireVersionResponse(version=converters.version(stored))

    async def GetVersion(self, request: pb.GetVersionRequest, context: Context) -> pb.GetVersionResponse:
        """One of the caller's versions."""
        stored = self.registry.get(request.version, caller().organisation)
        return pb.GetVersionResponse(version=converters.version(stored))

    async def ListVersions(self, request: pb.ListVersionsRequest, context: Context) -> pb.ListVersionsResponse:
        """A product's versions."""
        stored = self.registry.list(converters.product(request.product), caller().organisation)
        return pb.ListVersionsResponse(versions=[converters.version(v) for v in stored])

    async def GetChampion(self, request: pb.GetChampionRequest, context: Context) -> pb.GetChampionResponse:
        """Which version was champion at a time."""
        at = converters.moment(request.at) if request.HasField("at") else None
        found = self.registry.champion_at(converters.product(request.product), at)
        if found is None or not request.product.startswith(caller().organisation + "/"):
            return pb.GetChampionResponse()
        stored = self.registry.get(found[0], caller().organisation)
        return pb.GetChampionResponse(version=converters.version(stored), promoted_index=found[1])


def _holder(who: Principal) -> str:
    return f"{who.role}/{who.organisation}"


def _seen_by(who: Principal, version: Version) -> pb.Version:
    # Reasons quote the bank's model and rules: the operator, who may suspend, may not read them.
    return converters.version(version if who.role is Role.INSTITUTION else replace(version, reasons=()))


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
