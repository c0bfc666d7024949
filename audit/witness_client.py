"""One witness, asked over HTTP. Everything it answers is bounded in size and time, and verified before it is believed.

Source: c2sp.org/tlog-witness.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Final
from urllib.parse import urlsplit

from audit.errors import ProofInvalid
from audit.http_client import asked
from audit.note import Checkpoint, Note, NoteVerifier, parse_decimal
from audit.signature import signed_at
from audit.witness import SIZE_TYPE, lines_of, origin_hash, write_submission

ADD_S: Final = 5.0  # a witness in another city answers within 0.2 s, one whose disk is slow within 2
REPLY_BYTES_MAX: Final = 64 * 1024  # a checkpoint with sixteen post-quantum signatures


class WitnessFailed(Exception):
    """A witness gave nothing that counts; the text says why and may be logged."""


class Conflict(WitnessFailed):
    """The witness cosigned another size last than the log takes it to have."""

    def __init__(self, size: int) -> None:
        super().__init__(f"it has cosigned {size} entries")
        self.size = size


class Contradicted(WitnessFailed):
    """The witness says that the log does not extend what it has cosigned."""


@dataclass(frozen=True)
class WitnessClient:
    """A witness of a policy: its name there, its key, its address. Safe for use from several threads."""

    name: str
    verifier: NoteVerifier
    url: str

    def __post_init__(self) -> None:
        """Refuse an address that is none; raises ProofInvalid."""
        parts = urlsplit(self.url)
        try:
            known = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
        except ValueError:
            known = False
        if not known or parts.query or parts.fragment or parts.username:
            raise ProofInvalid("url", public=f"witness {self.name}: {self.url} is not http(s)://HOST[:PORT][/PATH]")

    def cosign(self, old: int, proof: Sequence[bytes], checkpoint: str) -> str:
        """Ask for a cosignature.

        Args:
            old: the size that the witness cosigned last, as far as known.
            proof: that the checkpoint's tree extends the one of that size.
            checkpoint: signed by the log.

        Returns:
            The verified signature lines of this witness's key.

        Raises:
            Conflict: another size was cosigned last.
            Contradicted: the proof was refused.
            WitnessFailed: no answer, another refusal, or no line of this key.
        """
        status, kind, body = self._ask("POST", "/add-checkpoint", write_submission(old, proof, checkpoint), ADD_S)
        if status == 409 and kind == SIZE_TYPE:
            raise Conflict(_size(body))
        if status == 422:
            raise Contradicted("it refuses the proof that the log goes on")
        if status != 200:
            raise WitnessFailed(f"it answers {status}")
        try:
            note = Note.parse(checkpoint + body.decode())
            note.verify([self.verifier])
            lines = lines_of(note, [self.verifier])
            if not all(signed_at(line.payload) for line in Note.parse(f"{note.text}\n{lines}").signatures):
                raise ProofInvalid("a cosignature without a time")
        except (ProofInvalid, UnicodeDecodeError) as error:
            raise WitnessFailed(f"its answer has no cosignature of the policy's key ({error})") from error
        return lines

    def latest(self, logs: Sequence[NoteVerifier], timeout_s: float) -> str | None:
        """Ask for the checkpoint of a log that it cosigned last; None where it never did.

        Args:
            logs: the keys of that one log.
            timeout_s: for the whole answer.

        Returns:
            A note that one of the keys and this witness signed.

        Raises:
            WitnessFailed: no answer in time, or one that does not verify.
        """
        status, _, body = self._ask("GET", f"/{origin_hash(logs[0].name)}/checkpoint", None, timeout_s)
        if status == 404:
            return None
        if status != 200:
            raise WitnessFailed(f"it answers {status}")
        try:
            text = body.decode()
            note = Note.parse(text)
            signers = note.verify([*logs, self.verifier])
            if self.verifier not in signers or len(signers) < 2:
                raise ProofInvalid("a signature is missing")
            if Checkpoint.parse(note.text).origin != logs[0].name:
                raise ProofInvalid("another log's")
        except (ProofInvalid, UnicodeDecodeError) as error:
            raise WitnessFailed(f"its checkpoint does not verify under the policy's keys ({error})") from error
        return text

    def _ask(self, method: str, path: str, body: bytes | None, timeout_s: float) -> tuple[int, str, bytes]:
        """Make one request."""
        until = time.monotonic() + timeout_s
        headers = {"Content-Type": "text/plain; charset=utf-8"} if body else {}
        try:
            with asked(method, self.url.rstrip("/") + path, timeout_s, body, headers) as reply:
                content = b""
                while part := reply.read1(REPLY_BYTES_MAX):
                    content += part
                    if len(content) > REPLY_BYTES_MAX:
                        raise WitnessFailed("its answer is too long")
                    if time.monotonic() > until:
                        raise WitnessFailed("its answer takes too long")
                return reply.status, reply.headers.get("content-type", ""), content
        except (OSError, HTTPException, ValueError) as error:
            raise WitnessFailed(f"no answer ({type(error).__name__})") from error


def _size(body: bytes) -> int:
    try:
        return parse_decimal(body.decode("ascii").removesuffix("\n"))
    except (ProofInvalid, UnicodeDecodeError) as error:
        raise WitnessFailed("it names no size") from error
