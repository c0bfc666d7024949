"""A ledger whose checkpoints carry two signature lines: what a start takes and what it refuses."""

from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from audit.batch import BatchWriter
from audit.errors import LedgerCorrupt
from audit.note import Checkpoint, Note
from audit.policy import Policy
from audit.proof import TlogProof
from audit.signature import signed_at
from tests.unit.audit.ledgers import fill, spend
from tests.unit.audit.vectors import ORIGIN, Clock, hybrid_signer, signer


def open_hybrid(engine: Engine) -> BatchWriter:
    """Open the log with both keys."""
    return BatchWriter(engine, hybrid_signer(), ORIGIN, Clock())


def rewrite(engine: Engine, change: Callable[[str], str]) -> None:
    """Change the stored checkpoint."""
    with engine.connect() as connection, connection.begin():
        note = connection.exec_driver_sql("SELECT checkpoint FROM head").scalar_one()
        connection.exec_driver_sql("UPDATE head SET checkpoint = ?", (change(note),))


def lines(note: str) -> tuple[str, list[str]]:
    """Split a note into its text with the empty line, and its signature lines."""
    text, _, signed = note.partition("\n\n")
    return f"{text}\n\n", signed.splitlines(keepends=True)


def test_proofs_stand_under_both_keys_and_say_the_time(engine: Engine) -> None:
    """A commit's proof verifies under either key, and its second line says the second of the last entry."""
    batches = open_hybrid(engine)
    (done,) = batches.write([spend("a")])
    assert not isinstance(done, Exception)
    note = Note.parse(TlogProof.parse(done.proof).checkpoint)
    for verifier in hybrid_signer().verifiers:
        assert Policy((verifier,)).verify(TlogProof.parse(done.proof).checkpoint).size == 1
    assert signed_at(note.signatures[1].payload) == int(done.time.timestamp())
    batches.close()


def test_a_log_goes_on_with_a_second_key(engine: Engine) -> None:
    """A log that was signed with Ed25519 alone opens with both keys, and the next commit carries both lines."""
    fill(engine, 3).close()
    batches = open_hybrid(engine)
    batches.write([spend("later")])
    assert set(Note.parse(batches.head.checkpoint).verify(hybrid_signer().verifiers)) == {*hybrid_signer().verifiers}
    batches.close()


def test_a_log_opens_with_its_first_key_alone(engine: Engine) -> None:
    """Whoever has only the Ed25519 key reads what both signed: an unknown key's line is ignored."""
    open_hybrid(engine).close()
    BatchWriter(engine, signer(), ORIGIN, Clock()).close()


@pytest.mark.parametrize("gone", [0, 1])
def test_a_line_taken_away(engine: Engine, gone: int) -> None:
    """Without the Ed25519 line a log does not open; without the other it does, as logs of before."""
    open_hybrid(engine).close()

    def strip(note: str) -> str:
        text, signed = lines(note)
        return text + signed[1 - gone]

    rewrite(engine, strip)
    if gone:
        open_hybrid(engine).close()
    else:
        with pytest.raises(LedgerCorrupt, match="first key"):
            open_hybrid(engine)


@pytest.mark.parametrize("number", [0, 1])
def test_a_line_of_another_tree(engine: Engine, number: int) -> None:
    """Either line must be of this very head, or the log does not open."""
    open_hybrid(engine).close()
    other = hybrid_signer().sign(Checkpoint(ORIGIN, 1, bytes(32)).text)

    def swap(note: str) -> str:
        text, signed = lines(note)
        signed[number] = lines(other)[1][number]
        return text + "".join(signed)

    rewrite(engine, swap)
    with pytest.raises(LedgerCorrupt, match="does not verify"):
        open_hybrid(engine)
