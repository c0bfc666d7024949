"""Bundles as an attacker uploads them: changed, cut, re-signed, mixed, made for others, declared wrongly."""

import base64
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import rfc8785
from joserfc.jwk import OKPKey

from enclave_api.cli.example import FIELDS, LEVELS
from enclave_api.client.bank import Bank
from enclave_api.identity import Principal, Role
from model_registry.bundle import RecipientKey, RecipientSecret, Sample, SealedBundle, encode_content, seal_bundle
from model_registry.manifest import MANIFEST_BYTES_MAX, TYP
from model_registry.signing import SigningKey, generate_key, sign_compact
from tests.integration.conftest import PRODUCT, Stage
from tests.room import ACCEPT, datasets_of, refused

TURNS = itertools.count(1)
MALLORY = Principal(Role.INSTITUTION, "mallory-bank", "mallory")


@pytest.fixture(autouse=True)
def _goes_on(stage: Stage) -> Iterator[None]:
    """After each test the next good call is answered, by the version that was champion."""
    yield
    assert stage.room.answer(stage.world.subjects[next(TURNS)], PRODUCT, datasets_of(FIELDS)) in LEVELS
    assert stage.room.entries()[-1]["version"] == stage.version


@pytest.fixture(scope="module")
def stage(stage: Stage) -> Stage:
    """The stage, with a second bank that the server knows since its last start."""
    stage.room.client(Bank, MALLORY)
    stage.room.stop()
    stage.room.start()
    return stage


@pytest.fixture(scope="module")
def recipient(stage: Stage) -> RecipientKey:
    """The enclave's key."""
    return stage.room.alice.verify_enclave(ACCEPT).recipient()


@pytest.fixture(scope="module")
def good(stage: Stage, recipient: RecipientKey) -> SealedBundle:
    """A bundle as it should be."""
    return stage.room.alice.seal(stage.example.model, stage.example.offer, recipient, stage.example.samples())


def payload(bundle: SealedBundle) -> dict[str, Any]:
    """The members of a bundle's manifest."""
    part = bundle.manifest_jws.split(".")[1]
    members: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return members


def declare(
    stage: Stage,
    members: Mapping[str, Any],
    *recipients: RecipientKey,
    key: SigningKey | None = None,
    model: bytes | None = None,
    samples: list[Sample] | None = None,
) -> SealedBundle:
    """Seals the good content under any manifest at all, signed by alice's key or another."""
    content = encode_content(
        stage.example.model.onnx if model is None else model,
        stage.example.offer.rules.encode(),
        stage.example.samples() if samples is None else samples,
    )
    try:
        text = rfc8785.dumps(dict(members))
    except rfc8785.CanonicalizationError:
        text = json.dumps(members, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
    token = sign_compact(text, key or stage.room.alice.credentials.signing_key(), TYP)
    return seal_bundle(content, token, recipients)


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _flip_text(text: str, at: int) -> str:
    return text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]


