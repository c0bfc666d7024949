"""The doors beside the calls: health, reflection, metrics, logs, the release beat."""

import time
import urllib.request
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from enclave_api.cli.example import FIELDS
from enclave_api.client.bank import Bank
from enclave_api.client.connection import Credentials, Refused
from enclave_api.client.steward import Steward
from enclave_api.errors import ConnectionFailed
from enclave_api.grpc_server import SERVICES
from tests.integration.conftest import PRODUCT, Stage
from tests.room import ALICE, OFFICE, OPERATOR, Room, datasets_of, decision_of

ROOT = Path(__file__).resolve().parents[2]


def test_every_service_is_healthy(stage: Stage) -> None:
    """Health answers SERVING for the server and for each of its services, to any certificate."""
    stub = health_pb2_grpc.HealthStub(stage.room.alice.channel)
    for name in ("", *SERVICES):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_metrics_logs_and_the_beat(tmp_path: Path, stage: Stage) -> None:
    """Reflection is off unless asked for; metrics and logs name no subject; answers leave at the beat."""
    names = ProtoReflectionDescriptorDatabase(stage.room.client(Steward, OPERATOR).channel)
    with pytest.raises(grpc.RpcError):
        names.get_services()
    room = Room.make(tmp_path, release_quantum_ms=150).start("--reflection", "--metrics", "127.0.0.1:29465")
    try:
        with_reflection = ProtoReflectionDescriptorDatabase(room.client(Steward, OPERATOR).channel)
        assert set(SERVICES) <= set(with_reflection.get_services())
        assert descriptor_pool.DescriptorPool(with_reflection).FindServiceByName(SERVICES[0]).full_name == SERVICES[0]
        room.load(stage.world, datasets_of(FIELDS))
        room.launch(stage.example)
        subject = stage.world.subjects[0]
        consent_id = room.consent(subject, PRODUCT, datasets_of(FIELDS))
        began = time.monotonic()
        answer = room.portal.request_limit(subject=subject, product=PRODUCT, consent_id=consent_id)
        assert time.monotonic() - began >= 0.149
        with pytest.raises(Refused):
            room.portal.request_limit(subject=subject, product=PRODUCT, consent_id=consent_id)
        with urllib.request.urlopen("http://127.0.0.1:29465/metrics") as page:
            metrics = page.read().decode()
        assert 'outcome="consent_exhausted"' in metrics
        assert "step=" not in metrics
        told = metrics + room.log.read_text() + answer.receipt.entry.decode()
        tag = decision_of(answer.receipt.entry).subject_tag
        assert subject[5:] not in told
        assert tag not in metrics + room.log.read_text()
    finally:
        assert room.stop() == 0


def test_a_certificate_of_another_authority_opens_nothing(stage: Stage, tmp_path: Path) -> None:
    """A perfectly good certificate of another room's CA ends in the handshake."""
    other = Room.make(tmp_path)
    folder = other.home.client(OFFICE)
    ours = Credentials(stage.room.home.client(ALICE))
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for name in ("cert.pem", "key.pem"):
        (mixed / name).write_bytes((folder / name).read_bytes())
    (mixed / "ca.pem").write_bytes((ours.folder / "ca.pem").read_bytes())
    with pytest.raises(ConnectionFailed):
        Bank.connect(stage.room.server, mixed).versions(PRODUCT)
