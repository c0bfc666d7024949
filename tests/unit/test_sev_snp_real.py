"""SEV-SNP reports and certificates of real machines, with the verdicts that they are known to deserve."""

import json
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from enclave_api.attestation.hardware import HardwareVerdict, Material
from enclave_api.attestation.material import from_hex
from enclave_api.attestation.sev_snp_report import REPORT_BYTES
from enclave_api.attestation.verify_sev_snp import SevSnpPolicy, verify_sev_snp
from enclave_api.attestation.x509_chain import certificates_of

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "fixtures" / "attestation"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the machines' evidence is not at {FOLDER}")

# SHA-256 of the ARKs of https://kdsintf.amd.com/vcek/v1/{Milan,Genoa}/cert_chain
ROOTS = {
    "milan": "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
    "genoa": "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
}
FLOOR = {"bootloader": 2, "tee": 0, "snp": 5, "microcode": 68}
FAILS = {
    "snp-milan-azure": set[str](),
    "snp-milan-kvm": set[str](),
    "snp-azure-vtpm-milan": set[str](),
    "snp-milan-debug": {"debug off"},
}
HCL_OFFSET = 32  # Azure's envelope: the report lies behind its header


def entries() -> dict[str, dict[str, Any]]:
    """What is known of each piece, by its id; nothing where the evidence is absent."""
    path = FOLDER / "expected.json"
    return {entry["id"]: entry for entry in json.loads(path.read_text())} if path.exists() else {}


ENTRIES = entries()


def evidence(identifier: str) -> tuple[bytes, tuple[bytes, ...]]:
    """A report, and its VCEK as DER."""
    files = [FOLDER / file["file"] for file in ENTRIES[identifier]["files"]]
    if identifier == "snp-azure-vtpm-milan":
        document = json.loads(files[0].read_bytes())
        report = bytes(document["report"])[HCL_OFFSET : HCL_OFFSET + REPORT_BYTES]
        return report, certificates_of(document["vcek"].encode())
    return from_hex(files[0].read_bytes()), certificates_of(files[1].read_bytes())


def issuers(line: str) -> tuple[bytes, ...]:
    """ASK and ARK."""
    return certificates_of((FOLDER / "snp" / f"ask_ark_{line}.pem").read_bytes())


def policy_for(report: bytes, **changes: Any) -> SevSnpPolicy:
    """Accepts the report's measurement, on Milan and Genoa."""
    members = {
        "roots": list(ROOTS.values()),
        "measurements": [report[0x90:0xC0].hex()],
        "minimum_tcb": {"Milan": FLOOR, "Genoa": FLOOR},
    }
    return SevSnpPolicy(**{**members, **changes})


def judge(identifier: str, leaf: tuple[bytes, ...], line: str = "milan", at: datetime | None = None) -> HardwareVerdict:
    """The verdict on a report with a certificate."""
    report, _ = evidence(identifier)
    return verify_sev_snp(report, Material((*leaf, *issuers(line))), policy_for(report), at or moment(identifier))


def moment(identifier: str, end: int = 0) -> datetime:
    """When the certificate begins (0) or ends (1)."""
    return datetime.fromisoformat(ENTRIES[identifier]["leaf_validity"][end])


def failed(verdict: HardwareVerdict) -> set[str]:
    """Names of the steps that failed."""
    return {step.name for step in verdict.steps if step.outcome == "failed"}


@pytest.mark.parametrize("end", [0, 1])
@pytest.mark.parametrize("identifier", FAILS)
def test_the_verdict_is_the_known_one(identifier: str, end: int) -> None:
    """From the first to the last second of the certificate; and the members are those that others read."""
    leaf = evidence(identifier)[1]
    verdict = judge(identifier, leaf, at=moment(identifier, end))
    assert failed(verdict) == FAILS[identifier]
    facts = ENTRIES[identifier]["facts"]
    assert verdict.report_data.hex() == facts["report_data"]
    shared = facts.keys() & verdict.facts.keys()
    assert {name: verdict.facts[name] for name in shared} == {name: facts[name] for name in shared}
    assert {"measurement", "policy", "debug", "vmpl", "guest_svn", "chip_id", "reported_tcb"} <= shared


