"""Auditors at a real server: search, statistics, anomalies, export; what is proved, what is recorded, who may not."""

import shutil
import sqlite3
import time
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from heixia.audit.v1 import audit_pb2 as pb
from heixia.audit.v1 import audit_pb2_grpc

from audit.errors import EntryUnknown, ExportDiffers, LedgerCorrupt, ProofInvalid
from audit.export import files_of, write_file
from audit.index_filter import Cursor, Filter
from audit.note import Checkpoint, Note
from audit.policy import Policy
from audit.proof import TlogProof
from enclave_api.cli.example import FIELDS
from enclave_api.client.audit_folder import Folder
from enclave_api.client.auditor import Auditor
from enclave_api.client.connection import Client
from enclave_api.identity import Principal, Role
from tests.integration.conftest import PRODUCT, Stage
from tests.integration.test_witnesses import until, watched_room
from tests.room import AUDITOR, OFFICE, Room, datasets_of, refused
from tests.unit.audit.memory_log import MemoryLog, answered, bodies

OTHERS = [
    Principal(role, "uscc:91350100M000100Y43" if role is Role.SUBJECT else "somebody")
    for role in Role
    if role is not Role.AUDITOR
]


@pytest.fixture(scope="module")
def played(stage: Stage) -> Stage:
    """A room in which four companies were asked about, one of them after it had revoked."""
    room, subjects = stage.room, stage.world.subjects
    for company in range(4):
        consent_id = stage.consent(company, uses=3)
        for _ in range(3):
            room.portal.request_limit(subject=subjects[company], product=PRODUCT, consent_id=consent_id)
    consent_id = stage.consent(4)
    room.office.revoke(consent_id, "subject-request")
    with refused("consent_revoked"):
        room.portal.request_limit(subject=subjects[4], product=PRODUCT, consent_id=consent_id)
    with refused("consent_unknown"):
        room.portal.request_limit(subject=subjects[5], product=PRODUCT, consent_id=str(uuid.uuid4()))
    return stage


def trust(stage: Stage) -> Policy:
    """The policy that auditors are given."""
    return Policy.parse(stage.room.home.policy.read_text())


def test_every_filter_finds_its_entries_newest_first(played: Stage) -> None:
    """Hits are the very entries of the log that have it, all of them, under proofs that verify."""
    room, policy = played.room, trust(played)
    entries = dict(enumerate(room.entries()))
    granted = [e for e in entries.values() if e["kind"] == "consent.granted"]
    last = granted[-1]
    cases: list[tuple[Filter, Any]] = [
        (Filter(kind="decision"), lambda e: e["kind"] == "decision"),
        (Filter(institution="zhongyuan", outcome="answered"), lambda e: e["kind"] == "decision"),
        (Filter(outcome="refused"), lambda e: e["kind"] == "refusal"),
        (Filter(code="consent_revoked"), lambda e: e.get("code") == "consent_revoked"),
        (Filter(version=f"{PRODUCT}@1"), lambda e: e.get("version") == f"{PRODUCT}@1"),
        (Filter(caller="application/portal"), lambda e: e.get("caller") == "application/portal"),
        (Filter(caller="institution/zhongyuan"), lambda e: str(e.get("by")).startswith("institution/zhongyuan/")),
        (
            Filter(consent=last["consent"]),
            lambda e: last["consent"] == e.get("consent") or last["consent_hash"] == e.get("consent_hash"),
        ),
        (Filter(kind="consent.granted", product=PRODUCT), lambda e: e["kind"] == "consent.granted"),
        (Filter(kind="decision", code="consent_revoked"), lambda e: False),
    ]
    for wanted, has in cases:
        found = room.auditor.search(wanted, policy)
        hits = list(found)
        expected = [index for index, entry in entries.items() if has(entry)]
        assert [hit.index for hit in hits] == expected[::-1], wanted.text
        assert (found.total, found.filter) == (len(expected), wanted.text)


