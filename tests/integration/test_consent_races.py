"""Consents under fire: many calls at once, revoked in their middle, given up at any moment."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from heixia.precredit.v1 import precredit_pb2, precredit_pb2_grpc

from enclave_api.client.connection import Refused
from tests.integration.conftest import PRODUCT, Stage
from tests.integration.test_bad_consents import ask


def test_five_uses_are_five_under_fire(stage: Stage) -> None:
    """Forty calls at once under a consent for five get five answers, numbered one to five."""
    consent_id, size = stage.consent(11, uses=5), len(stage.room.entries())

    def call(_: int) -> str:
        try:
            ask(stage, 11, consent_id)
        except Refused as error:
            return error.code
        return "answered"

    with ThreadPoolExecutor(40) as threads:
        ended = list(threads.map(call, range(40)))
    assert ended.count("answered") == 5
    assert set(ended) == {"answered", "consent_exhausted"}
    assert [e["use"] for e in stage.room.entries(size) if e["kind"] == "decision"] == [1, 2, 3, 4, 5]


def test_one_request_id_is_one_answer_under_fire(stage: Stage) -> None:
    """The same request sent many times at once is answered once and repeated to all, though its consent is spent."""
    for company in range(20, 40):
        consent_id, request_id = stage.consent(company), str(uuid.uuid4())
        with ThreadPoolExecutor(8) as threads:
            calls = [threads.submit(ask, stage, company, consent_id, request_id=request_id) for _ in range(8)]
        assert len({call.result().receipt.entry for call in calls}) == 1


def test_no_answer_stands_above_its_revocation(stage: Stage) -> None:
    """Revoked in the middle of concurrent calls: every decision has a lower index, every later call is refused."""
    size = len(stage.room.entries())
    for company in range(40, 50):
        consent_id, begin = stage.consent(company, uses=5), threading.Barrier(7)

        def call(company: int = company, consent_id: str = consent_id, begin: threading.Barrier = begin) -> str:
            begin.wait()
            try:
                ask(stage, company, consent_id)
            except Refused as error:
                return error.code
            return "answered"

        def revoke(consent_id: str = consent_id, begin: threading.Barrier = begin) -> int:
            begin.wait()
            return stage.room.office.revoke(consent_id, "subject-request").index

        with ThreadPoolExecutor(7) as threads:
            calls = [threads.submit(call) for _ in range(6)]
            revoked = threads.submit(revoke).result()
        assert {c.result() for c in calls} <= {"answered", "consent_revoked", "consent_exhausted"}
        granted = stage.room.office.get(consent_id).granted_index
        entries = stage.room.entries()
        used = [i for i, e in enumerate(entries) if e["kind"] == "decision" and e["consent_index"] == granted]
        assert all(index < revoked for index in used)
        assert len(used) == [c.result() for c in calls].count("answered")
    kinds = [e["kind"] for e in stage.room.entries(size)]
    assert kinds.count("consent.revoked") == 10


def test_cancelled_calls_leave_a_server_that_answers(stage: Stage) -> None:
    """Callers that give up at any moment of their calls take nothing from those that come after."""
    stub = precredit_pb2_grpc.PreCreditServiceStub(stage.room.portal.channel)
    size, consents = len(stage.room.entries()), [stage.consent(company, uses=5) for company in range(50, 60)]
    calls: list[Any] = []
    for turn in range(100):
        request = precredit_pb2.RequestLimitRequest(
            request_id=str(uuid.uuid4()),
            consent_id=consents[turn % 10],
            subject=stage.world.subjects[50 + turn % 10],
            product=PRODUCT,
        )
        calls.append(stub.RequestLimit.future(request))
        if turn % 3 == 0:
            calls[turn // 2].cancel()
    for call in calls[::2]:
        call.cancel()
    ended = [None if call.cancelled() else call.exception() for call in calls]
    assert {e.code() for e in ended if isinstance(e, grpc.RpcError)} <= {grpc.StatusCode.FAILED_PRECONDITION}
    uses = [(e["consent_index"], e["use"]) for e in stage.room.entries(size) if e["kind"] == "decision"]
    assert len(uses) == len(set(uses)) <= 50
