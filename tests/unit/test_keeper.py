"""The file that keeps the root secret: opened, refused, advanced; never overwritten by an error."""

import base64
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from enclave_api import keeper as module
from enclave_api.errors import HomeInvalid, PassphraseWrong
from enclave_api.keeper import Keeper, create_root, needs_passphrase, open_file
from enclave_api.keys import Keys

BOTH = pytest.mark.parametrize("passphrase", [None, "correct"])


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scrypt with small parameters: the laws do not depend on them."""
    monkeypatch.setattr(module, "SCRYPT", {"n": 2**4, "r": 8, "p": 1})


def refused(path: Path, passphrase: str | None) -> str:
    """Opening is refused with words for the operator, and what lies there is left as it was."""
    before = {file.name: file.read_bytes() for file in path.parent.iterdir() if file.is_file()}
    with pytest.raises((HomeInvalid, PassphraseWrong)) as error:
        open_file(path, passphrase)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir() if file.is_file()} == before
    assert error.value.public
    return error.value.public


def test_scrypt_is_as_dear_as_the_comment_says() -> None:
    """The parameters of the real thing, read from the source, are not the tests'."""
    source = Path(module.__file__).read_text()
    assert 'SCRYPT = {"n": 2**17, "r": 8, "p": 1}' in source


@pytest.mark.parametrize("passphrase", [None, "correct horse", "密码 with spaces", "x" * 1000])
def test_a_root_comes_back_as_it_was_made(tmp_path: Path, passphrase: str | None) -> None:
    """Wrapped or not, readable by its owner alone, never overwritten."""
    path = tmp_path / "root.key"
    made = create_root(path, passphrase)
    assert open_file(path, passphrase).keys == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert needs_passphrase(path) is (passphrase is not None)
    with pytest.raises(HomeInvalid):
        create_root(path, passphrase)
    assert open_file(path, passphrase).keys == made


def test_a_wrapped_root_is_not_in_its_file(tmp_path: Path) -> None:
    """The file of a wrapped root holds its secrets in no encoding."""
    path = tmp_path / "root.key"
    keys = create_root(path, "correct")
    text = path.read_bytes()
    for secret in (keys.static, keys.ratchet):
        for form in (secret, secret.hex().encode(), base64.b64encode(secret)):
            assert form not in text


def test_a_passphrase_that_wraps_nothing_is_told(tmp_path: Path) -> None:
    """Who set one must not go on with a secret in the clear."""
    create_root(tmp_path / "root.key", None)
    assert "lies in the clear" in refused(tmp_path / "root.key", "correct")


@pytest.mark.parametrize("passphrase", [None, "", "wrong", "correct ", "Correct"])
def test_wrong_passphrases_are_told(tmp_path: Path, passphrase: str | None) -> None:
    """None, empty, another, nearly the right one."""
    path = tmp_path / "root.key"
    create_root(path, "correct")
    assert "passphrase" in refused(path, passphrase)


Spoil = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: {},
        lambda d: [],
        lambda d: None,
        lambda d: {**d, "schema": "heixia.root/v3"},
        lambda d: {**d, "kdf": "md5"},
        lambda d: {**d, "kdf": None},
        lambda d: {name: v for name, v in d.items() if name != "secret"},
        lambda d: {name: v for name, v in d.items() if name != "epoch"},
        lambda d: {**d, "epoch": -1},
        lambda d: {**d, "epoch": True},
        lambda d: {**d, "epoch": "0"},
        lambda d: {**d, "epoch": 10**30},
        lambda d: {**d, "secret": ""},
        lambda d: {**d, "secret": "AAAA"},
        lambda d: {**d, "secret": "not base64!"},
        lambda d: {**d, "secret": 7},
    ],
)
@BOTH
def test_damaged_roots_are_told(tmp_path: Path, spoil: Spoil, passphrase: str | None) -> None:
    """Members missing, of other kinds, of other lengths: a clear error, never a trace, never a wrong key."""
    path = tmp_path / "root.key"
    create_root(path, passphrase)
    path.write_text(json.dumps(spoil(json.loads(path.read_text()))))
    refused(path, passphrase)


@pytest.mark.parametrize("member", ["salt", "nonce", "secret"])
@pytest.mark.parametrize("value", [None, "", "AAAA", "?", 7, "A" * 64])
def test_damaged_wrappings_are_told(tmp_path: Path, member: str, value: object) -> None:
    """Each part of the wrapping replaced by each kind of nonsense."""
    path = tmp_path / "root.key"
    create_root(path, "correct")
    path.write_text(json.dumps({**json.loads(path.read_text()), member: value}))
    refused(path, "correct")


def test_a_wrapped_epoch_cannot_be_put_back(tmp_path: Path) -> None:
    """The epoch's number is bound to what is wrapped: an edited one does not open."""
    path = tmp_path / "root.key"
    create_root(path, "correct")
    open_file(path, "correct").advance(3)
    path.write_text(json.dumps({**json.loads(path.read_text()), "epoch": 2}))
    refused(path, "correct")


def test_a_root_of_the_first_schema_is_told(tmp_path: Path) -> None:
    """Its one HPKE key would be for ever: it is refused with what to do, and left as it is."""
    path = tmp_path / "root.key"
    old = {"schema": "heixia.root/v1", "kdf": "none", "secret": base64.b64encode(bytes(32)).decode()}
    path.write_text(json.dumps(old))
    assert "heixia init" in refused(path, None)


