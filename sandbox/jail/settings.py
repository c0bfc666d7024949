"""Limits of the jail, each with its unit and its reason."""

from dataclasses import dataclass

from sandbox.jail.walls import Limits


@dataclass(frozen=True)
class JailSettings:
    """Frozen settings of a `JailPool`.

    Attributes:
        isolation: one-shot (a process for each call) or warm (a process for many calls of one version).
        score_deadline_ms: from request to answer; a 300-tree model takes under 2, so a thousand is a hanging model.
        load_deadline_ms: from bundle to report; parsing, optimising and parity samples of a 64 MiB model.
        start_deadline_ms: for the zygote's imports, on a loaded machine.
        memory_bytes_max: address space beyond the interpreter's for a template or one-shot; onnxruntime holds a model
            several times over while it loads.
        spare: one-shots that wait for requests, for each loaded version; two cover a call that comes while the
            replacement of the last is being forked.
        one_shots_max: one-shots of one version alive at once; more only queue on the cores.
        templates_max: loaded versions kept; the least recently used idle one is unloaded beyond it (about 15 MB each).
        loads_at_once: bundles being parsed at the same time; more starve the calls of their cores.
    """

    isolation: str = "one-shot"
    score_deadline_ms: int = 1_000
    load_deadline_ms: int = 30_000
    start_deadline_ms: int = 20_000
    memory_bytes_max: int = 1024 * 2**20
    spare: int = 2
    one_shots_max: int = 64
    templates_max: int = 256
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
