"""Proto ↔ domain, and nothing else. Malformed members of a request end here as RequestInvalid."""

import re
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money
from heixia.attestation.v1 import attestation_pb2
from heixia.audit.v1 import audit_pb2
from heixia.catalog.v1 import catalog_pb2
from heixia.consent.v1 import consent_pb2
from heixia.precredit.v1 import precredit_pb2

from enclave_api.attestation.evidence import Evidence
from enclave_api.errors import RequestInvalid
from enclave_api.reasons import REASONS
from model_registry.key_epochs import Epoch
from sandbox.calls import Answer
from sandbox.consent_life import State as ConsentState
from sandbox.consent_store import ConsentRecord
from sandbox.decision import LimitRequest
from sandbox.disclosure import Disclosed
from sandbox.subject_view import Proof, SubjectConsent, UsePage
from sandbox.vault.catalog import layout_hash
from sandbox.vault.datasets import DatasetStatus

CURRENCY = "CNY"
SIZE_CLASS_BYTES = 1024  # answers are padded to a multiple of this, whatever the limit

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_PAGE_TOKEN = re.compile(r"00[0-9a-f]{14}")  # the log's indices are below 2**53
_ORGANISATION = re.compile(r"[a-z][a-z0-9-]{1,62}")
_PRODUCT = re.compile(r"[a-z][a-z0-9-]{1,62}/[a-z][a-z0-9-]{1,62}")
# Wide enough that no limit changes it: tag and length of the padding, every varint of money and all its variations.
_SLACK_BYTES = 160


def uuid(text: str, member: str) -> str:
    """A lower-case UUID; raises RequestInvalid."""
    if not _UUID.fullmatch(text):
        raise RequestInvalid(member, public=f"{member} must be a lower-case UUID")
    return text


def organisation(text: str, member: str) -> str:
    """An organisation's name; raises RequestInvalid."""
    if not _ORGANISATION.fullmatch(text):
        raise RequestInvalid(member, public=f"{member} must be 2 to 63 of a-z, 0-9 and -, a letter first")
    return text


def product(text: str) -> str:
    """A product's name; raises RequestInvalid."""
    if not _PRODUCT.fullmatch(text):
        raise RequestInvalid("product", public="product must be <institution>/<name>")
    return text


def reason(text: str) -> str:
    """One of the reasons that may stand in the log; raises RequestInvalid."""
    if text not in REASONS:
        raise RequestInvalid("reason", public=f"reason must be one of: {', '.join(REASONS)}")
    return text


def timestamp(time: datetime) -> Timestamp:
    """A moment as protobuf has it."""
    made = Timestamp()
    made.FromDatetime(time)
    return made


def moment(stamp: Timestamp) -> datetime:
    """A protobuf timestamp as a moment; raises RequestInvalid."""
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise RequestInvalid("timestamp", public="a timestamp is out of range") from error


def limit_request(request: precredit_pb2.RequestLimitRequest, caller: str) -> LimitRequest:
    """A request for a limit; raises RequestInvalid (the subject is checked by the domain)."""
    return LimitRequest(
        request_id=uuid(request.request_id, "request_id"),
        consent_id=uuid(request.consent_id, "consent_id"),
        subject=request.subject,
        product=product(request.product),
        caller=caller,
    )


