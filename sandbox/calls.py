"""The records of calls: answers kept for repeats, gap-free numbers of an institution's calls, refusals."""

import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from audit.errors import LedgerBusy
from audit.kinds import Refusal
from audit.ledger import Ledger, Position
from audit.prepared import Prepared
from model_registry.aead import seal, unseal
from model_registry.errors import StoredValueCorrupt
from sandbox import tables
from sandbox.errors import SubjectErased
from sandbox.subject_keys import check_not_erased, subject_cipher
from sandbox.vault.sealing import VaultKeys

_KEPT = struct.Struct(">Q32sq")  # limit in yuan, salt, valid until in Unix milliseconds

_CALL = Prepared(select(tables.call).where(tables.call.c.request_hash == bindparam("request")))
_OF_INPUT = tables.call.c.input_hash == bindparam("input")
_SAME = Prepared(select(tables.call).where(_OF_INPUT).order_by(tables.call.c.idx.desc()))
_KEEP = Prepared(insert(tables.call))
_MINE = tables.sequence.c.institution == bindparam("mine")
_LAST = Prepared(select(tables.sequence.c.seq).where(_MINE))
_COUNT = Prepared(update(tables.sequence).where(_MINE).values(seq=bindparam("next")))


@dataclass(frozen=True)
class Answer:
    """What leaves: the limit in whole yuan (0 = no offer), until when it holds, and what proves it."""

    limit: int
    valid_until: datetime
    index: int
    entry: bytes
    proof: str
    salt: bytes


@dataclass(frozen=True)
class Kept:
    """What is kept of an answer under the subject's key."""

    limit: int
    salt: bytes
    valid_until: datetime


@dataclass
class Known:
    """What is known of a call so far; a refusal names no more than this."""

    request_hash: str
    caller: str
    institution: str = ""
    product: str = ""
    version: str | None = None
    consent_hash: str | None = None
    subject_tag: str | None = None


def find(connection: Connection, request_hash: str) -> Any:
    """The row of an answered call; None where it was not."""
    return _CALL.one(connection, request=request_hash)


@dataclass(frozen=True)
class CallKey:
    """What an answer is kept under: who asked what, from which input it was computed, its entry, its subject."""

    request_hash: str
    request_digest: str
    input_hash: str
    idx: int
    subject_tag: str

    @property
    def bound(self) -> bytes:
        """The associated data of the sealed answer: its row cannot be moved to another call or input."""
        return " ".join(map(str, vars(self).values())).encode()


def keep(connection: Connection, keys: VaultKeys, key: CallKey, kept: Kept) -> None:
    """Keeps an answer, inside the commit of its decision; every answer takes the same number of bytes."""
    body = _KEPT.pack(kept.limit, kept.salt, int(kept.valid_until.timestamp() * 1000))
    sealed = seal(subject_cipher(connection, keys, key.subject_tag), body, key.bound)
    _KEEP.run(connection, **vars(key), body=sealed)


def recall(connection: Connection, keys: VaultKeys, ledger: Ledger, row: Any) -> Answer:
    """The answer of a call again, with a proof under today's checkpoint; raises StoredValueCorrupt, SubjectErased."""
    if row.idx >= ledger.size:  # committed this instant; the ledger has not taken notice yet
        raise LedgerBusy("a repeat overtook its answer")
    kept = _open_unless_erased(connection, keys, row)
    return Answer(kept.limit, kept.valid_until, row.idx, ledger.entry(row.idx), ledger.prove(row.idx), kept.salt)


def limit_for(connection: Connection, keys: VaultKeys, input_hash: str) -> int | None:
    """The limit in yuan that this very input was answered with before; None where it was not.

    An answer that does not open counts as none: it was sealed under a key that was erased before the subject came back.

    Raises:
        SubjectErased: the subject has no key.
    """
    row = _SAME.one(connection, input=input_hash)
    try:
        return None if row is None else _open(connection, keys, row).limit
    except StoredValueCorrupt:
        return None


def opened(connection: Connection, keys: VaultKeys, row: Any) -> Kept | None:
    """What was kept of an answer; None where its subject was erased since. Raises StoredValueCorrupt."""
    try:
        return _open_unless_erased(connection, keys, row)
    except SubjectErased:
        return None


def _open_unless_erased(connection: Connection, keys: VaultKeys, row: Any) -> Kept:
    try:
        return _open(connection, keys, row)
    except StoredValueCorrupt:
        # Asked afterwards: it may have been erased, and have come back with another key, since its row was read.
        check_not_erased(connection, row.subject_tag, row.idx)
        raise


def _open(connection: Connection, keys: VaultKeys, row: Any) -> Kept:
    key = CallKey(row.request_hash, row.request_digest, row.input_hash, row.idx, row.subject_tag)
    limit, salt, valid_ms = _KEPT.unpack(unseal(subject_cipher(connection, keys, key.subject_tag), row.body, key.bound))
    return Kept(limit, salt, datetime.fromtimestamp(valid_ms / 1000, UTC))


def next_number(connection: Connection, institution: str) -> int:
    """The next number of an institution's calls, from 1, without gaps; 0 where the institution is not known."""
    if not institution:
        return 0
    last = _LAST.scalar(connection, mine=institution)
    if last is None:
        connection.execute(insert(tables.sequence).values(institution=institution, seq=1))
        return 1
    _COUNT.run(connection, mine=institution, next=last + 1)
    return int(last) + 1


async def log_refusal(ledger: Ledger, known: Known, code: str) -> None:
    """Appends which law stopped a call."""

    def change(connection: Connection, _: Position) -> tuple[Refusal, None]:
        number = next_number(connection, known.institution)
        return Refusal(code=code, seq=number, **vars(known)), None

    await ledger.append(change)
