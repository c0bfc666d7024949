"""The gRPC server: mutual TLS, the doorkeeper before every call, the services behind it."""

from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from heixia.attestation.v1 import attestation_pb2_grpc
from heixia.audit.v1 import audit_pb2_grpc
from heixia.catalog.v1 import catalog_pb2_grpc
from heixia.consent.v1 import consent_pb2_grpc
from heixia.precredit.v1 import precredit_pb2_grpc
from heixia.registry.v1 import registry_pb2_grpc

from enclave_api.errors import AddressTaken, HomeInvalid
from enclave_api.home import Home
from enclave_api.interceptors import Doorkeeper
from enclave_api.service import ServeOptions, Service
from enclave_api.servicers.attestation import AttestationServicer
from enclave_api.servicers.audit import AuditServicer
from enclave_api.servicers.catalog import CatalogServicer
from enclave_api.servicers.consent import ConsentServicer
from enclave_api.servicers.precredit import PreCreditServicer
from enclave_api.servicers.registry import RegistryServicer
from enclave_api.uploads import Uploads
from enclave_api.wire_limits import MESSAGE_BYTES_MAX

SERVICES = (
    "heixia.attestation.v1.AttestationService",
    "heixia.registry.v1.RegistryService",
    "heixia.catalog.v1.CatalogService",
    "heixia.consent.v1.ConsentService",
    "heixia.precredit.v1.PreCreditService",
    "heixia.audit.v1.AuditService",
)


async def make_server(home: Home, options: ServeOptions, enclave: Service) -> tuple[grpc.aio.Server, int]:
    """A server with all services, not started yet, and its port.

    Raises:
        AddressTaken: the address is malformed, in use or not of this machine.
        HomeInvalid: the home's TLS files are missing or damaged.
    """
    server = grpc.aio.server(
        interceptors=[Doorkeeper(enclave.settings.trust_domain, enclave.metrics, enclave.settings.rpcs_in_flight_max)],
        options=[
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
            ("grpc.so_reuseport", 0),  # a second server on the port must fail, not share it
        ],
        # The doorkeeper says no in words at the limit; gRPC's own, without words, only stops a flood of them.
        maximum_concurrent_rpcs=2 * enclave.settings.rpcs_in_flight_max,
    )
    await _add_services(server, enclave, options)
    host, _, number = options.listen.rpartition(":")
    if not host or not number.isdigit() or int(number) > 65_535:
        raise AddressTaken("listen", public=f"{options.listen} for --listen is not HOST:PORT")
    try:
        port = server.add_secure_port(options.listen, _credentials(home.path / "tls"))
    except RuntimeError as error:
        raise AddressTaken(
            "listen", public=f"{options.listen} for --listen is in use or not of this machine"
        ) from error
    if port == 0:
        raise AddressTaken("listen", public=f"{options.listen} for --listen is in use or not of this machine")
    return server, port


def _credentials(tls: Path) -> grpc.ServerCredentials:
    try:
        key, certificate, authority = ((tls / name).read_bytes() for name in ("server.key", "server.pem", "ca.pem"))
        # gRPC would only say that the port could not be had.
        load_pem_private_key(key, None)
        x509.load_pem_x509_certificate(certificate)
        x509.load_pem_x509_certificate(authority)
    except (OSError, ValueError, TypeError) as error:
        raise HomeInvalid("tls", public=f"{tls}: server.pem, server.key or ca.pem is missing or damaged") from error
    return grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=True)


async def _add_services(server: grpc.aio.Server, enclave: Service, options: ServeOptions) -> None:
    uploads = Uploads()
    evidence = AttestationServicer(enclave.epochs, enclave.attester, enclave.decider.clock)
    attestation_pb2_grpc.add_AttestationServiceServicer_to_server(evidence, server)
    registry_pb2_grpc.add_RegistryServiceServicer_to_server(
        RegistryServicer(enclave.registry, enclave.versions, uploads), server
    )
    catalog_pb2_grpc.add_CatalogServiceServicer_to_server(
        CatalogServicer(enclave.datasets, uploads, enclave.decider.clock), server
    )
    consents = ConsentServicer(enclave.consents, enclave.decider.clock, enclave.decider.settings.budget_milli)
    consent_pb2_grpc.add_ConsentServiceServicer_to_server(consents, server)
    calls = PreCreditServicer(enclave.decider, enclave.desk.count_answer)
    precredit_pb2_grpc.add_PreCreditServiceServicer_to_server(calls, server)
    auditors = AuditServicer(enclave.ledger, enclave.desk, enclave.tag_of)
    audit_pb2_grpc.add_AuditServiceServicer_to_server(auditors, server)
    checks = health.aio.HealthServicer()  # type: ignore[attr-defined]
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    for name in ("", *SERVICES):
        await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    if options.reflection:
        reflection.enable_server_reflection((*SERVICES, reflection.SERVICE_NAME), server)
