"""The derivation of keys: known answers, and what leads to what."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from enclave_api.keys import Keys

ROOT = bytes(range(32))
VECTOR = json.loads((Path(__file__).parent / "key_derivation.json").read_text())


def everything(keys: Keys) -> dict[str, str]:
    """Every secret that is derived, by a name, hex."""
    vault = keys.vault
    found = {
        "static": keys.static,
        "ledger ed25519": keys.ledger_seed,
        "ledger ml-dsa-44": keys.ledger_ml_dsa_seed,
        "vault records": vault.records,
        "vault rows": vault.rows,
        "subject tags": vault.tags,
        "subject keys": vault.subjects,
        "registry notes": keys.derive("registry notes"),
    }
    for epoch in range(keys.epoch, keys.epoch + 3):
        found[f"epoch {epoch}"] = keys.advanced(epoch).ratchet
        found[f"hpke mlkem768 {epoch}"] = keys.recipient(epoch).mlkem_seed
        found[f"hpke x25519 {epoch}"] = keys.recipient(epoch).x25519_seed
    return {name: value.hex() for name, value in found.items()}


def test_derivation_is_fixed_for_ever() -> None:
    """Known answers in a file of their own: a changed label would lose every vault, log and bundle of every home."""
    keys = Keys.from_root(ROOT)
    assert VECTOR["root"] == ROOT.hex()
    assert everything(keys) == VECTOR["secrets"]
    assert [keys.recipient(epoch).public().key_id for epoch in range(3)] == VECTOR["key_ids"]


def test_the_known_answers_are_what_the_formats_page_says() -> None:
    """Derived anew by the page's words alone, with nothing of ours."""

    def expand(secret: bytes, label: str, length: int = 32) -> bytes:
        return HKDFExpand(SHA256(), length, b"heixia v2 " + label.encode()).derive(secret)

    static, secret = expand(ROOT, "static"), expand(ROOT, "ratchet")
    said = {"static": static}
    for label in ("ledger ed25519", "ledger ml-dsa-44", "vault records", "vault rows", "subject tags", "subject keys"):
        said[label] = expand(static, label)
    said["registry notes"] = expand(static, "registry notes")
    for epoch in range(3):
        said[f"epoch {epoch}"] = secret
        said[f"hpke mlkem768 {epoch}"] = expand(secret, "hpke mlkem768", 64)
        said[f"hpke x25519 {epoch}"] = expand(secret, "hpke x25519")
        secret = expand(secret, "next epoch")
    assert {name: value.hex() for name, value in said.items()} == VECTOR["secrets"]


def test_derived_keys_are_apart() -> None:
    """Purposes and epochs give distinct keys, the same root the same ones, another root all others."""
    one, other = everything(Keys.from_root(ROOT)), everything(Keys.from_root(bytes(32)))
    assert everything(Keys.from_root(ROOT)) == one
    parts = [value[:64] for value in (*one.values(), *other.values())]
    assert len(set(parts)) == len(parts)


def test_epochs_lead_forward_alone() -> None:
    """Advanced keys give the same later keys and the same static ones, and refuse every earlier epoch."""
    keys = Keys.from_root(ROOT)
    for epoch in range(4):
        later = keys.advanced(epoch)
        assert later.recipient(5) == keys.recipient(5)
        assert (later.static, later.vault) == (keys.static, keys.vault)
        assert later.advanced(4) == keys.advanced(4)
        for gone in range(epoch):
            with pytest.raises(ValueError, match="destroyed"):
                later.recipient(gone)
            with pytest.raises(ValueError, match="destroyed"):
                later.advanced(gone)


def test_secrets_are_not_in_words() -> None:
    """What is printed of keys, in a trace say, holds no secret."""
    keys = Keys.from_root(ROOT)
    said = repr(keys) + repr(keys.recipient(0))
    assert not any(value in said for value in everything(keys).values())
    assert "\\x" not in said
