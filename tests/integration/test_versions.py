"""Versions: persons, suspensions, rollback, races, bounds, a caller who leaves, a database that was changed."""

import asyncio
import os
import sqlite3
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest
from heixia.registry.v1 import registry_pb2 as pb
from heixia.registry.v1 import registry_pb2_grpc

from audit.errors import ServiceError
from enclave_api.app import build, record_start
from enclave_api.client.bank import Bank
from enclave_api.client.connection import Refused
from enclave_api.home import Home
from enclave_api.identity import Principal, Role
from enclave_api.service import ServeOptions, Service
from model_registry import version_room
from model_registry.bundle import SealedBundle
from model_registry.errors import (
    ModelRefused,
    QuotaReached,
    Reason,
    StoredValueCorrupt,
    TransitionRefused,
    VersionUnknown,
)
from model_registry.lifecycle import State
from model_registry.manifest import Manifest
from sandbox.jail.pool import AdmissionReport, Program
from tests.integration.conftest import PRODUCT, Stage
from tests.room import ACCEPT, ALICE, BOB, OPERATOR, Room

OPTIONS = ServeOptions("127.0.0.1:0", None, False, None)


def sealed(stage: Stage) -> SealedBundle:
    """A fresh bundle of the example."""
    made, alice = stage.example, stage.room.alice
    return alice.seal(made.model, made.offer, alice.verify_enclave(ACCEPT).recipient(), made.samples())


def code_of(action: object) -> str:
    """The code of the refusal that an action ends in."""
    with pytest.raises(Refused) as refusal:
        action()  # type: ignore[operator]
    return str(getattr(refusal.value, "code", ""))


def test_four_eyes_are_two_persons(stage: Stage) -> None:
    """A certificate that names nobody can neither submit nor approve, and nobody approves their own."""
    nobody = stage.room.client(Bank, Principal(Role.INSTITUTION, "zhongyuan"))
    bundle = sealed(stage)
    assert code_of(lambda: nobody.submit(bundle)) == "four_eyes_required"
    version = stage.room.alice.submit(bundle).version
    assert code_of(lambda: stage.room.alice.approve(version)) == "four_eyes_required"
    assert code_of(lambda: nobody.approve(version)) == "four_eyes_required"
    assert stage.room.bob.approve(version).state == pb.VERSION_STATE_APPROVED


def test_each_lifts_its_own_suspension_alone(stage: Stage) -> None:
    """A bank cannot lift the operator's stop, not even by suspending first, nor as an operator of its own name."""
    operator = stage.room.client(Bank, OPERATOR)
    namesake = stage.room.client(Bank, Principal(Role.OPERATOR, "zhongyuan"))
    stage.room.alice.suspend(stage.version, "bank-decision")
    operator.suspend(stage.version, "security")
    assert stage.room.alice.resume(stage.version, "bank-decision").state == pb.VERSION_STATE_SUSPENDED
    assert code_of(lambda: stage.room.alice.resume(stage.version, "bank-decision")) == "transition_refused"
    assert code_of(lambda: namesake.resume(stage.version, "security")) == "transition_refused"
    assert operator.resume(stage.version, "security").state == pb.VERSION_STATE_CHAMPION


def test_another_institution_sees_nothing(stage: Stage) -> None:
    """Versions of a bank look to another bank as if there were none."""
    eve = stage.room.client(Bank, Principal(Role.INSTITUTION, "otherbank", "eve"))
    assert eve.versions(PRODUCT) == []
    assert code_of(lambda: eve.approve(stage.version)) == "version_unknown"
    assert code_of(lambda: eve.promote(stage.version)) == "version_unknown"
    assert code_of(lambda: eve.suspend(stage.version, "security")) == "version_unknown"
    assert code_of(lambda: eve.rollback(PRODUCT)) == "product_unknown"


