"""Subjects: who the data is about.

A subject is one string with one spelling: `uscc:` and a unified social credit code (GB 32100-2015), or `ric:` and a
resident identity number (GB 11643-1999), upper case, no spaces. Because row keys and tags are computed from the string,
two spellings of one company would be two companies; so nothing is tidied up here, a spelling is right or refused.
"""

import re

from stdnum.cn import ric, uscc
from stdnum.exceptions import ValidationError

from sandbox.vault.errors import SubjectInvalid

_USCC = re.compile(r"uscc:[0-9]{8}[0-9A-HJ-NPQRTUWXY]{10}")
_RIC = re.compile(r"ric:[0-9]{17}[0-9X]")


def parse_subject(text: str) -> str:
    """Return `text` if it is a subject in canonical form.

    Args:
        text: `uscc:<18 characters>` or `ric:<18 characters>`.

    Returns:
        The same string; parsing is idempotent.

    Raises:
        SubjectInvalid: Wrong prefix, length, characters, case or check character. The message does not hold the text.
    """
    try:
        if _USCC.fullmatch(text):
            uscc.validate(text[5:])
        elif _RIC.fullmatch(text):
            ric.validate(text[4:])
        else:
            raise SubjectInvalid("a subject is 'uscc:' or 'ric:' and 18 characters, upper case, without spaces")
    except ValidationError:
        raise SubjectInvalid("the check character or a component of the subject's number is wrong") from None
    return text
