"""A server with evidence = "tsm": the way of real hardware's evidence from the kernel's folder to a bank's verdict."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from enclave_api.attestation.evidence import code_digest
from enclave_api.attestation.hardware import Material
from enclave_api.attestation.policy import Policy
from enclave_api.cli.example import FIELDS, Example
from enclave_api.cli.offer_file import read_bundle, write_offer
from enclave_api.errors import EvidenceRefused
from enclave_api.identity import Role
from model_registry.manifest import verify_manifest
from sandbox.vault.synthetic import World
from tests.integration.conftest import PRODUCT
from tests.room import ACCEPT, ALICE, Room, datasets_of, decision_of
from tests.unit.snp_machine import AT, MEASUREMENT, TCB

MACHINE = [sys.executable, str(Path(__file__).parents[1] / "tsm_machine.py")]
DAY = AT.isoformat()  # the made-up vendor's certificates are of that time


@dataclass
class Hardware:
    """A served room on a made-up confidential machine, and a policy file that accepts it."""

    room: Room
    policy: Path

    def heixia(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command, as alice."""
        command = [sys.executable, "-m", "enclave_api", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def bank(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of a bank that goes to the server."""
        who = ["--as", str(self.room.home.client(ALICE)), "--server", self.room.server]
        return self.heixia("bank", *words, *who)


def policy_text(root: Path, **changes: str) -> str:
    """A policy that accepts the machine."""
    members = {
        "code_digests": f'["{code_digest()}"]',
        "roots": f'["{hashlib.sha256(root.read_bytes()).hexdigest()}"]',
        "measurements": f'["{MEASUREMENT.hex()}"]',
        **changes,
    }
    floor = ", ".join(f"{part} = {number}" for part, number in TCB.items())
    return (
        f"code_digests = {members['code_digests']}\n[sev-snp]\nroots = {members['roots']}\n"
        f"measurements = {members['measurements']}\nminimum_tcb.Milan = {{ {floor} }}\n"
    )


@pytest.fixture(scope="module")
def hardware(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hardware]:
    """A served enclave whose evidence is a report of hardware."""
    folder = tmp_path_factory.mktemp("hardware")
    room = Room.make(folder, evidence='"tsm"')
    room.launcher = [*MACHINE, str(folder), "sev_guest"]
    room.start()
    policy = folder / "evidence.toml"
    policy.write_text(policy_text(folder / "root.der"))
    try:
        yield Hardware(room, policy)
    finally:
        room.stop()


def steps_of(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """The outcome of each step that a command printed."""
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["step"]: line["outcome"] for line in lines if "step" in line}


def test_every_step_passes_over_the_wire_and_from_a_file(hardware: Hardware, tmp_path: Path) -> None:
    """`bank evidence` passes every step and keeps the evidence; a file is judged alike but for nonce and connection."""
    saved = tmp_path / "evidence.json"
    judged = ["--policy", str(hardware.policy), "--at", DAY, "--json"]
    live = hardware.bank("evidence", *judged, "--save", str(saved))
    assert live.returncode == 0, live.stderr
    steps = steps_of(live)
    optional = {"not revoked", "chip accepted", "configuration accepted", "age acceptable"}
    assert {name for name, outcome in steps.items() if outcome != "passed"} == optional
    assert json.loads(live.stdout.splitlines()[-1])["report"]["measurement"] == MEASUREMENT.hex()
    for form in ("heixia", "sev-snp"):
        offline = hardware.heixia("bank", "verify-evidence", str(saved), "--format", form, *judged)
        assert offline.returncode == 0, offline.stderr
        differs = {name for name, outcome in steps_of(offline).items() if outcome != steps[name]}
        assert differs == {"nonce is ours", "TLS key = connection"}
    nonce = json.loads(saved.read_text())["nonce"]
    asked = hardware.heixia("bank", "verify-evidence", str(saved), *judged, "--nonce", nonce)
    assert steps_of(asked)["nonce is ours"] == "passed"
    other = hardware.heixia("bank", "verify-evidence", str(saved), *judged, "--nonce", "00" * 32)
    assert (other.returncode, steps_of(other)["nonce is ours"]) == (1, "failed")


CHANGES = {
    "another measurement": ({"measurements": f'["{"00" * 48}"]'}, "measurement accepted"),
    "another root": ({"roots": f'["{"00" * 32}"]'}, "chain to the vendor's root"),
    "another code": ({"code_digests": f'["{"00" * 32}"]'}, "code digest accepted"),
    "no code": ({"code_digests": "[]"}, "code digest accepted"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_policy_that_asks_for_something_else_refuses(hardware: Hardware, tmp_path: Path, name: str) -> None:
    """The step at fault is the first that failed, and the command's error names it."""
    changes, step = CHANGES[name]
    policy = tmp_path / "other.toml"
    policy.write_text(policy_text(hardware.policy.parent / "root.der", **changes))
    done = hardware.bank("evidence", "--policy", str(policy), "--at", DAY, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout.splitlines()[-1])["failed"] == step
    assert f"{step}: " in done.stderr


def test_accepting_simulated_evidence_accepts_no_hardware_unchecked(hardware: Hardware) -> None:
    """Who wants to wave a simulation through does not wave a report through that he cannot judge."""
    verdict = hardware.room.alice.verify_enclave(ACCEPT)
    assert next(s.name for s in verdict.steps if s.outcome == "failed") == "format accepted"
    with pytest.raises(EvidenceRefused):
        verdict.recipient()


def test_the_time_of_verification_counts(hardware: Hardware) -> None:
    """Certificates that are over at the time asked for end the chain, whatever the clock of this machine says."""
    late = hardware.bank("evidence", "--policy", str(hardware.policy), "--at", "2036-01-01T00:00:00Z", "--json")
    assert (late.returncode, steps_of(late)["chain to the vendor's root"]) == (1, "failed")


def test_the_manifest_names_the_policy_and_decisions_the_evidence(
    hardware: Hardware, world: World, example: Example, tmp_path: Path
) -> None:
    """Sealed under a file, asked, answered: bundle, log and receipt name file, format, evidence; all agree."""
    room = hardware.room
    offer = write_offer(tmp_path / "offer", example.model, example.offer, example.samples())
    bundle, saved = tmp_path / "bundle.heixia", tmp_path / "evidence.json"
    judged = ["--policy", str(hardware.policy), "--at", DAY]
    sealed = hardware.bank("seal", str(offer), "--out", str(bundle), *judged)
    assert sealed.returncode == 0, sealed.stderr
    manifest = verify_manifest(read_bundle(bundle).manifest_jws, room.home.trusted(Role.INSTITUTION))
    assert manifest.evidence_policy == hashlib.sha256(hardware.policy.read_bytes()).hexdigest()
    version = room.alice.submit(read_bundle(bundle)).version
    room.bob.approve(version)
    room.bob.promote(version)
    room.load(world, datasets_of(FIELDS))
    consent = room.consent(world.subjects[0], PRODUCT, datasets_of(FIELDS))
    limit = room.portal.request_limit(subject=world.subjects[0], product=PRODUCT, consent_id=consent)
    (start,) = [entry for entry in room.entries() if entry["kind"] == "enclave.started"]
    decision = decision_of(limit.receipt.entry)
    assert start["evidence_format"] == decision.evidence_format == "sev-snp"
    assert hardware.bank("evidence", *judged, "--save", str(saved)).returncode == 0
    receipt = tmp_path / "receipt.json"
    receipt.write_text(limit.receipt.dump())
    check = ["verify", str(receipt), "--policy", str(room.home.policy), "--json"]
    assert hardware.heixia(*check, "--evidence", str(saved)).returncode == 0
    other = json.loads(saved.read_text())
    other["format"] = "tdx"
    (tmp_path / "other.json").write_text(json.dumps(other))
    refused = hardware.heixia(*check, "--evidence", str(tmp_path / "other.json"))
    assert refused.returncode == 1
    assert json.loads(refused.stdout.splitlines()[-1]) == {
        "step": "evidence is the saved one",
        "ok": False,
        "detail": "of another enclave, start or key",
    }


def test_the_sdk_takes_material_of_its_own(hardware: Hardware) -> None:
    """Rubbish beside the evidence's own certificates changes nothing."""
    verdict = hardware.room.alice.verify_enclave(Policy(), at=AT, material=Material((b"rubbish",), (b"x",), (b"{}",)))
    assert not verdict.accepted


@pytest.mark.parametrize(("provider", "told"), [("", "no hardware behind it"), ("arm_cca_guest", "arm_cca_guest")])
def test_a_server_that_finds_no_hardware_does_not_start(tmp_path: Path, provider: str, told: str) -> None:
    """It ends with what is missing and what to do, before anything is written."""
    room = Room.make(tmp_path, evidence='"tsm"')
    command = [*MACHINE, str(tmp_path), provider, sys.executable, "-m", "enclave_api", "serve"]
    done = subprocess.run(
        [*command, "--home", str(room.home.path), "--listen", "127.0.0.1:0", "--metrics", "off"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert told in done.stderr
    assert "[evidence_unavailable]" in done.stderr
    assert "Traceback" not in done.stderr
    assert room.entries() == []


def test_a_server_on_a_plain_machine_says_what_is_missing(tmp_path: Path) -> None:
    """Without configfs-tsm, the real place, the words say what it takes."""
    if Path("/sys/kernel/config/tsm/report").exists():
        pytest.skip("this machine has configfs-tsm")
    room = Room.make(tmp_path, evidence='"tsm"')
    command = [sys.executable, "-m", "enclave_api", "serve", "--home", str(room.home.path), "--listen", "127.0.0.1:0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "configfs-tsm" in done.stderr
