"""Data subjects with certificates of their own, as the city's PKI would issue them."""

from datetime import UTC, datetime
from pathlib import Path

from enclave_api.client.subject import Subject
from enclave_api.dev_ca import DevCa
from enclave_api.identity import Principal, Role
from tests.room import Room


def credentials_of(room: Room, subject: str, folder: Path) -> Path:
    """Makes a folder with a subject's certificate and key; where it lies does not name the subject."""
    authority = DevCa.load(room.home.path / "tls", "heixia.test")
    certificate, key = authority.issue_client(Principal(Role.SUBJECT, subject), datetime.now(UTC))
    made = folder / "subject"
    made.mkdir()
    for file, content in (("cert.pem", certificate), ("key.pem", key), ("ca.pem", authority.pem)):
        (made / file).write_bytes(content)
    return made


def as_subject(room: Room, subject: str, folder: Path) -> Subject:
    """A client of a company itself."""
    return Subject.connect(room.server, credentials_of(room, subject, folder))
