"""Fixtures of the ledger's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from audit.ledger import Ledger
from audit.schema import open_engine
from tests.unit.audit.ledgers import SPENT, open_ledger


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Make an empty database with a projection of some floor above."""
    made = open_engine(tmp_path / "ledger.db", create=True, busy_timeout_ms=1)
    with made.connect() as connection, connection.begin():
        connection.exec_driver_sql(SPENT)
    yield made
    made.dispose()


@pytest.fixture
def ledger(engine: Engine) -> Iterator[Ledger]:
    """Open an empty log."""
    opened = open_ledger(engine)
    yield opened
    opened.close()
