"""The nightly check: the server has its own log checked whole, and says what came of it.

The check is a process of its own at the lowest priority (`heixia audit fsck --home … --background`): it shares neither
interpreter nor locks with the calls, reads a snapshot, and needs no key. Its verdict is an entry, a metric and, unless
both are sound, an error in the operator's log.

The server goes on when the verdict is `broken`. Whoever can edit a row could otherwise stop everybody's calls; each
call proves its own consent and version again in its commit, whatever the rows say; and what is broken must be looked
at by people, who need the log served. The entry cannot be taken back: it is under the next checkpoints.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from audit.errors import HeixiaError
from audit.findings import Verdict
from audit.kinds import AuditChecked
from audit.ledger import Ledger
from enclave_api.metrics import Metrics

BY = "server"
TIMEOUT_S = 6 * 3600.0  # a log of some hundred million entries; by then the night is over

_log = structlog.get_logger("heixia")


@dataclass(frozen=True)
class Outcome:
    """What a check said: how many entries there were, both verdicts, and the first bad index where one is known."""

    size: int
    integrity: Verdict
    completeness: Verdict
    first_bad: int | None

    @property
    def sound(self) -> bool:
        """Whether both are."""
        return self.integrity is self.completeness is Verdict.SOUND


Check = Callable[[], Awaitable[Outcome | None]]


def seconds_until(now: datetime, hour: int) -> float:
    """Seconds to the next time that the clock shows this full hour, UTC; never 0."""
    next_ = now.replace(hour=hour, minute=0, second=0, microsecond=0)
    return ((next_ if next_ > now else next_ + timedelta(days=1)) - now).total_seconds()


@dataclass(frozen=True)
class Nightly:
    """Checks at an hour of each day (UTC). `check` answers None where the check did not come to an end."""

    ledger: Ledger
    metrics: Metrics
    check: Check
    hour: int
    clock: Callable[[], datetime]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def run_forever(self) -> None:
        """Waits and checks until cancelled; a check that fails is told, and tried again the next night."""
        while True:
            await self.sleep(seconds_until(self.clock(), self.hour))
            try:
                await self.run()
            except HeixiaError as error:  # the ledger is busy or has closed; the latter ends the server anyway
                _log.error("the check of the log left no entry", code=error.code)

    async def run(self) -> None:
        """Checks once."""
        size = self.ledger.size
        outcome = await self.check() or Outcome(size, Verdict.UNCHECKED, Verdict.UNCHECKED, None)
        self.metrics.checked(outcome.integrity, outcome.completeness, self.clock().timestamp())
        say = _log.info if outcome.sound else _log.error
        say("log checked", **vars(outcome))
        event = AuditChecked(BY, outcome.size, outcome.integrity, outcome.completeness, outcome.first_bad)
        await self.ledger.append(lambda *_: (event, None))


async def check_in_process(home: Path, timeout_s: float = TIMEOUT_S) -> Outcome | None:
    """Has a home checked by the command, in a process of lowest priority; None where it gave no verdict."""
    command = [sys.executable, "-m", "enclave_api", "audit", "fsck", "--home", str(home), "--background", "--json"]
    # It opens nothing that is locked: what unlocks the root secret is not its business.
    environment = {name: value for name, value in os.environ.items() if name != "HEIXIA_PASSPHRASE"}
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdin=nothing, stdout=pipe, stderr=pipe, env=environment)
    try:
        said, complained = await asyncio.wait_for(process.communicate(), timeout_s)
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:  # late, or the server stops
            process.kill()
            await process.wait()
    outcome = _outcome(said)
    if outcome is None:
        # The catalogue's words alone: a defect's trace may quote what it stumbled over.
        words = [line for line in complained.decode(errors="replace").splitlines() if line.startswith("error: ")]
        _log.error("the check of the log gave no verdict", code=process.returncode, said=" ".join(words)[:500])
    return outcome


def _outcome(said: bytes) -> Outcome | None:
    try:
        report: dict[str, Any] = json.loads(said)
        integrity, completeness = (Verdict(report[name]["verdict"]) for name in ("integrity", "completeness"))
        return Outcome(int(report["size"] or 0), integrity, completeness, report["first_bad"])
    except (ValueError, KeyError, TypeError):  # it ended without a word: no database, no memory, killed
        return None
