"""The rules: each finds what it is for at its threshold, not below it, and says it without personal data."""

from datetime import timedelta
from pathlib import Path

import pytest

from audit.anomalies import PER_RULE_MAX, Anomalies, Anomaly, anomalies
from audit.event import encode
from audit.index import Index
from audit.index_rules import (
    BUDGET_REFUSALS_PER_DAY,
    CALLER_REFUSALS_PER_HOUR,
    CLOCK_STANDS_ENTRIES,
    JAIL_FAILURES_PER_HOUR,
    REPEATS_PER_DAY,
    RULES,
    SUBJECT_CALLS_PER_HOUR,
)
from audit.index_terms import to_ms
from audit.kinds import AuditChecked, AuditRead, AuthorityRevoked, Event
from tests.unit.audit.memory_log import (
    CALLERS,
    MemoryLog,
    answered,
    bodies,
    consent_id,
    granted,
    other_kinds,
    refusal,
    revoked,
    tag_of,
)
from tests.unit.audit.vectors import START

BUDGET_MILLI = 64_000


def look(folder: Path, made: list[bytes], since_ms: int = 0) -> Anomalies:
    """What the rules say of a log."""
    log = MemoryLog(made)
    index = Index(folder / "i", log, BUDGET_MILLI)
    found = index.ask(lambda c: anomalies(c, since_ms=since_ms, size=log.head.size), log.head)
    index.close()
    return found


def only(found: Anomalies, code: str) -> Anomaly:
    """The one finding, of that rule."""
    assert found.counts == {code: 1}
    (anomaly,) = found.found
    assert anomaly.code == code
    return anomaly


def quiet(number: int, subject: int) -> Event:
    """A call that no rule minds."""
    return answered(number, subject, bits_milli=3000, use=1, max_uses=5)


THRESHOLDS = [
    ("probing_subject", SUBJECT_CALLS_PER_HOUR, lambda n: quiet(1, 1)),
    ("probing_repeats", REPEATS_PER_DAY, lambda n: answered(1, 1, bits_milli=0)),
    ("many_refusals", CALLER_REFUSALS_PER_HOUR, lambda n: refusal("consent_unknown")),
    ("probing_budget", BUDGET_REFUSALS_PER_DAY, lambda n: refusal("budget_spent", n + 2)),
    ("jail_failing", JAIL_FAILURES_PER_HOUR, lambda n: refusal("jail_unavailable", n + 2, version="bank/loan@1")),
]


@pytest.mark.parametrize(("code", "threshold", "make"), THRESHOLDS)
def test_a_burst_is_found_at_its_threshold(code: str, threshold: int, make: object, tmp_path: Path) -> None:
    """One sighting fewer is nothing; the threshold is one finding that names the entries it rests on."""
    assert callable(make)
    consents = [granted(number + 1, number + 1) for number in range(threshold + 2)]
    (tmp_path / "below").mkdir()
    below = look(tmp_path / "below", bodies([*consents, *(make(n) for n in range(threshold - 1))]))
    assert below.counts == {}
    found = only(look(tmp_path, bodies([*consents, *(make(n) for n in range(threshold))])), code)
    first = len(consents)
    assert found.indexes[0] == first + threshold - 1
    assert all(index >= first for index in found.indexes)
    assert (found.first_ms, found.last_ms) == tuple(to_ms(START) + at for at in (first, first + threshold - 1))


@pytest.mark.parametrize(("code", "threshold", "make"), THRESHOLDS)
def test_what_is_spread_over_days_is_no_burst(code: str, threshold: int, make: object, tmp_path: Path) -> None:
    """The same number, a day apart from one another, is nothing."""
    assert callable(make)
    consents = bodies(granted(number + 1, number + 1) for number in range(threshold + 2))
    spread = [encode(make(n), START + timedelta(days=1 + n)) for n in range(threshold)]
    assert look(tmp_path, consents + spread).counts == {}


