"""What a witness keeps, and the one step that checks, stores and cosigns.

    <state>/lock                         held while a witness runs
    <state>/witness.key                  its keys (0600), unless they lie elsewhere
    <state>/witness.vkey                 the public keys, to hand to the logs' operators: Ed25519, ML-DSA-44
    <state>/<origin hash>.checkpoint     the checkpoint cosigned last: the log's lines and the witness's own

A witness is worth what it remembers: it must never cosign two trees that contradict each other. So a checkpoint is
durable before its cosignature leaves, and a state that is damaged ends the start: a witness that began anew would
cosign whatever it was shown.
"""

import fcntl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import Final

from audit.cosign import Cosigner
from audit.durable import write_durably
from audit.errors import ProofInvalid, WitnessStateInvalid
from audit.note import NOTE_BYTES_MAX, Checkpoint, Note, NoteVerifier
from audit.policy import Policy
from audit.witness import Submission, check, origin_hash

KEY: Final = "witness.key"
VKEY: Final = "witness.vkey"
_SUFFIX: Final = ".checkpoint"


class State:
    """A witness's folder, locked for this process until `close`."""

    def __init__(self, folder: Path) -> None:
        """Make the folder where there is none, and lock it.

        Raises:
            WitnessStateInvalid: another witness uses it, or it cannot be written.
        """
        self.folder = folder
        try:
            folder.mkdir(parents=True, mode=0o700, exist_ok=True)
            self._lock: TextIOWrapper = (folder / "lock").open("a")
        except OSError as error:
            raise _unusable(folder, error.strerror or "cannot be used") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise _unusable(folder, "another witness uses it; stop that one first") from error

    def close(self) -> None:
        """Unlock."""
        self._lock.close()

    def cosigner(self, name: str | None, key: Path | None) -> Cosigner:
        """Read the key, or make it where the state is new; its public form is written beside the state.

        Args:
            name: for a key to be made; a key that is there must have it, where one is given.
            key: the key's file; None = in the state's folder.

        Raises:
            WitnessStateInvalid: no key beside a state that was used, a damaged or another witness's, no name for a new.
        """
        path = key or self.folder / KEY
        try:
            cosigner = self._read_key(path) or self._make_key(path, name)
            if name and cosigner.name != name:
                raise _unusable(path, f"the key is {cosigner.name}'s; leave --name out, or give another --state")
            write_durably(self.folder / VKEY, "".join(f"{key.vkey}\n" for key in cosigner.verifiers).encode())
        except OSError as error:
            raise _unusable(path, error.strerror or "cannot be used") from error
        except ProofInvalid as error:
            raise _unusable(path, error.public or str(error)) from error
        return cosigner

    def read(self, origin: str, keys: Sequence[NoteVerifier]) -> tuple[Checkpoint, str] | None:
        """Read the checkpoint of a log that was cosigned last, and its note; None = never.

        Raises:
            WitnessStateInvalid: it is not what this witness wrote.
        """
        path = self._path(origin)
        try:
            with path.open("rb") as file:
                text = file.read(NOTE_BYTES_MAX + 1).decode()
            note = Note.parse(text)
            if keys[0] not in note.verify(keys):
                raise ProofInvalid("not cosigned by the first key")
            checkpoint = Checkpoint.parse(note.text)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(path, error.strerror or "cannot be read") from error
        except (ProofInvalid, UnicodeDecodeError) as error:
            raise _unusable(path, "damaged, or not cosigned by this witness's key; put the true one back") from error
        if checkpoint.origin != origin:
            raise _unusable(path, "another log's checkpoint")
        return checkpoint, text

    def write(self, origin: str, note: str) -> None:
        """Keep a cosigned checkpoint; durable when this returns. Raises OSError."""
        write_durably(self._path(origin), note.encode())

    def _path(self, origin: str) -> Path:
        return self.folder / f"{origin_hash(origin)}{_SUFFIX}"

    def _read_key(self, path: Path) -> Cosigner | None:
        try:
            return Cosigner.parse(path.read_text())
        except FileNotFoundError:
            return None
        except UnicodeDecodeError as error:
            raise _unusable(path, "no witness's key") from error

    def _make_key(self, path: Path, name: str | None) -> Cosigner:
        if any(self.folder.glob(f"*{_SUFFIX}")):
            raise _unusable(path, "the key is gone, but not what was cosigned with it; put the key back")
        if name is None:
            raise _unusable(path, "there is no key yet; give the witness a name with --name, such as bank.example/w1")
        made = Cosigner.generate(name)
        write_durably(path, f"{made.private}\n".encode(), 0o600)
        return made


@dataclass
class _Log:
    """A log that is watched: its keys, and what was cosigned last."""

    keys: tuple[NoteVerifier, ...]
    last: Checkpoint | None = None
    note: str | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Witness:
    """Cosigns checkpoints of the logs of a policy. Safe for use from several threads."""

    def __init__(self, state: State, cosigner: Cosigner, policy: Policy, clock: Callable[[], float]) -> None:
        """Read what was cosigned before.

        Args:
            state: this witness's.
            cosigner: its key.
            policy: its `log` lines say which logs are known; the rest is not looked at.
            clock: the present time in seconds since 1970.

        Raises:
            WitnessStateInvalid: something that was cosigned before is damaged.
        """
        self._state, self._cosigner, self._clock = state, cosigner, clock
        self._logs: dict[str, _Log] = {}
        for origin in dict.fromkeys(log.name for log in policy.logs):
            keys = tuple(log for log in policy.logs if log.name == origin)
            last, note = state.read(origin, cosigner.verifiers) or (None, None)
            self._logs[origin] = _Log(keys, last, note)
        self._by_hash = {origin_hash(origin): log for origin, log in self._logs.items()}

    @property
    def sizes(self) -> dict[str, int | None]:
        """The size cosigned last of each log; None = never."""
        return {origin: log.last.size if log.last else None for origin, log in self._logs.items()}

    def add(self, body: bytes) -> tuple[Checkpoint, str]:
        """Answer an add-checkpoint request: the checkpoint, durably kept, and the cosignature lines.

        Checking and keeping are one step for each log, whoever else asks meanwhile.

        Raises:
            CheckpointDeclined: with the status; nothing was changed.
            OSError: the checkpoint could not be kept; no cosignature was made known.
        """
        submission = Submission.parse(body)
        origin = submission.checkpoint.origin
        log = self._logs.get(origin) or _Log(())  # check declines what nobody has a key for
        with log.lock:
            accepted = check(submission, log.keys, log.last)
            lines = self._cosigner.cosign(accepted.text, int(self._clock()))
            note = f"{accepted.text}\n{accepted.log_lines}{lines}"
            self._state.write(origin, note)
            log.last, log.note = accepted.checkpoint, note
        return accepted.checkpoint, lines

    def latest(self, hashed_origin: str) -> str | None:
        """The checkpoint of a log that was cosigned last, by the origin's hash; None = never, or unknown."""
        log = self._by_hash.get(hashed_origin)
        return log.note if log else None


def _unusable(path: Path, reason: str) -> WitnessStateInvalid:
    return WitnessStateInvalid(public=f"{path}: {reason}")
