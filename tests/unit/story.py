"""A made-up log of any length in which everything is right: every kind of entry, several banks, many companies.

For testing the check of a whole log. Deterministic by its seed.
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from audit import kinds as entries
from audit.event import encode, format_time
from audit.kinds import Event

Told = tuple[Event, datetime]

START = datetime(2026, 12, 30, 20, tzinfo=UTC)  # two days before a new year, a new ISO week and a new month
PRICE = 2585  # of an answer out of six levels
BANKS = ("north", "south", "east")
CODES = ("consent_exhausted", "consent_revoked", "budget_spent", "product_unknown")


def named(*parts: object) -> str:
    """A digest that stands for something."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


@dataclass
class Consent:
    """A consent that may still be used."""

    event: entries.ConsentGranted
    index: int
    uses: int = 0


@dataclass
class Story:
    """Entries in the making. Every method appends what its name says, and keeps count as the room would."""

    seed: int = 1
    step: timedelta = timedelta(milliseconds=700)
    told: list[Told] = field(default_factory=list)
    time: datetime = START
    seqs: dict[str, int] = field(default_factory=dict)
    sums: dict[tuple[str, str, int], int] = field(default_factory=dict)
    champions: dict[str, entries.VersionSubmitted] = field(default_factory=dict)
    promoted: dict[str, int] = field(default_factory=dict)  # product → the entry that made its champion
    numbers: dict[str, int] = field(default_factory=dict)
    answered: set[tuple[str, str]] = field(default_factory=set)
    epoch: int = 0
    destroyed: int = 0  # how many epochs are

    def __post_init__(self) -> None:
        """Begins with a start of the room."""
        self.random = random.Random(self.seed)
        self.start()

    def tell(self, event: Event) -> int:
        """Appends; returns the index."""
        self.time += self.step
        self.told.append((event, self.time))
        return len(self.told) - 1

    def start(self) -> None:
        """A process began to serve."""
        self.tell(entries.EnclaveStarted(self.evidence, "simulated", "one-shot", "0.1.0", self.epoch, self.key_id))

    @property
    def evidence(self) -> str:
        """The evidence's hash, which changes with the key."""
        return named("evidence", self.epoch)

    @property
    def key_id(self) -> str:
        """The newest key's."""
        return named("key", self.epoch)[:16]

    def rotate(self, overlap: timedelta = timedelta(days=30), **lies: Any) -> int:
        """An operator rotated the key."""
        self.epoch += 1
        until = format_time(self.time + self.step + overlap)
        event = entries.KeyRotated(self.epoch, self.key_id, self.evidence, "operator/operations", until)
        return self.tell(replace(event, **lies))

    def destroy(self, epoch: int, **lies: Any) -> int:
        """An older epoch's key was destroyed."""
        return self.tell(replace(entries.KeyDestroyed(epoch, named("key", epoch)[:16]), **lies))

    def load(self, dataset: str, loads: int = 1) -> None:
        """A department published a dataset, loaded it, stopped it and opened it again."""
        by = f"steward/{dataset.partition('.')[0]}"
        self.tell(entries.DatasetPublished(dataset, by, 12, named("catalog")))
        for load in range(1, loads + 1):
            moment = format_time(self.time)
            self.tell(entries.DatasetLoaded(dataset, by, load, 300, named(dataset, load), moment))
        self.tell(entries.DatasetSuspended(dataset, by, "maintenance"))
        self.tell(entries.DatasetResumed(dataset, by, "maintenance"))

    def submit(self, product: str, model_of: str | None = None) -> entries.VersionSubmitted:
        """A version was submitted and admitted."""
        bank = product.partition("/")[0]
        number = self.numbers[product] = self.numbers.get(product, 0) + 1
        name = f"{product}@{number}"
        manifest, bundle, model, rules = (named(name, part) for part in ("manifest", "bundle", "model", "rules"))
        by = f"institution/{bank}/alice"
        event = entries.VersionSubmitted(bank, name, manifest, bundle, model, rules, by, model_of)
        self.tell(event)
        self.tell(entries.VersionAdmitted(name))
        return event

    def launch(self, product: str) -> entries.VersionSubmitted:
        """A version was submitted, admitted, approved and promoted."""
        event = self.submit(product)
        by, before = f"institution/{event.institution}/bob", self.champions.get(product)
        self.tell(entries.VersionApproved(event.version, by))
        since = self.promoted.get(product)
        self.promoted[product] = self.tell(
            entries.VersionPromoted(event.version, by, before.version if before else None, since)
        )
        self.champions[product] = event
        return event

    def hold_back(self, product: str) -> None:
        """A champion was held back by its bank and by the operator, and let go by both."""
        version, bank = self.champions[product].version, product.partition("/")[0]
        for by in (f"institution/{bank}/bob", "operator/operations"):
            self.tell(entries.VersionSuspended(version, by, "security"))
        for by in (f"institution/{bank}/alice", "operator/operations"):
            self.tell(entries.VersionResumed(version, by, "security"))

    def grant(self, product: str, company: int, **terms: Any) -> Consent:
        """A company consented."""
        number = len(self.told)
        event = entries.ConsentGranted(
            consent=f"{number:08x}-0000-4000-8000-{company:012x}",
            consent_hash=named("consent", number),
            authority="consent-office",
            institution=product.partition("/")[0],
            products=(product,),
            purpose="precredit",
            subject_tag=named("company", company)[:32],
            field_set_hash=named("fields"),
            not_before=format_time(self.time),
            expires=format_time(self.time + timedelta(days=31)),
            max_uses=5,
            frequency_unit=None,
            frequency=None,
            replaces=None,
        )
        event = replace(event, **terms)
        return Consent(event, self.tell(event))

    def decide(self, consent: Consent, *, free: bool = False, **lies: Any) -> int:
        """A call was answered."""
        terms, product = consent.event, consent.event.products[0]
        version = self.champions[product]
        consent.uses += 1
        free = free and (terms.subject_tag, version.version) in self.answered
        account = (terms.subject_tag, terms.institution, (self.time + self.step).year)
        bits = 0 if free else PRICE
        self.sums[account] = self.sums.get(account, 0) + bits
        self.answered.add((terms.subject_tag, version.version))
        number = len(self.told)
        event = entries.Decision(
            request_hash=named("request", number),
            caller="application/portal",
            institution=terms.institution,
            product=product,
            version=version.version,
            bundle_hash=version.bundle_hash,
            rules_hash=version.rules_hash,
            evidence_hash=self.evidence,
            evidence_format="simulated",
            consent_hash=terms.consent_hash,
            consent_index=consent.index,
            use=consent.uses,
            max_uses=terms.max_uses,
            subject_tag=terms.subject_tag,
            field_set_hash=named("read"),
            records_hash=named("records", number),
            outcome=named("outcome", number),
            limit=named("limit", number),
            bits_milli=bits,
            bits_total_milli=self.sums[account],
            isolation="one-shot",
            seq=self._number(terms.institution),
        )
        return self.tell(replace(event, **lies))

    def refuse(self, bank: str, code: str = "consent_unknown", **lies: Any) -> int:
        """A call was refused."""
        request = named("request", len(self.told))
        product = f"{bank}/loan" if bank else ""
        seq = self._number(bank) if bank else 0
        event = entries.Refusal(code, "application/portal", request, bank, product, None, None, None, seq)
        return self.tell(replace(event, **lies))

    def change(self, kind: type[Event], consent: Consent) -> int:
        """A consent was paused, resumed or revoked."""
        return self.tell(kind(consent.event.consent, "authority/consent-office", "subject-request"))  # type: ignore[call-arg]

    def bodies(self) -> Iterator[bytes]:
        """The entries."""
        return (encode(event, time) for event, time in self.told)

    def _number(self, bank: str) -> int:
        self.seqs[bank] = self.seqs.get(bank, 0) + 1
        return self.seqs[bank]


