"""JSON whose very bytes are signed, read strictly: each member's text as it stands, none twice, whole numbers alone.

Programs differ in which of two equal members they take, and in how they write numbers; a signed statement has no need
of either.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from enclave_api.attestation.steps import StepFailed

DOCUMENT_BYTES_MAX = 2**20  # real ones have 5 to 20 KB; a bundle with long revocation lists more


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member twice")
    return found


def _refused(text: str) -> NoReturn:
    raise ValueError(text)  # no statement has such a number


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_refused, parse_constant=_refused)
_SPACE = re.compile(r"[ \t\r\n]*")


def read_json(content: bytes) -> Any:
    """The value; raises ValueError or RecursionError for other bytes, a member that is there twice, fractions."""
    return _DECODER.decode(content.decode())


def members_of(document: bytes) -> Mapping[str, tuple[Any, str]]:
    """Value and text of each member of a JSON object.

    Raises StepFailed for other bytes, more than DOCUMENT_BYTES_MAX, or a member that is there twice.
    """
    if len(document) > DOCUMENT_BYTES_MAX:
        raise StepFailed(f"a document of {len(document)} bytes; {DOCUMENT_BYTES_MAX} at most")
    try:
        return _members(document.decode())
    except (ValueError, IndexError, RecursionError):
        raise StepFailed("a document is no JSON object, or has a member twice") from None


def _members(text: str) -> dict[str, tuple[Any, str]]:
    found: dict[str, tuple[Any, str]] = {}
    at = _after(text, 0, "{")
    while text[at] != "}" or found:
        name, at = _DECODER.raw_decode(text, at)
        start = _after(text, _space(text, at), ":")
        value, end = _DECODER.raw_decode(text, start)
        if not isinstance(name, str) or name in found:
            raise ValueError(name)
        found[name] = (value, text[start:end])
        at = _space(text, end)
        if text[at] == "}":
            break
        at = _after(text, at, ",")
    if _space(text, at + 1) != len(text):
        raise ValueError("more after the object")
    return found


def _space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _after(text: str, at: int, mark: str) -> int:
    at = _space(text, at)
    if text[at] != mark:
        raise ValueError(mark)
    return _space(text, at + 1)