def test_rollback_goes_back_and_not_to_and_fro(stage: Stage) -> None:
    """Two rollbacks lead from the third champion to the first; there is none before it."""
    second, third = stage.room.launch(stage.example), stage.room.launch(stage.example)
    assert stage.room.bob.rollback(PRODUCT).version == second
    assert stage.room.bob.rollback(PRODUCT).version == stage.version
    assert code_of(lambda: stage.room.bob.rollback(PRODUCT)) == "transition_refused"
    assert third.endswith(f"@{int(second.rpartition('@')[2]) + 1}")


def test_an_operator_does_not_read_why_a_model_was_refused(stage: Stage) -> None:
    """Reasons quote the bank's rules: the bank reads them, the operator who suspends gets none, the file shows none."""
    offer = replace(stage.example.offer, rules=stage.example.offer.rules.replace("0.35", "0.36"))
    alice = stage.room.alice
    samples = [replace(sample, limit_yuan=777) for sample in stage.example.samples(3)]
    bundle = alice.seal(stage.example.model, offer, alice.verify_enclave(ACCEPT).recipient(), samples)
    assert code_of(lambda: alice.submit(bundle)) == "model_refused"
    version = alice.versions(PRODUCT)[-1].version
    stub = registry_pb2_grpc.RegistryServiceStub(alice.channel)
    reasons = stub.GetVersion(pb.GetVersionRequest(version=version)).version.reasons
    assert {reason.code for reason in reasons} == {"parity_mismatch"}
    seen = stage.room.client(Bank, OPERATOR).suspend(version, "security")
    assert not seen.reasons
    with closing(sqlite3.connect(stage.room.home.database)) as database:
        (noted,) = database.execute("SELECT reasons FROM version WHERE version = ?", (version,)).fetchone()
    assert b"parity" not in noted


async def _submitted(service: Service, bundle: SealedBundle, outcome: Exception | None) -> str:
    """Submits; the inspection raises the outcome, or hangs and the caller leaves. Returns the version's name."""
    began = asyncio.Event()

    async def inspect(_: Manifest, __: bytes, ___: bytes) -> Sequence[Reason]:
        began.set()
        if outcome is not None:
            raise outcome
        await asyncio.Event().wait()
        return []

    task = asyncio.create_task(service.registry.submit(bundle, "zhongyuan", str(ALICE), inspect))
    await began.wait()
    if outcome is None:
        task.cancel()
    with pytest.raises((ModelRefused, asyncio.CancelledError)):
        await task
    return service.registry.list(PRODUCT, "zhongyuan")[-1].version


async def test_no_version_is_left_unjudged(stage: Stage, tmp_path: Path) -> None:
    """A busy jail refuses the version; one left submitted by a stop is judged at the next start, even if unreadable."""
    room = _home_like(stage, tmp_path)
    bundle = sealed(stage)
    async with AsyncExitStack() as stack:
        service = await build(room.home, OPTIONS, stack, lambda _: None)
        await record_start(service)
        busy = await _submitted(service, bundle, ServiceError("busy"))
        assert service.registry.get(busy, "zhongyuan").state is State.REFUSED
        left = [await _submitted(service, bundle, None) for _ in range(2)]
    with closing(sqlite3.connect(room.home.database)) as database, database:
        database.execute("UPDATE bundle SET ciphertext = ? WHERE version = ?", (os.urandom(500), left[0]))
    async with AsyncExitStack() as stack:
        service = await build(room.home, OPTIONS, stack, lambda _: None)
        assert service.registry.get(left[0], "zhongyuan").state is State.SUBMITTED
        await service.registry.finish_inspections(service.versions.inspect)
        broken, whole = (service.registry.get(name, "zhongyuan") for name in left)
        assert (broken.state, [r.code for r in broken.reasons]) == (State.REFUSED, ["bundle_invalid"])
        assert whole.state is State.ADMITTED