def busy(size: int, seed: int = 1, step: timedelta = timedelta(milliseconds=700)) -> Story:
    """A room of about `size` entries, half of them decisions."""
    story = Story(seed, step)
    story.load("tax.declaration")
    products = [f"{bank}/{name}" for bank in BANKS for name in ("loan", "card")]
    for product in products:
        story.launch(product)
    open_: list[Consent] = []
    while len(story.told) < size:
        _live_on(story, products, open_)
    return story


def _live_on(story: Story, products: list[str], open_: list[Consent]) -> None:
    dice = story.random.random()
    if dice < 0.2 or not open_:
        company, product = story.random.randrange(1 << 20), story.random.choice(products)
        terms: dict[str, Any] = {"frequency_unit": story.random.choice(("day", "week", "month")), "frequency": 5}
        open_.append(story.grant(product, company, **(terms if dice < 0.05 else {})))
        return
    at = story.random.randrange(max(0, len(open_) - 1_000), len(open_))  # an old consent has ended
    if dice < 0.7:
        story.decide(open_[at], free=dice < 0.25)
        if open_[at].uses == open_[at].event.max_uses:
            del open_[at]
    elif dice < 0.9:
        story.refuse(story.random.choice((*BANKS, "")), story.random.choice(CODES))
    elif dice < 0.94:
        story.change(entries.ConsentPaused, open_[at])
        story.change(entries.ConsentResumed, open_[at])
    elif dice < 0.98:
        story.change(entries.ConsentRevoked, open_.pop(at))
    elif dice < 0.99:
        story.hold_back(story.random.choice(products))
    elif dice < 0.995:
        story.launch(story.random.choice(products))
    elif dice < 0.997:
        story.tell(entries.AuditRead("auditor/audit-office", "entries"))
    elif dice < 0.998:
        _turn_keys(story)
    else:
        story.start()


def _turn_keys(story: Story) -> None:
    story.rotate(timedelta(0))
    while story.destroyed < story.epoch:
        story.destroy(story.destroyed)
        story.destroyed += 1
    story.rotate()
