"""Intel's statements from files: which bytes are signed, by whom, for when; and of several, which one counts."""

import base64
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from enclave_api.attestation.hardware import Material
from enclave_api.attestation.steps import StepFailed
from enclave_api.attestation.tdx_collateral import CRLS_MAX, DOCUMENTS_MAX, collateral_of
from enclave_api.attestation.tdx_json import DOCUMENT_BYTES_MAX, members_of
from enclave_api.attestation.verify_tdx import CHAIN, QE_IDENTITY, REVOKED, STATUS, TCB_INFO, verify_tdx
from enclave_api.attestation.x509_certificates import CERTIFICATES_MAX
from tests.unit.tdx_machine import (
    COMPONENTS,
    DAY,
    NOW,
    Scene,
    Signer,
    answer,
    failed,
    flipped,
    issue,
    level,
    new_key,
    pck,
    qe_identity,
    reason,
    revocation_list,
    tcb,
    tcb_info,
    vendor,
)

GOOD = Scene()
QUOTE = GOOD.quote
SECOND = timedelta(seconds=1)
SIGNER = "Intel SGX TCB Signing"


def refused(step: str, told: str, **changes: Any) -> None:
    """The scene fails that step alone, for that reason."""
    verdict = GOOD.but(**changes).verdict(QUOTE)
    assert failed(verdict) == [step]
    assert told in reason(verdict, step)


def spaced(statement: dict[str, Any]) -> str:
    """The same JSON value in other bytes."""
    return json.dumps(statement, indent=1)


def test_the_bytes_as_they_stand_are_what_is_signed() -> None:
    """Signed with its spaces a statement passes; printed anew after signing it does not, though the value is equal."""
    assert not failed(GOOD.but(info=answer("tcbInfo", spaced(tcb_info()))).verdict(QUOTE))
    whole = json.loads(GOOD.info)
    assert whole["tcbInfo"] == tcb_info()
    refused(TCB_INFO, "byte for byte", info=json.dumps(whole, indent=1).encode())


def test_space_around_the_signed_bytes_does_not_matter() -> None:
    """The object about them is signed by nobody."""
    text = GOOD.info.decode().replace('{"tcbInfo":', '\n{ "tcbInfo" :\t').replace(',"signature":', ' , "signature": ')
    assert not failed(GOOD.but(info=f"{text}\r\n".encode()).verdict(QUOTE))


@pytest.mark.parametrize("changed", [GOOD.info + b"x", GOOD.info * 2, GOOD.info[:-1], b"\xef\xbb\xbf" + GOOD.info, b""])
def test_files_that_are_no_single_object_are_refused(changed: bytes) -> None:
    """More after the object, less than it, a mark of byte order before it."""
    refused(TCB_INFO, "no JSON object", info=changed)


WHOLE = {"tcbInfo": tcb_info(), "enclaveIdentity": qe_identity()}
WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "SGX": ("id", {"id": "SGX"}),
    "QE of SGX": ("id", {"id": "QE"}),
    "version 2 and 3 swapped": ("version", {"version": 4}),
    "no levels": ("tcbLevels", {"tcbLevels": []}),
    "a time without zone": ("issueDate", {"issueDate": "2026-05-20T00:00:00"}),
    "no such day": ("nextUpdate", {"nextUpdate": "2026-02-30T00:00:00Z"}),
    "text for a number": ("tcbEvaluationDataNumber", {"tcbEvaluationDataNumber": "18"}),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("case", WRONG)
def test_other_statements_are_refused_though_signed(name: str, case: str) -> None:
    """Wrong ids, versions, times, numbers: the place is told."""
    place, changes = WRONG[case]
    told = f"has no {place}"
    signed = answer(name, WHOLE[name] | changes)
    if name == "tcbInfo":
        refused(TCB_INFO, told, info=signed)
    else:
        refused(QE_IDENTITY, told, identity=signed)


@pytest.mark.parametrize(
    "changes",
    [
        {"fmspc": "00a06d08"},
        {"tcbType": 1},
        {"tcbLevels": [level(tcb(COMPONENTS, 13, (5, 0, 3)), "Perfect")]},
        {"tcbLevels": [level(tcb((*COMPONENTS, 0), 13, (5, 0, 3)), "UpToDate")]},
        {"tcbLevels": [level(tcb((256, *COMPONENTS[1:]), 13, (5, 0, 3)), "UpToDate")]},
        {"tcbLevels": [level(tcb(COMPONENTS, -1, (5, 0, 3)), "UpToDate")]},
        {"tdxModule": None},
    ],
)
def test_shapes_that_intel_does_not_use_are_refused(changes: dict[str, Any]) -> None:
    """A level that cannot be read in full refuses the statement: it is not passed over."""
    assert failed(GOOD.but(info=answer("tcbInfo", tcb_info(**changes))).verdict(QUOTE)) == [TCB_INFO]


