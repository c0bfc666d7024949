"""Many subjects at once, as loads bring them; apart from the single one, which needs no numpy."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sandbox.vault.errors import SubjectInvalid
from sandbox.vault.subject import parse_subject

_USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC_WEIGHTS = np.array([pow(3, i, 31) for i in range(17)], dtype=np.int64)
_USCC_ORDINALS = np.full(128, -1, dtype=np.int64)
_USCC_ORDINALS[[ord(c) for c in _USCC_ALPHABET]] = np.arange(31)
_USCC_LENGTH = len("uscc:") + 18


def first_invalid_subject(subjects: Sequence[str]) -> int | None:
    """Return the index of the first string that `parse_subject` would refuse, or None; fast on many credit codes."""
    slow = np.flatnonzero(~_are_credit_codes(subjects))
    for index in slow.tolist():
        try:
            parse_subject(subjects[index])
        except SubjectInvalid:
            return int(index)
    return None


def credit_code_check(ordinals: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the ordinal of the check character (GB 32100-2015, modulus 31) for rows of 17 character ordinals."""
    return np.asarray(-(ordinals @ _USCC_WEIGHTS) % 31, dtype=np.int64)


def _are_credit_codes(subjects: Sequence[str]) -> NDArray[np.bool_]:
    """Say for each string whether it is certainly a right `uscc:` subject; the others need a closer look."""
    shaped = np.array([len(s) == _USCC_LENGTH and s.isascii() and s.startswith("uscc:") for s in subjects], dtype=bool)
    text = "".join(s for s, good in zip(subjects, shaped.tolist(), strict=True) if good)
    characters = np.frombuffer(text.encode("ascii"), dtype=np.uint8).reshape(-1, _USCC_LENGTH)[:, 5:]
    ordinals = _USCC_ORDINALS[characters]
    right = (ordinals >= 0).all(axis=1) & (ordinals[:, :8] <= 9).all(axis=1)
    shaped[shaped] = right & (ordinals[:, 17] == credit_code_check(ordinals[:, :17]))
    return shaped
