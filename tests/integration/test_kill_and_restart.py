"""Killed in the middle of many calls and started again; stopped and started again: what was answered stands."""

import asyncio
import dataclasses
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from audit.merkle import leaf_hash, tree_hash
from audit.note import Checkpoint
from audit.policy import Policy
from audit.receipt import verify_receipt
from enclave_api import app
from enclave_api.cli.example import FIELDS, LEVELS
from enclave_api.client.application import Application, Limit
from enclave_api.client.bank import Bank, Offer
from enclave_api.client.connection import Refused
from enclave_api.errors import ConnectionFailed
from enclave_api.home import Home
from enclave_api.service import ServeOptions
from model_registry.bundle import SealedBundle, encode_content, seal_bundle
from model_registry.convert import Converted, FieldSpec
from model_registry.manifest import ModelInput, ModelOutput, make_manifest, sign_manifest
from sandbox.decision import LimitRequest
from sandbox.errors import ConsentExpired
from tests.integration.conftest import PRODUCT, Stage
from tests.room import ACCEPT, ALICE, PORTAL, datasets_of

ROUNDS = 2
COMPANIES = itertools.count(100)
FIELD = "tax.declaration.sales_12m"
INSIDE = ServeOptions("127.0.0.1:0", None, False, None)


@dataclasses.dataclass(frozen=True)
class Asked:
    """One request."""

    company: int
    consent_id: str
    request_id: str


def ask(stage: Stage, asked: Asked, portal: Application | None = None) -> Limit:
    """Sends a request."""
    return (portal or stage.room.portal).request_limit(
        subject=stage.world.subjects[asked.company],
        product=PRODUCT,
        consent_id=asked.consent_id,
        request_id=asked.request_id,
    )


def kill(stage: Stage) -> None:
    """Ends the server's process as a power cut would, with the clients' calls still on their way."""
    assert stage.room.process is not None
    os.kill(stage.room.process.pid, signal.SIGKILL)
    stage.room.process.wait(timeout=20)
    if stage.room.process.stdout:
        stage.room.process.stdout.close()
    stage.room.process = None


def start_again(stage: Stage) -> None:
    """Starts the server on the home as the kill left it; the clients connect anew."""
    stage.room.stop()
    stage.room.start()


