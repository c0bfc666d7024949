"""The HPKE key's life inside one process, with a clock of the test's: dates, destruction, failures."""

import asyncio
import base64
import gc
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, select, update

from audit.errors import LedgerCorrupt
from audit.event import decode
from audit.kinds import EnclaveStarted, Event
from audit.ledger import Ledger, Position
from audit.schema import open_engine
from enclave_api import tables  # noqa: F401 - every floor's tables
from enclave_api.attestation.evidence import EnclaveFacts
from enclave_api.errors import HomeInvalid, RotationRefused
from enclave_api.home import log_signer
from enclave_api.keeper import create_root, open_file
from enclave_api.key_epochs import CHECK_INTERVAL_S, LIVING_MAX, KeyEpochs
from enclave_api.key_ring import KeyRing
from enclave_api.keys import Keys
from model_registry import resealing
from model_registry.bundle import SealedBundle, seal_bundle
from model_registry.errors import BundleInvalid, Reason, StoredValueCorrupt
from model_registry.key_epochs import Epoch, begin_epoch
from model_registry.manifest import Manifest, manifest_hash, sign_manifest
from model_registry.registry import Registry
from model_registry.tables import bundle, bundle_key, key_epoch, version
from sandbox.replay.fold import Replay
from tests.unit.bundles import CONTENT, KEY, KEYS, manifest

ALICE, OPERATOR = "institution/bank/alice", "operator/operations"
ORIGIN = "example.com/keys"
NOW = datetime(2026, 11, 24, 8, tzinfo=UTC)


@dataclass
class Clock:
    """A clock that stands."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        """The time."""
        return self.now


@dataclass
class Place:
    """A registry and its keys, without doors."""

    path: Path
    clock: Clock
    ledger: Ledger
    epochs: KeyEpochs
    registry: Registry

    def sealed(self) -> SealedBundle:
        """A bundle for the key in the evidence."""
        key = self.epochs.facts.recipient
        return seal_bundle(CONTENT, sign_manifest(manifest(recipients=[key.key_id]), KEY), [key])

    async def submit(self, sent: SealedBundle) -> str:
        """Stores it; the version's name."""
        return (await self.registry.submit(sent, "bank", ALICE, _admit)).version

    async def rotate(self, days: float) -> Epoch:
        """Rotates the newest key."""
        return await self.epochs.rotate(OPERATOR, self.epochs.list()[-1].key_id, timedelta(days=days))

    def told(self) -> list[Event]:
        """The entries."""
        return [decode(body)[0] for _, body in self.ledger.entries(0, self.ledger.size)]

    def sound(self) -> bool:
        """Whether the laws of keys hold."""
        replay = Replay()
        for index, body in self.ledger.entries(0, self.ledger.size):
            replay.take(index, *decode(body))
        return replay.findings.total == 0


