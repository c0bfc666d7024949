"""What a start asks before it serves: does the log go on from its anchor, and are the budgets what the log says?"""

import fcntl
import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

import structlog
from sqlalchemy import Engine

from audit.anchor import Anchor, find_rollback, rolled_back
from audit.kinds import RollbackAccepted
from audit.ledger import Ledger
from audit.note import NoteVerifier
from audit.witness_check import find_unaccepted
from enclave_api.errors import HomeInvalid
from enclave_api.home import Home
from sandbox.disclosure import check_budgets

_log = structlog.get_logger("heixia")


@contextmanager
def alone(home: Home) -> Iterator[None]:
    """Holds the home's lock; raises HomeInvalid where another process does."""
    # Calls under one consent wait for each other inside a process: a second one would not know of them.
    try:
        lock = (home.path / "serve.lock").open("a")
    except OSError as error:
        raise HomeInvalid("lock", public=f"{home.path}: {error.strerror}; make a home with `heixia init`") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise HomeInvalid("lock", public=f"another server uses {home.path}; stop it first") from error
        yield


def allow_descriptors() -> None:
    """Open files up to the system's hard bound: two for each walled process, so 1,024 are few for 200 versions."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def make_anchor(folder: Path) -> Anchor:
    """The anchor in a folder; a failure to write it later is the operator's log's, and stops nobody's call.

    Raises:
        HomeInvalid: the folder is not there or takes no file. Asked before anything else, so that a start which cannot
            keep an anchor leaves no entry that the last one was given up.
    """
    try:
        TemporaryFile(dir=folder).close()
    except OSError as error:
        hint = "make or mount the anchor's folder and let the server write there"
        raise HomeInvalid("anchor", public=f"{folder}: {error.strerror}; {hint}") from error
    return Anchor(folder, lambda error: _log.error("anchor not written", folder=str(folder), reason=error.strerror))


async def check_past(
    ledger: Ledger, engine: Engine, folder: Path, verifier: NoteVerifier, *, accept: bool, seen: Mapping[str, str]
) -> None:
    """Refuses a log that is behind or beside its anchor, or what witnesses saw, unless told to accept it.

    Then an entry for each checkpoint that is given up says so.

    Args:
        ledger: just opened.
        engine: its database.
        folder: the anchor's.
        verifier: the log's key.
        accept: go on although the log was rolled back.
        seen: checkpoints of this log, verified, by who keeps them (audit.witness_check).

    Raises:
        LedgerRolledBack, BudgetDiffers, LedgerCorrupt: nothing was changed.
    """
    found = [*filter(None, [find_rollback(ledger, folder, verifier)]), *find_unaccepted(ledger, engine, seen)]
    if found and not accept:
        raise rolled_back(max(found, key=lambda one: one.anchored or 0), ledger)
    with engine.connect() as connection:
        check_budgets(connection, ledger)
    for one in found:
        _log.warning("rollback accepted", finding=one.finding, by=one.by, anchored=one.anchored, size=ledger.size)
        event = RollbackAccepted("operator", one.finding, one.anchored, one.anchor_hash)
        await ledger.append(lambda *_, event=event: (event, None))


def start_anchor(anchor: Anchor, checkpoint: str) -> None:
    """Writes the anchor for the first time; raises HomeInvalid where it cannot be written."""
    try:
        anchor.start(checkpoint)
    except OSError as error:
        raise HomeInvalid(
            "anchor", public=f"{error.filename}: {error.strerror}; the anchor must be writable"
        ) from error