def children(pid: int) -> list[int]:
    """Processes that a process started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            lines = dict(line.partition(":")[::2] for line in status.read_text().splitlines())
            if int(lines["PPid"]) == pid:
                found.append(int(status.parent.name))
    return found


def alive(pids: list[int]) -> list[int]:
    """Those of the processes that still run; one that nobody has waited for is dead all the same."""
    found = []
    for pid in pids:
        with suppress(OSError):
            if "State:\tZ" not in (Path("/proc") / str(pid) / "status").read_text():
                found.append(pid)
    return found


def check_log(stage: Stage) -> None:
    """The log is what its checkpoint says; decisions, uses, numbers and bits are gap-free and agree with the tables."""
    with closing(stage.room.read_database()) as database:
        bodies = [body for (body,) in database.execute("SELECT body FROM entry ORDER BY idx")]
        (size, root, checkpoint) = database.execute("SELECT size, root, checkpoint FROM head").fetchone()
        uses = dict(database.execute("SELECT granted_index, uses FROM consent"))
        sequence = dict(database.execute("SELECT institution, seq FROM sequence"))
        budget = {(t, i): b for t, i, b in database.execute("SELECT subject_tag, institution, bits_milli FROM budget")}
        answered = {idx for (idx,) in database.execute("SELECT idx FROM call")}
    assert (size, root) == (len(bodies), tree_hash([leaf_hash(body) for body in bodies]))
    policy = Policy.parse(stage.room.home.policy.read_text())
    assert policy.verify(checkpoint) == Checkpoint("heixia.test/log", size, root)
    entries = stage.room.entries()
    decisions = [(index, e) for index, e in enumerate(entries) if e["kind"] == "decision"]
    assert answered == {index for index, _ in decisions}
    numbered: dict[str, list[int]] = defaultdict(list)
    for entry in entries:
        if entry["kind"] in ("decision", "refusal") and entry["institution"]:
            numbered[entry["institution"]].append(entry["seq"])
    assert {name: list(range(1, last + 1)) for name, last in sequence.items()} == numbered
    used: dict[int, list[int]] = defaultdict(list)
    bits: Counter[tuple[str, str]] = Counter()
    for _, entry in decisions:
        used[entry["consent_index"]].append(entry["use"])
        bits[entry["subject_tag"], entry["institution"]] += entry["bits_milli"]
        assert bits[entry["subject_tag"], entry["institution"]] == entry["bits_total_milli"]
        assert entry["use"] <= entry["max_uses"]
    assert used == {index: list(range(1, n + 1)) for index, n in uses.items() if n}
    assert budget == dict(bits)
    assert len({e["request_hash"] for _, e in decisions}) == len(decisions)


def under_fire(stage: Stage, todo: list[Asked], answers: int) -> dict[Asked, Limit]:
    """Asks everything at once from sixteen threads and kills the server after so many answers."""
    got: dict[Asked, Limit] = {}
    enough, portal = threading.Event(), stage.room.portal

    def call(asked: Asked) -> None:
        with suppress(ConnectionFailed, Refused):
            got[asked] = ask(stage, asked, portal)
        if len(got) >= answers:
            enough.set()

    with ThreadPoolExecutor(16) as threads:
        ended = [threads.submit(call, asked) for asked in todo]
        assert enough.wait(30)
        kill(stage)
        assert all(future.exception() is None for future in ended)
    return got


def test_killed_in_the_middle_of_calls(stage: Stage) -> None:
    """After each kill the log is whole, what was answered is repeated byte for byte, the rest is answered once."""
    chance = random.Random(20261123)
    for _ in range(ROUNDS):
        companies = [next(COMPANIES) for _ in range(20)]
        consents = [(company, stage.consent(company, uses=3)) for company in companies]
        todo = [Asked(c, consent_id, str(uuid.uuid4())) for c, consent_id in consents for _ in range(3)]
        assert stage.room.process is not None
        walled = children(stage.room.process.pid)
        got = under_fire(stage, todo, chance.randrange(5, 30))
        assert 0 < len(got) < len(todo)
        check_log(stage)
        start_again(stage)
        assert alive(walled) == []
        for asked, limit in got.items():
            again = ask(stage, asked)
            assert (again.receipt.entry, again.yuan, again.valid_until) == (
                limit.receipt.entry,
                limit.yuan,
                limit.valid_until,
            )
        for asked in todo:
            assert ask(stage, asked).yuan in LEVELS
        check_log(stage)
    policy = Policy.parse(stage.room.home.policy.read_text())
    assert all(step.ok for step in verify_receipt(again.receipt, policy))
    assert json.loads(again.receipt.entry)["max_uses"] == 3


def test_a_graceful_stop_finishes_calls_in_flight(stage: Stage) -> None:
    """After SIGTERM what had begun is answered and is in the log; the process ends with 0 and its children with it."""
    room = stage.room
    room.stop()
    path = room.home.path / "heixia.toml"
    text = path.read_text()
    held = text.replace("release_quantum_ms = 0", "release_quantum_ms = 1000")
    path.write_text(held.replace("score_deadline_ms = 1000", "score_deadline_ms = 500"))
    room.start()
    process, portal = room.process, room.portal
    assert process is not None
    try:
        todo = [Asked(c, stage.consent(c), str(uuid.uuid4())) for c in (next(COMPANIES) for _ in range(12))]
        size, walled = len(room.entries()), children(process.pid)
        with ThreadPoolExecutor(12) as threads:
            calls = [threads.submit(ask, stage, asked, portal) for asked in todo]
            while sum(e["kind"] == "decision" for e in room.entries(size)) < 12:
                assert not any(call.done() and call.exception() for call in calls)
            os.kill(process.pid, signal.SIGTERM)
            assert {call.result().yuan for call in calls} <= set(LEVELS)
        assert process.wait(timeout=20) == 0
        with pytest.raises(ConnectionFailed):
            ask(stage, todo[0], portal)
        assert alive(walled) == []
        check_log(stage)
    finally:
        path.write_text(text)
        if process.poll() is not None:
            room.process = None
        room.stop()
        room.start()


def slow_model() -> bytes:
    """A model that takes its time to load: thousands of nodes in a row."""
    nodes = [helper.make_node("Sigmoid", [f"x{i}"], [f"x{i + 1}"]) for i in range(9_000)]
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("x9000", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def slow_bundle(stage: Stage, product: str) -> SealedBundle:
    """A sealed bundle whose inspection takes a while."""
    field = FieldSpec.of(FIELD, stage.room.catalog.fields)
    inputs = (ModelInput(name="x0", dtype="float32", fields=(FIELD,)),)
    model = Converted(slow_model(), (field,), inputs, ModelOutput(name="x9000", index=0))
    recipient = stage.room.alice.verify_enclave(ACCEPT).recipient()
    return stage.room.alice.seal(model, Offer(product, (0, 50_000)), recipient)


def uneven(stage: Stage, product: str) -> SealedBundle:
    """The same for two enclaves, the other one's key of another length than ours."""
    recipient = stage.room.alice.verify_enclave(ACCEPT).recipient()
    members: dict[str, Any] = {
        "schema": "heixia.manifest/v1",
        "product": product,
        "fields": [{"name": FIELD, "type": "number", "missing": "nan"}],
        "inputs": [{"name": "x0", "dtype": "float32", "fields": [FIELD]}],
        "output": {"name": "x9000", "index": 0},
        "levels": [0, 50_000],
        "limit_valid_days": 30,
        "data_max_age_days": 400,
        "recipients": ["0" * 16, recipient.key_id],
        "created": "2026-11-23T00:00:00.000Z",
    }
    content = encode_content(slow_model(), b"", [])
    parts = {"bundle": content, "model": slow_model(), "rules": b""}
    digests = {name: hashlib.sha256(part).hexdigest() for name, part in parts.items()}
    token = sign_manifest(make_manifest(**members, digests=digests), stage.room.alice.credentials.signing_key())
    sealed = seal_bundle(content, token, [recipient, recipient])
    return dataclasses.replace(sealed, sealed_keys=(b"short", sealed.sealed_keys[1]))


