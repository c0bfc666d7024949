"""What the hurt process does: one product, four consents of five uses, twenty-four calls, under group commit.

Run as a program it tells on standard output what became of each change, one whole line at a time; whoever hurt it then
holds the log against these lines. Run again on what is left, it does what is still to be done.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from audit.anchor import Anchor
from audit.errors import HeixiaError, LedgerBusy, LedgerClosed
from audit.ledger import Change, Ledger
from audit.merkle import leaf_hash
from audit.note import NoteSigner
from audit.schema import open_engine
from bench.changes import Call, Consent, Known, Product, start
from sandbox.errors import ConsentExhausted

ORIGIN = "example.com/faults"
SIGNER = NoteSigner.from_seed(ORIGIN, b"\x06" * 32)
PRODUCT = Product("zhongyuan")
CONSENTS = [Consent(number, company=number % 2, product=PRODUCT) for number in range(4)]
CALLS = [Call(number, CONSENTS[number % 4]) for number in range(24)]
WRITERS = 6
CHECKPOINT_PAGES = 24  # instead of 1,000: a short run must see SQLite move its log into the database too
TELL, BAD_START = 1, 3

Tell = Callable[[str], None]


def say(line: str) -> None:
    """One write: a line is there whole or not at all."""
    os.write(TELL, f"{line}\n".encode())


def database(folder: Path) -> Path:
    """Where a story's log lies."""
    return folder / "heixia.db"


def open_story(
    folder: Path, on_commit: Callable[[str], None] = lambda _: None, checkpoint_pages: int = CHECKPOINT_PAGES
) -> tuple[Engine, Ledger]:
    """Opens, or begins, the log; SQLite moves its WAL into the database after so many pages (0 = never)."""
    engine = open_engine(database(folder), create=True)
    setting = f"PRAGMA wal_autocheckpoint={checkpoint_pages}"
    event.listen(engine, "connect", lambda connection, _: connection.execute(setting))
    with engine.connect() as connection:  # the one that the ledger will write with: it is pooled
        connection.exec_driver_sql(setting)
    return engine, Ledger.open(engine, SIGNER, ORIGIN, lambda: datetime.now(UTC), on_commit=on_commit)


async def play(ledger: Ledger, tell: Tell, writers: int = WRITERS) -> None:
    """Makes every change that was not made, telling what became of it; a refused call leaves a refusal."""
    for number, change in enumerate([start, *PRODUCT.launch()]):
        await _attempt(ledger, tell, f"launch {number}", change)
    consents, numbers = iter(CONSENTS), iter(CALLS)

    async def grant() -> None:
        for consent in consents:
            await _attempt(ledger, tell, f"grant {consent.number}", consent.grant)

    async def call() -> None:
        for one in numbers:
            if await _attempt(ledger, tell, f"call {one.number}", one.decide):
                await _attempt(ledger, tell, f"refusal {one.number}", one.refuse)

    await asyncio.gather(*(grant() for _ in range(writers)))
    await asyncio.gather(*(call() for _ in range(writers)))


async def _attempt(ledger: Ledger, tell: Tell, name: str, change: Change[Any]) -> bool:
    """Whether a law refused it."""
    try:
        done = await ledger.append(change)
    except Known:
        tell(f"known {name}")
    except ConsentExhausted:
        tell(f"refused {name}")
        return True
    except LedgerBusy:
        tell(f"untouched {name}")
    except LedgerClosed:
        tell(f"unknown {name}")
    except Exception as error:  # of the change itself: it left no trace
        tell(f"untouched {name} {type(error).__name__}")
    else:
        tell(f"made {name} {done.index} {leaf_hash(done.body).hex()}")
    return False


def main(folder: Path, beside: Path, writers: int) -> int:
    """Opens, plays, closes, with an anchor in the folder `beside`; what stops the start is told by its code."""
    anchor = Anchor(beside, lambda error: say(f"anchor {error.errno}"))
    try:
        _, ledger = open_story(folder, anchor.put)
        anchor.start(ledger.checkpoint)
    except (HeixiaError, OSError) as error:
        say(f"start {getattr(error, 'code', 'anchor')}")
        return BAD_START
    asyncio.run(play(ledger, say, writers))
    ledger.close()
    anchor.close()
    say("end")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if sys.argv[3:] else WRITERS))