def test_a_subject_is_found_by_its_id_and_named_by_its_tag(played: Stage) -> None:
    """The enclave turns the id into the tag; grants, calls and refusals of the company come back."""
    room, subject = played.room, played.world.subjects[4]
    found = room.auditor.search(Filter(), trust(played), subject=subject)
    kinds = [hit.body.split(b'"kind":"')[1].split(b'"')[0] for hit in found]
    assert kinds == [b"refusal", b"consent.revoked", b"consent.granted"]
    tag = found.filter.removeprefix("subject=")
    again = room.auditor.search(Filter(subject=tag), trust(played))
    assert [hit.index for hit in again] == [hit.index for hit in room.auditor.search(Filter(), None, subject=subject)]


def test_a_hits_proof_is_a_file_that_anybody_checks(played: Stage) -> None:
    """Each hit makes a `.tlog-proof`; all of a search, over its pages, lead to one signed checkpoint."""
    policy = trust(played)
    found = played.room.auditor.search(Filter(kind="decision"), policy, count=5)
    for hit in found:
        proof = TlogProof.parse(found.proof(hit))
        assert proof.verify_inclusion(hit.body) == policy.verify(proof.checkpoint) == found.head
    assert found.token


def test_pages_stay_together_while_the_log_grows(played: Stage) -> None:
    """Pages of one hit each, every one of which adds an entry, give what one page gives, under the first checkpoint."""
    stub = audit_pb2_grpc.AuditServiceStub(played.room.auditor.channel)
    wanted = pb.Filter(kind="audit.read")  # what the pages themselves add
    whole = stub.SearchEntries(pb.SearchEntriesRequest(filter=wanted, page_size=200))
    first = stub.SearchEntries(pb.SearchEntriesRequest(filter=wanted, page_size=1))
    indexes, token = [first.hits[0].entry.index], first.next_page_token
    while token:
        page = stub.SearchEntries(
            pb.SearchEntriesRequest(filter=wanted, page_size=1, page_token=token, proof_size=first.size)
        )
        assert (page.total, page.size) == (first.total, first.size)
        indexes.append(page.hits[0].entry.index)
        token = page.next_page_token
    assert indexes[1:] == [hit.entry.index for hit in whole.hits]
    assert len(indexes) == first.total


def test_every_read_is_an_entry_before_it_is_an_answer(played: Stage, tmp_path: Path) -> None:
    """Search, statistics, anomalies and export each leave one entry that names the auditor and what was asked."""
    room, policy = played.room, trust(played)
    with room.gains("audit.read"):
        found = room.auditor.search(Filter(institution="zhongyuan", kind="decision"), policy, count=3)
        list(found)
    assert room.entries()[-1]["what"] == f"search institution=zhongyuan kind=decision total={found.total} page=3"
    assert room.entries()[-1]["by"] == str(AUDITOR)
    with room.gains("audit.read"):
        room.auditor.statistics()
    assert room.entries()[-1]["what"].startswith("statistics all days=")
    with room.gains("audit.read"):
        room.auditor.anomalies(0)
    assert room.entries()[-1]["what"] == "anomalies since=1970-01-01T00:00:00.000Z"
    size = len(room.entries())
    with room.gains("audit.exported"):
        room.auditor.export(tmp_path / "log", policy)
    entry = room.entries()[-1]
    assert (entry["by"], entry["what"], entry["first"], entry["last"]) == (str(AUDITOR), "tiles", 0, size - 1)


def test_a_search_sees_all_that_was_committed(played: Stage) -> None:
    """What was answered a moment ago is found at once."""
    for company in range(6, 9):
        consent_id = played.consent(company)
        found = played.room.auditor.search(Filter(consent=consent_id), trust(played))
        assert [hit.index for hit in found] == [len(played.room.entries()) - 2]


