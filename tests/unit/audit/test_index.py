"""The search index: what it finds is what reading every entry finds, whatever became of its file."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.errors import DatabaseReadOnly, IndexBehind, LedgerCorrupt, ProofInvalid
from audit.event import decode
from audit.export import files_of, write_file
from audit.index import Index
from audit.index_filter import Cursor, Filter
from audit.index_search import Page, search
from audit.index_terms import to_ms
from audit.kinds import Event
from audit.tiles import encode_bundle
from tests.unit.audit.memory_log import (
    BANKS,
    CALLERS,
    CODES,
    MemoryLog,
    answered,
    bodies,
    consent_id,
    granted,
    other_kinds,
    refusal,
    revoked,
    tag_of,
)
from tests.unit.audit.vectors import START


def random_events(rng: random.Random, count: int) -> Iterator[Event]:
    """A log with everything that a filter asks for: consents first, then whatever comes."""
    consents = 0
    for _ in range(count):
        kind = rng.randrange(10)
        if kind < 3 or not consents:
            consents += 1
            yield granted(consents, rng.randrange(5), rng.choice(BANKS))
        elif kind < 6:
            number, bits = rng.randint(1, consents), rng.choice((0, 3000))
            yield answered(number, rng.randrange(5), rng.choice(BANKS), caller=rng.choice(CALLERS), bits_milli=bits)
        elif kind < 8:
            yield refusal(rng.choice(CODES), rng.choice((None, rng.randint(1, consents))), rng.choice(CALLERS))
        elif kind < 9:
            yield revoked(rng.randint(1, consents))
        else:
            yield rng.choice(other_kinds())


def naive(log: MemoryLog, wanted: Filter) -> list[int]:
    """What a filter finds, told from decoded events alone, newest first."""
    consents: dict[str, Any] = {}
    found = []
    for index, body in enumerate(log.bodies):
        event, time = decode(body)
        m = vars(event) | {"kind": event.kind}
        if event.kind == "consent.granted":
            consents[m["consent"]] = consents[m["consent_hash"]] = m
        about = consents.get(m.get("consent") or m.get("consent_hash") or "", {})
        versions = [v for v in (m.get("version"), m.get("previous")) if v]
        products = {v.partition("@")[0] for v in versions} | {m.get("product")}
        if event.kind.startswith("consent."):
            products |= set(about.get("products", ()))
        who = m.get("caller") or m.get("by") or (f"authority/{m['authority']}" if "authority" in m else "")
        outcomes = {"decision": {"answered"}, "refusal": {"refused"}}.get(event.kind, set())
        if m.get("bits_milli") == 0:
            outcomes = outcomes | {"repeated"}
        has: dict[str, set[Any]] = {
            "kind": {event.kind},
            "institution": {m.get("institution"), about.get("institution")} | {v.partition("/")[0] for v in versions},
            "product": products,
            "version": set(versions),
            "consent": {m.get("consent"), about.get("consent")},
            "subject": {m.get("subject_tag"), about.get("subject_tag")},
            "outcome": outcomes,
            "code": {m.get("code")},
            "caller": {who, "/".join(who.split("/")[:2])},
        }
        ms = to_ms(time)
        within = (wanted.since is None or ms >= wanted.since) and (wanted.until is None or ms < wanted.until)
        if within and all(value in has[name] for name, value in wanted.terms):
            found.append(index)
    return found[::-1]


def filters(span_ms: int) -> st.SearchStrategy[Filter]:
    """Any filter over what the random logs hold, and a little of what they do not."""
    start = to_ms(START)
    times = st.none() | st.integers(start - 2, start + span_ms + 2)
    return st.builds(
        Filter,
        institution=st.sampled_from(["", "", "", *BANKS, "nobody"]),
        product=st.sampled_from(["", "", "", "bank/loan", "bank/card", "other-bank/loan"]),
        version=st.sampled_from(["", "", "", "bank/loan@1", "bank/loan@2"]),
        consent=st.sampled_from(["", "", "", consent_id(1), consent_id(2), consent_id(99)]),
        subject=st.sampled_from(["", "", "", tag_of(1), tag_of(77)]),
        kind=st.sampled_from(["", "", "decision", "refusal", "consent.granted", "consent.revoked", "audit.read"]),
        outcome=st.sampled_from(["", "", "", "answered", "refused", "repeated"]),
        code=st.sampled_from(["", "", "", *CODES]),
        caller=st.sampled_from(["", "", *CALLERS, "authority/consent-office", "institution/bank/bob"]),
        since=times,
        until=times,
    )


def page_of(index: Index, log: MemoryLog, wanted: Filter, cursor: Cursor | None = None, count: int = 1000) -> Page:
    """One page of a search."""
    at = cursor or Cursor(log.head.size, log.head.size)
    return index.ask(lambda c: search(c, wanted, size=at.size, before=at.before, count=count), log.head)


def pages(index: Index, log: MemoryLog, wanted: Filter, count: int, grow: Iterator[bytes]) -> Iterator[int]:
    """All hits, page by page, while the log grows between the pages."""
    cursor = Cursor(log.head.size, log.head.size)
    total = None
    while True:
        page = page_of(index, log, wanted, cursor, count)
        assert total in (None, page.total)
        total = page.total
        yield from page.indexes
        if len(page.indexes) < count:
            return
        token = Cursor(cursor.size, page.indexes[-1]).token(wanted)
        log.append([next(grow)])
        cursor = Cursor.parse(token, wanted, log.head.size)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), seed=st.integers(0, 1 << 32), length=st.integers(1, 400), count=st.integers(1, 40))
def test_a_search_finds_what_reading_everything_finds(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, seed: int, length: int, count: int
) -> None:
    """For any log, filter and page size, though entries are added between pages: the same hits, order and total."""
    rng = random.Random(seed)
    events = list(random_events(rng, length + 500))
    made = bodies(events)
    log = MemoryLog(made[:length])
    wanted = data.draw(filters(length))
    index = Index(tmp_path_factory.mktemp("index") / "i", log)
    expected = naive(log, wanted)
    assert page_of(index, log, wanted).total == len(expected)
    assert list(pages(index, log, wanted, count, iter(made[length:]))) == expected
    index.close()


def test_chunks_meet_and_bitmaps_fill(tmp_path: Path) -> None:
    """Over 70,000 entries, in which terms are rare, common and everywhere, hits and totals stay exact."""
    rng = random.Random(7)
    numbers = [rng.randrange(5000) for _ in range(70_000)]
    made = bodies(answered(1, number, bits_milli=number % 2 * 3000) for number in numbers)
    log = MemoryLog(made)
    index = Index(tmp_path / "i", log)
    for wanted, holds in (
        (Filter(kind="decision"), [True] * len(numbers)),
        (Filter(outcome="repeated"), [n % 2 == 0 for n in numbers]),
        (Filter(subject=tag_of(numbers[0])), [n == numbers[0] for n in numbers]),
        (Filter(subject=tag_of(numbers[1]), outcome="answered"), [n == numbers[1] for n in numbers]),
    ):
        expected = [at for at in reversed(range(len(numbers))) if holds[at]]
        assert page_of(index, log, wanted, count=70_000) == Page(expected, len(expected))
    index.close()


def _loses_its_file(path: Path) -> None:
    path.unlink()


def _is_filled_with_rubbish(path: Path) -> None:
    path.write_bytes(os.urandom(9000))


def _has_pages_overwritten(path: Path) -> None:
    # Every page but the first: the header still says SQLite.
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)


def _has_a_table_less(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE posting")


def _is_of_another_format(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE place SET format = format + 1")


def _has_another_edge(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE place SET edge = zeroblob(length(edge))")


def _says_it_read_more(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE place SET size = size + 5")


def _is_empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "harm",
    [
        *(_loses_its_file, _is_filled_with_rubbish, _has_pages_overwritten, _has_a_table_less, _is_of_another_format),
        *(_has_another_edge, _says_it_read_more, _is_empty),
    ],
)
def test_a_harmed_index_is_built_anew(harm: Any, tmp_path: Path) -> None:
    """Whatever happened to the file, a later search finds everything again."""
    log = MemoryLog(bodies(random_events(random.Random(3), 600)))
    path = tmp_path / "i"
    first = Index(path, log)
    expected = page_of(first, log, Filter(kind="decision"))
    first.close()
    harm(path)
    again = Index(path, log)
    assert page_of(again, log, Filter(kind="decision")) == expected
    assert expected.total > 100
    again.close()


def test_a_file_deleted_under_a_running_index_comes_back(tmp_path: Path) -> None:
    """Deleting the file loses nothing, not even while it is open."""
    log = MemoryLog(bodies(random_events(random.Random(3), 300)))
    index = Index(tmp_path / "i", log)
    expected = page_of(index, log, Filter())
    for path in tmp_path.iterdir():
        path.unlink()
    assert page_of(index, log, Filter()) == expected
    assert (tmp_path / "i").exists()
    index.close()


@pytest.mark.parametrize("length", [10, 300, 500])
def test_an_index_of_another_log_is_built_anew(length: int, tmp_path: Path) -> None:
    """Be the other log shorter, as long or longer: no entry of the first one is found in it."""
    first, second = (MemoryLog(bodies(random_events(random.Random(seed), n))) for seed, n in ((1, 300), (2, length)))
    Index(tmp_path / "i", first).follow(first.head)
    index = Index(tmp_path / "i", second)
    assert page_of(index, second, Filter(kind="refusal")).indexes == naive(second, Filter(kind="refusal"))
    index.close()


def test_measured_times_survive_a_rebuild(tmp_path: Path) -> None:
    """What is not derived from the log is taken along where the file can still be read."""
    log = MemoryLog(bodies(random_events(random.Random(3), 50)))
    index = Index(tmp_path / "i", log)
    index.write_aside(lambda c: c.execute("INSERT INTO latency VALUES ('2026-11-23', 'bank', 50, 7)"))
    index.close()
    other = Index(tmp_path / "i", log, budget_milli=64_000)  # for another budget: built anew
    other.follow(log.head)
    assert other.ask(lambda c: c.execute("SELECT n FROM latency").fetchone(), log.head) == (7,)
    other.close()


def test_writing_aside_mends_a_damaged_file(tmp_path: Path) -> None:
    """Measured times find a table again though somebody dropped it."""
    log = MemoryLog(bodies(random_events(random.Random(3), 50)))
    index = Index(tmp_path / "i", log)
    with sqlite3.connect(tmp_path / "i") as connection:
        connection.execute("DROP TABLE latency")
    index.write_aside(lambda c: c.execute("INSERT INTO latency VALUES ('2026-11-23', 'bank', 50, 7)"))
    assert index.ask(lambda c: c.execute("SELECT n FROM latency").fetchone(), log.head) == (7,)
    index.close()


def test_entries_that_do_not_lead_to_the_root_are_no_log(tmp_path: Path) -> None:
    """An entry that was edited is found out, whether the index had read it before or not."""
    log = MemoryLog(bodies(random_events(random.Random(3), 300)))
    head = log.head
    log.bodies[7] = log.bodies[7].replace(b"2026-11-23", b"2026-11-22")
    index = Index(tmp_path / "i", log)
    with pytest.raises(LedgerCorrupt):
        index.follow(head)
    index.close()


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    """Mode 0600, side files too; a folder that cannot be written is said so."""
    log = MemoryLog(bodies(random_events(random.Random(3), 300)))
    index = Index(tmp_path / "i", log)
    index.follow(log.head)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    index.close()
    with pytest.raises(DatabaseReadOnly):
        Index(tmp_path / "missing" / "i", log)


class _SlowLog(MemoryLog):
    """A log whose first bundle is given only when somebody lets it go."""

    def __init__(self, made: list[bytes]) -> None:
        super().__init__(made)
        self.asked, self.go = threading.Event(), threading.Event()

    def read(self, tile: Any) -> bytes:
        self.asked.set()
        assert self.go.wait(20)
        return super().read(tile)


def test_a_search_does_not_wait_for_ever(tmp_path: Path) -> None:
    """While another thread builds the index, a search with no patience says so, and the next one finds."""
    log = _SlowLog(bodies(random_events(random.Random(3), 300)))
    index = Index(tmp_path / "i", log)
    builder = threading.Thread(target=index.follow, args=(log.head,))
    builder.start()
    assert log.asked.wait(20)
    with pytest.raises(IndexBehind):
        index.ask(lambda c: c, log.head, patience_s=0.0)
    log.go.set()
    builder.join()
    assert index.size == 300
    index.close()


def test_patience_keeps_what_was_read(tmp_path: Path) -> None:
    """An index that is built in slices comes to the end, each time a little further."""
    log = MemoryLog(bodies(answered(1, number) for number in range(5000)))
    index = Index(tmp_path / "i", log)
    sizes = [0]
    while sizes[-1] < 5000:
        with suppress(IndexBehind):
            index.follow(log.head, patience_s=0.01)
        sizes.append(index.size)
        assert len(sizes) < 5000
    assert all(before <= after for before, after in pairwise(sizes))
    assert page_of(index, log, Filter(subject=tag_of(4321))).indexes == [4321]
    index.close()


_FOLLOWER = """
import sys
from pathlib import Path
from audit.index import Index
from audit.note import head_of
from audit.source import FolderSource
source = FolderSource(Path(sys.argv[1]))
index = Index(Path(sys.argv[2]), source)
size = 0
while size < head_of(source.checkpoint()).size:
    try:
        index.follow(head_of(source.checkpoint()), patience_s=0.02)
    except Exception as error:
        if type(error).__name__ != "IndexBehind":
            raise
    size = index.size
    print(size, flush=True)