async def test_a_swapped_bundle_does_not_run(stage: Stage) -> None:
    """Another version's bundle laid under an approved one's name is noticed when it is opened."""
    room = Home(stage.room.home.path)
    first, other = stage.version, stage.room.alice.submit(sealed(stage)).version
    stage.room.stop()
    with closing(sqlite3.connect(room.database)) as database, database:
        row = database.execute("SELECT manifest_jws FROM version WHERE version = ?", (other,)).fetchone()
        blob = database.execute("SELECT ciphertext FROM bundle WHERE version = ?", (other,)).fetchone()
        key = database.execute("SELECT sealed FROM bundle_key WHERE version = ?", (other,)).fetchone()
        database.execute("UPDATE version SET manifest_jws = ? WHERE version = ?", (*row, first))
        database.execute("UPDATE bundle SET ciphertext = ? WHERE version = ?", (*blob, first))
        database.execute("UPDATE bundle_key SET sealed = ? WHERE version = ?", (*key, first))
    async with AsyncExitStack() as stack:
        service = await build(room, OPTIONS, stack, lambda _: None)
        with pytest.raises(StoredValueCorrupt):
            service.registry.open_content(first)
        with pytest.raises(VersionUnknown):
            service.registry.open_content(f"{PRODUCT}@999")
    stage.room.start()


def _home_like(stage: Stage, folder: Path) -> Room:
    """A fresh home with the keys of the stage's, so that its bundles open there."""
    room = Room.make(folder)
    for file in ("root.key", "public/log.policy", "trust/institutions.jwks"):
        (room.home.path / file).write_bytes((stage.room.home.path / file).read_bytes())
    return room


async def _started(room: Room, stack: AsyncExitStack) -> Service:
    """An enclave in this very process, its first entry written."""
    service = await build(room.home, OPTIONS, stack, lambda _: None)
    await record_start(service)
    return service


async def _approved(service: Service, stage: Stage) -> str:
    """A version that is ready for promotion."""
    version = await service.registry.submit(sealed(stage), "zhongyuan", str(ALICE), service.versions.inspect)
    return (await service.registry.approve(version.version, "zhongyuan", str(BOB))).version


async def test_of_two_promotions_at_once_one_wins(stage: Stage, tmp_path: Path) -> None:
    """Whoever is still loading when another version becomes champion is told so, and the winner stays."""
    async with AsyncExitStack() as stack:
        service = await _started(_home_like(stage, tmp_path), stack)
        registry, (slow, quick, third) = service.registry, [await _approved(service, stage) for _ in range(3)]
        loading, go, ready = asyncio.Event(), asyncio.Event(), service.versions.prepare

        async def prepare(name: str) -> None:
            await ready(name)
            loading.set()
            await go.wait()

        turns = [
            (registry.promote(slow, "zhongyuan", str(ALICE), prepare), quick, ""),
            (registry.promote(slow, "zhongyuan", str(ALICE), prepare), third, ""),
            (registry.rollback(PRODUCT, "zhongyuan", str(ALICE), prepare, slow), quick, quick),
        ]
        for late, winner, back in turns:
            loading.clear()
            go.clear()
            task = asyncio.create_task(late)
            async with asyncio.timeout(60):
                await loading.wait()
            if back:
                await registry.rollback(PRODUCT, "zhongyuan", str(BOB), ready, back)
            else:
                await registry.promote(winner, "zhongyuan", str(BOB), ready)
            go.set()
            with pytest.raises(TransitionRefused, match="champion changed"):
                await task
            reign, _ = registry.champion_at(PRODUCT, "zhongyuan", None)
            assert (reign and reign.version) == winner


