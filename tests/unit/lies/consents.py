"""Lies about consents, companies, authorities, datasets: each tells a story on, and returns the bad index."""
# ruff: noqa: D103 - the law that a lie breaks is named where they are listed, in tests/unit/test_replay_laws.py

from dataclasses import replace
from datetime import timedelta

from audit import kinds as entries
from audit.event import format_time
from tests.unit.lies.told import PRODUCT, used, wait
from tests.unit.story import Story, named


def double(story: Story) -> int:
    return story.tell(used(story).event)


def malformed(story: Story) -> int:
    return story.grant(PRODUCT, 1, max_uses=6).index


def late(story: Story) -> int:
    consent = story.grant(PRODUCT, 2)
    wait(story, days=32)
    return story.tell(replace(consent.event, consent="other"))


def unknown(story: Story) -> int:
    return story.decide(story.grant(PRODUCT, 1), consent_index=0)


def transition(story: Story) -> int:
    consent = used(story)
    story.change(entries.ConsentRevoked, consent)
    return story.change(entries.ConsentResumed, consent)


def replaced(story: Story) -> int:
    old = used(story)
    story.change(entries.ConsentRevoked, old)
    return story.grant(PRODUCT, 1, replaces=old.event.consent).index


def authority(story: Story) -> int:
    consent = used(story)
    end_authority(story)
    return story.decide(consent)


def end_authority(story: Story) -> int:
    return story.tell(entries.AuthorityRevoked("consent-office", "operator/operations", "legal-order"))


def authority_grants(story: Story) -> int:
    end_authority(story)
    return story.grant(PRODUCT, 1).index


def authority_twice(story: Story) -> int:
    end_authority(story)
    return end_authority(story)


def pause_invalidated(story: Story) -> int:
    consent = used(story)
    end_authority(story)
    return story.change(entries.ConsentPaused, consent)


def replaced_for_another_purpose(story: Story) -> int:
    old = used(story)
    story.change(entries.ConsentPaused, old)
    return story.grant(
        PRODUCT, 1, replaces=old.event.consent, purpose="monitoring", frequency_unit="day", frequency=1
    ).index


def erased_twice(story: Story) -> int:
    tag = used(story).event.subject_tag
    story.tell(entries.SubjectErased(tag, "subject"))
    return story.tell(entries.SubjectErased(tag, "subject"))


def free_after_erasure(story: Story) -> int:
    consent = used(story)
    story.tell(entries.SubjectErased(consent.event.subject_tag, "subject"))
    return story.decide(story.grant(PRODUCT, 1), free=True)


def paused(story: Story) -> int:
    consent = used(story)
    story.change(entries.ConsentPaused, consent)
    return story.decide(consent)


def ended(story: Story) -> int:
    consent = used(story)
    story.change(entries.ConsentRevoked, consent)
    return story.decide(consent)


def superseded(story: Story) -> int:
    old = used(story)
    story.grant(PRODUCT, 1, replaces=old.event.consent)
    return story.decide(old)


def erased(story: Story) -> int:
    consent = used(story)
    story.tell(entries.SubjectErased(consent.event.subject_tag, "authority/consent-office"))
    return story.decide(consent)


def early(story: Story) -> int:
    return story.decide(story.grant(PRODUCT, 1, not_before=format_time(story.time + timedelta(days=1))))


def expired(story: Story) -> int:
    consent = used(story)
    wait(story, days=31)
    return story.decide(consent)


def fifth_is_last(story: Story) -> int:
    return story.decide(used(story, 5))


def twice_a_day(story: Story) -> int:
    return story.decide(used(story, 1, frequency_unit="day", frequency=1))


def resumed_by_operator(story: Story) -> int:
    consent = used(story)
    story.change(entries.ConsentPaused, consent)
    return story.tell(entries.ConsentResumed(consent.event.consent, "operator/operations", "security"))


def erased_by_a_revoked_authority(story: Story) -> int:
    tag = used(story).event.subject_tag
    end_authority(story)
    return story.tell(entries.SubjectErased(tag, "authority/consent-office"))


def loaded_by_another(story: Story) -> int:
    moment = format_time(story.time)
    return story.tell(entries.DatasetLoaded("tax.declaration", "steward/water", 2, 3, named("load"), moment))


def load_twice(story: Story) -> int:
    event, _ = story.told[2]
    return story.tell(event)
