"""The vault's keys and the associated data of its records."""

from contextlib import closing
from pathlib import Path

import pytest

from audit.schema import open_engine
from enclave_api.keys import Keys
from enclave_api.tables import metadata
from model_registry.errors import StoredValueCorrupt
from sandbox.vault.catalog import load_catalog
from sandbox.vault.synthetic import generate
from sandbox.vault.vault import Vault, compile_plan, store_rows

KEYS = Keys.from_root(bytes(range(32))).vault
FIELDS = ("tax.declaration.sales_12m", "tax.invoice.amount_issued_12m")


def test_names_of_a_subject_are_apart() -> None:
    """Tag and row key come from different keys, are stable, and differ for each subject."""
    one, other = "uscc:91350100M000100Y43", "uscc:91350100M000100Y44"
    assert KEYS.subject_tag(one) == KEYS.subject_tag(one) != KEYS.subject_tag(other)
    assert KEYS.row_key(one)[:16].hex() != KEYS.subject_tag(one)
    assert "Y43" not in repr(KEYS)
    assert KEYS.rows.hex() not in repr(KEYS)


@pytest.mark.parametrize(
    "change",
    [
        "dataset = 'tax.invoice'",
        "version = version + 1",
        "event_at = event_at + 1",
        "known_at = known_at + 1",
        "subject_key = zeroblob(32)",
        "body = substr(body, 1, 20)",
    ],
)
def test_a_moved_record_does_not_open(tmp_path: Path, change: str) -> None:
    """A row laid under another subject, dataset, version or time, or cut, is noticed when it is read."""
    assert "current" in metadata.tables
    world, subject = generate(load_catalog(), 3, 1), "uscc:91350100M000100Y43"
    width = len(world.packed("tax.declaration")) // int(world.present("tax.declaration").sum())
    engine = open_engine(tmp_path / "vault.db", create=True)
    with closing(Vault(engine, KEYS, world.catalog)) as vault:
        record = world.packed("tax.declaration")[:width]
        rows = vault.seal_rows("tax.declaration", 1, 1000, 2000, [(subject, record)])
        plan = compile_plan(world.catalog, FIELDS)
        with engine.begin() as connection:
            store_rows(connection, rows)
        assert vault.join(plan, subject, 0).versions == (1, None)
        assert not vault.join(plan, subject, 1001).found
        with engine.begin() as connection:
            if change.startswith("subject_key"):
                connection.exec_driver_sql("UPDATE current SET subject_key = ?", (KEYS.row_key("uscc:other"),))
                subject = "uscc:other"
            else:
                connection.exec_driver_sql(f"UPDATE current SET {change}")
        with pytest.raises(StoredValueCorrupt):
            vault.join(plan, subject, 0)
    engine.dispose()
