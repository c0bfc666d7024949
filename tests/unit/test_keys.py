"""The root secret and what is derived from it."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from enclave_api import keys as module
from enclave_api.errors import HomeInvalid, PassphraseWrong
from enclave_api.keys import Keys, create_root, needs_passphrase, open_root


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scrypt with small parameters: the laws do not depend on them."""
    monkeypatch.setattr(module, "SCRYPT", {"n": 2**4, "r": 8, "p": 1})


def test_scrypt_is_as_dear_as_the_comment_says() -> None:
    """The parameters of the real thing, read from the source, are not the tests'."""
    source = Path(module.__file__).read_text()
    assert 'SCRYPT = {"n": 2**17, "r": 8, "p": 1}' in source


@pytest.mark.parametrize("passphrase", [None, "correct horse", "密码 with spaces", "x" * 1000])
def test_a_root_comes_back_as_it_was_made(tmp_path: Path, passphrase: str | None) -> None:
    """Wrapped or not, readable by its owner alone, never overwritten."""
    path = tmp_path / "root.key"
    made = create_root(path, passphrase)
    assert open_root(path, passphrase) == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert needs_passphrase(path) is (passphrase is not None)
    with pytest.raises(HomeInvalid):
        create_root(path, passphrase)
    assert open_root(path, passphrase) == made


def test_a_wrapped_root_is_not_in_its_file(tmp_path: Path) -> None:
    """The file of a wrapped root holds the secret in no encoding."""
    path = tmp_path / "root.key"
    root = create_root(path, "correct").root
    text = path.read_bytes()
    for form in (root, root.hex().encode(), base64.b64encode(root)):
        assert form not in text


def test_a_passphrase_that_wraps_nothing_is_told(tmp_path: Path) -> None:
    """Who set one must not go on with a secret in the clear."""
    create_root(tmp_path / "root.key", None)
    with pytest.raises(PassphraseWrong, match="not wrapped"):
        open_root(tmp_path / "root.key", "correct")


@pytest.mark.parametrize("passphrase", [None, "", "wrong", "correct ", "Correct"])
def test_wrong_passphrases_are_told(tmp_path: Path, passphrase: str | None) -> None:
    """None, empty, another, nearly the right one."""
    path = tmp_path / "root.key"
    create_root(path, "correct")
    with pytest.raises(PassphraseWrong):
        open_root(path, passphrase)


Spoil = Callable[[dict[str, object]], object]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: {},
        lambda d: [],
        lambda d: None,
        lambda d: {**d, "schema": "heixia.root/v2"},
        lambda d: {**d, "kdf": "md5"},
        lambda d: {**d, "kdf": None},
        lambda d: {name: v for name, v in d.items() if name != "secret"},
        lambda d: {**d, "secret": ""},
        lambda d: {**d, "secret": "AAAA"},
        lambda d: {**d, "secret": "not base64!"},
        lambda d: {**d, "secret": 7},
    ],
)
@pytest.mark.parametrize("passphrase", [None, "correct"])
def test_damaged_roots_are_told(tmp_path: Path, spoil: Spoil, passphrase: str | None) -> None:
    """Members missing, of other kinds, of other lengths: a clear error, never a trace, never a wrong key."""
    path = tmp_path / "root.key"
    create_root(path, passphrase)
    path.write_text(json.dumps(spoil(json.loads(path.read_text()))))
    with pytest.raises((HomeInvalid, PassphraseWrong)):
        open_root(path, passphrase)


@pytest.mark.parametrize("member", ["salt", "nonce", "secret"])
@pytest.mark.parametrize("value", [None, "", "AAAA", "?", 7, "A" * 64])
def test_damaged_wrappings_are_told(tmp_path: Path, member: str, value: object) -> None:
    """Each part of the wrapping replaced by each kind of nonsense."""
    path = tmp_path / "root.key"
    create_root(path, "correct")
    path.write_text(json.dumps({**json.loads(path.read_text()), member: value}))
    with pytest.raises((HomeInvalid, PassphraseWrong)):
        open_root(path, "correct")


def test_any_cut_is_told(tmp_path: Path) -> None:
    """Every prefix of either file is refused."""
    for passphrase in (None, "correct"):
        path = tmp_path / f"root-{passphrase}.key"
        create_root(path, passphrase)
        whole = path.read_bytes()
        for length in range(0, len(whole), 7):
            path.write_bytes(whole[:length])
            with pytest.raises((HomeInvalid, PassphraseWrong)):
                open_root(path, passphrase)


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_bytes(b"\xff\xfe\x00")])
def test_files_that_are_none_are_told(tmp_path: Path, make: Callable[[Path], object]) -> None:
    """Missing, a folder, no text."""
    path = tmp_path / "root.key"
    make(path)
    with pytest.raises(HomeInvalid):
        open_root(path, None)
    assert needs_passphrase(path) is False


def test_a_file_cannot_choose_what_opening_costs(tmp_path: Path) -> None:
    """Parameters in the file are not followed: a changed one neither costs memory nor opens."""
    path = tmp_path / "root.key"
    made = create_root(path, "correct")
    path.write_text(json.dumps({**json.loads(path.read_text()), "n": 2**40}))
    assert open_root(path, "correct") == made


def test_derived_keys_are_apart() -> None:
    """Purposes give distinct keys, the same root the same ones, another root all others."""

    def everything(keys: Keys) -> list[bytes]:
        vault, recipient = keys.vault, keys.recipient
        parts = [vault.records, vault.rows, vault.tags, vault.subjects, keys.ledger_seed, keys.ledger_ml_dsa_seed]
        return [*parts, recipient.mlkem_seed, recipient.x25519_seed]

    one, other = everything(Keys(bytes(32))), everything(Keys(b"\x01" * 32))
    assert everything(Keys(bytes(32))) == one
    assert len({part[:32] for part in (*one, *other)}) == len(one) + len(other)


def test_derivation_is_fixed_for_ever() -> None:
    """Known answers: a changed label would lose every vault, log and bundle of every home."""
    keys = Keys(bytes(range(32)))
    assert keys.derive("ledger ed25519") == keys.ledger_seed
    assert keys.derive("ledger ml-dsa-44") == keys.ledger_ml_dsa_seed
    labels = {"hpke mlkem768": 64, "hpke x25519": 32, "ledger ed25519": 32, "vault records": 32, "vault rows": 32}
    for label, length in {**labels, "subject tags": 32, "subject keys": 32}.items():
        expected = HKDFExpand(SHA256(), length, b"heixia v1 " + label.encode()).derive(bytes(range(32)))
        assert keys.derive(label, length) == expected
    assert keys.recipient.mlkem_seed == keys.derive("hpke mlkem768", 64)
    assert keys.vault.tags == keys.derive("subject tags")
