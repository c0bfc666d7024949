"""The anchor: the newest signed checkpoint in a file outside the database, and what a start makes of it.

Whoever puts an old copy of the database back puts every budget and every used consent back with it. The copy
re-derives, for it was true once; only something outside of it can tell. The anchor is the least such thing: a file,
best on another machine's disk. A log must be its anchor's or an extension of it, or the service does not start.

It is written by a thread of its own, which skips what is no longer the newest: no answer waits for it. The database is
durable before it, and an anchor that is a moment old still holds; it is synced so that a power cut leaves no empty one.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Final

from audit.errors import EntryUnknown, LedgerRolledBack, ProofInvalid
from audit.ledger import Ledger
from audit.merkle import verify_consistency
from audit.note import NOTE_BYTES_MAX, Checkpoint, Note, NoteVerifier, head_of

FILE: Final = "checkpoint"
PAUSE_S: Final = 0.05  # between two writes: each takes the next commits some 0.3 ms of disk and interpreter
CLOSE_S: Final = 5.0  # another machine's disk may hang; a stop must not


class Finding(StrEnum):
    """What is wrong between an anchor, or what a witness saw, and a log."""

    MISSING = "anchor missing"
    UNREADABLE = "anchor unreadable"
    SHORTER = "log shorter"
    DIFFERS = "log differs"
    BEHIND_WITNESS = "behind a witness"
    WITNESS_DIFFERS = "witness differs"


@dataclass(frozen=True)
class Rollback:
    """Why a log may not go on. `anchored` and `anchor_hash`: None where no checkpoint of this log's key was found."""

    finding: Finding
    anchored: int | None = None
    anchor_hash: str | None = None
    by: str = "the anchor"


def find_rollback(ledger: Ledger, folder: Path, verifier: NoteVerifier) -> Rollback | None:
    """Hold a log, just opened, against the anchor in a folder; None where it is the anchor's or an extension of it."""
    try:
        with (folder / FILE).open("rb") as file:
            raw = file.read(NOTE_BYTES_MAX + 1)
    except FileNotFoundError:
        return Rollback(Finding.MISSING) if ledger.size else None
    except OSError:
        return Rollback(Finding.UNREADABLE)
    try:
        note = Note.parse(raw.decode())
        note.verify([verifier])
        anchor = Checkpoint.parse(note.text)
        if anchor.origin != verifier.name:
            raise ProofInvalid("another log's checkpoint")
    except (ProofInvalid, UnicodeDecodeError):
        return Rollback(Finding.UNREADABLE)
    anchored, anchor_hash = anchor.size, sha256(raw).hexdigest()
    try:
        check_extends(ledger, anchor)
    except EntryUnknown:
        return Rollback(Finding.SHORTER, anchored, anchor_hash)
    except ProofInvalid:
        return Rollback(Finding.DIFFERS, anchored, anchor_hash)
    return None


def check_extends(ledger: Ledger, seen: Checkpoint) -> None:
    """Check that a log, just opened, is that of a checkpoint or an extension of it.

    Raises:
        EntryUnknown: the log is shorter.
        ProofInvalid: it is another one.
    """
    if seen.size:  # every log is an extension of the empty one
        proof, checkpoint = ledger.prove_consistency(seen.size)
        now = head_of(checkpoint)
        verify_consistency(seen.size, now.size, seen.root, now.root, proof)


def rolled_back(found: Rollback, ledger: Ledger) -> LedgerRolledBack:
    """Say a finding as the error that refuses the start."""
    said = "" if found.anchored is None else f", {found.by} says {found.anchored}"
    if found.finding is Finding.MISSING:
        said = f"; where the anchor was moved, bring its file `{FILE}` along"
    return LedgerRolledBack(found.finding, public=f"{found.finding}; the log has {ledger.size} entries{said}")


class Anchor:
    """Keeps the newest checkpoint in a folder. `put` costs its caller a few microseconds; a thread writes."""

    def __init__(self, folder: Path, on_error: Callable[[OSError], None]) -> None:
        """Nothing is written before `start`.

        Args:
            folder: an existing folder; for each log its own.
            on_error: called on the writing thread when the file could not be written; the next `put` tries again.
        """
        self._folder, self._on_error = folder, on_error
        self._wake = threading.Condition()
        self._newest: str | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._write_forever, name="anchor", daemon=True)

    def start(self, checkpoint: str) -> None:
        """Write the first checkpoint before returning, then keep up with `put`; raises OSError."""
        self._write(checkpoint)
        self._thread.start()

    def put(self, checkpoint: str) -> None:
        """Hand over a newer checkpoint; what is put last stays. Written at once, or `PAUSE_S` after the one before."""
        with self._wake:
            self._newest = checkpoint
            self._wake.notify()

    def close(self) -> None:
        """Write what was put last, then stop."""
        self._closed.set()
        with self._wake:
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(CLOSE_S)

    def _write_forever(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._newest is not None or self._closed.is_set())
                checkpoint, self._newest = self._newest, None
            if checkpoint is None:
                return
            try:
                self._write(checkpoint)
            except OSError as error:
                self._on_error(error)
            self._closed.wait(PAUSE_S)

    def _write(self, checkpoint: str) -> None:
        fresh = self._folder / f"{FILE}.new"
        with fresh.open("wb") as file:
            file.write(checkpoint.encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self._folder / FILE)  # a reader sees the old one or the new one, never half of one
