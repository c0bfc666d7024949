"""What a witness decides: may this checkpoint be cosigned after that one? Pure: no clock, file or socket.

Source: c2sp.org/tlog-witness, add-checkpoint.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self

from audit.errors import CheckpointDeclined, ProofInvalid
from audit.merkle import EMPTY_ROOT, HASH_BYTES, verify_consistency
from audit.note import Checkpoint, Note, NoteVerifier, decode_base64, encode_base64, parse_decimal
from audit.signature import signature_line

PROOF_LINES_MAX: Final = 63  # of the specification
REQUEST_BYTES_MAX: Final = 128 * 1024  # a full proof is 3 kB, 16 post-quantum signatures 53 kB; the rest is room
SIZE_TYPE: Final = "text/x.tlog.size"


@dataclass(frozen=True)
class Submission:
    """An add-checkpoint request: the size that the log takes the witness to know, the proof from it, the checkpoint."""

    old: int
    proof: tuple[bytes, ...]
    note: Note
    checkpoint: Checkpoint

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a request's body.

        Raises:
            CheckpointDeclined: 400, malformed.
        """
        try:
            head, separator, rest = body.decode().partition("\n\n")
            old, *hashes = head.split("\n")
            if not separator or not old.startswith("old "):
                raise ProofInvalid("a request is not an old size, a proof, an empty line and a checkpoint")
            if len(hashes) > PROOF_LINES_MAX:
                raise ProofInvalid("a proof has too many lines")
            proof = tuple(map(decode_base64, hashes))
            if any(len(item) != HASH_BYTES for item in proof):
                raise ProofInvalid("a line of the proof is not 32 bytes long")
            note = Note.parse(rest)
            found = cls(parse_decimal(old[4:]), proof, note, Checkpoint.parse(note.text))
        except (ProofInvalid, UnicodeDecodeError) as error:
            detail = "the request is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            raise CheckpointDeclined(400, detail) from error
        return found


@dataclass(frozen=True)
class Accepted:
    """A checkpoint that may be cosigned: the signed note with the log's own verified lines and no others."""

    checkpoint: Checkpoint
    text: str
    log_lines: str


def check(submission: Submission, keys: Collection[NoteVerifier], last: Checkpoint | None) -> Accepted:
    """Decide whether a checkpoint may be cosigned.

    Args:
        submission: what the log sent.
        keys: of the log of this origin, as this witness trusts it; empty = the log is unknown.
        last: the checkpoint of this origin that was cosigned last; None = never.

    Raises:
        CheckpointDeclined: 404 unknown log, 403 not signed by it, 400 old size above the checkpoint's, 409 old size is
            not what was cosigned last (with that size), 422 not proved to go on from there.
    """
    new, old = submission.checkpoint, submission.old
    if not keys:
        raise CheckpointDeclined(404, "this witness does not know the log")
    try:
        lines = _log_lines(submission.note, keys)
    except ProofInvalid as error:
        raise CheckpointDeclined(403, str(error)) from error
    if old > new.size:
        raise CheckpointDeclined(400, "the old size is above the checkpoint's size")
    size, root = (last.size, last.root) if last else (0, EMPTY_ROOT)
    if old != size:
        raise CheckpointDeclined(409, "the old size is not that of the checkpoint cosigned last", size=size)
    try:
        _check_grown(size, root, new, submission.proof)
    except ProofInvalid as error:
        raise CheckpointDeclined(422, str(error), note=f"{submission.note.text}\n{lines}") from error
    return Accepted(new, submission.note.text, lines)


def write_submission(old: int, proof: Iterable[bytes], checkpoint: str) -> bytes:
    """Write the body that `Submission.parse` reads; `checkpoint` is a signed note."""
    return "\n".join([f"old {old}", *map(encode_base64, proof), "", checkpoint]).encode()


def origin_hash(origin: str) -> str:
    """What a log is called in a witness's addresses and files: SHA-256 of its origin, lower-case hex."""
    return sha256(origin.encode()).hexdigest()


def lines_of(note: Note, keys: Collection[NoteVerifier]) -> str:
    """Write the signature lines of a note that are by these keys, each once; they are not verified here."""
    known = {(key.name, key.key_id): key for key in keys}
    by = [(known.get((line.name, line.key_id)), line.payload) for line in note.signatures]
    return "".join(dict.fromkeys(signature_line(key, payload) for key, payload in by if key))


def _log_lines(note: Note, keys: Collection[NoteVerifier]) -> str:
    note.verify(tuple(keys))  # a line in the name of a witness, or of anybody else, is neither believed nor kept
    return lines_of(note, keys)


def _check_grown(size: int, root: bytes, new: Checkpoint, proof: tuple[bytes, ...]) -> None:
    if new.size == 0 and new.root != EMPTY_ROOT:
        raise ProofInvalid("a checkpoint of size 0 has another root than the empty tree")
    if size:
        verify_consistency(size, new.size, root, new.root, proof)
    elif proof:  # every tree is an extension of the empty one
        raise ProofInvalid("a proof from the empty tree is not empty")
