"""What is heard is what is served."""

import logging
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aiflow_core.config import ObserverSettings
from aiflow_core.errors import ConfigError
from aiflow_core.hooks import Hooks
from aiflow_core.model.decision import Cause, Decision, Outcome
from aiflow_core.model.event import Event, EventType
from aiflow_core.model.execution import TaskExecution, WorkflowExecution, WorkflowInfo
from aiflow_core.model.figures import ObserverFigures, SchedulerFigures
from aiflow_core.model.status import TaskStatus, WorkflowStatus
from aiflow_hooks_metrics.hooks import Metrics

NOW = datetime(2026, 11, 25, tzinfo=UTC)


DECIDED = Decision(1, 1, "t", Outcome.START, "rule 1", Cause.RULE, number=1, time=NOW)


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    metrics = Metrics(port=0)
    metrics.server_started()
    yield metrics
    metrics.server_stopped()


def scraped(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Every sample, by its name and the values of its labels."""
    with urllib.request.urlopen(f"http://{metrics.address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def task(status: TaskStatus, seconds: float | None = None) -> TaskExecution:
    return TaskExecution(
        id=1,
        workflow_execution_id=1,
        task_name="t",
        sequence_number=1,
        status=status,
        begin_date=None if seconds is None else NOW,
        end_date=None if seconds is None else NOW + timedelta(seconds=seconds),
    )


def test_events_are_counted_by_type_with_their_latency(metrics: Metrics) -> None:
    metrics.event_appended(Event("a", create_time=1_000), decided_ms=1_004)
    metrics.event_appended(Event("b", create_time=2_000), decided_ms=2_900)
    metrics.event_appended(Event("c", type=EventType.TIMER, create_time=9_000), decided_ms=8_000)

    found = scraped(metrics)

    assert found["aiflow_events_total", "USER"] == 2
    assert found["aiflow_events_total", "TIMER"] == 1
    assert found["aiflow_decision_latency_seconds_count",] == 3
    assert found["aiflow_decision_latency_seconds_sum",] == pytest.approx(0.904)
    assert found["aiflow_decision_latency_seconds_bucket", "0.005"] == 2


def test_decisions_and_changes_are_counted(metrics: Metrics) -> None:
    metrics.decision_made(DECIDED)
    metrics.task_execution_changed(task(TaskStatus.QUEUED))
    metrics.task_execution_changed(task(TaskStatus.SUCCESS, seconds=20))
    metrics.task_execution_changed(task(TaskStatus.FAILED))
    metrics.workflow_execution_changed(WorkflowExecution(1, 1, NOW, status=WorkflowStatus.RUNNING))
    metrics.workflow_submitted()

    found = scraped(metrics)

    assert found["aiflow_decisions_total", "START"] == 1
    for status in ("QUEUED", "SUCCESS", "FAILED"):
        assert found["aiflow_task_status_changes_total", status] == 1
    assert found["aiflow_task_duration_seconds_sum", "SUCCESS"] == 20
    assert ("aiflow_task_duration_seconds_sum", "FAILED") not in found
    assert found["aiflow_workflow_execution_status_changes_total", "RUNNING"] == 1
    assert found["aiflow_workflow_uploads_total",] == 1


def test_figures_are_those_that_were_told_last(metrics: Metrics) -> None:
    figures = SchedulerFigures(
        leads=True,
        head=12,
        taken_in=10,
        inbox=2,
        outbox=3,
        reports=4,
        tasks={TaskStatus.RUNNING: 5},
        executions={WorkflowStatus.RUNNING: 6},
        dead_letters=7,
    )
    observers = {"slow": ObserverFigures(waiting=1, dropped=2, failed=3, left_out=True)}
    metrics.figures_taken(SchedulerFigures(leads=True, head=1), {})
    metrics.figures_taken(figures, observers)

    found = scraped(metrics)

    assert found["aiflow_leader",] == 1
    assert found["aiflow_log_head_offset",] == 12
    assert found["aiflow_log_taken_in_offset",] == 10
    assert found["aiflow_log_lag_events",] == 2
    assert found["aiflow_inbox_events",] == 2
    assert found["aiflow_outbox_messages",] == 3
    assert found["aiflow_reports_waiting",] == 4
    assert found["aiflow_task_executions", "RUNNING"] == 5
    assert found["aiflow_task_executions", "QUEUED"] == 0
    assert found["aiflow_workflow_executions", "RUNNING"] == 6
    assert found["aiflow_dead_letters",] == 7
    assert found["aiflow_observer_calls_waiting", "slow"] == 1
    assert found["aiflow_observer_calls_dropped_total", "slow"] == 2
    assert found["aiflow_observer_calls_failed_total", "slow"] == 3
    assert found["aiflow_observer_left_out", "slow"] == 1
    assert found["aiflow_figures_timestamp_seconds",] > 1.7e9
    assert found["process_resident_memory_bytes",] > 1e6


def test_a_server_that_stands_by_has_no_figures_of_the_deployment(metrics: Metrics) -> None:
    metrics.figures_taken(SchedulerFigures(leads=True, head=12), {})
    metrics.figures_taken(SchedulerFigures(leads=False), {})

    found = scraped(metrics)

    assert found["aiflow_leader",] == 0
    assert ("aiflow_log_head_offset",) not in found


def test_the_number_of_series_does_not_depend_on_what_users_name(metrics: Metrics) -> None:
    def play(names: int) -> int:
        for number in range(names):
            metrics.event_appended(Event(f"key {number}", namespace=f"n{number}"), decided_ms=1)
            metrics.task_execution_changed(
                TaskExecution(number, number, f"task {number}", 1, status=TaskStatus.QUEUED)
            )
        return len(scraped(metrics))

    assert play(1) == play(50)


def test_it_is_served_while_a_server_runs_and_on_this_machine_only() -> None:
    metrics = Metrics(port=0)
    assert metrics.address == ""
    metrics.server_started()
    metrics.server_started()  # another one of this process
    address = metrics.address
    assert address.startswith("127.0.0.1:")
    assert scraped(metrics)

    metrics.server_stopped()
    metrics.server_stopped()

    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://{address}/metrics", timeout=10)


def test_a_port_that_is_taken_is_named_and_nothing_else_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"at 127\.0\.0\.1:{port}.*hooks\.metrics\.port"):
            Metrics(port=port).server_started()

        hooks = Hooks(ObserverSettings())
        hooks.register_installed({"metrics": {"port": port}})
        hooks.server_started(name="aiflow", address="127.0.0.1:1")
        hooks.workflow_submitted(workflow=WorkflowInfo(1, "wf", "default", NOW, NOW), offset=1)
        hooks.close()

    assert hooks.figures()["metrics"].failed == 1
    assert "The observer 'metrics' failed at server_started: Metrics cannot be" in caplog.text
    assert "Traceback" not in caplog.text


def test_it_says_where_it_is_served(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        metrics = Metrics(port=0)
        metrics.server_started()
        assert f"Metrics are served at http://{metrics.address}/metrics" in caplog.text
        metrics.server_stopped()


def test_without_settings_it_is_off() -> None:
    hooks = Hooks()
    hooks.register_installed({})

    assert "metrics" not in hooks.figures()
    hooks.close()
