"""The life of versions as the ledger keeps it: approve, promote, roll back, suspend, resume, retire; who did what when.

An institution sees its own versions alone: another's looks the same as none, and is refused by its name before anything
is looked up, loaded or opened.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select

from audit.kinds import VersionApproved, VersionPromoted, VersionResumed, VersionRetired, VersionSuspended
from audit.ledger import BATCH_MAX, Position
from model_registry import tables
from model_registry.errors import FourEyesRequired, ProductUnknown, TransitionRefused
from model_registry.lifecycle import LIVING, Change, State, next_state
from model_registry.submission import Said, Submissions, check_person
from model_registry.version_history import Noted, Reign, history, reign_after, reign_of
from model_registry.version_room import drop_unneeded
from model_registry.version_rows import (
    Product,
    Version,
    VersionRow,
    champion_before,
    check_own,
    earlier,
    held_row,
    is_suspended,
    own_row,
    products_of,
    state_of,
    versions_of,
)

LISTED_MAX = 500  # versions in one answer: some 600 bytes each, far below the message limit
PRODUCTS_MAX = 500  # in one answer: some 200 bytes each
Prepare = Callable[[str], Awaitable[object]]


@dataclass(frozen=True)
class Registry(Submissions):
    """The versions of one enclave."""

    async def approve(self, name: str, institution: str, by: str) -> Version:
        """Approves an admitted version.

        Raises:
            FourEyesRequired: the submitter approves, or the caller's certificate names no person.
            VersionUnknown, TransitionRefused.
        """
        check_person(by)
        check_own(name, institution)

        def change(connection: Connection, _: Position) -> Said[None]:
            row = own_row(connection, name, institution)
            self.set_state(connection, row, Change.APPROVE, approved_by=by)
            if row.submitted_by == by:
                raise FourEyesRequired("approver", public="another person than the submitter must approve")
            return VersionApproved(version=name, by=by), None

        await self.append(change)
        return self.get(name, institution)

    async def promote(self, name: str, institution: str, by: str, prepare: Prepare) -> Version:
        """Makes an approved version champion from the next call on; `prepare` loads and warms it first.

        Raises:
            TransitionRefused: not approved, suspended, champion already, or another became champion meanwhile.
            VersionUnknown, FourEyesRequired; whatever `prepare` raises. Then nothing changed.
        """
        check_person(by)
        check_own(name, institution)
        with self.engine.connect() as connection:
            seen = reign_of(connection, name.rpartition("@")[0])
        return await self._promote(name, institution, by, prepare, seen)

    async def rollback(self, product: str, institution: str, by: str, prepare: Prepare, to: str = "") -> Version:
        """Makes an earlier version champion again from the next call on, loaded and warmed first as by `promote`.

        Args:
            product: its champion goes.
            institution: the caller's.
            by: who, for the log.
            prepare: loads and warms.
            to: any approved version older than the champion; empty = the newest that has been champion before.

        Raises:
            ProductUnknown: the product has no champion, or is another institution's.
            TransitionRefused: there is no earlier one, the one named is none, or the champion changed meanwhile.
        """
        check_person(by)
        _check_product(product, institution)
        if to:
            check_own(to, institution)
        with self.engine.connect() as connection:
            seen = reign_of(connection, product)
            if seen is None:
                raise ProductUnknown("no champion")
            name = earlier(connection, product, to, seen.version) if to else None
            name = name or champion_before(connection, product, seen.version)
        if name is None:
            raise TransitionRefused("no earlier champion", public="no earlier version may be champion")
        return await self._promote(name, institution, by, prepare, seen)

    async def _promote(self, name: str, institution: str, by: str, prepare: Prepare, seen: Reign | None) -> Version:
        with self.engine.connect() as connection:
            self._promotable(connection, name, institution)
        await prepare(name)

        def change(connection: Connection, position: Position) -> Said[None]:
            row = self._promotable(connection, name, institution)
            previous = reign_of(connection, row.product)
            if previous != seen:  # somebody else promoted while this one was being loaded: one of the two wins
                public = f"{previous.version if previous else 'none'} became champion meanwhile; look again"
                raise TransitionRefused("champion changed", public=public)
            at = int(position.time.timestamp() * 1000)
            line = {"idx": position.index, "product": row.product, "version": name, "at": at}
            connection.execute(insert(tables.promotion).values(line))
            before = (previous.version, previous.index) if previous else (None, None)
            return VersionPromoted(name, by, *before), None

        await self.append(change)
        return self.get(name, institution)

    async def suspend(self, name: str, holder: str, by: str, reason: str) -> Version:
        """Stops a version at once: calls under way look again inside their commit.

        Args:
            name: the version.
            holder: `role/organisation` that holds it back: its institution, an operator, or the steward of a department
                whose data it reads.
            by: who, for the log.
            reason: for the log.

        Raises:
            VersionUnknown: none, or not theirs; TransitionRefused: the holder holds it back already.
        """
        _check_holder(name, holder)
        return self.get(name, await self.append(_hold(name, holder, by, reason)))

    async def suspend_all(self, institution: str, by: str, reason: str) -> list[str]:
        """Stops whatever an institution has that could run, now or later: one transaction, an entry for each version.

        Refused and retired versions are past running. What the institution holds back already stays as it is, and what
        others hold back is held back by it too.

        Args:
            institution: whose.
            by: who, for the log.
            reason: for the log.

        Returns:
            The versions that were stopped by this call.
        """
        holder, stopped = f"institution/{institution}", list[str]()
        # Once more for what was submitted meanwhile, until the look after a commit finds nothing.
        while names := self._running(institution, holder):
            changes = [self.noted(_hold(name, holder, by, reason)) for name in names]
            for name, outcome in zip(names, await self.ledger.append_all(changes), strict=True):
                if not isinstance(outcome, BaseException):
                    stopped.append(name)
                elif not isinstance(outcome, TransitionRefused):  # a colleague was first
                    raise outcome
        return stopped

    def _running(self, institution: str, holder: str) -> Sequence[str]:
        table, held = tables.version.c, tables.suspension.c
        mine = select(held.version).where(held.by == holder)
        living = table.institution == institution, table.state.in_(LIVING), table.version.not_in(mine)
        with self.engine.connect() as connection:
            query = select(table.version).where(*living).order_by(table.submitted_at, table.version)
            return connection.scalars(query.limit(BATCH_MAX)).all()

    async def resume(self, name: str, holder: str, by: str, reason: str) -> Version:
        """Lifts the holder's own suspension; others' stay. Raises VersionUnknown, TransitionRefused."""

        def change(connection: Connection, _: Position) -> Said[str]:
            row = held_row(connection, name, holder)
            mine = (tables.suspension.c.version == name) & (tables.suspension.c.by == holder)
            if connection.execute(tables.suspension.delete().where(mine)).rowcount == 0:
                raise TransitionRefused("not suspended by them", public="not suspended by you")
            return VersionResumed(version=name, by=by, reason=reason), row.institution

        _check_holder(name, holder)
        return self.get(name, await self.append(change))

    async def retire(self, name: str, institution: str, by: str) -> Version:
        """Ends a version for good; not while it is champion. Its bundle goes, unless a living version has its model.

        Raises:
            VersionUnknown, TransitionRefused.
        """
        check_own(name, institution)

        def change(connection: Connection, _: Position) -> Said[None]:
            row = own_row(connection, name, institution)
            if state_of(connection, row) is State.CHAMPION:
                raise TransitionRefused("champion", public="it is the champion; promote another version first")
            self.set_state(connection, row, Change.RETIRE)
            drop_unneeded(connection, row)
            return VersionRetired(version=name, by=by), None

        await self.append(change)
        return self.get(name, institution)

    def products(self, institution: str) -> Sequence[Product]:
        """An institution's products by name, at most PRODUCTS_MAX."""
        with self.engine.connect() as connection:
            return products_of(connection, institution, PRODUCTS_MAX)

    def list(self, product: str, institution: str) -> list[Version]:
        """A product's newest versions, at most LISTED_MAX, oldest first and without reasons; none of another's."""
        if product.partition("/")[0] != institution:
            return []
        table = tables.version
        query = select(table).where(table.c.product == product).order_by(table.c.number.desc()).limit(LISTED_MAX)
        with self.engine.connect() as connection:
            return versions_of(connection, product, connection.execute(query).all()[::-1])

    def history(self, product: str, institution: str, before: int | None, count: int) -> Sequence[Noted]:
        """Changes of a product's versions with indexes below `before` (None = all), newest first; none of another's."""
        if product.partition("/")[0] != institution:
            return []
        with self.engine.connect() as connection:
            return history(connection, product, before, count)

    def champion_at(self, product: str, institution: str, at: datetime | None) -> tuple[Reign | None, Reign | None]:
        """Who was champion at a time (None = now), and who came next; None where there was none, or it is another's."""
        if product.partition("/")[0] != institution:
            return None, None
        with self.engine.connect() as connection:
            reign = reign_of(connection, product, None if at is None else int(at.timestamp() * 1000))
            return reign, reign_after(connection, product, reign.index if reign else -1)

    def _promotable(self, connection: Connection, name: str, institution: str) -> VersionRow:
        row = own_row(connection, name, institution)
        next_state(state_of(connection, row), Change.PROMOTE, suspended=is_suspended(connection, name))
        return row


def _hold(name: str, holder: str, by: str, reason: str) -> Callable[[Connection, Position], Said[str]]:
    def change(connection: Connection, _: Position) -> Said[str]:
        row = held_row(connection, name, holder)
        line = {"version": name, "by": holder}
        if connection.execute(insert(tables.suspension).prefix_with("OR IGNORE").values(line)).rowcount == 0:
            raise TransitionRefused("suspended already", public="you suspended the version already")
        return VersionSuspended(version=name, by=by, reason=reason), row.institution

    return change


def _check_product(product: str, institution: str) -> None:
    if product.partition("/")[0] != institution:
        raise ProductUnknown("another institution's")


def _check_holder(name: str, holder: str) -> None:
    if holder.startswith("institution/"):
        check_own(name, holder.partition("/")[2])
