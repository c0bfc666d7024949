"""One lie for each law of the replay, told by an operator who holds the log's key: found, and at the right index."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit import kinds as entries
from audit.event import encode, format_time
from audit.findings import Verdict
from sandbox.replay.laws import TEXTS
from tests.unit.logs import check
from tests.unit.story import BANKS, PRICE, Consent, Story, busy, named

PRODUCT, CARD = "north/loan", "north/card"
BOB = "institution/north/bob"


def day() -> Story:
    """A room with one dataset and two champions."""
    story = Story()
    story.load("tax.declaration")
    story.launch(PRODUCT)
    story.launch(CARD)
    story.launch("south/loan")
    return story


def used(story: Story, times: int = 1, product: str = PRODUCT, **terms: Any) -> Consent:
    """A consent that was used."""
    consent = story.grant(product, 1, **terms)
    for _ in range(times):
        story.decide(consent)
    return consent


def _wait(story: Story, **span: float) -> None:
    story.time += timedelta(**span)


def _double(story: Story) -> int:
    return story.tell(used(story).event)


def _malformed(story: Story) -> int:
    return story.grant(PRODUCT, 1, max_uses=6).index


def _late(story: Story) -> int:
    consent = story.grant(PRODUCT, 2)
    _wait(story, days=32)
    return story.tell(replace(consent.event, consent="other"))


def _unknown(story: Story) -> int:
    return story.decide(story.grant(PRODUCT, 1), consent_index=0)


def _transition(story: Story) -> int:
    consent = used(story)
    story.change(entries.ConsentRevoked, consent)
    return story.change(entries.ConsentResumed, consent)


def _replaced(story: Story) -> int:
    old = used(story)
    story.change(entries.ConsentRevoked, old)
    return story.grant(PRODUCT, 1, replaces=old.event.consent).index


def _authority(story: Story) -> int:
    consent = used(story)
    _end_authority(story)
    return story.decide(consent)


def _end_authority(story: Story) -> int:
    return story.tell(entries.AuthorityRevoked("consent-office", "operator/operations", "legal-order"))


def _authority_grants(story: Story) -> int:
    _end_authority(story)
    return story.grant(PRODUCT, 1).index


def _authority_twice(story: Story) -> int:
    _end_authority(story)
    return _end_authority(story)


def _pause_invalidated(story: Story) -> int:
    consent = used(story)
    _end_authority(story)
    return story.change(entries.ConsentPaused, consent)


def _replaced_for_another_purpose(story: Story) -> int:
    old = used(story)
    story.change(entries.ConsentPaused, old)
    return story.grant(
        PRODUCT, 1, replaces=old.event.consent, purpose="monitoring", frequency_unit="day", frequency=1
    ).index


def _erased_twice(story: Story) -> int:
    tag = used(story).event.subject_tag
    story.tell(entries.SubjectErased(tag, "subject"))
    return story.tell(entries.SubjectErased(tag, "subject"))


def _free_after_erasure(story: Story) -> int:
    consent = used(story)
    story.tell(entries.SubjectErased(consent.event.subject_tag, "subject"))
    return story.decide(story.grant(PRODUCT, 1), free=True)


def _paused(story: Story) -> int:
    consent = used(story)
    story.change(entries.ConsentPaused, consent)
    return story.decide(consent)


def _ended(story: Story) -> int:
    consent = used(story)
    story.change(entries.ConsentRevoked, consent)
    return story.decide(consent)


def _superseded(story: Story) -> int:
    old = used(story)
    story.grant(PRODUCT, 1, replaces=old.event.consent)
    return story.decide(old)


def _erased(story: Story) -> int:
    consent = used(story)
    story.tell(entries.SubjectErased(consent.event.subject_tag, "authority/consent-office"))
    return story.decide(consent)


def _early(story: Story) -> int:
    return story.decide(story.grant(PRODUCT, 1, not_before=format_time(story.time + timedelta(days=1))))


def _expired(story: Story) -> int:
    consent = used(story)
    _wait(story, days=31)
    return story.decide(consent)


def _fifth_is_last(story: Story) -> int:
    return story.decide(used(story, 5))


def _twice_a_day(story: Story) -> int:
    return story.decide(used(story, 1, frequency_unit="day", frequency=1))


def _unknown_version(story: Story) -> int:
    return story.tell(entries.VersionApproved("north/loan@9", BOB))


def _number(story: Story) -> int:
    story.numbers[PRODUCT] = 7
    story.submit(PRODUCT)
    return len(story.told) - 2


def _owner(story: Story) -> int:
    version = story.submit(PRODUCT).version
    return story.tell(entries.VersionApproved(version, "institution/south/bob"))


def _unadmitted(story: Story) -> int:
    version = story.submit(PRODUCT).version
    return story.tell(entries.VersionPromoted(version, BOB, story.champions[PRODUCT].version, story.promoted[PRODUCT]))


def _alone(story: Story) -> int:
    version = story.submit(PRODUCT)
    return story.tell(entries.VersionApproved(version.version, version.by))


def _previous(story: Story) -> int:
    return story.tell(entries.VersionPromoted(story.champions[PRODUCT].version, BOB, None, None))


def _previous_index(story: Story) -> int:
    version = story.submit(PRODUCT).version
    story.tell(entries.VersionApproved(version, BOB))
    return story.tell(entries.VersionPromoted(version, BOB, story.champions[PRODUCT].version, 0))


def _champion_again(story: Story) -> int:
    champion = story.champions[PRODUCT].version
    return story.tell(entries.VersionPromoted(champion, BOB, champion, story.promoted[PRODUCT]))


def _rolled_back_to_unapproved(story: Story) -> int:
    admitted = story.submit(PRODUCT).version
    champion = story.launch(PRODUCT).version
    return story.tell(entries.VersionPromoted(admitted, BOB, champion, story.promoted[PRODUCT]))


def _rules_for(base: Callable[[Story], str]) -> Callable[[Story], int]:
    def lie(story: Story) -> int:
        story.submit(PRODUCT, base(story))
        return len(story.told) - 2

    return lie


def _gone(story: Story) -> str:
    version = story.submit(PRODUCT).version
    story.tell(entries.VersionRetired(version, BOB))
    return version


def _unjudged(story: Story) -> str:
    version = story.submit(PRODUCT).version
    story.told.pop()  # its admission
    return version


def _retired_champion(story: Story) -> int:
    return story.tell(entries.VersionRetired(story.champions[PRODUCT].version, BOB))


def _anothers_hold(story: Story) -> int:
    version = story.champions[PRODUCT].version
    story.tell(entries.VersionSuspended(version, "operator/operations", "security"))
    return story.tell(entries.VersionResumed(version, BOB, "security"))


def _old_champion(story: Story) -> int:
    old = story.champions[PRODUCT]
    story.launch(PRODUCT)
    return story.decide(story.grant(PRODUCT, 1), version=old.version, bundle_hash=old.bundle_hash)


def _held_back(story: Story) -> int:
    story.tell(entries.VersionSuspended(story.champions[PRODUCT].version, BOB, "security"))
    return story.decide(story.grant(PRODUCT, 1))


def _retired(story: Story) -> int:
    story.tell(entries.VersionRetired(story.champions[PRODUCT].version, BOB))
    return story.decide(story.grant(PRODUCT, 1))


def _lie(**lies: Any) -> Callable[[Story], int]:
    return lambda story: story.decide(used(story), **lies)


def _by(kind: Callable[[str, str, str], entries.Event], by: str) -> Callable[[Story], int]:
    return lambda story: story.tell(kind(used(story).event.consent, by, "security"))


def _resumed_by_operator(story: Story) -> int:
    consent = used(story)
    story.change(entries.ConsentPaused, consent)
    return story.tell(entries.ConsentResumed(consent.event.consent, "operator/operations", "security"))


def _erased_by_a_revoked_authority(story: Story) -> int:
    tag = used(story).event.subject_tag
    _end_authority(story)
    return story.tell(entries.SubjectErased(tag, "authority/consent-office"))


def _loaded_by_another(story: Story) -> int:
    moment = format_time(story.time)
    return story.tell(entries.DatasetLoaded("tax.declaration", "steward/water", 2, 3, named("load"), moment))


def _load_twice(story: Story) -> int:
    event, _ = story.told[2]
    return story.tell(event)


def _destroyed_twice(story: Story) -> int:
    story.rotate(timedelta(0))
    story.destroy(0)
    return story.destroy(0)


def _out_of_order(story: Story) -> int:
    story.rotate(timedelta(0))
    story.rotate(timedelta(0))
    return story.destroy(1)


def _newest_destroyed(story: Story) -> int:
    story.rotate(timedelta(0))
    story.destroy(0)
    return story.destroy(1)


def _another_key_destroyed(story: Story) -> int:
    story.rotate(timedelta(0))
    return story.destroy(0, key_id=named("another")[:16])


def _destroyed_early(story: Story) -> int:
    story.rotate(timedelta(days=30))
    _wait(story, days=29)
    return story.destroy(0)


def _destroyed_before_the_nearer_date(story: Story) -> int:
    story.rotate(timedelta(days=30))
    story.rotate(timedelta(days=1))
    _wait(story, hours=23)
    return story.destroy(0)


def _old_key_started(story: Story) -> int:
    story.rotate()
    story.epoch = 0
    story.start()
    return len(story.told) - 1


def _old_evidence(story: Story) -> int:
    story.rotate()
    return story.decide(used(story), evidence_hash=named("evidence", 0))


LIES: list[tuple[str, Callable[[Story], int]]] = [
    ("consent_double", _double),
    ("consent_malformed", _malformed),
    ("consent_malformed", lambda story: story.grant(PRODUCT, 1, products=(PRODUCT, "south/loan")).index),
    ("consent_malformed", lambda story: story.grant(PRODUCT, 1, purpose="marketing").index),
    ("consent_malformed", lambda story: story.grant(PRODUCT, 1, frequency_unit="decade", frequency=1).index),
    ("consent_malformed", lambda story: story.grant(PRODUCT, 1, frequency_unit="day").index),
    ("consent_malformed", lambda story: story.grant(PRODUCT, 1, expires=format_time(story.time)).index),
    ("consent_late", _late),
    ("consent_unknown", _unknown),
    ("consent_unknown", lambda story: story.tell(entries.ConsentRevoked("none", "authority/x", "security"))),
    ("consent_transition", _transition),
    ("consent_replaced", _replaced),
    ("consent_replaced", lambda story: story.grant(PRODUCT, 1, replaces="none").index),
    ("consent_replaced", lambda story: story.grant(PRODUCT, 2, replaces=used(story).event.consent).index),
    ("authority_unknown", _authority),
    ("authority_unknown", _authority_grants),
    ("authority_unknown", _authority_twice),
    ("consent_transition", _pause_invalidated),
    ("consent_replaced", _replaced_for_another_purpose),
    ("subject_unknown", _erased_twice),
    ("actor_foreign", _by(entries.ConsentPaused, "authority/another")),
    ("actor_foreign", _by(entries.ConsentPaused, "subject")),
    ("actor_foreign", _by(entries.ConsentRevoked, "operator/operations")),
    ("actor_foreign", _resumed_by_operator),
    ("actor_foreign", lambda story: story.tell(entries.AuthorityRevoked("x", "authority/y", "security"))),
    ("actor_foreign", lambda story: story.tell(entries.SubjectErased(used(story).event.subject_tag, "auditor/a"))),
    ("actor_foreign", _erased_by_a_revoked_authority),
    ("actor_foreign", lambda story: story.tell(entries.DatasetResumed("tax.declaration", "steward/water", "x"))),
    ("actor_foreign", lambda story: story.tell(entries.DatasetPublished("water.use", "operator/o", 1, named("c")))),
    ("actor_foreign", _loaded_by_another),
    ("consent_malformed", lambda story: story.grant(PRODUCT, 1, purpose="monitoring").index),
    (
        "consent_malformed",
        lambda story: story.grant(PRODUCT, 1, purpose="monitoring", frequency_unit="day", frequency=2).index,
    ),
    (
        "consent_malformed",
        lambda story: story.grant(PRODUCT, 1, purpose="monitoring", frequency_unit="decade", frequency=1).index,
    ),
    ("bits_free", _free_after_erasure),
    ("consent_hash", _lie(consent_hash=named("another"))),
    ("consent_binding", _lie(subject_tag="ab" * 16)),
    ("consent_binding", lambda story: story.decide(used(story, product=CARD), product=PRODUCT)),
    ("consent_paused", _paused),
    ("consent_ended", _ended),
    ("consent_ended", _superseded),
    ("consent_erased", _erased),
    ("consent_window", _early),
    ("consent_window", _expired),
    ("use_number", _lie(use=1)),
    ("use_number", _lie(use=3)),
    ("use_max", _lie(max_uses=4)),
    ("use_exceeded", _fifth_is_last),
    ("frequency_exceeded", _twice_a_day),
    ("version_unknown", _unknown_version),
    ("version_number", _number),
    ("version_owner", _owner),
    ("version_transition", _unadmitted),
    ("version_self_approved", _alone),
    ("version_transition", _champion_again),
    ("version_transition", _rolled_back_to_unapproved),
    ("version_base", _rules_for(lambda _: "north/loan@9")),
    ("version_base", _rules_for(lambda story: story.champions["south/loan"].version)),
    ("version_base", _rules_for(lambda story: story.champions[CARD].version)),
    ("version_base", _rules_for(lambda story: story.submit(PRODUCT, story.champions[PRODUCT].version).version)),
    ("version_base", _rules_for(_gone)),
    ("version_base", _rules_for(_unjudged)),
    ("version_previous", _previous),
    ("version_previous", _previous_index),
    ("version_champion", _retired_champion),
    ("version_switch", _anothers_hold),
    ("not_champion", _old_champion),
    ("version_suspended", _held_back),
    ("version_unapproved", _retired),
    ("bundle_hash", _lie(bundle_hash=named("another"))),
    ("bundle_hash", _lie(rules_hash=named("another"))),
    ("evidence_hash", _lie(evidence_hash=named("another"))),
    ("evidence_hash", _lie(isolation="warm")),
    ("evidence_hash", _old_evidence),
    ("key_epoch", lambda story: story.rotate(epoch=2)),
    ("key_epoch", lambda story: story.rotate(key_id=named("key", 0)[:16])),
    ("actor_foreign", lambda story: story.rotate(by="institution/north/bob")),
    ("key_until", lambda story: story.rotate(timedelta(seconds=-1))),
    ("key_until", lambda story: story.rotate(timedelta(days=367))),
    ("key_start", _old_key_started),
    ("key_destroyed", _destroyed_twice),
    ("key_destroyed", _out_of_order),
    ("key_destroyed", _newest_destroyed),
    ("key_destroyed", _another_key_destroyed),
    ("key_early", _destroyed_early),
    ("key_early", _destroyed_before_the_nearer_date),
    ("seq_gap", _lie(seq=3)),
    ("seq_gap", lambda story: story.refuse("north", seq=2)),
    ("seq_gap", lambda story: story.refuse("", seq=1)),
    ("bits_sum", _lie(bits_total_milli=PRICE)),
    ("bits_price", _lie(bits_milli=PRICE - 1, bits_total_milli=2 * PRICE - 1)),
    ("bits_free", lambda story: story.decide(story.grant(PRODUCT, 9), bits_milli=0, bits_total_milli=0)),
    ("dataset_unknown", lambda story: story.tell(entries.DatasetResumed("water.use", "steward/water", "security"))),
    ("dataset_load", _load_twice),
]
TABLES = {"row_missing", "row_superfluous", "row_differs", "version_steward"}  # tests/integration/test_fsck_tables.py


def test_every_law_has_a_lie() -> None:
    """No law stands there that nobody ever saw broken."""
    assert {code for code, _ in LIES} == set(TEXTS) - TABLES


@pytest.mark.parametrize(("code", "lie"), LIES, ids=lambda part: part if isinstance(part, str) else "")
def test_a_lie_is_found(code: str, lie: Callable[[Story], int]) -> None:
    """The log is what was signed, and still broken: the law is named, at the entry that broke it first."""
    story = day()
    index = lie(story)
    story.refuse("north")
    report = check(list(story.bodies()))
    assert report.verdicts == (Verdict.SOUND, Verdict.BROKEN)
    assert report.exit_code == 1
    # Whoever scores unapproved has retired a champion, or promoted what was not approved, before.
    assert report.first_bad == index or code == "version_unapproved"
    assert (code, index) in {(one.code, one.index) for one in report.completeness.listed}


def test_rules_alone_are_sound_while_their_model_is_kept() -> None:
    """A retired version's model goes on under others' rules, by its own name, and a department may stop a version."""
    story = day()
    base = story.submit(PRODUCT).version
    derived = story.submit(PRODUCT, base).version
    story.tell(entries.VersionRetired(base, BOB))
    story.submit(PRODUCT, base)
    story.tell(entries.VersionSuspended(derived, "steward/tax", "data-error"))
    story.tell(entries.VersionResumed(derived, "steward/tax", "data-error"))
    report = check(list(story.bodies()))
    assert (report.exit_code, report.completeness.listed) == (0, [])


def test_findings_are_bounded_and_counted() -> None:
    """A log with a thousand lies lists the first hundred, and says how many there are."""
    story = day()
    first = [story.refuse("north", seq=1) for _ in range(1_000)][1]
    report = check(list(story.bodies()))
    assert (report.first_bad, len(report.completeness.listed)) == (first, 100)
    assert report.completeness.counts == {"seq_gap": 999}


@pytest.mark.parametrize("seed", range(3))
def test_honest_rooms_are_sound(seed: int) -> None:
    """Over the turn of a year, a month and a week, with every kind of entry."""
    story = busy(3_000, seed, timedelta(minutes=2))
    report = check(list(story.bodies()))
    assert (report.exit_code, report.completeness.listed) == (0, [])
    assert len({time.year for _, time in story.told}) == 2


@pytest.mark.parametrize("days", [(1, 30), (30, 1)])
def test_a_key_ends_at_the_nearer_date(days: tuple[int, int]) -> None:
    """Whichever of two rotations named it: from that very millisecond on its destruction is in order."""
    story = day()
    first = [story.rotate(timedelta(days=count)) for count in days][days.index(1)]
    story.time = story.told[first][1] + timedelta(days=1) - story.step
    story.destroy(0)
    assert check(list(story.bodies())).completeness.listed == []


def _frequency_story(unit: str) -> tuple[Story, Consent]:
    story = day()
    return story, used(story, 2, frequency_unit=unit, frequency=2)


@pytest.mark.parametrize(
    ("unit", "free_from"),
    [("day", "2026-12-31T00:00:00.000Z"), ("month", "2027-01-01T00:00:00.000Z"), ("week", "2027-01-04T00:00:00.000Z")],
)
def test_frequency_is_of_the_utc_calendar(unit: str, free_from: str) -> None:
    """Two uses in a unit; the third is one too many until the very millisecond at which the next unit begins."""
    for early_ms, codes in ((1, {"frequency_exceeded"}), (0, set())):
        story, consent = _frequency_story(unit)
        story.time = datetime.fromisoformat(free_from) - story.step - timedelta(milliseconds=early_ms)
        story.decide(consent)
        assert {one.code for one in check(list(story.bodies())).completeness.listed} == codes


SOUND = busy(400, 5, timedelta(minutes=1)).told
CALLS = [at for at, (event, _) in enumerate(SOUND) if isinstance(event, entries.Decision | entries.Refusal)]
NUMBERED = [at for at in CALLS if getattr(SOUND[at][0], "institution", "")]


def _encoded(told: list[Any]) -> list[bytes]:
    return [encode(event, time) for event, time in told]


def _moved(event: Any, at: int, by: int) -> Any:
    """An entry whose reference to an index is put right after `by` entries went in or out at `at`: a careful liar."""
    if isinstance(event, entries.Decision) and event.consent_index >= at:
        return replace(event, consent_index=event.consent_index + by)
    return event


def _last_of(at: int) -> bool:
    """Whether nothing of that institution is told after an entry, so that its absence leaves no gap."""
    bank = getattr(SOUND[at][0], "institution", "")
    return not any(getattr(event, "institution", None) == bank for event, _ in (SOUND[n] for n in NUMBERED if n > at))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NUMBERED))
def test_a_dropped_call_is_missed(at: int) -> None:
    """Whichever call is left out, references put right: the gap is found at that institution's next call."""
    told = [(_moved(event, at, -1), time) for event, time in SOUND[:at] + SOUND[at + 1 :]]
    report = check(_encoded(told))
    assert report.verdicts[0] is Verdict.SOUND
    if _last_of(at):
        return  # nobody can miss it but a witness
    bank = getattr(SOUND[at][0], "institution", "")
    following = next(n for n in NUMBERED if n > at and getattr(SOUND[n][0], "institution", "") == bank)
    assert report.verdicts[1] is Verdict.BROKEN
    assert at <= (report.first_bad or 0) <= following - 1


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NUMBERED))
def test_a_doubled_call_is_seen(at: int) -> None:
    """Whichever call is told twice: found at the second telling."""
    told = SOUND[: at + 1] + [(_moved(event, at + 1, 1), time) for event, time in SOUND[at:]]
    report = check(_encoded(told))
    assert (report.verdicts, report.first_bad) == ((Verdict.SOUND, Verdict.BROKEN), at + 1)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NUMBERED), st.sampled_from(NUMBERED))
