"""Consents in a real database under an injected clock: units of the calendar, successors, authorities' ends."""

import asyncio
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import KeySet
from sqlalchemy import Connection

from audit.event import decode
from audit.kinds import AuditRead, ConsentGranted
from audit.ledger import Ledger, Position
from audit.note import NoteSigner
from audit.schema import open_engine
from enclave_api import tables  # noqa: F401 - every floor's tables
from model_registry.signing import SigningKey, generate_key
from sandbox import consent_store
from sandbox.consent import Consent, make_consent, sign_consent
from sandbox.consent_life import Change, State
from sandbox.consent_store import ConsentStore, spend_use
from sandbox.erasure import Eraser
from sandbox.errors import (
    AuthorityHasNoStanding,
    ConsentDuplicate,
    ConsentInvalidated,
    ConsentRefused,
    ConsentSuperseded,
    ConsentTooFrequent,
    ConsentTransition,
    ConsentUnknown,
    SubjectErased,
)
from sandbox.subject_keys import subject_cipher
from sandbox.vault.sealing import VaultKeys
from tests.unit.test_consent import claims

DAY = timedelta(days=1)
NEW_YEAR = datetime(2026, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)  # a Thursday: its ISO week goes on in January
OFFICE, OTHER = generate_key("office"), generate_key("other-office")
KEYS = VaultKeys(*(bytes([n]) * 32 for n in range(4)))
SUBJECT, NEIGHBOUR = "uscc:91350100M000100Y43", "uscc:91410100MA0000006D"


class Desk:
    """A store with a clock to set."""

    def __init__(self, folder: Path) -> None:
        self.now = NEW_YEAR - 30 * DAY
        self._folder = folder
        self._open()

    def _open(self) -> None:
        self.engine = open_engine(self._folder / "heixia.db", create=True)
        signer = NoteSigner.from_seed("test/log", bytes(32))
        self.ledger = Ledger.open(self.engine, signer, "test/log", lambda: self.now)
        self.store = ConsentStore(self.ledger, self.engine, KEYS, KeySet([OFFICE, OTHER]))

    def close(self) -> None:
        """Ends it."""
        self.ledger.close()
        self.engine.dispose()

    def restart(self) -> None:
        """Ends it and opens the same database again."""
        self.close()
        self._open()

    def consent(self, **changes: Any) -> Consent:
        """A consent for as many uses as a year of monitoring has, unless told otherwise."""
        begin = int(self.now.timestamp())
        own = {"jti": str(uuid.uuid4()), "iat": begin, "nbf": begin, "exp": begin + 365 * 86_400, "max_uses": 403}
        monitoring = {"purpose": {"code": "monitoring", "text": "x"}, "frequency": {"unit": "month", "value": 31}}
        return make_consent(**claims(**{**own, **monitoring, **changes}))

    def register(self, key: SigningKey = OFFICE, **changes: Any) -> str:
        """Registers a consent; returns its id."""
        made = self.consent(iss=str(key.kid).partition("/")[0], **changes)
        asyncio.run(self.store.register(sign_consent(made, key), made.iss))
        return made.jti

    def use(self, consent_id: str) -> int:
        """Spends a use as a decision's commit does; returns its number."""

        def change(connection: Connection, position: Position) -> tuple[AuditRead, int]:
            _, record = self.store.for_use(connection, consent_id)
            return AuditRead("test", "use"), spend_use(connection, consent_id, record.quota, position.time)

        return self.ledger.append_sync(change).value

    def change(self, consent_id: str, what: Change, authority: str = "office") -> State:
        """Pauses, resumes or revokes."""
        return asyncio.run(self.store.change(consent_id, what, authority, "test", "subject-request"))[0].state

    def state(self, consent_id: str, authority: str = "office") -> State:
        """As its authority is shown it."""
        return self.store.get(consent_id, authority, self.now).state

    def erase(self, subject: str = SUBJECT) -> None:
        """The subject's key is destroyed."""
        asyncio.run(Eraser(self.ledger, self.engine).erase(KEYS.subject_tag(subject), "test"))

    def end(self, authority: str) -> int:
        """The authority loses its standing."""
        return asyncio.run(self.store.revoke_authority(authority, "operator", "security"))


@contextmanager
def made_desk() -> Iterator[Desk]:
    """One, for an example."""
    with TemporaryDirectory() as folder:
        desk = Desk(Path(folder))
        try:
            yield desk
        finally:
            desk.close()


