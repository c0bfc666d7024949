"""The pool: one zygote, a template for each loaded version, a fresh one-shot for each call.

All of it runs in the server's event loop, which never forks: the zygote is a new interpreter, and the zygote and the
templates do the forking. What dies is replaced: a one-shot with every call, a template from its kept program at the
next call, the zygote likewise.
"""

import asyncio
import json
import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from model_registry.errors import Reason
from sandbox.errors import JailUnavailable, WorkerMisbehaved
from sandbox.jail import channel
from sandbox.jail.processes import Zygote
from sandbox.jail.settings import JailSettings
from sandbox.jail.status import ScoreStatus
from sandbox.jail.template_handle import Template

_DRILL_ANSWER_BYTES_MAX = 65_536


@dataclass(frozen=True)
class Program:
    """What a template loads.

    Attributes:
        manifest: the manifest's canonical JSON; empty = judge the model by itself (`inspect` alone).
        content: serialised BundleContent, in the clear; stays in the server's memory while the version is loaded.
        codes: full field name → code list, for the manifest's category fields.
        base: serialised BundleContent whose model `content` goes with, where it has none of its own.
    """

    manifest: bytes
    content: bytes
    codes: Mapping[str, tuple[str, ...]]
    base: bytes = b""

    def frame(self) -> bytes:
        """The program as a template receives it."""
        codes = {name: list(values) for name, values in self.codes.items()}
        return channel.join_program(self.manifest, self.content, json.dumps(codes).encode(), self.base)


