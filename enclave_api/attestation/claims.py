"""The steps that judge what an enclave claims; each fails with a reason, none raises for claims however malformed.

Claims are a stranger's until the report vouches for them: what is quoted from them is cut and cannot write to a
terminal.
"""

import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import rfc8785

from audit.errors import EventInvalid
from audit.event import parse_time
from enclave_api.attestation.evidence import SCHEMA, TDX
from enclave_api.attestation.policy import Policy
from enclave_api.attestation.steps import StepFailed
from model_registry.bundle import RecipientKey
from model_registry.errors import BundleInvalid
from sandbox.jail.required import MODES, REQUIRED, isolation, missing

Claims = Mapping[str, Any]

CLAIMS_BYTES_MAX = 256 * 1024  # they are 7 KiB; 23 walls with reasons of a kernel's words come nowhere near
CLOCK_SKEW = timedelta(minutes=5)  # the enclave's clock may be that much ahead of the verifier's


def read_claims(claims: bytes) -> Claims:
    """The claims' members; {} where they are not RFC 8785 JSON of the known schema."""
    try:
        found: Any = json.loads(claims) if len(claims) <= CLAIMS_BYTES_MAX else None
        known = isinstance(found, dict) and found.get("schema") == SCHEMA
        return found if known and rfc8785.dumps(found) == claims else {}
    except (ValueError, RecursionError):  # rfc8785's errors are ValueErrors
        return {}


def check_readable(claims: Claims) -> str:
    """Whether they could be read."""
    if not claims:
        raise StepFailed(f"not RFC 8785 JSON of schema {SCHEMA}")
    return f"RFC 8785 JSON, schema {SCHEMA}"


def check_nonce(claims: Claims, nonce: bytes) -> str:
    """Whether they answer this very question."""
    if not hmac.compare_digest(_hex(claims.get("nonce")), nonce):
        raise StepFailed("another nonce: the evidence was made for somebody else, or before")
    return f"{len(nonce)} random bytes of this question"


def check_key(claims: Claims) -> str:
    """Whether the key to seal to is one, and its id is its own."""
    key = RecipientKey(_hex(claims.get("hpke_key")))
    try:
        key.public()
    except BundleInvalid as error:
        raise StepFailed("not an MLKEM768-X25519 key") from error
    if key.key_id != claims.get("hpke_key_id"):
        raise StepFailed("the key's id is another key's")
    return f"MLKEM768-X25519 key {key.key_id}"


def check_code(claims: Claims, policy: Policy, form: str) -> str:
    """Whether the installed code is accepted, and the machine that claims it was measured up to its kernel."""
    found = _told(claims.get("code_digest"))
    if not policy.code_digests:
        raise StepFailed(f"the policy names no code digest: nobody would say which application runs; it is {found}")
    if claims.get("code_digest") not in policy.code_digests:
        raise StepFailed(f"{found} is none of the {len(policy.code_digests)} in the policy's code_digests")
    if form == TDX and policy.tdx and not (policy.tdx.rtmr1 and policy.tdx.rtmr2):
        raise StepFailed(
            "the policy's [tdx] lacks rtmr1 (kernel) or rtmr2 (command line, initrd): MRTD is the firmware alone, and"
            f" any system that it starts may claim {found}"
        )
    return found


def check_config(claims: Claims, accepted: Sequence[str]) -> str:
    """Whether the configuration is accepted."""
    found = _told(claims.get("config_digest"))
    if claims.get("config_digest") not in accepted:
        raise StepFailed(f"{found} is none of the {len(accepted)} in the policy's config_digests")
    return found


def check_tls(claims: Claims, tls_key_hash: str) -> str:
    """Whether the connection ends where the claims were made."""
    if claims.get("tls_key_hash") != tls_key_hash:
        raise StepFailed(
            f"the connection's key is {tls_key_hash[:16]}…, the enclave's {_told(claims.get('tls_key_hash'))[:16]}…:"
            " somebody answers in between"
        )
    return f"SHA-256 of the server's public key, {tls_key_hash[:16]}…"


def check_walls(claims: Claims, policy: Policy) -> str:
    """Whether every wall is on, or accepted as missing."""
    lacking = missing(claims.get("walls"))
    if not lacking:
        return f"all {len(claims['walls'])} on"
    accepted = policy.weak_isolation
    refused = [n for n in lacking if accepted is None or (accepted.walls is not None and n not in accepted.walls)]
    if refused:
        raise StepFailed(f"missing: {_names(refused)}; a policy's accept_missing_walls may name them")
    return f"missing: {_names(lacking)}; accepted because your policy says so"


def check_isolation(claims: Claims, policy: Policy) -> str:
    """Whether the isolation is what the walls make it, and accepted."""
    said = claims.get("isolation")
    mode = next((mode for mode in MODES if isolation(mode, claims.get("walls")) == said), None)
    if mode is None:
        raise StepFailed(f"the claims call {_told(said)} what their walls are not")
    if mode == "warm" and policy.warm is None:
        raise StepFailed("warm: a process serves many calls; a policy's accept_warm (UnsafeAcceptWarm) takes it")
    return str(said)


def check_age(claims: Claims, minutes_max: int, at: datetime) -> str:
    """Whether the evidence is young enough at the time of verification, and not from the future."""
    try:
        issued = parse_time(str(claims.get("issued")))
    except EventInvalid as error:
        raise StepFailed("the claims do not say when they were made") from error
    age = at - issued
    if age < -CLOCK_SKEW:
        raise StepFailed(f"made at {claims['issued']}, after the time of verification")
    if age > timedelta(minutes=minutes_max):
        raise StepFailed(
            f"made at {claims['issued']}, {age // timedelta(minutes=1)} minutes ago; at most {minutes_max}"
        )
    return f"made at {claims['issued']}; at most {minutes_max} minutes"


def _hex(text: object) -> bytes:
    try:
        return bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        return b""


def _told(text: object) -> str:
    # a hex digest as it stands, anything else quoted and cut
    plain = isinstance(text, str) and text.isascii() and text.isalnum() and len(text) <= 64
    return str(text) if plain else ascii(text)[:40]


def _names(walls: list[str]) -> str:
    return ", ".join(name if name in REQUIRED else ascii(name)[:40] for name in walls[:40])
