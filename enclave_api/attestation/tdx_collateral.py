"""Collateral of TDX quotes from files: Intel's signed statements, who signed them, and revocation lists.

Files may be answers of Intel's service (`{"tcbInfo": …, "signature": …}`, `{"enclaveIdentity": …, "signature": …}`),
or a bundle with the members of Intel's structure sgx_ql_qve_collateral_t: `tcb_info` and `qe_identity` as texts of such
answers, or as what is signed with `tcb_info_signature` and `qe_identity_signature` beside it; `…_issuer_chain` as PEM;
`pck_crl` and `root_ca_crl` as hex or PEM. Of several statements that hold, the one of the newest TCB recovery counts:
an older one beside it must not loosen anything.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from enclave_api.attestation.hardware import Material
from enclave_api.attestation.steps import StepFailed
from enclave_api.attestation.tdx_json import members_of
from enclave_api.attestation.tdx_statements import QeIdentity, Signed, TcbInfo, read_statement
from enclave_api.attestation.x509_certificates import MALFORMED, certificates_of, fingerprint, name_of
from enclave_api.attestation.x509_chain import chain_to_root
from enclave_api.attestation.x509_revocation import CRL_BYTES_MAX, check_not_revoked

DOCUMENTS_MAX = 256  # one for each kind of platform that a bank meets, and some more
CRLS_MAX = 256  # three kinds exist; a folder may hold older ones too
SIGNER = "Intel SGX TCB Signing"
_ANSWERS = (("tcbInfo", "signature", TcbInfo), ("enclaveIdentity", "signature", QeIdentity))
_BUNDLE = (("tcb_info", "tcb_info_signature", TcbInfo), ("qe_identity", "qe_identity_signature", QeIdentity))
_CHAINS = {"tcb_info_issuer_chain", "qe_identity_issuer_chain", "pck_crl_issuer_chain", "pck_certificate_chain"}
_CRLS = {"pck_crl", "root_ca_crl"}

_S = TypeVar("_S", TcbInfo, QeIdentity)


@dataclass
class Collateral:
    """What the files hold, nothing of it checked yet; `problems` says which documents could not be read, and why."""

    certificates: list[bytes] = field(default_factory=list)
    crls: list[bytes] = field(default_factory=list)
    tcb_infos: list[Signed] = field(default_factory=list)
    qe_identities: list[Signed] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def collateral_of(material: Material) -> Collateral:
    """Sorts the files of a verification; a document that cannot be read is a problem, not an end.

    Raises StepFailed for more files than the bounds allow: a part of them could hide the list that revokes.
    """
    for what, count, most in (
        ("documents", len(material.documents), DOCUMENTS_MAX),
        ("revocation lists", len(material.crls), CRLS_MAX),
    ):
        if count > most:
            raise StepFailed(f"{count} {what}; {most} at most")
    found = Collateral(problems=[] if material.documents else ["no document is given"])
    for content in material.certificates:
        found.certificates += certificates_of(content)
    for content in material.crls:
        found.crls += crls_of(content)
    for document in material.documents:
        try:
            _add(found, document)
        except StepFailed as error:
            found.problems.append(str(error))
    return found


def _add(found: Collateral, document: bytes) -> None:
    members = members_of(document)
    for name, signature, kind in (*_ANSWERS, *_BUNDLE):
        if name in members:
            value, text = members[name]
            signed = Signed(_utf8(value if isinstance(value, str) else text), str(members.get(signature, ("", ""))[0]))
            (found.tcb_infos if kind is TcbInfo else found.qe_identities).append(signed)
    texts = {name: _utf8(value) for name, (value, _) in members.items() if isinstance(value, str)}
    for name in {"tcb_info", "qe_identity"} & texts.keys():
        if f"{name}_signature" not in members:
            _add(found, texts[name].rstrip(b"\0"))
    for name in _CHAINS & texts.keys():
        found.certificates += certificates_of(texts[name])
    for name in _CRLS & texts.keys():
        found.crls += crls_of(texts[name].rstrip(b"\0"))


def _utf8(text: str) -> bytes:
    return text.encode(errors="replace")  # a lone surrogate becomes "?": nobody signed that


def crls_of(content: bytes) -> tuple[bytes, ...]:
    """DER of a revocation list that is DER, PEM or hex; empty for PEM that is none."""
    if len(content) > 2 * CRL_BYTES_MAX:
        return ()
    try:
        if content.lstrip().startswith(b"-----BEGIN"):
            return (x509.load_pem_x509_crl(content).public_bytes(Encoding.DER),)
        return (bytes.fromhex(content.decode()),)
    except MALFORMED:
        return (content,)


def verified_by(key: object, signature: bytes, content: bytes) -> bool:
    """Whether an ECDSA signature (P-256, SHA-256; r ‖ s, 64 bytes) is the key's."""
    if (
        not isinstance(key, ec.EllipticCurvePublicKey)
        or not isinstance(key.curve, ec.SECP256R1)
        or len(signature) != 64
    ):
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key.verify(encode_dss_signature(r, s), content, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


@dataclass(frozen=True)
class Signers:
    """Finds who may sign statements: Intel's TCB signing certificates, directly under a trusted root, not revoked."""

    roots: frozenset[str]
    certificates: Sequence[x509.Certificate]
    crls: Sequence[bytes]
    require_crls: bool
    at: datetime

    def keys(self) -> list[object]:
        """Their keys; raises StepFailed with the reason where there is none."""
        found: list[object] = []
        # by roots alone: there is no CA between, and strangers' certificates make no work
        trusted = [certificate for certificate in self.certificates if fingerprint(certificate) in self.roots]
        reason = f"no certificate of {SIGNER!r} is given"
        for certificate in [c for c in self.certificates if name_of(c) == SIGNER]:
            try:
                self._check(certificate, trusted)
            except StepFailed as error:
                reason = str(error)
            else:
                found.append(certificate.public_key())
        if not found:
            raise StepFailed(reason)
        return found

    def _check(self, certificate: x509.Certificate, trusted: Sequence[x509.Certificate]) -> None:
        chain = chain_to_root(certificate, trusted, self.roots, self.at)
        if not check_not_revoked(certificate, chain[1], self.crls, self.at) and self.require_crls:
            raise StepFailed(f"no revocation list of {name_of(chain[1])} is given, so {SIGNER} may be revoked")


def newest(
    kind: type[_S], candidates: Sequence[Signed], keys: Sequence[object], at: datetime, fits: Callable[[_S], None]
) -> _S:
    """The statement of the newest TCB recovery among those that fit, are signed and hold at the time.

    Raises StepFailed, with the reason of the candidate that came nearest, where there is none.
    """
    found: list[_S] = []
    refused: list[tuple[int, str]] = []
    for signed in candidates:
        stage = 0
        try:
            statement = read_statement(kind, signed)
            stage = 1
            fits(statement)
            stage = 2
            _check_signed(signed, keys)
            stage = 3
            _check_holds(statement, at)
        except StepFailed as error:
            refused.append((stage, str(error)))
        else:
            found.append(statement)
    if not found:
        raise StepFailed(max(refused, key=lambda one: one[0])[1] if refused else "none is given")
    return max(found, key=lambda statement: (statement.tcb_evaluation_data_number, statement.issue_date))


def _check_signed(signed: Signed, keys: Sequence[object]) -> None:
    try:
        signature = bytes.fromhex(signed.signature)
    except ValueError:
        signature = b""
    if not any(verified_by(key, signature, signed.content) for key in keys):
        raise StepFailed(f"not signed by {SIGNER}: keep Intel's file byte for byte as it came")


def _check_holds(statement: TcbInfo | QeIdentity, at: datetime) -> None:
    if at < statement.issue_date:
        raise StepFailed(f"issued {statement.issue_date:%Y-%m-%dT%H:%M:%SZ}, after the time asked for")
    if at > statement.next_update:
        raise StepFailed(f"ended {statement.next_update:%Y-%m-%dT%H:%M:%SZ}; fetch the current one")
