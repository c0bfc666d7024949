"""Real TDX quotes with real collateral: the verdicts of expected.json, at pinned times."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from enclave_api.attestation.hardware import HardwareVerdict, Material
from enclave_api.attestation.steps import StepFailed
from enclave_api.attestation.tdx_collateral import collateral_of
from enclave_api.attestation.tdx_pck import platform_of
from enclave_api.attestation.tdx_quote import parse_quote
from enclave_api.attestation.tdx_statements import QeIdentity, TcbInfo, read_statement
from enclave_api.attestation.tdx_tcb import check_module, check_qe, platform_level
from enclave_api.attestation.verify_tdx import (
    CHAIN,
    DEBUG,
    GUEST,
    LEVEL,
    MODULE,
    QE_IDENTITY,
    QE_REPORT,
    READABLE,
    REVOKED,
    SIGNATURE,
    STATUS,
    STEPS,
    TCB_INFO,
    TdxPolicy,
    verify_tdx,
)
from enclave_api.attestation.x509_certificates import certificates_of, readable_certificates
from tests.conftest import fixture_file
from tests.unit.tdx_machine import failed, flipped, outcomes, reason

INTEL_ROOT = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"
INSIDE = datetime(2025, 7, 1, tzinfo=UTC)
SAMPLE_TIME = datetime(2026, 2, 10, tzinfo=UTC)
QUOTES = ("v4_phala", "v4_spr", "v5_sample", "v4_debug")
FACTS = {
    "mrtd": "mrtd",
    "mr_seam": "mrseam",
    "mr_config_id": "mrconfigid",
    "td_attributes": "td_attributes",
    "xfam": "xfam",
    "tee_tcb_svn": "tcb_svn",
    "debug": "debug",
    "fmspc": "fmspc",
    "pce_svn": "pcesvn",
    "cpu_svn_components": "cpusvn_components",
    **{f"rtmr{number}": f"rtmr{number}" for number in range(4)},
}


def read(name: str) -> bytes:
    """A file of the fixtures."""
    return fixture_file(f"attestation/tdx/{name}").read_bytes()


def expected(name: str) -> dict[str, Any]:
    """What expected.json says of a quote."""
    rows = json.loads(fixture_file("attestation/expected.json").read_bytes())
    row: dict[str, Any] = next(row for row in rows if row["id"] == f"tdx-{name.replace('_', '-')}")
    return row


def material(*documents: str, crls: tuple[str, ...] = (), chain: bool = True) -> Material:
    """Files by name; the issuer chain of Intel's statements is in a bundle with much else."""
    bundle = json.loads(read("v4_phala/collateral.json"))
    certificates = (bundle["tcb_info_issuer_chain"].encode(),) if chain else ()
    return Material(certificates, tuple(map(read, crls)), tuple(map(read, documents)))


def policy(name: str, **changes: Any) -> TdxPolicy:
    """Intel's root and the quote's own measurement are accepted."""
    return TdxPolicy(**({"roots": (INTEL_ROOT,), "measurements": (expected(name)["facts"]["mrtd"],)} | changes))


def verdict(name: str, given: Material, at: datetime, quote: bytes | None = None, **changes: Any) -> HardwareVerdict:
    """The verdict on one of the quotes."""
    return verify_tdx(quote or read(f"{name}/quote.dat"), given, policy(name, **changes), at)


def test_quote_with_its_whole_collateral_passes_every_step_inside_the_window() -> None:
    """A version 4 quote of a module of TDX 1.5, padded, with one bundle as its only material."""
    found = verdict("v4_phala", material("v4_phala/collateral.json", chain=False), INSIDE)
    assert outcomes(found) == dict.fromkeys(STEPS, "passed")
    assert found.report_data.hex() == expected("v4_phala")["facts"]["report_data"]
    assert {found.facts[f"{what}_status"] for what in ("tcb", "qe", "module", "platform")} == {"UpToDate"}


@pytest.mark.parametrize("edge", ["begin", "end"])
def test_collateral_holds_to_the_second(edge: str) -> None:
    """At the ends of the window all is well; one second beyond it is refused."""
    begin, end = map(datetime.fromisoformat, expected("v4_phala")["facts"]["collateral_window"])
    second = timedelta(seconds=1)
    at, beyond = (begin, begin - second) if edge == "begin" else (end, end + second)
    given = material("v4_phala/collateral.json", chain=False)
    assert not failed(verdict("v4_phala", given, at))
    assert failed(verdict("v4_phala", given, beyond))


@pytest.mark.parametrize("at", [INSIDE - timedelta(days=60), INSIDE + timedelta(days=60)])
def test_stale_and_early_collateral_is_refused(at: datetime) -> None:
    """Statements and lists are judged at the time asked for, not at that of the machine."""
    found = verdict("v4_phala", material("v4_phala/collateral.json", chain=False), at)
    assert {TCB_INFO, QE_IDENTITY, REVOKED} <= set(failed(found))
    assert outcomes(found)[STATUS] == "skipped"


@pytest.mark.parametrize("name", QUOTES)
def test_facts_are_what_expected_json_says(name: str) -> None:
    """Measurements, versions and the platform are read as other programs read them."""
    facts = expected(name)["facts"]
    found = verdict(name, material(), SAMPLE_TIME).facts
    assert {ours: found[ours] for ours in FACTS} == {ours: facts[theirs] for ours, theirs in FACTS.items()}


@pytest.mark.parametrize("name", QUOTES)
def test_signatures_of_every_real_quote_hold(name: str) -> None:
    """Chain to Intel's root, QE report and quote; without collateral no more than those pass."""
    found = outcomes(verdict(name, Material(), SAMPLE_TIME))
    assert {step for step, outcome in found.items() if outcome == "passed"} == {READABLE, CHAIN, QE_REPORT, SIGNATURE}
    assert {found[name] for name in (REVOKED, QE_IDENTITY, TCB_INFO)} == {"failed"}


