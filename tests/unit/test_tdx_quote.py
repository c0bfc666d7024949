"""The strict reading of TDX quotes and of the SGX extension: versions, types, lengths."""

import struct

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from enclave_api.attestation.steps import StepFailed
from enclave_api.attestation.tdx_guest import ATTRIBUTE_BITS
from enclave_api.attestation.tdx_pck import Platform, platform_of
from enclave_api.attestation.tdx_policy import TdAttribute
from enclave_api.attestation.tdx_quote import QUOTE_BYTES_MAX, parse_quote
from tests.unit.tdx_machine import COMPONENTS, FMSPC, SVN15, Scene, body, issue, pck, sgx_extension, vendor

INTEL = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")


def header(version: int = 4, key_type: int = 2, tee: int = 0x81, vendor_id: bytes = INTEL) -> bytes:
    """A quote's header."""
    return struct.pack("<HHIHH16s20s", version, key_type, tee, 0, 0, vendor_id, bytes(20))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (header(3), "version 3"),
        (header(6), "version 6"),
        (header(tee=0), "TEE type 0x0"),
        (header(key_type=3), "key type 3"),
        (header(vendor_id=bytes(16)), "not of Intel"),
    ],
)
def test_unknown_headers_are_refused(content: bytes, told: str) -> None:
    """SGX, other keys, other makers, versions before and after."""
    with pytest.raises(StepFailed, match=told):
        parse_quote(Scene(header=content).quote)


@pytest.mark.parametrize(("kind", "length"), [(1, 384), (2, 648), (3, 584), (4, 648), (2, 583), (3, 0)])
def test_unknown_bodies_are_refused(kind: int, length: int) -> None:
    """A type and a length that do not belong together, or that nobody knows."""
    with pytest.raises(StepFailed, match=f"body type {kind} of {length} bytes"):
        parse_quote(Scene(version=5, body_type=kind, body=bytes(length)).quote)


def test_members_are_where_the_format_has_them() -> None:
    """Each member of a body of TDX 1.5 is read from its own place."""
    names = ("mrtd", "rtmr0", "rtmr3", "mr_seam", "mr_owner", "mr_owner_config", "mr_config_id", "mr_service_td")
    values = {name: bytes((number,)) * 48 for number, name in enumerate(names, 0x60)}
    quote = parse_quote(Scene(version=5, body=body(tee_tcb_svn2=SVN15, **values)).quote)
    assert {name: getattr(quote.report, name) for name in values} == values
    assert (quote.report.tee_tcb_svn2, quote.report.report_data) == (SVN15, b"\x44" * 64)
    assert (quote.qe_report.isv_prod_id, quote.qe_report.isv_svn) == (2, 4)
    assert len(quote.signed) == 48 + 6 + 648


def test_padding_is_let_be_and_every_cut_is_refused() -> None:
    """A buffer may be larger than the quote; a quote that ends early is none."""
    content = Scene().quote
    assert parse_quote(content + bytes(4000)) == parse_quote(content)
    for length in (*range(0, 1400, 7), len(content) - 1):
        with pytest.raises(StepFailed):
            parse_quote(content[:length])
    with pytest.raises(StepFailed, match="at most"):
        parse_quote(content + bytes(QUOTE_BYTES_MAX))


LENGTHS = {"signature data": 632, "QE report certification": 766, "authentication data": 1218, "PCK chain": 1254}


@pytest.mark.parametrize("place", LENGTHS)
@pytest.mark.parametrize("more", [-1, 1])
def test_lengths_that_do_not_fit_exactly_are_refused(place: str, more: int) -> None:
    """Inner lengths fill the outer ones: nothing is left over between two parts that are read."""
    content, at = Scene(padding=bytes(8)).quote, LENGTHS[place]
    form = "<H" if place == "authentication data" else "<I"
    (length,) = struct.unpack_from(form, content, at)
    changed = bytearray(content)
    struct.pack_into(form, changed, at, length + more)
    with pytest.raises(StepFailed):
        parse_quote(bytes(changed))


@pytest.mark.parametrize(("at", "kind"), [(764, 5), (764, 7), (1252, 1), (1252, 3), (1252, 4), (1252, 6)])
def test_other_certification_data_is_refused(at: int, kind: int) -> None:
    """Only a QE report with the PCK chain in it: other kinds need a service to be asked."""
    changed = bytearray(Scene().quote)
    struct.pack_into("<H", changed, at, kind)
    with pytest.raises(StepFailed, match=f"type {kind}"):
        parse_quote(bytes(changed))


def test_the_platform_is_read_from_the_certificate() -> None:
    """FMSPC, PCE id, PCESVN and the 16 components."""
    assert platform_of(pck().certificate) == Platform(FMSPC, "0000", 13, COMPONENTS)


def certificate(extension: bytes | None) -> x509.Certificate:
    """A certificate with these bytes as its SGX extension."""
    return issue("Intel SGX PCK Certificate", vendor().ca, ca=False, extension=extension).certificate


WHOLE = sgx_extension()


@pytest.mark.parametrize(
    "extension",
    [
        None,
        b"",
        WHOLE[:-1],
        WHOLE + b"\0",
        sgx_extension(again=True),
        WHOLE.replace(bytes.fromhex("2a864886f84d010d0104"), bytes.fromhex("2a864886f84d010d0109")),
        WHOLE.replace(bytes.fromhex(FMSPC), bytes.fromhex(FMSPC)[:5]),
        sgx_extension(components=(256, *COMPONENTS[1:])),
        sgx_extension(pce_svn=65536),
        sgx_extension(components=COMPONENTS[:15]),
        bytes.fromhex("3080"),
        bytes.fromhex("308400000001"),
    ],
    ids=["none", "empty", "cut", "more", "twice", "lacking", "short", "wide", "wide PCE", "fifteen", "endless", "long"],
)
def test_malformed_sgx_extensions_are_refused(extension: bytes | None) -> None:
    """Members absent, twice, out of range; lengths that are not DER."""
    with pytest.raises(StepFailed):
        platform_of(certificate(extension))


@given(st.binary(max_size=200))
def test_random_sgx_extensions_never_raise_anything_else(extension: bytes) -> None:
    """Only StepFailed."""
    with pytest.raises(StepFailed):
        platform_of(certificate(extension))


def test_every_attribute_of_policies_has_its_bit() -> None:
    """Names in policies are those that can be read from a quote."""
    assert set(ATTRIBUTE_BITS.values()) == set(TdAttribute.__args__)  # type: ignore[attr-defined]
