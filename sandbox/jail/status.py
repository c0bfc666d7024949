"""How a score ends. Apart, so that the server need not import what only walled processes run."""

from enum import IntEnum


class ScoreStatus(IntEnum):
    """The first byte of a one-shot's answer."""

    OK = 0
    NO_OFFER = 1
    MODEL_FAILURE = 2
    BAD_REQUEST = 3
