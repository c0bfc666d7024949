"""A real enclave to play with: a home on disk, a server in a process of its own, clients with real certificates.

The demonstration, the tests and bench are made of it.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self, TypeVar, cast

from enclave_api.attestation.policy import Policy, UnsafeAcceptSimulated
from enclave_api.cli.example import Example
from enclave_api.client.application import Application
from enclave_api.client.auditor import Auditor
from enclave_api.client.authority import Authority, Grant
from enclave_api.client.bank import Bank
from enclave_api.client.connection import Client
from enclave_api.client.operator import Operator
from enclave_api.client.steward import Steward
from enclave_api.home import Home, create_home, issue_client
from enclave_api.identity import Principal, Role
from sandbox.vault.catalog import Catalog, load_catalog
from sandbox.vault.synthetic import World

C = TypeVar("C", bound=Client)

ALICE = Principal(Role.INSTITUTION, "zhongyuan", "alice")
BOB = Principal(Role.INSTITUTION, "zhongyuan", "bob")
PORTAL = Principal(Role.APPLICATION, "portal")
OFFICE = Principal(Role.AUTHORITY, "consent-office")
AUDITOR = Principal(Role.AUDITOR, "audit-office")
OPERATOR = Principal(Role.OPERATOR, "operations")

ACCEPT = Policy(simulated=UnsafeAcceptSimulated())


class NotServing(RuntimeError):
    """The server ended instead of serving; the text is all it wrote."""


@dataclass
class Room:
    """One enclave. `start`, `stop` and `kill` are about the server's process; the home stays."""

    home: Home
    catalog: Catalog
    process: "subprocess.Popen[str] | None" = None
    server: str = ""
    launcher: Sequence[str] = ()  # what starts the server's command, where tests need it under other conditions
    _open: dict[tuple[type[Client], Principal], Client] = field(default_factory=dict)
    _companies: dict[Principal, Path] = field(default_factory=dict)

    @classmethod
    def make(cls, folder: Path, *, catalog: Path | None = None, **settings: int | str) -> Self:
        """Makes a home below `folder`; `settings` replace lines of its heixia.toml."""
        now = datetime.now(UTC)
        home = create_home(folder / "home", passphrase=None, host="localhost", now=now, catalog=catalog)
        text = (home.path / "heixia.toml").read_text()
        # Whoever plays counts entries: none may come of itself, whatever the hour.
        for name, value in {"fsck_hour_utc": '"off"', **settings}.items():
            text = re.sub(rf"^{name} = \S+", f"{name} = {value}", text, flags=re.MULTILINE)
        (home.path / "heixia.toml").write_text(text)
        return cls(home, load_catalog(home.path / "catalog.yaml"))

    def start(self, *options: str) -> Self:
        """Starts the server and waits until it serves; raises NotServing with its words where it does not."""
        command = [*self.launcher, sys.executable, "-m", "enclave_api", "serve", "--home", str(self.home.path)]
        command += ["--listen", "127.0.0.1:0", "--metrics", "off", "--log-listen", "off", *options]
        # A passphrase of the caller's is for homes of the caller's; this one has none.
        environment = {name: value for name, value in os.environ.items() if name != "HEIXIA_PASSPHRASE"}
        with self.log.open("a") as log:
            self.process = subprocess.Popen(  # noqa: S603
                command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
            )
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line.startswith("serving on "):
            raise NotServing(self.log.read_text())
        self.server = line.split()[-1]
        return self

    @property
    def log(self) -> Path:
        """What the server wrote to stderr."""
        return self.home.path / "serve.log"

    def stop(self) -> int:
        """Ends the server as an operator would; returns its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """Ends the server as a power cut would."""
        return self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        for client in self._open.values():
            client.close()
        self._open.clear()
        if self.process is None:
            return 0
        os.kill(self.process.pid, number)
        code = self.process.wait(timeout=30)
        if self.process.stdout:
            self.process.stdout.close()
        self.process = None
        return code

    def client(self, kind: type[C], principal: Principal) -> C:
        """A client with a principal's certificate, issued where it has none yet; open until the server ends."""
        made = self._open.get((kind, principal))
        if made is None:
            folder = self._folder(principal)
            if not folder.exists():
                issue_client(self.home, principal, datetime.now(UTC), folder)
            made = self._open[kind, principal] = kind.connect(self.server, folder)
        return cast("C", made)

    def _folder(self, principal: Principal) -> Path:
        if principal.role is not Role.SUBJECT:
            return self.home.client(principal)
        # Outside the home, and named by a number: what a company holds is its own.
        companies = self.home.path.parent / "companies"
        number = len(list(companies.glob("*"))) + 1
        return self._companies.setdefault(principal, companies / str(number))

    @property
    def alice(self) -> Bank:
        """Who submits."""
        return self.client(Bank, ALICE)

    @property
    def bob(self) -> Bank:
        """Who approves."""
        return self.client(Bank, BOB)

    @property
    def portal(self) -> Application:
        """Who asks for limits."""
        return self.client(Application, PORTAL)

    @property
    def office(self) -> Authority:
        """Who signs consents."""
        return self.client(Authority, OFFICE)

    @property
    def auditor(self) -> Auditor:
        """Who reads the log."""
        return self.client(Auditor, AUDITOR)

    def steward(self, department: str) -> Steward:
        """A department's steward."""
        return self.client(Steward, Principal(Role.STEWARD, department))

    def revoke_authority(self, authority: str) -> int:
        """Ends an authority's standing; returns the index of the entry."""
        return self.client(Operator, OPERATOR).revoke_authority(authority, "security")

    def load(self, world: World, datasets: Sequence[str]) -> None:
        """Publishes and loads made-up data."""
        for name in datasets:
            described = self.catalog.dataset(name)
            steward = self.steward(described.department)
            steward.publish(described)
            subjects = [s for s, here in zip(world.subjects, world.present(name), strict=True) if here]
            steward.load(described, subjects, world.packed(name), datetime.now(UTC))

    def launch(self, example: Example) -> str:
        """Seals, submits, approves and promotes; returns the version."""
        version = self.approved(example)
        self.bob.promote(version)
        return version

    def approved(self, example: Example) -> str:
        """Seals, submits and approves; returns the version."""
        recipient = self.alice.verify_enclave(ACCEPT).recipient()
        bundle = self.alice.seal(example.model, example.offer, recipient, example.samples())
        version = self.alice.submit(bundle).version
        self.bob.approve(version)
        return version

    def consent(self, subject: str, product: str, names: Sequence[str], *, uses: int = 1, days: int = 31) -> str:
        """Signs and registers a consent; returns its id."""
        grant = Grant(subject, product.partition("/")[0], [product], names, days, uses)
        office = self.office
        return office.register(office.sign(grant, datetime.now(UTC))).consent_id


def datasets_of(names: Sequence[str]) -> list[str]:
    """The datasets that fields belong to, in order."""
    return list(dict.fromkeys(name.rpartition(".")[0] for name in names))
