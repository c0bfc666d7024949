"""How much of the enclave's memory and disk an institution's versions may take, and what is given back."""

from sqlalchemy import Connection, delete, exists, func, or_, select

from model_registry import tables
from model_registry.errors import QuotaReached
from model_registry.lifecycle import LIVING, State
from model_registry.resealing import drop_key
from model_registry.version_rows import VersionRow

KEPT_MAX = 200  # neither refused nor retired: a new one each week for four years; any may have to be loaded
KEPT_BYTES_MAX = 4 * 2**30  # of ciphertext: 64 bundles of the largest size, 800 of 5 MB
UNDER_WAY_MAX = 2  # not judged yet: each holds its content in memory, up to 64 MiB
REFUSED_A_DAY_MAX = 100  # each leaves a row with its manifest, up to 350 kB, for good
DAY_MS = 86_400_000


def check_room(connection: Connection, institution: str, ciphertext_bytes: int, now_ms: int) -> None:
    """Raises QuotaReached where an institution may not store another version, inside the ledger's transaction."""
    table = tables.version.c
    mine = table.institution == institution
    states = select(table.state, func.count()).where(mine).group_by(table.state)
    counts = {State(state): number for state, number in connection.execute(states)}
    refused = select(func.count()).where(mine, table.submitted_at > now_ms - DAY_MS, table.state == State.REFUSED)
    # the length of a blob stands before it: SQLite reads no blob for it
    sizes = select(func.coalesce(func.sum(func.length(tables.bundle.c.ciphertext)), 0))
    stored = sizes.join_from(tables.bundle, tables.version).where(mine)
    if counts.get(State.SUBMITTED, 0) >= UNDER_WAY_MAX:
        raise QuotaReached("under way", public=f"{UNDER_WAY_MAX} are being inspected; wait for them")
    if sum(counts.get(state, 0) for state in LIVING) >= KEPT_MAX:
        raise QuotaReached("versions", public=f"{KEPT_MAX} versions are kept; retire some (`heixia bank retire`)")
    if (connection.scalar(refused) or 0) >= REFUSED_A_DAY_MAX:
        public = f"{REFUSED_A_DAY_MAX} were refused within a day; `heixia bank inspect` judges a model offline"
        raise QuotaReached("refused", public=public)
    if (connection.scalar(stored) or 0) + ciphertext_bytes > KEPT_BYTES_MAX:
        public = f"bundles of more than {KEPT_BYTES_MAX // 2**30} GiB in all; retire some (`heixia bank retire`)"
        raise QuotaReached("bytes", public=public)


def drop_unneeded(connection: Connection, row: VersionRow) -> None:
    """Deletes bundles that no living version needs any more: the version's own, and the one that holds its model."""
    table = tables.version.c
    for name in {row.version, row.model_of or row.version}:
        needs = or_(table.version == name, table.model_of == name)
        if not connection.scalar(select(exists().where(needs, table.state.in_(LIVING)))):
            connection.execute(delete(tables.bundle).where(tables.bundle.c.version == name))
            drop_key(connection, name)
