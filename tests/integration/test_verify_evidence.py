"""`heixia bank verify-evidence` as a bank's officer uses it: real machines' evidence, files, a policy, a time."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from enclave_api.attestation.evidence import Evidence
from enclave_api.attestation.policy_template import ROOTS
from enclave_api.attestation.saved import SAVED_BYTES_MAX, Saved
from enclave_api.attestation.simulated import simulated
from tests.conftest import SHARED, fixture_file
from tests.unit.test_evidence_policy import NONCE, NOW, facts

FOLDER = SHARED / "attestation"
AZURE, PHALA = FOLDER / "snp/milan_azure", FOLDER / "tdx/v4_phala"
MILAN = FOLDER / "snp/ask_ark_milan.pem"


def entry(identifier: str) -> dict[str, Any]:
    """What is known of a piece of evidence."""
    known = json.loads(fixture_file("attestation/expected.json").read_text())
    found = next(piece for piece in known if piece["id"] == identifier)
    assert isinstance(found, dict)
    return found


def run(*words: object) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own."""
    command = [sys.executable, "-m", "enclave_api", "bank", "verify-evidence", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def told(done: subprocess.CompletedProcess[str]) -> tuple[dict[str, str], dict[str, Any]]:
    """Each step's outcome, and the verdict."""
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["step"]: line["outcome"] for line in lines[:-1]}, lines[-1]


def snp_policy(folder: Path, measurement: str, **changes: str) -> Path:
    """A policy file that accepts a Milan guest."""
    lines = {
        "roots": f'["{ROOTS["ARK-Milan"]}"]',
        "measurements": f'["{measurement}"]',
        "minimum_tcb.Milan": "{ bootloader = 2, tee = 0, snp = 5, microcode = 68 }",
        "vmpl_max": "3",
        **changes,
    }
    return _written(folder / "snp.toml", "sev-snp", lines)


def tdx_policy(folder: Path, measurement: str, **changes: str) -> Path:
    """A policy file that accepts a TDX guest."""
    lines = {"roots": f'["{ROOTS["Intel SGX Root CA"]}"]', "measurements": f'["{measurement}"]', **changes}
    return _written(folder / "tdx.toml", "tdx", lines)


def _written(path: Path, table: str, lines: Mapping[str, str]) -> Path:
    path.write_text(f"[{table}]\n" + "".join(f"{name} = {value}\n" for name, value in lines.items()))
    return path


SNP = {
    "snp-milan-azure": ("report.bin", None),
    "snp-milan-kvm": ("report.hex", None),
    "snp-milan-debug": ("report.bin", "debug off"),
}


@pytest.mark.parametrize("identifier", SNP)
@pytest.mark.parametrize("as_folder", [True, False])
def test_reports_of_real_machines(identifier: str, as_folder: bool, tmp_path: Path) -> None:
    """Binary or hex, certificates as files or as folder: the known verdict, the step at fault named, claims skipped."""
    name, fails = SNP[identifier]
    values = entry(identifier)["facts"]
    folder = fixture_file("attestation/snp") / identifier.removeprefix("snp-").replace("-", "_")
    certs: Sequence[Path] = [folder, MILAN] if as_folder else [folder / "vcek.der", MILAN]
    words = ["--format", "sev-snp", "--policy", snp_policy(tmp_path, values["measurement"])]
    words += ["--at", "2024-06-01T00:00:00Z", "--report-data", values["report_data"], "--json"]
    done = run(folder / name, *words, *(word for path in certs for word in ("--certs", path)))
    steps, verdict = told(done)
    assert (done.returncode, verdict["failed"]) == ((1, fails) if fails else (0, None)), done.stderr
    assert verdict["report"]["measurement"] == values["measurement"]
    assert {steps[name] for name in ("nonce is ours", "code digest accepted", "TLS key = connection")} == {"skipped"}
    assert steps["report data as expected"] == "passed"
    assert as_folder == (name in done.stderr)  # the report lies among the certificates, and is of no use there