@pytest.mark.parametrize("principal", OTHERS, ids=lambda principal: principal.role)
@pytest.mark.parametrize("method", ["SearchEntries", "GetStatistics", "ListAnomalies", "ExportEntries"])
def test_nobody_else_may_look(played: Stage, principal: Principal, method: str) -> None:
    """Each other role is refused, and its attempt reads nothing and leaves nothing."""
    client = played.room.client(Client, principal)
    stub = audit_pb2_grpc.AuditServiceStub(client.channel)
    request = getattr(pb, f"{method}Request")()
    with played.room.gains(), pytest.raises(grpc.RpcError) as refusal:
        list(getattr(stub, method)(request))
    assert refusal.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_subjects_id_is_written_down_nowhere(played: Stage) -> None:
    """Searched for rightly, wrongly or in the wrong field, an id is in no entry, index, log of the server or error."""
    room, right, wrong = played.room, played.world.subjects[2], "uscc:91350100M000100Y44"
    list(room.auditor.search(Filter(), None, subject=right))
    stub = audit_pb2_grpc.AuditServiceStub(room.auditor.channel)
    told = ""
    for wanted in (
        pb.Filter(subject=wrong),
        pb.Filter(subject=right, subject_tag="ab" * 16),
        *(_filter(name, right) for name in ("institution", "caller", "kind", "code", "consent_id", "outcome")),
    ):
        with pytest.raises(grpc.RpcError) as refusal:
            stub.SearchEntries(pb.SearchEntriesRequest(filter=wanted))
        assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        told += f"{refusal.value.details()} {refusal.value.trailing_metadata()}"
    written = b"".join(path.read_bytes() for path in room.home.path.glob("audit.index*"))
    written += b"".join(path.read_bytes() for path in room.home.path.glob("heixia.db*")) + room.log.read_bytes()
    for subject in (right, wrong):
        assert subject[5:] not in told
        assert subject[5:].encode() not in written


def test_hostile_requests_are_refused_in_words(played: Stage) -> None:
    """Made-up tokens, other searches' tokens, sizes out of bounds: INVALID_ARGUMENT, and nothing is recorded."""
    stub = audit_pb2_grpc.AuditServiceStub(played.room.auditor.channel)
    size = len(played.room.entries())
    ours = Cursor(size, size - 1).token(Filter(kind="refusal"))
    requests = [
        *(pb.SearchEntriesRequest(page_token=token) for token in ("x", "=" * 5000, ours, "é", ours[:-1])),
        pb.SearchEntriesRequest(page_token=Cursor(size + 50, size + 50).token(Filter())),
        pb.SearchEntriesRequest(page_size=201),
        pb.SearchEntriesRequest(proof_size=1),
        pb.SearchEntriesRequest(proof_size=2**64 - 1),
        pb.SearchEntriesRequest(filter=pb.Filter(kind="no.such")),
        pb.SearchEntriesRequest(filter=pb.Filter(subject_tag="0" * 31)),
    ]
    with played.room.gains():
        for request in requests:
            with pytest.raises(grpc.RpcError) as refusal:
                stub.SearchEntries(request)
            assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        for days in (("2026-13-01", ""), ("", "yesterday"), ("2026-02-30", "")):
            with pytest.raises(grpc.RpcError) as refusal:
                stub.GetStatistics(pb.GetStatisticsRequest(first_day=days[0], last_day=days[1]))
            assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        for first, end, held in ((size, 0, 0), (0, size + 9, 0), (5, 5, 0), (5, 4, 0), (0, 0, size + 9)):
            with pytest.raises(grpc.RpcError) as refusal:
                list(stub.ExportEntries(pb.ExportEntriesRequest(first=first, end=end, held=held)))
            assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_statistics_are_what_the_entries_say(played: Stage) -> None:
    """Answers, repeats, refusals by code and bits of the day add up; every answer's time was counted."""
    room = played.room
    entries = room.entries()
    calls = [e for e in entries if e["kind"] == "decision"]
    (known,) = room.auditor.statistics("zhongyuan")
    assert known.answered == len(calls) == sum(known.answered_ms.values())
    assert known.repeated == sum(e["bits_milli"] == 0 for e in calls)
    assert known.bits_milli == sum(e["bits_milli"] for e in calls)
    assert known.refused == {"consent_revoked": 1}
    assert {day.institution for day in room.auditor.statistics()} == {"", "zhongyuan"}
    assert room.auditor.statistics("nobody") == []