def test_a_flipped_byte_anywhere_is_refused(stage: Stage, good: SealedBundle) -> None:
    """First, middle and last of manifest, signature, sealed key, nonce, ciphertext and tag: nothing is stored."""
    token, key, body = good.manifest_jws, good.sealed_keys[0], good.ciphertext
    dots = [i for i, c in enumerate(token) if c == "."]
    places = [0, dots[0] - 1, dots[0], dots[0] + 1, (dots[0] + dots[1]) // 2, dots[1], dots[1] + 1, len(token) - 1]
    changed = [dataclasses.replace(good, manifest_jws=_flip_text(token, at)) for at in places]
    changed += [dataclasses.replace(good, sealed_keys=(_flip(key, at),)) for at in (0, len(key) // 2, len(key) - 1)]
    spots = (0, 11, 12, len(body) // 2, len(body) - 17, len(body) - 16, len(body) - 1)
    changed += [dataclasses.replace(good, ciphertext=_flip(body, at)) for at in spots]
    with stage.room.gains():
        for bundle in changed:
            with refused("signature_invalid", "manifest_invalid", "bundle_invalid"):
                stage.room.alice.submit(bundle)


def test_cut_and_mixed_bundles_are_refused(stage: Stage, good: SealedBundle, recipient: RecipientKey) -> None:
    """Cut ciphertexts, keys too few or too many, and the parts of two good bundles put together."""
    other = stage.room.alice.seal(stage.example.model, stage.example.offer, recipient, stage.example.samples(3))
    cases = [
        dataclasses.replace(good, ciphertext=good.ciphertext[:-1]),
        dataclasses.replace(good, ciphertext=good.ciphertext + b"\0"),
        dataclasses.replace(good, ciphertext=good.ciphertext[:28]),
        dataclasses.replace(good, ciphertext=b"\0"),
        dataclasses.replace(good, sealed_keys=()),
        dataclasses.replace(good, sealed_keys=good.sealed_keys * 2),
        dataclasses.replace(good, sealed_keys=(b"",)),
        dataclasses.replace(good, sealed_keys=(good.sealed_keys[0][:-1],)),
        dataclasses.replace(good, manifest_jws=other.manifest_jws),
        dataclasses.replace(good, ciphertext=other.ciphertext),
        dataclasses.replace(good, sealed_keys=other.sealed_keys),
        dataclasses.replace(good, sealed_keys=other.sealed_keys, ciphertext=other.ciphertext),
    ]
    with stage.room.gains():
        for bundle in cases:
            with refused("bundle_invalid"):
                stage.room.alice.submit(bundle)


def test_bundles_for_other_enclaves_are_refused(stage: Stage, good: SealedBundle, recipient: RecipientKey) -> None:
    """Sealed to a stranger's key, under the stranger's id or under ours."""
    stranger = RecipientSecret(bytes(64), bytes(range(32))).public()
    theirs = declare(stage, {**payload(good), "recipients": [stranger.key_id]}, stranger)
    ours_by_name = declare(stage, payload(good), stranger)
    with stage.room.gains():
        for bundle in (theirs, ours_by_name):
            with refused("bundle_invalid"):
                stage.room.alice.submit(bundle)


def test_content_that_is_not_the_declared_one_is_refused(
    stage: Stage, good: SealedBundle, recipient: RecipientKey
) -> None:
    """A manifest whose digest is another content's opens nothing."""
    with stage.room.gains(), refused("bundle_invalid"):
        stage.room.alice.submit(declare(stage, payload(good), recipient, samples=[]))


@pytest.mark.parametrize(
    "make",
    [
        lambda _: generate_key("zhongyuan"),
        lambda _: OKPKey.generate_key("Ed25519", {"kid": "zhongyuan/1"}),
        lambda _: generate_key("stranger"),
        lambda stage: stage.room.client(Bank, MALLORY).credentials.signing_key(),
        lambda stage: stage.room.office.credentials.signing_key(),
    ],
    ids=["unknown key", "ours by name", "stranger", "another bank", "an authority"],
)
def test_manifests_signed_by_others_are_refused(
    stage: Stage, good: SealedBundle, recipient: RecipientKey, make: Callable[[Stage], SigningKey]
) -> None:
    """A manifest counts under its own institution's key alone."""
    with stage.room.gains(), refused("signature_invalid", "manifest_invalid"):
        stage.room.alice.submit(declare(stage, payload(good), recipient, key=make(stage)))


def test_other_banks_products_are_refused(stage: Stage, good: SealedBundle, recipient: RecipientKey) -> None:
    """Nobody submits for another bank: not under its name, not by handing in what it sealed itself."""
    mallory = stage.room.client(Bank, MALLORY)
    with stage.room.gains():
        with refused("manifest_invalid"):
            stage.room.alice.submit(declare(stage, {**payload(good), "product": "mallory-bank/loan"}, recipient))
        with refused("manifest_invalid"):
            mallory.submit(good)
        with refused("manifest_invalid"):
            mallory.submit(declare(stage, payload(good), recipient, key=mallory.credentials.signing_key()))


def _field(members: dict[str, Any], **changes: object) -> list[dict[str, Any]]:
    first: dict[str, Any] = {**members["fields"][0], **changes}
    return [first, *members["fields"][1:]]


MEMBERS: dict[str, Callable[[dict[str, Any]], dict[str, object]]] = {
    "product with a version": lambda m: {"product": PRODUCT + "@7"},
    "product without a bank": lambda m: {"product": "quick-loan"},
    "levels descend": lambda m: {"levels": [0, 200, 100]},
    "levels twice": lambda m: {"levels": [0, 100, 100]},
    "levels not from nought": lambda m: {"levels": [100, 200]},
    "one level": lambda m: {"levels": [0]},
    "no level": lambda m: {"levels": []},
    "65 levels": lambda m: {"levels": list(range(65))},
    "a level below nought": lambda m: {"levels": [-100, 0, 100]},
    "a level beyond money": lambda m: {"levels": [0, 10**11]},
    "a level of half a yuan": lambda m: {"levels": [0, 0.5]},
    "levels that are text": lambda m: {"levels": ["0", "100"]},
    "valid for ever": lambda m: {"limit_valid_days": 100_000},
    "valid for no time": lambda m: {"limit_valid_days": 0},
    "unknown member": lambda m: {"debug": True},
    "another schema": lambda m: {"schema": "heixia.manifest/v2"},
    "a field twice": lambda m: {"fields": [*m["fields"], m["fields"][0]]},
    "no field": lambda m: {"fields": []},
    "a field of two parts": lambda m: {"fields": _field(m, name="tax.sales")},
    "a field with a path": lambda m: {"fields": _field(m, name="../../etc/passwd")},
    "a field type of its own": lambda m: {"fields": _field(m, type="blob")},
    "an undeclared field bound": lambda m: {"inputs": [{**m["inputs"][0], "fields": ["tax.declaration.nothing"]}]},
    "no recipient": lambda m: {"recipients": []},
    "digest in capitals": lambda m: {"digests": {**m["digests"], "bundle": m["digests"]["bundle"].upper()}},
    "created at no time": lambda m: {"created": "yesterday"},
    # values that JSON can say and RFC 8785 cannot
    "stand-in without end": lambda m: {"fields": _field(m, missing=float("inf"))},
    "stand-in that is no number": lambda m: {"fields": _field(m, missing=float("nan"))},
    "stand-in just beyond RFC 8785": lambda m: {"fields": _field(m, missing=2**53)},
    "stand-in beyond RFC 8785": lambda m: {"fields": _field(m, missing=2**60)},
    "unknown member with a long name": lambda m: {"x" * 20_000: 1},
}


@pytest.mark.parametrize("name", MEMBERS)
def test_a_wrong_member_of_a_manifest_is_refused(
    stage: Stage, good: SealedBundle, recipient: RecipientKey, name: str
) -> None:
    """One member wrong at a time, rightly signed: manifest_invalid, nothing stored."""
    members = payload(good)
    with stage.room.gains(), refused("manifest_invalid"):
        stage.room.alice.submit(declare(stage, {**members, **MEMBERS[name](members)}, recipient))


def test_manifests_in_other_spellings_are_refused(stage: Stage, good: SealedBundle) -> None:
    """White space, order, doubled members, sizes, depths: one spelling alone is a manifest."""
    members, key = payload(good), stage.room.alice.credentials.signing_key()
    text = rfc8785.dumps(members).decode()
    spellings = [
        json.dumps(members),
        text.replace('"comment":', '"comment":"x","comment":', 1),
        " " + text,
        "[" * 20_000,
        text[:-1],
        "",
        text.replace('"comment":"', '"comment":"' + "x" * MANIFEST_BYTES_MAX, 1),
    ]
    with stage.room.gains():
        for spelling in spellings:
            token = sign_compact(spelling.encode(), key, TYP)
            with refused("manifest_invalid", "signature_invalid"):
                stage.room.alice.submit(dataclasses.replace(good, manifest_jws=token))
        for token in (
            "",
            "..",
            "a.b.c",
            good.manifest_jws + ".",
            "e30.e30.e30",
            "é.é.é",
            good.manifest_jws.split(".")[0],
        ):
            with refused("signature_invalid"):
                stage.room.alice.submit(dataclasses.replace(good, manifest_jws=token))


def test_fields_that_the_catalogue_lacks_are_refused(stage: Stage, good: SealedBundle, recipient: RecipientKey) -> None:
    """A well-formed name of no field, or a field of another type, is on record as refused; its bundle is not kept."""
    members, first = payload(good), FIELDS[0]
    unknown = json.loads(json.dumps(members).replace(first, "tax.declaration.no_such_field"))
    for wrong, reason in (
        (unknown, "field_unknown"),
        ({**members, "fields": _field(members, type="date")}, "field_type"),
    ):
        with (
            stage.room.gains("version.submitted", "version.refused", changes=["version", "version_change"]),
            refused("model_refused"),
        ):
            stage.room.alice.submit(declare(stage, wrong, recipient))
        assert stage.room.entries()[-1]["code"] == reason


def test_versions_are_numbered_without_gaps(stage: Stage, good: SealedBundle) -> None:
    """Refused uploads take no number; a second submission of the same bytes is the next version."""
    before = stage.room.alice.versions(PRODUCT)
    with refused("bundle_invalid"):
        stage.room.alice.submit(dataclasses.replace(good, ciphertext=good.ciphertext[:-1]))
    made = stage.room.alice.submit(good)
    assert made.version == f"{PRODUCT}@{len(before) + 1}"
    numbers = [int(v.version.rpartition("@")[2]) for v in stage.room.alice.versions(PRODUCT)]
    assert numbers == list(range(1, len(before) + 2))


def test_four_eyes_are_two_people(stage: Stage, good: SealedBundle) -> None:
    """Not the submitter, not a certificate without a person, and no submission by nobody in particular."""
    version = stage.room.alice.submit(good).version
    nobody = stage.room.client(Bank, Principal(Role.INSTITUTION, "zhongyuan"))
    for approver in (stage.room.alice, nobody):
        with stage.room.gains(), refused("four_eyes_required"):
            approver.approve(version)
    with refused("transition_refused"):
        stage.room.bob.promote(version)


def test_a_submission_by_no_person_cannot_be_approved_by_whoever_sent_it(stage: Stage, good: SealedBundle) -> None:
    """A certificate without a person may be anybody's, the approver's too: four eyes cannot be counted."""
    nobody = stage.room.client(Bank, Principal(Role.INSTITUTION, "zhongyuan"))
    with refused("four_eyes_required"):
        stage.room.bob.approve(nobody.submit(good).version)


def test_what_is_admitted_can_be_promoted(stage: Stage, good: SealedBundle, recipient: RecipientKey) -> None:
    """A bundle for two enclaves whose other key has another length is stored so that it opens again, or is refused."""
    members = {**payload(good), "product": "zhongyuan/two-rooms", "recipients": ["0" * 16, recipient.key_id]}
    sealed = declare(stage, members, recipient, recipient)
    uneven = dataclasses.replace(sealed, sealed_keys=(b"short", sealed.sealed_keys[1]))
    try:
        version = stage.room.alice.submit(uneven).version
    except Exception as error:
        assert "bundle_invalid" in str(error)  # noqa: PT017
    else:
        stage.room.bob.approve(version)
        assert stage.room.bob.promote(version).version == version
