"""What the auditors' SDK reads off the wire and puts on it, and nothing else."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp
from heixia.audit.v1 import audit_pb2 as pb

from audit.anomalies import Anomaly
from audit.errors import EntryUnknown, ProofInvalid
from audit.export import entries_in
from audit.index_filter import Filter
from audit.index_search import Day
from audit.index_terms import FIELDS
from audit.note import head_of
from audit.source import TILE_BYTES_MAX, FolderSource
from enclave_api.audit_names import WIRE


def wire_filter(wanted: Filter, subject: str = "") -> pb.Filter:
    """A filter as the wire has it."""
    made = pb.Filter(subject=subject, **{WIRE.get(name, name): value for name, value in wanted.terms})  # type: ignore[arg-type]
    if wanted.since is not None:
        getattr(made, "from").CopyFrom(stamp(wanted.since))
    if wanted.until is not None:
        made.until.CopyFrom(stamp(wanted.until))
    return made


def stamp(ms: int) -> Timestamp:
    """Unix milliseconds as protobuf has them."""
    made = Timestamp()
    made.FromMilliseconds(ms)
    return made


def held_in(folder: Path) -> tuple[int, bool]:
    """The size of the checkpoint that a folder holds (0 = none), and whether it holds every entry of it."""
    try:
        size = head_of(FolderSource(folder).checkpoint()).size
        return size, entries_in(folder) == [range(size)]
    except EntryUnknown:
        return 0, False


def files_from(parts: Iterable[pb.ExportEntriesResponse]) -> Iterator[tuple[str, bytes]]:
    """Put the parts of files together; raises ProofInvalid where they do not belong together."""
    path, content = "", bytearray()
    for part in parts:
        if content and part.path != path:
            raise ProofInvalid("parts", public="a file of the export is cut")
        path = part.path
        content += part.content
        if len(content) > TILE_BYTES_MAX:
            raise ProofInvalid("parts", public="a file of the export is too long")
        if part.last:
            yield path, bytes(content)
            content.clear()


def day_from(wire: pb.DayStatistics) -> Day:
    """An institution's day."""
    return Day(
        day=wire.day,
        institution=wire.institution,
        answered=wire.decisions,
        repeated=wire.repeats,
        bits_milli=wire.bits_milli,
        refused=dict(wire.refusals),
        answered_ms={item.milliseconds: item.answers for item in wire.answer_times},
    )


def anomaly_from(wire: pb.Anomaly) -> Anomaly:
    """Something to look at."""
    names = {**{name: name for name in FIELDS}, **WIRE}
    terms = tuple((name, value) for name, on_wire in names.items() if (value := getattr(wire.filter, on_wire)))
    seen = (wire.first_seen.ToMilliseconds(), wire.last_seen.ToMilliseconds())
    return Anomaly(wire.code, wire.severity, wire.text, terms, tuple(wire.indexes), *seen)