def test_version_5_passes_what_its_collateral_reaches() -> None:
    """TDX 1.5 body, TCB info beside it: level and module are up to date; a QE identity is never taken for granted."""
    given = material("v5_sample/tcbinfo.json")
    found = verdict("v5_sample", given, SAMPLE_TIME, require_crls=False)
    assert failed(found) == [QE_IDENTITY]
    assert {outcomes(found)[step] for step in (CHAIN, QE_REPORT, SIGNATURE, TCB_INFO, MODULE, LEVEL)} == {"passed"}
    assert (found.facts["module_status"], found.facts["platform_status"]) == ("UpToDate", "UpToDate")
    assert outcomes(found)[REVOKED] == "skipped"
    assert set(failed(verdict("v5_sample", given, SAMPLE_TIME))) == {REVOKED, QE_IDENTITY, TCB_INFO}


def test_version_5_passes_with_the_quoting_enclave_named_by_the_policy() -> None:
    """The verdict of expected.json, by a policy that does without the statements that nobody kept."""
    intel = {"mr_signer": json.loads(json.loads(read("v4_phala/collateral.json"))["qe_identity"])["mrsigner"].lower()}
    pin = {**intel, "isv_prod_id": 2, "isv_svn_min": 4}
    found = verdict("v5_sample", material("v5_sample/tcbinfo.json"), SAMPLE_TIME, require_crls=False, qe=pin)
    assert {step for step, outcome in outcomes(found).items() if outcome != "passed"} == {REVOKED}
    assert found.facts["tcb_status"] == expected("v5_sample")["facts"]["tcb_status"]
    assert found.report_data.hex() == expected("v5_sample")["facts"]["report_data"]


def test_debug_is_refused_even_where_nothing_else_can_be_judged() -> None:
    """The fault is told although no collateral is given; no other guest step is said to have passed."""
    found = verdict("v4_debug", Material(), SAMPLE_TIME)
    assert DEBUG in failed(found)
    assert {outcomes(found)[step] for step in GUEST} == {"failed", "skipped"}


def test_platform_below_every_level_is_refused_by_name_of_what_lacks() -> None:
    """The levels of its TCB info ask more of four components than the certificate has."""
    quote = parse_quote(read("v4_spr/quote.dat"))
    platform = platform_of(readable_certificates(certificates_of(quote.pck_chain))[0])
    found = collateral_of(material("v4_spr/tcbinfo.json", "v4_spr/qe_identity.json"))
    info = read_statement(TcbInfo, found.tcb_infos[0])
    assert check_module(quote.report, info) is None
    assert check_qe(quote.qe_report, read_statement(QeIdentity, found.qe_identities[0])).tcb_status == "UpToDate"
    with pytest.raises(StepFailed, match="component 1 3 < 5, component 2 3 < 5, component 5 2 < 3, component 8 2 < 3"):
        platform_level(info, platform, quote.report.tee_tcb_svn)


@pytest.mark.parametrize("at", [datetime(2023, 7, 1, tzinfo=UTC), INSIDE])
def test_renewed_signer_does_not_carry_back(at: datetime) -> None:
    """The key is the same, but its certificate begins after these statements ended: at no time do both hold."""
    files = ("v4_spr/pck_crl.der", "v4_spr/root_ca_crl.der")
    found = verdict("v4_spr", material("v4_spr/tcbinfo.json", "v4_spr/qe_identity.json", crls=files), at)
    assert {TCB_INFO, QE_IDENTITY} <= set(failed(found))
    assert outcomes(found)[REVOKED] == ("passed" if at.year == 2023 else "failed")


def test_tcb_info_of_another_platform_is_refused() -> None:
    """Signed, in time, but for another FMSPC."""
    found = verdict("v4_debug", material("v4_phala/collateral.json", chain=False), INSIDE)
    assert failed(found) == [TCB_INFO, DEBUG]
    assert reason(found, TCB_INFO).startswith("for FMSPC b0c06f000000")


def test_no_other_root_is_trusted() -> None:
    """The root is the policy's, not the quote's."""
    found = verdict("v4_phala", material("v4_phala/collateral.json", chain=False), INSIDE, roots=("00" * 32,))
    assert outcomes(found)[CHAIN] == "failed"
    assert [step for step, outcome in outcomes(found).items() if outcome == "passed"] == [READABLE]


@pytest.mark.parametrize("name", ["v4_phala", "v5_sample"])
def test_a_flipped_bit_of_what_is_signed_is_refused(name: str) -> None:
    """One bit of every eleventh byte of header, body, signatures, keys, QE report and authentication data."""
    content = read(f"{name}/quote.dat")
    end = len(parse_quote(content).signed) + 4 + 128 + 6 + 384 + 64 + 2 + 32
    given = material("v4_phala/collateral.json", "v5_sample/tcbinfo.json", chain=False)
    at = INSIDE if name == "v4_phala" else SAMPLE_TIME
    before = failed(verdict(name, given, at, require_crls=False))
    for byte in range(0, end, 11):
        changed = verdict(name, given, at, flipped(content, 8 * byte + byte % 8), require_crls=False)
        assert set(failed(changed)) - set(before), byte


def test_padding_does_not_matter() -> None:
    """What comes after the signature data is signed by nobody, and nothing of it is read."""
    content = read("v4_phala/quote.dat")
    end = 632 + 4 + int.from_bytes(content[632:636], "little")
    given = material("v4_phala/collateral.json", chain=False)
    for changed in (content[:end], content[:end] + b"\xff" * 3000):
        assert verdict("v4_phala", given, INSIDE, changed) == verdict("v4_phala", given, INSIDE)
