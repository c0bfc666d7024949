"""TDX quotes, versions 4 and 5, read strictly (Intel TDX DCAP Quoting Library API, appendix A; sgx_quote_4.h and _5.h).

Layout, all numbers little-endian:

    header 48 │ version 5: type 2, size 4 │ body 584 (TDX 1.0) or 648 (TDX 1.5) │ length 4 │ signature data

The signature data are the quote's ECDSA signature 64, the attestation key 64, then certification data of type 6: the
quoting enclave's report 384, its signature by the PCK key 64, authentication data (length 2), and certification data of
type 5 in it: the PCK chain as PEM. Every length must fit exactly; what comes after the signature data is padding, of
which nothing is read.
"""

import struct
from dataclasses import dataclass

from enclave_api.attestation.steps import StepFailed

QUOTE_BYTES_MAX = 131_072  # real ones have 5 KB; Linux takes up to 128 KB from its host
_HEADER = struct.Struct("<HHIHH16s20s")
_DESCRIPTOR = struct.Struct("<HI")
_TDX10 = struct.Struct("<16s48s48s8s8s8s48s48s48s48s48s48s48s48s64s")
_TDX15 = struct.Struct("<16s48s")
_QE_REPORT = struct.Struct("<16sI28s16s32s32s32s96sHH60s64s")
_CERTIFICATION = struct.Struct("<HI")

_ECDSA_P256 = 2
_TEE_TDX = 0x81
_INTEL_QE = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_QE_REPORT_CERTIFICATION = 6
_PCK_CHAIN = 5
_BODIES = {2: _TDX10.size, 3: _TDX10.size + _TDX15.size}  # body types of version 5: TDX 1.0, TDX 1.5


@dataclass(frozen=True)
class TdReport:
    """The body: what the TDX module says of the guest. The last two members exist since TDX 1.5."""

    tee_tcb_svn: bytes
    mr_seam: bytes
    mr_signer_seam: bytes
    seam_attributes: bytes
    td_attributes: bytes
    xfam: bytes
    mrtd: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmr0: bytes
    rtmr1: bytes
    rtmr2: bytes
    rtmr3: bytes
    report_data: bytes
    tee_tcb_svn2: bytes | None = None
    mr_service_td: bytes | None = None


@dataclass(frozen=True)
class QeReport:
    """What is judged of the quoting enclave's own SGX report, and its bytes, which the PCK key signs."""

    raw: bytes
    misc_select: bytes
    attributes: bytes
    mr_signer: bytes
    isv_prod_id: int
    isv_svn: int
    report_data: bytes


@dataclass(frozen=True)
class Quote:
    """A quote's parts; signatures are r ‖ s, the attestation key is x ‖ y (P-256)."""

    version: int
    signed: bytes
    report: TdReport
    signature: bytes
    attestation_key: bytes
    qe_report: QeReport
    qe_signature: bytes
    qe_auth_data: bytes
    pck_chain: bytes


class _Reader:
    """Takes parts of a text of bytes from its start; refuses to go beyond its end."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.at = 0

    def take(self, length: int, what: str) -> bytes:
        part = self.content[self.at : self.at + length]
        if len(part) != length:
            raise StepFailed(f"ends within {what}")
        self.at += length
        return part

    def end(self, what: str) -> None:
        if self.at != len(self.content):
            raise StepFailed(f"{len(self.content) - self.at} bytes too many after {what}")


def parse_quote(content: bytes) -> Quote:
    """Reads a quote; raises StepFailed for unknown versions, types and lengths. Checks no signature."""
    if len(content) > QUOTE_BYTES_MAX:
        raise StepFailed(f"{len(content)} bytes; {QUOTE_BYTES_MAX} at most")
    reader = _Reader(content)
    version = _header(reader)
    report = _report(_body(reader, version))
    signed = content[: reader.at]
    (length,) = struct.unpack("<I", reader.take(4, "the length of the signature data"))
    data = _Reader(reader.take(length, "the signature data"))
    signature, key = data.take(64, "the signature"), data.take(64, "the attestation key")
    certification = _Reader(_certification(data, _QE_REPORT_CERTIFICATION))
    qe_report = _qe_report(certification.take(_QE_REPORT.size, "the QE report"))
    qe_signature = certification.take(64, "the QE report's signature")
    (length,) = struct.unpack("<H", certification.take(2, "the length of the authentication data"))
    auth_data = certification.take(length, "the authentication data")
    chain = _certification(certification, _PCK_CHAIN)
    return Quote(version, signed, report, signature, key, qe_report, qe_signature, auth_data, chain)


def _header(reader: _Reader) -> int:
    version, key_type, tee_type, _, _, vendor, _ = _HEADER.unpack(reader.take(_HEADER.size, "the header"))
    if version not in (4, 5):
        raise StepFailed(f"quote version {version}; 4 and 5 are known")
    if tee_type != _TEE_TDX:
        raise StepFailed(f"TEE type {tee_type:#x}; TDX is {_TEE_TDX:#x}")
    if key_type != _ECDSA_P256:
        raise StepFailed(f"attestation key type {key_type}; ECDSA with P-256 is {_ECDSA_P256}")
    if vendor != _INTEL_QE:
        raise StepFailed("the quoting enclave is not of Intel")
    return int(version)


def _body(reader: _Reader, version: int) -> bytes:
    """Version 4 carries a report of TDX 1.0; version 5 says which one it carries."""
    if version == 4:
        return reader.take(_TDX10.size, "the body")
    kind, size = _DESCRIPTOR.unpack(reader.take(_DESCRIPTOR.size, "the body descriptor"))
    if kind not in _BODIES or size != _BODIES[kind]:
        raise StepFailed(f"body type {kind} of {size} bytes; known are type 2 of 584 and type 3 of 648")
    return reader.take(size, "the body")


def _report(body: bytes) -> TdReport:
    first = _TDX10.unpack_from(body)
    return TdReport(*first, *(_TDX15.unpack_from(body, _TDX10.size) if len(body) > _TDX10.size else ()))


def _certification(reader: _Reader, expected: int) -> bytes:
    """Certification data, which must be of the type expected and the last thing there."""
    kind, size = _CERTIFICATION.unpack(reader.take(_CERTIFICATION.size, "the certification data"))
    if kind != expected:
        raise StepFailed(f"certification data of type {kind} where only {expected} is known")
    data = reader.take(size, "the certification data")
    reader.end("the certification data")
    return data


def _qe_report(raw: bytes) -> QeReport:
    _, misc, _, attributes, _, _, signer, _, product, svn, _, data = _QE_REPORT.unpack(raw)
    return QeReport(raw, misc.to_bytes(4, "little"), attributes, signer, product, svn, data)
