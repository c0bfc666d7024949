"""Exports of a search: what they say, that they verify, and that a spreadsheet runs nothing of them."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import rfc8785

from audit.errors import ProofInvalid
from audit.index import Index
from audit.index_filter import Filter
from audit.merkle import leaf_hash, verify_inclusion
from audit.note import decode_base64
from audit.policy import Policy
from audit.search import BundleReader, Found, Hit, Searcher
from enclave_api.client.audit_search import Search
from enclave_api.client.audit_table import COLUMNS, csv_lines, json_lines, row_of, write_table
from enclave_api.errors import FolderNotEmpty, RequestInvalid
from tests.unit.audit.memory_log import MemoryLog, answered, bodies, granted, other_kinds, refusal, revoked
from tests.unit.audit.vectors import signer

TRUST = Policy((signer().verifier,))
FORMULAS = ('=HYPERLINK("http://evil")', "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1")


def search_of(folder: Path, log: MemoryLog, wanted: Filter | None = None) -> Search:
    """An honest search of a log."""
    searcher = Searcher(Index(folder / "i", log), log, BundleReader(log, log.head.size), 1 << 30)
    asked = wanted or Filter()

    def ask(token: str, count: int, size: int) -> Found:
        return searcher.find(log.checkpoint(), asked, token, count, size)

    return Search.begin(ask, asked, lambda: asked.text, TRUST, None, "")


@pytest.fixture
def log() -> MemoryLog:
    """A log with an entry of each sort."""
    return MemoryLog(bodies([granted(1, 1), answered(1, 1), refusal("consent_revoked", 1), revoked(1), *other_kinds()]))


def test_a_csv_says_what_was_asked_and_has_every_hit(log: MemoryLog, tmp_path: Path) -> None:
    """Filter, total and checkpoint stand at the top behind `#`; then the columns, always the same; then the hits."""
    found = search_of(tmp_path, log)
    write_table(tmp_path / "x.csv", found, found)
    lines = (tmp_path / "x.csv").read_text().splitlines()
    head = [line for line in lines if line.startswith("#")]
    assert head[:5] == [
        "# schema: heixia.search/v1",
        "# filter: all",
        f"# total: {len(log.bodies)}",
        f"# entries_searched: {len(log.bodies)}",
        "# checkpoint_signature: verified",
    ]
    note = "\n".join(line.removeprefix("# checkpoint: ") for line in head[5:]) + "\n"
    assert TRUST.verify(note) == log.head
    rows = list(csv.DictReader(lines[len(head) :]))
    assert [int(row["index"]) for row in rows] == list(reversed(range(len(log.bodies))))
    assert tuple(rows[0]) == COLUMNS
    assert [row["leaf_hash"] for row in rows] == [leaf_hash(body).hex() for body in reversed(log.bodies)]
    assert rows[-2]["outcome"] == "answered"
    assert rows[-2]["bits"] == "3.0"


def test_json_lines_verify_by_themselves(log: MemoryLog, tmp_path: Path) -> None:
    """From the file alone: the checkpoint is signed, and every entry is in its tree at its index."""
    found = search_of(tmp_path, log, Filter(institution="bank"))
    head, *hits = [json.loads(line) for line in json_lines(found, found)]
    tree = TRUST.verify(head["checkpoint"])
    assert (head["filter"], head["total"], len(hits)) == ("institution=bank", 5, 5)
    for hit in hits:
        proof = [decode_base64(item) for item in hit["proof"]]
        verify_inclusion(leaf_hash(rfc8785.dumps(hit["entry"])), hit["index"], tree.size, proof, tree.root)


def test_bytes_that_are_no_entry_are_given_as_they_are(tmp_path: Path) -> None:
    """What has no canonical form as an object is given as base64, and a CSV has its row all the same."""
    log = MemoryLog([b"\xff", b'{"kind":"x" ,"time":"2026-11-23T08:00:00.000Z"}'])
    found = search_of(tmp_path, log)
    _, *hits = [json.loads(line) for line in json_lines(found, found)]
    assert [decode_base64(hit["body"]) for hit in hits] == log.bodies[::-1]
    again = search_of(tmp_path, log)
    assert len([line for line in csv_lines(again, again) if not line.startswith("#")]) == 3


@pytest.mark.parametrize("formula", FORMULAS)
def test_no_value_becomes_a_formula(formula: str, tmp_path: Path) -> None:
    """Whatever an entry holds, no cell begins with what a spreadsheet runs, and no value breaks its line."""
    entry = {
        "kind": formula,
        "time": "2026-11-23T08:00:00.000Z",
        "code": formula,
        "what": f"a\n{formula}",
        "by": formula,
    }
    log = MemoryLog([json.dumps(entry).encode()])
    found = search_of(tmp_path, log)
    *_, line = csv_lines(found, found)
    (cells,) = csv.reader([line])
    assert len(cells) == len(COLUMNS)
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
    assert not any(character in "".join(cells) for character in "\n\r\t")


def test_columns_hold_no_money(log: MemoryLog, tmp_path: Path) -> None:
    """No column is a limit, a salt or a commitment to one: commitments are for whoever has the opening."""
    assert not {"limit", "salt", "outcome_commitment", "records_hash"} & set(COLUMNS)
    decision = next(hit for hit in search_of(tmp_path, log) if b'"decision"' in hit.body)
    told = json.loads(decision.body)
    assert not {told["limit"], told["outcome"]} & set(map(str, row_of(decision).values()))


def test_nothing_is_written_over_and_nothing_is_left_half(log: MemoryLog, tmp_path: Path) -> None:
    """A file that is there stays; another ending is refused; a hit that does not verify leaves no file."""
    path = tmp_path / "x.jsonl"
    path.write_text("mine")
    found = search_of(tmp_path, log)
    with pytest.raises(FolderNotEmpty):
        write_table(path, found, found)
    assert path.read_text() == "mine"
    with pytest.raises(RequestInvalid):
        write_table(tmp_path / "x.xlsx", found, found)

    def broken() -> Iterator[Hit]:
        yield from list(found)[:2]
        raise ProofInvalid("a hit")

    with pytest.raises(ProofInvalid):
        write_table(tmp_path / "y.csv", found, broken())
    assert {item.name for item in tmp_path.iterdir()} <= {"x.jsonl", "i", "i-wal", "i-shm"}
