"""Erasure of a subject: its key is destroyed, an entry says so, and what was sealed under the key is gone for good.

Gone are limits, salts and consent texts, wherever copies of them lie. The log, sums and consents' rows stay: they name
a tag. What erasure does not reach: docs/threat-model.md.
"""

import asyncio
from dataclasses import dataclass, field
from itertools import chain, repeat

from sqlalchemy import Connection, Engine

from audit import kinds
from audit.ledger import Ledger, Position
from audit.schema import forget_overwritten
from sandbox.consent_store import check_acts_for
from sandbox.subject_keys import destroy_subject_key

FORGET_PATIENCE_S = 3.0  # of the answer: whoever reads an old snapshot, an export or a check, may go on for minutes
_PAUSES_S = (0.25,) * 12  # between tries; each holds up writers for 0.2 s at most
_LATER_S = 15.0


@dataclass(frozen=True)
class Eraser:
    """Erases subjects."""

    ledger: Ledger
    engine: Engine
    _under_way: "set[asyncio.Task[None]]" = field(default_factory=set, init=False)

    async def erase(self, tag: str, by: str, authority: str | None = None) -> tuple[int, bool]:
        """Destroys the subject's key; returns when that is durable.

        Args:
            tag: the subject's.
            by: who asks, as the log names it.
            authority: that acts for the subject; None = it acts itself.

        Returns:
            The index of the entry, and whether the key is in no file of the database any more. Where it still is,
            because somebody reads a snapshot of before, it goes as soon as that ends, at the latest at the next start.

        Raises:
            SubjectErased: it was erased already.
            SubjectUnknown: it never gave a consent.
            AuthorityHasNoStanding, ConsentUnknown: the authority does not act for it.
        """

        def change(connection: Connection, position: Position) -> tuple[kinds.Event, None]:
            if authority is not None:
                check_acts_for(connection, authority, tag)
            destroy_subject_key(connection, tag, position.index)
            return kinds.SubjectErased(subject_tag=tag, by=by), None

        done = await self.ledger.append(change)
        forgetting = asyncio.create_task(self._forget())
        self._under_way.add(forgetting)  # the loop itself would let go of it
        forgetting.add_done_callback(self._under_way.discard)
        ended, _ = await asyncio.wait({forgetting}, timeout=FORGET_PATIENCE_S)
        return done.index, bool(ended)

    async def _forget(self) -> None:
        for pause_s in chain(_PAUSES_S, repeat(_LATER_S)):
            if await asyncio.to_thread(forget_overwritten, self.engine):
                return
            await asyncio.sleep(pause_s)
