"""The room of tests: answers are not held back unless a test asks for it."""

from pathlib import Path
from typing import Self

from enclave_api.cli import room
from enclave_api.cli.room import ACCEPT, ALICE, AUDITOR, BOB, OFFICE, OPERATOR, PORTAL, datasets_of

__all__ = ["ACCEPT", "ALICE", "AUDITOR", "BOB", "OFFICE", "OPERATOR", "PORTAL", "Room", "datasets_of"]


class Room(room.Room):
    """A room whose answers leave at once."""

    @classmethod
    def make(cls, folder: Path, *, catalog: Path | None = None, **settings: int) -> Self:
        """Makes a home below `folder`; `settings` replace lines of its heixia.toml."""
        return super().make(folder, catalog=catalog, **{"release_quantum_ms": 0, **settings})
