"""Data subjects with certificates of their own, as the city's PKI would issue them."""

from datetime import UTC, datetime
from pathlib import Path

from enclave_api.client.subject import Subject
from enclave_api.home import issue_client
from enclave_api.identity import Principal, Role
from tests.room import Room


def credentials_of(room: Room, subject: str, folder: Path) -> Path:
    """Makes a folder with a subject's certificate and key; where it lies does not name the subject."""
    return issue_client(room.home, Principal(Role.SUBJECT, subject), datetime.now(UTC), folder / "subject")


def as_subject(room: Room, subject: str, folder: Path) -> Subject:
    """A client of a company itself."""
    return Subject.connect(room.server, credentials_of(room, subject, folder))
