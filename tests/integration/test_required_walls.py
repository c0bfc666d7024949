"""Servers on kernels that really lack walls: refused, or served weakly and named so everywhere."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from enclave_api.attestation.evidence import code_digest
from enclave_api.attestation.policy import Policy, UnsafeAcceptSimulated, UnsafeAcceptWarm, UnsafeAcceptWeakIsolation
from enclave_api.cli.example import FIELDS, LEVELS, Example
from enclave_api.cli.main import app
from enclave_api.cli.offer_file import write_offer
from enclave_api.client.application import Limit
from sandbox.jail.required import REQUIRED, missing
from sandbox.vault.synthetic import World
from tests.integration.conftest import PRODUCT, Stage
from tests.room import ACCEPT, ALICE, Room, datasets_of, decision_of

POORER = [sys.executable, str(Path(__file__).parents[1] / "poorer_kernel.py")]
HEIXIA = [sys.executable, "-m", "enclave_api"]
# what is refused → what is missing then, and a word of what to do about it
LACKING = {
    "landlock": ({"landlock"}, "CONFIG_SECURITY_LANDLOCK"),
    "namespaces": ({name for name in REQUIRED if name.endswith("_namespace")} | {"empty_root"}, "max_user_namespaces"),
    "seccomp": ({"seccomp", "one_shot_seccomp"}, "CONFIG_SECCOMP_FILTER"),
    "mount": ({"empty_root"}, "pivot_root"),
}
# Accepts weak isolation and what nobody vouches for.
WEAK = Policy(simulated=UnsafeAcceptSimulated(), weak_isolation=UnsafeAcceptWeakIsolation())


def files_of(home: Path) -> dict[str, bytes]:
    """Every file of a home but the lock, which says nothing."""
    return {
        str(p): p.read_bytes() for p in home.rglob("*") if p.is_file() and p.name not in ("serve.lock", "serve.log")
    }


def group(leader: int) -> list[int]:
    """The processes of a group: a server's zygote and what it forked are in its own."""
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with suppress(ProcessLookupError):
            found += [pid] if os.getpgid(pid) == leader else []
    return found


def ends(pid: int) -> bool:
    """Whether a process has ended, or does so within seconds; who inherits it may take longer to bury it."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    ended = poll.poll(5_000)
    os.close(handle)
    return bool(ended)


@pytest.mark.parametrize("lacking", LACKING)
def test_walls_that_a_kernel_refuses_are_reported(lacking: str) -> None:
    """`heixia jail walls` names exactly what is gone, with the reason and what to do, and exits with 1."""
    names, remedy = LACKING[lacking]
    done = subprocess.run(
        [*POORER, lacking, *HEIXIA, "jail", "walls", "--json"], capture_output=True, text=True, check=False
    )
    told = json.loads(done.stdout)
    assert set(told["missing"]) == names == {name for name, wall in told["walls"].items() if not wall["on"]}
    assert done.returncode == 1
    assert "[walls_missing]" in done.stderr
    assert all(name in done.stderr for name in names)
    assert remedy in done.stderr


def test_root_without_other_ids_is_reported() -> None:
    """Root of a container that has one id alone cannot give root up; the report says so."""
    command = ["unshare", "--map-root-user", *HEIXIA, "jail", "walls", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr:
        pytest.skip(f"this machine refuses user namespaces: {done.stderr}")
    assert json.loads(done.stdout)["missing"] == ["unprivileged_user"]
    assert "as an ordinary user" in done.stderr


@pytest.mark.parametrize("lacking", ["landlock", "namespaces"])
def test_a_server_without_a_required_wall_does_not_start(lacking: str, tmp_path: Path) -> None:
    """Exit code 1, each wall named with what to do; no entry, no file, no process stays behind."""
    home = Room.make(tmp_path).home.path
    before = files_of(home)
    command = [*POORER, lacking, *HEIXIA, "serve", "--home", str(home), "--listen", "127.0.0.1:0", "--metrics", "off"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    out, err = process.communicate(timeout=60)
    names, remedy = LACKING[lacking]
    assert (process.returncode, out) == (1, "")
    assert "[walls_missing]" in err
    assert all(name in err for name in names)
    assert remedy in err
    assert "--accept-weak-isolation" in err
    assert "Traceback" not in err
    assert files_of(home) == before
    assert all(ends(pid) for pid in group(process.pid))


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """A server told to go on without Landlock and namespaces."""
    room = Room.make(tmp_path_factory.mktemp("weak"))
    room.launcher = [*POORER, "landlock,namespaces"]
    room.start("--accept-weak-isolation")
    yield room
    assert room.stop() == 0


def test_a_weak_server_says_so_at_start_in_evidence_and_log(weak: Room) -> None:
    """A loud notice with the walls and reasons, the claims, and the first entry of the log."""
    told = weak.log.read_text()
    assert "WEAK ISOLATION" in told
    assert "landlock (Function not implemented)" in told
    verdict = weak.alice.verify_enclave(WEAK)
    assert verdict.accepted
    assert verdict.claims["isolation"] == "one-shot-weak"
    assert verdict.claims["walls"]["landlock"] == {"on": False, "why": "Function not implemented"}
    first = weak.entries()[0]
    assert (first["kind"], first["isolation"]) == ("enclave.started", "one-shot-weak")


def bank(room: Room, command: str, *words: str) -> Result:
    """A bank's command, which accepts simulated evidence."""
    access = ["--as", str(room.home.client(ALICE)), "--server", room.server, "--accept-simulated"]
    return CliRunner().invoke(app, ["bank", command, *access, *words])


