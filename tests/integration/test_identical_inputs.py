"""The same input is answered the same for nothing; another input is paid for, or refused before anything is opened."""

import asyncio
import itertools
import json
import sqlite3
import urllib.request
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from audit.policy import Policy
from audit.receipt import verify_receipt
from enclave_api import app
from enclave_api.cli.example import FIELDS, LEVELS
from enclave_api.client.application import Application, Limit
from enclave_api.client.authority import Grant
from enclave_api.identity import Principal, Role
from enclave_api.service import Service
from sandbox.calls import Answer
from sandbox.decision import LimitRequest
from sandbox.disclosure import price_milli
from sandbox.errors import BudgetSpent, SubjectErased
from sandbox.jail.status import ScoreStatus
from sandbox.vault.sealing import digest
from tests.integration.conftest import PRODUCT, Stage
from tests.integration.test_kill_and_restart import INSIDE, copy_home
from tests.room import PORTAL, Room, datasets_of, refused

COMPANIES = itertools.count(210)
METRICS = "127.0.0.1:29466"
NAMES = datasets_of(FIELDS)
PRICE = price_milli(len(LEVELS))


def ask(stage: Stage, company: int, consent_id: str, client: Application | None = None) -> Limit:
    """One call under a fresh request id."""
    subject = stage.world.subjects[company]
    return (client or stage.room.portal).request_limit(subject=subject, product=PRODUCT, consent_id=consent_id)


def told(limit: Limit | Answer) -> dict[str, Any]:
    """The entry of an answer."""
    body = limit.receipt.entry if isinstance(limit, Limit) else limit.entry
    return dict(json.loads(body))


def bits(limit: Limit | Answer) -> tuple[int, int]:
    """What an answer cost, and the sum after it."""
    entry = told(limit)
    return entry["bits_milli"], entry["bits_total_milli"]


def load_again(room: Room, stage: Stage) -> None:
    """The first dataset is loaded again: the same values, under a new number."""
    room.load(stage.world, NAMES[:1])


def test_a_repeat_is_a_decision_that_costs_no_bits(stage: Stage) -> None:
    """Under new request ids: the same limit, a use, an entry, a number, a receipt of its own each; the sum stands."""
    company, policy = next(COMPANIES), Policy.parse(stage.room.home.policy.read_text())
    consent_id = stage.consent(company, uses=5)
    with stage.room.gains("decision", "decision", "decision", changes=["consent", "call", "sequence", "budget"]):
        first, *again = (ask(stage, company, consent_id) for _ in range(3))
    assert bits(first) == (PRICE, PRICE)
    assert [bits(limit) for limit in again] == [(0, PRICE), (0, PRICE)]
    assert {limit.yuan for limit in again} == {first.yuan}
    entries = [told(limit) for limit in (first, *again)]
    assert [entry["use"] for entry in entries] == [1, 2, 3]
    assert [entry["seq"] - entries[0]["seq"] for entry in entries] == [0, 1, 2]
    for member in ("limit", "outcome", "records_hash", "request_hash"):
        assert len({entry[member] for entry in entries}) == 3, f"{member} links answers without their salts"
    for limit in (first, *again):
        assert all(step.ok for step in verify_receipt(limit.receipt, policy))
        assert limit.valid_until - datetime.fromisoformat(told(limit)["time"]) == timedelta(days=30)


def test_whoever_asks_under_whichever_consent(stage: Stage) -> None:
    """Another application under another consent gets the answer of the first for nothing."""
    company = next(COMPANIES)
    first = ask(stage, company, stage.consent(company))
    other = stage.room.client(Application, Principal(Role.APPLICATION, "other-portal"))
    again = ask(stage, company, stage.consent(company), other)
    assert (again.yuan, bits(again)) == (first.yuan, (0, PRICE))


def test_many_at_once_pay_once(stage: Stage) -> None:
    """Colluding applications, many request ids, five consents, all at once: one answer is paid for, all are alike."""
    other = stage.room.client(Application, Principal(Role.APPLICATION, "other-portal"))
    for company in (next(COMPANIES) for _ in range(4)):
        consents = [stage.consent(company, uses=5) for _ in range(5)]
        with ThreadPoolExecutor(25) as threads:
            asked = itertools.product(consents, (None, other, None, other, None))
            work = [threads.submit(ask, stage, company, consent_id, client) for consent_id, client in asked]
            got = [call.result() for call in work]
        assert sorted(bits(limit) for limit in got) == [(0, PRICE)] * (len(got) - 1) + [(PRICE, PRICE)]
        assert len({limit.yuan for limit in got}) == 1


