"""Proto ↔ domain of the auditors' service, and nothing else."""

from collections.abc import Callable
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from heixia.audit.v1 import audit_pb2 as pb

from audit.anomalies import Anomalies, Anomaly
from audit.index_filter import Filter
from audit.index_search import Day
from audit.index_terms import from_ms, to_ms
from audit.search import Found, Hit
from enclave_api import converters
from enclave_api.audit_names import WIRE
from enclave_api.errors import RequestInvalid

# The wire's names of a filter's members, where they differ from the domain's.


def search_filter(wire: pb.Filter, tag_of: Callable[[str], str]) -> Filter:
    """A filter with the subject's tag in the subject's place.

    Args:
        wire: as it came.
        tag_of: a subject's tag; raises SubjectInvalid, which names nobody.

    Raises:
        SearchInvalid, SubjectInvalid: a member of a wrong form.
        RequestInvalid: a subject and a tag.
    """
    if wire.subject and wire.subject_tag:
        raise RequestInvalid("subject", public="give a subject or a tag, not both")
    return Filter(
        institution=wire.institution,
        product=wire.product,
        version=wire.version,
        consent=wire.consent_id,
        subject=tag_of(wire.subject) if wire.subject else wire.subject_tag,
        kind=wire.kind,
        outcome=wire.outcome,
        code=wire.code,
        caller=wire.caller,
        since=moment_ms(getattr(wire, "from")) if wire.HasField("from") else None,
        until=moment_ms(wire.until) if wire.HasField("until") else None,
    )


def moment_ms(stamp: Timestamp) -> int:
    """A protobuf timestamp in Unix milliseconds; raises RequestInvalid."""
    return to_ms(converters.moment(stamp))


def search_response(wanted: Filter, found: Found) -> pb.SearchEntriesResponse:
    """A page of hits."""
    return pb.SearchEntriesResponse(
        hits=[_hit(hit) for hit in found.hits],
        next_page_token=found.token,
        total=found.total,
        checkpoint=found.checkpoint,
        filter=wanted.text,
        size=found.size,
    )


def day(domain: Day) -> pb.DayStatistics:
    """An institution's day."""
    return pb.DayStatistics(
        institution=domain.institution,
        day=domain.day,
        decisions=domain.answered,
        refusals=domain.refused,
        repeats=domain.repeated,
        bits_milli=domain.bits_milli,
        answer_times=[pb.AnswerTime(milliseconds=ms, answers=n) for ms, n in sorted(domain.answered_ms.items())],
    )


def anomalies_response(domain: Anomalies, size: int) -> pb.ListAnomaliesResponse:
    """Anomalies, gravest first."""
    return pb.ListAnomaliesResponse(
        anomalies=[_anomaly(found) for found in domain.found], counts=domain.counts, size=size
    )


def _hit(domain: Hit) -> pb.Hit:
    return pb.Hit(entry=converters.entry(domain.index, domain.body), proof=domain.proof)


def _anomaly(domain: Anomaly) -> pb.Anomaly:
    terms: dict[str, Any] = {WIRE.get(name, name): value for name, value in domain.terms}
    return pb.Anomaly(
        code=domain.code,
        text=domain.text,
        indexes=domain.indexes,
        severity=domain.severity,
        filter=pb.Filter(**terms),
        first_seen=converters.timestamp(from_ms(domain.first_ms)),
        last_seen=converters.timestamp(from_ms(domain.last_ms)),
    )
