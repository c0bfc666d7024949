"""One root secret → every key of the enclave (HKDF-SHA-256, RFC 5869), and the file the root is kept in.

The file is JSON. With a passphrase the secret in it is wrapped by AES-256-GCM under scrypt (RFC 7914); without one it
lies there in the clear, readable by its owner alone, which is fit for development only.
"""

import base64
import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from enclave_api.dev_ca import write_secret
from enclave_api.errors import HomeInvalid, PassphraseWrong
from model_registry.bundle import RecipientSecret
from sandbox.vault.sealing import VaultKeys

SCHEMA = "heixia.root/v1"
ROOT_BYTES = 32
# RFC 7914 parameters: 128 MiB and about half a second, paid once at start; OWASP's first choice for scrypt.
SCRYPT = {"n": 2**17, "r": 8, "p": 1}


@dataclass(frozen=True)
class Keys:
    """Everything derived from the root secret. The root is uniform, so HKDF's expand step alone is enough."""

    root: bytes = field(repr=False)

    def derive(self, purpose: str, length: int = 32) -> bytes:
        """Key bytes for a purpose; distinct purposes give independent keys."""
        return HKDFExpand(SHA256(), length, b"heixia v1 " + purpose.encode()).derive(self.root)

    @cached_property
    def recipient(self) -> RecipientSecret:
        """The HPKE key that banks seal to."""
        return RecipientSecret(self.derive("hpke mlkem768", 64), self.derive("hpke x25519"))

    @cached_property
    def ledger_seed(self) -> bytes:
        """Ed25519 seed that signs checkpoints."""
        return self.derive("ledger ed25519")

    @cached_property
    def ledger_ml_dsa_seed(self) -> bytes:
        """ML-DSA-44 seed that signs checkpoints beside it (FIPS 204's xi)."""
        return self.derive("ledger ml-dsa-44")

    @cached_property
    def vault(self) -> VaultKeys:
        """Keys of records, rows, tags and subjects."""
        return VaultKeys(
            records=self.derive("vault records"),
            rows=self.derive("vault rows"),
            tags=self.derive("subject tags"),
            subjects=self.derive("subject keys"),
        )


def create_root(path: Path, passphrase: str | None) -> Keys:
    """Makes a root secret and writes its file, mode 0600; never overwrites (HomeInvalid)."""
    root = os.urandom(ROOT_BYTES)
    document = _wrap(root, passphrase) if passphrase else {"kdf": "none", "secret": _text(root)}
    write_secret(path, json.dumps({"schema": SCHEMA, **document}).encode())
    return Keys(root)


def open_root(path: Path, passphrase: str | None) -> Keys:
    """Reads the root secret.

    Raises:
        HomeInvalid: the file is missing, cut or of another schema.
        PassphraseWrong: it is wrapped and the passphrase is missing or wrong; or there is a passphrase and nothing that
            it wraps: whoever set it believes the secret wrapped, or the file was exchanged.
    """
    try:
        document = json.loads(path.read_text())
        wrapped = document["kdf"] == "scrypt"
        if document["schema"] != SCHEMA or document["kdf"] not in {"none", "scrypt"}:
            raise HomeInvalid("root schema", public=f"{path.name} is of an unknown schema")
        if passphrase and not wrapped:
            hint = "unset HEIXIA_PASSPHRASE, or make a home with it set"
            raise PassphraseWrong("not wrapped", public=f"{path.name} lies in the clear; {hint}")
        root = _unwrap(document, passphrase) if wrapped else base64.b64decode(document["secret"], validate=True)
    except OSError as error:
        raise HomeInvalid("no root", public=f"{path.name} cannot be read; make a home with `heixia init`") from error
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path) from error
    if len(root) != ROOT_BYTES:
        raise _damaged(path)
    return Keys(root)


def _damaged(path: Path) -> HomeInvalid:
    return HomeInvalid("root unreadable", public=f"{path.name} is cut or damaged; restore it from its backup")


def needs_passphrase(path: Path) -> bool:
    """Whether the root file is wrapped; False where it cannot be read (open_root will say why)."""
    try:
        return bool(json.loads(path.read_text())["kdf"] == "scrypt")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _wrap(root: bytes, passphrase: str) -> dict[str, object]:
    salt, nonce = os.urandom(16), os.urandom(12)
    key = Scrypt(salt=salt, length=32, **SCRYPT).derive(passphrase.encode())
    secret = AESGCM(key).encrypt(nonce, root, SCHEMA.encode())
    return {"kdf": "scrypt", **SCRYPT, "salt": _text(salt), "nonce": _text(nonce), "secret": _text(secret)}


def _unwrap(document: dict[str, str], passphrase: str | None) -> bytes:
    if not passphrase:
        raise PassphraseWrong("none given", public="this home has a passphrase: set HEIXIA_PASSPHRASE")
    salt, nonce, secret = (base64.b64decode(document[name], validate=True) for name in ("salt", "nonce", "secret"))
    # The parameters come from our constant, not the file: a changed file must not cost memory at will.
    key = Scrypt(salt=salt, length=32, **SCRYPT).derive(passphrase.encode())
    try:
        return AESGCM(key).decrypt(nonce, secret, SCHEMA.encode())
    except InvalidTag as error:
        raise PassphraseWrong("wrong", public="the passphrase is wrong, or root.key is damaged") from error


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
