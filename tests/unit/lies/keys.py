"""Lies about the enclave's keys: each tells a story on, and returns the bad index."""
# ruff: noqa: D103 - the law that a lie breaks is named where they are listed, in tests/unit/test_replay_laws.py

from datetime import timedelta

from tests.unit.lies.told import used, wait
from tests.unit.story import Story, named


def destroyed_twice(story: Story) -> int:
    story.rotate(timedelta(0))
    story.destroy(0)
    return story.destroy(0)


def out_of_order(story: Story) -> int:
    story.rotate(timedelta(0))
    story.rotate(timedelta(0))
    return story.destroy(1)


def newest_destroyed(story: Story) -> int:
    story.rotate(timedelta(0))
    story.destroy(0)
    return story.destroy(1)


def another_key_destroyed(story: Story) -> int:
    story.rotate(timedelta(0))
    return story.destroy(0, key_id=named("another")[:16])


def destroyed_early(story: Story) -> int:
    story.rotate(timedelta(days=30))
    wait(story, days=29)
    return story.destroy(0)


def destroyed_before_the_nearer_date(story: Story) -> int:
    story.rotate(timedelta(days=30))
    story.rotate(timedelta(days=1))
    wait(story, hours=23)
    return story.destroy(0)


def old_key_started(story: Story) -> int:
    story.rotate()
    story.epoch = 0
    story.start()
    return len(story.told) - 1


def old_evidence(story: Story) -> int:
    story.rotate()
    return story.decide(used(story), evidence_hash=named("evidence", 0))
