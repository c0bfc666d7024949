"""The SDK for operators: what they may say about others' standing, which is little."""

from heixia.consent.v1 import consent_pb2 as pb
from heixia.consent.v1 import consent_pb2_grpc

from enclave_api.client.connection import Client


class Operator(Client):
    """Who runs the enclave."""

    def revoke_authority(self, authority: str, reason: str) -> int:
        """Ends a consent authority's standing, for good; returns the index of the entry, when durable.

        No decision with a higher index stands under a consent that it registered, and it registers nothing more.
        """
        request = pb.RevokeAuthorityRequest(authority=authority, reason=reason)
        return int(self.call(consent_pb2_grpc.ConsentServiceStub(self.channel).RevokeAuthority, request).index)
