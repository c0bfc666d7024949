"""Messages as an attacker sends them: malformed, oversized, cut, out of order, stalled; past the SDK."""

import itertools
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory, timestamp_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from heixia.attestation.v1 import attestation_pb2, attestation_pb2_grpc
from heixia.audit.v1 import audit_pb2
from heixia.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from heixia.consent.v1 import consent_pb2
from heixia.precredit.v1 import precredit_pb2
from heixia.registry.v1 import registry_pb2, registry_pb2_grpc

from enclave_api.access_policy import POLICY
from enclave_api.cli.example import FIELDS, LEVELS
from enclave_api.client.bank import Bank
from enclave_api.client.connection import Client, Refused, wire_errors
from enclave_api.error_catalog import CATALOG
from enclave_api.identity import Principal, Role
from enclave_api.wire_limits import CHUNK_BYTES_MAX, MESSAGE_BYTES_MAX
from model_registry.bundle import CIPHERTEXT_BYTES_MAX
from tests.integration.conftest import PRODUCT, Stage
from tests.room import Room, datasets_of, refused

FILES = (attestation_pb2, registry_pb2, catalog_pb2, consent_pb2, precredit_pb2, audit_pb2)
METHODS: dict[str, MethodDescriptor] = {
    f"/{service.full_name}/{method.name}": method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
WHO = {
    Role.INSTITUTION: Principal(Role.INSTITUTION, "zhongyuan", "alice"),
    Role.APPLICATION: Principal(Role.APPLICATION, "portal"),
    Role.AUTHORITY: Principal(Role.AUTHORITY, "consent-office"),
    Role.STEWARD: Principal(Role.STEWARD, "tax"),
    Role.AUDITOR: Principal(Role.AUDITOR, "audit-office"),
    Role.OPERATOR: Principal(Role.OPERATOR, "operations"),
}
TURNS = itertools.count(1)
TIMEOUT_S = 20.0


@pytest.fixture(autouse=True)
def _goes_on(stage: Stage) -> Iterator[None]:
    """Whatever a test sent, no state changed by it and the next good call is answered."""
    before = stage.room.projections()
    yield
    after = stage.room.projections()
    assert {name for name in after if after[name] != before[name]} <= {"sequence"}
    subject = stage.world.subjects[next(TURNS)]
    assert stage.room.answer(subject, PRODUCT, datasets_of(FIELDS)) in LEVELS


def allowed(method: str) -> Principal:
    """Somebody who may call a method."""
    return next(who for role, who in WHO.items() if role in POLICY[method])


def send(client: Client, method: str, *bodies: bytes, **options: Any) -> bytes:
    """Sends raw bytes as the request, or as the parts of one; raises as the SDK does."""
    described = METHODS[method]
    kind = "stream" if described.client_streaming else "unary"
    call = getattr(client.channel, f"{kind}_unary")(method, lambda b: b, lambda b: b)
    with wire_errors():
        answer = call(iter(bodies) if kind == "stream" else bodies[0], timeout=TIMEOUT_S, **options)
    return bytes(answer)


def memory_peak_mib(room: Room) -> int:
    """The most memory that the server ever had."""
    assert room.process is not None
    status = Path(f"/proc/{room.process.pid}/status").read_text()
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM"))


UNARY = [name for name, method in METHODS.items() if not method.server_streaming]


def codes(stage: Stage, method: str, *bodies: bytes) -> set[str]:
    """How a method that somebody may call answers each of some requests: the codes of its refusals."""
    found = set()
    for body in bodies:
        try:
            send(stage.room.client(Client, allowed(method)), method, body)
        except Refused as error:
            found.add(error.code)
    return found


def test_bytes_that_are_no_message_are_request_invalid(stage: Stage) -> None:
    """Bytes that do not parse are refused with the catalogue's code, on every method (all are served); no entry."""
    noise = (b"\xff\xff\xff\xff", b"\x0a\x7f", b"\x08")
    with stage.room.gains():
        answers = {method: codes(stage, method, *noise) for method in UNARY}
    assert {m: found for m, found in answers.items() if found != {"request_invalid"}} == {}


def test_empty_and_extreme_messages_have_a_code(stage: Stage) -> None:
    """Nothing set, everything unknown, every number at its limit, every text odd: a code of the catalogue, not ours."""
    answers = {}
    for method in UNARY:
        filled = [fill(METHODS[method].input_type, turn) for turn in range(len(TEXTS))]
        answers[method] = codes(stage, method, b"", b"\xfa\x3f\x03abc", *filled)
    known = CATALOG.keys() - {"internal"}
    assert {m: found - known for m, found in answers.items() if found - known} == {}


TEXTS = ("x", "\0", "' OR 1=1 --", "\u202e黑匣🏦" * 50, "zhongyuan/quick-loan", "zhongyuan/quick-loan@9", "a" * 100_000)
STAMPS = (0, 1, -1, 2**63 - 1, -(2**63), 253402300799, 253402300800)


def fill(shape: Descriptor, turn: int) -> bytes:
    """A message of a shape with all members set to something extreme."""
    made: Message = message_factory.GetMessageClass(shape)()
    _fill(made, turn)
    return made.SerializeToString()


def _fill(made: Message, turn: int) -> None:
    if isinstance(made, timestamp_pb2.Timestamp):
        made.seconds, made.nanos = STAMPS[turn], (-(2**31), 2**31 - 1)[turn % 2]
        return
    for field in made.DESCRIPTOR.fields:
        if field.type == FieldDescriptor.TYPE_MESSAGE and not field.is_repeated:
            getattr(made, field.name).SetInParent()
            _fill(getattr(made, field.name), turn)
        elif field.type == FieldDescriptor.TYPE_STRING:
            value = TEXTS[turn]
            getattr(made, field.name).append(value) if field.is_repeated else setattr(made, field.name, value)
        elif field.type == FieldDescriptor.TYPE_BYTES:
            blob = TEXTS[turn].encode()
            getattr(made, field.name).append(blob) if field.is_repeated else setattr(made, field.name, blob)
        elif field.type == FieldDescriptor.TYPE_UINT64:
            setattr(made, field.name, 2**64 - 1 - turn)
        elif field.type == FieldDescriptor.TYPE_UINT32:
            setattr(made, field.name, 2**32 - 1 - turn)


def test_oversized_messages_are_refused_unread(stage: Stage) -> None:
    """A message above the limit, plain or compressed a thousandfold, costs the server no memory and stores nothing."""
    before = memory_peak_mib(stage.room)
    folder = stage.room.portal.credentials.folder
    ca, key, cert = ((folder / name).read_bytes() for name in ("ca.pem", "key.pem", "cert.pem"))
    unlimited = [("grpc.max_send_message_length", -1)]
    channel = grpc.secure_channel(stage.room.server, grpc.ssl_channel_credentials(ca, key, cert), unlimited)
    method = "/heixia.precredit.v1.PreCreditService/RequestLimit"
    with Client(stage.room.portal.credentials, channel) as client, stage.room.gains():
        for body, options in (
            (bytes(MESSAGE_BYTES_MAX + 1), {}),
            (bytes(200 * 2**20), {"compression": grpc.Compression.Gzip}),
        ):
            with pytest.raises(Refused) as refusal:
                send(client, method, body, **options)
            assert refusal.value.status == "RESOURCE_EXHAUSTED"
    assert memory_peak_mib(stage.room) - before < 40


def test_methods_that_do_not_exist_are_unimplemented(stage: Stage) -> None:
    """Unknown methods and services end in gRPC's own status."""
    for method in ("/heixia.precredit.v1.PreCreditService/Nothing", "/heixia.none.v1.None/Call", "/x", "/"):
        call = stage.room.portal.channel.unary_unary(method, lambda b: b, lambda b: b)
        with pytest.raises(Refused) as refusal, wire_errors():
            call(b"", timeout=TIMEOUT_S)
        assert refusal.value.status == "UNIMPLEMENTED"


@pytest.mark.parametrize("length", [0, 1, 31, 33, 1_000_000])
def test_nonces_have_one_length(stage: Stage, length: int) -> None:
    """Evidence is over 32 bytes of the asker's, nothing else."""
    stub = attestation_pb2_grpc.AttestationServiceStub(stage.room.portal.channel)
    with refused("request_invalid"):
        stage.room.portal.call(stub.GetEvidence, attestation_pb2.GetEvidenceRequest(nonce=bytes(length)))


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("request_id", "not-a-uuid"),
        ("request_id", "6BA7B810-9DAD-41D1-80B4-00C04FD430C8"),
        ("request_id", "6ba7b810-9dad-41d1-80b4-00c04fd430c8\n"),
        ("consent_id", "6ba7b810-9dad-41d1-80b4-00c04fd430c8/"),
        ("product", "zhongyuan"),
        ("product", "zhongyuan/quick-loan@1"),
        ("product", "../../etc"),
        ("product", "zhongyuan/quick-loan\0"),
    ],
)
def test_malformed_members_of_a_call_are_request_invalid(stage: Stage, member: str, value: str) -> None:
    """Ids and products have one form; another is refused before anything is looked up, without an entry."""
    good = {"request_id": "6ba7b810-9dad-41d1-80b4-00c04fd430c8", "consent_id": "6ba7b810-9dad-41d1-80b4-00c04fd430c8"}
    members = {**good, "product": PRODUCT, "subject": stage.world.subjects[0], member: value}
    with stage.room.gains(), refused("request_invalid"):
        stage.room.portal.request_limit(**members)


