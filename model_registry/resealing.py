"""The keys of stored bundles: each sealed to the newest epoch's HPKE key, and sealed anew when that is rotated.

Only the content's key is sealed anew, under the same `info`. Ciphertext, manifest and bundle hash stay as the bank made
them, so no bank is asked for anything. A bundle that a bank sealed to an older epoch is taken in under the newest, like
all others: what an epoch's end destroys is the way in for new bundles, never a stored one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, bindparam, delete, insert, select, update

from model_registry.bundle import RecipientKey, RecipientSecret, open_key, seal_key
from model_registry.errors import BundleInvalid, StoredValueCorrupt, VersionUnknown
from model_registry.key_epochs import newest_key_id
from model_registry.manifest import manifest_hash
from model_registry.tables import bundle_key, version

Secrets = Mapping[str, RecipientSecret]

_MINE = bundle_key.c.version == bindparam("name")
_RESEAL = update(bundle_key).where(_MINE, bundle_key.c.key_id == bindparam("before"))
_STORED = select(bundle_key.c.version, bundle_key.c.key_id, bundle_key.c.sealed, version.c.manifest_jws).join(
    version, version.c.version == bundle_key.c.version
)


@dataclass(frozen=True)
class Resealed:
    """A bundle's key, sealed anew: from which key id it came, and what it is now."""

    version: str
    before: str
    sealed: bytes


def keep_key(connection: Connection, name: str, key: bytes, bound: bytes, secrets: Secrets) -> None:
    """Stores the key of a bundle that was just taken in, sealed to the newest epoch as of this transaction.

    Args:
        connection: inside the ledger's transaction.
        name: the version.
        key: of its content.
        bound: SHA-256 of its manifest JWS.
        secrets: the enclave's living keys by key id.
    """
    key_id = newest_key_id(connection)
    sealed = seal_key(key, secrets[key_id].public(), bound)
    connection.execute(insert(bundle_key).values(version=name, key_id=key_id, sealed=sealed))


def stored_key(engine: Engine, name: str, bound: bytes, secrets: Secrets) -> bytes:
    """Opens the key of a stored bundle.

    Raises:
        VersionUnknown: none is kept.
        BundleInvalid: it does not open, or under no living key.
    """
    query = select(bundle_key.c.key_id, bundle_key.c.sealed).where(bundle_key.c.version == name)
    for _ in range(2):  # between row and secret a rotation, and the older key's end, may pass; not two of them
        with engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise VersionUnknown("no bundle is kept")
        if (secret := secrets.get(row.key_id)) is not None:
            return open_key(row.sealed, secret, bound)
    raise BundleInvalid("recipient", public="sealed key: to none of this enclave's living keys")


def drop_key(connection: Connection, name: str) -> None:
    """Forgets the key of a bundle that is not kept."""
    connection.execute(delete(bundle_key).where(bundle_key.c.version == name))


def prepare(engine: Engine, secrets: Secrets, to: RecipientKey) -> list[Resealed]:
    """Seals the keys of all stored bundles to another key; nothing is written, and no lock is held.

    Raises:
        StoredValueCorrupt: one does not open; which, is said.
    """
    with engine.connect() as connection:
        rows = connection.execute(_STORED).all()
    return [_reseal(*row, secrets, to) for row in rows]


def apply(connection: Connection, prepared: Sequence[Resealed], secrets: Secrets, to: RecipientKey) -> None:
    """Writes what was prepared, inside the ledger's transaction, and seals here what came or changed since.

    Raises:
        StoredValueCorrupt: as prepare.
    """
    known = [{"name": one.version, "before": one.before, "now": one.sealed} for one in prepared]
    change = _RESEAL.values(key_id=to.key_id, sealed=bindparam("now"))
    if known:
        connection.execute(change, known)
    since = connection.execute(_STORED.where(bundle_key.c.key_id != to.key_id)).all()
    for row in since:
        one = _reseal(*row, secrets, to)
        connection.execute(change, {"name": one.version, "before": one.before, "now": one.sealed})


def sealed_to(connection: Connection, key_ids: Sequence[str]) -> list[str]:
    """The versions whose bundles only these keys open: of older epochs' there are none, or a row was edited."""
    query = select(bundle_key.c.version).where(bundle_key.c.key_id.in_(key_ids))
    return list(connection.scalars(query.order_by(bundle_key.c.version)))


def _reseal(name: str, key_id: str, sealed: bytes, jws: str, secrets: Secrets, to: RecipientKey) -> Resealed:
    bound = manifest_hash(jws)
    try:
        key = open_key(sealed, secrets[key_id], bound)
    except (BundleInvalid, KeyError) as error:
        public = f"the stored key of {name} does not open: restore the newest database"
        raise StoredValueCorrupt("a stored bundle's key does not open", public=public) from error
    return Resealed(name, key_id, seal_key(key, to, bound))