async def test_a_promotion_that_fails_leaves_the_champion(stage: Stage, tmp_path: Path) -> None:
    """A version that differs from its samples, or does not load now, is not promoted; the bank reads why."""
    async with AsyncExitStack() as stack:
        service = await _started(_home_like(stage, tmp_path), stack)
        registry, first, second = service.registry, await _approved(service, stage), await _approved(service, stage)
        await registry.promote(first, "zhongyuan", str(BOB), service.versions.prepare)

        async def load(_: str, __: Program) -> AdmissionReport:
            return AdmissionReport((Reason("parity_mismatch", "sample 0", "the bank says 1, the sandbox computes 0"),))

        service.versions.pool.load = load  # type: ignore[assignment, method-assign]
        for _ in range(2):  # what failed once is loaded anew
            with pytest.raises(ModelRefused) as refusal:
                await registry.promote(second, "zhongyuan", str(BOB), service.versions.prepare)
            assert "parity_mismatch" in refusal.value.public
        reign, after = registry.champion_at(PRODUCT, "zhongyuan", None)
        assert (reign and reign.version, after) == (first, None)


async def test_inspections_take_no_place_of_promotions(stage: Stage, tmp_path: Path) -> None:
    """With every place for inspections taken, by whomever, a promotion loads its version all the same."""
    async with AsyncExitStack() as stack:
        service = await _started(_home_like(stage, tmp_path), stack)
        version, places = await _approved(service, stage), service.versions.pool._inspect_slots
        while not places.locked():
            await places.acquire()
        promoted = await service.registry.promote(version, "zhongyuan", str(BOB), service.versions.prepare)
        assert promoted.state is State.CHAMPION


async def test_what_a_bank_may_keep_is_bounded(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions kept, bytes, refusals a day, inspections under way: beyond each a clear no; retiring gives room."""
    async with AsyncExitStack() as stack:
        service = await _started(_home_like(stage, tmp_path), stack)
        kept = [await _approved(service, stage) for _ in range(2)]
        size = len(sealed(stage).ciphertext)
        monkeypatch.setattr(version_room, "KEPT_MAX", 2)
        await _over_quota(service, stage, "versions")
        await service.registry.retire(kept[0], "zhongyuan", str(BOB))
        monkeypatch.setattr(version_room, "KEPT_BYTES_MAX", 2 * size - 1)
        await _over_quota(service, stage, "bytes")
        monkeypatch.setattr(version_room, "KEPT_BYTES_MAX", 2 * size + 100)
        kept.append(await _approved(service, stage))
        monkeypatch.setattr(version_room, "KEPT_MAX", 200)
        monkeypatch.setattr(version_room, "KEPT_BYTES_MAX", 2**32)
        await _submitted(service, sealed(stage), ServiceError("busy"))
        monkeypatch.setattr(version_room, "REFUSED_A_DAY_MAX", 1)
        await _over_quota(service, stage, "refused")
        monkeypatch.setattr(version_room, "REFUSED_A_DAY_MAX", 100)
        monkeypatch.setattr(version_room, "UNDER_WAY_MAX", 1)
        await _submitted(service, sealed(stage), None)
        await _over_quota(service, stage, "under way")


async def _over_quota(service: Service, stage: Stage, which: str) -> None:
    size = service.ledger.size
    with pytest.raises(QuotaReached, match=which):
        await service.registry.submit(sealed(stage), "zhongyuan", str(ALICE), service.versions.inspect)
    assert service.ledger.size == size


async def test_a_caller_who_leaves_at_the_commit_leaves_a_judged_version(stage: Stage, tmp_path: Path) -> None:
    """Cancelled in the very instant in which its version became durable, before anything was awaited after it."""
    room = _home_like(stage, tmp_path)
    async with AsyncExitStack() as stack:
        service = await build(room.home, OPTIONS, stack, lambda _: None)
        await record_start(service)

        async def inspect(_: Manifest, __: bytes, ___: bytes) -> Sequence[Reason]:
            return []

        task = asyncio.create_task(service.registry.submit(sealed(stage), "zhongyuan", str(ALICE), inspect))
        size = service.ledger.size
        while service.ledger.size == size:  # noqa: ASYNC110 - an event would come an iteration late
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.gather(*service.registry._inspections)
        assert [v.state for v in service.registry.list(PRODUCT, "zhongyuan")] == [State.ADMITTED]
