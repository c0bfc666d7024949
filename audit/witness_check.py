"""What witnesses remember of a log, held against the log as it is: who restores database and anchor is seen by them."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256

from sqlalchemy import Engine

from audit.anchor import Finding, Rollback, check_extends
from audit.errors import EntryUnknown, ProofInvalid
from audit.event import decode
from audit.kinds import RollbackAccepted
from audit.ledger import Ledger
from audit.note import Checkpoint, Note, NoteVerifier
from audit.schema import database_errors
from audit.witness_client import WitnessClient, WitnessFailed

_KIND = RollbackAccepted.kind.encode()
_ACCEPTED = "SELECT idx FROM entry WHERE instr(body, ?) > 0"


def ask_all(
    clients: Sequence[WitnessClient], logs: Sequence[NoteVerifier], timeout_s: float
) -> tuple[dict[str, str], dict[str, str]]:
    """Ask all witnesses at once what they cosigned last of the log that has these keys.

    Returns:
        Verified notes by the witness's name; and why those that cannot be heard were not, by name.
    """
    seen: dict[str, str] = {}
    silent = {client.name: "no answer in time" for client in clients}

    def ask(client: WitnessClient) -> None:
        try:
            note = client.latest(logs, timeout_s)
        except WitnessFailed as error:
            silent[client.name] = str(error)
            return
        del silent[client.name]
        if note is not None:
            seen[client.name] = note

    threads = [threading.Thread(target=ask, args=(client,), daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 2 * timeout_s  # for all together, whatever a resolver of names does meanwhile
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return dict(seen), dict(silent)


def find_witnessed(ledger: Ledger, by: str, note: str) -> Rollback | None:
    """Hold a log against a checkpoint that somebody kept; None where it goes on from there.

    Args:
        ledger: just opened, or running.
        by: who kept it.
        note: signed by this log; the caller has verified that. Its text's hash names it in the log, so that the same
            tree has one name whoever cosigned it.
    """
    text = Note.parse(note).text
    seen, named = Checkpoint.parse(text), sha256(text.encode()).hexdigest()
    try:
        check_extends(ledger, seen)
    except EntryUnknown:
        return Rollback(Finding.BEHIND_WITNESS, seen.size, named, by)
    except ProofInvalid:
        return Rollback(Finding.WITNESS_DIFFERS, seen.size, named, by)
    return None


def find_unaccepted(ledger: Ledger, engine: Engine, seen: Mapping[str, str]) -> list[Rollback]:
    """List what was seen and is no part of the log, each tree once, without what an entry of the log gave up before.

    A witness never follows a log that was rolled back, so it says the same at every start.

    Raises:
        LedgerCorrupt: such an entry is not what was signed.
    """
    found = {}
    for by, note in seen.items():
        if one := find_witnessed(ledger, by, note):
            found[one.anchor_hash] = one
    if not found:
        return []
    given_up = set(_given_up(ledger, engine))
    return [one for name, one in found.items() if name not in given_up]


def _given_up(ledger: Ledger, engine: Engine) -> Iterator[str | None]:
    # Reads the whole log, some seconds for a million entries, at the start after a rollback alone.
    with database_errors(), engine.connect() as connection:
        indexes = list(connection.exec_driver_sql(_ACCEPTED, (_KIND,)).scalars())
    for index in indexes:
        event, _ = decode(ledger.entry(index))
        if isinstance(event, RollbackAccepted):
            ledger.prove(index)  # an entry that somebody wrote over an old one does not lead to the signed root
            yield event.anchor_hash
