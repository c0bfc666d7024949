"""HPKE keys in the replay: one epoch after another, each destroyed once, in order, and not before its date."""

from datetime import datetime, timedelta

from audit.event import parse_time
from audit.findings import Findings
from audit.kinds import EnclaveStarted, KeyDestroyed, KeyRotated
from model_registry.key_epochs import OVERLAP_DAYS_MAX
from sandbox.replay.state import KeyNow, Room


def start(room: Room, findings: Findings, index: int, event: EnclaveStarted, time: datetime) -> None:
    """A process began to serve, with the newest key; the first start of all makes epoch 0."""
    room.evidence = (event.evidence_hash, event.evidence_format, event.isolation)
    if not room.keys:
        if event.epoch != 0:
            findings.add("key_epoch", index, detail=f"{event.epoch} is the first")
        room.keys.append(KeyNow(event.epoch, event.key_id, index, time, index))
    elif (event.epoch, event.key_id) != (room.keys[-1].epoch, room.keys[-1].key_id):
        findings.add("key_start", index)


def rotate(room: Room, findings: Findings, index: int, event: KeyRotated, time: datetime) -> None:
    """An operator made a new key the newest, and said how long the older ones live."""
    expected = room.keys[-1].epoch + 1 if room.keys else 0
    if event.epoch != expected or any(event.key_id == key.key_id for key in room.keys):
        findings.add("key_epoch", index, detail=f"{event.epoch}, not {expected}")
    if not event.by.startswith("operator/"):
        findings.add("actor_foreign", index)
    until = parse_time(event.older_until)
    if not time <= until <= time + timedelta(days=OVERLAP_DAYS_MAX):
        findings.add("key_until", index)
    for key in room.keys:
        if key.destroyed is None and (key.until is None or key.until > until):
            key.until, key.touched = until, index
    room.keys.append(KeyNow(event.epoch, event.key_id, index, time, index))
    if room.evidence is not None:
        room.evidence = (event.evidence_hash, *room.evidence[1:])


def destroy(room: Room, findings: Findings, index: int, event: KeyDestroyed, time: datetime) -> None:
    """An older epoch's key was destroyed: the oldest that was alive, and its date had come."""
    alive = [key for key in room.keys if key.destroyed is None]
    if len(alive) < 2 or (event.epoch, event.key_id) != (alive[0].epoch, alive[0].key_id):
        findings.add("key_destroyed", index)
        return
    if alive[0].until is None or time < alive[0].until:
        findings.add("key_early", index)
    alive[0].destroyed = alive[0].touched = index
