"""Hits as a file: CSV for people and spreadsheets, JSON Lines for programs, each saying what was asked of which log.

Both formats are described in docs/formats.md. A value that a spreadsheet would take for a formula gets an apostrophe
before it.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any, Final

import rfc8785

from audit.index_terms import Entry, read_entry, terms_of, text_of
from audit.merkle import leaf_hash
from audit.note import encode_base64
from audit.search import Hit
from enclave_api.client.audit_search import Search
from enclave_api.errors import FolderNotEmpty, RequestInvalid

SCHEMA: Final = "heixia.search/v1"
# New ones are added at the right end alone. No limit, salt or field value can stand here: none is in the log.
COLUMNS: Final = (
    "index", "time", "kind", "institution", "product", "version", "consent", "consent_hash", "subject_tag", "outcome",
    "code", "caller", "use", "max_uses", "bits", "seq", "reason", "what", "leaf_hash",
)  # fmt: skip
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")  # OWASP, CSV injection


def row_of(hit: Hit) -> dict[str, Any]:
    """The columns of a hit; None where its kind has no such member."""
    entry, _ = read_entry(hit.body)
    row: dict[str, Any] = {name: entry.get(name) for name in COLUMNS}
    found = list(terms_of(entry, None))
    for name in ("institution", "product", "outcome"):
        row[name] = " ".join(dict.fromkeys(value for field, value in found if field == name)) or None
    row |= {"index": hit.index, "caller": _caller(entry), "leaf_hash": leaf_hash(hit.body).hex()}
    if entry["kind"] == "enclave.started":
        row["version"] = None
    if isinstance(entry.get("bits_milli"), int):
        row["bits"] = entry["bits_milli"] / 1000
    return row


def csv_lines(search: Search, hits: Iterable[Hit]) -> Iterator[str]:
    """The lines of a CSV file (RFC 4180, behind a head of lines that begin with `#`)."""
    for name, value in _head(search).items():
        for line in str(value).removesuffix("\n").split("\n"):
            yield f"# {name}: {_plain(line)}\n"
    yield _csv_line(COLUMNS)
    for hit in hits:
        yield _csv_line(["" if value is None else _cell(value) for value in row_of(hit).values()])


def json_lines(search: Search, hits: Iterable[Hit]) -> Iterator[str]:
    """The lines of a JSON Lines file: a head, then each hit with its entry and its proof."""
    yield _json_line(_head(search))
    for hit in hits:
        proof = [encode_base64(item) for item in hit.proof]
        yield _json_line({"index": hit.index, **_body(hit.body), "proof": proof})


FORMATS: Final[dict[str, Callable[[Search, Iterable[Hit]], Iterator[str]]]] = {".csv": csv_lines, ".jsonl": json_lines}


def write_table(path: Path, search: Search, hits: Iterable[Hit]) -> None:
    """Write a search to a file, which is whole or not there.

    Args:
        path: `.csv` or `.jsonl`; what is there already is not written over.
        search: what was asked.
        hits: of the search.

    Raises:
        RequestInvalid: another ending.
        FolderNotEmpty: the file is there.
        ProofInvalid: a hit does not verify; nothing is left.
    """
    lines = FORMATS.get(path.suffix)
    if lines is None:
        raise RequestInvalid("out", public=f"the file must end in {' or '.join(FORMATS)}")
    if path.exists():
        raise FolderNotEmpty("out", public=f"{path} is there already")
    fresh = path.with_name(f".{path.name}.new")
    try:
        with fresh.open("w", encoding="utf-8", newline="") as file:
            file.writelines(lines(search, hits))
        fresh.rename(path)
    finally:
        with suppress(OSError):
            fresh.unlink()


def _head(search: Search) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "filter": search.filter,
        "total": search.total,
        "entries_searched": search.size,
        "checkpoint_signature": "verified" if search.signed else "not checked",
        "checkpoint": search.checkpoint,
    }


def _body(body: bytes) -> dict[str, Any]:
    """The entry as an object whose RFC 8785 form is the bytes that were hashed; the bytes where it has no such form."""
    entry, _ = read_entry(body)
    try:
        if rfc8785.dumps(dict(entry)) == body:
            return {"entry": entry}
    except rfc8785.CanonicalizationError:
        pass
    return {"body": encode_base64(body)}


def _caller(entry: Entry) -> Any:
    granted_by = f"authority/{text_of(entry, 'authority')}" if entry["kind"] == "consent.granted" else None
    return entry.get("caller") or entry.get("by") or granted_by


def _cell(value: object) -> str:
    text = _plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return f"'{text}" if text.startswith(_FORMULA) else text


def _plain(text: str) -> str:
    """A text without what moves a terminal's cursor or ends a line."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def _csv_line(cells: Iterable[str]) -> str:
    made = StringIO()
    csv.writer(made).writerow(cells)
    return made.getvalue()


def _json_line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"
