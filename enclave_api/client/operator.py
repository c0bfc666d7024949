"""The SDK for operators: what they may say about others' standing, which is little, and the enclave's keys."""

from heixia.attestation.v1 import attestation_pb2, attestation_pb2_grpc
from heixia.consent.v1 import consent_pb2 as pb
from heixia.consent.v1 import consent_pb2_grpc

from enclave_api.client.connection import Client

ROTATE_TIMEOUT_S = 300.0  # every stored bundle's key is sealed anew: half a millisecond each


class Operator(Client):
    """Who runs the enclave; institutions and auditors may list its keys with it too."""

    def revoke_authority(self, authority: str, reason: str) -> int:
        """Ends a consent authority's standing, for good; returns the index of the entry, when durable.

        No decision with a higher index stands under a consent that it registered, and it registers nothing more.
        """
        request = pb.RevokeAuthorityRequest(authority=authority, reason=reason)
        return int(self.call(consent_pb2_grpc.ConsentServiceStub(self.channel).RevokeAuthority, request).index)

    def list_keys(self) -> list[attestation_pb2.KeyEpoch]:
        """The HPKE keys that banks seal to, oldest first; the last is the one in the evidence."""
        return list(self.call(self._stub.ListKeys, attestation_pb2.ListKeysRequest()).keys)

    def rotate_key(self, key_id: str, overlap_days: int | None = None) -> attestation_pb2.KeyEpoch:
        """Makes a new key the one in the evidence; returns it when durable and shown.

        Args:
            key_id: the newest now, as `list_keys` says; refused where it is not, so that repeating this rotates once.
            overlap_days: for how long what is sealed to older keys is taken; 0 = they are destroyed at once; None = 30.

        Raises:
            Refused, ConnectionFailed.
        """
        request = attestation_pb2.RotateKeyRequest(key_id=key_id, overlap_days=overlap_days)
        return self.call(self._stub.RotateKey, request, ROTATE_TIMEOUT_S).key

    @property
    def _stub(self) -> attestation_pb2_grpc.AttestationServiceStub:
        return attestation_pb2_grpc.AttestationServiceStub(self.channel)