@pytest.mark.parametrize(
    "subject",
    ["", "uscc:", "uscc:91350100M000100Y44", "USCC:91350100M000100Y43", "uscc:91350100M000100Y43 ", "ric:" + "1" * 18],
)
def test_subjects_with_a_wrong_checksum_are_refused(stage: Stage, subject: str) -> None:
    """A credit code or identity number whose check character is wrong names nobody; the refusal names nobody too."""
    consent_id = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
    with stage.room.gains("refusal"), refused("subject_invalid"):
        stage.room.portal.request_limit(subject=subject, product=PRODUCT, consent_id=consent_id)
    assert stage.room.entries()[-1]["subject_tag"] is None


# --- streams ----------------------------------------------------------------------------------------------------------

Upload = registry_pb2.SubmitVersionRequest


def header(size: int) -> Upload:
    """A header that announces so many bytes."""
    return Upload(header=registry_pb2.BundleHeader(manifest_jws="a.b.c", sealed_keys=[b"x"], ciphertext_bytes=size))


def chunk(size: int) -> Upload:
    """A chunk of so many bytes."""
    return Upload(chunk=bytes(size))


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [Upload()],
        [chunk(10)],
        [chunk(10), header(10)],
        [header(10), header(10)],
        [header(10), Upload()],
        [header(10)],
        [header(10), chunk(9)],
        [header(10), chunk(11)],
        [header(10), chunk(5), chunk(5), chunk(1)],
        [header(0)],
        [header(CIPHERTEXT_BYTES_MAX + 1)],
        [header(2**64 - 1)],
        [header(CHUNK_BYTES_MAX + 1), chunk(CHUNK_BYTES_MAX + 1)],
    ],
)
def test_uploads_out_of_order_or_size_are_request_invalid(stage: Stage, parts: list[Upload]) -> None:
    """First the header, once; then chunks of at most 1 MiB, as many bytes as announced; or nothing is stored."""
    stub = registry_pb2_grpc.RegistryServiceStub(stage.room.alice.channel)
    with stage.room.gains(), refused("request_invalid"):
        stage.room.alice.call(stub.SubmitVersion, iter(parts))


