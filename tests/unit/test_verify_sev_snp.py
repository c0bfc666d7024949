"""SEV-SNP reports of a made-up machine: what must hold is changed one by one, and the step that fails is named."""

import struct
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from enclave_api.attestation.hardware import Material
from enclave_api.attestation.sev_snp_report import parse_report
from enclave_api.attestation.steps import StepFailed
from enclave_api.attestation.verify_sev_snp import STEPS, SevSnpPolicy, check_signature, verify_sev_snp
from tests.unit.snp_machine import (
    AT,
    BEGIN,
    CHIP,
    END,
    TCB,
    Machine,
    chip_key,
    crl,
    endorsed,
    extensions,
    failed,
    intermediate,
    judged,
    root,
)

GOOD = Machine()
OPTIONAL = {"not revoked", "chip accepted"}


@pytest.mark.parametrize("version", [2, 3, 4, 5])
@pytest.mark.parametrize("line", ["Milan", "Genoa", "Turin"])
@pytest.mark.parametrize("kind", ["VCEK", "VLEK"])
def test_every_version_of_every_line_is_read_and_accepted(line: Any, version: int, kind: Any) -> None:
    """All required steps pass; only what nobody asked for is skipped."""
    machine = Machine(line, version, kind)
    verdict = verify_sev_snp(machine.report(), machine.material(), machine.policy(), AT)
    assert {step.name for step in verdict.steps if step.outcome != "passed"} == OPTIONAL
    assert verdict.report_data == bytes(range(64))
    assert verdict.facts["product"] == line
    assert verdict.facts["tcb"]["REPORTED_TCB"] == {"fmc": 0, **machine.tcb}


@pytest.mark.parametrize(
    ("offset", "value", "step"),
    [
        (0x00, struct.pack("<I", 1), "report readable"),
        (0x00, struct.pack("<I", 6), "report readable"),
        (0x0A, b"\x01", "report readable"),  # policy bit 17 must be one
        (0x0B, b"\x04", "report readable"),  # policy bit 26 is reserved
        (0x34, struct.pack("<I", 2), "report readable"),
        (0x48, struct.pack("<I", 7 << 2), "report readable"),
        (0x48, struct.pack("<I", 1 << 5), "report readable"),
        (0x4C, b"\x01", "report readable"),
        (0x18B, b"\x01", "report readable"),
        (0x1EB, b"\x01", "report readable"),
        (0x1EF, b"\x01", "report readable"),
        (0x1F8, b"\x01", "report readable"),  # a mitigation vector in version 3
        (0x208, b"\x01", "report readable"),
        (0x48, struct.pack("<I", 2), "chain to the vendor's root"),  # MASK_CHIP_KEY
        (0x48, struct.pack("<I", 1 << 2), "chain to the vendor's root"),  # a VLEK's, with a VCEK
        (0x180, b"\x05", "certificate matches report"),
        (0x182, b"\x01", "certificate matches report"),  # a reserved byte of REPORTED_TCB
        (0x187, b"\xd6", "certificate matches report"),
        (0x188, b"\x19\x11", "certificate matches report"),  # Genoa
        (0x1A0, b"\xff", "certificate matches report"),
        (0x0A, b"\x0a", "debug off"),
        (0x30, b"\x01", "VMPL accepted"),
        (0x30, b"\xff\xff\xff\xff", "VMPL accepted"),
        (0x38, b"\x03", "TCB floor met"),
        (0x1E7, b"\x01", "TCB floor met"),
        (0x1F6, b"\x15", "TCB floor met"),
        (0x1F2, b"\x01", "TCB floor met"),
        (0x0A, b"\x06", "guest policy accepted"),  # a migration agent
        (0x90, b"\x00", "measurement accepted"),
    ],
)
def test_a_member_that_is_not_accepted_fails_its_step(offset: int, value: bytes, step: str) -> None:
    """The report is signed all the same: only that member is wrong."""
    assert judged(replace(GOOD, members={offset: value})) == {step}


def test_nothing_of_an_unsigned_report_has_passed() -> None:
    """Steps that read members hang on the signature, and the reason names it."""
    verdict = verify_sev_snp(GOOD.report(chip_key("other")), GOOD.material(), GOOD.policy(), AT)
    assert failed(verdict) == {"report signature"}
    after = [step for step in verdict.steps if STEPS.index(step.name) > STEPS.index("report signature")]
    assert {(step.outcome, step.reason) for step in after} == {("skipped", "hangs on: report signature")}


def test_every_bit_that_is_signed_counts() -> None:
    """Each of the 5,376 bits flipped is refused by the reader or by the signature."""
    raw, leaf = GOOD.report(), GOOD.leaf()
    check_signature(parse_report(raw), leaf)
    for bit in range(0x2A0 * 8):
        with pytest.raises(StepFailed):
            check_signature(parse_report(_flipped(raw, bit)), leaf)


