"""What every test shares: unhurried property tests, and where the real data lies."""

from pathlib import Path

import pytest
from hypothesis import settings

# No law here is about speed, and a shared machine breaks deadlines.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "fixtures"


def fixture_file(name: str) -> Path:
    """A file of real data; skips the test where the shared fixtures are absent (they are not part of the project)."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"real data absent: ../shared/fixtures/{name}")
    return path
