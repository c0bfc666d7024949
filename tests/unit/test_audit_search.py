"""The auditors' SDK before a server that lies: no hit is given that its proof, its filter or its order contradicts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from audit.errors import LedgerCorrupt, ProofInvalid, SearchInvalid
from audit.index import Index
from audit.index_filter import Filter
from audit.merkle import leaf_hash, verify_inclusion
from audit.note import NoteSigner
from audit.policy import Policy
from audit.search import BundleReader, Found, Hit, Searcher
from enclave_api.client.audit_search import PAGE, Search
from tests.unit.audit.memory_log import MemoryLog, answered, bodies, refusal
from tests.unit.audit.vectors import ORIGIN, signer

TRUST = Policy((signer().verifier,))
WANTED = Filter(kind="decision")


@pytest.fixture
def log() -> MemoryLog:
    """Calls, every third of them refused."""
    return MemoryLog(bodies(refusal("budget_spent", 1) if n % 3 == 0 else answered(1, n) for n in range(900)))


@pytest.fixture
def searcher(log: MemoryLog, tmp_path: Path) -> Searcher:
    """An honest searcher over them."""
    return Searcher(Index(tmp_path / "i", log), log, BundleReader(log, log.head.size), 1 << 30)


def begin(searcher: Searcher, note: str, lie: Callable[[Found], Found] = lambda found: found) -> Search:
    """A search whose every page somebody may change."""
    return Search.begin(
        lambda token, count, size: lie(searcher.find(note, WANTED, token, count, size)),
        WANTED,
        lambda: WANTED.text,
        TRUST,
        None,
        "",
    )


def test_an_honest_server_is_believed(searcher: Searcher, log: MemoryLog) -> None:
    """All hits over several pages, under one checkpoint."""
    found = begin(searcher, log.checkpoint())
    assert [hit.index for hit in found] == [n for n in reversed(range(900)) if n % 3]
    assert found.total == 600 > 2 * PAGE


def _first(found: Found, hit: Hit) -> Found:
    return replace(found, hits=[hit, *found.hits[1:]])


LIES: dict[str, Callable[[Found], Found]] = {
    "another body": lambda f: _first(f, replace(f.hits[0], body=f.hits[0].body.replace(b"bank", b"bang"))),
    "another index": lambda f: _first(f, replace(f.hits[0], index=f.hits[0].index - 1)),
    "no proof": lambda f: _first(f, replace(f.hits[0], proof=())),
    "a proof too long": lambda f: _first(f, replace(f.hits[0], proof=(*f.hits[0].proof, bytes(32)))),
    "a hash cut": lambda f: _first(f, replace(f.hits[0], proof=(f.hits[0].proof[0][:-1], *f.hits[0].proof[1:]))),
    "a hit twice": lambda f: replace(f, hits=[f.hits[0], *f.hits]),
    "oldest first": lambda f: replace(f, hits=f.hits[::-1]),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_found_out(lie: str, searcher: Searcher, log: MemoryLog) -> None:
    """Each ends in ProofInvalid before the hit is given."""
    with pytest.raises(ProofInvalid):
        list(begin(searcher, log.checkpoint(), LIES[lie]))


def test_entries_of_another_kind_are_no_hits(searcher: Searcher, log: MemoryLog) -> None:
    """An entry of the log, rightly proved, that is not what was asked for."""
    other = searcher.find(log.checkpoint(), Filter(kind="refusal"), "", 5)
    with pytest.raises(ProofInvalid):
        list(begin(searcher, log.checkpoint(), lambda found: replace(other, token="")))


def test_a_server_cannot_keep_an_auditor_in_a_loop(searcher: Searcher, log: MemoryLog) -> None:
    """A page that comes again, or an empty one with a token, ends the search."""
    first = searcher.find(log.checkpoint(), WANTED, "", 10)
    for endless in (first, replace(first, hits=[])):
        with pytest.raises(ProofInvalid):
            list(begin(searcher, log.checkpoint(), lambda found, same=endless: same))  # type: ignore[misc]


def test_a_checkpoint_of_nobody_is_refused(searcher: Searcher, log: MemoryLog) -> None:
    """Signed by a key that the policy does not name: refused before any hit."""
    stranger = NoteSigner.from_seed(ORIGIN, b"\x02" * 32)
    with pytest.raises(ProofInvalid):
        begin(searcher, stranger.sign(log.head.text))


def test_a_searcher_does_not_prove_what_is_not_so(log: MemoryLog, tmp_path: Path) -> None:
    """An entry that changed in the store is found out before it leaves."""
    searcher = Searcher(Index(tmp_path / "i", log), log, lambda index: b"changed", 1 << 30)
    with pytest.raises(LedgerCorrupt):
        searcher.find(log.checkpoint(), WANTED, "", 1)


def test_pages_are_bounded_in_bytes(log: MemoryLog, tmp_path: Path) -> None:
    """A page ends where its entries no longer fit, and the next goes on there; one always fits."""
    length = len(log.bodies[1])
    searcher = Searcher(Index(tmp_path / "i", log), log, BundleReader(log, 900), length * 4)
    page = searcher.find(log.checkpoint(), WANTED, "", 50)
    assert (len(page.hits), page.total) == (4, 600)
    following = searcher.find(log.checkpoint(), WANTED, page.token, 1)
    assert [page.hits[-1].index, following.hits[0].index] == [895, 893]  # 894 was refused
    tiny = Searcher(searcher.index, log, BundleReader(log, 900), 1)
    assert len(tiny.find(log.checkpoint(), WANTED, "", 50).hits) == 1


def test_proofs_lead_to_the_size_that_was_asked_for(log: MemoryLog, tmp_path: Path) -> None:
    """Later pages are proved under the first page's checkpoint, never beyond the log or below the hits."""
    searcher = Searcher(Index(tmp_path / "i", log), log, BundleReader(log, 900), 1 << 30)
    old, root = searcher.find(log.checkpoint(), WANTED, "", 7), log.head
    log.append(bodies([answered(1, 5)] * 300))
    page = searcher.find(log.checkpoint(), WANTED, old.token, 7, root.size)
    for hit in page.hits:
        verify_inclusion(leaf_hash(hit.body), hit.index, root.size, hit.proof, root.root)
    for size in (1, log.head.size + 1):
        with pytest.raises(SearchInvalid):
            searcher.find(log.checkpoint(), WANTED, old.token, 7, size)