def test_a_banks_client_refuses_a_weak_server(weak: Room, example: Example, tmp_path: Path) -> None:
    """Neither SDK nor command line seals to it: the step and the walls are named, and no bundle is written."""
    verdict = weak.alice.verify_enclave(ACCEPT)
    assert [step.name for step in verdict.steps if step.outcome == "failed"] == ["walls acceptable"]
    offer, bundle = write_offer(tmp_path, example.model, example.offer, []), tmp_path / "bundle"
    for refused in (bank(weak, "evidence"), bank(weak, "seal", str(offer), "--out", str(bundle))):
        assert refused.exit_code == 1
        assert "[evidence_refused]" in refused.stderr
        assert "landlock" in refused.stderr
        assert "user_namespace" in refused.stderr
    assert not bundle.exists()


def test_a_policy_file_accepts_the_walls_that_it_names(weak: Room, tmp_path: Path) -> None:
    """A bank that wrote the missing walls down is served by the command line; with one less written, not."""
    policy = tmp_path / "evidence.toml"
    lacking = missing(weak.alice.verify_enclave(WEAK).claims["walls"])
    words = ["bank", "evidence", "--as", str(weak.home.client(ALICE)), "--server", weak.server, "--policy", str(policy)]
    for names, code in ((lacking, 0), (lacking[1:], 1)):
        text = (
            f'accept_simulated = true\ncode_digests = ["{code_digest()}"]\naccept_missing_walls = {json.dumps(names)}\n'
        )
        policy.write_text(text)
        assert CliRunner().invoke(app, words).exit_code == code


def decide(room: Room, policy: Policy, world: World, example: Example) -> Limit:
    """A bank that accepts by this policy is served, and one company gets its answer."""
    room.load(world, datasets_of(FIELDS))
    recipient = room.alice.verify_enclave(policy).recipient()
    sealed = room.alice.seal(example.model, example.offer, recipient, example.samples())
    version = room.alice.submit(sealed).version
    room.bob.approve(version)
    room.bob.promote(version)
    subject = world.subjects[0]
    consent_id = room.consent(subject, PRODUCT, datasets_of(FIELDS))
    answer = room.portal.request_limit(subject=subject, product=PRODUCT, consent_id=consent_id)
    assert answer.yuan in LEVELS
    return answer


def test_a_decision_of_a_weak_server_says_so(weak: Room, world: World, example: Example) -> None:
    """A bank that accepts weakness is served, by walled processes still; decision and receipt name the isolation."""
    answer = decide(weak, WEAK, world, example)
    assert decision_of(answer.receipt.entry).isolation == "one-shot-weak"
    receipt = weak.home.path.parent / "receipt.json"
    receipt.write_text(answer.receipt.dump())
    shown = CliRunner().invoke(app, ["verify", str(receipt), "--policy", str(weak.home.policy)])
    assert "isolation one-shot-weak" in shown.stdout


def test_whole_walls_are_the_required_ones_and_named_plainly(stage: Stage) -> None:
    """A real report has exactly the required walls; evidence, start and decisions say `one-shot`."""
    verdict = stage.room.alice.verify_enclave(ACCEPT)
    assert set(verdict.claims["walls"]) == set(REQUIRED)
    assert verdict.claims["isolation"] == "one-shot"
    assert stage.room.entries()[0]["isolation"] == "one-shot"
    subject, consent_id = stage.world.subjects[5], stage.consent(5)
    answer = stage.room.portal.request_limit(subject=subject, product=PRODUCT, consent_id=consent_id)
    assert decision_of(answer.receipt.entry).isolation == "one-shot"
    assert "WEAK ISOLATION" not in stage.room.log.read_text()


def test_accepting_weakness_where_there_is_none_changes_nothing(tmp_path: Path, stage: Stage) -> None:
    """The option is a permission: with every wall on, evidence and notice are those of any server."""
    room = Room.make(tmp_path).start("--accept-weak-isolation")
    try:
        assert room.alice.verify_enclave(ACCEPT).claims["isolation"] == "one-shot"
        assert "WEAK ISOLATION" not in room.log.read_text()
    finally:
        room.stop()


def test_warm_isolation_is_a_setting_that_evidence_shows(tmp_path: Path, world: World, example: Example) -> None:
    """Another mode, another configuration digest, a notice to the operator; a client refuses it unless told."""
    room = Room.make(tmp_path).start()
    one_shot = room.alice.verify_enclave(ACCEPT).claims
    room.stop()
    assert "WARM ISOLATION" not in room.log.read_text()
    settings = room.home.path / "heixia.toml"
    settings.write_text(settings.read_text().replace('isolation = "one-shot"', 'isolation = "warm"'))
    room.start()
    try:
        verdict = room.alice.verify_enclave(ACCEPT)
        assert "WARM ISOLATION" in room.log.read_text()
        assert [step.name for step in verdict.steps if step.outcome == "failed"] == ["isolation acceptable"]
        assert (one_shot["isolation"], verdict.claims["isolation"]) == ("one-shot", "warm")
        assert verdict.claims["config_digest"] != one_shot["config_digest"]
        warm = Policy(simulated=UnsafeAcceptSimulated(), warm=UnsafeAcceptWarm())
        assert decision_of(decide(room, warm, world, example).receipt.entry).isolation == "warm"
        starts = [entry for entry in room.entries() if entry["kind"] == "enclave.started"]
        assert [entry["isolation"] for entry in starts] == ["one-shot", "warm"]
    finally:
        room.stop()


def test_an_unknown_isolation_is_no_setting(tmp_path: Path) -> None:
    """A mode that does not exist is refused by name, not read as the default."""
    room = Room.make(tmp_path, isolation='"loose"')
    with pytest.raises(RuntimeError, match=r"isolation.*\[home_invalid\]"):
        room.start()