@BOTH
def test_any_cut_is_told(tmp_path: Path, passphrase: str | None) -> None:
    """Every prefix of either file is refused."""
    path = tmp_path / "root.key"
    create_root(path, passphrase)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert "restore it from its backup" in refused(path, passphrase)


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_bytes(b"\xff\xfe\x00")])
def test_files_that_are_none_are_told(tmp_path: Path, make: Callable[[Path], object]) -> None:
    """Missing, a folder, no text."""
    path = tmp_path / "root.key"
    make(path)
    refused(path, None)
    assert needs_passphrase(path) is False


def test_a_file_cannot_choose_what_opening_costs(tmp_path: Path) -> None:
    """Parameters in the file are not followed: a changed one neither costs memory nor opens."""
    path = tmp_path / "root.key"
    made = create_root(path, "correct")
    path.write_text(json.dumps({**json.loads(path.read_text()), "n": 2**40}))
    assert open_file(path, "correct").keys == made


@BOTH
def test_an_advanced_file_has_later_epochs_alone(tmp_path: Path, passphrase: str | None) -> None:
    """What is left leads to the same later keys; no earlier secret lies in the folder, or in what was the file."""
    path = tmp_path / "root.key"
    made = create_root(path, passphrase)
    old = (path.read_bytes(), path.open("rb"))
    keeper: Keeper = open_file(path, passphrase)
    assert keeper.advance(2) == keeper.keys == open_file(path, passphrase).keys == made.advanced(2)
    assert [file.name for file in tmp_path.iterdir()] == ["root.key"]
    assert path.stat().st_mode & 0o777 == 0o600
    left = path.read_bytes() + old[1].read()
    old[1].close()
    assert old[0] not in left
    for secret in (made.ratchet, made.advanced(1).ratchet):
        assert base64.b64encode(secret)[:20] not in left
    before = path.read_bytes()
    assert keeper.advance(1).epoch == keeper.advance(2).epoch == 2
    assert path.read_bytes() == before  # nothing to do, nothing written


@BOTH
def test_an_opened_file_forgets_what_is_destroyed(tmp_path: Path, passphrase: str | None) -> None:
    """Nothing that can be reached from the keeper is a destroyed secret, or the passphrase."""
    made = create_root(tmp_path / "root.key", passphrase)
    keeper = open_file(tmp_path / "root.key", passphrase)
    keeper.advance(1)
    found = _reachable(keeper)
    assert made.static in found
    assert made.ratchet not in found
    assert passphrase is None or passphrase not in found


def _reachable(thing: object) -> list[object]:
    """Every text and byte string that is held by an object, through its attributes."""
    if isinstance(thing, str | bytes):
        return [thing]
    return [found for value in getattr(thing, "__dict__", {}).values() for found in _reachable(value)]


def test_a_link_is_followed(tmp_path: Path) -> None:
    """The secret is destroyed where it lies, not where a link to it lies."""
    (tmp_path / "vault").mkdir()
    create_root(tmp_path / "vault" / "secret", None)
    (tmp_path / "root.key").symlink_to(tmp_path / "vault" / "secret")
    open_file(tmp_path / "root.key", None).advance(1)
    assert (tmp_path / "root.key").is_symlink()
    assert open_file(tmp_path / "vault" / "secret", None).keys.epoch == 1


@BOTH
def test_another_file_is_not_overwritten(tmp_path: Path, passphrase: str | None) -> None:
    """Exchanged under the running server, cut, or gone: advancing says so and leaves it as it is."""
    path = tmp_path / "root.key"
    create_root(path, passphrase)
    create_root(tmp_path / "other", passphrase)
    keeper, whole = open_file(path, passphrase), path.read_bytes()
    for content in ((tmp_path / "other").read_bytes(), whole[:50], b""):
        path.write_bytes(content)
        with pytest.raises((HomeInvalid, PassphraseWrong)):
            keeper.advance(1)
        assert path.read_bytes() == content
    path.unlink()
    with pytest.raises(HomeInvalid):
        keeper.advance(1)
    assert not path.exists()
    path.write_bytes(whole)
    assert keeper.advance(1).epoch == 1


@pytest.mark.parametrize("fails", ["fsync", "replace", "open"])
def test_a_failed_write_leaves_a_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    """Whatever call fails: the file opens, at the old epoch or the new one, and the next try does it."""
    path = tmp_path / "root.key"
    made = create_root(path, None)
    keeper = open_file(path, None)
    real, calls = getattr(os, fails), [0]
    for broken in range(1, 5):
        calls[0] = 0

        def fail(*args: Any, broken: int = broken, **more: Any) -> Any:
            calls[0] += 1
            if calls[0] == broken:
                raise OSError(28, "No space left on device")
            return real(*args, **more)

        with monkeypatch.context() as patch:
            patch.setattr(os, fails, fail)
            with suppress(HomeInvalid):
                keeper.advance(keeper.keys.epoch + 1)
        kept = open_file(path, None).keys
        assert kept == made.advanced(kept.epoch)
        assert keeper.advance(kept.epoch + 1) == open_file(path, None).keys == Keys.advanced(made, kept.epoch + 1)
