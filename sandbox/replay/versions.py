"""Versions in the replay: from submission to retirement, and whether a decision used the champion."""

from datetime import datetime
from sys import intern

from audit.findings import Findings
from audit.kinds import (
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
from model_registry.errors import TransitionRefused
from model_registry.lifecycle import HOLDERS, LIVING, Change, State, next_state, stored
from model_registry.version_history import VersionEvent, note_of
from sandbox.replay.state import Promotion, Room, VersionNoted, VersionNow, is_of

_OTHERS = tuple(f"{role}/" for role in HOLDERS if role != "institution")


def note(room: Room, _: Findings, index: int, event: VersionEvent, time: datetime) -> None:
    """Every change of a version is a line of its product's history."""
    room.history.append(VersionNoted(index, event.version, event.kind, *note_of(event), time))


def submit(room: Room, findings: Findings, index: int, event: VersionSubmitted, time: datetime) -> None:
    """An institution uploaded a bundle."""
    product, _, number = event.version.rpartition("@")
    expected = room.numbers.get(product, 0) + 1
    if number != str(expected):
        findings.add("version_number", index)
    if product.partition("/")[0] != event.institution or not is_of(event.by, "institution", event.institution):
        findings.add("version_owner", index)
    if event.model_of is not None:
        _check_base(room, findings, index, event.model_of, product)
    room.numbers[product] = max(expected, int(number) if number.isdecimal() else 0)
    room.versions[event.version] = VersionNow(event, time, index)


def _check_base(room: Room, findings: Findings, index: int, name: str, product: str) -> None:
    """Rules alone go with a model that was admitted for the same product, and whose bundle is kept."""
    base = room.versions.get(name)
    admitted = base is not None and base.submitted.model_of is None and base.state is not State.SUBMITTED
    if not admitted or name.rpartition("@")[0] != product or name not in kept_bundles(room):
        findings.add("version_base", index)


def kept_bundles(room: Room) -> set[str]:
    """The versions whose bundles are kept: the living ones, and those whose model a living one has."""
    living = [(name, now) for name, now in room.versions.items() if now.state in LIVING]
    return {name for name, _ in living} | {now.submitted.model_of or name for name, now in living}


def judge(room: Room, findings: Findings, index: int, event: VersionAdmitted | VersionRefused, _: datetime) -> None:
    """The inspection admitted or refused a version."""
    what = Change.ADMIT if isinstance(event, VersionAdmitted) else Change.REFUSE
    if (now := _known(room, findings, index, event.version)) is not None:
        _change(room, findings, index, now, what)


def approve(room: Room, findings: Findings, index: int, event: VersionApproved, _: datetime) -> None:
    """A second person approved a version."""
    if (now := _owned(room, findings, index, event.version, event.by)) is None:
        return
    if now.submitted.by == event.by:
        findings.add("version_self_approved", index)
    now.approved_by = event.by
    _change(room, findings, index, now, Change.APPROVE)


def promote(room: Room, findings: Findings, index: int, event: VersionPromoted, time: datetime) -> None:
    """A version became champion, in place of the one that was."""
    product = event.version.rpartition("@")[0]
    before = room.champions.get(product)
    if (event.previous, event.previous_index) != ((before.version, before.index) if before else (None, None)):
        findings.add("version_previous", index)
    if (now := _owned(room, findings, index, event.version, event.by)) is not None:
        if now.holders:
            findings.add("version_suspended", index)
        _change(room, findings, index, now, Change.PROMOTE)
    room.champions[product] = Promotion(index, product, event.version, time)
    room.promotions.append(room.champions[product])


def retire(room: Room, findings: Findings, index: int, event: VersionRetired, _: datetime) -> None:
    """A version ended for good."""
    if (now := _owned(room, findings, index, event.version, event.by)) is None:
        return
    if _leads(room, now):
        findings.add("version_champion", index)
        now.state, now.touched = State.RETIRED, index
        return
    _change(room, findings, index, now, Change.RETIRE)


def switch(room: Room, findings: Findings, index: int, event: VersionSuspended | VersionResumed, _: datetime) -> None:
    """An institution, an operator or a steward held a version back, or let it go again; each its own alone."""
    if (now := _known(room, findings, index, event.version)) is None:
        return
    holder = "/".join(event.by.split("/")[:2])
    if not is_of(event.by, "institution", now.submitted.institution) and not event.by.startswith(_OTHERS):
        findings.add("version_owner", index)
    if holder.startswith("steward/"):
        now.stewards.append((holder.partition("/")[2], index))
    if isinstance(event, VersionSuspended) == (holder in now.holders):
        findings.add("version_switch", index)
    if isinstance(event, VersionSuspended):
        now.holders[holder] = index
    else:
        now.holders.pop(holder, None)
    now.touched = index


def score(room: Room, findings: Findings, index: int, event: Decision, _: datetime) -> None:
    """A decision was made by a version: the champion, approved, held back by nobody, with the bundle submitted."""
    champion = room.champions.get(event.product)
    if champion is None or champion.version != event.version:
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


def _leads(room: Room, now: VersionNow) -> bool:
    name = now.submitted.version
    champion = room.champions.get(name.rpartition("@")[0])
    return champion is not None and champion.version == name


def _change(room: Room, findings: Findings, index: int, now: VersionNow, what: Change) -> None:
    try:
        now.state = stored(next_state(State.CHAMPION if _leads(room, now) else now.state, what))
    except TransitionRefused:
        findings.add("version_transition", index)
    now.touched = index