@pytest.mark.parametrize("bit", range(0, 0x4A0 * 8, 61))
def test_a_flipped_bit_anywhere_is_refused_by_the_whole(bit: int) -> None:
    """A sample over the report with its signature: some step fails, and what hangs on it has not passed."""
    verdict = verify_sev_snp(_flipped(GOOD.report(), bit), GOOD.material(), GOOD.policy(), AT)
    assert failed(verdict)
    assert "measurement accepted" not in {step.name for step in verdict.steps if step.outcome == "passed"}


def _flipped(raw: bytes, bit: int) -> bytes:
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_changed_byte_of_a_certificate_is_refused(index: int) -> None:
    """A sample of the bytes of VCEK, ASK and ARK: the chain does not hold, whatever else still reads."""
    good = GOOD.material().certificates
    report, policy = GOOD.report(), GOOD.policy()
    for position in range(0, len(good[index]), 23):
        bad = bytearray(good[index])
        bad[position] ^= 0x01
        certificates = (*good[:index], bytes(bad), *good[index + 1 :])
        verdict = verify_sev_snp(report, Material(certificates), policy, AT)
        assert failed(verdict) == {"chain to the vendor's root"}, position


@pytest.mark.parametrize("at", [AT - timedelta(days=31), AT + timedelta(days=31)])
def test_certificates_hold_in_their_time_alone(at: datetime) -> None:
    """Before and after, the chain fails; on the last second it holds."""
    assert judged(GOOD, at=at) == {"chain to the vendor's root"}
    assert judged(GOOD, at=END) == set()


def test_every_certificate_of_the_chain_must_be_valid() -> None:
    """An ASK that ended yesterday takes its VCEKs along."""
    old = intermediate("Milan", "VCEK", (AT - timedelta(days=9), AT - timedelta(days=1)))
    material = Material(tuple(c.public_bytes(Encoding.DER) for c in (GOOD.leaf(), old, root("Milan"))))
    assert judged(GOOD, material) == {"chain to the vendor's root"}


def test_the_right_certificate_is_found_among_others() -> None:
    """A folder with VCEKs of other chips and TCBs, junk, and other lines' issuers is no hindrance."""
    others = [
        GOOD.leaf(o4=bytes(64)),
        GOOD.leaf(o3_8=b"\x02\x01\x01"),
        intermediate("Genoa", "VCEK", (BEGIN, END)),
        root("Genoa"),
    ]
    ders = [c.public_bytes(Encoding.DER) for c in others]
    material = Material((b"junk", b"", *ders, *reversed(GOOD.material().certificates)))
    assert judged(GOOD, material) == set()


def test_a_root_outside_the_policy_is_not_trusted() -> None:
    """The whole chain is good, of another line."""
    genoa = Machine("Genoa")
    assert failed(verify_sev_snp(genoa.report(), genoa.material(), GOOD.policy(), AT)) == {"chain to the vendor's root"}


def test_a_missing_certificate_fails_the_chain() -> None:
    """Leaf, intermediate and root are each needed."""
    good = GOOD.material().certificates
    for index in range(3):
        assert judged(GOOD, Material((*good[:index], *good[index + 1 :]))) == {"chain to the vendor's root"}


@pytest.mark.parametrize(
    "values",
    [
        {"o3_1": b"\x04"},
        {"o4": b"\x04\x40" + CHIP},
        {"o2": b"Milan-B0"},
        {"o2": b"\x16\x05Milan"},
        {"o3_4": None, "o3_5": None, "o3_6": None, "o3_7": None},
    ],
)
def test_extensions_are_read_bare_and_wrapped(values: dict[str, bytes | None]) -> None:
    """As AMD's service has written them over the years."""
    assert judged(GOOD, GOOD.material(GOOD.leaf(**values))) == set()


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ({"o3_1": b"\x02\x01\x05"}, "certificate matches report"),
        ({"o3_2": b"\x02\x01\x00"}, "certificate matches report"),
        ({"o3_3": b"\x02\x01\x17"}, "certificate matches report"),
        ({"o3_8": b"\x02\x02\x00\xd6"}, "certificate matches report"),
        ({"o3_9": b"\x02\x01\x01"}, "certificate matches report"),  # an FMC in a Milan
        ({"o4": bytes(64)}, "certificate matches report"),
        ({"o2": b"\x16\x05Genoa"}, "certificate matches report"),
        ({"o2": b"\x16\x05Siena"}, "certificate matches report"),
        ({"o3_8": None}, "chain to the vendor's root"),
        ({"o3_8": b"\x02\x02\x01\xd5"}, "chain to the vendor's root"),
        ({"o3_8": b"\x02\x01\xd5"}, "chain to the vendor's root"),  # a negative number
        ({"o3_8": b"\x02\x05\xd5"}, "chain to the vendor's root"),
        ({"o3_4": b"\x02\x01\x01"}, "chain to the vendor's root"),
        ({"o1": b"\x02\x01\x02"}, "chain to the vendor's root"),
        ({"o1": None}, "chain to the vendor's root"),
        ({"o2": None}, "chain to the vendor's root"),
        ({"o2": b"\x16\x02\x1b["}, "chain to the vendor's root"),
        ({"o4": CHIP[:63]}, "chain to the vendor's root"),
        ({"o4": None}, "chain to the vendor's root"),
        ({"o5": b"\x16\x05cloud"}, "chain to the vendor's root"),  # a chip and a provider
    ],
)
def test_a_certificate_for_something_else_is_refused(values: dict[str, bytes | None], step: str) -> None:
    """The certificate is AMD's, its key signed the report, and it says something else than the report."""
    assert judged(GOOD, GOOD.material(GOOD.leaf(**values))) == {step}


