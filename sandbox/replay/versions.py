"""Versions in the replay: from submission to retirement, and whether a decision used the champion."""

from datetime import datetime
from sys import intern

from audit.event import (
    Decision,
    VersionAdmitted,
    VersionApproved,
    VersionPromoted,
    VersionRefused,
    VersionResumed,
    VersionRetired,
    VersionSubmitted,
    VersionSuspended,
)
from audit.findings import Findings
from model_registry.errors import TransitionRefused
from model_registry.lifecycle import Change, State, next_state
from sandbox.replay.state import Promotion, Room, VersionNow, is_of

_OPERATOR = "operator"


def submit(room: Room, findings: Findings, index: int, event: VersionSubmitted, time: datetime) -> None:
    """An institution uploaded a bundle."""
    product, _, number = event.version.rpartition("@")
    expected = room.numbers.get(product, 0) + 1
    if number != str(expected):
        findings.add("version_number", index)
    if product.partition("/")[0] != event.institution or not is_of(event.by, "institution", event.institution):
        findings.add("version_owner", index)
    room.numbers[product] = max(expected, int(number) if number.isdecimal() else 0)
    room.versions[event.version] = VersionNow(event, time, index)


def judge(room: Room, findings: Findings, index: int, event: VersionAdmitted | VersionRefused, _: datetime) -> None:
    """The inspection admitted or refused a version."""
    what = Change.ADMIT if isinstance(event, VersionAdmitted) else Change.REFUSE
    if (now := _known(room, findings, index, event.version)) is not None:
        _change(findings, index, now, what)


def approve(room: Room, findings: Findings, index: int, event: VersionApproved, _: datetime) -> None:
    """A second person approved a version."""
    if (now := _owned(room, findings, index, event.version, event.by)) is None:
        return
    if now.submitted.by == event.by:
        findings.add("version_self_approved", index)
    now.approved_by = event.by
    _change(findings, index, now, Change.APPROVE)


def promote(room: Room, findings: Findings, index: int, event: VersionPromoted, time: datetime) -> None:
    """A version became champion."""
    product = event.version.rpartition("@")[0]
    if room.champions.get(product) != event.previous:
        findings.add("version_previous", index)
    if (now := _owned(room, findings, index, event.version, event.by)) is not None:
        if now.holders:
            findings.add("version_suspended", index)
        _change(findings, index, now, Change.PROMOTE)
    room.champions[product] = event.version
    room.promotions.append(Promotion(index, product, event.version, time))


def retire(room: Room, findings: Findings, index: int, event: VersionRetired, _: datetime) -> None:
    """A version ended for good."""
    if (now := _owned(room, findings, index, event.version, event.by)) is None:
        return
    if room.champions.get(event.version.rpartition("@")[0]) == event.version:
        findings.add("version_champion", index)
    _change(findings, index, now, Change.RETIRE)


def switch(room: Room, findings: Findings, index: int, event: VersionSuspended | VersionResumed, _: datetime) -> None:
    """An institution or an operator held a version back, or let it go again; each its own alone."""
    if (now := _known(room, findings, index, event.version)) is None:
        return
    holder = "/".join(event.by.split("/")[:2])
    if not is_of(event.by, "institution", now.submitted.institution) and not event.by.startswith(f"{_OPERATOR}/"):
        findings.add("version_owner", index)
    if isinstance(event, VersionSuspended) == (holder in now.holders):
        findings.add("version_switch", index)
    if isinstance(event, VersionSuspended):
        now.holders[holder] = index
    else:
        now.holders.pop(holder, None)
    now.touched = index


def score(room: Room, findings: Findings, index: int, event: Decision, _: datetime) -> None:
    """A decision was made by a version: the champion, approved, held back by nobody, with the bundle submitted."""
    if room.champions.get(event.product) != event.version:
        findings.add("not_champion", index)
    now = room.versions.get(event.version)
    if now is None:
        findings.add("version_unknown", index)
        return
    if now.submitted.institution != event.institution:
        findings.add("version_owner", index)
    if now.holders:
        findings.add("version_suspended", index)
    if now.state is not State.APPROVED:
        findings.add("version_unapproved", index)
    if (event.bundle_hash, event.rules_hash) != (now.submitted.bundle_hash, now.submitted.rules_hash):
        findings.add("bundle_hash", index)
    _check_price(room, findings, index, event, now)


def _check_price(room: Room, findings: Findings, index: int, event: Decision, now: VersionNow) -> None:
    answered = room.answered.setdefault(event.version, set())
    if event.bits_milli:
        now.price = now.price or event.bits_milli
        if event.bits_milli != now.price:
            findings.add("bits_price", index)
        answered.add(intern(event.subject_tag))
    elif event.subject_tag not in answered:
        findings.add("bits_free", index)


def _known(room: Room, findings: Findings, index: int, name: str) -> VersionNow | None:
    if (now := room.versions.get(name)) is None:
        findings.add("version_unknown", index)
    return now


def _owned(room: Room, findings: Findings, index: int, name: str, by: str) -> VersionNow | None:
    now = _known(room, findings, index, name)
    if now is not None and not is_of(by, "institution", now.submitted.institution):
        findings.add("version_owner", index)
    return now


def _change(findings: Findings, index: int, now: VersionNow, what: Change) -> None:
    try:
        now.state = next_state(now.state, what)
    except TransitionRefused:
        findings.add("version_transition", index)
    now.touched = index
