"""The nightly check: at its hour, by a clock that the test holds, its verdict an entry, a metric and an error."""

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from sqlalchemy import Engine
from structlog.testing import capture_logs

from audit.event import decode
from audit.findings import Verdict
from audit.kinds import AuditChecked
from audit.ledger import Ledger
from enclave_api.metrics import Metrics
from enclave_api.nightly import Nightly, Outcome, check_in_process, seconds_until
from tests.unit.audit.conftest import engine, ledger  # noqa: F401 - fixtures

NOW = datetime(2026, 11, 24, 17, 59, 59, 500_000, UTC)
SOUND = Outcome(7, Verdict.SOUND, Verdict.SOUND, None)
BROKEN = Outcome(7, Verdict.SOUND, Verdict.BROKEN, 3)


@pytest.mark.parametrize(
    ("now", "hour", "seconds"),
    [
        (NOW, 18, 0.5),
        (NOW, 17, 86_400 - 3_599.5),
        (NOW.replace(hour=18, minute=0, second=0, microsecond=0), 18, 86_400),
    ],
)
def test_the_next_hour(now: datetime, hour: int, seconds: float) -> None:
    """Later today or tomorrow; at the very hour it is tomorrow's, for today's has begun."""
    assert seconds_until(now, hour) == seconds


class Stop(Exception):
    """Ends the loop of a test."""


class Clock:
    """A clock that goes as long as somebody sleeps, and stops the loop after some nights."""

    def __init__(self, nights: int) -> None:
        self.now, self.nights, self.slept = NOW, nights, list[float]()

    def __call__(self) -> datetime:
        """Tell the time."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        if len(self.slept) == self.nights:
            raise Stop
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)


async def nights(ledger: Ledger, *outcomes: Outcome | None) -> tuple[list[AuditChecked], str, list[Any], list[float]]:  # noqa: F811
    """Runs as many nights as there are outcomes; entries, metrics, log lines, sleeps."""
    clock, metrics, waiting = Clock(len(outcomes)), Metrics(), list(outcomes)

    async def check() -> Outcome | None:
        return waiting.pop(0)

    with capture_logs() as lines, pytest.raises(Stop):
        await Nightly(ledger, metrics, check, 18, clock, clock.sleep).run_forever()
    events = [decode(body)[0] for _, body in ledger.entries(0, 100)]
    checked = [event for event in events if isinstance(event, AuditChecked)]
    return checked, generate_latest(metrics.registry).decode(), lines, clock.slept


async def test_a_sound_night(ledger: Ledger) -> None:  # noqa: F811
    """An entry, both gauges up, the time of the check, no error; and the next night again."""
    entries, metrics, lines, slept = await nights(ledger, SOUND, SOUND)
    assert entries == [AuditChecked("server", 7, "sound", "sound", None)] * 2
    assert 'heixia_log_sound{verdict="integrity"} 1.0' in metrics
    assert 'heixia_log_sound{verdict="completeness"} 1.0' in metrics
    assert "heixia_log_checked_timestamp_seconds 1.79" in metrics
    assert [line["log_level"] for line in lines] == ["info", "info"]
    assert slept == [0.5, 86_400]


async def test_a_broken_night_is_loud(ledger: Ledger) -> None:  # noqa: F811
    """The entry names the first bad index, the gauge falls, the operator's log has an error; the server goes on."""
    entries, metrics, lines, _ = await nights(ledger, BROKEN)
    assert entries == [AuditChecked("server", 7, "sound", "broken", 3)]
    assert 'heixia_log_sound{verdict="completeness"} 0.0' in metrics
    assert [(line["log_level"], line["first_bad"]) for line in lines] == [("error", 3)]


async def test_a_check_without_end_is_no_verdict(ledger: Ledger) -> None:  # noqa: F811
    """What ended without a word is neither sound nor broken, and is told as loudly."""
    entries, metrics, lines, _ = await nights(ledger, None)
    assert entries == [AuditChecked("server", 0, "unchecked", "unchecked", None)]
    assert 'heixia_log_sound{verdict="integrity"} -1.0' in metrics
    assert lines[0]["log_level"] == "error"


async def test_a_closed_ledger_does_not_end_the_nights(engine: Engine, ledger: Ledger) -> None:  # noqa: F811
    """Where the entry cannot be written the error is told, and the loop goes on."""
    ledger.close()
    _, _, lines, slept = await nights(ledger, SOUND, SOUND)
    assert [line["code"] for line in lines if "code" in line] == ["ledger_closed"] * 2
    assert len(slept) == 2


async def test_a_home_that_is_none_gives_no_verdict(tmp_path: Path) -> None:
    """The process ends with an error and no report; its words are the operator's."""
    with capture_logs() as lines:
        assert await check_in_process(tmp_path) is None
    assert [(line["code"], "log.policy" in line["said"]) for line in lines] == [(2, True)]


def test_a_check_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is killed and waited for."""
    slow, pid = tmp_path / "slow", tmp_path / "pid"
    slow.write_text(
        f"#!{sys.executable}\nimport os, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n"
    )
    slow.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(slow))
    assert asyncio.run(check_in_process(tmp_path, timeout_s=3)) is None
    assert not Path(f"/proc/{pid.read_text()}").exists()
