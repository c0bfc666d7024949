"""Receipts proved again under a newer checkpoint of their log, and only of their log."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from audit.cosign import Cosigner
from audit.errors import EntryUnknown, ProofInvalid
from audit.export import files_of, write_file
from audit.ledger import Ledger
from audit.merkle import verify_consistency
from audit.note import Checkpoint, Note
from audit.policy import Policy
from audit.proof import TlogProof
from audit.receipt import Receipt, verify_receipt
from audit.reprove import prove_again, prove_consistency
from audit.schema import open_engine
from audit.source import DatabaseSource, FolderSource
from tests.unit.audit.ledgers import SPENT, TRUST, open_ledger, spend
from tests.unit.audit.vectors import Clock, signer


def grown(ledger: Ledger, count: int, name: str = "") -> list[Receipt]:
    """Append entries one by one; their receipts."""
    done = [ledger.append_sync(spend(f"{name}{ledger.size}-{at}")) for at in range(count)]
    return [Receipt(one.body, one.proof, None) for one in done]


def exported(engine: Engine, folder: Path) -> FolderSource:
    """The log as a folder."""
    for path, data in files_of(DatabaseSource(engine)):
        write_file(folder, path, data)
    return FolderSource(folder)


@pytest.mark.parametrize("more", [0, 1, 255, 300])
def test_a_receipt_is_proved_under_a_later_checkpoint(
    ledger: Ledger, engine: Engine, tmp_path: Path, more: int
) -> None:
    """At every shape of the tree, from an export, with the cosignature that it lacked."""
    receipts = grown(ledger, 3)
    grown(ledger, more, "more ")
    source = exported(engine, tmp_path / "log")
    witness = Cosigner.generate("witness.example/w")
    text = Note.parse(source.checkpoint()).text
    note = source.checkpoint() + witness.cosign(text, 1_700_000_000)
    trust = Policy.parse(f"log {signer().verifier.vkey}\nwitness w {witness.verifier.vkey}\nquorum w\n")
    for index, receipt in enumerate(receipts):
        assert not all(step.ok for step in verify_receipt(receipt, trust))
        again = prove_again(receipt, source, note)
        assert (again.entry, TlogProof.parse(again.proof).index) == (receipt.entry, index)
        assert all(step.ok for step in verify_receipt(again, trust))


def test_a_log_that_holds_the_entry_in_another_tree_has_forked(ledger: Ledger, engine: Engine, tmp_path: Path) -> None:
    """The same entry at the same index, but another history before the receipt's end: refused, and both are kept."""
    other_engine = open_engine(tmp_path / "other.db", create=True)
    with other_engine.connect() as connection, connection.begin():
        connection.exec_driver_sql(SPENT)
    clock = Clock()
    other = open_ledger(other_engine, clock)
    first = grown(ledger, 1)[0]
    second = grown(ledger, 1, "one ")[0]
    assert grown(other, 1)[0] == first
    clock.now += timedelta(seconds=1)  # from here on its entries are others
    grown(other, 8, "two ")
    source = DatabaseSource(other_engine)
    assert all(step.ok for step in verify_receipt(prove_again(first, source, source.checkpoint()), TRUST))
    with pytest.raises(ProofInvalid) as refused:
        prove_again(second, source, source.checkpoint())
    assert "fork" in refused.value.public
    other.close()
    other_engine.dispose()


def test_an_older_or_another_log_proves_nothing(ledger: Ledger, engine: Engine, tmp_path: Path) -> None:
    """A checkpoint older than the receipt, another origin, a receipt whose own proof fails, a missing tile."""
    grown(ledger, 300)
    before = ledger.checkpoint
    receipt = grown(ledger, 5)[-1]
    source = exported(engine, tmp_path / "log")
    with pytest.raises(ProofInvalid, match="size"):
        prove_again(receipt, source, before)
    stranger = Checkpoint("example.com/other", ledger.size, b"\x00" * 32).text
    with pytest.raises(ProofInvalid, match="origin"):
        prove_again(receipt, source, signer("example.com/other").sign(stranger))
    spoilt = Receipt(receipt.entry + b" ", receipt.proof, None)
    with pytest.raises(ProofInvalid):
        prove_again(spoilt, source, source.checkpoint())
    (tmp_path / "log" / "tile" / "1" / "000.p" / "1").unlink()
    with pytest.raises(EntryUnknown):
        prove_again(receipt, source, source.checkpoint())


@pytest.mark.parametrize(("old", "size"), [(0, 0), (0, 7), (1, 7), (7, 7), (255, 256), (256, 300), (3, 300)])
def test_any_two_sizes_are_proved_consistent(ledger: Ledger, engine: Engine, old: int, size: int) -> None:
    """Also between sizes that are both in the past; from the empty log there is nothing to prove."""
    roots = {0: Checkpoint.parse(Note.parse(ledger.checkpoint).text).root}
    for _ in range(300):
        grown(ledger, 1)
        roots[ledger.size] = Checkpoint.parse(Note.parse(ledger.checkpoint).text).root
    proof = prove_consistency(DatabaseSource(engine), old, size)
    if old:
        verify_consistency(old, size, roots[old], roots[size], proof)
    else:
        assert proof == []