@pytest.mark.parametrize("at", ["outer", "outer, the good one last", "inner", "deep"])
def test_members_that_are_there_twice_are_refused(at: str) -> None:
    """Programs differ in which one they take, so none is taken, signed or not."""
    text = json.dumps(tcb_info(), separators=(",", ":"))
    twice = {
        "outer, the good one last": b'{"tcbInfo":{},' + GOOD.info[1:],
        "outer": GOOD.info[:-1] + b',"tcbInfo":{}}',
        "inner": answer("tcbInfo", text[:-1] + ',"id":"TDX"}'),
        "deep": answer("tcbInfo", text.replace('"isvsvn":6', '"isvsvn":6,"isvsvn":0')),
    }
    assert failed(GOOD.but(info=twice[at]).verdict(QUOTE)) == [TCB_INFO]


@pytest.mark.parametrize("name", WHOLE)
def test_statements_hold_from_issue_to_next_update(name: str) -> None:
    """Both ends included, not a second more."""
    begin, end = NOW - DAY, NOW + DAY
    window = {"issueDate": f"{begin:%Y-%m-%dT%H:%M:%SZ}", "nextUpdate": f"{end:%Y-%m-%dT%H:%M:%SZ}"}
    signed = answer(name, WHOLE[name] | window)
    scene = GOOD.but(info=signed) if name == "tcbInfo" else GOOD.but(identity=signed)
    for at in (begin, end):
        assert not failed(scene.but(at=at).verdict(QUOTE))
    for at, told in ((begin - SECOND, "after the time asked for"), (end + SECOND, "fetch the current one")):
        verdict = scene.but(at=at).verdict(QUOTE)
        (step,) = failed(verdict)
        assert told in reason(verdict, step)


@pytest.mark.parametrize("name", WHOLE)
def test_every_flipped_bit_of_a_statement_is_refused(name: str) -> None:
    """One bit of every third byte of the file, names and punctuation included."""
    content = GOOD.info if name == "tcbInfo" else GOOD.identity
    for byte in range(0, len(content), 3):
        changed = flipped(content, 8 * byte + byte % 7)
        scene = GOOD.but(info=changed) if name == "tcbInfo" else GOOD.but(identity=changed)
        # hex digits of the signature read the same in upper case
        same = name in json.loads(content) and changed.lower() == content.lower()
        assert failed(scene.verdict(QUOTE)) or same, byte


def signer(name: str = SIGNER, issuer: Signer | None = None, days: int = 3650) -> Signer:
    """Somebody else who signs statements."""
    return issue(name, issuer or vendor().root, ca=False, days=days)


STRANGERS: dict[str, tuple[Signer, str]] = {
    "self-signed": (issue(SIGNER, None, ca=True), "no trusted certificate"),
    "of the PCK CA": (signer(issuer=vendor().ca), "no trusted certificate of Intel SGX PCK Platform CA"),
    "of another name": (signer("Intel SGX"), "no certificate of"),
    "a machine": (pck(), "no certificate of"),
    "expired": (signer(days=-1), "valid from"),
}


@pytest.mark.parametrize("stranger", STRANGERS)
def test_nobody_but_the_signer_of_statements_signs_statements(stranger: str) -> None:
    """Above all not the key of a machine, which chains to the same root."""
    other, told = STRANGERS[stranger]
    info, identity = answer("tcbInfo", tcb_info(), other.key), answer("enclaveIdentity", qe_identity(), other.key)
    certificates = (other, vendor().ca)
    given = Material(
        tuple(one.certificate.public_bytes(Encoding.DER) for one in certificates), GOOD.crls, (info, identity)
    )
    verdict = verify_tdx(QUOTE, given, GOOD.tdx_policy(), NOW)
    assert failed(verdict) == [QE_IDENTITY, TCB_INFO]
    assert told in reason(verdict, TCB_INFO)


def test_a_key_without_certificate_signs_nothing() -> None:
    """The signer's certificate is there, but another key signed."""
    refused(TCB_INFO, "not signed by", info=answer("tcbInfo", tcb_info(), new_key()))


def test_of_several_statements_the_newest_recovery_counts() -> None:
    """An older one that still holds must not loosen; a newer one that does not hold must not block."""
    strict = tcb_info(tcbEvaluationDataNumber=19, tcbLevels=[level(tcb(COMPONENTS, 13, (5, 0, 3)), "OutOfDate")])
    for documents in ((GOOD.info, answer("tcbInfo", strict)), (answer("tcbInfo", strict), GOOD.info)):
        given = replace(GOOD.material, documents=(*documents, GOOD.identity))
        assert failed(verify_tdx(QUOTE, given, GOOD.tdx_policy(), NOW)) == [STATUS]
    ended = answer("tcbInfo", strict | {"nextUpdate": "2026-05-30T00:00:00Z"})
    strangers = answer("tcbInfo", tcb_info(fmspc="ff" * 6))
    given = replace(GOOD.material, documents=(ended, strangers, GOOD.info, GOOD.identity))
    assert not failed(verify_tdx(QUOTE, given, GOOD.tdx_policy(), NOW))