def test_anomalies_tell_who_asked_after_a_revocation(played: Stage) -> None:
    """The refusal is found, its entry named, and the finding's own search leads to it."""
    found = played.room.auditor.anomalies()
    (anomaly,) = [item for item in found.found if item.code == "refused_after_revocation"]
    assert anomaly.text.startswith("application/portal asked under a consent that had been revoked")
    wanted = Filter(**dict(anomaly.terms))  # type: ignore[arg-type]
    hits = [hit.index for hit in played.room.auditor.search(wanted, trust(played))]
    assert set(anomaly.indexes) <= set(hits)


def test_an_export_is_searched_without_the_server(played: Stage, tmp_path: Path) -> None:
    """The folder says what the server says; a later export brings it up to date; nothing of it is believed unread."""
    room, policy, folder = played.room, trust(played), tmp_path / "log"
    head = room.auditor.export(folder, policy)
    for wanted in (Filter(kind="decision"), Filter(outcome="refused"), Filter(caller="auditor/audit-office")):
        with Folder(folder, policy) as offline:
            here = list(offline.search(wanted))
        there = [hit for hit in room.auditor.search(wanted, policy) if hit.index < head.size]
        assert [(hit.index, hit.body) for hit in here] == [(hit.index, hit.body) for hit in there]
    with Folder(folder, policy, budget_milli=64_000) as offline:
        (known,) = offline.statistics("zhongyuan")
        (day,) = room.auditor.statistics("zhongyuan")
        assert (known.answered, known.refused, known.answered_ms) == (day.answered, day.refused, {})
        assert offline.anomalies().counts == room.auditor.anomalies().counts
    played.consent(9)
    assert room.auditor.export(folder, policy).size > head.size
    with Folder(folder, policy) as offline:
        assert offline.search(Filter(kind="consent.granted")).total == len(
            [e for e in room.entries() if e["kind"] == "consent.granted"]
        )


def test_an_export_that_was_touched_is_refused(played: Stage, tmp_path: Path) -> None:
    """An entry edited, left out, or another log's folder: no search over it, and no export into it."""
    room, policy, folder = played.room, trust(played), tmp_path / "log"
    room.auditor.export(folder, policy)
    (bundle,) = [path for path in (folder / "tile" / "entries").rglob("*") if path.is_file()]
    whole = bundle.read_bytes()
    bundle.chmod(0o644)
    bundle.write_bytes(whole.replace(b'"kind":"refusal"', b'"kind":"Refusal"', 1))
    with pytest.raises((LedgerCorrupt, ProofInvalid)):
        Folder(folder, policy)
    bundle.write_bytes(whole)
    Folder(folder, policy).close()
    other = Room.make(tmp_path / "other").start()
    try:
        with pytest.raises((ExportDiffers, ProofInvalid)):
            other.auditor.export(folder, Policy.parse(other.home.policy.read_text()))
        with pytest.raises(ProofInvalid):  # the log of somebody whom the policy does not name
            other.auditor.export(tmp_path / "theirs", policy)
        assert not (tmp_path / "theirs" / "checkpoint").exists()
    finally:
        other.stop()
    with pytest.raises(ProofInvalid):
        Folder(folder, Policy.parse(other.home.policy.read_text()))


def test_a_part_of_a_log_is_no_place_for_a_search(tmp_path: Path) -> None:
    """Offline, absence is proved by the whole log alone: a part is refused in words that say what is there."""
    (tmp_path / "log").mkdir()
    with pytest.raises(EntryUnknown):
        Folder(tmp_path / "log")
    log = MemoryLog(bodies(answered(1, number) for number in range(600)))
    for path, data in files_of(log, 300):
        write_file(tmp_path / "log", path, data)
    with pytest.raises(EntryUnknown) as refusal:
        Folder(tmp_path / "log")
    assert "holds 256 to 599 of 600: export the whole log" in refusal.value.public