@pytest.fixture
def desk() -> Iterator[Desk]:
    """One, for a test."""
    with made_desk() as made:
        yield made


@pytest.mark.parametrize(
    ("unit", "moments"),
    [
        ("day", [NEW_YEAR, NEW_YEAR + timedelta(milliseconds=1)]),
        ("month", [NEW_YEAR, NEW_YEAR + timedelta(milliseconds=1)]),
        # 2026-12-31 and 2027-01-03 are in 2026-W53, Monday the 4th begins 2027-W01.
        ("week", [NEW_YEAR, datetime(2027, 1, 4, tzinfo=UTC)]),
    ],
)
def test_a_unit_ends_at_midnight_utc(desk: Desk, unit: str, moments: Sequence[datetime]) -> None:
    """The last millisecond of a unit is of it, the next is not; over the year's end too."""
    consent_id = desk.register(frequency={"unit": unit, "value": 1})
    last, first = moments
    desk.now = last
    desk.use(consent_id)
    with pytest.raises(ConsentTooFrequent):
        desk.use(consent_id)
    desk.now = first - timedelta(milliseconds=1)
    with pytest.raises(ConsentTooFrequent):
        desk.use(consent_id)
    desk.now = first
    assert desk.use(consent_id) == 2


@settings(max_examples=25, deadline=None)
@given(
    unit=st.sampled_from(["day", "week", "month"]),
    value=st.integers(1, 5),
    hours=st.lists(st.integers(-48, 24 * 9), min_size=5, max_size=40),
)
def test_no_unit_has_more_uses_than_consented(unit: str, value: int, hours: list[int]) -> None:
    """Any walk of the clock, back too: a use is refused exactly where its unit has had its uses."""
    value = 1 if unit == "day" else value
    with made_desk() as desk:
        consent_id, used = desk.register(frequency={"unit": unit, "value": value}), Counter[tuple[int, ...]]()
        for step in hours:
            desk.now += timedelta(hours=step)
            time = max(desk.now, desk.ledger.time)  # the log's time does not go back
            year, week, _ = time.isocalendar()
            key = {"day": (time.year, time.month, time.day), "week": (year, week), "month": (time.year, time.month)}
            if time.timestamp() >= NEW_YEAR.timestamp() + 330 * 86_400:
                break
            if used[key[unit]] < value:
                assert desk.use(consent_id) == used.total() + 1
                used[key[unit]] += 1
            else:
                with pytest.raises(ConsentTooFrequent):
                    desk.use(consent_id)


def test_counts_survive_a_restart(desk: Desk) -> None:
    """What was used this month is known to the next process."""
    consent_id = desk.register(frequency={"unit": "month", "value": 2})
    desk.use(consent_id)
    desk.restart()
    assert desk.use(consent_id) == 2
    desk.restart()
    with pytest.raises(ConsentTooFrequent):
        desk.use(consent_id)


def test_a_successor_ends_what_it_replaces_in_one_entry(desk: Desk) -> None:
    """Granted or paused, used or not: the old one ends with the registration of the new, which names it."""
    for pause in (False, True):
        old = desk.register()
        desk.use(old)
        if pause:
            desk.change(old, Change.PAUSE)
        size = desk.ledger.size
        new = desk.register(replaces=old)
        assert desk.ledger.size == size + 1
        event, _ = decode(desk.ledger.entry(size))
        assert isinstance(event, ConsentGranted)
        assert (event.consent, event.replaces) == (new, old)
        assert (desk.state(old), desk.state(new)) == (State.SUPERSEDED, State.GRANTED)
        with pytest.raises(ConsentSuperseded):
            desk.use(old)
        assert desk.use(new) == 1


def test_from_an_end_nothing_is_replaced_resumed_or_used(desk: Desk) -> None:
    """Superseded, revoked: no second successor, no change, no use; and what was refused left the old one as it was."""
    superseded, revoked = desk.register(), desk.register()
    desk.register(replaces=superseded)
    desk.change(revoked, Change.REVOKE)
    size = desk.ledger.size
    for ended in (superseded, revoked):
        with pytest.raises(ConsentTransition):
            desk.register(replaces=ended)
        for what in (Change.PAUSE, Change.RESUME, Change.REVOKE):
            with pytest.raises(ConsentTransition):
                desk.change(ended, what)
        with pytest.raises(ConsentRefused):
            desk.use(ended)
    assert desk.ledger.size == size


