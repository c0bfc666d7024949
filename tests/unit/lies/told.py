"""What every lie begins with: a room, and consents that were used in it."""

from datetime import timedelta
from typing import Any

from tests.unit.story import Consent, Story

PRODUCT, CARD = "north/loan", "north/card"
BOB = "institution/north/bob"


def day() -> Story:
    """A room with one dataset and two champions."""
    story = Story()
    story.load("tax.declaration")
    story.launch(PRODUCT)
    story.launch(CARD)
    story.launch("south/loan")
    return story


def used(story: Story, times: int = 1, product: str = PRODUCT, **terms: Any) -> Consent:
    """A consent that was used."""
    consent = story.grant(product, 1, **terms)
    for _ in range(times):
        story.decide(consent)
    return consent


def wait(story: Story, **span: float) -> None:
    """Nothing happens for that long."""
    story.time += timedelta(**span)