def test_the_index_follows_by_itself(played: Stage) -> None:
    """Without any search the index comes up to the log, a moment after the calls."""
    room = played.room
    played.consent(10)
    deadline = time.monotonic() + 20
    while (size := _index_size(room)) < len(room.entries()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert size == len(room.entries())


@pytest.mark.parametrize("ending", ["kill", "stop"])
def test_a_room_whose_index_is_gone_goes_on(
    ending: str, tmp_path: Path, stage: Stage, request: pytest.FixtureRequest
) -> None:
    """Deleted, cut or exchanged between two starts, the index is built anew; the log is not touched."""
    room = Room.make(tmp_path).start()
    request.addfinalizer(room.stop)
    for _ in range(3):
        list(room.auditor.search(Filter(), None))
    for harm in (Path.unlink, lambda path: path.write_bytes(b"x" * 5000), lambda path: path.write_bytes(b"")):
        assert room.kill() if ending == "kill" else room.stop() == 0
        for path in room.home.path.glob("audit.index-*"):
            path.unlink()
        harm(room.home.index)
        room.start()
        found = room.auditor.search(Filter(kind="enclave.started"), None)
        assert found.total == len([e for e in room.entries() if e["kind"] == "enclave.started"])
        assert len(list(found)) == found.total


def test_an_index_of_another_room_is_not_believed(tmp_path: Path) -> None:
    """Copied from elsewhere, its entries are not found here."""
    rooms = [Room.make(tmp_path / name).start() for name in ("a", "b")]
    first, second = rooms
    for _ in range(30):
        first.auditor.search(Filter(), None)
    for room in rooms:
        room.stop()
    for path in second.home.path.glob("audit.index*"):
        path.unlink()
    shutil.copy(first.home.index, second.home.index)
    second.start()
    try:
        assert second.auditor.search(Filter(kind="audit.read"), None).total == 0
        assert second.auditor.search(Filter(kind="audit.read"), None).total == 1
    finally:
        second.stop()


def test_under_a_quorum_witnesses_vouch_for_searches_and_exports(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A policy that asks for witnesses is met by every page and by the export; what they have not seen comes later."""
    room, witnesses = watched_room(tmp_path)
    for witness in witnesses:
        request.addfinalizer(witness.stop)
    request.addfinalizer(room.start().stop)
    policy = Policy.parse(room.home.policy.read_text())
    until(lambda: Checkpoint.parse(Note.parse(room.auditor.checkpoint()).text).size >= 1)
    for _ in range(3):
        room.auditor.statistics()
    size = len(room.entries())
    until(lambda: policy.verify(room.auditor.checkpoint()).size >= size)
    found = room.auditor.search(Filter(kind="audit.read"), policy)
    assert found.total == len(list(found)) == 3
    assert policy.verify(found.checkpoint).size == found.size >= size
    head = room.auditor.export(tmp_path / "log", policy)
    with Folder(tmp_path / "log", policy) as offline:
        assert offline.search(Filter()).total == head.size


def _filter(name: str, value: str) -> pb.Filter:
    made = pb.Filter()
    setattr(made, name, value)
    return made


def _index_size(room: Room) -> int:
    with closing(sqlite3.connect(f"file:{room.home.index}?mode=ro", uri=True)) as index:
        (size,) = index.execute("SELECT size FROM place").fetchone()
    return int(size)


def test_the_checkpoint_of_a_search_is_the_servers_newest(played: Stage) -> None:
    """A search's checkpoint covers everything committed before it."""
    size = len(played.room.entries())
    found = played.room.auditor.search(Filter(), trust(played), count=1)
    assert Checkpoint.parse(Note.parse(found.checkpoint).text).size == size == found.size


def test_an_authority_does_not_reach_the_desk_by_another_door(played: Stage) -> None:
    """A consent office's own certificate opens none of the auditors' readings, whatever the class it uses."""
    with refused("permission_refused"):
        played.room.client(Auditor, OFFICE).search(Filter(), None)


def test_datasets_are_found_among_all(played: Stage) -> None:
    """Entries without any filterable member are found by their kind."""
    assert played.room.auditor.search(Filter(kind="dataset.loaded"), None).total == len(datasets_of(FIELDS))
