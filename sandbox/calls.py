"""The records of calls: answers kept for repeats, gap-free numbers of an institution's calls, refusals."""

import json
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from audit.event import Decision, Refusal, decode
from audit.ledger import Ledger, Position
from sandbox import tables
from sandbox.subject_keys import subject_cipher
from sandbox.vault.sealing import VaultKeys, seal, unseal

# Built once: SQLAlchemy spends more on building a statement than SQLite on running it.
_CALL = select(tables.call).where(tables.call.c.request_hash == bindparam("request_hash"))
_KEEP = insert(tables.call)
_LAST = select(tables.sequence.c.seq).where(tables.sequence.c.institution == bindparam("mine"))
_COUNT = update(tables.sequence).where(tables.sequence.c.institution == bindparam("mine")).values(seq=bindparam("next"))


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


def find(connection: Connection, request_hash: str) -> Row[tuple[object, ...]] | None:
    """The row of an answered call."""
    return connection.execute(_CALL, {"request_hash": request_hash}).one_or_none()


def keep(
    connection: Connection, keys: VaultKeys, *, request_hash: str, digest: str, index: int, tag: str, kept: Kept
) -> None:
    """Keeps an answer, inside the commit of its decision."""
    text = {"limit": kept.limit, "salt": kept.salt.hex(), "valid_until": kept.valid_until.isoformat()}
    body = seal(subject_cipher(connection, keys, tag), json.dumps(text).encode(), request_hash.encode())
    values = {"request_hash": request_hash, "request_digest": digest, "idx": index, "subject_tag": tag, "body": body}
    connection.execute(_KEEP, values)


def recall(connection: Connection, keys: VaultKeys, ledger: Ledger, row: Row[tuple[object, ...]]) -> Answer:
    """The answer of a call again, with a proof under today's checkpoint; raises VaultCorrupt (also after erasure)."""
    cipher = subject_cipher(connection, keys, row.subject_tag)
    text = json.loads(unseal(cipher, row.body, row.request_hash.encode()))
    valid_until = datetime.fromisoformat(text["valid_until"])
    proof = ledger.prove(row.idx)
    return Answer(text["limit"], valid_until, row.idx, ledger.entry(row.idx), proof, bytes.fromhex(text["salt"]))


def next_number(connection: Connection, institution: str) -> int:
    """The next number of an institution's calls, from 1, without gaps; 0 where the institution is not known."""
    if not institution:
        return 0
    last = connection.scalar(_LAST, {"mine": institution})
    if last is None:
        connection.execute(insert(tables.sequence).values(institution=institution, seq=1))
        return 1
    connection.execute(_COUNT, {"mine": institution, "next": last + 1})
    return int(last) + 1


async def log_refusal(ledger: Ledger, known: Known, code: str) -> None:
    """Appends which law stopped a call."""

    def change(connection: Connection, _: Position) -> tuple[Refusal, None]:
        number = next_number(connection, known.institution)
        return Refusal(code=code, seq=number, **vars(known)), None

    await ledger.append(change)


def decision_of(entry: bytes) -> Decision:
    """The decision in an entry's bytes; for tests and the auditor's view."""
    event, _ = decode(entry)
    if not isinstance(event, Decision):
        raise TypeError("the entry is no decision")
    return event
