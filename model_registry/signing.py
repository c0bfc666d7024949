"""JWS signatures (RFC 7515) of institutions and authorities: EdDSA or ES256, keys found by `kid` in a JWKS (RFC 7517).

A `kid` is `<organisation>/<n>`: the organisation is part of the key's name, so a signature says whose it is. A key set
may tell the end of a key as the historical keys of OpenID Federation do: `exp` (NumericDate) = it signs nothing new
from then on, what it signed before stands; `revoked` = it was withdrawn, and nothing that it ever signed counts.
"""

import json
import warnings
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, KeySet, OKPKey

from model_registry.errors import SignatureInvalid

# RFC 9864 renames EdDSA to Ed25519 for that curve; both names are in use: both are read, the common one is written.
ALGORITHMS = ["EdDSA", "Ed25519", "ES256"]
_OWN_CURVES = ("Ed25519", "P-256")
_JWK_MEMBERS = frozenset({"kty", "crv", "x", "y"})  # of a public key on a curve, RFC 7518 6.2.1 and RFC 8037 2
_REGISTRY = jws.JWSRegistry(algorithms=ALGORITHMS)
warnings.filterwarnings("ignore", category=SecurityWarning, message="EdDSA is deprecated")

SigningKey = OKPKey | ECKey


def algorithm_of(key: SigningKey) -> str:
    """The JWS algorithm name for a key: EdDSA for Ed25519, ES256 for P-256."""
    return "EdDSA" if isinstance(key, OKPKey) else "ES256"


def generate_key(organisation: str, number: int = 1) -> OKPKey:
    """A fresh Ed25519 signing key named `<organisation>/<number>`."""
    return OKPKey.generate_key("Ed25519", {"kid": f"{organisation}/{number}", "use": "sig"})


def own_key() -> OKPKey:
    """A fresh Ed25519 key of a person's: it has no name, for nobody's name may travel with its signatures."""
    return OKPKey.generate_key("Ed25519")


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
        if any(type(key.get("exp", 0)) is not int for key in data["keys"]):  # read as no end, it would go on for ever
            raise SignatureInvalid("exp", public="`exp` of a key in the key set is not a NumericDate")
        return KeySet.import_key_set(data) if data["keys"] else KeySet([])
    except (ValueError, KeyError, TypeError, AttributeError, JoseError) as error:
        raise SignatureInvalid("not a JWKS", public="the key set file is not a JWKS") from error


def organisation_of(kid: str) -> str:
    """The organisation that a key name belongs to."""
    return kid.rpartition("/")[0]


def sign_compact(payload: bytes, key: SigningKey, typ: str) -> str:
    """A compact JWS over `payload`."""
    header = {"alg": algorithm_of(key), "kid": key.kid, "typ": typ}
    return jws.serialize_compact(header, payload, key, registry=_REGISTRY)


def sign_general(payload: bytes, keys: Sequence[SigningKey], typ: str, own: SigningKey | None = None) -> bytes:
    """A JWS in the general JSON serialisation (RFC 7515, 7.2.1) with one signature for each key.

    The signature of a key that no key set knows, `own`, comes last and carries its key (`jwk`, RFC 7515, 4.1.3).
    """
    signed = [sign_compact(payload, key, typ) for key in keys]
    if own is not None:
        header = {"alg": algorithm_of(own), "jwk": _public(own), "typ": typ}
        signed.append(jws.serialize_compact(header, payload, own, registry=_REGISTRY))
    parts = [token.split(".") for token in signed]
    signatures = [{"protected": protected, "signature": signature} for protected, _, signature in parts]
    return json.dumps({"payload": parts[0][1], "signatures": signatures}, separators=(",", ":")).encode()


def thumbprint(key: SigningKey) -> str:
    """How a consent names its subject's key: RFC 7638, SHA-256, base64url."""
    return key.thumbprint()


def key_of(token: str) -> str:
    """The name of the key that a compact JWS says it is signed with, nothing verified; "" where it says none."""
    try:
        return str(json.loads(_decode(token.partition(".")[0])).get("kid", ""))
    except (ValueError, AttributeError, RecursionError):
        return ""


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
    return made.payload, _checked_kid(made.headers(), typ)


@dataclass(frozen=True)
class Signed:
    """A verified payload, the `kid` that signed it, and the thumbprint of the key that a second signature carries."""

    payload: bytes
    kid: str
    own: str | None


def verify_general(raw: bytes, keys: KeySet, typ: str) -> Signed:
    """Checks a JWS in the general JSON serialisation; every signature in it must verify.

    Raises:
        SignatureInvalid: as verify_compact; where the first is by no key of the set, or a second carries no key of its
            own; where there are none or more than two.
    """
    try:
        data = json.loads(raw)
        if set(data) != {"payload", "signatures"} or not 1 <= len(data["signatures"]) <= 2:
            raise SignatureInvalid("general JWS: members or number of signatures")
        first, *more = [_compact(data["payload"], signature) for signature in data["signatures"]]
        payload, kid = verify_compact(first, keys, typ)
        return Signed(payload, kid, _verify_own(more[0], typ) if more else None)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SignatureInvalid(f"general JWS: {type(error).__name__}") from error


def retires_at(keys: KeySet, kid: str) -> int | None:
    """From when on a key of the set signs nothing new (`exp`), Unix seconds; None = no such time.

    Raises:
        SignatureInvalid: the key was withdrawn (`revoked`).
    """
    key = next(key for key in keys.keys if key.kid == kid)
    if key.get("revoked") is not None:
        raise SignatureInvalid("withdrawn", public="the key was withdrawn")
    end = key.get("exp")
    return end if isinstance(end, int) else None


def _compact(payload: str, signature: Mapping[str, str]) -> str:
    # An unprotected header would be a third member: it is outside of the signature.
    if set(signature) != {"protected", "signature"}:
        raise SignatureInvalid("general JWS: members of a signature")
    return f"{signature['protected']}.{payload}.{signature['signature']}"


def _verify_own(token: str, typ: str) -> str:
    try:
        header = json.loads(_decode(token.partition(".")[0]))
        if set(header) != {"alg", "jwk", "typ"} or header["typ"] != typ or not set(header["jwk"]) <= _JWK_MEMBERS:
            raise SignatureInvalid("JWS header members")
        if header["jwk"].get("crv") not in _OWN_CURVES:
            raise SignatureInvalid("own key's curve")
        key = load_signing_key(json.dumps(header["jwk"]))
        jws.deserialize_compact(token, key, registry=_REGISTRY)
    except (JoseError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SignatureInvalid(f"own key's signature: {type(error).__name__}") from error
    return thumbprint(key)


def _public(key: SigningKey) -> dict[str, Any]:
    return {name: value for name, value in key.as_dict(private=False).items() if name in _JWK_MEMBERS}


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _checked_kid(protected: dict[str, Any], typ: str) -> str:
    # joserfc picks any key of the set where `kid` is absent.
    if set(protected) != {"alg", "kid", "typ"} or protected["typ"] != typ:
        raise SignatureInvalid("JWS header members")
    return str(protected["kid"])
