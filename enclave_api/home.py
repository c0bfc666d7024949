"""The home directory of an enclave: what lies where, and how `heixia init` makes it.

heixia.toml           settings
root.key              root secret (0600; wrapped where a passphrase is set)
heixia.db             the ledger, its projections and the encrypted vault: one file, because they commit together
audit.index           the auditors' search index: derived from the log, may be deleted at any time
catalog.yaml          departments, datasets, fields
tls/                  ca.pem, server.pem, server.key (and ca.key: development only)
trust/                institutions.jwks, authorities.jwks: whose signatures count
public/log.policy     tlog-policy: give it to whoever verifies receipts; the witnesses that it names are asked
public/checkpoint     the newest checkpoint that a quorum of them cosigned
clients/<name>/       cert.pem, key.pem, ca.pem and, for banks and authorities, signing.jwk
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path

from joserfc.jwk import KeySet

from audit.note import NoteSigner
from audit.schema import open_engine
from enclave_api import tables  # noqa: F401 - every floor's tables must be known before the database is made
from enclave_api.config import TEMPLATE, Settings, load_settings
from enclave_api.dev_ca import DevCa, write_secret
from enclave_api.errors import HomeInvalid
from enclave_api.identity import Principal, Role
from enclave_api.keeper import Keeper, create_root, open_file
from enclave_api.keys import Keys
from model_registry.signing import generate_key, load_key_set

_TRUST_FILE = {Role.INSTITUTION: "institutions.jwks", Role.AUTHORITY: "authorities.jwks"}

_DIGESTED = ("trust/authorities.jwks", "trust/institutions.jwks", "tls/ca.pem", "catalog.yaml", "public/log.policy")

# One certificate a role, and a second person at the bank, because approval needs one.
DEVELOPMENT_PRINCIPALS = (
    Principal(Role.INSTITUTION, "zhongyuan", "alice"),
    Principal(Role.INSTITUTION, "zhongyuan", "bob"),
    Principal(Role.APPLICATION, "portal"),
    Principal(Role.AUTHORITY, "consent-office"),
    Principal(Role.STEWARD, "tax"),
    Principal(Role.AUDITOR, "audit-office"),
    Principal(Role.OPERATOR, "operations"),
)


@dataclass(frozen=True)
class Home:
    """Paths below a home directory."""

    path: Path

    @property
    def database(self) -> Path:
        """The one database file."""
        return self.path / "heixia.db"

    @property
    def index(self) -> Path:
        """The search index beside the database; derived from it."""
        return self.path / "audit.index"

    @property
    def anchor(self) -> Path:
        """The folder of the anchor, where no other is given."""
        return self.path / "anchor"

    @property
    def root_key(self) -> Path:
        """The root secret's file."""
        return self.path / "root.key"

    @property
    def policy(self) -> Path:
        """The tlog-policy for verifiers."""
        return self.path / "public" / "log.policy"

    def settings(self) -> Settings:
        """The settings; raises HomeInvalid."""
        return load_settings(self.path / "heixia.toml")

    def keeper(self, passphrase: str | None) -> Keeper:
        """Who keeps the keys: a file, today; raises HomeInvalid, PassphraseWrong."""
        return open_file(self.root_key, passphrase)

    def trusted(self, role: Role) -> KeySet:
        """Public signing keys of institutions or authorities; raises HomeInvalid, SignatureInvalid."""
        path = self.path / "trust" / _TRUST_FILE[role]
        try:
            return load_key_set(path.read_text())
        except OSError as error:
            raise HomeInvalid("trust", public=f"{path} is missing") from error

    def config_digest(self, settings: Settings) -> str:
        """SHA-256, hex, of the settings and of the files that say whom this enclave trusts and what it holds."""
        state = hashlib.sha256(settings.digest.encode())
        for name in _DIGESTED:
            try:
                content = (self.path / name).read_bytes()
            except OSError as error:
                raise HomeInvalid("trust", public=f"{self.path / name} is missing") from error
            state.update(f"{name} {len(content)}\n".encode() + content)
        return state.hexdigest()

    def client(self, principal: Principal) -> Path:
        """The folder of a client's certificate; HomeInvalid for a subject's, which would be named after it."""
        if principal.role is Role.SUBJECT:
            raise HomeInvalid("subject", public="a subject's certificate lies elsewhere, under another name")
        parts = (principal.role, principal.organisation, principal.person)
        return self.path / "clients" / "-".join(part for part in parts if part)