async def _admit(_: Manifest, __: bytes, ___: bytes) -> Sequence[Reason]:
    return []


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A started place with epoch 0."""
    create_root(tmp_path / "root.key", None)
    keeper, clock = open_file(tmp_path / "root.key", None), Clock()
    engine = open_engine(tmp_path / "heixia.db", create=True)
    ledger = Ledger.open(engine, log_signer(keeper.keys, ORIGIN), ORIGIN, clock)
    digest = hashlib.sha256(b"").hexdigest()
    key = keeper.keys.recipient(0).public()
    facts = EnclaveFacts(key, 0, "vkey", digest, digest, digest, "one-shot", {}, NOW)
    epochs = KeyEpochs(keeper, ledger, engine, KeyRing(clock), clock, facts)
    assert epochs.check() == []

    def start(connection: Connection, position: Position) -> tuple[Event, None]:
        begin_epoch(connection, Epoch(0, key.key_id, position.index, position.time))
        return EnclaveStarted(facts.evidence_hash, "simulated", "one-shot", "0", 0, key.key_id), None

    ledger.append_sync(start)
    registry = Registry(ledger, engine, KEYS, epochs.ring, AESGCM(bytes(32)), 64)
    yield Place(tmp_path, clock, ledger, epochs, registry)
    ledger.close()
    engine.dispose()


async def test_stored_bundles_follow_the_key(place: Place) -> None:
    """Sealed keys change, nothing else of a version does; each version opens after every rotation and destruction."""
    names = [await place.submit(place.sealed()) for _ in range(3)]

    def stored() -> list[object]:
        with place.epochs.engine.connect() as connection:
            ciphertexts = connection.execute(select(bundle)).all()
            return [ciphertexts, connection.execute(select(version)).all()]

    before = stored()
    for _ in range(3):
        await place.rotate(0)
        assert stored() == before
        assert [place.registry.open_content(name).content for name in names] == [CONTENT] * 3
    assert place.epochs.keeper.keys.epoch == 3
    assert place.sound()


async def test_a_date_ends_a_key_before_its_destruction(place: Place) -> None:
    """To the millisecond: taken before it, refused from it on, though the hourly check has not come by."""
    sent = [place.sealed() for _ in range(2)]
    await place.rotate(10)
    place.clock.now = NOW + timedelta(days=10, milliseconds=-1)
    await place.submit(sent[0])
    place.clock.now = NOW + timedelta(days=10)
    with pytest.raises(BundleInvalid, match="recipient"):
        await place.submit(sent[1])
    assert place.epochs.keeper.keys.epoch == 0
    await place.epochs.destroy_due()
    assert place.epochs.keeper.keys.epoch == 1
    assert place.sound()


async def test_dates_are_brought_forward_never_put_off(place: Place) -> None:
    """A later rotation with a longer overlap leaves the earlier date; one with a shorter brings it forward."""
    for days in (10, 30, 5):
        await place.rotate(days)
    ends = [one.destroy_at for one in place.epochs.list()]
    assert ends == [NOW + timedelta(days=5)] * 3 + [None]
    await place.rotate(20)
    assert place.epochs.list()[0].destroy_at == NOW + timedelta(days=5)
    place.clock.now = NOW + timedelta(days=6)
    await place.epochs.destroy_due()
    assert [one.alive for one in place.epochs.list()] == [False, False, False, True, True]
    assert place.sound()


async def test_the_hourly_check_destroys_and_survives_failures(place: Place) -> None:
    """It sleeps an hour between looks; a keeper that cannot write is asked again the next hour, the entry waits."""
    await place.rotate(1)
    hours: list[float] = []

    async def sleep(seconds: float) -> None:
        hours.append(seconds)
        if len(hours) == 2:
            place.clock.now = NOW + timedelta(days=2)
            (place.path / "root.key").rename(place.path / "away")
        if len(hours) == 3:
            assert place.epochs.list()[0].alive
            (place.path / "away").rename(place.path / "root.key")
        if len(hours) == 4:
            raise asyncio.CancelledError

    place.epochs.sleep = sleep
    with suppress(asyncio.CancelledError):
        await place.epochs.run_forever()
    assert hours == [CHECK_INTERVAL_S] * 4
    assert [one.alive for one in place.epochs.list()] == [False, True]
    assert open_file(place.path / "root.key", None).keys.epoch == 1


async def test_nothing_reaches_a_destroyed_key(place: Place) -> None:
    """No object of the process refers to a destroyed secret, and no file holds it; the newest epoch's are there."""
    hashes = [_hashes(place.epochs.keeper.keys.advanced(epoch)) for epoch in range(2)]
    await place.submit(place.sealed())
    assert hashes[0] <= _held()
    await place.rotate(0)
    held = _held()
    assert hashes[1] <= held
    assert not hashes[0] & held
    text = b"".join(path.read_bytes() for path in place.path.iterdir())
    text += base64.b64decode(json.loads((place.path / "root.key").read_text())["secret"])
    kept = {hashlib.sha256(text[at : at + 32]).digest() for at in range(len(text) - 31)}
    assert hashes[1] & kept
    assert not hashes[0] & kept


def _hashes(keys: Keys) -> set[bytes]:
    """What the secrets of the oldest epoch are known by, so that looking for them does not hold them."""
    secret = keys.recipient(keys.epoch)
    return {hashlib.sha256(part).digest() for part in (keys.ratchet, secret.mlkem_seed, secret.x25519_seed)}


def _held() -> set[bytes]:
    """Hashes of all byte strings of a secret's length that any object refers to."""
    gc.collect()
    found, fresh = set(), gc.get_objects()
    while fresh:  # the collector does not list containers that hold texts and numbers alone
        held = gc.get_referents(*fresh)
        found |= {hashlib.sha256(one).digest() for one in held if type(one) is bytes and len(one) in (32, 64)}
        fresh = [one for one in held if isinstance(one, dict | tuple) and not gc.is_tracked(one) and one]
    return found


