"""A subject's uses, page by page, while others are served: every one once, newest first, none of anybody else's."""

import json
import os
import tracemalloc
from base64 import urlsafe_b64encode
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import KeySet
from sqlalchemy import Connection, insert

from audit.kinds import AuditRead, Decision, Event
from audit.ledger import Ledger, Position
from audit.schema import open_engine
from enclave_api.keys import Keys
from model_registry.aead import seal
from model_registry.errors import StoredValueCorrupt
from sandbox import calls, tables
from sandbox.calls import CallKey, Kept
from sandbox.consent_store import ConsentStore, consent_hash
from sandbox.subject_keys import ensure_subject_cipher
from sandbox.subject_view import Outcome, SubjectView
from tests.unit.audit.ledgers import execute, open_ledger
from tests.unit.audit.vectors import decision

KEYS = Keys.from_root(bytes(range(32))).vault
TAGS = ["0" * 32, "1" * 32, "2" * 32]


def grant(ledger: Ledger, tag: str, number: int = 0, why: str = "") -> int:
    """A consent of a subject with its sealed text; returns the entry's index."""
    consent_id = f"consent {number} of {tag[0]}"
    claims = json.dumps({"data": [{"department": name, "why": why} for name in ("tax", "water", "tax")]}).encode()
    raw = json.dumps({"payload": urlsafe_b64encode(claims).rstrip(b"=").decode()}).encode()

    def change(connection: Connection, position: Position) -> tuple[Event, None]:
        body = seal(ensure_subject_cipher(connection, KEYS, tag), raw, consent_id.encode())
        row = {"consent_id": consent_id, "consent_hash": consent_hash(raw), "authority": "office", "products": "[]"}
        row |= {"institution": "bank", "purpose": "precredit", "subject_tag": tag, "state": "granted"}
        numbers = {"not_before": 0, "expires": 1, "uses": 0, "max_uses": 9, "granted_index": position.index}
        connection.execute(insert(tables.consent).values(**row, **numbers))
        connection.execute(insert(tables.artefact).values(consent_id=consent_id, body=body))
        return AuditRead(by="test", what="granted"), None

    return ledger.append_sync(change).index


def use(ledger: Ledger, tag: str, granted: int, limit: int = 0) -> int:
    """An answered call; returns the entry's index."""

    def change(connection: Connection, position: Position) -> tuple[Decision, None]:
        kept = Kept(limit, os.urandom(32), datetime(2027, 1, 1, tzinfo=UTC))
        key = CallKey(f"{position.index:064x}", "0" * 64, "0" * 64, position.index, tag)
        calls.keep(connection, KEYS, key, kept)
        return decision(subject_tag=tag, consent_index=granted), None

    return ledger.append_sync(change).index


@given(
    before=st.lists(st.sampled_from(range(3)), max_size=25),
    between=st.lists(st.sampled_from(range(3)), max_size=4),
    size=st.integers(1, 9),
)
@settings(max_examples=40, deadline=None)
def test_pages_hold_every_use_once(before: list[int], between: list[int], size: int) -> None:
    """Uses that come while somebody pages are on no later page, and shift none."""
    with TemporaryDirectory() as folder:
        engine = open_engine(Path(folder) / "heixia.db", create=True)
        with closing(open_ledger(engine)) as ledger:
            granted = [grant(ledger, tag) for tag in TAGS]
            mine = [use(ledger, TAGS[who], granted[who], who) for who in before]
            wanted = [index for index, who in zip(mine, before, strict=True) if who == 1]
            view = SubjectView(ConsentStore(ledger, engine, KEYS, KeySet([])))
            found, end, more = list[int](), None, True
            while more:
                page = view.list_uses(TAGS[1], size, end)
                found += [one.index for one in page.uses]
                assert len(page.uses) == size or not page.more
                assert {one.outcome for one in page.uses} <= {Outcome.OFFER}
                assert {one.departments for one in page.uses} <= {("tax", "water")}
                end, more = (found[-1] if found else None), page.more
                wanted_total = sum(who == 1 for who in before)
                assert page.total >= wanted_total
                for who in between:
                    use(ledger, TAGS[who], granted[who])
            assert found == wanted[::-1]
        engine.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE artefact SET body = zeroblob(length(body))",
        f"UPDATE consent SET consent_hash = '{'f' * 64}'",
        "UPDATE call SET idx = 0",
        "UPDATE consent SET granted_index = 77",
        "UPDATE call SET body = zeroblob(length(body))",
    ],
)
def test_edited_rows_are_not_shown(tmp_path: Path, statement: str) -> None:
    """A row that somebody changed is an error, never told as if it were unknown or true."""
    engine = open_engine(tmp_path / "heixia.db", create=True)
    with closing(open_ledger(engine)) as ledger:
        use(ledger, TAGS[0], grant(ledger, TAGS[0]), 5)
        view = SubjectView(ConsentStore(ledger, engine, KEYS, KeySet([])))
        assert view.list_uses(TAGS[0], 5).uses[0].outcome is Outcome.OFFER
        execute(engine, statement)
        with pytest.raises(StoredValueCorrupt):
            view.list_uses(TAGS[0], 5)
    engine.dispose()


@pytest.mark.parametrize("look", ["consents", "uses"])
def test_texts_are_not_held_together(tmp_path: Path, look: str) -> None:
    """An authority that registers long consents about a subject without end does not fill the server's memory."""
    engine = open_engine(tmp_path / "heixia.db", create=True)
    with closing(open_ledger(engine)) as ledger:
        granted = max(grant(ledger, TAGS[1], number, "x" * 20_000) for number in range(100))
        use(ledger, TAGS[1], granted)
        view = SubjectView(ConsentStore(ledger, engine, KEYS, KeySet([])))
        tracemalloc.start()
        try:
            listed = look == "consents"
            found = view.list_consents(TAGS[1], ledger.time) if listed else view.list_uses(TAGS[1], 9).uses
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert found[0].departments == ("tax", "water")
        assert peak_bytes < 2_500_000  # the texts have 5 MB
    engine.dispose()
