"""Everything of a bank stopped by one call: every product, in one transaction, also what is being inspected."""

import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from heixia.registry.v1 import registry_pb2 as pb
from typer.testing import CliRunner

from enclave_api.cli.main import app
from enclave_api.client.bank import Bank
from enclave_api.client.connection import Refused
from enclave_api.client.new_rules import NewRules
from enclave_api.identity import Principal, Role
from tests.integration.conftest import PRODUCT, Stage
from tests.integration.test_bad_consents import ask
from tests.integration.test_fsck import check_sound
from tests.integration.test_version_races import judge, under_calls
from tests.integration.test_versions import sealed
from tests.room import ACCEPT, OPERATOR, refused

SECOND = "zhongyuan/second-loan"


def second_product(stage: Stage) -> str:
    """Another product of the same bank with a champion of its own."""
    made, room = stage.example, stage.room
    offer = replace(made.offer, product=SECOND)
    bundle = room.alice.seal(made.model, offer, room.alice.verify_enclave(ACCEPT).recipient(), made.samples())
    version = room.alice.submit(bundle).version
    room.bob.approve(version)
    room.bob.promote(version)
    return version


@pytest.fixture
def running(stage: Stage) -> Stage:
    """The room with nothing held back, whatever the test before stopped."""
    for product in stage.room.alice.products():
        for version in stage.room.alice.versions(product.product):
            if version.suspended_by:
                stage.room.alice.resume(version.version, "maintenance")
    return stage


def test_everything_stops_and_whoever_stopped_it_resumes(running: Stage) -> None:
    """Each version that could run gets an entry and no call is answered; resumed one by one by the same bank alone."""
    room, retired = running.room, running.room.alice.submit(sealed(running)).version
    room.bob.retire(retired)
    other, waiting = second_product(running), room.alice.submit(sealed(running)).version
    room.alice.suspend(waiting, "maintenance")
    assert [(p.product, p.champion, p.versions) for p in room.bob.products()] == [
        (PRODUCT, running.version, 2),
        (SECOND, other, 1),
    ]
    consent = running.consent(1)
    with room.gains("version.suspended", "version.suspended", changes={"suspension", "version_change"}):
        assert room.bob.suspend_all("security") == [running.version, other]
    with room.gains():
        assert room.bob.suspend_all("security") == []
    assert [list(p.suspended_by) for p in room.bob.products()] == [["institution/zhongyuan"]] * 2
    with pytest.raises(Refused, match="suspended"):
        ask(running, 1, consent)
    operator = room.client(Bank, OPERATOR)
    with refused("transition_refused"):
        operator.resume(running.version, "security")
    room.alice.resume(running.version, "bank-decision")
    assert ask(running, 1, consent).yuan >= 0
    assert room.alice.version(other).state == pb.VERSION_STATE_SUSPENDED
    check_sound(room.home.path)


def test_no_call_is_answered_after_it(running: Stage) -> None:
    """Under calls, two officers at once: no decision stands behind the stop, and one entry for each version."""
    first = len(running.room.entries())
    champion, room = running.version, running.room

    def both() -> None:
        with ThreadPoolExecutor(2) as threads:
            stopped = list(threads.map(lambda bank: bank.suspend_all("security"), (room.alice, room.bob)))
        once = [version for versions in stopped for version in versions]
        assert champion in once
        assert len(set(once)) == len(once)

    ended = under_calls(running, 1, both)
    assert judge(running.room.entries(first), champion) == []
    assert "version_suspended" in ended
    check_sound(running.room.home.path)


def test_what_is_being_inspected_stops_too(running: Stage) -> None:
    """Uploads and stops race; whatever was submitted before the last stop began is held back after it."""
    room, going = running.room, threading.Event()

    def submit() -> Sequence[str]:
        going.set()
        recipient = room.alice.verify_enclave(ACCEPT).recipient()
        return [room.alice.replace_rules(running.version, NewRules(running.example.offer.rules), recipient).version]

    with ThreadPoolExecutor(1) as threads:
        submitting = threads.submit(submit)
        going.wait()
        while not submitting.done():
            room.bob.suspend_all("security")
        (made,) = submitting.result()
    room.bob.suspend_all("security")
    kinds = [entry["kind"] for entry in room.entries() if entry.get("version") == made]
    assert sorted(kinds) == ["version.admitted", "version.submitted", "version.suspended"]
    assert room.alice.version(made).state == pb.VERSION_STATE_SUSPENDED
    room.bob.approve(made)
    with refused("transition_refused"):
        room.bob.promote(made)
    check_sound(room.home.path)


def test_the_commands_say_what_was_stopped(running: Stage) -> None:
    """`suspend-all`, `products` and `resume` as a risk officer types them, for people and for programs."""
    place = ["--as", str(running.room.home.path / "clients" / "institution-zhongyuan-alice")]
    place += ["--server", running.room.server]

    def run(*words: str) -> str:
        done = CliRunner().invoke(app, ["bank", *words, *place])
        assert done.exit_code == 0, done.output
        return done.output

    assert running.version in run("suspend-all", "--reason", "security")
    assert "held back already" in run("suspend-all")
    assert run("suspend-all", "--json") == ""
    told = [json.loads(line) for line in run("products", "--json").splitlines()]
    assert {product["held_back_by"] for product in told} == {"institution/zhongyuan"}
    assert json.loads(run("resume", running.version, "--json"))["state"] == "champion"


def test_nobody_else_stops_a_bank_with_it(running: Stage) -> None:
    """Operators and stewards name the version; another bank stops its own alone, which is nothing."""
    for who in (OPERATOR, Principal(Role.STEWARD, "tax")):
        client = running.room.client(Bank, who)
        with refused("permission_refused"):
            client.suspend_all("security")
        with refused("permission_refused"):
            client.products()
    stranger = running.room.client(Bank, Principal(Role.INSTITUTION, "jialing", "eve"))
    with running.room.gains():
        assert stranger.suspend_all("security") == []
        assert stranger.products() == []