def test_another_input_is_paid_for(stage: Stage) -> None:
    """New record versions, and a version that was not asked before; going back to the first version costs nothing."""
    company = next(COMPANIES)
    consent_id, second = stage.consent(company, uses=5), stage.consent(company, uses=5)
    limits = [ask(stage, company, consent_id)]
    load_again(stage.room, stage)
    limits.append(ask(stage, company, consent_id))
    version = stage.room.launch(stage.example)
    limits += [ask(stage, company, consent_id) for _ in range(2)]
    stage.room.bob.rollback(PRODUCT)
    limits.append(ask(stage, company, second))
    assert [bits(limit)[0] for limit in limits] == [PRICE, PRICE, PRICE, 0, 0]
    assert told(limits[2])["version"] == version
    assert told(limits[4])["version"] == stage.version
    assert len({limit.yuan for limit in limits}) == 1


def test_answers_survive_a_kill(stage: Stage) -> None:
    """After SIGKILL and a new start a repeat still costs nothing, and the sum is what it was."""
    company = next(COMPANIES)
    first = ask(stage, company, stage.consent(company))
    subject = stage.world.subjects[company]
    before = stage.room.auditor.disclosure(subject)
    stage.room.kill()
    stage.room.start()
    assert stage.room.auditor.disclosure(subject) == before
    again = ask(stage, company, stage.consent(company))
    assert (again.yuan, bits(again)) == (first.yuan, (0, PRICE))


def test_a_spent_budget_opens_nothing_but_what_was_answered(stage: Stage, tmp_path: Path) -> None:
    """A repeat is answered; after a load nothing is decrypted, no model runs, no use is spent."""
    room = Room.make(tmp_path, budget_bits_per_year=4).start("--metrics", METRICS, "--step-metrics")
    try:
        room.load(stage.world, NAMES)
        room.launch(stage.example)
        subject = stage.world.subjects[0]
        consent_id = room.consent(subject, PRODUCT, NAMES, uses=5)
        ask_ = {"subject": subject, "product": PRODUCT, "consent_id": consent_id}
        first, again = (room.portal.request_limit(**ask_) for _ in range(2))
        assert (again.yuan, bits(again)) == (first.yuan, (0, PRICE))
        load_again(room, stage)
        with closing(sqlite3.connect(room.home.database)) as database:
            # Whoever opened a record now would get stored_value_corrupt.
            database.execute("UPDATE current SET body = zeroblob(length(body))")
            database.commit()
        for _ in range(3):
            with room.gains("refusal", changes=["sequence"]), refused("budget_spent"):
                room.portal.request_limit(**ask_)
        with urllib.request.urlopen(f"http://{METRICS}/metrics") as page:
            metrics = page.read().decode()
        for step in ("join", "score", "commit"):
            assert f'heixia_decision_step_seconds_count{{step="{step}"}} 2.0' in metrics
        assert room.office.get(consent_id).uses == 2
    finally:
        room.stop()


