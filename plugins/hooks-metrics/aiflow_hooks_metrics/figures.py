"""The figures that were told last, as gauges."""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from aiflow_core.clock import Clock
from aiflow_core.model.figures import ObserverFigures, SchedulerFigures
from aiflow_core.model.status import TASK_ALIVE, WORKFLOW_FINISHED, WorkflowStatus

# Of the figures that are one number: its name as a metric, and what it means.
_NUMBERS = {
    "head": ("log_head_offset", "Offset of the newest event of the log."),
    "taken_in": ("log_taken_in_offset", "Offset of the last event that was decided on."),
    "inbox": ("inbox_events", "Events in memory that wait to be decided on."),
    "outbox": ("outbox_messages", "Messages that are decided on and on their way to the log."),
    "reports": ("reports_waiting", "Events of the server's own that wait for the log."),
    "dead_letters": ("dead_letters", "Events that could not be taken in."),
}


class LatestFigures(Collector):
    """Yields nothing but what was told last: no gauge outlives what it measures."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: tuple[SchedulerFigures, Mapping[str, ObserverFigures], float] | None = None

    def take(self, figures: SchedulerFigures, observers: Mapping[str, ObserverFigures]) -> None:
        """These are the latest."""
        self._told = figures, observers, self._clock.now_ms() / 1000

    def collect(self) -> Iterable[Metric]:
        if self._told is None:
            return
        figures, observers, taken_at = self._told
        yield _gauge("figures_timestamp_seconds", "When the gauges were taken.", taken_at)
        yield _gauge("leader", "Whether this server schedules.", figures.leads)
        if figures.leads:
            yield from _of_the_leader(figures)
        yield from _of_the_observers(observers)


def _of_the_leader(figures: SchedulerFigures) -> Iterator[Metric]:
    for field, (name, meaning) in _NUMBERS.items():
        yield _gauge(name, meaning, getattr(figures, field))
    yield _gauge(
        "log_lag_events",
        "Events of the log that were not decided on yet.",
        figures.head - figures.taken_in,
    )
    tasks = GaugeMetricFamily(
        "aiflow_task_executions", "Task executions that are alive.", labels=["status"]
    )
    for status in sorted(TASK_ALIVE):
        tasks.add_metric([status], figures.tasks.get(status, 0))
    yield tasks
    executions = GaugeMetricFamily(
        "aiflow_workflow_executions", "Workflow executions that are alive.", labels=["status"]
    )
    for alive in sorted(frozenset(WorkflowStatus) - WORKFLOW_FINISHED):
        executions.add_metric([alive], figures.executions.get(alive, 0))
    yield executions


def _of_the_observers(observers: Mapping[str, ObserverFigures]) -> Iterator[Metric]:
    label = ["observer"]
    dropped = CounterMetricFamily(
        "aiflow_observer_calls_dropped", "Calls for which an observer was too slow.", labels=label
    )
    failed = CounterMetricFamily(
        "aiflow_observer_calls_failed", "Calls in which an observer raised.", labels=label
    )
    waiting = GaugeMetricFamily(
        "aiflow_observer_calls_waiting", "Calls that wait for an observer.", labels=label
    )
    left_out = GaugeMetricFamily(
        "aiflow_observer_left_out", "Whether an observer is called no more.", labels=label
    )
    for name, figures in observers.items():
        dropped.add_metric([name], figures.dropped)
        failed.add_metric([name], figures.failed)
        waiting.add_metric([name], figures.waiting)
        left_out.add_metric([name], figures.left_out)
    yield from (dropped, failed, waiting, left_out)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"aiflow_{name}", meaning, value=value)
