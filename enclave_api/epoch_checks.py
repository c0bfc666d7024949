"""What a start asks of the root secret before it is used: is it this home's, and of the same time as the log?

Root secret and database are two things that an operator can put back from copies, each without the other. Every such
pair is told apart from what a crash may leave, and refused with nothing written.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from sqlalchemy import Engine

from audit.errors import LedgerCorrupt, ProofInvalid
from audit.event import decode
from audit.ledger import Ledger
from audit.note import Note, NoteVerifier
from audit.schema import database_errors
from audit.store import read_head
from enclave_api.errors import EpochDiffers, RootForeign
from enclave_api.keys import Keys
from model_registry.key_epochs import Epoch
from sandbox.replay.fold import Replay

_FOREIGN = "put this home's own root.key back (or its log_origin in heixia.toml, where that was changed)"


def check_root(engine: Engine, verifiers: Sequence[NoteVerifier]) -> None:
    """Raises RootForeign where the log's newest checkpoint names keys, and none of them is ours."""
    with database_errors(), engine.connect() as connection:
        head = read_head(connection)
    ours = {(verifier.name, verifier.key_id) for verifier in verifiers}
    with suppress(ProofInvalid):  # then the ledger says more of it
        if head and not any((one.name, one.key_id) in ours for one in Note.parse(head.checkpoint).signatures):
            raise RootForeign("log key", public=f"another root secret signed this home's log; {_FOREIGN}")


def check_epochs(ledger: Ledger, epochs: Sequence[Epoch]) -> None:
    """Raises LedgerCorrupt where the rows are not what their entries, led back to the signed root, add up to."""
    replay = Replay()
    indices = {one.made_index for one in epochs} | {one.destroyed_index for one in epochs}
    for index in sorted(index for index in indices if index is not None and 0 <= index < ledger.size):
        ledger.prove(index)
        replay.take(index, *decode(ledger.entry(index)))
    said = [Epoch(key.epoch, key.key_id, key.index, key.at, key.until, key.destroyed) for key in replay.room.keys]
    if replay.findings.total or said != list(epochs):
        public = "the table of keys is not what the log says: restore the newest database"
        raise LedgerCorrupt("key epochs", public=public)


def find_unsaid(keys: Keys, epochs: Sequence[Epoch], now: datetime) -> list[Epoch]:
    """The epochs that the keeper destroyed and the log does not know of yet: a crash came between.

    Args:
        keys: the keeper's.
        epochs: the log's, oldest first; none before the first start.
        now: the present time, not before the log's last entry.

    Raises:
        EpochDiffers: the root secret is older than the log, or newer by more than a crash explains.
        RootForeign: it does not lead to the keys that the log names.
    """
    gone = sum(not one.alive for one in epochs)
    if keys.epoch < gone:
        raise EpochDiffers("root older", public=_older(keys.epoch, gone))
    unsaid = epochs[gone : keys.epoch]
    if keys.epoch >= max(len(epochs), 1) or not all(one.due(now) for one in unsaid):
        raise EpochDiffers("root newer", public=_newer(keys.epoch, gone))
    check_key_ids(keys, epochs)
    return list(unsaid)


def check_key_ids(keys: Keys, epochs: Sequence[Epoch]) -> None:
    """Raises RootForeign where an epoch that `keys` leads to has another key than the log says."""
    for one in epochs:
        if one.number >= keys.epoch and keys.recipient(one.number).public().key_id != one.key_id:
            raise RootForeign("key id", public=f"it does not lead to the key of epoch {one.number}; {_FOREIGN}")


def _older(kept: int, gone: int) -> str:
    return (
        f"root.key still has epoch {kept}, and the log says that every epoch before {gone} was destroyed: it is an old "
        "copy. Put the newest one back; where that is lost, `heixia keys advance` destroys in this one what the log "
        "says is gone"
    )


def _newer(kept: int, gone: int) -> str:
    return (
        f"root.key begins at epoch {kept}, and by the log and the clock the oldest that may live is {gone}: the "
        "database is an old copy, or the clock is behind. Restore the newest database, or set the clock"
    )