class Inside:
    """A service inside this process on a copy of the stage's home: its clock, budget and model can be chosen."""

    def __init__(self, service: Service, stage: Stage) -> None:
        self.service, self.stage, self.now = service, stage, datetime.now(UTC)
        self.company = next(COMPANIES)
        self.subject = stage.world.subjects[self.company]
        service.decider.clock = lambda: self.now

    async def consent(self, uses: int = 5) -> str:
        """A consent that begins at the chosen time."""
        office = self.stage.room.office
        raw = office.sign(Grant(self.subject, "zhongyuan", [PRODUCT], NAMES, 31, uses), self.now)
        return (await self.service.consents.register(raw, "consent-office")).consent_id

    async def ask(self, consent_id: str) -> Answer:
        """One call under a fresh request id."""
        request = LimitRequest(str(uuid.uuid4()), consent_id, self.subject, PRODUCT, str(PORTAL))
        return await self.service.decider.decide(request)

    def execute(self, *statements: str) -> None:
        """Changes rows behind the service's back."""
        with self.service.consents.engine.connect() as connection, connection.begin():
            for statement in statements:
                connection.exec_driver_sql(statement)

    def model_says(self, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
        """From now on the walled process answers so, as a model that keeps count of its calls would."""

        async def score(*_: object) -> object:
            return replace(await kept(*_), value=value, status=ScoreStatus.OK)

        pool = self.service.versions.pool
        kept = type(pool).score.__get__(pool)
        monkeypatch.setattr(pool, "score", score)


@pytest.fixture
async def inside(stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Inside]:
    """Built once a test; the ledger's clock is the chosen one too."""
    made: list[Inside] = []
    monkeypatch.setattr(app, "utc_now", lambda: made[0].now if made else datetime.now(UTC))
    async with AsyncExitStack() as stack:
        service = await app.build(copy_home(stage, tmp_path / "home"), INSIDE, stack, lambda _: None)
        made.append(Inside(service, stage))
        yield made[0]


async def test_the_stored_limit_wins(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that answers the same input otherwise the second time tells nothing by it."""
    consent_id = await inside.consent()
    inside.model_says(monkeypatch, float(LEVELS[2]))
    first = await inside.ask(consent_id)
    inside.model_says(monkeypatch, float(LEVELS[5]))
    again = await inside.ask(consent_id)
    assert (first.limit, again.limit) == (LEVELS[2], LEVELS[2])
    # The control: for another input the model's word counts.
    inside.execute(f"DELETE FROM current WHERE dataset = '{NAMES[0]}'")
    assert (await inside.ask(consent_id)).limit == LEVELS[5]


async def test_a_budget_lowered_below_what_was_spent(inside: Inside) -> None:
    """Repeats are answered, their sum above the budget; anything else is refused."""
    consent_id = await inside.consent()
    first = await inside.ask(consent_id)
    decider = inside.service.decider
    decider.settings = replace(decider.settings, budget_milli=PRICE - 1)
    again = await inside.ask(consent_id)
    assert (again.limit, bits(again)) == (first.limit, (0, PRICE))
    inside.execute(f"DELETE FROM current WHERE dataset = '{NAMES[0]}'")
    with pytest.raises(BudgetSpent):
        await inside.ask(consent_id)


async def test_a_new_year_begins_at_nothing(inside: Inside) -> None:
    """On the first of January a repeat is still free and the sum 0; a new answer is the new year's."""
    inside.now = datetime(inside.now.year, 12, 31, 23, 59, 59, tzinfo=UTC)
    consent_id = await inside.consent()
    first = await inside.ask(consent_id)
    inside.now += timedelta(seconds=2)
    again = await inside.ask(consent_id)
    assert (again.limit, bits(first), bits(again)) == (first.limit, (PRICE, PRICE), (0, 0))
    inside.execute(f"DELETE FROM current WHERE dataset = '{NAMES[0]}'")
    assert bits(await inside.ask(consent_id)) == (PRICE, PRICE)


async def test_a_clock_that_goes_back_opens_no_older_budget(inside: Inside) -> None:
    """Set back over New Year, calls are the log's year's: its spent budget refuses before anything is opened."""
    inside.now = datetime(inside.now.year + 1, 1, 1, tzinfo=UTC)
    consent_id = await inside.consent()
    assert bits(await inside.ask(consent_id)) == (PRICE, PRICE)
    decider = inside.service.decider
    decider.settings = replace(decider.settings, budget_milli=PRICE)
    inside.now = datetime(inside.now.year - 1, 12, 31, 23, tzinfo=UTC)
    inside.execute(
        f"DELETE FROM current WHERE dataset = '{NAMES[0]}'", "UPDATE current SET body = zeroblob(length(body))"
    )
    earlier = await inside.consent()
    with pytest.raises(BudgetSpent):
        await inside.ask(earlier)


async def test_an_erased_key_takes_its_answers_along(inside: Inside) -> None:
    """Without the subject's key nothing is answered; when the company consents anew, its first answer is a new one."""
    consent_id = await inside.consent()
    await inside.ask(consent_id)
    inside.execute("DELETE FROM subject_key")
    with pytest.raises(SubjectErased):
        await inside.ask(consent_id)
    anew = await inside.consent()
    assert [bits(await inside.ask(anew)) for _ in range(2)] == [(PRICE, 2 * PRICE), (0, 2 * PRICE)]


async def test_the_database_links_no_answer_to_its_records(inside: Inside) -> None:
    """What a row is found by takes a key: tag, version and numbers of loads alone, all in the log, do not do."""
    entry = told(await inside.ask(await inside.consent()))
    service = inside.service
    version = await service.versions.ready(entry["version"])
    loads = service.vault.join(version.plan, inside.subject, 0).versions
    read = "\n".join(f"{name} {load or 0}" for name, load in zip(version.plan.datasets, loads, strict=True))
    parts = [part.encode() for part in (entry["subject_tag"], entry["version"], read)]
    with service.consents.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT input_hash FROM call").scalars().all()
    assert service.vault.keys.input_hash(*parts) in rows
    assert digest(*parts) not in rows


async def test_calls_that_overlap_pay_once(inside: Inside) -> None:
    """Three calls under three consents read before any of them commits: the commit decides, and charges one."""
    consents = [await inside.consent() for _ in range(3)]
    answers = await asyncio.gather(*(inside.ask(consent_id) for consent_id in consents))
    assert sorted(bits(answer) for answer in answers) == [(0, PRICE), (0, PRICE), (PRICE, PRICE)]