def bundle(**changes: Any) -> bytes:
    """Everything in one file, with the names of Intel's structure."""
    info, identity = json.loads(GOOD.info), json.loads(GOOD.identity)
    parts = {
        "pck_crl_issuer_chain": vendor().ca.pem + vendor().root.pem,
        "root_ca_crl": GOOD.crls[1].hex(),
        "pck_crl": GOOD.crls[0].hex(),
        "tcb_info_issuer_chain": vendor().signer.pem + vendor().root.pem,
        "tcb_info": json.dumps(info["tcbInfo"], separators=(",", ":")),
        "tcb_info_signature": info["signature"],
        "qe_identity_issuer_chain": vendor().signer.pem + vendor().root.pem,
        "qe_identity": json.dumps(identity["enclaveIdentity"], separators=(",", ":")),
        "qe_identity_signature": identity["signature"],
    }
    return json.dumps({name: value for name, value in (parts | changes).items() if value is not None}).encode()


def pem(der: bytes) -> str:
    """A revocation list as PEM."""
    return x509.load_der_x509_crl(der).public_bytes(Encoding.PEM).decode()


BUNDLES: dict[str, dict[str, Any]] = {
    "texts and signatures": {},
    "lists as PEM": {"root_ca_crl": pem(GOOD.crls[1]), "pck_crl": pem(GOOD.crls[0])},
    "answers of the service as texts": {
        "tcb_info": GOOD.info.decode() + "\0",
        "tcb_info_signature": None,
        "qe_identity": GOOD.identity.decode(),
        "qe_identity_signature": None,
    },
}


@pytest.mark.parametrize("case", BUNDLES)
def test_a_bundle_is_all_that_is_needed(case: str) -> None:
    """In each of the forms in which bundles are found."""
    given = Material(documents=(bundle(**BUNDLES[case]),))
    assert not failed(verify_tdx(QUOTE, given, GOOD.tdx_policy(), NOW))


def test_certificates_and_lists_may_be_pem_or_der() -> None:
    """Files as Intel's service gives them."""
    given = Material(
        (vendor().signer.pem.encode(),), tuple(pem(crl).encode() for crl in GOOD.crls), (GOOD.info, GOOD.identity)
    )
    assert not failed(verify_tdx(QUOTE, given, GOOD.tdx_policy(), NOW))


def test_a_list_of_an_unknown_version_is_none() -> None:
    """As PEM in a bundle: what `cryptography` raises for it is no ValueError, and must not leave the verifier."""
    odd = GOOD.crls[0].replace(b"\x02\x01\x01\x30", b"\x02\x01\x41\x30", 1)
    text = f"-----BEGIN X509 CRL-----\n{base64.b64encode(odd).decode()}\n-----END X509 CRL-----\n"
    given = Material(documents=(bundle(pck_crl=text),))
    assert failed(verify_tdx(QUOTE, given, GOOD.tdx_policy(), NOW)) == [REVOKED]


def test_too_much_is_refused() -> None:
    """Bounds of files, and of certificates, against evidence that brings mountains."""
    assert collateral_of(Material(documents=(b" " * (DOCUMENT_BYTES_MAX + 1),))).problems
    whole = GOOD.material
    for more in (
        replace(whole, documents=whole.documents * (DOCUMENTS_MAX // 2 + 1)),
        replace(whole, crls=whole.crls * (CRLS_MAX // 2 + 1)),
        replace(whole, certificates=tuple(map(str.encode, map(str, range(CERTIFICATES_MAX + 1))))),
    ):
        verdict = verify_tdx(QUOTE, more, GOOD.tdx_policy(), NOW)
        assert CHAIN in failed(verdict)
        assert "at most" in reason(verdict, CHAIN)


def test_a_newer_list_that_names_the_certificate_counts() -> None:
    """One list of two is enough to revoke."""
    both = (*GOOD.crls, revocation_list(vendor().ca, [pck().certificate], ends=NOW + 50 * DAY))
    assert failed(GOOD.but(crls=both).verdict(QUOTE)) == ["not revoked"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(st.dictionaries(st.text(max_size=4), JSON, max_size=5), st.sampled_from([None, 2]))
def test_members_are_cut_out_of_the_text_as_they_stand(value: dict[str, Any], indent: int | None) -> None:
    """For any JSON object: the same values as Python's own reader, and texts that read as those values."""
    document = json.dumps(value, indent=indent).encode()
    members = members_of(document)
    assert {name: found for name, (found, _) in members.items()} == value
    assert all(json.loads(text) == found and text.encode() in document for found, text in members.values())


@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,ab1 ', max_size=40).map(str.encode))
def test_what_is_no_object_is_refused_and_what_is_one_is_read(document: bytes) -> None:
    """Only StepFailed is raised; whatever is accepted, Python's own reader accepts too."""
    try:
        members = members_of(document)
    except StepFailed:
        return
    assert json.loads(document) == {name: found for name, (found, _) in members.items()}