FAULTS: dict[str, tuple[Sequence[str], str]] = {
    "another chip's certificate": (
        ["--certs", str(FOLDER / "snp/milan_kvm/vcek.der"), "--certs", str(MILAN)],
        "certificate matches report",
    ),
    "a made-up certificate": (
        ["--certs", str(FOLDER / "snp/milan_bad_vcek/vcek.der"), "--certs", str(MILAN)],
        "chain to the vendor's root",
    ),
    "no chain": (["--certs", str(AZURE / "vcek.der")], "chain to the vendor's root"),
    "another line's chain": (
        ["--certs", str(AZURE / "vcek.der"), "--certs", str(FOLDER / "snp/ask_ark_genoa.pem")],
        "chain to the vendor's root",
    ),
    "no certificates": ([], "chain to the vendor's root"),
    "other report data": (
        ["--certs", str(AZURE / "vcek.der"), "--certs", str(MILAN), "--report-data", "00" * 64],
        "report data as expected",
    ),
    "after the certificate": (
        ["--certs", str(AZURE / "vcek.der"), "--certs", str(MILAN), "--at", "2031-01-01T00:00:00Z"],
        "chain to the vendor's root",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_ends_with_its_step(name: str, tmp_path: Path) -> None:
    """Exit code 1, and the step at fault is named on both outputs."""
    words, step = FAULTS[name]
    report = fixture_file("attestation/snp/milan_azure/report.bin")
    policy = snp_policy(tmp_path, entry("snp-milan-azure")["facts"]["measurement"])
    when = [] if "--at" in words else ["--at", "2024-06-01T00:00:00Z"]
    done = run(report, "--format", "sev-snp", "--policy", policy, "--json", *words, *when)
    steps, verdict = told(done)
    assert (done.returncode, verdict["verdict"]) == (1, "refused")
    assert steps[step] == "failed"
    assert steps["not simulated"] == ("passed" if step == "report data as expected" else "skipped")
    assert "[evidence_refused]" in done.stderr


def test_a_quote_with_its_collateral(tmp_path: Path) -> None:
    """Valid inside the collateral's time and refused after it; without collateral refused as well."""
    quote = fixture_file("attestation/tdx/v4_phala/quote.dat")
    values = entry("tdx-v4-phala")["facts"]
    policy = tdx_policy(tmp_path, values["mrtd"])
    words = [quote, "--format", "tdx", "--policy", policy, "--json"]
    begin, end = (datetime.fromisoformat(text) for text in values["collateral_window"])
    inside = (begin + (end - begin) / 2).isoformat()
    good = run(*words, "--certs", PHALA, "--at", inside)
    assert (good.returncode, told(good)[1]["failed"]) == (0, None), good.stdout
    for changed in (["--certs", PHALA, "--at", "2026-01-01T00:00:00Z"], ["--at", inside]):
        done = run(*words, *changed)
        assert (done.returncode, told(done)[1]["verdict"]) == (1, "refused")


def test_people_read_a_checklist(tmp_path: Path) -> None:
    """Without --json a line a step, with its mark and its reason, and what the report says to put into a policy."""
    report = fixture_file("attestation/snp/milan_azure/report.bin")
    measurement = entry("snp-milan-azure")["facts"]["measurement"]
    words = ["--certs", AZURE / "vcek.der", MILAN, "--at", "2024-06-01"]
    done = run(report, "--format", "sev-snp", "--policy", snp_policy(tmp_path, measurement), *words)
    assert done.returncode == 0, done.stderr
    assert "✓  chain to the vendor's root" in done.stdout
    assert "–  nonce is ours" in done.stdout
    refused = run(report, "--format", "sev-snp", "--policy", snp_policy(tmp_path, "00" * 48), *words)
    assert "✗  measurement accepted" in refused.stdout
    assert measurement[:40] in refused.stdout.replace("\n", "")


def saved(folder: Path, evidence: Evidence) -> Path:
    """A file as `heixia bank evidence --save` writes it."""
    path = folder / "evidence.json"
    path.write_text(Saved.of(evidence, NONCE).dump())
    return path


def development(folder: Path, *lines: str) -> Path:
    """A policy file that accepts simulated evidence of the code in `facts`."""
    path = folder / "evidence.toml"
    path.write_text("\n".join(["accept_simulated = true", f'code_digests = ["{facts().code_digest}"]', *lines]))
    return path


def test_saved_evidence_is_judged_by_the_policy_and_the_time(tmp_path: Path) -> None:
    """Accepted in its time, refused when too old; refused without a policy, which is said with what to do."""
    file = saved(tmp_path, simulated(facts().claims(NONCE, NOW)))
    policy = development(tmp_path, "age_minutes_max = 60")
    now = ["--at", NOW.isoformat()]
    assert run(file, "--policy", policy, *now).returncode == 0
    assert run(file, "--policy", policy, *now, "--format", "simulated").returncode == 0
    old = run(file, "--policy", policy, "--json")  # by the clock of this machine
    assert (old.returncode, told(old)[1]["failed"]) == (1, "age acceptable")
    bare = run(file, *now)
    assert bare.returncode == 1
    assert "--accept-simulated" in bare.stderr
    assert run(file, *now, "--accept-simulated").returncode == 0


WRONG_FILES: dict[str, tuple[bytes, Sequence[str]]] = {
    "not saved evidence": (b"report", []),
    "empty": (b"", []),
    "another schema": (b'{"schema": "heixia.saved-evidence/v2"}', []),
    "too long": (b" " * (SAVED_BYTES_MAX + 1), []),
    "malformed base64": (
        Saved.of(Evidence(b"c", "simulated", b"r"), NONCE).model_copy(update={"claims": "?"}).dump().encode(),
        [],
    ),
    "another format": (Saved.of(Evidence(b"c", "simulated", b"r"), NONCE).dump().encode(), ["--format", "tdx"]),
    "a nonce for a raw report": (bytes(1184), ["--format", "sev-snp", "--nonce", "00" * 32]),
    "report data for claims": (
        Saved.of(Evidence(b"c", "simulated", b"r"), NONCE).dump().encode(),
        ["--report-data", "00" * 64],
    ),
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_a_file_that_is_none_is_refused_in_words(name: str, tmp_path: Path) -> None:
    """One line that names the file and what is wrong with it; no trace."""
    content, words = WRONG_FILES[name]
    file = tmp_path / "evidence.json"
    file.write_bytes(content)
    done = run(file, "--policy", development(tmp_path), *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert "[evidence_unreadable]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--format", "sgx"],
        ["--at", "tomorrow"],
        ["--at", "0001-01-01T00:00:00+05:00"],
        ["--report-data", "00"],
        ["--nonce", "no hex"],
        ["--accept-simulated", "--policy", "evidence.toml"],
        ["another.json"],
    ],
)
def test_wrong_use_is_told_apart_from_refusal(words: list[str], tmp_path: Path) -> None:
    """Exit code 2: nothing was judged."""
    file = saved(tmp_path, simulated(facts().claims(NONCE, NOW)))
    done = run(file, *words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_missing_files_are_named(tmp_path: Path) -> None:
    """Of evidence, policy and certificates, whichever is absent."""
    file, policy = saved(tmp_path, simulated(facts().claims(NONCE, NOW))), development(tmp_path)
    absent = tmp_path / "absent"
    for words in (
        [absent, "--policy", policy],
        [file, "--policy", absent],
        [file, "--policy", policy, "--certs", absent],
    ):
        done = run(*words)
        assert done.returncode == 1
        assert f"{absent}: No such file" in done.stderr
