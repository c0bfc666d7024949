"""The manifest: one shape, one spelling, one signer."""

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, KeySet, OKPKey

from audit.errors import HeixiaError
from model_registry.errors import ManifestInvalid, SignatureInvalid
from model_registry.manifest import (
    LEVELS_MAX,
    MANIFEST_BYTES_MAX,
    TYP,
    decode_manifest,
    field_set_hash,
    make_manifest,
    manifest_hash,
    sign_manifest,
    verify_manifest,
)
from model_registry.signing import generate_key, sign_compact
from tests.unit.bundles import KEY, KEYS, manifest, members


def test_a_good_manifest_comes_back_as_it_was_written() -> None:
    """Encode, decode, sign and verify agree, with both kinds of key."""
    made = manifest()
    assert decode_manifest(made.encode()) == made
    assert verify_manifest(sign_manifest(made, KEY), KEYS) == made
    curve = ECKey.generate_key("P-256", {"kid": "bank/2", "use": "sig"})
    public = KeySet([ECKey.import_key(curve.as_dict(private=False))])
    assert verify_manifest(sign_manifest(made, curve), public) == made


FIELDS: Any = members()["fields"]
WRONG: dict[str, dict[str, Any]] = {
    "product": {"product": "Bank/loan"},
    "product with line": {"product": "bank/loan\n"},
    "levels from nought": {"levels": [1, 2]},
    "levels ascend": {"levels": [0, 2, 1]},
    "levels differ": {"levels": [0, 1, 1]},
    "levels whole": {"levels": [0, 1.5]},
    "levels no truth": {"levels": [False, True]},
    "levels many": {"levels": list(range(LEVELS_MAX + 1))},
    "levels few": {"levels": [0]},
    "levels high": {"levels": [0, 10_000_000_001]},
    "fields none": {"fields": []},
    "fields twice": {"fields": [FIELDS[0], FIELDS[0]]},
    "fields unnamed": {"fields": [{"type": "number"}]},
    "field path": {"fields": [{"name": "tax.declaration", "type": "number"}]},
    "field type": {"fields": [{"name": "a.b.c", "type": "text"}]},
    "field extra": {"fields": [{**FIELDS[0], "secret": 1}]},
    "inputs none": {"inputs": []},
    "inputs twice": {"inputs": members()["inputs"] * 2},
    "inputs unknown": {"inputs": [{"name": "X", "dtype": "float64", "fields": ["a.b.c"]}]},
    "inputs type": {"inputs": [{"name": "X", "dtype": "float16", "fields": ["tax.declaration.sales_12m"]}]},
    "output index": {"output": {"name": "score", "index": -1}},
    "output high": {"output": {"name": "score", "index": 1024}},
    "valid": {"limit_valid_days": 367},
    "age": {"data_max_age_days": 0},
    "digest": {"digests": {"bundle": "0", "model": "0", "rules": "0"}},
    "policy": {"evidence_policy": "none"},
    "recipients": {"recipients": ["me"]},
    "recipients many": {"recipients": ["0" * 16] * 9},
    "created": {"created": "2026-11-23"},
    "comment": {"comment": "x" * 1001},
    "schema": {"schema": "heixia.manifest/v2"},
    "extra": {"debug": 1},
}


@pytest.mark.parametrize("name", WRONG)
def test_one_wrong_member_is_manifest_invalid(name: str) -> None:
    """Made here or read from bytes, the member at fault is named and its value is not."""
    with pytest.raises(ManifestInvalid):
        make_manifest(**members(**WRONG[name]))
    with pytest.raises(ManifestInvalid):
        decode_manifest(rfc8785.dumps(members(comment="", evidence_policy=None) | WRONG[name]))


@pytest.mark.parametrize("member", sorted(set(members()) - {"schema"}))
def test_a_missing_member_is_manifest_invalid(member: str) -> None:
    """Nothing that matters has a default."""
    left = {name: value for name, value in members().items() if name != member}
    with pytest.raises(ManifestInvalid) as refusal:
        make_manifest(**left)
    assert member in refusal.value.public


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 2**53, 2**60, -(2**60), 10**30])
def test_stand_ins_beyond_rfc_8785_are_manifest_invalid(value: float) -> None:
    """A number that JSON text can hold and RFC 8785 cannot is the owner's fault, not a crash."""
    wrong = members(fields=[{**FIELDS[0], "missing": value}, FIELDS[1]])
    with pytest.raises(ManifestInvalid):
        decode_manifest(json.dumps(wrong, sort_keys=True, separators=(",", ":")).encode())
    try:
        made = make_manifest(**wrong)
    except ManifestInvalid:
        return
    assert decode_manifest(made.encode()) == made