def submit_until_stored(stage: Stage, bundle: SealedBundle) -> tuple["Future[object]", ThreadPoolExecutor, Bank]:
    """Begins an upload and returns when its version is stored, inspected or not."""
    bank = Bank.connect(stage.room.server, stage.room.home.client(ALICE))
    threads, size = ThreadPoolExecutor(1), len(stage.room.entries())
    future: Future[object] = threads.submit(bank.submit, bundle)
    while not any(e["kind"] == "version.submitted" for e in stage.room.entries(size)):
        assert not future.done(), future.exception()
    return future, threads, bank


def states(stage: Stage) -> set[str]:
    """The states that versions are stored in."""
    with closing(stage.room.read_database()) as database:
        return {state for (state,) in database.execute("SELECT state FROM version")}


def await_judgements(stage: Stage) -> None:
    """Waits, as long as an inspection may take, until no version is left without a judgement."""
    begun = time.monotonic()
    while "submitted" in states(stage) and time.monotonic() - begun < 60:
        stage.room.auditor.checkpoint()
    assert "submitted" not in states(stage)


def test_killed_during_an_inspection(stage: Stage) -> None:
    """A version that was stored and not yet judged is judged at the next start."""
    future, threads, bank = submit_until_stored(stage, slow_bundle(stage, "zhongyuan/slow"))
    kill(stage)
    assert future.exception() is not None
    threads.shutdown()
    bank.close()
    assert "submitted" in states(stage)
    start_again(stage)
    await_judgements(stage)
    check_log(stage)