def limit_response(answer: Answer) -> precredit_pb2.RequestLimitResponse:
    """An answer of one size class: the padding hides how many bytes the limit takes."""
    made = precredit_pb2.RequestLimitResponse(
        limit=Money(currency_code=CURRENCY, units=0),
        valid_until=timestamp(answer.valid_until),
        receipt=precredit_pb2.Receipt(entry=answer.entry, proof=answer.proof, salt=answer.salt),
    )
    target = -(-(made.ByteSize() + _SLACK_BYTES) // SIZE_CLASS_BYTES) * SIZE_CLASS_BYTES
    made.limit.units = answer.limit
    made.padding = bytes(target - made.ByteSize() - 3)  # less its tag and two-byte length: it has 140 to 1,200 bytes
    return made


def consent(domain: ConsentRecord) -> consent_pb2.Consent:
    """A consent, without its subject."""
    return consent_pb2.Consent(
        consent_id=domain.consent_id,
        state=_consent_state(domain.state),
        institution=domain.institution,
        products=domain.products,
        purpose=domain.purpose,
        not_before=timestamp(datetime.fromtimestamp(domain.not_before, UTC)),
        expires_at=timestamp(datetime.fromtimestamp(domain.expires, UTC)),
        uses=domain.uses,
        max_uses=domain.max_uses,
        granted_index=domain.granted_index,
        consent_hash=domain.consent_hash,
        frequency_unit=domain.quota.unit or "",
        frequency=domain.quota.a_period or 0,
    )


def disclosure(domain: Disclosed, budget_milli: int) -> consent_pb2.Disclosure:
    """What an institution was told in a year, beside what it may be told."""
    return consent_pb2.Disclosure(
        institution=domain.institution,
        year=domain.year,
        bits_milli=domain.bits_milli,
        budget_milli=budget_milli * domain.subjects,
        subjects=domain.subjects,
    )


def subject_consent(domain: SubjectConsent) -> consent_pb2.SubjectConsent:
    """A consent as its subject sees it."""
    return consent_pb2.SubjectConsent(
        consent=consent(domain.record),
        authority=domain.authority,
        departments=domain.departments,
        erased=domain.erased,
    )


def uses(domain: UsePage, since: datetime) -> consent_pb2.ListSubjectUsesResponse:
    """A page of uses."""
    shown = [
        consent_pb2.Use(
            at=timestamp(use.at),
            institution=use.institution,
            product=use.product,
            consent_id=use.consent_id,
            departments=use.departments,
            index=use.index,
            purpose=use.purpose,
            outcome=consent_pb2.UseOutcome.Value(f"USE_OUTCOME_{use.outcome.name}"),
            bits_milli=use.bits_milli,
        )
        for use in domain.uses
    ]
    token = page_token(domain.uses[-1].index) if domain.more else ""
    return consent_pb2.ListSubjectUsesResponse(
        uses=shown, next_page_token=token, total=domain.total, since=timestamp(since)
    )


def page_token(index: int) -> str:
    """Where a page ended, opaque to whoever hands it back."""
    return index.to_bytes(8, "big").hex()


def page_begin(token: str) -> int | None:
    """The index before which a page begins; None = at the newest. Raises RequestInvalid."""
    if not token:
        return None
    if not _PAGE_TOKEN.fullmatch(token):
        raise RequestInvalid("page_token", public="page_token is none that was handed out")
    return int(token, 16)


def subject_receipt(domain: Proof, *, with_opening: bool) -> consent_pb2.GetSubjectReceiptResponse:
    """What proves a use."""
    made = consent_pb2.GetSubjectReceiptResponse(entry=domain.entry, proof=domain.proof)
    if with_opening and domain.opening is not None:
        made.opening.salt, made.opening.limit_yuan = domain.opening.salt, domain.opening.limit
    return made


def _consent_state(state: ConsentState) -> consent_pb2.ConsentState.ValueType:
    return consent_pb2.ConsentState.Value(f"CONSENT_STATE_{state.name}")


def dataset(domain: DatasetStatus, *, with_fields: bool = False) -> catalog_pb2.Dataset:
    """A dataset, with its fields where asked."""
    described = domain.dataset
    fields = zip(described.field_names, described.fields, strict=True) if with_fields else ()
    return catalog_pb2.Dataset(
        name=described.name,
        label_zh=described.label_zh,
        label_en=described.label_en,
        cadence=described.cadence,
        state=catalog_pb2.DatasetState.Value(f"DATASET_STATE_{domain.state.upper()}"),
        layout_hash=layout_hash(described),
        field_count=len(described.fields),
        fields=[
            catalog_pb2.Field(
                name=name, type=f.type, unit=f.unit, codes=f.codes, label_zh=f.label_zh, label_en=f.label_en
            )
            for name, f in fields
        ],
    )


def evidence(domain: Evidence) -> attestation_pb2.Evidence:
    """Evidence for the wire."""
    return attestation_pb2.Evidence(
        claims=domain.claims, format=domain.format, report=domain.report, certificates=domain.certificates
    )


def key_epoch(domain: Epoch) -> attestation_pb2.KeyEpoch:
    """An HPKE key's time for the wire."""
    return attestation_pb2.KeyEpoch(
        epoch=domain.number,
        key_id=domain.key_id,
        made_index=domain.made_index,
        made_at=timestamp(domain.made_at),
        destroy_at=timestamp(domain.destroy_at) if domain.destroy_at else None,
        destroyed_index=domain.destroyed_index,
    )


def entry(index: int, body: bytes) -> audit_pb2.Entry:
    """A log entry."""
    return audit_pb2.Entry(index=index, body=body)
