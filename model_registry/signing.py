"""JWS signatures (RFC 7515) of institutions and authorities: EdDSA or ES256, keys found by `kid` in a JWKS (RFC 7517).

A `kid` is `<organisation>/<n>`: the organisation is part of the key's name, so a signature says whose it is.
"""

import json
import warnings
from collections.abc import Sequence
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, KeySet, OKPKey

from model_registry.errors import SignatureInvalid

# RFC 9864 renames EdDSA to Ed25519 for that curve; both names are in use: both are read, the common one is written.
ALGORITHMS = ["EdDSA", "Ed25519", "ES256"]
_REGISTRY = jws.JWSRegistry(algorithms=ALGORITHMS)
warnings.filterwarnings("ignore", category=SecurityWarning, message="EdDSA is deprecated")

SigningKey = OKPKey | ECKey


def algorithm_of(key: SigningKey) -> str:
    """The JWS algorithm name for a key: EdDSA for Ed25519, ES256 for P-256."""
    return "EdDSA" if isinstance(key, OKPKey) else "ES256"


def generate_key(organisation: str, number: int = 1) -> OKPKey:
    """A fresh Ed25519 signing key named `<organisation>/<number>`."""
    return OKPKey.generate_key("Ed25519", {"kid": f"{organisation}/{number}", "use": "sig"})


def load_signing_key(text: str) -> SigningKey:
    """Reads a private JWK; raises SignatureInvalid where it is none."""
    try:
        data = json.loads(text)
        return OKPKey.import_key(data) if data.get("kty") == "OKP" else ECKey.import_key(data)
    except (ValueError, AttributeError, JoseError) as error:
        raise SignatureInvalid("not a private JWK", public="the signing key file is not a JWK") from error


def load_key_set(text: str) -> KeySet:
    """Reads a JWKS of public keys; raises SignatureInvalid where it is none. An empty set is a valid one."""
    try:
        data = json.loads(text)
        return KeySet.import_key_set(data) if data["keys"] else KeySet([])
    except (ValueError, KeyError, TypeError, JoseError) as error:
        raise SignatureInvalid("not a JWKS", public="the key set file is not a JWKS") from error


def organisation_of(kid: str) -> str:
    """The organisation that a key name belongs to."""
    return kid.rpartition("/")[0]


def sign_compact(payload: bytes, key: SigningKey, typ: str) -> str:
    """A compact JWS over `payload`."""
    header = {"alg": algorithm_of(key), "kid": key.kid, "typ": typ}
    return jws.serialize_compact(header, payload, key, registry=_REGISTRY)


def sign_general(payload: bytes, keys: Sequence[SigningKey], typ: str) -> bytes:
    """A JWS in the general JSON serialisation (RFC 7515, 7.2.1) with one signature for each key."""
    members = [{"protected": {"alg": algorithm_of(key), "kid": key.kid, "typ": typ}} for key in keys]
    made: Any = jws.serialize_json(members, payload, KeySet(list(keys)), registry=_REGISTRY)  # type: ignore[arg-type]
    return json.dumps(made, separators=(",", ":"), sort_keys=True).encode()


def verify_compact(token: str, keys: KeySet, typ: str) -> tuple[bytes, str]:
    """Checks a compact JWS.

    Returns:
        The payload and the `kid` that signed it.

    Raises:
        SignatureInvalid: malformed, unknown key, other `typ`, header members beyond alg, kid, typ, or a bad signature.
    """
    try:
        made = jws.deserialize_compact(token, keys, registry=_REGISTRY)
    except (JoseError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SignatureInvalid(f"compact JWS: {type(error).__name__}") from error
    return made.payload, _checked_kid(made.headers(), None, typ)


def verify_general(raw: bytes, keys: KeySet, typ: str) -> tuple[bytes, tuple[str, ...]]:
    """Checks a JWS in the general JSON serialisation; every signature in it must verify.

    Returns:
        The payload and the `kid` of each signature, in order.

    Raises:
        SignatureInvalid: as verify_compact, and where there are none or more than two signatures.
    """
    try:
        data = json.loads(raw)
        if set(data) != {"payload", "signatures"} or not 1 <= len(data["signatures"]) <= 2:
            raise SignatureInvalid("general JWS: members or number of signatures")
        made: Any = jws.deserialize_json(data, keys, registry=_REGISTRY)
        kids = tuple(_checked_kid(member.protected or {}, member.header, typ) for member in made.members)
    except (JoseError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SignatureInvalid(f"general JWS: {type(error).__name__}") from error
    return made.payload, kids


def _checked_kid(protected: dict[str, Any], unprotected: dict[str, Any] | None, typ: str) -> str:
    # joserfc picks any key of the set where `kid` is absent, and an unprotected header is outside the signature.
    if unprotected or set(protected) != {"alg", "kid", "typ"} or protected["typ"] != typ:
        raise SignatureInvalid("JWS header members")
    return str(protected["kid"])