def test_all_that_is_known_is_tested() -> None:
    """A new piece of evidence must get its line here."""
    known = {name for name in ENTRIES if name.startswith("snp-")}
    assert known == {*FAILS, "snp-milan-bad-vcek", "snp-wrong-vcek-pairs"}


@pytest.mark.parametrize(("identifier", "other"), [pair for pair in product(FAILS, FAILS) if pair[0] != pair[1]])
def test_another_chip_s_certificate_is_refused(identifier: str, other: str) -> None:
    """It is AMD's, but neither its chip nor its key is the report's."""
    at = max(moment(identifier), moment(other))
    refused = failed(judge(identifier, evidence(other)[1], at=at))
    assert refused == {"certificate matches report", "report signature"}


@pytest.mark.parametrize("identifier", FAILS)
def test_the_issuers_of_another_line_are_refused(identifier: str) -> None:
    """A VCEK of a Milan under Genoa's chain."""
    assert failed(judge(identifier, evidence(identifier)[1], "genoa")) == {"chain to the vendor's root"}


def test_a_made_up_certificate_is_refused() -> None:
    """It names SEV-Milan as its issuer, which did not sign it."""
    leaf = certificates_of((FOLDER / "snp/milan_bad_vcek/vcek.der").read_bytes())
    at = moment("snp-milan-bad-vcek")
    for identifier in FAILS:
        verdict = judge(identifier, leaf, at=max(at, moment(identifier)))
        assert failed(verdict) == {"chain to the vendor's root"}
        assert "not signed by SEV-Milan" in verdict.steps[1].reason


def test_an_expired_certificate_is_refused() -> None:
    """By a clock beyond its end."""
    _, leaf = evidence("snp-milan-azure")
    at = moment("snp-milan-azure", 1).replace(year=2031)
    assert failed(judge("snp-milan-azure", leaf, at=at)) == {"chain to the vendor's root"}


def test_the_chip_and_the_floor_are_judged() -> None:
    """Two chips told apart; Azure's host reports a lower microcode than it runs, and that counts."""
    report, leaf = evidence("snp-milan-azure")
    material, at = Material((*leaf, *issuers("milan"))), moment("snp-milan-azure")
    mine, other = (ENTRIES[name]["facts"]["chip_id"] for name in ("snp-milan-azure", "snp-milan-kvm"))

    def refused(**changes: Any) -> set[str]:
        return failed(verify_sev_snp(report, material, policy_for(report, **changes), at))

    assert refused(chips=[mine, other]) == set()
    assert refused(chips=[other]) == {"chip accepted"}
    assert refused(minimum_tcb={"Milan": {**FLOOR, "microcode": 0x73}}) == set()
    assert refused(minimum_tcb={"Milan": {**FLOOR, "microcode": 0xCE}}) == {"TCB floor met"}


@pytest.mark.parametrize("identifier", FAILS)
def test_flipped_bits_and_bytes_are_refused(identifier: str) -> None:
    """A sample of the report's signed bits, and of the bytes of its VCEK and ASK, through the whole verifier.

    All 5,376 bits are flipped in test_verify_sev_snp.py.
    """
    report, leaf = evidence(identifier)
    policy, at = policy_for(report), moment(identifier)
    certificates = (*leaf, *issuers("milan"))
    for bit in range(0, 0x2A0 * 8, 67):
        bad = bytearray(report)
        bad[bit // 8] ^= 1 << bit % 8
        refused = failed(verify_sev_snp(bytes(bad), Material(certificates), policy, at))
        assert refused & {"report readable", "chain to the vendor's root", "report signature"}, bit
    for index, position in product((0, 1), range(0, 1300, 41)):
        ders = [bytearray(der) for der in certificates]
        ders[index][position] ^= 0x80
        refused = failed(verify_sev_snp(report, Material(tuple(map(bytes, ders))), policy, at))
        assert refused == {"chain to the vendor's root"}, (index, position)
