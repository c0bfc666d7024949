"""TDX quotes of a made-up machine: what must hold is changed one by one, and the step that fails is named."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from enclave_api.attestation.verify_tdx import (
    ATTRIBUTES,
    CHAIN,
    DEBUG,
    GUEST,
    LEVEL,
    MEASUREMENT,
    MODULE,
    QE_IDENTITY,
    QE_REPORT,
    REVOKED,
    STATUS,
    STEPS,
    TCB_INFO,
    verify_tdx,
)
from tests.unit.tdx_machine import (
    DAY,
    MRSIGNER,
    NOW,
    SVN10,
    SVN15,
    Scene,
    Signer,
    answer,
    attestation_key,
    body,
    bound,
    failed,
    issue,
    new_key,
    outcomes,
    pck,
    point,
    qe_identity,
    qe_report,
    reason,
    revocation_list,
    sgx_extension,
    tcb_info,
    vendor,
)

GOOD = Scene()
NEWER = body(tee_tcb_svn=SVN15, tee_tcb_svn2=SVN15)
GOOD_OF_EACH = (GOOD, Scene(version=5), Scene(version=5, body=NEWER), Scene(body=body(tee_tcb_svn=SVN15)))
OTHER = "55" * 48


def attributes(*bits: int) -> bytes:
    """TD_ATTRIBUTES with these bits."""
    return sum(1 << bit for bit in bits).to_bytes(8, "little")


@pytest.mark.parametrize("scene", GOOD_OF_EACH, ids=["4", "5 of TDX 1.0", "5 of TDX 1.5", "4 of a newer module"])
def test_good_quotes_of_every_version_pass_every_step(scene: Scene) -> None:
    """Nothing fails, nothing is skipped; the report data come back unjudged."""
    verdict = scene.verdict()
    assert outcomes(verdict) == dict.fromkeys(STEPS, "passed")
    assert verdict.report_data == b"\x44" * 64
    assert verdict.facts["tcb_status"] == "UpToDate"


def leaf(name: str, issuer: Signer, extension: bytes | None = None, days: int = 3650) -> Signer:
    """A certificate in the place of the machine's."""
    return issue(name, issuer, ca=False, extension=extension or sgx_extension(), days=days)


