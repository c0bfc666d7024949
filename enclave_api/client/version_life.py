"""A version's life as its institution leads it; apart from sealing, so that these commands start without what seals."""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from heixia.registry.v1 import registry_pb2 as pb
from heixia.registry.v1 import registry_pb2_grpc

from enclave_api.client.connection import Client

if TYPE_CHECKING:
    from enclave_api.client.champion import Champion


class VersionLife(Client):
    """Approves, promotes, rolls back, stops, lists."""

    def approve(self, version: str) -> pb.Version:
        """Approves a version that a colleague submitted."""
        return self.call(self._stub.ApproveVersion, pb.ApproveVersionRequest(version=version)).version

    def promote(self, version: str) -> pb.Version:
        """Makes an approved version champion."""
        return self.call(self._stub.PromoteVersion, pb.PromoteVersionRequest(version=version)).version

    def rollback(self, product: str, to: str = "") -> pb.Version:
        """Makes an earlier version champion again: the one named, or the champion before this one."""
        return self.call(self._stub.RollbackProduct, pb.RollbackProductRequest(product=product, to=to)).version

    def suspend(self, version: str, reason: str) -> pb.Version:
        """Stops a version at once."""
        return self.call(self._stub.SuspendVersion, pb.SuspendVersionRequest(version=version, reason=reason)).version

    def suspend_all(self, reason: str) -> list[str]:
        """Stops everything of the institution at once; returns the versions that this call stopped."""
        return list(self.call(self._stub.SuspendAllVersions, pb.SuspendAllVersionsRequest(reason=reason)).versions)

    def resume(self, version: str, reason: str) -> pb.Version:
        """Lifts the institution's own suspension."""
        return self.call(self._stub.ResumeVersion, pb.ResumeVersionRequest(version=version, reason=reason)).version

    def retire(self, version: str) -> pb.Version:
        """Ends a version."""
        return self.call(self._stub.RetireVersion, pb.RetireVersionRequest(version=version)).version

    def version(self, version: str) -> pb.Version:
        """One version, with the reasons where it was refused."""
        return self.call(self._stub.GetVersion, pb.GetVersionRequest(version=version)).version

    def products(self) -> list[pb.Product]:
        """The institution's products, by name, and who is champion of each."""
        return list(self.call(self._stub.ListProducts, pb.ListProductsRequest()).products)

    def versions(self, product: str) -> list[pb.Version]:
        """A product's versions, oldest first."""
        return list(self.call(self._stub.ListVersions, pb.ListVersionsRequest(product=product)).versions)

    def champion(self, product: str, at: datetime | None = None) -> "Champion":
        """Who was champion at a time (None = now), with the log's proof; an empty version where there was none."""
        from enclave_api.client.champion import Champion, stamp

        answer = self.call(self._stub.GetChampion, pb.GetChampionRequest(product=product, at=stamp(at)))
        return Champion.of(answer, product, at)

    def history(self, product: str) -> Iterator[pb.VersionChange]:
        """Every change of a product's versions, newest first."""
        token = ""
        while True:
            request = pb.ListVersionChangesRequest(product=product, page_token=token)
            answer = self.call(self._stub.ListVersionChanges, request)
            yield from answer.changes
            if not (token := answer.next_page_token):
                return

    @property
    def _stub(self) -> registry_pb2_grpc.RegistryServiceStub:
        return registry_pb2_grpc.RegistryServiceStub(self.channel)