def test_one_spelling_alone_is_a_manifest() -> None:
    """White space, key order, doubled and left-out members, other number forms are refused."""
    good = manifest().encode().decode()
    for other in (
        " " + good,
        good + "\n",
        json.dumps(json.loads(good)),
        good.replace('"comment":""', '"comment":"","comment":""'),
        good.replace('"comment":"",', ""),
        good.replace("400", "4e2"),
        good.replace('"index":0', '"index":-0'),
        good.replace("bank/loan", "b\\u0061nk/loan"),
    ):
        assert other != good
        with pytest.raises(ManifestInvalid):
            decode_manifest(other.encode())


@given(st.binary(max_size=300))
def test_any_bytes_are_judged(body: bytes) -> None:
    """No bytes raise anything but ManifestInvalid."""
    with pytest.raises(ManifestInvalid):
        decode_manifest(body)


@given(st.integers(0), st.integers(1, 255))
def test_a_flipped_byte_is_refused_or_another_manifest(position: int, flip: int) -> None:
    """What still decodes encodes to the changed bytes: no two spellings have one meaning."""
    body = bytearray(manifest().encode())
    body[position % len(body)] ^= flip
    try:
        assert decode_manifest(bytes(body)).encode() == bytes(body)
    except HeixiaError as error:
        assert isinstance(error, ManifestInvalid)  # noqa: PT017


@given(st.integers(0), st.sampled_from("ABCDwxyz0189-_.="))
def test_a_changed_character_of_the_token_changes_what_a_bundle_is_bound_to(position: int, other: str) -> None:
    """Whatever a changed token still verifies as, its hash, which seals keys and content, is another."""
    token = sign_manifest(manifest(), KEY)
    at = position % len(token)
    changed = token[:at] + other + token[at + 1 :]
    if changed == token:
        return
    assert manifest_hash(changed) != manifest_hash(token)
    try:
        assert verify_manifest(changed, KEYS) == manifest()
    except HeixiaError as error:
        assert isinstance(error, (SignatureInvalid, ManifestInvalid))  # noqa: PT017


def test_signatures_of_others_are_refused() -> None:
    """Unknown keys, known names with other keys, other institutions, other types of token, sizes above the limit."""
    body = manifest().encode()
    for key in (generate_key("bank", 2), OKPKey.generate_key("Ed25519", {"kid": "bank/1"})):
        with pytest.raises(SignatureInvalid):
            verify_manifest(sign_compact(body, key, TYP), KEYS)
    with pytest.raises(SignatureInvalid):
        verify_manifest(sign_compact(body, KEY, "heixia-consent+jws"), KEYS)
    other = generate_key("other-bank")
    with pytest.raises(ManifestInvalid):
        verify_manifest(sign_compact(body, other, TYP), KeySet([other]))
    with pytest.raises(ManifestInvalid):
        verify_manifest("x" * (2 * MANIFEST_BYTES_MAX + 1), KEYS)
    with pytest.raises(SignatureInvalid):
        verify_manifest(sign_manifest(manifest(), KEY), KeySet([]))


def test_an_operator_may_bound_levels_tighter_or_wider() -> None:
    """The number of levels is the setting's affair."""
    many = members(levels=list(range(100)))
    assert len(make_manifest(100, **many).levels) == 100
    with pytest.raises(ManifestInvalid):
        make_manifest(99, **many)


@given(st.lists(st.sampled_from(["a.b.c", "a.b.d", "e.f.g"]), min_size=1))
def test_the_same_set_of_fields_has_one_hash(names: list[str]) -> None:
    """Order and repetition do not matter; another set is another hash."""
    assert field_set_hash(names) == field_set_hash(sorted(set(names), reverse=True))
    assert field_set_hash(names) != field_set_hash([*names, "x.y.z"])
