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
from tests.unit.lies import consents, keys, versions
from tests.unit.lies.told import BOB, CARD, PRODUCT, day, used
from tests.unit.logs import check
from tests.unit.story import BANKS, PRICE, Consent, Story, busy, named

LIES: list[tuple[str, Callable[[Story], int]]] = [
    ("consent_double", consents.double),
    ("consent_malformed", consents.malformed),
    ("consent_malformed", lambda story: story.grant(PRODUCT, 1, products=(PRODUCT, "south/loan")).index),
    ("consent_malformed", lambda story: story.grant(PRODUCT, 1, purpose="marketing").index),
    ("consent_malformed", lambda story: story.grant(PRODUCT, 1, frequency_unit="decade", frequency=1).index),
    ("consent_malformed", lambda story: story.grant(PRODUCT, 1, frequency_unit="day").index),
    ("consent_malformed", lambda story: story.grant(PRODUCT, 1, expires=format_time(story.time)).index),
    ("consent_late", consents.late),
    ("consent_unknown", consents.unknown),
    ("consent_unknown", lambda story: story.tell(entries.ConsentRevoked("none", "authority/x", "security"))),
    ("consent_transition", consents.transition),
    ("consent_replaced", consents.replaced),
    ("consent_replaced", lambda story: story.grant(PRODUCT, 1, replaces="none").index),
    ("consent_replaced", lambda story: story.grant(PRODUCT, 2, replaces=used(story).event.consent).index),
    ("authority_unknown", consents.authority),
    ("authority_unknown", consents.authority_grants),
    ("authority_unknown", consents.authority_twice),
    ("consent_transition", consents.pause_invalidated),
    ("consent_replaced", consents.replaced_for_another_purpose),
    ("subject_unknown", consents.erased_twice),
    ("actor_foreign", versions.by(entries.ConsentPaused, "authority/another")),
    ("actor_foreign", versions.by(entries.ConsentPaused, "subject")),
    ("actor_foreign", versions.by(entries.ConsentRevoked, "operator/operations")),
    ("actor_foreign", consents.resumed_by_operator),
    ("actor_foreign", lambda story: story.tell(entries.AuthorityRevoked("x", "authority/y", "security"))),
    ("actor_foreign", lambda story: story.tell(entries.SubjectErased(used(story).event.subject_tag, "auditor/a"))),
    ("actor_foreign", consents.erased_by_a_revoked_authority),
    ("actor_foreign", lambda story: story.tell(entries.DatasetResumed("tax.declaration", "steward/water", "x"))),
    ("actor_foreign", lambda story: story.tell(entries.DatasetPublished("water.use", "operator/o", 1, named("c")))),
    ("actor_foreign", consents.loaded_by_another),
    ("consent_malformed", lambda story: story.grant(PRODUCT, 1, purpose="monitoring").index),
    (
        "consent_malformed",
        lambda story: story.grant(PRODUCT, 1, purpose="monitoring", frequency_unit="day", frequency=2).index,
    ),
    (
        "consent_malformed",
        lambda story: story.grant(PRODUCT, 1, purpose="monitoring", frequency_unit="decade", frequency=1).index,
    ),
    ("bits_free", consents.free_after_erasure),
    ("consent_hash", versions.lie(consent_hash=named("another"))),
    ("consent_binding", versions.lie(subject_tag="ab" * 16)),
    ("consent_binding", lambda story: story.decide(used(story, product=CARD), product=PRODUCT)),
    ("consent_paused", consents.paused),
    ("consent_ended", consents.ended),
    ("consent_ended", consents.superseded),
    ("consent_erased", consents.erased),
    ("consent_window", consents.early),
    ("consent_window", consents.expired),
    ("use_number", versions.lie(use=1)),
    ("use_number", versions.lie(use=3)),
    ("use_max", versions.lie(max_uses=4)),
    ("use_exceeded", consents.fifth_is_last),
    ("frequency_exceeded", consents.twice_a_day),
    ("version_unknown", versions.unknown_version),
    ("version_number", versions.number),
    ("version_owner", versions.owner),
    ("version_transition", versions.unadmitted),
    ("version_self_approved", versions.alone),
    ("version_transition", versions.champion_again),
    ("version_transition", versions.rolled_back_to_unapproved),
    ("version_base", versions.rules_for(lambda _: "north/loan@9")),
    ("version_base", versions.rules_for(lambda story: story.champions["south/loan"].version)),
    ("version_base", versions.rules_for(lambda story: story.champions[CARD].version)),
    ("version_base", versions.rules_for(lambda story: story.submit(PRODUCT, story.champions[PRODUCT].version).version)),
    ("version_base", versions.rules_for(versions.gone)),
    ("version_base", versions.rules_for(versions.unjudged)),
    ("version_previous", versions.previous),
    ("version_previous", versions.previous_index),
    ("version_champion", versions.retired_champion),
    ("version_switch", versions.anothers_hold),
    ("not_champion", versions.old_champion),
    ("version_suspended", versions.held_back),
    ("version_unapproved", versions.retired),
    ("bundle_hash", versions.lie(bundle_hash=named("another"))),
    ("bundle_hash", versions.lie(rules_hash=named("another"))),
    ("evidence_hash", versions.lie(evidence_hash=named("another"))),
    ("evidence_hash", versions.lie(isolation="warm")),
    ("evidence_hash", keys.old_evidence),
    ("key_epoch", lambda story: story.rotate(epoch=2)),
    ("key_epoch", lambda story: story.rotate(key_id=named("key", 0)[:16])),
    ("actor_foreign", lambda story: story.rotate(by="institution/north/bob")),
    ("key_until", lambda story: story.rotate(timedelta(seconds=-1))),
    ("key_until", lambda story: story.rotate(timedelta(days=367))),
    ("key_start", keys.old_key_started),
    ("key_destroyed", keys.destroyed_twice),
    ("key_destroyed", keys.out_of_order),
    ("key_destroyed", keys.newest_destroyed),
    ("key_destroyed", keys.another_key_destroyed),
    ("key_early", keys.destroyed_early),
    ("key_early", keys.destroyed_before_the_nearer_date),
    ("seq_gap", versions.lie(seq=3)),
    ("seq_gap", lambda story: story.refuse("north", seq=2)),
    ("seq_gap", lambda story: story.refuse("", seq=1)),
    ("bits_sum", versions.lie(bits_total_milli=PRICE)),
    ("bits_price", versions.lie(bits_milli=PRICE - 1, bits_total_milli=2 * PRICE - 1)),
    ("bits_free", lambda story: story.decide(story.grant(PRODUCT, 9), bits_milli=0, bits_total_milli=0)),
    ("dataset_unknown", lambda story: story.tell(entries.DatasetResumed("water.use", "steward/water", "security"))),
    ("dataset_load", consents.load_twice),
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