def test_a_huge_model_is_refused_at_its_header(stage: Stage) -> None:
    """300 MiB announced are refused before the first byte of them is sent, and cost no memory."""
    before, stalled = memory_peak_mib(stage.room), threading.Event()

    def parts() -> Iterator[Upload]:
        yield header(300 * 2**20)
        stalled.wait(TIMEOUT_S)

    stub = registry_pb2_grpc.RegistryServiceStub(stage.room.alice.channel)
    with stage.room.gains(), refused("request_invalid"):
        stage.room.alice.call(stub.SubmitVersion, parts())
    stalled.set()
    assert memory_peak_mib(stage.room) - before < 20


Load = catalog_pb2.LoadDatasetRequest


@pytest.mark.parametrize("parts", [[], [Load()], [Load(chunk=catalog_pb2.LoadChunk())]])
def test_loads_without_a_header_are_request_invalid(stage: Stage, parts: list[Load]) -> None:
    """A load begins with its header."""
    steward = stage.room.steward("tax")
    with stage.room.gains(), refused("request_invalid"):
        steward.call(catalog_pb2_grpc.CatalogServiceStub(steward.channel).LoadDataset, iter(parts))


def test_uploads_that_break_off_leave_nothing(stage: Stage) -> None:
    """A client that goes away in the middle of its upload leaves no version and no trace."""
    with stage.room.gains():
        for _ in range(5):
            parts: queue.Queue[Upload | None] = queue.Queue()
            bank = Bank.connect(stage.room.server, stage.room.alice.credentials.folder)
            stub = registry_pb2_grpc.RegistryServiceStub(bank.channel)
            call = stub.SubmitVersion.future(iter(parts.get, None))
            for part in (header(3 * CHUNK_BYTES_MAX), chunk(CHUNK_BYTES_MAX)):
                parts.put(part)
            bank.close()
            parts.put(None)
            assert call.exception() is not None
        stage.room.auditor.checkpoint()


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """A server that takes eight calls at once."""
    room = Room.make(tmp_path_factory.mktemp("narrow"), rpcs_in_flight_max=8, release_quantum_ms=500).start()
    try:
        yield room
    finally:
        room.stop()