async def test_too_many_living_keys(place: Place) -> None:
    """At the bound a rotation is refused, and goes on when an older one has ended."""
    for _ in range(LIVING_MAX - 1):
        await place.rotate(1)
    with pytest.raises(RotationRefused, match="too many"):
        await place.rotate(1)
    place.clock.now = NOW + timedelta(days=1)
    await place.epochs.destroy_due()
    assert (await place.rotate(1)).number == LIVING_MAX
    assert place.sound()


async def test_two_rotations_at_once(place: Place) -> None:
    """Both saw the same newest key: one rotates, the other is refused."""
    done = await asyncio.gather(*(place.rotate(1) for _ in range(2)), return_exceptions=True)
    assert [type(one) for one in done if not isinstance(one, Epoch)] == [RotationRefused]
    assert len(place.epochs.list()) == 2


async def test_a_failed_rotation_changes_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails in the transaction: evidence, decisions' evidence, ring and rows are the old ones."""
    told: list[str] = []
    place.epochs.tell_decisions = told.append
    name, facts, size = await place.submit(place.sealed()), place.epochs.facts, place.ledger.size
    with monkeypatch.context() as patch:
        patch.setattr("enclave_api.key_epochs.begin_epoch", _fail)
        with pytest.raises(StoredValueCorrupt):
            await place.rotate(1)
    assert (place.epochs.facts, told, place.ledger.size) == (facts, [facts.evidence_hash], size)
    assert list(place.epochs.ring) == [facts.recipient.key_id]
    assert place.registry.open_content(name).content == CONTENT
    assert (await place.rotate(1)).number == 1


def _fail(*_: object) -> None:
    raise StoredValueCorrupt("on purpose")


async def test_a_caller_who_leaves_leaves_a_whole_rotation(place: Place) -> None:
    """Cancelled while it runs: it ends all the same, evidence included."""
    running = asyncio.create_task(place.rotate(1))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.gather(*place.epochs._running)
    assert place.epochs.facts.epoch == place.epochs.list()[-1].number == 1


async def test_bundles_that_come_between_are_sealed_anew(place: Place) -> None:
    """Stored after the rotation was prepared, refused after it, or sealed by somebody else: the transaction sees it."""
    await place.submit(place.sealed())
    key = place.epochs.keeper.keys.recipient(1)
    prepared = resealing.prepare(place.epochs.engine, place.epochs.ring, key.public())
    late = await place.submit(place.sealed())
    gone = replace(prepared[0], version="bank/loan@9")
    with place.epochs.engine.begin() as connection:
        resealing.apply(connection, [*prepared, gone], place.epochs.ring, key.public())
        assert set(connection.scalars(select(bundle_key.c.key_id))) == {key.public().key_id}
        assert connection.scalar(select(bundle_key.c.version).where(bundle_key.c.version == gone.version)) is None
        jws = connection.scalar(select(version.c.manifest_jws).where(version.c.version == late))
    secrets = {key.public().key_id: key}
    assert len(resealing.stored_key(place.epochs.engine, late, manifest_hash(str(jws)), secrets)) == 32


async def test_a_key_that_a_bundle_needs_is_not_destroyed(place: Place) -> None:
    """Where a row was edited so that only the old key opens it, the old key stays, and the operator's log says why."""
    await place.submit(place.sealed())
    old = place.epochs.list()[0].key_id
    await place.rotate(1)
    with place.epochs.engine.begin() as connection:
        connection.execute(update(bundle_key).values(key_id=old))
    place.clock.now = NOW + timedelta(days=1)
    with pytest.raises(StoredValueCorrupt):
        await place.epochs.destroy_due()
    assert place.epochs.keeper.keys.epoch == 0
    assert place.epochs.list()[0].alive


def test_a_ring_without_keys(place: Place) -> None:
    """It is a mapping like any other: sizes, unknown names, what is expected."""
    ring = KeyRing(place.clock)
    assert (len(ring), list(ring), ring.get("x")) == (0, [], None)
    secret = Keys.from_root(bytes(32)).recipient(0)
    ring.expect(secret)
    assert dict(ring) == {secret.public().key_id: secret}


def test_rows_edited_behind_the_log_are_seen(place: Place) -> None:
    """The epochs of the table are those of the entries, or a start says so."""
    with place.epochs.engine.begin() as connection:
        connection.execute(update(key_epoch).values(key_id="0" * 16))
    with pytest.raises(LedgerCorrupt, match="key epochs"):
        place.epochs.check()


def test_a_missing_file_is_told(place: Place) -> None:
    """A keeper whose file went away says so when it is to destroy."""
    (place.path / "root.key").unlink()
    with pytest.raises(HomeInvalid):
        place.epochs.keeper.advance(1)
