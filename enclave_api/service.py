"""What a serving process is made of, and how it was told to serve; enclave_api/app.py puts it together."""

from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine

from audit.ledger import Ledger
from enclave_api.attestation.evidence import EnclaveFacts
from enclave_api.attestation.simulated import Attester
from enclave_api.audit_desk import AuditDesk
from enclave_api.config import Settings
from enclave_api.key_epochs import KeyEpochs
from enclave_api.metrics import Metrics
from model_registry.registry import Registry
from sandbox.consent_store import ConsentStore
from sandbox.decision import Decider
from sandbox.vault.datasets import Datasets
from sandbox.vault.subject import parse_subject
from sandbox.vault.vault import Vault
from sandbox.versions import Versions


@dataclass(frozen=True)
class ServeOptions:
    """How one process serves a home."""

    listen: str
    metrics: str | None
    reflection: bool
    passphrase: str | None = field(repr=False)
    step_metrics: bool = False
    accept_weak_isolation: bool = False
    anchor: Path | None = None  # folder of the anchor; None = the home's own
    accept_rollback: bool = False
    log_listen: str | None = None  # HOST:PORT of the log over HTTP; None = not served


@dataclass
class Service:
    """Everything a serving process is made of; for the servicers and for tests that look inside."""

    settings: Settings
    engine: Engine
    ledger: Ledger
    vault: Vault
    registry: Registry
    consents: ConsentStore
    datasets: Datasets
    versions: Versions
    decider: Decider
    epochs: KeyEpochs
    attester: Attester
    metrics: Metrics
    desk: AuditDesk

    @property
    def facts(self) -> EnclaveFacts:
        """The evidence's, of the newest key."""
        return self.epochs.facts

    def tag_of(self, subject: str) -> str:
        """A subject's tag in the log; raises SubjectInvalid."""
        return self.vault.keys.subject_tag(parse_subject(subject))
