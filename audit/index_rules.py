"""Anomalies: what an auditor should look at first, counted while the index follows the log.

A rule counts sightings under a key (a caller, an institution and a subject's tag, …) within an hour, a day or a year
of the UTC calendar, or for good. Where the count reaches the rule's threshold that is a finding. Calendar windows need
one counter a key, whatever the log's length; a burst over the turn of the hour counts in two parts, so thresholds are
half of what would be too much.

A finding is no verdict: each threshold is what nobody does by accident, and an honest caller may still have a reason.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from audit.index_terms import (
    ANSWERED,
    REFUSED,
    REPEATED,
    UNREADABLE,
    ConsentFacts,
    Entry,
    Term,
    count_of,
    from_ms,
    text_of,
)

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000
LOOK_BACK_DAYS: Final = 31  # where nobody says since when: a month, whatever its length
YEAR: Final = -1  # the calendar year, whose length varies

GRAVE: Final = "grave"  # a law of the system is broken, or the log's past is in doubt
SUSPECT: Final = "suspect"  # somebody tries what was denied, or learns more than one call tells
NOTICE: Final = "notice"  # a bound is near, a part is failing

# Thresholds, each a count within its rule's window.
SUBJECT_CALLS_PER_HOUR: Final = 10  # two whole consents of five uses: no application needs that for one company
REPEATS_PER_DAY: Final = 5  # an answer known already, fetched again and again, tells whether records changed
CALLER_REFUSALS_PER_HOUR: Final = 50  # a faulty client retries; one that is refused fifty times is searching
BUDGET_REFUSALS_PER_DAY: Final = 20  # asking on about companies of whom no bit is left
JAIL_FAILURES_PER_HOUR: Final = 10  # docs/threat-model.md: a template that refuses its calls can tell by which
CONSENT_USES_MIN: Final = 3  # a consent for one or two uses is always near its end
NEAR_CAP_PERCENT: Final = 80  # of a consent's uses, of a year's bits
CLOCK_GAP_MS: Final = 2 * DAY_MS  # a served log has an entry a day (its nightly check); two days without is a jump
CLOCK_STANDS_ENTRIES: Final = 1_000  # in one millisecond: a commit has at most 256; more is a clock set back

Sighting = tuple[str, tuple[str, ...], int]  # a rule's code, its key, by how much it counts


@dataclass(frozen=True)
class Rule:
    """What is counted. `fields` name the parts of the key; `text` speaks of them and of `count`, `times` or `bits`."""

    code: str
    severity: str
    fields: tuple[str, ...]
    text: str
    threshold: int = 1
    window_ms: int | None = None  # None: for good
    also: tuple[Term, ...] = ()  # what its entries have in common beside the key

    def window(self, ms: int) -> int:
        """The number of the window that a moment (Unix milliseconds) falls into."""
        if self.window_ms is None:
            return 0
        return from_ms(ms).year if self.window_ms == YEAR else ms // self.window_ms


_ANSWERED: Final = (("outcome", ANSWERED),)
_REFUSED: Final = (("outcome", REFUSED),)
_TO_SUBJECT: Final = ("institution", "subject")

# Gravest first: the order in which findings are listed.
RULES: Final = (
    Rule("log_broken", GRAVE, (), "A check of the whole log ended in `broken`: {times}."),
    Rule("used_after_end", GRAVE, ("consent",), "A consent was used after it had ended: {times}.", also=_ANSWERED),
    Rule("consent_unlogged", GRAVE, ("institution",),
         "A call for {institution} named a consent that is not in the log: {times}.", also=_ANSWERED),
    Rule("entry_unreadable", GRAVE, (), "An entry cannot be read: {times}.", also=(("kind", UNREADABLE),)),
    Rule("clock_back", GRAVE, (), "An entry's time lies before that of the entry ahead of it: {times}."),
    Rule("rollback_accepted", GRAVE, (), "The operator went on with a log other than its anchor's: {times}.",
         also=(("kind", "rollback.accepted"),)),
    Rule("refused_after_revocation", SUSPECT, ("caller", "consent"),
         "{caller} asked under a consent that had been revoked: {times} in a day.", 1, DAY_MS,
         (("code", "consent_revoked"),)),
    Rule("probing_subject", SUSPECT, _TO_SUBJECT,
         "Calls for {institution} about one subject in one hour: {count}.", SUBJECT_CALLS_PER_HOUR, HOUR_MS),
    Rule("probing_repeats", SUSPECT, _TO_SUBJECT,
         "Answers for {institution} about one subject in one day that told nothing new: {count}.",
         REPEATS_PER_DAY, DAY_MS, (("outcome", REPEATED),)),
    Rule("probing_budget", SUSPECT, ("institution", "caller"),
         "{caller} asked about subjects of whom {institution} has no bits left: {times} in a day.",
         BUDGET_REFUSALS_PER_DAY, DAY_MS, (("code", "budget_spent"),)),
    Rule("many_refusals", SUSPECT, ("caller",), "{caller} was refused {times} in one hour.",
         CALLER_REFUSALS_PER_HOUR, HOUR_MS, _REFUSED),
    Rule("jail_failing", SUSPECT, ("version",), "{version} had no walled process {times} in one hour.",
         JAIL_FAILURES_PER_HOUR, HOUR_MS, (("code", "jail_unavailable"),)),
    Rule("clock_gap", NOTICE, (), "Two days or more lie between two entries, or the clock jumped: {times}."),
    Rule("clock_stands", NOTICE, (), "A thousand entries in a row carry one time, as of a clock set back: {times}."),
    Rule("budget_near_cap", NOTICE, _TO_SUBJECT,
         "{institution} was told {bits} bits about one subject this year: 80 % of the budget, or more.",
         0, YEAR, _ANSWERED),
    Rule("consent_near_cap", NOTICE, ("consent",), "Uses among the last fifth that a consent allows: {count}.",
         also=_ANSWERED),
)  # fmt: skip
BY_CODE: Final = {rule.code: rule for rule in RULES}


def sightings(entry: Entry, consent: ConsentFacts | None, index: int) -> Iterator[Sighting]:
    """List what the rules count of one entry (the clock's are `clock_sighting`s).

    Args:
        entry: its members.
        consent: the consent that it names, where the log granted one.
        index: its index.
    """
    kind = entry["kind"]
    if kind == "decision":
        yield from _of_decision(entry, consent, index)
    elif kind == "refusal":
        yield from _of_refusal(entry, consent)
    elif kind == "audit.checked" and "broken" in (entry.get("integrity"), entry.get("completeness")):
        yield "log_broken", (), 1
    elif kind == "rollback.accepted":
        yield "rollback_accepted", (), 1
    elif kind == "unreadable":
        yield "entry_unreadable", (), 1


def clock_sighting(ms: int, last_ms: int, standing: int) -> str | None:
    """The rule that an entry's time breaks, given the one's before it and how many in a row carry this one's."""
    if ms < last_ms:
        return "clock_back"
    if ms - last_ms >= CLOCK_GAP_MS:
        return "clock_gap"
    return "clock_stands" if standing == CLOCK_STANDS_ENTRIES else None


def _of_decision(entry: Entry, consent: ConsentFacts | None, index: int) -> Iterator[Sighting]:
    institution, tag = text_of(entry, "institution"), text_of(entry, "subject_tag")
    yield "probing_subject", (institution, tag), 1
    if bits := count_of(entry, "bits_milli"):
        yield "budget_near_cap", (institution, tag), bits
    else:
        yield "probing_repeats", (institution, tag), 1
    if consent is None:
        yield "consent_unlogged", (institution,), 1
        return
    if consent.ended is not None and consent.ended < index:
        yield "used_after_end", (consent.id,), 1
    most = count_of(entry, "max_uses")
    if most >= CONSENT_USES_MIN and 100 * count_of(entry, "use") >= NEAR_CAP_PERCENT * most:
        yield "consent_near_cap", (consent.id,), 1


def _of_refusal(entry: Entry, consent: ConsentFacts | None) -> Iterator[Sighting]:
    institution, tag, caller = (text_of(entry, name) for name in ("institution", "subject_tag", "caller"))
    yield "many_refusals", (caller,), 1
    if tag := tag or (consent.tag if consent else ""):
        yield "probing_subject", (institution, tag), 1
    code = entry.get("code")
    if code == "consent_revoked":
        yield "refused_after_revocation", (caller, consent.id if consent else ""), 1
    elif code == "budget_spent":
        yield "probing_budget", (institution, caller), 1
    elif code == "jail_unavailable" and text_of(entry, "version"):
        yield "jail_failing", (text_of(entry, "version"),), 1
