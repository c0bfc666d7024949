"""The way of a call, over real gRPC with real certificates: every limit is the bank's own, once, and proved."""

import uuid

import pytest

from audit.event import decode
from audit.policy import Policy
from audit.receipt import Opening, Receipt, verify_receipt
from enclave_api.client.connection import Refused
from tests.integration.conftest import PRODUCT, Stage
from tests.room import decision_of


def test_limits_are_what_the_bank_computes(stage: Stage) -> None:
    """Forty companies get exactly the limits that the bank's native model, rules and grid give."""
    own = stage.example.own_limits()
    portal, asked = stage.room.portal, range(40)
    got = [
        portal.request_limit(subject=stage.world.subjects[i], product=PRODUCT, consent_id=stage.consent(i)).yuan
        for i in asked
    ]
    assert got == [own[i] for i in asked]
    assert len(set(got)) > 3


def test_a_receipt_verifies_offline_and_no_other_limit_does(stage: Stage) -> None:
    """The opening proves the limit that was given; claiming another one fails that step alone."""
    limit = stage.room.portal.request_limit(
        subject=stage.world.subjects[50], product=PRODUCT, consent_id=stage.consent(50)
    )
    policy = Policy.parse(stage.room.home.policy.read_text())
    kept = Receipt.load(limit.receipt.dump())
    assert all(step.ok for step in verify_receipt(kept, policy))
    assert kept.opening is not None
    forged = Receipt(kept.entry, kept.proof, Opening(kept.opening.salt, limit.yuan + 50_000))
    assert [step.ok for step in verify_receipt(forged, policy)].count(False) == 1


def test_a_repeated_request_repeats_its_answer(stage: Stage) -> None:
    """The same request id costs no second use and gives the same entry; with other members it is refused."""
    subject, consent_id, request_id = stage.world.subjects[51], stage.consent(51), str(uuid.uuid4())
    first, again = (
        stage.room.portal.request_limit(subject=subject, product=PRODUCT, consent_id=consent_id, request_id=request_id)
        for _ in range(2)
    )
    assert first.receipt.entry == again.receipt.entry
    assert (first.yuan, first.valid_until) == (again.yuan, again.valid_until)
    with pytest.raises(Refused) as refusal:
        stage.room.portal.request_limit(
            subject=stage.world.subjects[52], product=PRODUCT, consent_id=consent_id, request_id=request_id
        )
    assert refusal.value.code == "request_id_reused"


def test_a_revoked_consent_permits_nothing_more(stage: Stage) -> None:
    """A use before the revocation has the lower index; after it the call is refused, and both are in the log."""
    subject, consent_id = stage.world.subjects[53], stage.consent(53, uses=5)
    ask = {"subject": subject, "product": PRODUCT, "consent_id": consent_id}
    used = stage.room.portal.request_limit(**ask)
    revoked = stage.room.office.revoke(consent_id, "subject-request")
    with pytest.raises(Refused) as refusal:
        stage.room.portal.request_limit(**ask)
    assert refusal.value.code == "consent_revoked"
    log = list(stage.room.auditor.entries(0))
    index = next(entry.index for entry in log if entry.body == used.receipt.entry)
    assert index < revoked.index
    assert decode(log[revoked.index].body)[0].kind == "consent.revoked"
    assert decision_of(used.receipt.entry).use == 1


def test_every_answer_has_one_size(stage: Stage) -> None:
    """Offers and refusals to offer weigh the same on the wire, whatever the limit."""
    from heixia.precredit.v1 import precredit_pb2 as pb
    from heixia.precredit.v1 import precredit_pb2_grpc

    stub = precredit_pb2_grpc.PreCreditServiceStub(stage.room.portal.channel)
    sizes, limits = set(), set()
    for company in range(60, 80):
        request = pb.RequestLimitRequest(
            request_id=str(uuid.uuid4()),
            consent_id=stage.consent(company),
            subject=stage.world.subjects[company],
            product=PRODUCT,
        )
        answer = stub.RequestLimit(request)
        sizes.add(answer.ByteSize())
        limits.add(answer.limit.units)
    assert len(sizes) == 1
    assert 0 in limits
    assert len(limits) > 3


def test_no_data_on_file_is_no_offer(stage: Stage) -> None:
    """A company that no department knows gets the same answer as a declined one."""
    stranger = "uscc:91350100M000100Y43"
    consent_id = stage.room.consent(stranger, PRODUCT, ["tax.declaration", *_rest()])
    assert stage.room.portal.request_limit(subject=stranger, product=PRODUCT, consent_id=consent_id).yuan == 0


def _rest() -> list[str]:
    from enclave_api.cli.example import FIELDS
    from tests.room import datasets_of

    return [name for name in datasets_of(FIELDS) if name != "tax.declaration"]
