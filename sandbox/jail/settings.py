"""Limits of the jail, each with its unit and its reason."""

from dataclasses import dataclass

from sandbox.jail.required import MODES
from sandbox.jail.walls import Limits

# a process answers one request and is gone; or many: faster, and a model taken over by one call sees the next
ONE_SHOT, WARM = MODES


@dataclass(frozen=True)
class JailSettings:
    """Frozen settings of a `JailPool`.

    Attributes:
        isolation: ONE_SHOT or WARM.
        score_deadline_ms: from request to answer; a 300-tree model takes under 2, so a thousand is a hanging model.
        process_deadline_ms: how long a call waits for a process; a fork takes 3, more is a crowded machine.
        constant_time: an answer is fetched when the deadline is over and not before, so that its time tells nothing;
            the deadline is then what every call waits.
        load_deadline_ms: from bundle to report; parsing, optimising and parity samples of a 64 MiB model.
        start_deadline_ms: for the zygote's imports; 1 s at rest, 20 were too few on a machine six times overcommitted.
        memory_bytes_max: address space beyond the interpreter's for a template or one-shot; onnxruntime holds a model
            several times over while it loads.
        spare: processes that wait for requests, for each loaded version; two cover a call that comes while the
            replacement of the last is being forked.
        spare_idle_s: after so long without a call a version's waiting processes are let go (about 3 MB each); the next
            call then waits for a fork.
        one_shots_max: processes of one version alive at once; in constant time a call holds one for all of its slot.
        forks_at_once: forks of one version under way; more only get in each other's way on the cores.
        templates_max: loaded versions kept; beyond it, or beyond `templates_bytes_max`, the least recently used idle
            one is unloaded, and loaded again when it is called.
        templates_bytes_max: memory of all loaded versions together, beyond what they share; about 10 MB each.
        loads_at_once: bundles being parsed at the same time; more starve the calls of their cores.
    """

    isolation: str = ONE_SHOT
    score_deadline_ms: int = 1_000
    process_deadline_ms: int = 1_000
    constant_time: bool = False
    load_deadline_ms: int = 30_000
    start_deadline_ms: int = 60_000
    memory_bytes_max: int = 1024 * 2**20
    spare: int = 2
    spare_idle_s: float = 60.0
    one_shots_max: int = 32
    forks_at_once: int = 4
    templates_max: int = 256
    templates_bytes_max: int = 4 * 2**30
    loads_at_once: int = 2

    @property
    def limits(self) -> Limits:
        """The limits as the kernel counts them, in whole CPU seconds, so that they bite after the deadlines."""
        return Limits(
            memory_bytes=self.memory_bytes_max,
            load_cpu_s=-(-self.load_deadline_ms // 1000) + 1,
            score_cpu_s=-(-self.score_deadline_ms // 1000) + 1,
            processes=self.one_shots_max + 8,  # those being torn down still count
        )
