"""A destroyed key: in no file, told from one that never was, and not confused with the key that comes after it."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine

from audit.event import decode
from audit.kinds import AuditRead, Event
from audit.ledger import Change, Ledger, Position
from audit.schema import forget_overwritten, open_engine
from enclave_api.keys import Keys
from sandbox import erasure
from sandbox.erasure import Eraser
from sandbox.errors import SubjectErased, SubjectUnknown
from sandbox.subject_keys import (
    check_not_erased,
    destroy_subject_key,
    ensure_subject_cipher,
    erased_at,
    subject_cipher,
)
from tests.unit.audit.ledgers import open_ledger

KEYS = Keys.from_root(bytes(range(32))).vault
TAG = "0" * 32


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An empty database."""
    made = open_engine(tmp_path / "heixia.db", create=True)
    yield made
    made.dispose()


@pytest.fixture
def ledger(engine: Engine) -> Iterator[Ledger]:
    """Its log."""
    made = open_ledger(engine)
    yield made
    made.close()


def give_key(ledger: Ledger, *tags: str) -> int:
    """A key for each tag, as consents would make them, in one transaction; returns the entry's index."""

    def change(connection: Connection, _: Position) -> tuple[Event, None]:
        for tag in tags:
            ensure_subject_cipher(connection, KEYS, tag)
        return AuditRead(by="test", what="keys"), None

    return ledger.append_sync(change).index


def stored_keys(engine: Engine) -> dict[str, bytes]:
    """The wrapped keys by tag."""
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT subject_tag, wrapped FROM subject_key").all()
    return {row.subject_tag: row.wrapped for row in rows}


def in_files(folder: Path, wanted: bytes) -> bool:
    """Whether bytes stand in the database file or beside it."""
    return any(wanted in path.read_bytes() for path in folder.glob("heixia.db*"))


async def test_no_file_holds_an_erased_key(engine: Engine, ledger: Ledger, tmp_path: Path) -> None:
    """Of many keys in pages that split and merge, those destroyed are gone, byte for byte; the others are there."""
    chance = random.Random(7)
    tags = [f"{chance.getrandbits(128):032x}" for _ in range(1500)]
    for begin in range(0, len(tags), 100):
        give_key(ledger, *tags[begin : begin + 100])
    keys = stored_keys(engine)
    assert all(in_files(tmp_path, key) for key in keys.values())
    chance.shuffle(tags)
    eraser, gone = Eraser(ledger, engine), tags[:300]
    for tag in gone[1:]:  # many at once; the last erasure cleans up after all of them
        await eraser.ledger.append(_destroying(tag))
    assert any(in_files(tmp_path, keys[tag]) for tag in gone)  # the control: a commit alone does not do
    assert (await eraser.erase(gone[0], "subject"))[1] is True
    assert not [tag for tag in gone if in_files(tmp_path, keys[tag][:24]) or in_files(tmp_path, keys[tag][-24:])]
    assert all(in_files(tmp_path, keys[tag]) for tag in tags[300:])
    assert stored_keys(engine).keys() == set(tags[300:])


def _destroying(tag: str) -> Change[None]:
    def change(connection: Connection, position: Position) -> tuple[Event, None]:
        destroy_subject_key(connection, tag, position.index)
        return AuditRead(by="test", what="destroyed"), None

    return change


async def test_an_erasure_is_an_entry(engine: Engine, ledger: Ledger) -> None:
    """It names the tag and who asked; twice, or for nobody, it is refused and leaves none."""
    eraser = Eraser(ledger, engine)
    with pytest.raises(SubjectUnknown):
        await eraser.erase(TAG, "subject")
    give_key(ledger, TAG)
    index, _ = await eraser.erase(TAG, "authority/office")
    event, _ = decode(ledger.entry(index))
    assert (event.kind, vars(event)) == ("subject.erased", {"subject_tag": TAG, "by": "authority/office"})
    size = ledger.size
    with pytest.raises(SubjectErased):
        await eraser.erase(TAG, "subject")
    assert ledger.size == size


async def test_what_came_before_stays_erased(engine: Engine, ledger: Ledger) -> None:
    """A subject that comes back has a new key; whatever was sealed before its erasure is erased all the same."""
    eraser, before = Eraser(ledger, engine), give_key(ledger, TAG)
    old = stored_keys(engine)[TAG]
    index, _ = await eraser.erase(TAG, "subject")
    with engine.connect() as connection:
        with pytest.raises(SubjectErased):
            subject_cipher(connection, KEYS, TAG)
        with pytest.raises(SubjectErased):
            check_not_erased(connection, TAG, before)
    after = give_key(ledger, TAG)
    with engine.connect() as connection:
        subject_cipher(connection, KEYS, TAG)
        check_not_erased(connection, TAG, after)
        with pytest.raises(SubjectErased):
            check_not_erased(connection, TAG, before)
        assert erased_at(connection, TAG) == index
    assert stored_keys(engine)[TAG] != old
    again, _ = await eraser.erase(TAG, "subject")
    with engine.connect() as connection:
        assert erased_at(connection, TAG) == again > after


def test_an_old_snapshot_holds_the_key_back(engine: Engine, ledger: Ledger, tmp_path: Path) -> None:
    """While somebody reads what was there before, its bytes stay; nobody is kept from writing, and then they go."""
    give_key(ledger, TAG)
    assert forget_overwritten(engine)
    key = stored_keys(engine)[TAG]
    with engine.connect() as reader:
        reader.exec_driver_sql("SELECT count(*) FROM subject_key").scalar_one()
        ledger.append_sync(_destroying(TAG))
        assert not forget_overwritten(engine)
        assert in_files(tmp_path, key)
        give_key(ledger, "1" * 32)
    assert forget_overwritten(engine)
    assert not in_files(tmp_path, key)


async def test_it_goes_on_after_the_answer(
    engine: Engine, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer says that the key is still being read; when that ends it goes without anybody asking again."""
    monkeypatch.setattr(erasure, "FORGET_PATIENCE_S", 0.05)
    give_key(ledger, TAG)
    assert forget_overwritten(engine)
    key, eraser = stored_keys(engine)[TAG], Eraser(ledger, engine)
    with engine.connect() as reader:
        reader.exec_driver_sql("SELECT count(*) FROM subject_key").scalar_one()
        assert (await eraser.erase(TAG, "subject"))[1] is False
        assert in_files(tmp_path, key)
    (under_way,) = eraser._under_way
    await under_way
    assert not in_files(tmp_path, key)
