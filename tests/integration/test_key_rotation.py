"""The HPKE key rotated in a running room: nobody uploads again, no call fails, old keys are taken until their date."""

import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from heixia.attestation.v1 import attestation_pb2, attestation_pb2_grpc

from audit.findings import Verdict
from audit.policy import Policy
from enclave_api.attestation.verify import Verdict as Evidence
from enclave_api.cli.example import FIELDS, Example
from enclave_api.client.auditor import Auditor
from enclave_api.client.bank import Bank
from enclave_api.client.connection import Refused
from enclave_api.client.operator import Operator
from enclave_api.fsck import check_home
from enclave_api.home import Home
from enclave_api.keeper import open_file
from model_registry.bundle import SealedBundle
from sandbox.vault.synthetic import World
from tests.integration.conftest import PRODUCT, Stage
from tests.integration.test_bad_consents import ask
from tests.room import ACCEPT, ALICE, AUDITOR, OPERATOR, Room, datasets_of, decision_of, refused

COMPANIES, CALLERS = range(20, 60), 4
OTHER_DAY = [sys.executable, str(Path(__file__).parents[1] / "other_day.py")]


def operator(stage: Stage) -> Operator:
    """Who rotates."""
    return stage.room.client(Operator, OPERATOR)


def rotate(stage: Stage, overlap_days: int | None = None) -> attestation_pb2.KeyEpoch:
    """Rotates the newest key."""
    mine = operator(stage)
    return mine.rotate_key(mine.list_keys()[-1].key_id, overlap_days)


def evidence(stage: Stage) -> Evidence:
    """Fresh evidence, checked."""
    return stage.room.alice.verify_enclave(ACCEPT)


def sealed(stage: Stage, verdict: Evidence) -> SealedBundle:
    """A bundle for the key in some evidence."""
    made = stage.example
    return stage.room.alice.seal(made.model, made.offer, verdict.recipient(), made.samples())


def sound(home: Path) -> bool:
    """Both verdicts of the check, tables included."""
    policy = Policy.parse((home / "public" / "log.policy").read_text())
    report = check_home(Home(home), policy, lambda *_: None)
    assert report.completeness.listed == []
    return report.verdicts == (Verdict.SOUND, Verdict.SOUND)


@contextmanager
def played(folder: Path, world: World, example: Example) -> Iterator[Stage]:
    """A room of the test's own."""
    room = Room.make(folder).start()
    try:
        room.load(world, datasets_of(FIELDS))
        yield Stage(room, world, example, room.launch(example))
    finally:
        room.stop()


def test_a_rotation_under_load_fails_no_call(stage: Stage) -> None:
    """Three rotations under load, a bank submitting beside: all answered, each under the evidence of its moment."""
    consents = [(company, stage.consent(company, uses=3)) for company in COMPANIES for _ in range(3)]
    begin, size = threading.Barrier(CALLERS + 1), len(stage.room.entries())
    before = evidence(stage).claims["hpke_epoch"]

    def calls(mine: int) -> list[str]:
        begin.wait()
        answers = [ask(stage, company, consent) for company, consent in consents[mine::CALLERS]]
        return [decision_of(answer.receipt.entry).evidence_hash for answer in answers]

    with ThreadPoolExecutor(CALLERS) as threads:
        running = [threads.submit(calls, number) for number in range(CALLERS)]
        begin.wait()
        for _ in range(3):
            bundle = sealed(stage, evidence(stage))
            made = rotate(stage)
            assert evidence(stage).claims["hpke_key_id"] == made.key_id  # at once
            stage.room.alice.submit(bundle)  # sealed to the key before
        named = [one for call in running for one in call.result()]
    assert len(named) == len(consents)
    assert evidence(stage).claims["hpke_epoch"] == before + 3
    now = next(one for one in stage.room.entries() if one["kind"] == "enclave.started")["evidence_hash"]
    for entry in stage.room.entries(size):
        if entry["kind"] == "key.rotated":
            now = entry["evidence_hash"]
        elif entry["kind"] == "decision":
            assert entry["evidence_hash"] == now
    with closing(stage.room.read_database()) as database:
        assert set(database.execute("SELECT DISTINCT key_id FROM bundle_key")) == {(made.key_id,)}
    assert sound(stage.room.home.path)


def test_a_restart_goes_on_with_the_newest_key(stage: Stage) -> None:
    """After a rotation and a restart: the same key in the evidence, the champion loads and answers."""
    made = rotate(stage)
    stage.room.stop()
    stage.room.start()
    assert evidence(stage).claims["hpke_key_id"] == made.key_id
    assert ask(stage, 5, stage.consent(5)).receipt
    started = [one for one in stage.room.entries() if one["kind"] == "enclave.started"][-1]
    assert (started["epoch"], started["key_id"]) == (made.epoch, made.key_id)


