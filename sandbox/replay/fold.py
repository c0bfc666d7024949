"""The fold itself: each kind of entry to the law that judges it, and the numbers that all calls share."""

from collections.abc import Callable
from datetime import datetime
from sys import intern
from typing import Any, Final

from audit import kinds as entries
from audit.findings import Findings
from audit.kinds import Decision, Event, Refusal
from sandbox.replay import consents, keys, versions
from sandbox.replay.laws import TEXTS, UNJUDGED
from sandbox.replay.state import Counted, DatasetNow, Room, is_of

_OfDataset = entries.DatasetPublished | entries.DatasetLoaded | entries.DatasetSuspended | entries.DatasetResumed
Law = Callable[[Room, Findings, int, Any, datetime], None]


class Replay:
    """Takes a log's entries from the first on, in order; keeps what they add up to and what was wrong with them."""

    def __init__(self) -> None:
        self.room = Room()
        self.findings = Findings(TEXTS)
        for what in UNJUDGED:
            self.findings.lacks(what)
        self.size = 0

    def take(self, index: int, event: Event, time: datetime) -> None:
        """Judge the next entry. After a finding the entry is believed, so that one lie is told once."""
        for law in LAWS.get(type(event), ()):
            law(self.room, self.findings, index, event, time)
        self.size = index + 1


def _check_evidence(room: Room, findings: Findings, index: int, event: Decision, _: datetime) -> None:
    if room.evidence != (event.evidence_hash, event.evidence_format, event.isolation):
        findings.add("evidence_hash", index)


def _number(room: Room, findings: Findings, index: int, event: Decision | Refusal, _: datetime) -> None:
    if not event.institution:  # a call whose institution was not known has no number
        if event.seq:
            findings.add("seq_gap", index, detail=f"{event.seq} of no institution")
        return
    last = room.sequences.setdefault(event.institution, Counted(0, index))
    if event.seq != last.value + 1:
        findings.add("seq_gap", index, detail=f"{event.seq} after {last.value}")
    last.value, last.touched = event.seq, index


def _charge(room: Room, findings: Findings, index: int, event: Decision, time: datetime) -> None:
    account = (intern(event.subject_tag), intern(event.institution), time.year)
    total = room.budgets.setdefault(account, Counted(0, index))
    if event.bits_total_milli != total.value + event.bits_milli:
        findings.add("bits_sum", index, detail=f"{event.bits_total_milli} after {total.value} and {event.bits_milli}")
    total.value, total.touched = event.bits_total_milli, index


def _publish(room: Room, findings: Findings, index: int, event: entries.DatasetPublished, _: datetime) -> None:
    _check_steward(findings, index, event)
    room.datasets.setdefault(event.dataset, DatasetNow(index)).touched = index


def _load(room: Room, findings: Findings, index: int, event: entries.DatasetLoaded, _: datetime) -> None:
    if (now := _dataset(room, findings, index, event.dataset)) is None:
        return
    _check_steward(findings, index, event)
    if event.load != now.loads + 1:
        findings.add("dataset_load", index, detail=f"{event.load} after {now.loads}")
    now.loads, now.rows, now.touched = event.load, event.rows, index


def _switch(
    room: Room, findings: Findings, index: int, event: entries.DatasetSuspended | entries.DatasetResumed, _: datetime
) -> None:
    if (now := _dataset(room, findings, index, event.dataset)) is not None:
        _check_steward(findings, index, event)
        now.suspended, now.touched = isinstance(event, entries.DatasetSuspended), index


def _check_steward(findings: Findings, index: int, event: _OfDataset) -> None:
    if not is_of(event.by, "steward", event.dataset.partition(".")[0]):
        findings.add("actor_foreign", index)


def _dataset(room: Room, findings: Findings, index: int, name: str) -> DatasetNow | None:
    if (now := room.datasets.get(name)) is None:
        findings.add("dataset_unknown", index)
    return now


# Kinds without a line change no state: readings, exports, checks, notes of the operator.
LAWS: Final[dict[type[Event], tuple[Law, ...]]] = {
    entries.EnclaveStarted: (keys.start,),
    entries.KeyRotated: (keys.rotate,),
    entries.KeyDestroyed: (keys.destroy,),
    entries.DatasetPublished: (_publish,),
    entries.DatasetLoaded: (_load,),
    entries.DatasetSuspended: (_switch,),
    entries.DatasetResumed: (_switch,),
    entries.ConsentGranted: (consents.grant,),
    entries.ConsentPaused: (consents.change,),
    entries.ConsentResumed: (consents.change,),
    entries.ConsentRevoked: (consents.change,),
    entries.AuthorityRevoked: (consents.revoke_authority,),
    entries.SubjectErased: (consents.erase,),
    entries.VersionSubmitted: (versions.submit, versions.note),
    entries.VersionAdmitted: (versions.judge, versions.note),
    entries.VersionRefused: (versions.judge, versions.note),
    entries.VersionApproved: (versions.approve, versions.note),
    entries.VersionPromoted: (versions.promote, versions.note),
    entries.VersionSuspended: (versions.switch, versions.note),
    entries.VersionResumed: (versions.switch, versions.note),
    entries.VersionRetired: (versions.retire, versions.note),
    entries.Decision: (_number, consents.use, versions.score, _check_evidence, _charge),
    entries.Refusal: (_number,),
}
