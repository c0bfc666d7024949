"""Each subject's own random key: made at its first consent, destroyed when the subject is erased."""

import os

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, bindparam, insert, select

from audit.prepared import Prepared
from sandbox import tables
from sandbox.errors import SubjectErased
from sandbox.vault.sealing import VaultKeys

_WRAPPED = Prepared(select(tables.subject_key.c.wrapped).where(tables.subject_key.c.subject_tag == bindparam("tag")))


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