def log_signer(keys: Keys, origin: str) -> NoteSigner:
    """What signs this enclave's checkpoints, with Ed25519 and ML-DSA-44."""
    return NoteSigner.from_seed(origin, keys.ledger_seed, keys.ledger_ml_dsa_seed)


def create_home(
    path: Path,
    *,
    passphrase: str | None,
    host: str,
    now: datetime,
    catalog: Path | None = None,
    trust_domain: str = "heixia.test",
    log_origin: str = "heixia.test/log",
) -> Home:
    """Makes a home for development: root secret, database, development CA and a certificate for each role.

    Args:
        path: a directory that does not exist yet or is empty.
        passphrase: wraps the root secret; None leaves it in the clear.
        host: what the server's certificate answers to beside localhost.
        now: the present time.
        catalog: the catalogue to start with; None = the built-in one.
        trust_domain: of client certificates.
        log_origin: the log's name.

    Raises:
        HomeInvalid: the directory holds something already.
    """
    home = Home(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise HomeInvalid("not empty", public=f"{path} is not empty; a home is never overwritten")
    for folder in ("tls", "trust", "public", "clients", "anchor"):
        (path / folder).mkdir(parents=True, mode=0o700, exist_ok=True)
    (path / "heixia.toml").write_text(TEMPLATE.format(trust_domain=trust_domain, log_origin=log_origin))
    text = catalog.read_text() if catalog else files("sandbox.vault").joinpath("catalog.yaml").read_text()
    (path / "catalog.yaml").write_text(text)
    keys = create_root(home.root_key, passphrase)
    signer = log_signer(keys, log_origin)
    logs = "".join(f"log {verifier.vkey}\n" for verifier in signer.verifiers)
    home.policy.write_text(f"{logs}quorum none\n")
    open_engine(home.database, create=True).dispose()
    for name in _TRUST_FILE.values():
        (path / "trust" / name).write_text('{"keys": []}\n')
    authority = DevCa.create(trust_domain, now)
    authority.save(path / "tls")
    certificate, key = authority.issue_server(host, now)
    (path / "tls" / "server.pem").write_bytes(certificate)
    write_secret(path / "tls" / "server.key", key)
    for principal in DEVELOPMENT_PRINCIPALS:
        issue_client(home, principal, now)
    return home


def issue_client(home: Home, principal: Principal, now: datetime, folder: Path | None = None) -> Path:
    """Issues a development certificate; for a bank or an authority also a signing key, trusted from the next start on.

    Args:
        home: whose development CA issues it.
        principal: whom it names.
        now: when it begins.
        folder: where it goes; None = the home's own folder for the client. A subject's must be given.

    Returns:
        The client's folder.

    Raises:
        HomeInvalid: the client exists already, or the home has no development CA.
    """
    authority = DevCa.load(home.path / "tls", home.settings().trust_domain)
    folder = folder or home.client(principal)
    folder.mkdir(mode=0o700, exist_ok=True, parents=True)
    certificate, key = authority.issue_client(principal, now)
    write_secret(folder / "key.pem", key)
    (folder / "cert.pem").write_bytes(certificate)
    (folder / "ca.pem").write_bytes(authority.pem)
    if principal.role in _TRUST_FILE:
        _signing_key(home, principal, folder)
    return folder


def _signing_key(home: Home, principal: Principal, folder: Path) -> None:
    path = home.path / "trust" / _TRUST_FILE[principal.role]
    known = json.loads(path.read_text())
    numbers = [
        int(n) for owner, _, n in (k["kid"].rpartition("/") for k in known["keys"]) if owner == principal.organisation
    ]
    key = generate_key(principal.organisation, max(numbers, default=0) + 1)
    write_secret(folder / "signing.jwk", json.dumps(key.as_dict(private=True)).encode())
    known["keys"].append(key.as_dict(private=False))
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(known, indent=1) + "\n")
    fresh.replace(path)  # never half a key set