def test_nobody_ends_anothers_consent_by_replacing_it(desk: Desk) -> None:
    """Another authority's, subject's, institution's, purpose's, one that is not there, itself: refused, it lives."""
    mine = desk.register()
    changes: list[tuple[SigningKey, dict[str, Any]]] = [
        (OTHER, {}),
        (OFFICE, {"sub": NEIGHBOUR}),
        (OFFICE, {"institution": "other-bank", "products": ["other-bank/loan"]}),
        (OFFICE, {"purpose": {"code": "precredit", "text": "x"}, "max_uses": 5, "exp": int(desk.now.timestamp()) + 99}),
    ]
    for key, other in changes:
        with pytest.raises(ConsentUnknown):
            desk.register(key, replaces=mine, **other)
    for own in (str(uuid.uuid4()), "6ba7b810-9dad-41d1-80b4-00c04fd430c8"):
        with pytest.raises(ConsentUnknown):
            desk.register(jti="6ba7b810-9dad-41d1-80b4-00c04fd430c8", replaces=own)
    assert desk.state(mine) is State.GRANTED
    assert desk.use(mine) == 1


def test_a_doubled_id_ends_nothing(desk: Desk) -> None:
    """A registration that is refused for its id leaves what it would have replaced alive."""
    mine, other = desk.register(), desk.register()
    with pytest.raises(ConsentDuplicate):
        desk.register(jti=other, replaces=mine)
    assert desk.state(mine) is State.GRANTED


def test_an_authoritys_end_is_its_consents_end(desk: Desk) -> None:
    """Granted and paused ones are invalid from the entry on; what had ended before keeps its own end; others live."""
    live, paused, revoked = desk.register(), desk.register(), desk.register()
    theirs = desk.register(OTHER)
    desk.change(paused, Change.PAUSE)
    desk.change(revoked, Change.REVOKE)
    desk.use(live)
    size = desk.ledger.size
    assert desk.end("office") == size
    for again in range(2):
        assert [desk.state(c) for c in (live, paused, revoked)] == [
            State.INVALIDATED,
            State.INVALIDATED,
            State.REVOKED,
        ]
        with pytest.raises(ConsentInvalidated):
            desk.use(live)
        for what in (Change.PAUSE, Change.RESUME, Change.REVOKE):
            with pytest.raises(ConsentTransition):
                desk.change(paused, what)
        with pytest.raises(AuthorityHasNoStanding):
            desk.register()
        assert desk.use(theirs) == again + 1
        desk.restart()


def test_what_was_consented_before_an_erasure_permits_nothing(desk: Desk) -> None:
    """Neither at once nor when the subject came back with a new key; the new consent does."""
    old = desk.register()
    desk.use(old)
    desk.erase()
    with pytest.raises(SubjectErased):
        desk.use(old)
    new = desk.register()
    with pytest.raises(SubjectErased):
        desk.use(old)
    assert desk.use(new) == 1


def test_an_erasure_in_the_middle_of_a_look_is_no_corruption(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Erased and back with a new key between two reads of one call: the call is told so, no alarm is raised."""
    old, real = desk.register(), subject_cipher

    def meanwhile(connection: Connection, keys: VaultKeys, tag: str) -> Any:
        monkeypatch.setattr(consent_store, "subject_cipher", real)
        desk.erase()
        desk.register()
        return real(connection, keys, tag)

    monkeypatch.setattr(consent_store, "subject_cipher", meanwhile)
    with desk.engine.connect() as connection, pytest.raises(SubjectErased):
        desk.store.for_use(connection, old)


def test_an_authority_that_has_ended_erases_nobody(desk: Desk) -> None:
    """Not even where it had standing when it asked: what counts is the index of the entry."""
    desk.register()
    tag, eraser = KEYS.subject_tag(SUBJECT), Eraser(desk.ledger, desk.engine)
    with pytest.raises(ConsentUnknown):
        asyncio.run(eraser.erase(tag, "authority/other-office", "other-office"))
    desk.store.check_acts_for("office", tag)
    desk.end("office")
    with pytest.raises(AuthorityHasNoStanding):
        asyncio.run(eraser.erase(tag, "authority/office", "office"))
    with desk.engine.connect() as connection:
        assert subject_cipher(connection, KEYS, tag)