def test_swapped_calls_of_a_bank_are_seen(one: int, other: int) -> None:
    """Whichever two calls of an institution change places (their times stay): found at the first place."""
    first, second = sorted((one, other))
    same = getattr(SOUND[first][0], "institution", "") == getattr(SOUND[second][0], "institution", "")
    if first == second or not same:
        return
    told = list(SOUND)
    told[first], told[second] = (SOUND[second][0], SOUND[first][1]), (SOUND[first][0], SOUND[second][1])
    report = check(_encoded(told))
    assert (report.verdicts, report.first_bad) == ((Verdict.SOUND, Verdict.BROKEN), first)


JUDGED = (  # members of a decision that the replay judges; the others are hashes and names that the log alone knows
    *("institution", "product", "version", "bundle_hash", "rules_hash", "evidence_hash", "evidence_format"),
    *("consent_hash", "consent_index", "use", "max_uses", "subject_tag", "bits_total_milli", "isolation", "seq"),
)
DECISIONS = [at for at in CALLS if isinstance(SOUND[at][0], entries.Decision)]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(DECISIONS), st.sampled_from(JUDGED), st.data())
def test_an_edited_decision_is_seen(at: int, member: str, data: st.DataObject) -> None:
    """Whichever judged member of a decision says something else: found at that decision."""
    event, time = SOUND[at]
    now = getattr(event, member)
    if isinstance(now, int):
        other: Any = data.draw(st.integers(0, 2**53 - 1).filter(lambda value: value != now))
    elif member.endswith(("hash", "tag")):
        other = named(now, data.draw(st.integers()))[: len(now)]
    else:
        other = data.draw(st.sampled_from([f"{bank}/loan@1" for bank in BANKS] + ["x", *BANKS]).filter(now.__ne__))
    told = [*SOUND[:at], (replace(event, **{member: other}), time), *SOUND[at + 1 :]]
    report = check(_encoded(told))
    assert (report.verdicts, report.first_bad) == ((Verdict.SOUND, Verdict.BROKEN), at)