def test_use_after_an_end_is_grave(tmp_path: Path) -> None:
    """After a revocation, a replacement, or the end of the authority; what came before it is not counted."""
    for number, ending in enumerate(
        [
            revoked(1),
            granted(2, 1, replaces=consent_id(1)),
            AuthorityRevoked(authority="consent-office", by="operator", reason="security"),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        found = only(look(folder, bodies([granted(1, 1), quiet(1, 1), ending, quiet(1, 1)])), "used_after_end")
        assert (found.severity, found.indexes, found.terms) == ("grave", (3,), (("consent", consent_id(1)),))


def test_a_consent_granted_after_its_authoritys_end_is_another_matter(tmp_path: Path) -> None:
    """An authority that is trusted again signs consents that are not held against it."""
    ended = AuthorityRevoked(authority="consent-office", by="operator", reason="security")
    assert look(tmp_path, bodies([ended, granted(1, 1), quiet(1, 1)])).counts == {}


def test_asking_after_a_revocation_is_told_with_who_asked(tmp_path: Path) -> None:
    """One finding for a caller, a consent and a day."""
    made = bodies([granted(1, 1), revoked(1), *[refusal("consent_revoked", 1, CALLERS[1])] * 3])
    found = only(look(tmp_path, made), "refused_after_revocation")
    assert found.text == f"{CALLERS[1]} asked under a consent that had been revoked: 3 times in a day."
    assert found.indexes == (4, 3, 2)


def test_caps_that_are_near(tmp_path: Path) -> None:
    """The last fifth of a consent's uses, and four fifths of a year's bits; consents for one use are no news."""
    calls = [answered(1, 1, use=use, max_uses=5, bits_milli=1) for use in range(1, 6)]
    once = [granted(2, 2), answered(2, 2, use=1, max_uses=1, bits_milli=1)]
    found = only(look(tmp_path, bodies([granted(1, 1), *calls, *once])), "consent_near_cap")
    assert found.text.endswith(": 2.")
    (tmp_path / "bits").mkdir()
    spent = [answered(1, 1, bits_milli=bits) for bits in (51_000, 200)]
    found = only(look(tmp_path / "bits", bodies([granted(1, 1), *spent])), "budget_near_cap")
    assert found.text == "bank was told 51.2 bits about one subject this year: 80 % of the budget, or more."
    assert found.terms == (("institution", "bank"), ("subject", tag_of(1)))


def test_a_years_bits_begin_anew(tmp_path: Path) -> None:
    """Bits of two calendar years are not added up."""
    made = [encode(granted(1, 1), START)]
    made += [encode(answered(1, 1, bits_milli=40_000), START + timedelta(days=days)) for days in (1, 60)]
    assert "budget_near_cap" not in look(tmp_path, made).counts


def test_the_clock(tmp_path: Path) -> None:
    """A jump forward, a step back, and a clock that stands are each found."""
    event = AuditRead(by="auditor/office", what="entry 1")
    cases = {
        "clock_gap": [START, START + timedelta(days=2)],
        "clock_back": [START, START - timedelta(milliseconds=1)],
        "clock_stands": [START] * CLOCK_STANDS_ENTRIES,
    }
    for code, times in cases.items():
        (tmp_path / code).mkdir()
        found = only(look(tmp_path / code, [encode(event, time) for time in times]), code)
        assert found.indexes == (len(times) - 1,)
    (tmp_path / "well").mkdir()
    well = [START + timedelta(days=1.9 * n) for n in range(5)] + [START + timedelta(days=8)] * 999
    assert look(tmp_path / "well", [encode(event, time) for time in well]).counts == {}


def test_gravest_first_and_newest_first(tmp_path: Path) -> None:
    """The list is in the order of the rules, and bounded; how many there are in all is said."""
    consents = PER_RULE_MAX + 5
    made = [event for n in range(consents) for event in (granted(n + 1, n + 1), answered(n + 1, n + 1, use=5))]
    found = look(tmp_path, bodies([*made, *other_kinds(), answered(77_777, 9)]))
    codes = [anomaly.code for anomaly in found.found]
    order = [rule.code for rule in RULES]
    assert codes == sorted(codes, key=order.index)
    assert found.counts == {
        "log_broken": 1,
        "consent_unlogged": 1,
        "rollback_accepted": 1,
        "consent_near_cap": consents,
    }
    near = [anomaly.last_ms for anomaly in found.found if anomaly.code == "consent_near_cap"]
    assert len(near) == PER_RULE_MAX
    assert near == sorted(near, reverse=True)


def test_since_leaves_out_what_was_before(tmp_path: Path) -> None:
    """Only findings that were seen at or after the time are told."""
    broken = AuditChecked(by="service", size=1, integrity="broken", completeness="sound", first_bad=0)
    made = bodies([broken, revoked(1), revoked(2)])
    start = to_ms(START)
    assert look(tmp_path, made, start).counts == {"log_broken": 1}
    assert look(tmp_path, made, start + 1).counts == {}


def test_no_tag_and_no_consent_stands_in_the_words(tmp_path: Path) -> None:
    """Texts speak of roles and numbers; who wants to know more searches by the terms."""
    calls = [answered(1, 1, bits_milli=0, use=5)] * SUBJECT_CALLS_PER_HOUR
    found = look(tmp_path, bodies([granted(1, 1), *calls, refusal("consent_revoked", 1)]))
    assert len(found.found) == 4
    for anomaly in found.found:
        assert tag_of(1) not in anomaly.text
        assert consent_id(1) not in anomaly.text