def test_stalled_uploads_do_not_shut_others_out(narrow: Room) -> None:
    """One bank that opens streams and sends nothing more must not take every place there is."""
    stub, stalled = registry_pb2_grpc.RegistryServiceStub(narrow.alice.channel), threading.Event()

    def parts() -> Iterator[Upload]:
        yield header(100)
        stalled.wait(TIMEOUT_S)

    with ExitStack() as stack:
        stack.callback(stalled.set)
        for _ in range(16):
            stack.callback(stub.SubmitVersion.future(parts()).cancel)
        for _ in range(50):
            narrow.auditor.checkpoint()


def test_stalled_uploads_leave_a_place_for_other_peoples(narrow: Room) -> None:
    """One bank that fills the places for uploads must not keep a department from loading its data."""
    stub, stalled = registry_pb2_grpc.RegistryServiceStub(narrow.alice.channel), threading.Event()

    def parts() -> Iterator[Upload]:
        yield header(100)
        stalled.wait(TIMEOUT_S)

    steward = narrow.steward("tax")
    load = catalog_pb2_grpc.CatalogServiceStub(steward.channel).LoadDataset
    first = Load(header=catalog_pb2.LoadHeader(dataset="tax.nothing", rows=1, event_at=timestamp_pb2.Timestamp()))
    with ExitStack() as stack:
        stack.callback(stalled.set)
        for _ in range(16):
            stack.callback(stub.SubmitVersion.future(parts()).cancel)
        for _ in range(20):
            with refused("dataset_unknown"):
                steward.call(load, iter([first]))


def test_calls_beyond_the_limit_have_a_code(narrow: Room) -> None:
    """What is shed is told so in the catalogue's words, with a code that a client can act on."""
    consent_id = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
    members = {"subject": "uscc:91350100M000100Y43", "product": PRODUCT, "consent_id": consent_id}

    def call(_: int) -> Refused:
        with pytest.raises(Refused) as refusal:
            narrow.portal.request_limit(**members)
        return refusal.value

    with ThreadPoolExecutor(24) as threads:
        shed = [error for error in threads.map(call, range(24)) if error.status == "RESOURCE_EXHAUSTED"]
    assert shed
    assert {error.code for error in shed} - CATALOG.keys() == set()


def test_health_is_told_and_not_watched(stage: Stage) -> None:
    """Health is answered to whoever has a certificate; watching, which would hold a place for ever, is closed."""
    stub = health_pb2_grpc.HealthStub(stage.room.portal.channel)
    assert stub.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
    with refused("permission_refused"), wire_errors():
        next(stub.Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S))
