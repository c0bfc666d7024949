"""Prometheus metrics on a loopback port. Labels are methods, codes, steps, witnesses: no subject, caller, product."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from audit.findings import Verdict
from enclave_api.errors import AddressTaken

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_SOUND = {Verdict.SOUND: 1, Verdict.BROKEN: 0, Verdict.UNCHECKED: -1}


@dataclass
class Metrics:
    """The figures of one server."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        """Registers the collectors."""
        self._rpcs = Counter("heixia_rpcs", "Calls by method, outcome.", ["method", "outcome"], registry=self.registry)
        self._rpc_seconds = Histogram(
            "heixia_rpc_seconds", "Time of a call.", ["method"], buckets=_SECONDS, registry=self.registry
        )
        self._step_seconds = Histogram(
            "heixia_decision_step_seconds",
            "Time of a decision's step.",
            ["step"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._log_sound = Gauge(
            "heixia_log_sound",
            "Last check of the whole log: 1 = sound, 0 = broken, -1 = not checked to the end.",
            ["verdict"],
            registry=self.registry,
        )
        self._log_checked = Gauge(
            "heixia_log_checked_timestamp_seconds", "When the log was last checked.", registry=self.registry
        )
        self._size = Gauge("heixia_log_entries", "Entries in the log.", registry=self.registry)
        self._published = Gauge(
            "heixia_log_published_entries", "Entries under the published checkpoint.", registry=self.registry
        )
        self._witness_size = Gauge(
            "heixia_witness_entries", "Entries that a witness cosigned last.", ["witness"], registry=self.registry
        )
        self._witness_age = Gauge(
            "heixia_witness_age_seconds",
            "Time since a witness cosigned; grows too while the log has nothing new.",
            ["witness"],
            registry=self.registry,
        )

    def watch_log(self, size: Callable[[], int]) -> None:
        """Shows the log's size."""
        self._size.set_function(size)

    def published(self, size: int) -> None:
        """A checkpoint was published."""
        self._published.set(size)

    def cosigned(self, witness: str, size: int) -> None:
        """A witness, by its name in the policy, cosigned."""
        at = time.monotonic()
        self._witness_size.labels(witness).set(size)
        self._witness_age.labels(witness).set_function(lambda: time.monotonic() - at)

    def checked(self, integrity: Verdict, completeness: Verdict, at_s: float) -> None:
        """Tells how a check of the whole log ended, and when (Unix seconds; 0 = not since the start)."""
        for name, verdict in (("integrity", integrity), ("completeness", completeness)):
            self._log_sound.labels(name).set(_SOUND[verdict])
        self._log_checked.set(at_s)

    def rpc(self, method: str, outcome: str, seconds: float) -> None:
        """Counts a finished call."""
        self._rpcs.labels(method, outcome).inc()
        self._rpc_seconds.labels(method).observe(seconds)

    def step(self, name: str, seconds: float) -> None:
        """Counts a finished step of a decision."""
        self._step_seconds.labels(name).observe(seconds)

    def serve(self, host: str, port: int) -> WSGIServer:
        """Serves `/metrics`; raises AddressTaken."""
        try:
            server, _ = start_http_server(port, addr=host, registry=self.registry)
        except (OSError, OverflowError) as error:
            told = f"{host}:{port} for --metrics is in use or not of this machine"
            raise AddressTaken("metrics", public=told) from error
        return server
