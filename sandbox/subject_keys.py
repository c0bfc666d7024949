"""Each subject's own random key: made at its first consent, destroyed when the subject is erased.

A subject that consents again after its erasure gets a new key. What was sealed before stays shut: `erased_subject` says
up to which entry.
"""

import os

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, bindparam, delete, insert, select

from audit.prepared import Prepared
from sandbox import tables
from sandbox.errors import SubjectErased, SubjectUnknown
from sandbox.vault.sealing import VaultKeys

_MINE = tables.subject_key.c.subject_tag == bindparam("tag")
_WRAPPED = Prepared(select(tables.subject_key.c.wrapped).where(_MINE))
_DESTROY = Prepared(delete(tables.subject_key).where(_MINE))
_ERASED_MINE = tables.erased_subject.c.subject_tag == bindparam("tag")
_ERASED = Prepared(select(tables.erased_subject.c.idx).where(_ERASED_MINE))
_FORGET = Prepared(delete(tables.erased_subject).where(_ERASED_MINE))


def ensure_subject_cipher(connection: Connection, keys: VaultKeys, tag: str) -> AESGCM:
    """The cipher under a subject's key; makes the key where there is none (inside the ledger's transaction)."""
    wrapped = _WRAPPED.scalar(connection, tag=tag)
    if wrapped is not None:
        return keys.unwrap_subject_key(tag, wrapped)
    key = os.urandom(32)
    connection.execute(insert(tables.subject_key).values(subject_tag=tag, wrapped=keys.wrap_subject_key(tag, key)))
    return AESGCM(key)


def subject_cipher(connection: Connection, keys: VaultKeys, tag: str) -> AESGCM:
    """The cipher under a subject's key; raises SubjectErased."""
    wrapped = _WRAPPED.scalar(connection, tag=tag)
    if wrapped is None:
        raise SubjectErased("no key")
    return keys.unwrap_subject_key(tag, wrapped)


def erased_at(connection: Connection, tag: str) -> int:
    """The entry that erased a subject last; -1 where none did."""
    found = _ERASED.scalar(connection, tag=tag)
    return -1 if found is None else int(found)


def check_not_erased(connection: Connection, tag: str, index: int) -> None:
    """Whether what entry `index` speaks of was sealed under the key of today; raises SubjectErased."""
    if erased_at(connection, tag) > index:
        raise SubjectErased("erased since")


def destroy_subject_key(connection: Connection, tag: str, index: int) -> None:
    """Destroys a subject's key, inside the transaction of entry `index`.

    SQLite overwrites the row (secure_delete); its older copies in the write-ahead log go with
    `audit.schema.forget_overwritten`, after the commit.

    Raises:
        SubjectErased: it has none any more.
        SubjectUnknown: it never had one.
    """
    if not _DESTROY.run(connection, tag=tag):
        if erased_at(connection, tag) < 0:
            raise SubjectUnknown("no key")
        raise SubjectErased("already")
    _FORGET.run(connection, tag=tag)
    connection.execute(insert(tables.erased_subject).values(subject_tag=tag, idx=index))
