"""A host's table of certificates, and report files as they come."""

import struct
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from enclave_api.attestation.hardware import Material
from enclave_api.attestation.verify_sev_snp import certificate_table
from tests.unit.snp_machine import Machine, crl

ARK = UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae")
ASK = UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782")
VCEK = UUID("63da758d-e664-4564-adc5-f4b93be8accd")
VLEK = UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1")
CRL = UUID("92f81bc3-5811-4d3d-97ff-d19f88dc67ea")
OTHER = UUID("ecae0c0f-9502-43b1-afa2-0ae2e0d565b6")  # what some hosts add about the machine


def table(*entries: tuple[bytes, bytes], page: int = 0) -> bytes:
    """A table of GUIDs and contents, as a host lays it out."""
    offset = 24 * (len(entries) + 1)
    head = body = b""
    for guid, content in entries:
        head += guid + struct.pack("<II", offset + len(body), len(content))
        body += content
    return (head + bytes(24) + body).ljust(page, b"\0")


@pytest.mark.parametrize("order", ["bytes", "bytes_le"])
@pytest.mark.parametrize("page", [0, 16_384])
def test_certificates_and_lists_are_taken_by_their_guid(order: str, page: int) -> None:
    """In either order of a GUID's bytes; what is neither is left out."""
    material = Machine().material(None, crl())
    leaf, ask, ark = material.certificates
    guids = [getattr(guid, order) for guid in (VCEK, OTHER, ASK, CRL, ARK)]
    blob = table(*zip(guids, [leaf, b"about the machine", ask, material.crls[0], ark], strict=True), page=page)
    assert certificate_table(blob) == material


def test_a_certificate_may_be_pem() -> None:
    """Some hosts were given PEM files."""
    leaf = Machine(kind="VLEK").leaf()
    blob = table((VLEK.bytes, leaf.public_bytes(Encoding.PEM)))
    assert certificate_table(blob) == Material((leaf.public_bytes(Encoding.DER),))


@pytest.mark.parametrize("blob", [b"", bytes(24), bytes(4096)])
def test_an_empty_table_holds_nothing(blob: bytes) -> None:
    """A host that has no certificates at hand."""
    assert certificate_table(blob) == Material()


@pytest.mark.parametrize(
    "blob",
    [
        bytes(23),
        VCEK.bytes + struct.pack("<II", 24, 0),
        VCEK.bytes + struct.pack("<II", 48, 1) + bytes(24),
        VCEK.bytes + struct.pack("<II", 2**32 - 1, 2**32 - 1) + bytes(24),
        (OTHER.bytes + bytes(8)) * 65 + bytes(24),
    ],
)
def test_a_malformed_table_is_refused(blob: bytes) -> None:
    """Cut, without end, pointing outside of itself, endless."""
    with pytest.raises(ValueError, match="certificate table"):
        certificate_table(blob)


@given(st.binary(max_size=200))
def test_a_random_table_is_read_or_refused(blob: bytes) -> None:
    """Nothing else leaves the reader than its own error."""
    try:
        assert isinstance(certificate_table(blob), Material)
    except ValueError as error:
        assert "certificate table" in str(error)  # noqa: PT017 - either outcome is right


def test_entries_over_the_same_bytes_are_refused() -> None:
    """A host could have a few kilobytes read, and sent to banks, sixty times over."""
    content = b"x" * 100
    entries = b"".join(VCEK.bytes + struct.pack("<II", 4 * 24, len(content)) for _ in range(3))
    with pytest.raises(ValueError, match="lie over each other"):
        certificate_table(entries + bytes(24) + content)
