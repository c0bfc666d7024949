"""An attack: a function that tries something, with what must stop it and which walls are missing in its control run."""

import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.redteam import kernel

TEMPLATE, ONE_SHOT = "template", "one-shot"
BOTH = (TEMPLATE, ONE_SHOT)
KILLED = "killed: SIGSYS"
SECCOMP = frozenset({"seccomp", "one_shot_seccomp"})
# what stands in the way of a descriptor in a one-shot beside the filter
DESCRIPTOR = SECCOMP | {"one_shot_rlimits"}
FILE = DESCRIPTOR | {"landlock", "empty_root"}
# other processes: all namespaces, as an ordinary user can leave the user namespace only with the others
PROCESS = DESCRIPTOR | {"namespaces", "landlock"}


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        name: what it tries.
        source: Python text of a function `attempt()`; returning means that it worked.
        without: the walls missing in the control run; in a template's run those of the one-shot are not there anyway.
        alone: wall → how the attack ends where this is the only one left of `without`.
        stopped: how it ends behind all walls.
        works: outcomes of the control that show that it works, beside returning.
        positions: where it runs.
        privileged: the control needs the machine's root, without a user namespace and with its capabilities; all that
            together is the wall "privileges" of `alone`.
        lacking: outcome of the control → why this machine cannot show it.
    """

    name: str
    source: str
    without: frozenset[str]
    alone: Mapping[str, str] = field(default_factory=dict)
    stopped: str = KILLED
    works: tuple[str, ...] = ()
    positions: tuple[str, ...] = BOTH
    privileged: bool = False
    lacking: Mapping[str, str] = field(default_factory=dict)


ATTACKS: list[Attack] = []
NOT_HERE = {"refused: ENOSYS": "the kernel lacks the call", "refused: EAFNOSUPPORT": "the kernel lacks the family"}


def attack(
    name: str,
    without: frozenset[str] = SECCOMP,
    *,
    alone: Mapping[str, str] | None = None,
    stopped: str = KILLED,
    works: tuple[str, ...] = (),
    positions: tuple[str, ...] = BOTH,
    privileged: bool = False,
    lacking: Mapping[str, str] | None = None,
) -> Callable[[Callable[[], object]], Attack]:
    """Make a function an attack, and register it."""

    def register(function: Callable[[], object]) -> Attack:
        text = textwrap.dedent(inspect.getsource(function))
        body = text[text.index("def ") :]
        source = f"{body}\nattempt = {function.__name__}\n"
        made = Attack(
            name, source, without, alone or {}, stopped, works, positions, privileged, {**NOT_HERE, **(lacking or {})}
        )
        ATTACKS.append(made)
        return made

    return register


_KERNEL = Path(kernel.__file__).read_text()


def script(source: str, constants: Mapping[str, object]) -> str:
    """The whole text of an attack: helpers, constants of this run, the function."""
    assigned = "".join(f"{name} = {value!r}\n" for name, value in constants.items())
    return f"{_KERNEL}\nimport errno, signal, socket\n{assigned}\n{source}"
