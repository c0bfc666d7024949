"""Where the root secret is kept. The port, and its first keeper: a file.

The file is JSON (docs/formats.md, "Keys"). With a passphrase the secrets in it are wrapped by AES-256-GCM under scrypt
(RFC 7914); without one they lie there in the clear, readable by their owner alone, which is fit for development only.
"""

import base64
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from audit.durable import write_durably
from enclave_api.dev_ca import write_secret
from enclave_api.errors import HomeInvalid, PassphraseWrong
from enclave_api.keys import SECRET_BYTES, Keys

SCHEMA = "heixia.root/v2"
FIRST_SCHEMA = "heixia.root/v1"  # one root, one HPKE key for ever
EPOCH_MAX = 10**9  # a rotation a second for thirty years; a number beyond it was not written by us
# RFC 7914 parameters: 128 MiB and about half a second, paid once at start; OWASP's first choice for scrypt.
SCRYPT = {"n": 2**17, "r": 8, "p": 1}


class Keeper(Protocol):
    """Keeps an enclave's secrets over its stops.

    How one is opened is its own affair (a passphrase, a PIN, another replica's word); who uses it knows this much.
    """

    @property
    def keys(self) -> Keys:
        """What is kept now."""
        ...

    def advance(self, epoch: int) -> Keys:
        """Destroys the secrets of every epoch before `epoch`.

        Durable when it returns: no later start, after whatever crash, has them again. Once done it may be repeated.

        Raises:
            HomeInvalid: it could not be done. The old secrets may be there still; what is kept is whole in any case.
        """
        ...


@dataclass
class FileKeeper:
    """A file with the secrets; made by `open_file`, which forgets the passphrase and keeps what it led to."""

    path: Path
    keys: Keys
    _wrapping: "_Wrapping | None" = field(repr=False)

    def advance(self, epoch: int) -> Keys:
        """As Keeper: the new file takes the old one's place, then the old one's bytes are overwritten."""
        path = self.path.resolve()  # where a link leads, or the secret would stay there
        try:
            with path.open("r+b") as old:
                text = old.read()
                found = _read(path, _parse(path, text), self._wrapping)
                if found.static != self.keys.static:
                    raise HomeInvalid("root exchanged", public=f"{path.name} was exchanged under the running server")
                if found.epoch < epoch:
                    found = found.advanced(epoch)
                    write_durably(path, _encode(found, self._wrapping), 0o600)
                    # A file system that writes elsewhere, a flash disk's spare blocks, backups: those it cannot reach.
                    old.seek(0)
                    old.write(bytes(len(text)))
                    old.flush()
                    os.fsync(old.fileno())
        except OSError as error:
            hint = "the server must be able to write it and its folder"
            raise HomeInvalid("root not written", public=f"{path}: {error.strerror}; {hint}") from error
        self.keys = found
        return found


@dataclass(frozen=True)
class _Wrapping:
    salt: bytes
    key: bytes = field(repr=False)

    @classmethod
    def of(cls, passphrase: str, salt: bytes) -> "_Wrapping":
        # The parameters come from our constant, not the file: a changed file must not cost memory at will.
        return cls(salt, Scrypt(salt=salt, length=32, **SCRYPT).derive(passphrase.encode()))


def create_root(path: Path, passphrase: str | None) -> Keys:
    """Makes a root secret and writes its file, mode 0600; never overwrites (HomeInvalid)."""
    keys = Keys.from_root(os.urandom(SECRET_BYTES))
    wrapping = _Wrapping.of(passphrase, os.urandom(16)) if passphrase else None
    write_secret(path, _encode(keys, wrapping))
    return keys


def open_file(path: Path, passphrase: str | None) -> FileKeeper:
    """Opens the file of the root secret; nothing is written.

    Raises:
        HomeInvalid: the file is missing, cut or of another schema.
        PassphraseWrong: it is wrapped and the passphrase is missing or wrong; or there is a passphrase and nothing that
            it wraps: whoever set it believes the secret wrapped, or the file was exchanged.
    """
    try:
        document = _parse(path, path.read_bytes())
    except OSError as error:
        raise HomeInvalid("no root", public=f"{path.name} cannot be read; make a home with `heixia init`") from error
    wrapped = document["kdf"] == "scrypt"
    if passphrase and not wrapped:
        hint = "unset HEIXIA_PASSPHRASE, or make a home with it set"
        raise PassphraseWrong("not wrapped", public=f"{path.name} lies in the clear; {hint}")
    if wrapped and not passphrase:
        raise PassphraseWrong("none given", public="this home has a passphrase: set HEIXIA_PASSPHRASE")
    wrapping = _Wrapping.of(passphrase, document["salt"]) if passphrase else None
    return FileKeeper(path, _read(path, document, wrapping), wrapping)


def needs_passphrase(path: Path) -> bool:
    """Whether the root file is wrapped; False where it cannot be read (open_file will say why)."""
    try:
        return bool(_parse(path, path.read_bytes())["kdf"] == "scrypt")
    except (OSError, HomeInvalid):
        return False


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    """The members, binary ones decoded."""
    try:
        document = json.loads(text)
        if document["schema"] == FIRST_SCHEMA:
            hint = "its keys have no epochs and it cannot be converted: make a new home with `heixia init`"
            raise HomeInvalid("root schema", public=f"{path.name} is of schema {FIRST_SCHEMA}: {hint}")
        if document["schema"] != SCHEMA or document["kdf"] not in {"none", "scrypt"}:
            raise HomeInvalid("root schema", public=f"{path.name} is of an unknown schema")
        if type(document["epoch"]) is not int or not 0 <= document["epoch"] <= EPOCH_MAX:
            raise ValueError("epoch")
        binary = ("secret", "salt", "nonce") if document["kdf"] == "scrypt" else ("secret",)
        return {**document, **{name: base64.b64decode(document[name], validate=True) for name in binary}}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path) from error


def _read(path: Path, document: dict[str, Any], wrapping: _Wrapping | None) -> Keys:
    secret, epoch = document["secret"], document["epoch"]
    if wrapping is not None:
        try:
            secret = AESGCM(wrapping.key).decrypt(document["nonce"], secret, _bound(epoch))
        except (InvalidTag, KeyError) as error:
            raise PassphraseWrong("wrong", public=f"the passphrase is wrong, or {path.name} is damaged") from error
        except ValueError as error:  # a nonce of another length
            raise _damaged(path) from error
    if len(secret) != 2 * SECRET_BYTES:
        raise _damaged(path)
    return Keys(secret[:SECRET_BYTES], epoch, secret[SECRET_BYTES:])


def _encode(keys: Keys, wrapping: _Wrapping | None) -> bytes:
    document: dict[str, object] = {"schema": SCHEMA, "kdf": "none", "epoch": keys.epoch}
    secret = keys.static + keys.ratchet
    if wrapping is not None:
        nonce = os.urandom(12)
        secret = AESGCM(wrapping.key).encrypt(nonce, secret, _bound(keys.epoch))
        document |= {"kdf": "scrypt", **SCRYPT, "salt": _text(wrapping.salt), "nonce": _text(nonce)}
    return json.dumps({**document, "secret": _text(secret)}).encode()


def _bound(epoch: int) -> bytes:
    return f"{SCHEMA} epoch {epoch}".encode()


def _damaged(path: Path) -> HomeInvalid:
    return HomeInvalid("root unreadable", public=f"{path.name} is cut or damaged; restore it from its backup")


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
