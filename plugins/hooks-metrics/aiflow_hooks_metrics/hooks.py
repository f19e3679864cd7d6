"""The observer `metrics`."""

import logging
import threading
from collections.abc import Mapping
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)

from aiflow_core.clock import Clock
from aiflow_core.errors import ConfigError
from aiflow_core.hookspecs import hook
from aiflow_core.model.decision import Decision
from aiflow_core.model.event import Event
from aiflow_core.model.execution import TaskExecution, WorkflowExecution
from aiflow_core.model.figures import ObserverFigures, SchedulerFigures
from aiflow_core.model.status import TASK_FINISHED
from aiflow_hooks_metrics.figures import LatestFigures

log = logging.getLogger(__name__)

# Seconds. From a commit of SQLite to a scheduler that was away for some minutes.
LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 300)

# Seconds. From a task that does nothing to a day of training.
DURATIONS = (0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)


class Metrics:
    """Counts what it hears, and serves it at `http://<host>:<port>/metrics` while a server runs.

    No label holds a name or an id that users give, so that the number of series is bounded.

    Args:
        port: 0 is any free one; the log says which.
        host: the default is reachable from this machine only; there is no authentication.
    """

    def __init__(self, port: int = 9464, host: str = "127.0.0.1") -> None:
        self.registry = CollectorRegistry()
        self._host = host
        self._port = port
        self._server: tuple[WSGIServer, threading.Thread] | None = None
        self._latest = LatestFigures(Clock())
        self.registry.register(self._latest)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._events = self._counter("events", "Events of the log that were taken in.", "type")
        self._latency = Histogram(
            "aiflow_decision_latency_seconds",
            "From when the log had an event to when what it led to was durable.",
            buckets=LATENCIES,
            registry=self.registry,
        )
        self._decisions = self._counter(
            "decisions", "Rules that were evaluated and mattered.", "outcome"
        )
        self._tasks = self._counter(
            "task_status_changes", "Statuses that task executions took.", "status"
        )
        self._durations = Histogram(
            "aiflow_task_duration_seconds",
            "From when a task execution was first seen running to its end.",
            ["status"],
            buckets=DURATIONS,
            registry=self.registry,
        )
        self._executions = self._counter(
            "workflow_execution_status_changes", "Statuses that workflow executions took.", "status"
        )
        self._uploads = Counter(
            "aiflow_workflow_uploads",
            "Workflows that were uploaded, for the first time or again.",
            registry=self.registry,
        )

    @property
    def address(self) -> str:
        """Where it is served, `host:port`; empty while it is not."""
        return f"{self._host}:{self._server[0].server_port}" if self._server else ""

    # --- what it hears -------------------------------------------------------------------------

    @hook
    def event_appended(self, event: Event, decided_ms: int) -> None:
        self._events.labels(event.type).inc()
        self._latency.observe(max(0, decided_ms - event.create_time) / 1000)

    @hook
    def decision_made(self, decision: Decision) -> None:
        self._decisions.labels(decision.what).inc()

    @hook
    def task_execution_changed(self, task_execution: TaskExecution) -> None:
        status, begun, ended = (
            task_execution.status,
            task_execution.begin_date,
            task_execution.end_date,
        )
        self._tasks.labels(status).inc()
        if status in TASK_FINISHED and begun is not None and ended is not None:
            self._durations.labels(status).observe(max(0.0, (ended - begun).total_seconds()))

    @hook
    def workflow_execution_changed(self, execution: WorkflowExecution) -> None:
        self._executions.labels(execution.status).inc()

    @hook
    def workflow_submitted(self) -> None:
        self._uploads.inc()

    @hook
    def figures_taken(
        self, figures: SchedulerFigures, observers: Mapping[str, ObserverFigures]
    ) -> None:
        self._latest.take(figures, observers)

    # --- the endpoint --------------------------------------------------------------------------

    @hook
    def server_started(self) -> None:
        if self._server is not None:
            return
        try:
            self._server = start_http_server(self._port, self._host, self.registry)
        except OSError as error:
            raise ConfigError(
                f"Metrics cannot be served at {self._host}:{self._port}: {error.strerror}.",
                next_step="Set another hooks.metrics.port in project.yaml.",
            ) from error
        log.info("Metrics are served at http://%s/metrics", self.address)

    @hook
    def server_stopped(self) -> None:
        if self._server is None:
            return
        server, thread = self._server
        self._server = None
        server.shutdown()
        server.server_close()
        thread.join()

    def _counter(self, name: str, meaning: str, label: str) -> Counter:
        return Counter(f"aiflow_{name}", meaning, [label], registry=self.registry)