def test_an_upload_given_up_during_its_inspection_is_judged(stage: Stage) -> None:
    """A bank that hangs up while its model is inspected leaves no version without a judgement."""
    future, threads, bank = submit_until_stored(stage, slow_bundle(stage, "zhongyuan/given-up"))
    bank.close()
    assert future.exception() is not None
    threads.shutdown()
    await_judgements(stage)


def test_no_bank_can_keep_the_enclave_from_starting(stage: Stage) -> None:
    """A bundle that opens once and not again, given up during its inspection, does not stop the next start."""
    try:
        future, threads, bank = submit_until_stored(stage, uneven(stage, "zhongyuan/brick"))
    except AssertionError:
        return  # refused at once is right as well
    kill(stage)
    assert future.exception() is not None
    threads.shutdown()
    bank.close()
    try:
        start_again(stage)
    except RuntimeError:
        _mend(stage)
        raise
    await_judgements(stage)


def _mend(stage: Stage) -> None:
    """Lets the tests after this one go on where it failed."""
    with closing(sqlite3.connect(stage.room.home.database)) as database:
        database.execute("UPDATE version SET state = 'refused' WHERE state = 'submitted'")
        database.commit()
    stage.room.process = None
    stage.room.start()


def copy_home(stage: Stage, folder: Path) -> Home:
    """The home as it is now, for a service inside this process: clocks and moments can be chosen there."""
    shutil.copytree(stage.room.home.path, folder, ignore=shutil.ignore_patterns("heixia.db*"))
    with closing(stage.room.read_database()) as old, closing(sqlite3.connect(folder / "heixia.db")) as new:
        old.backup(new)
    return Home(folder)


async def test_time_of_use_is_the_time_of_the_commit(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A consent that ends between the first look and the commit is expired at the commit, by an injected clock."""
    company = next(COMPANIES)
    consent_id, subject = stage.consent(company), stage.world.subjects[company]
    monkeypatch.setattr(app, "utc_now", lambda: datetime.now(UTC) + timedelta(days=40))
    async with AsyncExitStack() as stack:
        service = await app.build(copy_home(stage, tmp_path / "home"), INSIDE, stack, lambda _: None)
        service.decider.clock = lambda: datetime.now(UTC)
        request = LimitRequest(str(uuid.uuid4()), consent_id, subject, PRODUCT, str(PORTAL))
        with pytest.raises(ConsentExpired):
            await service.decider.decide(request)


async def test_a_repeat_in_the_moment_of_the_commit_is_the_answer(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Between the commit and the ledger's knowing of it, a repeat of the request gets the answer, not a refusal."""
    company = next(COMPANIES)
    consent_id, subject = stage.consent(company), stage.world.subjects[company]
    async with AsyncExitStack() as stack:
        service = await app.build(copy_home(stage, tmp_path / "home"), INSIDE, stack, lambda _: None)
        request = LimitRequest(str(uuid.uuid4()), consent_id, subject, PRODUCT, str(PORTAL))
        committed, looked, write = threading.Event(), threading.Event(), service.ledger._batches.write

        def write_and_wait(changes: Any) -> Any:
            outcomes = write(changes)
            committed.set()
            looked.wait(10)
            return outcomes

        monkeypatch.setattr(service.ledger._batches, "write", write_and_wait)
        first = asyncio.create_task(service.decider.decide(request))
        assert await asyncio.to_thread(committed.wait, 10)
        again = asyncio.create_task(service.decider.decide(request))
        await asyncio.sleep(0)  # it has looked for the answer before its first await
        looked.set()
        answers = await asyncio.gather(first, again)
        assert answers[0].entry == answers[1].entry


@pytest.fixture(autouse=True)
def _goes_on(stage: Stage) -> Iterator[None]:
    """After each test the next good call is answered."""
    yield
    assert stage.room.answer(stage.world.subjects[next(COMPANIES)], PRODUCT, datasets_of(FIELDS)) in LEVELS
