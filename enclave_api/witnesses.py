"""The server's witnesses: who they are, what they remember at a start, and what their cosignatures are good for.

The policy that verifiers get (HOME/public/log.policy) names them, with addresses. The newest checkpoint that has its
quorum lies in HOME/public/checkpoint and is what the doors show.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from sqlalchemy import Engine

from audit.anchor import rolled_back
from audit.cosigning import Cosigning
from audit.durable import write_durably
from audit.errors import HeixiaError, ProofInvalid
from audit.ledger import Ledger
from audit.note import NOTE_BYTES_MAX, Checkpoint, Note, NoteVerifier
from audit.policy import NONE, Policy
from audit.reprove import prove_consistency
from audit.source import DatabaseSource
from audit.witness_check import ask_all, find_unaccepted, find_witnessed
from audit.witness_client import WitnessClient, WitnessFailed
from enclave_api.errors import HomeInvalid
from enclave_api.home import Home
from enclave_api.metrics import Metrics

START_S = 2.0  # what a start waits for witnesses: one that is away must not keep the service down
OWN = "the published checkpoint"

_log = structlog.get_logger("heixia")


@dataclass(frozen=True)
class Trust:
    """A home's policy, and those of its witnesses that can be asked."""

    policy: Policy
    clients: tuple[WitnessClient, ...]
    logs: tuple[NoteVerifier, ...]  # this log's keys
    path: Path  # of the published checkpoint

    @classmethod
    def load(cls, home: Home, logs: tuple[NoteVerifier, ...]) -> "Trust":
        """Reads HOME/public/log.policy; raises HomeInvalid where it is missing, malformed or another log's."""
        try:
            policy = Policy.parse(home.policy.read_bytes())
            urls = policy.urls.items()
            clients = tuple(WitnessClient(name, policy.witnesses[name], url.rstrip("/")) for name, url in urls)
        except OSError as error:
            raise HomeInvalid("policy", public=f"{home.policy}: {error.strerror}") from error
        except ProofInvalid as error:
            raise HomeInvalid("policy", public=f"{home.policy}: {error.public or error}") from error
        if not {*logs} & {*policy.logs}:
            raise HomeInvalid("policy", public=f"{home.policy} does not name this log's key, {logs[0].vkey}")
        return cls(policy, clients, logs, home.policy.with_name("checkpoint"))

    def remembered(self) -> dict[str, str]:
        """The checkpoints that witnesses and this home itself have seen, by who keeps them; blocks up to 4 s."""
        try:
            self.policy.check_quorum([client.verifier for client in self.clients])
        except ProofInvalid:
            _log.warning("no quorum can be reached: too few witnesses of the policy have an address")
        seen, silent = ask_all(self.clients, self.logs, START_S)
        for name, reason in silent.items():
            _log.warning(
                "witness not heard: whether the log was rolled back is not known from it", name=name, reason=reason
            )
        if own := self.published():
            seen[OWN] = own
        return {f"witness {name}" if name != OWN else name: note for name, note in seen.items()}

    def published(self) -> str | None:
        """The published checkpoint of an earlier run; None where there is none, or none that this log signed."""
        try:
            with self.path.open("rb") as file:
                text = file.read(NOTE_BYTES_MAX + 1).decode()
            note = Note.parse(text)
            note.verify(self.logs)
            if Checkpoint.parse(note.text).origin != self.logs[0].name:
                raise ProofInvalid("another log's")
        except FileNotFoundError:
            return None
        except (OSError, ProofInvalid, UnicodeDecodeError) as error:
            _log.warning("published checkpoint not usable, made anew", path=str(self.path), reason=type(error).__name__)
            return None
        return text


@dataclass
class Witnesses:
    """Told what the witnesses do (audit.cosigning.Observer): publishes, measures, and says it in the log."""

    trust: Trust
    ledger: Ledger
    engine: Engine
    metrics: Metrics
    on_fatal: Callable[[BaseException], None]
    _said: dict[str, str] = field(default_factory=dict)
    _missed: bool = False

    def start(self) -> Cosigning:
        """Shows what was published before, and begins to ask."""
        size = self._show_again()
        source = DatabaseSource(self.engine)
        cosigning = Cosigning(
            self.trust.policy,
            self.trust.clients,
            lambda old, new: prove_consistency(source, old, new),
            self,
            clock=time.monotonic,
            chance=random.random,
        )
        self.metrics.watch_log(lambda: self.ledger.size)
        cosigning.start(self.ledger.checkpoint, size)
        return cosigning

    def published(self, checkpoint: str, size: int) -> None:
        """Keeps it, then shows it."""
        try:
            write_durably(self.trust.path, checkpoint.encode())
        except OSError as error:
            _log.error("published checkpoint not kept, not shown", path=str(self.trust.path), reason=error.strerror)
            return
        if self.trust.policy.quorum != NONE:
            self.ledger.publish(checkpoint)
        self.metrics.published(size)
        if self._missed:
            self._missed = False
            _log.info("quorum of witnesses reached again", size=size)

    def cosigned(self, name: str, size: int) -> None:
        """Measured; said where it had failed before."""
        self.metrics.cosigned(name, size)
        if self._said.pop(name, None):
            _log.info("witness cosigns again", name=name, size=size)

    def failed(self, name: str, reason: str) -> None:
        """Said once, until it changes."""
        if self._said.get(name) != reason:
            self._said[name] = reason
            _log.warning("witness gave no cosignature", name=name, reason=reason)

    def missed(self, size: int) -> None:
        """Said once, until it is reached again."""
        if not self._missed:
            self._missed = True
            _log.warning("quorum of witnesses missed: receipts and checkpoints stay without it", size=size)

    def contradicted(self, client: WitnessClient) -> None:
        """Hears the witness: with this log's own signature on what the log does not hold, the service ends.

        A bare word of the witness ends nothing, or any witness could.
        """
        try:
            note = client.latest(self.trust.logs, START_S)
            found = note and find_witnessed(self.ledger, f"witness {client.name}", note)
            if not (note and found):
                return
            if not find_unaccepted(self.ledger, self.engine, {found.by: note}):
                self.failed(client.name, "it does not follow a log whose rollback was accepted")
                return
        except (WitnessFailed, HeixiaError) as error:
            self.failed(client.name, f"it contradicts this log, and does not prove it: {error}")
            return
        _log.error("a witness knows a newer log: this one was rolled back", name=client.name, finding=found.finding)
        self.on_fatal(rolled_back(found, self.ledger))

    def _show_again(self) -> int:
        """Publishes what an earlier run published, if the policy still takes it; returns its size, -1 = none."""
        if (note := self.trust.published()) is None:
            return -1
        try:
            size = self.trust.policy.verify(note).size
            if self.trust.policy.quorum != NONE:
                self.ledger.publish(note)
        except HeixiaError as error:
            _log.warning("published checkpoint not shown again", code=error.code)
            return -1
        self.metrics.published(size)
        return size
