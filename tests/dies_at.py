"""Runs a command of this project on another day and has it killed at one moment of a key's destruction.

`dies_at.py MOMENT DAYS PYTHON -m enclave_api ...`; the server is the real one in a process of its own.
"""

import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from audit import durable
from enclave_api import app, keeper
from enclave_api.cli.main import main
from enclave_api.keeper import FileKeeper
from enclave_api.key_epochs import KeyEpochs

MOMENTS = ("before the file", "in the file", "between file and entry", "between two entries", "behind the entries")


def die(*_: object) -> Any:
    """As a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def then_die(call: Callable[..., Any]) -> Callable[..., Any]:
    """Does it, and dies."""

    def wrapped(*args: Any, **more: Any) -> Any:
        call(*args, **more)
        die()

    return wrapped


def arm(moment: str) -> None:
    """Sets the trap."""
    record = KeyEpochs._record

    async def first_only(self: KeyEpochs, gone: Any) -> None:
        await record(self, gone[:1])
        if gone:
            die()

    async def all_of_them(self: KeyEpochs, gone: Any) -> None:
        await record(self, gone)
        if gone:
            die()

    async def none(_: KeyEpochs, gone: Any) -> None:
        if gone:
            die()

    traps: dict[str, tuple[object, str, object]] = {
        "before the file": (FileKeeper, "advance", die),
        "in the file": (keeper, "write_durably", then_die(durable.write_durably)),
        "between file and entry": (KeyEpochs, "_record", none),
        "between two entries": (KeyEpochs, "_record", first_only),
        "behind the entries": (KeyEpochs, "_record", all_of_them),
    }
    owner, name, trap = traps[moment]
    setattr(owner, name, trap)


if __name__ == "__main__":
    ahead = timedelta(days=int(sys.argv[2]))
    app.utc_now = lambda: datetime.now(UTC) + ahead
    arm(sys.argv[1])
    sys.argv = [sys.argv[5], *sys.argv[6:]]
    main()
