"""Consents in the replay: registered, changed, ended; and whether a decision had one to stand on."""

from datetime import datetime

from audit.findings import Findings
from audit.kinds import (
    AuthorityRevoked,
    ConsentGranted,
    ConsentPaused,
    ConsentResumed,
    ConsentRevoked,
    Decision,
    SubjectErased,
)
from sandbox.consent import CAPS, DAY_SECONDS, Cap
from sandbox.consent_life import TRANSITIONS, Change, State, calendar_period, next_state
from sandbox.errors import ConsentTransition
from sandbox.replay.state import ConsentNow, Room, is_of

_CHANGES = {ConsentPaused: Change.PAUSE, ConsentResumed: Change.RESUME, ConsentRevoked: Change.REVOKE}
_UNUSABLE = {State.PAUSED: "consent_paused", State.INVALIDATED: "authority_unknown"}
SUBJECT = "subject"  # how the log names one that acts for itself
_UNITS = ("day", "week", "month")


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
        and _often_enough(event, cap)
    )


def _often_enough(event: ConsentGranted, cap: Cap) -> bool:
    unit, frequency = event.frequency_unit, event.frequency
    if unit is None or frequency is None:
        return unit is None and frequency is None and cap.often is None
    most = frequency if cap.often is None else cap.often.get(unit, 0)
    return unit in _UNITS and 1 <= frequency <= most


def _replace(room: Room, findings: Findings, index: int, event: ConsentGranted) -> None:
    old = room.consents.get(event.replaces or "")
    if old is None or (old.authority, old.subject_tag, old.institution, old.purpose) != (
        *(event.authority, event.subject_tag, event.institution, event.purpose),
    ):
        findings.add("consent_replaced", index)
        return
    _change(room, findings, index, old, Change.SUPERSEDE, "consent_replaced")


def change(
    room: Room, findings: Findings, index: int, event: ConsentPaused | ConsentResumed | ConsentRevoked, _: datetime
) -> None:
    """A consent was paused, resumed or revoked."""
    now = room.consents.get(event.consent)
    if now is None:
        findings.add("consent_unknown", index)
        return
    if not (is_of(event.by, "authority", now.authority) or (isinstance(event, ConsentRevoked) and event.by == SUBJECT)):
        findings.add("actor_foreign", index)
    _change(room, findings, index, now, _CHANGES[type(event)], "consent_transition")


def _change(room: Room, findings: Findings, index: int, now: ConsentNow, what: Change, code: str) -> None:
    try:
        now.state = next_state(_state(room, now), what)
    except ConsentTransition:
        findings.add(code, index)
    now.touched = index


def _state(room: Room, now: ConsentNow) -> State:
    """Where a consent stands: the end of its authority ended it too, unless it had ended before."""
    ended = now.authority in room.authorities_revoked and (now.state, Change.INVALIDATE) in TRANSITIONS
    return next_state(now.state, Change.INVALIDATE) if ended else now.state


def revoke_authority(room: Room, findings: Findings, index: int, event: AuthorityRevoked, _: datetime) -> None:
    """An authority lost its standing."""
    if room.authorities_revoked.setdefault(event.authority, index) != index:
        findings.add("authority_unknown", index)
    if not event.by.startswith("operator/"):
        findings.add("actor_foreign", index)


def erase(room: Room, findings: Findings, index: int, event: SubjectErased, _: datetime) -> None:
    """A subject's key was destroyed: no consent from before permits anything, no answer from before is repeated."""
    if room.subjects.pop(event.subject_tag, None) is None:
        findings.add("subject_unknown", index)
    if event.by != SUBJECT and (
        not event.by.startswith("authority/") or event.by.split("/")[1] in room.authorities_revoked
    ):
        findings.add("actor_foreign", index)
    room.erased[event.subject_tag] = index
    for tags in room.answered.values():
        tags.discard(event.subject_tag)


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
    state = _state(room, now)
    if state is not State.GRANTED:
        findings.add(_UNUSABLE.get(state, "consent_ended"), index)
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
    if now.unit in _UNITS and now.frequency is not None:
        period = calendar_period(now.unit, time)
        now.period_uses = now.period_uses + 1 if period == now.period else 1
        now.period = period
        if now.period_uses > now.frequency:
            findings.add("frequency_exceeded", index)