@dataclass(frozen=True)
class AdmissionReport:
    """Whether a program was admitted, why not, and what its model is; for the model's owner."""

    reasons: tuple[Reason, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def admitted(self) -> bool:
        """No reason against it."""
        return not self.reasons


@dataclass(frozen=True)
class ScoreAnswer:
    """One call's outcome; `value` is the limit in yuan before snapping, 0.0 unless the status is OK."""

    status: ScoreStatus
    value: float


@dataclass(frozen=True)
class DrillResult:
    """What came back from a drill: `ended` is answered, ended (killed or gone without an answer), or timeout."""

    ended: str
    answer: bytes


_FAILED = ScoreAnswer(ScoreStatus.MODEL_FAILURE, 0.0)


class JailPool:
    """Walled processes for a server; use it from one event loop."""

    def __init__(self, settings: JailSettings) -> None:
        self._settings = settings
        self._zygote: Zygote | None = None
        self._programs: dict[str, Program] = {}
        self._templates: OrderedDict[str, Template] = OrderedDict()
        self._loading: dict[str, asyncio.Lock] = {}
        self._starting = asyncio.Lock()
        # Apart, so that versions which calls wait for never queue behind somebody's submissions.
        self._inspect_slots = asyncio.Semaphore(settings.loads_at_once)
        self._load_slots = asyncio.Semaphore(settings.loads_at_once)
        self._closed = False
        self._tolerated: frozenset[str] | None = None  # walls that the probe found missing; None until then
        self.walls: Mapping[str, dict[str, object]] = {}

    @classmethod
    async def start(cls, settings: JailSettings) -> Self:
        """Start the zygote and measure the walls of a one-shot.

        Raises:
            JailUnavailable: no walled process could be had.
        """
        pool = cls(settings)
        try:
            pool.walls = await pool._probe()
            pool._tolerated = frozenset(name for name, wall in pool.walls.items() if wall["on"] is not True)
        except BaseException:
            await pool.close()
            raise
        return pool

    async def inspect(self, program: Program) -> AdmissionReport:
        """Admit or refuse a program in a template that is thrown away.

        Raises:
            JailUnavailable: no walled process could be had; nothing was decided.
        """
        async with self._inspect_slots:
            template, report = await self._load(program)
        if template is not None:
            template.kill()
        return report

    async def load(self, key: str, program: Program) -> AdmissionReport:
        """Admit a program and keep it loaded under `key`, in place of what was there, once it is admitted.

        Raises:
            JailUnavailable: no walled process could be had; what was loaded stays.
        """
        async with self._load_slots:
            template, report = await self._load(program)
        if template is not None:
            self._programs[key] = self._sharing(program)
            self._keep(key, template)
        return report

    def _sharing(self, program: Program) -> Program:
        """The program with a base that is in memory already: many versions of rules, one copy of their model."""
        for other in self._programs.values() if program.base else ():
            for held in (other.base, other.content):
                if held == program.base:
                    return replace(program, base=held)
        return program

    @property
    def processes(self) -> list[int]:
        """Process ids of the zygote, the templates, and what waits for calls: for measuring."""
        zygote = [self._zygote.process_id] if self._zygote else []
        return zygote + [pid for template in self._templates.values() for pid in template.processes]

    def loaded(self, key: str) -> bool:
        """Whether calls for `key` can be answered (its template may have to be loaded again first)."""
        return key in self._programs

    async def warm(self, key: str) -> None:
        """Have a loaded program's template at hand, loaded again where memory was short; raises JailUnavailable."""
        await self._template(key)

    async def score(self, key: str, vector: bytes) -> ScoreAnswer:
        """Score one vector in a fresh one-shot. Never raises for what a model does.

        Args:
            key: as loaded.
            vector: eight bytes a field, little-endian float64, in manifest order.

        Raises:
            JailUnavailable: not loaded, no process within the deadline, no core for it within its slot, or the zygote
                died twice under the call; nothing left the walls, the call may be repeated.
        """
        if len(vector) > channel.REQUEST_BYTES_MAX or not vector:
            return ScoreAnswer(ScoreStatus.BAD_REQUEST, 0.0)
        try:
            answer = await self._ask(key, vector)
        except (WorkerMisbehaved, TimeoutError):
            return _FAILED
        return _believed(answer)

    async def _ask(self, key: str, vector: bytes) -> bytes:
        template = await self._template(key)
        try:
            return await template.ask(vector, channel.ANSWER.size)
        except JailUnavailable:
            if template.alive:
                raise
        # it died under the call, which has had no answer: once more, on a new one
        return await (await self._template(key)).ask(vector, channel.ANSWER.size)

    async def drill(self, source: bytes, request: bytes = b"\0") -> DrillResult:
        """Run an operator's Python behind the very walls: top level as a template, `run(request)` as a one-shot.

        For diagnosis and for the tests of the walls; no RPC leads here.

        Raises:
            JailUnavailable: no walled process could be had.
        """
        template = await self._open()
        try:
            async with asyncio.timeout(self._settings.load_deadline_ms / 1000):
                reasons = (await template.load(channel.DRILL, source)).reasons
            if reasons:
                return DrillResult("answered", b"!" + reasons[0].text.encode())
            return DrillResult("answered", await template.ask(request, _DRILL_ANSWER_BYTES_MAX))
        except TimeoutError:
            return DrillResult("timeout", b"")
        except (WorkerMisbehaved, JailUnavailable):
            return DrillResult("ended", b"")
        finally:
            template.kill()

    async def unload(self, key: str) -> None:
        """Forget a program and end its template when the calls it has begun are answered; unknown keys are fine."""
        self._programs.pop(key, None)
        self._loading.pop(key, None)
        template = self._templates.pop(key, None)
        if template is not None:
            template.retire()

    async def close(self) -> None:
        """End every walled process; the pool cannot be used again."""
        self._closed = True
        self._programs.clear()
        while self._templates:
            self._templates.popitem()[1].kill()
        if self._zygote is not None:
            self._zygote.kill()
            self._zygote = None

    async def _probe(self) -> Mapping[str, dict[str, object]]:
        # Not a call: its answer depends on no data, and a start on a busy machine need not fit a call's slot.
        patient = replace(self._settings, constant_time=False, score_deadline_ms=self._settings.start_deadline_ms)
        template = await self._open(patient)
        try:
            async with asyncio.timeout(self._settings.start_deadline_ms / 1000):
                await template.load(channel.PROBE, b"")
                report: dict[str, dict[str, object]] = json.loads(await template.ask(b"?", channel.REPORT_BYTES_MAX))
                return report
        except (WorkerMisbehaved, TimeoutError) as error:
            raise JailUnavailable(f"probe of the walls: {str(error) or 'no answer in time'}") from error
        finally:
            template.kill()

    async def _open(self, settings: JailSettings | None = None) -> Template:
        async with self._starting:
            if self._closed:
                raise JailUnavailable("closed")
            if self._zygote is None or not self._zygote.alive:
                if self._zygote is not None:
                    self._zygote.kill()
                    self._zygote = None
                self._zygote = await Zygote.start(self._settings)
            zygote = self._zygote
        try:
            async with asyncio.timeout(self._settings.start_deadline_ms / 1000):
                return await Template.open(zygote, settings or self._settings, self._tolerated)
        except (WorkerMisbehaved, TimeoutError) as error:
            raise JailUnavailable(f"template: {str(error) or 'not there in time'}") from error

    async def _load(self, program: Program) -> tuple[Template | None, AdmissionReport]:
        frame = program.frame()
        if len(frame) > channel.LOAD_BYTES_MAX:
            return None, _refused("model_too_large", f"the bundle has more than {channel.LOAD_BYTES_MAX} bytes")
        template = await self._open()
        admitted = False
        try:
            async with asyncio.timeout(self._settings.load_deadline_ms / 1000):
                report = await template.load(channel.LOAD, frame)
            admitted = not report.reasons
            return (template if admitted else None), AdmissionReport(report.reasons, report.facts)
        except TimeoutError:
            return None, _refused("model_timeout", "loading took longer than the deadline")
        except WorkerMisbehaved as error:
            # where the zygote fell, its templates fell with it: no fault of the model
            if not template.zygote.alive:
                raise JailUnavailable("zygote died while loading") from error
            return None, _refused("model_crashed", "the process ended while loading the model")
        finally:
            if not admitted:
                template.kill()

    async def _template(self, key: str) -> Template:
        template = self._templates.get(key)
        if template is None or not template.alive:
            template = await self._reload(key)
        self._templates.move_to_end(key)
        return template

    async def _reload(self, key: str) -> Template:
        async with self._loading.setdefault(key, asyncio.Lock()):
            template = self._templates.get(key)
            if template is not None and template.alive:  # another call was first
                return template
            program = self._programs.get(key)
            if program is None:
                raise JailUnavailable("not loaded")
            template, _ = await self._load(program)
            if template is None:
                raise JailUnavailable("could not be loaded again")
            if self._programs.get(key) is not program:  # forgotten, or replaced, while it was being loaded
                template.kill()
                newer = self._templates.get(key)
                if newer is None or not newer.alive:
                    raise JailUnavailable("not loaded")
                return newer
            self._keep(key, template)
            return template

    def _keep(self, key: str, template: Template) -> None:
        previous = self._templates.pop(key, None)
        self._templates[key] = template
        template.top_up()
        if previous is not None:
            previous.retire()
        for victim in [k for k, t in self._templates.items() if t.idle and k != key]:
            if not self._crowded():
                break
            self._templates.pop(victim).kill()

    def _crowded(self) -> bool:
        if len(self._templates) > self._settings.templates_max:
            return True
        return sum(t.own_bytes for t in self._templates.values()) > self._settings.templates_bytes_max


def _refused(code: str, text: str) -> AdmissionReport:
    return AdmissionReport((Reason(code, "bundle", text),))


def _believed(answer: bytes) -> ScoreAnswer:
    """An answer as far as it can be believed: the right size, a known status, a number that a limit can be."""
    if len(answer) != channel.ANSWER.size:
        return _FAILED
    code, value = channel.ANSWER.unpack(answer)
    if code not in tuple(ScoreStatus) or not math.isfinite(value) or value < 0:
        return _FAILED
    status = ScoreStatus(code)
    return ScoreAnswer(status, value if status is ScoreStatus.OK else 0.0)