"""


def test_a_follower_killed_at_any_time_loses_nothing(tmp_path: Path) -> None:
    """SIGKILL again and again while the index is built: it goes on from where it was and is exact in the end."""
    log = MemoryLog(bodies(random_events(random.Random(5), 6000)))
    for path, data in files_of(log):
        write_file(tmp_path / "log", path, data)
    command = [sys.executable, "-c", _FOLLOWER, str(tmp_path / "log"), str(tmp_path / "i")]
    reached = 0
    for kill_after in (1, 2, 1, 3):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as follower:
            assert follower.stdout
            for _ in range(kill_after):
                line = follower.stdout.readline()
                if line:
                    assert int(line) >= reached
                    reached = int(line)
            follower.send_signal(signal.SIGKILL)
    index = Index(tmp_path / "i", log)
    for wanted in (Filter(kind="decision"), Filter(consent=consent_id(3)), Filter(code="budget_spent")):
        assert page_of(index, log, wanted, count=6000).indexes == naive(log, wanted)
    index.close()


def test_entries_that_nobody_can_read_are_found_as_such(tmp_path: Path) -> None:
    """Rubbish in a signed log (an export may be anybody's) is a kind of its own; nothing breaks on it."""
    rubbish = [b"", b"{", b"[]", b"\xff\xfe", b'{"kind":1,"time":"x"}', b'{"kind":"decision"}', b"[" * 60_000,
               b'{"kind":"\\ud800","time":"2026-11-23T08:00:00.000Z"}', b"1" * 10_000, b"NaN"]  # fmt: skip
    odd = [
        b'{"kind":"decision","time":"2026-11-23T08:00:00.000Z","subject_tag":7,"bits_milli":-1,"use":"x"}',
        b'{"kind":"consent.granted","time":"2026-11-23T08:00:00.001Z","products":{"a":1},"consent":null}',
        b'{"kind":"refusal","time":"2026-11-22T08:00:00.000Z","code":["a"],"caller":{"b":[]},"institution":"\\u0000"}',
    ]
    log = MemoryLog([*rubbish, *odd, *bodies([granted(1, 1)])])
    index = Index(tmp_path / "i", log, 1000)
    assert page_of(index, log, Filter(kind="unreadable")).indexes == list(reversed(range(len(rubbish))))
    assert page_of(index, log, Filter(outcome="answered")).total == 1
    assert page_of(index, log, Filter(consent=consent_id(1))).indexes == [len(log.bodies) - 1]
    index.close()


def test_a_short_bundle_is_refused(tmp_path: Path) -> None:
    """A bundle with fewer entries than its name says ends the reading instead of shifting every later entry."""

    class Short(MemoryLog):
        def read(self, tile: Any) -> bytes:
            return encode_bundle(self.bodies[:10])

    log = Short(bodies(random_events(random.Random(3), 300)))
    index = Index(tmp_path / "i", log)
    with pytest.raises(ProofInvalid):
        index.follow(log.head)
    index.close()


def test_the_place_is_written_with_its_rows(tmp_path: Path) -> None:
    """An error in the middle of a batch leaves neither rows nor a place."""
    log = MemoryLog(bodies(random_events(random.Random(3), 600)))

    class Failing(MemoryLog):
        def read(self, tile: Any) -> bytes:
            if tile.index == 1:
                raise ProofInvalid("a bad disk")
            return super().read(tile)

    bad = Failing(log.bodies)
    index = Index(tmp_path / "i", bad)
    with pytest.raises(ProofInvalid):
        index.follow(log.head)
    assert index.size == 0
    with sqlite3.connect(tmp_path / "i") as connection:
        assert connection.execute("SELECT count(*) FROM posting").fetchone() == (0,)
    index.close()
