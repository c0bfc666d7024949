"""Lies about versions and decisions: each tells a story on, and returns the bad index."""
# ruff: noqa: D103 - the law that a lie breaks is named where they are listed, in tests/unit/test_replay_laws.py

from collections.abc import Callable
from typing import Any

from audit import kinds as entries
from tests.unit.lies.told import BOB, PRODUCT, used
from tests.unit.story import Story


def unknown_version(story: Story) -> int:
    return story.tell(entries.VersionApproved("north/loan@9", BOB))


def number(story: Story) -> int:
    story.numbers[PRODUCT] = 7
    story.submit(PRODUCT)
    return len(story.told) - 2


def owner(story: Story) -> int:
    version = story.submit(PRODUCT).version
    return story.tell(entries.VersionApproved(version, "institution/south/bob"))


def unadmitted(story: Story) -> int:
    version = story.submit(PRODUCT).version
    return story.tell(entries.VersionPromoted(version, BOB, story.champions[PRODUCT].version, story.promoted[PRODUCT]))


def alone(story: Story) -> int:
    version = story.submit(PRODUCT)
    return story.tell(entries.VersionApproved(version.version, version.by))


def previous(story: Story) -> int:
    return story.tell(entries.VersionPromoted(story.champions[PRODUCT].version, BOB, None, None))


def previous_index(story: Story) -> int:
    version = story.submit(PRODUCT).version
    story.tell(entries.VersionApproved(version, BOB))
    return story.tell(entries.VersionPromoted(version, BOB, story.champions[PRODUCT].version, 0))


def champion_again(story: Story) -> int:
    champion = story.champions[PRODUCT].version
    return story.tell(entries.VersionPromoted(champion, BOB, champion, story.promoted[PRODUCT]))


def rolled_back_to_unapproved(story: Story) -> int:
    admitted = story.submit(PRODUCT).version
    champion = story.launch(PRODUCT).version
    return story.tell(entries.VersionPromoted(admitted, BOB, champion, story.promoted[PRODUCT]))


def rules_for(base: Callable[[Story], str]) -> Callable[[Story], int]:
    def lie(story: Story) -> int:
        story.submit(PRODUCT, base(story))
        return len(story.told) - 2

    return lie


def gone(story: Story) -> str:
    version = story.submit(PRODUCT).version
    story.tell(entries.VersionRetired(version, BOB))
    return version


def unjudged(story: Story) -> str:
    version = story.submit(PRODUCT).version
    story.told.pop()  # its admission
    return version


def retired_champion(story: Story) -> int:
    return story.tell(entries.VersionRetired(story.champions[PRODUCT].version, BOB))


def anothers_hold(story: Story) -> int:
    version = story.champions[PRODUCT].version
    story.tell(entries.VersionSuspended(version, "operator/operations", "security"))
    return story.tell(entries.VersionResumed(version, BOB, "security"))


def old_champion(story: Story) -> int:
    old = story.champions[PRODUCT]
    story.launch(PRODUCT)
    return story.decide(story.grant(PRODUCT, 1), version=old.version, bundle_hash=old.bundle_hash)


def held_back(story: Story) -> int:
    story.tell(entries.VersionSuspended(story.champions[PRODUCT].version, BOB, "security"))
    return story.decide(story.grant(PRODUCT, 1))


def retired(story: Story) -> int:
    story.tell(entries.VersionRetired(story.champions[PRODUCT].version, BOB))
    return story.decide(story.grant(PRODUCT, 1))


def lie(**lies: Any) -> Callable[[Story], int]:
    return lambda story: story.decide(used(story), **lies)


def by(kind: Callable[[str, str, str], entries.Event], by: str) -> Callable[[Story], int]:
    return lambda story: story.tell(kind(used(story).event.consent, by, "security"))
