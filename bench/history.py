"""A log as years of service leave it, made in minutes: the same for the same seed, sound by both verdicts."""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, event

from audit.batch import BatchWriter
from audit.kinds import AuditRead, Event
from audit.ledger import Change, Committed, Position
from audit.note import NoteSigner
from audit.policy import Policy
from audit.schema import open_engine
from bench.changes import MAX_USES, Call, Consent, Product, start

ORIGIN: Final = "bench.example/log"
SIGNER: Final = NoteSigner.from_seed(ORIGIN, b"\x07" * 32, b"\x08" * 32)  # both lines, as a service signs
TRUST: Final = Policy((SIGNER.verifier,))
BEGAN: Final = datetime(2026, 1, 1, tzinfo=UTC)
STEP: Final = timedelta(seconds=2)  # a million entries are 23 days: no consent outlives its month unused
BATCH: Final = 5_000
INSTITUTIONS: Final = 12
OPEN_CONSENTS: Final = 400  # at any time: among these the next call chooses
AT_HOME: Final = 0.9  # of consents are given to the company's usual bank
# Of a hundred entries; what is left of it are decisions.
GRANTS, REFUSALS, REVOCATIONS, READS = 17, 6, 2, 1


class Clock:
    """A clock that goes on by a step when asked."""

    def __init__(self) -> None:
        self.now = BEGAN

    def __call__(self) -> datetime:
        """Tells the time."""
        self.now += STEP
        return self.now


def made_engine(path: Path) -> Engine:
    """An empty database. One connection writes it, so SQLite may keep more pages of it than by default."""
    engine = open_engine(path, create=True)
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA cache_size=-200000"))
    return engine


def build(path: Path, sizes: Sequence[int], seed: int = 4) -> Iterator[tuple[int, Engine]]:
    """Writes a log in batches far larger than a service's; stops at each of the sizes, nobody writing it then."""
    engine, changes, clock = made_engine(path), history(seed), Clock()
    for size in sizes:
        writer = BatchWriter(engine, SIGNER, ORIGIN, clock)
        while writer.head.size < size:
            append(writer, list(islice(changes, min(BATCH, size - writer.head.size))))
        writer.close()
        yield size, engine
    engine.dispose()


def append(writer: BatchWriter, changes: Sequence[Change[Any]]) -> None:
    """Commits changes of which none may be refused."""
    for outcome in writer.write(changes):
        if not isinstance(outcome, Committed):
            raise outcome


def history(seed: int) -> Iterator[Change[Any]]:
    """What happens in a service that has just begun, without end."""
    chance = random.Random(seed)
    products = [Product(f"bank-{number:02}") for number in range(INSTITUTIONS)]
    yield start
    for product in products:
        yield from product.launch()
    usable: list[tuple[Consent, int]] = []  # with the uses that are left
    number = granted = 0
    while True:
        kind = chance.randrange(100)
        number += 1
        if kind < GRANTS or len(usable) < OPEN_CONSENTS:
            granted += 1
            company = chance.randrange(1 + granted // 4)
            product = products[
                company % len(products) if chance.random() < AT_HOME else chance.randrange(len(products))
            ]
            usable.append((Consent(granted, company, product), MAX_USES))
            yield usable[-1][0].grant
            continue
        at = chance.randrange(len(usable))
        consent, uses = usable[at]
        if kind < GRANTS + REFUSALS:
            yield Call(number, consent).refuse
        elif kind < GRANTS + REFUSALS + READS:
            yield _read
        else:
            revoked = kind < GRANTS + REFUSALS + READS + REVOCATIONS
            usable[at] = (consent, uses - 1)
            if revoked or uses == 1:
                usable[at] = usable[-1]
                usable.pop()
            yield consent.revoke if revoked else Call(number, consent).decide


def _read(_: Connection, __: Position) -> tuple[Event, None]:
    return AuditRead(by="auditor/bureau/carol", what="entries"), None