PCK = "Intel SGX PCK Certificate"
DEFECTS: dict[str, tuple[Scene, str]] = {
    "expired PCK certificate": (GOOD.but(pck=leaf(PCK, vendor().ca, days=-1)), CHAIN),
    "PCK certificate of a stranger's CA": (
        GOOD.but(pck=leaf(PCK, issue("Intel SGX PCK Platform CA", None, ca=True))),
        CHAIN,
    ),
    "PCK certificate directly by the root": (GOOD.but(pck=leaf(PCK, vendor().root)), CHAIN),
    "PCK certificate of another name": (GOOD.but(pck=leaf("Intel SGX PCK", vendor().ca)), CHAIN),
    "signer of statements as PCK": (GOOD.but(pck=vendor().signer), CHAIN),
    "SGX extension cut": (GOOD.but(pck=leaf(PCK, vendor().ca, sgx_extension()[:-3])), CHAIN),
    "no certificate": (GOOD.but(chain="nothing"), CHAIN),
    "clock before the certificates": (GOOD.but(at=NOW - 400 * DAY), CHAIN),
    "PCK certificate revoked": (
        GOOD.but(crls=(revocation_list(vendor().ca, [pck().certificate]), revocation_list(vendor().root))),
        REVOKED,
    ),
    "PCK CA revoked": (
        GOOD.but(crls=(revocation_list(vendor().ca), revocation_list(vendor().root, [vendor().ca.certificate]))),
        REVOKED,
    ),
    "no list of the PCK CA": (GOOD.but(crls=(revocation_list(vendor().root),)), REVOKED),
    "stale list of the PCK CA": (
        GOOD.but(crls=(revocation_list(vendor().ca, ends=NOW - DAY), revocation_list(vendor().root))),
        REVOKED,
    ),
    "list of the PCK CA signed by another": (
        GOOD.but(crls=(revocation_list(replace(vendor().ca, key=new_key())), revocation_list(vendor().root))),
        REVOKED,
    ),
    "QE report for another key": (GOOD.but(qe=qe_report(report_data=bound(bytes(64)))), QE_REPORT),
    "QE report with other authentication data": (GOOD.but(auth_data=b"\x01" * 32), QE_REPORT),
    "QE report data with a tail": (
        GOOD.but(qe=qe_report(report_data=bound(point(attestation_key()), rest=b"\x01" * 32))),
        QE_REPORT,
    ),
    "QE of another signer": (GOOD.but(qe=qe_report(mr_signer=b"\x01" * 32)), QE_IDENTITY),
    "QE of another product": (GOOD.but(qe=qe_report(isv_prod_id=1)), QE_IDENTITY),
    "QE with MISCSELECT": (GOOD.but(qe=qe_report(misc_select=b"\x01\0\0\0")), QE_IDENTITY),
    "QE with other attributes": (
        GOOD.but(qe=qe_report(attributes=bytes.fromhex("3500000000000000e700000000000000"))),
        QE_IDENTITY,
    ),
    "QE in debug, whatever the mask says": (
        GOOD.but(
            qe=qe_report(attributes=bytes.fromhex("1700000000000000e700000000000000")),
            identity=answer("enclaveIdentity", qe_identity(attributesMask="F9FFFFFFFFFFFFFF0000000000000000")),
        ),
        QE_IDENTITY,
    ),
    "QE revoked": (GOOD.but(qe=qe_report(isv_svn=2)), QE_IDENTITY),
    "QE below every level": (GOOD.but(qe=qe_report(isv_svn=1)), QE_IDENTITY),
    "QE out of date": (GOOD.but(qe=qe_report(isv_svn=3)), STATUS),
    "TCB info of another kind of platform": (GOOD.but(info=answer("tcbInfo", tcb_info(fmspc="00" * 6))), TCB_INFO),
    "TCB info of another PCE": (GOOD.but(info=answer("tcbInfo", tcb_info(pceId="0001"))), TCB_INFO),
    "module of another signer": (GOOD.but(body=body(mr_signer_seam=b"\x01" * 48)), MODULE),
    "module with attributes": (GOOD.but(body=body(seam_attributes=b"\x01" + bytes(7))), MODULE),
    "module of unknown version": (GOOD.but(body=body(tee_tcb_svn=bytes((6, 2, 3, *[0] * 13)))), MODULE),
    "module below every level": (GOOD.but(body=body(tee_tcb_svn=bytes((1, 1, 3, *[0] * 13)))), MODULE),
    "module out of date": (GOOD.but(body=body(tee_tcb_svn=bytes((5, 1, 3, *[0] * 13)))), STATUS),
    "platform below every level": (GOOD.but(body=body(tee_tcb_svn=bytes((5, 0, 1, *[0] * 13)))), LEVEL),
    "platform out of date": (GOOD.but(body=body(tee_tcb_svn=bytes((4, 0, 3, *[0] * 13)))), STATUS),
    "TEE_TCB_SVN below the policy's floor": (GOOD.but(policy={"tee_tcb_svn_min": "050004" + "00" * 13}), STATUS),
    "debug": (GOOD.but(body=body(td_attributes=attributes(0, 28))), DEBUG),
    "profiling": (GOOD.but(body=body(td_attributes=attributes(5))), DEBUG),
    "reserved attribute": (GOOD.but(body=body(td_attributes=attributes(20))), ATTRIBUTES),
    "attribute not allowed": (GOOD.but(body=body(td_attributes=attributes(28, 29))), ATTRIBUTES),
    "attribute required": (
        GOOD.but(body=body(td_attributes=attributes(30)), policy={"td_attributes_required": ("SEPT_VE_DISABLE",)}),
        ATTRIBUTES,
    ),
    "XFAM beyond the policy": (GOOD.but(policy={"xfam_allowed": "e700060000000000"}), ATTRIBUTES),
    "XFAM without SSE": (GOOD.but(body=body(xfam=b"\x01" + bytes(7))), ATTRIBUTES),
    "other MRTD": (GOOD.but(body=body(mrtd=b"\x23" * 48)), MEASUREMENT),
    **{f"other {name}": (GOOD.but(policy={name: (OTHER,)}), MEASUREMENT) for name in ("rtmr0", "rtmr3", "mr_seam")},
    **{f"other {name}": (GOOD.but(policy={name: (OTHER,)}), MEASUREMENT) for name in ("mr_config_id", "mr_owner")},
    "service guest bound": (
        Scene(version=5, body=body(tee_tcb_svn=SVN15, tee_tcb_svn2=SVN15, mr_service_td=b"\x01" * 48)),
        MEASUREMENT,
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_fails_its_step_alone(defect: str) -> None:
    """One fault, one failed step; what hangs on it is skipped."""
    scene, step = DEFECTS[defect]
    assert failed(scene.verdict()) == [step]


def test_statements_of_older_recoveries_than_the_policy_asks_are_refused() -> None:
    """The floor is for both statements."""
    assert failed(GOOD.but(policy={"tcb_evaluation_min": 19}).verdict()) == [QE_IDENTITY, TCB_INFO]
    assert not failed(GOOD.but(policy={"tcb_evaluation_min": 18}).verdict())


PIN = {"mr_signer": MRSIGNER, "isv_prod_id": 2, "isv_svn_min": 4}
PINS: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "as named": ({}, {}, []),
    "newer": ({}, {"isv_svn": 5}, []),
    "older": ({}, {"isv_svn": 3}, [QE_IDENTITY]),
    "another signer": ({"mr_signer": "00" * 32}, {}, [QE_IDENTITY]),
    "another product": ({"isv_prod_id": 1}, {}, [QE_IDENTITY]),
    "in debug": ({}, {"attributes": bytes.fromhex("1700000000000000e700000000000000")}, [QE_IDENTITY]),
}


@pytest.mark.parametrize("case", PINS)
def test_a_bank_may_name_the_quoting_enclave_itself(case: str) -> None:
    """Then Intel's QE identity is not needed, but every other statement is."""
    changes, report, expected = PINS[case]
    scene = GOOD.but(qe=qe_report(**report), policy={"qe": PIN | changes}, identity=GOOD.info)
    assert failed(scene.verdict()) == expected
    if not expected:
        assert "qe_status" not in scene.verdict().facts
        assert failed(scene.but(info=GOOD.identity, identity=GOOD.identity).verdict()) == [TCB_INFO]


def test_machines_of_the_other_ca_pass_too() -> None:
    """Single-socket machines have certificates of the Processor CA, which has a list of its own."""
    other = issue("Intel SGX PCK Processor CA", vendor().root, ca=True)
    machine = leaf(PCK, other)
    chain = machine.pem + other.pem + vendor().root.pem
    lists = (revocation_list(vendor().ca), revocation_list(vendor().root))
    assert failed(GOOD.but(pck=machine, chain=chain, crls=lists).verdict()) == [REVOKED]
    assert not failed(GOOD.but(pck=machine, chain=chain, crls=(*lists, revocation_list(other))).verdict())


@pytest.mark.parametrize("deep", [True, False])
def test_only_the_vendors_own_shape_of_a_chain_is_accepted(deep: bool) -> None:
    """Neither a CA under the PCK CA nor another CA under the root, though every signature holds."""
    other = issue(
        "Intel SGX PCK Platform CA" if deep else "Intel SGX CA", vendor().ca if deep else vendor().root, ca=True
    )
    machine = leaf(PCK, other)
    chain = machine.pem + other.pem + vendor().ca.pem + vendor().root.pem
    verdict = GOOD.but(pck=machine, chain=chain).verdict()
    assert failed(verdict) == [CHAIN]
    assert "no PCK certificate by a PCK CA by a root" in reason(verdict, CHAIN)


def test_floors_that_are_just_met_pass() -> None:
    """A floor is the smallest value that passes."""
    assert not failed(GOOD.but(policy={"tee_tcb_svn_min": SVN10.hex()}).verdict())


def test_the_root_list_guards_signers_too() -> None:
    """Without the root's list nobody knows whether the signer of statements is revoked; likewise where it is."""
    lacking = GOOD.but(crls=(revocation_list(vendor().ca),))
    lists = (revocation_list(vendor().ca), revocation_list(vendor().root, [vendor().signer.certificate]))
    assert failed(lacking.verdict()) == [REVOKED, QE_IDENTITY, TCB_INFO]
    assert failed(GOOD.but(crls=lists).verdict()) == [QE_IDENTITY, TCB_INFO]


def test_lists_that_the_policy_does_not_ask_for_are_skipped_not_passed() -> None:
    """All else may pass; a list that is given and names the certificate refuses it all the same."""
    free = {"require_crls": False}
    found = outcomes(GOOD.but(crls=(), policy=free).verdict())
    assert [step for step, outcome in found.items() if outcome != "passed"] == [REVOKED]
    assert found[REVOKED] == "skipped"
    assert failed(GOOD.but(crls=(revocation_list(vendor().ca, [pck().certificate]),), policy=free).verdict())


@pytest.mark.parametrize("values", [("33" * 48,), (OTHER, "33" * 48)])
def test_measurements_named_and_met_pass(values: tuple[str, ...]) -> None:
    """A register passes where its value is one of those accepted."""
    verdict = GOOD.but(policy={"rtmr3": values, "td_attributes_required": ("SEPT_VE_DISABLE",)}).verdict()
    assert not failed(verdict)
    assert "rtmr3" in reason(verdict, MEASUREMENT)


def test_bound_service_guests_pass_where_the_policy_names_them() -> None:
    """A guest that can be moved, with its migration guest named."""
    moved = body(
        tee_tcb_svn=SVN15, tee_tcb_svn2=SVN15, td_attributes=attributes(28, 29), mr_service_td=bytes.fromhex(OTHER)
    )
    named = {"mr_service_td": (OTHER,), "td_attributes_allowed": ("SEPT_VE_DISABLE", "MIGRATABLE")}
    assert not failed(Scene(version=5, body=moved, policy=named).verdict())


def test_status_that_the_policy_accepts_passes_and_is_told() -> None:
    """The status of all together is what is accepted, not that of a part."""
    older = GOOD.but(qe=qe_report(isv_svn=3))
    verdict = older.but(policy={"tcb_status": ("UpToDate", "OutOfDate")}).verdict()
    assert not failed(verdict)
    assert (verdict.facts["qe_status"], verdict.facts["platform_status"]) == ("OutOfDate", "UpToDate")
    assert verdict.facts["tcb_status"] == "OutOfDate"
    assert failed(older.but(policy={"tcb_status": ("UpToDate", "ConfigurationNeeded")}).verdict()) == [STATUS]


@pytest.mark.parametrize(
    "member",
    [
        {"tcb_status": ("Revoked",)},
        {"tcb_status": ()},
        {"td_attributes_allowed": ("DEBUG",)},
        {"debug": True},
        {"rtmr0": ()},
        {"tee_tcb_svn_min": "05"},
        {"xfam_allowed": "zz" * 8},
        {"tcb_evaluation_min": -1},
        {"measurements": ()},
        {"roots": ()},
        {"qe": {"mr_signer": "dc" * 32}},
    ],
)
def test_policies_cannot_accept_debugging_or_what_is_revoked(member: dict[str, Any]) -> None:
    """Nor can they be empty, misspelt, or ask for what cannot be read."""
    with pytest.raises(ValidationError):
        GOOD.but(policy=member).tdx_policy()


@pytest.mark.parametrize("missing", ["info", "identity", "certificates", "crls"])
def test_missing_collateral_fails_what_needs_it(missing: str) -> None:
    """Never a pass without the file: the step fails, the status is skipped, the guest is not said to be sound."""
    whole = GOOD.material
    documents = {"info": (GOOD.identity,), "identity": (GOOD.info,)}.get(missing, whole.documents)
    given = replace(whole, documents=documents, **({missing: ()} if hasattr(whole, missing) else {}))
    verdict = verify_tdx(GOOD.quote, given, GOOD.tdx_policy(), NOW)
    needing = {"info": [TCB_INFO], "identity": [QE_IDENTITY], "certificates": [QE_IDENTITY, TCB_INFO]}
    assert failed(verdict) == needing.get(missing, [REVOKED, QE_IDENTITY, TCB_INFO])
    assert outcomes(verdict)[STATUS] == "skipped"
    if missing != "info":
        assert {outcomes(verdict)[step] for step in GUEST} == {"skipped"}
