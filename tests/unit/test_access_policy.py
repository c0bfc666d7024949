"""Who may call what: every RPC has its line, and the matrix of roles is the one that the architecture draws."""

import pytest
from google.protobuf.descriptor import FileDescriptor
from heixia.attestation.v1 import attestation_pb2
from heixia.audit.v1 import audit_pb2
from heixia.catalog.v1 import catalog_pb2
from heixia.consent.v1 import consent_pb2
from heixia.precredit.v1 import precredit_pb2
from heixia.registry.v1 import registry_pb2

from enclave_api.access_policy import POLICY, authorise
from enclave_api.errors import PermissionRefused
from enclave_api.grpc_server import SERVICES
from enclave_api.identity import Principal, Role

FILES: tuple[FileDescriptor, ...] = tuple(
    file.DESCRIPTOR for file in (attestation_pb2, registry_pb2, catalog_pb2, consent_pb2, precredit_pb2, audit_pb2)
)
METHODS = {
    f"/{service.full_name}/{method.name}"
    for file in FILES
    for service in file.services_by_name.values()
    for method in service.methods
}
BANK, STEWARD, AUTHORITY, AUDITOR = Role.INSTITUTION, Role.STEWARD, Role.AUTHORITY, Role.AUDITOR

# Written down apart from the policy, from the table "Who uses it" of the architecture: a change there must be meant.
MATRIX: tuple[tuple[str, set[Role]], ...] = (
    ("GetEvidence ListDatasets GetDataset GetCheckpoint GetConsistencyProof", set(Role)),
    ("SubmitVersion ApproveVersion PromoteVersion RollbackProduct RetireVersion ReplaceRules", {BANK}),
    ("GetVersion ListProducts ListVersions GetChampion ListVersionChanges SuspendAllVersions", {BANK}),
    ("SuspendVersion ResumeVersion", {BANK, STEWARD, Role.OPERATOR}),
    ("PublishDataset LoadDataset SuspendDataset ResumeDataset", {STEWARD}),
    ("RegisterConsent GetConsent PauseConsent ResumeConsent", {AUTHORITY}),
    ("ListSubjectConsents ListSubjectUses GetSubjectReceipt EraseSubject RevokeConsent", {Role.SUBJECT, AUTHORITY}),
    ("RevokeAuthority RotateKey", {Role.OPERATOR}),
    ("ListKeys", {BANK, AUDITOR, Role.OPERATOR}),
    ("GetSubjectDisclosure", {Role.SUBJECT, AUTHORITY, AUDITOR}),
    ("RequestLimit", {Role.APPLICATION}),
    ("GetEntry ListEntries SearchEntries ExportEntries GetStatistics ListAnomalies", {AUDITOR}),
)
EXPECTED = {name: roles for names, roles in MATRIX for name in names.split()}


def test_every_rpc_has_a_line_and_no_line_is_left_over() -> None:
    """The policy's lines are the protos' methods, plus health and reflection."""
    ours = {method for method in POLICY if method.startswith("/heixia.")}
    assert ours == METHODS
    assert {m.rpartition("/")[0] for m in POLICY.keys() - ours} == {
        "/grpc.health.v1.Health",
        "/grpc.reflection.v1alpha.ServerReflection",
    }
    assert all(POLICY.values())


def test_every_service_is_served_under_its_name() -> None:
    """Health and reflection tell of exactly the services that the protos describe."""
    assert sorted(SERVICES) == sorted({method.split("/")[1] for method in METHODS})


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("role", list(Role))
def test_each_role_may_call_what_is_its_own_alone(method: str, role: Role) -> None:
    """The matrix, cell by cell."""
    principal = Principal(role, "uscc:91350100M000100Y43" if role is Role.SUBJECT else "somebody")
    if role in EXPECTED[method.rpartition("/")[2]]:
        authorise(method, principal)
    else:
        with pytest.raises(PermissionRefused):
            authorise(method, principal)


@pytest.mark.parametrize(
    "method",
    ["", "/", "/x", "/heixia.audit.v1.AuditService/", "/heixia.audit.v1.AuditService/GetEntry ", "GetEntry"],
)
def test_what_has_no_line_is_closed_to_everybody(method: str) -> None:
    """Default deny, whatever the spelling."""
    for role in Role:
        with pytest.raises(PermissionRefused):
            authorise(method, Principal(role, "somebody"))


def test_nobody_writes_without_being_the_owner_of_that_right() -> None:
    """No method that changes state is open to everybody, and reflection is the operator's."""
    open_to_all = {m.rpartition("/")[2] for m, roles in POLICY.items() if roles == frozenset(Role)}
    assert open_to_all == {
        *("Check", "GetEvidence", "ListDatasets", "GetDataset", "GetCheckpoint", "GetConsistencyProof")
    }
    reflection = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    assert POLICY[reflection] == frozenset({Role.OPERATOR})
