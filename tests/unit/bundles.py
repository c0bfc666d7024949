"""A small manifest and bundle for tests of signing and sealing."""

import hashlib
from typing import Any

from joserfc.jwk import KeySet, OKPKey

from model_registry.bundle import RecipientSecret, SealedBundle, digests_of, encode_content, seal_bundle
from model_registry.manifest import Manifest, make_manifest, sign_manifest
from model_registry.signing import generate_key

SECRET = RecipientSecret(hashlib.sha512(b"mlkem").digest(), hashlib.sha256(b"x25519").digest())
SECRETS = {SECRET.public().key_id: SECRET}
KEY: OKPKey = generate_key("bank")
KEYS = KeySet([OKPKey.import_key(KEY.as_dict(private=False))])
CONTENT = encode_content(b"model", b"rules", [])


def members(**changes: Any) -> dict[str, Any]:
    """The members of a good manifest, some changed."""
    names = ["tax.declaration.sales_12m", "tax.declaration.taxpayer_grade"]
    good: dict[str, Any] = {
        "schema": "heixia.manifest/v1",
        "product": "bank/loan",
        "fields": [{"name": names[0], "type": "number", "missing": "nan"}, {"name": names[1], "type": "category"}],
        "inputs": [{"name": "X", "dtype": "float64", "fields": names}],
        "output": {"name": "score", "index": 0},
        "levels": [0, 50_000, 100_000],
        "limit_valid_days": 30,
        "data_max_age_days": 400,
        "digests": digests_of(b"model", b"rules", CONTENT).model_dump(),
        "recipients": [SECRET.public().key_id],
        "created": "2026-11-23T00:00:00.000Z",
    }
    return {**good, **changes}


def manifest(**changes: Any) -> Manifest:
    """A good manifest, some members changed."""
    return make_manifest(**members(**changes))


def sealed() -> SealedBundle:
    """A good bundle."""
    return seal_bundle(CONTENT, sign_manifest(manifest(), KEY), [SECRET.public()])