def test_a_key_on_another_curve_signs_no_report() -> None:
    """P-384 alone."""
    leaf = endorsed("Milan", "VCEK", extensions("Milan", "VCEK", TCB), ec.generate_private_key(ec.SECP256R1()))
    assert judged(GOOD, GOOD.material(leaf)) == {"report signature"}


def test_a_vcek_signed_by_the_issuer_of_vleks_is_refused() -> None:
    """ASK and ASVK are not each other's stand-in."""
    vlek = Machine(kind="VLEK")
    leaf = endorsed("Milan", "VLEK", extensions("Milan", "VCEK", TCB))
    assert judged(GOOD, vlek.material(leaf)) == {"chain to the vendor's root"}


def test_a_masked_chip_is_the_one_its_vcek_names() -> None:
    """A host may put zeros in CHIP_ID; the allow-list of chips still holds."""
    masked = replace(GOOD, chip=bytes(64))
    assert judged(masked) == set()
    assert judged(masked, chips=[CHIP.hex()]) == set()
    assert judged(masked, chips=[bytes(64).hex()]) == {"chip accepted"}


def test_a_current_list_that_does_not_name_the_issuer_passes() -> None:
    """And is what a policy that requires one asks for."""
    assert judged(GOOD, GOOD.material(None, crl(4711)), require_crl=True) == set()


@pytest.mark.parametrize(
    ("lists", "reason"),
    [
        ([crl], "revoked"),
        ([lambda _: crl(4711), crl], "revoked"),
        ([lambda serial: crl(serial, until=AT - timedelta(days=1)), lambda _: crl(4711)], "revoked"),
        ([lambda _: crl(until=AT - timedelta(days=1))], "ended"),
        ([lambda _: crl(since=AT + timedelta(days=1))], "after the time"),
        ([lambda _: crl()[:-1] + bytes([crl()[-1] ^ 1])], "not signed"),
    ],
)
def test_a_list_that_is_given_is_obeyed(lists: list[Any], reason: str) -> None:
    """Revoked, or a list of the ARK's that cannot be used: refused, and nothing of the report has passed."""
    crls = [make(intermediate("Milan", "VCEK", (BEGIN, END)).serial_number) for make in lists]
    verdict = verify_sev_snp(GOOD.report(), GOOD.material(None, *crls), GOOD.policy(), AT)
    assert failed(verdict) == {"not revoked"}
    assert reason in next(step.reason for step in verdict.steps if step.outcome == "failed")
    assert "measurement accepted" not in {step.name for step in verdict.steps if step.outcome == "passed"}


def test_lists_of_others_are_none() -> None:
    """Of another issuer, or not a list at all: as if it were not there."""
    crls = (crl(issuer="ARK-Genoa"), b"junk", b"")
    assert judged(GOOD, GOOD.material(None, *crls)) == set()
    assert judged(GOOD, GOOD.material(None, *crls), require_crl=True) == {"not revoked"}


@given(st.binary(max_size=1300), st.lists(st.binary(max_size=200), max_size=3))
def test_no_bytes_make_it_raise(noise: bytes, junk: list[bytes]) -> None:
    """Random bytes as report, certificates and lists fail at the first step."""
    verdict = verify_sev_snp(noise, Material(tuple(junk), tuple(junk)), POLICY, AT)
    assert failed(verdict) == {"report readable"}


@given(st.lists(st.tuples(st.integers(0, 0x49F), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6))
def test_no_change_of_a_report_makes_it_raise(changes: list[tuple[int, bytes]]) -> None:
    """Pieces overwritten: refused, unless they were the same bytes."""
    raw = bytearray(REPORT)
    for offset, piece in changes:
        raw[offset : offset + len(piece)] = piece
    raw = raw[:0x4A0]
    assert bool(failed(verify_sev_snp(bytes(raw), MATERIAL, POLICY, AT))) == (bytes(raw) != REPORT)


def test_too_many_certificates_are_not_looked_at() -> None:
    """A bound on the work that a stranger can ask for."""
    material = Material(tuple(n.to_bytes(2, "big") for n in range(1025)))
    assert judged(GOOD, material) == {"chain to the vendor's root"}


REPORT, MATERIAL = GOOD.report(), GOOD.material()
POLICY: SevSnpPolicy = GOOD.policy()
