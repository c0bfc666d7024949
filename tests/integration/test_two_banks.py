"""Two banks on one server: each sees, names and waits for its own versions alone."""

import threading
from collections.abc import Callable, Iterator

import grpc
import pytest
from google.protobuf.message import Message
from heixia.registry.v1 import registry_pb2 as pb
from heixia.registry.v1 import registry_pb2_grpc

from enclave_api.cli.example import FIELDS, train_lightgbm
from enclave_api.client.bank import Bank, _parts
from enclave_api.client.new_rules import NewRules
from enclave_api.identity import Principal, Role
from tests.integration.conftest import Stage
from tests.integration.test_versions import sealed
from tests.room import ACCEPT, datasets_of

EVE, ADAM = (Principal(Role.INSTITUTION, "otherbank", person) for person in ("eve", "adam"))
OTHER = "otherbank/loan"
FLAT = "version: 1\ncaps:\n  - {name: the same for all, limit: 100000.0}\n"


@pytest.fixture(scope="module")
def banks(stage: Stage) -> Stage:
    """The stage, with a second bank that has a champion."""
    for person in (EVE, ADAM):
        stage.room.client(Bank, person)
    stage.room.stop()
    stage.room.start()
    example = train_lightgbm(stage.world, OTHER, trees=5)
    eve, adam = (stage.room.client(Bank, person) for person in (EVE, ADAM))
    recipient = eve.verify_enclave(ACCEPT).recipient()
    version = eve.submit(eve.seal(example.model, example.offer, recipient, example.samples())).version
    adam.approve(version)
    adam.promote(version)
    return stage


def _rules(version: str) -> pb.ReplaceRulesRequest:
    return pb.ReplaceRulesRequest(version=version, ciphertext=b"x", header=pb.BundleHeader(ciphertext_bytes=1))


NAMING: dict[str, Callable[[str], Message]] = {
    "ApproveVersion": lambda name: pb.ApproveVersionRequest(version=name),
    "PromoteVersion": lambda name: pb.PromoteVersionRequest(version=name),
    "SuspendVersion": lambda name: pb.SuspendVersionRequest(version=name, reason="security"),
    "ResumeVersion": lambda name: pb.ResumeVersionRequest(version=name, reason="security"),
    "RetireVersion": lambda name: pb.RetireVersionRequest(version=name),
    "ReplaceRules": _rules,
    "GetVersion": lambda name: pb.GetVersionRequest(version=name),
    "RollbackProduct": lambda name: pb.RollbackProductRequest(product=name.rpartition("@")[0]),
    "RollbackProduct ": lambda name: pb.RollbackProductRequest(product=OTHER, to=name),
    "ListVersions": lambda name: pb.ListVersionsRequest(product=name.rpartition("@")[0]),
    "ListVersionChanges": lambda name: pb.ListVersionChangesRequest(product=name.rpartition("@")[0]),
    "GetChampion": lambda name: pb.GetChampionRequest(product=name.rpartition("@")[0]),
}


def answer_of(bank: Bank, rpc: str, request: Message) -> object:
    """All that a caller is told: the message, or status, text and metadata."""
    try:
        return getattr(registry_pb2_grpc.RegistryServiceStub(bank.channel), rpc.strip())(request)
    except grpc.RpcError as error:
        return error.code(), error.details(), error.trailing_metadata()


@pytest.mark.parametrize("rpc", sorted(NAMING))
def test_anothers_version_looks_like_none(banks: Stage, rpc: str) -> None:
    """Every RPC that names a version or a product answers for another bank's as for one that never was."""
    eve, make = banks.room.client(Bank, EVE), NAMING[rpc]
    with banks.room.gains():
        real = answer_of(eve, rpc, make(banks.version))
        assert real == answer_of(eve, rpc, make("zhongyuan/no-such@7"))
        assert real == answer_of(eve, rpc, make("nobody/at-all@1"))
    if isinstance(real, tuple):
        assert real[0] is grpc.StatusCode.NOT_FOUND


def test_every_rpc_of_the_registry_is_asked() -> None:
    """An RPC that is added must be asked here, but for those that name neither version nor product."""
    names_nothing = {"SubmitVersion", "SuspendAllVersions", "ListProducts"}
    service = pb.DESCRIPTOR.services_by_name["RegistryService"]
    assert {rpc.strip() for rpc in NAMING} == {method.name for method in service.methods} - names_nothing


def test_an_upload_that_stands_still_holds_up_nobody_else(banks: Stage) -> None:
    """While one bank's upload hangs in its middle, the other promotes, replaces rules, rolls back and is called."""
    bundle, go = sealed(banks), threading.Event()
    eve, adam = (banks.room.client(Bank, person) for person in (EVE, ADAM))

    def parts() -> Iterator[pb.SubmitVersionRequest]:
        first, *rest = _parts(bundle)
        yield first
        go.wait()
        yield from rest

    stub = registry_pb2_grpc.RegistryServiceStub(banks.room.alice.channel)
    hanging = stub.SubmitVersion.future(parts())
    made = eve.replace_rules(f"{OTHER}@1", NewRules(FLAT), eve.verify_enclave(ACCEPT).recipient()).version
    adam.approve(made)
    adam.promote(made)
    subject = banks.world.subjects[1]
    assert banks.room.answer(subject, OTHER, datasets_of(FIELDS)) == 100_000
    adam.rollback(OTHER)
    assert not hanging.done()
    go.set()
    assert hanging.result().version.state == pb.VERSION_STATE_ADMITTED
