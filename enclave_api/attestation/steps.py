"""Steps of a verification: what was checked, with which outcome, and why."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Step:
    """One step of a verification."""

    name: str
    outcome: Outcome
    reason: str


class StepFailed(Exception):
    """Ends the check of one step; the message is its reason, without bytes of the evidence beyond short names."""


class StepSkipped(Exception):
    """Ends the check of one step that has nothing to go by; the message is the reason."""


def run_step(name: str, check: Callable[[], str]) -> Step:
    """Runs one check: its text is why it passed, a StepFailed is why it failed, a StepSkipped why it was not made."""
    try:
        return Step(name, "passed", check())
    except StepFailed as error:
        return Step(name, "failed", str(error))
    except StepSkipped as error:
        return skipped(name, str(error))


def skipped(name: str, reason: str) -> Step:
    """A step that could not or need not be checked."""
    return Step(name, "skipped", reason)
