"""Consents in the replay: registered, changed, ended; and whether a decision had one to stand on."""

from collections.abc import Callable
from datetime import date, datetime
from typing import Final

from audit.event import (
    AuthorityRevoked,
    ConsentGranted,
    ConsentPaused,
    ConsentResumed,
    ConsentRevoked,
    Decision,
    SubjectErased,
)
from audit.findings import Findings
from sandbox.consent import CAPS, DAY_SECONDS
from sandbox.consent_life import Change, State, next_state
from sandbox.errors import ConsentTransition
from sandbox.replay.state import ConsentNow, Room

_CHANGES = {ConsentPaused: Change.PAUSE, ConsentResumed: Change.RESUME, ConsentRevoked: Change.REVOKE}
_LIVE = (State.GRANTED, State.PAUSED)


def grant(room: Room, findings: Findings, index: int, event: ConsentGranted, time: datetime) -> None:
    """An authority registered a consent."""
    now = ConsentNow.of(event, index)
    if event.consent in room.consents:
        findings.add("consent_double", index)
    if event.authority in room.authorities_revoked:
        findings.add("authority_unknown", index)
    if not _well_formed(event, now):
        findings.add("consent_malformed", index)
    if time >= now.expires:
        findings.add("consent_late", index)
    if event.replaces is not None:
        _replace(room, findings, index, event)
    room.consents[event.consent] = room.by_index[index] = now
    room.subjects.setdefault(now.subject_tag, index)


def _well_formed(event: ConsentGranted, now: ConsentNow) -> bool:
    cap = CAPS.get(event.purpose)
    lasts = (now.expires - now.not_before).total_seconds()
    return (
        cap is not None
        and 0 < lasts <= cap.days * DAY_SECONDS
        and 1 <= event.max_uses <= cap.uses
        and bool(event.products)
        and all(product.partition("/")[0] == event.institution for product in event.products)
        and (event.frequency is None) == (event.frequency_unit is None)
        and (event.frequency is None or event.frequency >= 1)
        and (event.frequency_unit is None or event.frequency_unit in PERIODS)
    )


def _replace(room: Room, findings: Findings, index: int, event: ConsentGranted) -> None:
    old = room.consents.get(event.replaces or "")
    same = old is not None and old.subject_tag == event.subject_tag
    if old is None or not same or old.state not in _LIVE:
        findings.add("consent_replaced", index)
        return
    old.state, old.touched = State.SUPERSEDED, index


def change(
    room: Room, findings: Findings, index: int, event: ConsentPaused | ConsentResumed | ConsentRevoked, _: datetime
) -> None:
    """A consent was paused, resumed or revoked."""
    now = room.consents.get(event.consent)
    if now is None:
        findings.add("consent_unknown", index)
        return
    try:
        now.state = next_state(now.state, _CHANGES[type(event)])
    except ConsentTransition:
        findings.add("consent_transition", index)
    now.touched = index


def revoke_authority(room: Room, findings: Findings, index: int, event: AuthorityRevoked, _: datetime) -> None:
    """An authority lost its standing."""
    if room.authorities_revoked.setdefault(event.authority, index) != index:
        findings.add("authority_unknown", index)


def erase(room: Room, _: Findings, index: int, event: SubjectErased, __: datetime) -> None:
    """A subject's key was destroyed: no consent from before permits anything."""
    room.subjects.pop(event.subject_tag, None)
    room.erased[event.subject_tag] = index


def use(room: Room, findings: Findings, index: int, event: Decision, time: datetime) -> None:
    """A decision used a consent: it must be the right one, live at this index, and have a use left."""
    now = room.by_index.get(event.consent_index)
    if now is None:
        findings.add("consent_unknown", index)
        return
    if event.consent_hash != now.consent_hash:
        findings.add("consent_hash", index)
    if (
        event.institution != now.institution
        or event.subject_tag != now.subject_tag
        or event.product not in now.products
    ):
        findings.add("consent_binding", index)
    _check_live(room, findings, index, now, time)
    _count(findings, index, event, now, time)


def _check_live(room: Room, findings: Findings, index: int, now: ConsentNow, time: datetime) -> None:
    if now.state is State.PAUSED:
        findings.add("consent_paused", index)
    elif now.state is not State.GRANTED:
        findings.add("consent_ended", index)
    if now.authority in room.authorities_revoked:
        findings.add("authority_unknown", index)
    if room.erased.get(now.subject_tag, -1) > now.index:
        findings.add("consent_erased", index)
    if not now.not_before <= time < now.expires:
        findings.add("consent_window", index)


def _count(findings: Findings, index: int, event: Decision, now: ConsentNow, time: datetime) -> None:
    if event.use != now.uses + 1:
        findings.add("use_number", index, detail=f"{event.use} after {now.uses}")
    if event.max_uses != now.max_uses:
        findings.add("use_max", index)
    now.uses, now.touched = event.use, index  # as told, so that one gap is one finding
    if now.uses > now.max_uses:
        findings.add("use_exceeded", index)
    if now.unit in PERIODS and now.frequency is not None:
        period = PERIODS[now.unit](time.date())
        now.period_uses = now.period_uses + 1 if period == now.period else 1
        now.period = period
        if now.period_uses > now.frequency:
            findings.add("frequency_exceeded", index)


def _week(day: date) -> str:
    year, week, _ = day.isocalendar()
    return f"{year:04d}-W{week:02d}"


def _month(day: date) -> str:
    return day.isoformat()[:7]


PERIODS: Final[dict[str, Callable[[date], str]]] = {"day": date.isoformat, "week": _week, "month": _month}
