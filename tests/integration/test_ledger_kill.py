"""A process killed in the middle of appends: what it acknowledged is there, and the log is whole.

Run as a program, this file is the process that is killed: it appends from eight tasks without end and writes a line
to standard output for each answer it got.
"""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Column, Connection, Engine, Integer, MetaData, Table, Text, func, select

from audit.batch import Position
from audit.errors import CallerError
from audit.event import decode
from audit.kinds import Event, VersionAdmitted
from audit.ledger import Committed, Ledger
from audit.merkle import consistency_proof, leaf_hash, tree_hash, verify_consistency
from audit.note import Checkpoint, Note, NoteSigner
from audit.policy import Policy
from audit.proof import TlogProof
from audit.schema import entry, open_engine

ORIGIN = "example.com/killed"
SIGNER = NoteSigner.from_seed(ORIGIN, b"\x05" * 32)
TRUST = Policy((SIGNER.verifier,))
ROUNDS = 10

# Apart from the program's own tables: this one is nobody else's.
metadata = MetaData()
projection = Table("killed", metadata, Column("idx", Integer, primary_key=True), Column("name", Text))


def open_ledger(path: Path) -> tuple[Engine, Ledger]:
    """Open, or start, the log that is killed."""
    engine = open_engine(path, create=True)
    metadata.create_all(engine)
    return engine, Ledger.open(engine, SIGNER, ORIGIN, lambda: datetime.now(UTC))


def change(connection: Connection, position: Position) -> tuple[Event, int]:
    """Write a projection and an entry that says the same."""
    name = f"bank/loan@{position.index}"
    connection.execute(projection.insert().values(idx=position.index, name=name))
    return VersionAdmitted(name), position.index


def refused(connection: Connection, position: Position) -> tuple[Event, int]:
    """Write, then think better of it."""
    change(connection, position)
    raise CallerError("refused after writing")


def tell(done: Committed[int]) -> None:
    """Acknowledge: index, leaf hash, and the signed tree that the proof leads to."""
    checkpoint = Checkpoint.parse(Note.parse(TlogProof.parse(done.proof).checkpoint).text)
    line = f"{done.index} {leaf_hash(done.body).hex()} {checkpoint.size} {checkpoint.root.hex()}\n"
    os.write(1, line.encode())  # one write: a line is there whole or not at all


async def append_for_ever(path: Path) -> None:
    """Append from eight tasks until killed."""
    _, ledger = open_ledger(path)

    async def task() -> None:
        while True:
            tell(await ledger.append(change))
            with suppress(CallerError):
                await ledger.append(refused)

    await asyncio.gather(*(task() for _ in range(8)))


def acknowledged(path: Path, lines: int) -> Iterator[tuple[int, str, int, str]]:
    """Run the process, kill it after so many lines, and give every line that it got out."""
    arguments = [sys.executable, "-m", "tests.integration.test_ledger_kill", str(path)]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(arguments, cwd=root, stdout=subprocess.PIPE) as child:
        if child.stdout is None:
            pytest.fail("no pipe")
        text = b"".join(child.stdout.readline() for _ in range(lines))
        child.kill()
        text += child.stdout.read()
    for line in text.decode().splitlines():
        index, leaf, size, tree = line.split()
        yield int(index), leaf, int(size), tree


def test_killed_in_the_middle_of_appends(tmp_path: Path) -> None:
    """After each of ten kills the acknowledged entries stand, all shown trees are prefixes, entries and state agree."""
    path = tmp_path / "ledger.db"
    chance = random.Random(20261123)
    leaves_told: dict[int, str] = {}
    trees_told: dict[int, str] = {}
    for _ in range(ROUNDS):
        for index, leaf, size, tree in acknowledged(path, chance.randrange(1, 120)):
            assert leaves_told.setdefault(index, leaf) == leaf
            assert trees_told.setdefault(size, tree) == tree
        engine, ledger = open_ledger(path)
        bodies = [body for _, body in ledger.entries(0, ledger.size)]
        leaves = [leaf_hash(body) for body in bodies]
        # (1) Nothing that was acknowledged is lost or changed.
        assert all(leaves[index].hex() == leaf for index, leaf in leaves_told.items())
        # (2) The log is what its checkpoint says, and continues every tree that was ever shown.
        assert TRUST.verify(ledger.checkpoint) == Checkpoint(ORIGIN, len(leaves), tree_hash(leaves))
        check_prefixes(leaves, trees_told)
        # (3) Entries and state agree, row for row.
        with engine.connect() as connection:
            rows = connection.execute(select(projection).order_by(projection.c.idx)).all()
            assert connection.execute(select(func.count()).select_from(entry)).scalar_one() == len(bodies)
        assert [decode(body)[0] for body in bodies] == [VersionAdmitted(row.name) for row in rows]
        # (4) It goes on.
        done = ledger.append_sync(change)
        assert TlogProof.parse(done.proof).verify_inclusion(done.body).size == len(bodies) + 1
        ledger.close()
        engine.dispose()
    assert len(leaves_told) > ROUNDS * 10


def check_prefixes(leaves: list[bytes], trees: dict[int, str]) -> None:
    """Prove each tree that was shown consistent with the whole log."""
    root = tree_hash(leaves)

    def read(level: int, index: int) -> bytes:
        return tree_hash(leaves[index << level : (index + 1) << level])

    for size, told in trees.items():
        verify_consistency(size, len(leaves), bytes.fromhex(told), root, consistency_proof(size, len(leaves), read))


if __name__ == "__main__":
    asyncio.run(append_for_ever(Path(sys.argv[1])))
