"""RPC → roles that may call it. An RPC without a line here is closed to everybody."""

from enclave_api.errors import PermissionRefused
from enclave_api.identity import Principal, Role

_EVERYBODY = frozenset(Role)
_BANK = frozenset({Role.INSTITUTION})
_STEWARD = frozenset({Role.STEWARD})
_AUTHORITY = frozenset({Role.AUTHORITY})
_SUBJECT = frozenset({Role.SUBJECT, Role.AUTHORITY})
_AUDITOR = frozenset({Role.AUDITOR})

_ATTESTATION = "/heixia.attestation.v1.AttestationService/"
_REGISTRY = "/heixia.registry.v1.RegistryService/"
_CATALOG = "/heixia.catalog.v1.CatalogService/"
_CONSENT = "/heixia.consent.v1.ConsentService/"
_AUDIT = "/heixia.audit.v1.AuditService/"

POLICY: dict[str, frozenset[Role]] = {
    "/grpc.health.v1.Health/Check": _EVERYBODY,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": frozenset({Role.OPERATOR}),
    _ATTESTATION + "GetEvidence": _EVERYBODY,
    _ATTESTATION + "ListKeys": _BANK | _AUDITOR | {Role.OPERATOR},
    _ATTESTATION + "RotateKey": frozenset({Role.OPERATOR}),
    _REGISTRY + "SubmitVersion": _BANK,
    _REGISTRY + "ApproveVersion": _BANK,
    _REGISTRY + "PromoteVersion": _BANK,
    _REGISTRY + "RollbackProduct": _BANK,
    _REGISTRY + "SuspendVersion": _BANK | _STEWARD | {Role.OPERATOR},
    _REGISTRY + "SuspendAllVersions": _BANK,
    _REGISTRY + "ResumeVersion": _BANK | _STEWARD | {Role.OPERATOR},
    _REGISTRY + "RetireVersion": _BANK,
    _REGISTRY + "ReplaceRules": _BANK,
    _REGISTRY + "GetVersion": _BANK,
    _REGISTRY + "ListProducts": _BANK,
    _REGISTRY + "ListVersions": _BANK,
    _REGISTRY + "GetChampion": _BANK,
    _REGISTRY + "ListVersionChanges": _BANK,
    _CATALOG + "ListDatasets": _EVERYBODY,
    _CATALOG + "GetDataset": _EVERYBODY,
    _CATALOG + "PublishDataset": _STEWARD,
    _CATALOG + "LoadDataset": _STEWARD,
    _CATALOG + "SuspendDataset": _STEWARD,
    _CATALOG + "ResumeDataset": _STEWARD,
    _CONSENT + "RegisterConsent": _AUTHORITY,
    _CONSENT + "GetConsent": _AUTHORITY,
    _CONSENT + "RevokeConsent": _SUBJECT,
    _CONSENT + "PauseConsent": _AUTHORITY,
    _CONSENT + "ResumeConsent": _AUTHORITY,
    _CONSENT + "ListSubjectConsents": _SUBJECT,
    _CONSENT + "ListSubjectUses": _SUBJECT,
    _CONSENT + "GetSubjectDisclosure": _SUBJECT | _AUDITOR,
    _CONSENT + "GetSubjectReceipt": _SUBJECT,
    _CONSENT + "EraseSubject": _SUBJECT,
    _CONSENT + "RevokeAuthority": frozenset({Role.OPERATOR}),
    "/heixia.precredit.v1.PreCreditService/RequestLimit": frozenset({Role.APPLICATION}),
    _AUDIT + "GetCheckpoint": _EVERYBODY,
    _AUDIT + "GetEntry": _AUDITOR,
    _AUDIT + "ListEntries": _AUDITOR,
    _AUDIT + "GetConsistencyProof": _EVERYBODY,
    _AUDIT + "SearchEntries": _AUDITOR,
    _AUDIT + "ExportEntries": _AUDITOR,
    _AUDIT + "GetStatistics": _AUDITOR,
    _AUDIT + "ListAnomalies": _AUDITOR,
}


def authorise(method: str, principal: Principal) -> None:
    """Raises PermissionRefused unless the principal's role stands in the RPC's line."""
    if principal.role not in POLICY.get(method, frozenset()):
        raise PermissionRefused(f"{principal.role} may not call {method}", public=f"role {principal.role}")