def test_a_rotation_is_one_entry_and_its_rows(stage: Stage) -> None:
    """Nothing but epochs and bundles' keys changes; ciphertexts, manifests and hashes stay."""
    with stage.room.gains("key.rotated", changes={"key_epoch", "bundle_key"}):
        rotate(stage)


def test_a_repeated_rotation_rotates_once(stage: Stage) -> None:
    """Whoever saw another newest key is refused; so is an overlap beyond a year; nothing is left in the log."""
    seen = operator(stage).list_keys()[-1].key_id
    rotate(stage)
    with stage.room.gains():
        with refused("rotation_refused"):
            operator(stage).rotate_key(seen)
        with refused("request_invalid"):
            operator(stage).rotate_key(operator(stage).list_keys()[-1].key_id, 367)


def test_only_operators_rotate_and_banks_and_auditors_look(stage: Stage) -> None:
    """Roles, as the access policy has them."""
    for kind, who in ((Bank, ALICE), (Auditor, AUDITOR)):
        stub = attestation_pb2_grpc.AttestationServiceStub(stage.room.client(kind, who).channel)
        client = stage.room.client(kind, who)
        assert client.call(stub.ListKeys, attestation_pb2.ListKeysRequest()).keys
        with refused("permission_refused"):
            client.call(stub.RotateKey, attestation_pb2.RotateKeyRequest(key_id="0" * 16))


def test_the_old_key_is_taken_until_its_date(tmp_path: Path, world: World, example: Example) -> None:
    """What was sealed to it is taken within the overlap, refused after it; then it is gone from root.key as well."""
    with played(tmp_path, world, example) as stage:
        room, root = stage.room, stage.room.home.root_key
        old = [sealed(stage, evidence(stage)) for _ in range(2)]
        secret = open_file(root, None).keys
        rotate(stage, 3)
        taken = room.alice.submit(old[0]).version
        assert open_file(root, None).keys == secret
        room.stop()

        room.launcher = [*OTHER_DAY, "2"]
        room.start()
        assert [key.HasField("destroyed_index") for key in operator(stage).list_keys()] == [False, False]
        room.stop()

        room.launcher = [*OTHER_DAY, "4"]
        room.start()
        first, second = operator(stage).list_keys()
        assert first.HasField("destroyed_index")
        assert not second.HasField("destroyed_index")
        assert room.entries()[first.destroyed_index]["kind"] == "key.destroyed"
        with refused("bundle_invalid"), room.gains():
            room.alice.submit(old[1])
        room.bob.approve(taken)
        room.bob.promote(taken)
        consent = stage.consent(7)
        assert ask(stage, 7, consent).receipt
        kept = open_file(root, None).keys
        assert kept == secret.advanced(1)
        with pytest.raises(ValueError, match="destroyed"):
            kept.recipient(0)
        assert sound(room.home.path)


def test_a_key_may_go_at_once(tmp_path: Path, world: World, example: Example) -> None:
    """Without overlap the old key is gone when the rotation answers; a bank is told to fetch evidence, and may."""
    with played(tmp_path, world, example) as stage:
        old = sealed(stage, evidence(stage))
        with stage.room.gains("key.rotated", "key.destroyed", changes={"key_epoch", "bundle_key"}):
            rotate(stage, 0)
        with pytest.raises(Refused, match=r"recipient.*fetch fresh evidence"):
            stage.room.alice.submit(old)
        assert stage.room.alice.submit(sealed(stage, evidence(stage))).version == f"{PRODUCT}@2"
        assert ask(stage, 7, stage.consent(7)).receipt
        stage.room.stop()
        assert sound(stage.room.home.path)


def test_a_broken_stored_key_stops_a_rotation(tmp_path: Path, world: World, example: Example) -> None:
    """A row that somebody damaged is named, and nothing is rotated past it."""
    with played(tmp_path, world, example) as stage:
        with closing(sqlite3.connect(stage.room.home.database)) as database, database:
            database.execute("UPDATE bundle_key SET sealed = zeroblob(1168)")
        with stage.room.gains(), refused("rotation_refused"):
            rotate(stage)


def test_the_commands(stage: Stage) -> None:
    """`heixia keys list` and `rotate`, as an operator types them."""

    def run(*arguments: str) -> list[dict[str, object]]:
        command = [sys.executable, "-m", "enclave_api", "keys", *arguments, "--json", "--server", stage.room.server]
        command += ["--as", str(stage.room.home.client(OPERATOR))]
        shown = subprocess.run(command, check=True, capture_output=True, text=True)
        return [json.loads(line) for line in shown.stdout.splitlines()]

    before = run("list")
    (made,) = run("rotate", "--overlap-days", "14")
    after = run("list")
    assert made["epoch"] == len(before) == len(after) - 1
    assert (after[-1]["state"], after[-1]["key_id"]) == ("newest", made["key_id"])
    assert {one["state"] for one in after[:-1]} == {"older"}
    assert made["until"] == after[-2]["taken_until"]
