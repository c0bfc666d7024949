"""A vendor, a machine and its collateral as Intel's are, with keys made here: every defect can be built in."""

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from enclave_api.attestation.hardware import HardwareVerdict, Material
from enclave_api.attestation.tdx_pck import SGX_EXTENSION
from enclave_api.attestation.verify_tdx import TdxPolicy, verify_tdx
from enclave_api.attestation.x509_certificates import fingerprint

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
FMSPC = "00a06d080000"
MRSIGNER = "dc" * 32
SVN10, SVN15 = bytes((5, 0, 3, *[0] * 13)), bytes((6, 1, 3, *[0] * 13))
COMPONENTS = (4, 4, 2, 2, 4, 1, 0, 5, *[0] * 8)
Key = ec.EllipticCurvePrivateKey


def new_key() -> Key:
    """On P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def sign(key: Key, content: bytes) -> bytes:
    """ECDSA P-256 with SHA-256 as r ‖ s."""
    r, s = decode_dss_signature(key.sign(content, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def point(key: Key) -> bytes:
    """The public key as x ‖ y."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


@dataclass(frozen=True)
class Signer:
    """A key with its certificate."""

    key: Key
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        """The certificate, PEM."""
        return self.certificate.public_bytes(Encoding.PEM).decode()


def issue(name: str, issuer: Signer | None, *, ca: bool, extension: bytes | None = None, days: int = 3650) -> Signer:
    """A certificate of that common name, from a year before NOW; self-signed without an issuer."""
    key = new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    by = issuer.certificate.subject if issuer else subject
    builder = (
        x509.CertificateBuilder(by, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(NOW - 365 * DAY)
        .not_valid_after(NOW + days * DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(_usage(ca=ca), critical=True)
    )
    if extension is not None:
        builder = builder.add_extension(x509.UnrecognizedExtension(SGX_EXTENSION, extension), critical=False)
    return Signer(key, builder.sign(issuer.key if issuer else key, hashes.SHA256()))


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False)


def revocation_list(issuer: Signer, revoked: Sequence[x509.Certificate] = (), ends: datetime = NOW + 30 * DAY) -> bytes:
    """A list that names these certificates, DER; from 60 days before its end."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(ends - 60 * DAY)
        .next_update(ends)
    )
    for certificate in revoked:
        entry = x509.RevokedCertificateBuilder(certificate.serial_number, ends - 60 * DAY).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


def _der(tag: int, content: bytes) -> bytes:
    length = len(content)
    head = bytes((length,)) if length < 128 else b"\x82" + length.to_bytes(2, "big")
    return bytes((tag,)) + head + content


def _member(arc: Sequence[int], value: bytes) -> bytes:
    return _der(0x30, _der(0x06, bytes.fromhex("2a864886f84d010d01") + bytes(arc)) + value)


def _integer(value: int) -> bytes:
    return _der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def sgx_extension(
    fmspc: str = FMSPC, components: Sequence[int] = COMPONENTS, pce_svn: int = 13, *, again: bool = False
) -> bytes:
    """The extension of PCK certificates, with the members that a real one has; `again`: FMSPC is there twice."""
    tcb = b"".join(_member((2, n), _integer(svn)) for n, svn in enumerate(components, 1))
    tcb += _member((2, 17), _integer(pce_svn)) + _member((2, 18), _der(0x04, bytes(svn % 256 for svn in components)))
    members = (
        _member((1,), _der(0x04, bytes(16))),
        _member((2,), _der(0x30, tcb)),
        _member((3,), _der(0x04, bytes(2))),
        _member((4,), _der(0x04, bytes.fromhex(fmspc))),
        _member((5,), _der(0x0A, b"\x01")),
        *([_member((4,), _der(0x04, bytes.fromhex(fmspc)))] if again else []),
    )
    return _der(0x30, b"".join(members))


@dataclass(frozen=True)
class Vendor:
    """Root, PCK CA and TCB signer."""

    root: Signer
    ca: Signer
    signer: Signer


@cache
def vendor() -> Vendor:
    """The one vendor of all scenes."""
    root = issue("Intel SGX Root CA", None, ca=True)
    ca = issue("Intel SGX PCK Platform CA", root, ca=True)
    return Vendor(root, ca, issue("Intel SGX TCB Signing", root, ca=False))


@cache
def pck() -> Signer:
    """The machine's PCK certificate and key."""
    return issue("Intel SGX PCK Certificate", vendor().ca, ca=False, extension=sgx_extension())


@cache
def attestation_key() -> Key:
    """The quoting enclave's."""
    return new_key()


def body(**changes: bytes) -> bytes:
    """A TD report of TDX 1.0, or of 1.5 where tee_tcb_svn2 is named; members by the names of TdReport."""
    members = {
        "tee_tcb_svn": SVN10,
        "mr_seam": b"\x11" * 48,
        "mr_signer_seam": bytes(48),
        "seam_attributes": bytes(8),
        "td_attributes": (1 << 28).to_bytes(8, "little"),
        "xfam": bytes.fromhex("e702060000000000"),
        "mrtd": b"\x22" * 48,
        "mr_config_id": bytes(48),
        "mr_owner": bytes(48),
        "mr_owner_config": bytes(48),
        **{f"rtmr{number}": bytes((0x30 + number,)) * 48 for number in range(4)},
        "report_data": b"\x44" * 64,
    }
    if "tee_tcb_svn2" in changes:
        members |= {"tee_tcb_svn2": b"", "mr_service_td": bytes(48)}
    assert changes.keys() <= members.keys()
    return b"".join((members | changes).values())


def tcb(components: Sequence[int], pcesvn: int, tdx: Sequence[int]) -> dict[str, Any]:
    """What a level of platforms asks."""
    return {
        "sgxtcbcomponents": [{"svn": svn} for svn in components],
        "pcesvn": pcesvn,
        "tdxtcbcomponents": [{"svn": svn} for svn in (*tdx, *[0] * (16 - len(tdx)))],
    }


def level(asked: Mapping[str, Any], status: str) -> dict[str, Any]:
    """A level with its status."""
    return {"tcb": asked, "tcbDate": "2026-01-14T00:00:00Z", "tcbStatus": status, "advisoryIDs": ["INTEL-SA-00000"]}


def levels(*pairs: tuple[int, str]) -> list[dict[str, Any]]:
    """Levels of an enclave or module by ISVSVN."""
    return [level({"isvsvn": svn}, status) for svn, status in pairs]


def _window() -> dict[str, Any]:
    return {
        "issueDate": "2026-05-20T00:00:00Z",
        "nextUpdate": "2026-06-19T00:00:00Z",
        "tcbEvaluationDataNumber": 18,
    }


def module(**changes: Any) -> dict[str, Any]:
    """Intel's own TDX module."""
    return {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8} | changes


def tcb_info(**changes: Any) -> dict[str, Any]:
    """TCB info of the machine, up to date, with one older level."""
    old = (3, 3, *COMPONENTS[2:])
    return {
        "id": "TDX",
        "version": 3,
        **_window(),
        "fmspc": FMSPC.upper(),
        "pceId": "0000",
        "tcbType": 0,
        "tdxModule": module(),
        "tdxModuleIdentities": [module(id="TDX_01", tcbLevels=levels((6, "UpToDate"), (2, "OutOfDate")))],
        "tcbLevels": [
            level(tcb(COMPONENTS, 13, (5, 0, 3)), "UpToDate"),
            level(tcb(old, 5, (3, 0, 2)), "OutOfDate"),
        ],
    } | changes


def qe_identity(**changes: Any) -> dict[str, Any]:
    """QE identity with a level for each status."""
    return {
        "id": "TD_QE",
        "version": 2,
        **_window(),
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": MRSIGNER.upper(),
        "isvprodid": 2,
        "tcbLevels": levels((4, "UpToDate"), (3, "OutOfDate"), (2, "Revoked")),
    } | changes


def answer(name: str, statement: Mapping[str, Any] | str, key: Key | None = None) -> bytes:
    """An answer of the service: the statement as compact JSON (or as text given), and its signature."""
    text = statement if isinstance(statement, str) else json.dumps(statement, separators=(",", ":"))
    signature = sign(key or vendor().signer.key, text.encode()).hex()
    return f'{{"{name}":{text},"signature":"{signature}"}}'.encode()


AUTH_DATA = bytes(range(32))


def bound(key: bytes, auth: bytes = AUTH_DATA, rest: bytes = bytes(32)) -> bytes:
    """Report data by which a quoting enclave names an attestation key."""
    return hashlib.sha256(key + auth).digest() + rest


def qe_report(**changes: Any) -> bytes:
    """The quoting enclave's report; members by the names of QeReport."""
    members: dict[str, Any] = {
        "misc_select": bytes(4),
        "attributes": bytes.fromhex("1500000000000000e700000000000000"),
        "mr_signer": bytes.fromhex(MRSIGNER),
        "isv_prod_id": 2,
        "isv_svn": 4,
        "report_data": bound(point(attestation_key())),
    }
    assert changes.keys() <= members.keys()
    misc, attributes, signer, product, svn, data = (members | changes).values()
    head = b"\x07" * 16 + misc + bytes(28) + attributes + b"\x08" * 32 + bytes(32) + signer + bytes(96)
    return bytes(head + struct.pack("<HH", product, svn) + bytes(60) + data)


@dataclass(frozen=True)
class Scene:
    """A quote with its collateral and a policy; everything is as it should be until it is changed."""

    version: int = 4
    body: bytes = field(default_factory=body)
    body_type: int | None = None
    header: bytes | None = None
    qe: bytes = field(default_factory=qe_report)
    auth_data: bytes = AUTH_DATA
    pck: Signer = field(default_factory=pck)
    chain: str | None = None
    padding: bytes = b""
    info: bytes = field(default_factory=lambda: answer("tcbInfo", tcb_info()))
    identity: bytes = field(default_factory=lambda: answer("enclaveIdentity", qe_identity()))
    crls: tuple[bytes, ...] = field(
        default_factory=lambda: (revocation_list(vendor().ca), revocation_list(vendor().root))
    )
    signer: Signer = field(default_factory=lambda: vendor().signer)
    policy: Mapping[str, Any] = field(default_factory=dict)
    at: datetime = NOW

    @cached_property
    def signed(self) -> bytes:
        """Header, descriptor and body."""
        vendor_id = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
        header = self.header or struct.pack("<HHIHH16s20s", self.version, 2, 0x81, 0, 0, vendor_id, bytes(20))
        kind = self.body_type or (2 if len(self.body) == 584 else 3)
        return header + (struct.pack("<HI", kind, len(self.body)) if self.version == 5 else b"") + self.body

    @cached_property
    def quote(self) -> bytes:
        """The quote as a machine gives it."""
        chain = self.chain or self.pck.pem + vendor().ca.pem + vendor().root.pem
        inner = self.qe + sign(self.pck.key, self.qe) + struct.pack("<H", len(self.auth_data)) + self.auth_data
        inner += struct.pack("<HI", 5, len(chain)) + chain.encode()
        key = attestation_key()
        data = sign(key, self.signed) + point(key) + struct.pack("<HI", 6, len(inner)) + inner
        return self.signed + struct.pack("<I", len(data)) + data + self.padding

    @property
    def material(self) -> Material:
        """All files that a verification needs."""
        certificate = self.signer.certificate.public_bytes(Encoding.DER)
        return Material((certificate,), self.crls, (self.info, self.identity))

    def tdx_policy(self) -> TdxPolicy:
        """The root and the MRTD are accepted, and what the scene changes."""
        named = {"roots": (fingerprint(vendor().root.certificate),), "measurements": ("22" * 48,)}
        return TdxPolicy(**(named | dict(self.policy)))

    def verdict(self, quote: bytes | None = None) -> HardwareVerdict:
        """The verdict on the quote, or on another one."""
        return verify_tdx(self.quote if quote is None else quote, self.material, self.tdx_policy(), self.at)

    def but(self, **changes: Any) -> "Scene":
        """The scene with changes."""
        return replace(self, **changes)


def outcomes(verdict: HardwareVerdict) -> dict[str, str]:
    """Outcome by step."""
    return {step.name: step.outcome for step in verdict.steps}


def failed(verdict: HardwareVerdict) -> list[str]:
    """Names of the steps that failed."""
    return [step.name for step in verdict.steps if step.outcome == "failed"]


def reason(verdict: HardwareVerdict, name: str) -> str:
    """Why a step passed or failed."""
    return next(step.reason for step in verdict.steps if step.name == name)


def flipped(content: bytes, bit: int) -> bytes:
    """The content with one bit changed."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
