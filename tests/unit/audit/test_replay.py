"""Entries read again from a moment on: all of them, in order, each bound to the signed root."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine

from audit import store
from audit.batch import BatchWriter, Position, _Accepted
from audit.errors import LedgerCorrupt
from audit.event import decode, encode
from audit.ledger import Ledger
from audit.merkle import leaf_hash, tree_hash
from audit.schema import open_engine
from tests.unit.audit.ledgers import execute, fill, open_ledger
from tests.unit.audit.vectors import ORIGIN, START, Clock, decision, signer

COUNT = 70_000  # more than 256 * 256: hashes of level 2


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 600])
def test_a_replay_begins_at_its_moment(engine: Engine, count: int) -> None:
    """Exactly the entries that are not older, for a moment before, at, between and after them."""
    if count:
        fill(engine, count).close()
    ledger = open_ledger(engine)
    bodies = [body for _, body in ledger.entries(0, count)]
    times = [decode(body)[1] for body in bodies]
    moments = [START - timedelta(days=1), *times[:: max(1, count // 7)], START + timedelta(days=1)]
    for moment in moments:
        assert list(ledger.replay(moment)) == [b for b, time in zip(bodies, times, strict=True) if time >= moment]
    ledger.close()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """A log with hashes above level 1."""
    engine = open_engine(tmp_path_factory.mktemp("large") / "ledger.db", create=True)
    batches = BatchWriter(engine, signer(), ORIGIN, Clock())
    body = encode(decision(), START)
    # As a batch is stored, without the changes: a hundred times as fast.
    with batches._connection.begin():
        batches._store([_Accepted(Position(index, START), body, None) for index in range(COUNT)])
    batches.close()
    return engine


def test_a_large_log_is_replayed_whole(large: Engine) -> None:
    """Every entry of a log of three levels."""
    ledger = open_ledger(large)
    assert sum(1 for _ in ledger.replay(START)) == COUNT
    ledger.close()


def _forge(ledger: Ledger, engine: Engine, index: int) -> None:
    """Changes an entry and its leaf hash together, as somebody who knows how would."""
    body = ledger.entry(index).replace(b'"bits_milli":3000', b'"bits_milli":1000')
    execute(engine, f"UPDATE entry SET body = x'{body.hex()}', leaf = x'{leaf_hash(body).hex()}' WHERE idx = {index}")


@pytest.mark.parametrize("index", [0, 800, 1023, 1279, 1499])
def test_a_forged_entry_is_found(engine: Engine, index: int) -> None:
    """An entry rewritten with its hash is not what was signed; where opening and search do not look, replay does."""
    fill(engine, 1500).close()
    ledger = open_ledger(engine)
    _forge(ledger, engine, index)
    ledger.close()
    with pytest.raises(LedgerCorrupt):
        list(open_ledger(engine).replay(START))


def test_hashes_that_are_forged_upward_are_found(engine: Engine) -> None:
    """Who also rewrites the hash above the bundle fails at the edge."""
    fill(engine).close()
    ledger = open_ledger(engine)
    _forge(ledger, engine, 5)
    leaves = [leaf_hash(body) for _, body in ledger.entries(0, 256)]
    execute(engine, f"UPDATE subtree SET hash = x'{tree_hash(leaves).hex()}' WHERE level = 1 AND idx = 0")
    ledger.close()
    with pytest.raises(LedgerCorrupt):
        open_ledger(engine)


def test_a_middle_hash_that_is_forged_is_found(large: Engine) -> None:
    """In a log of three levels a hash of level 1 away from the edge hangs on level 2, before any entry is given."""
    with large.connect() as connection:
        query = "SELECT hash FROM subtree WHERE level = 1 AND idx = 100"
        good = connection.exec_driver_sql(query).scalar_one()
    execute(large, "UPDATE subtree SET hash = zeroblob(32) WHERE level = 1 AND idx = 100")
    with large.connect() as connection, pytest.raises(LedgerCorrupt):
        next(store.read_bound_entries(connection, COUNT - 1, COUNT))
    execute(large, f"UPDATE subtree SET hash = x'{good.hex()}' WHERE level = 1 AND idx = 100")


def test_the_search_for_the_moment_believes_no_forged_entry(engine: Engine) -> None:
    """An entry dated back, to make the search jump over it and all before it, is found by the search itself."""
    fill(engine, 1023).close()
    ledger = open_ledger(engine)
    body = ledger.entry(511).replace(b'"time":"2026', b'"time":"2020')
    execute(engine, f"UPDATE entry SET body = x'{body.hex()}', leaf = x'{leaf_hash(body).hex()}' WHERE idx = 511")
    with pytest.raises(LedgerCorrupt):
        list(ledger.replay(START))
    ledger.close()
