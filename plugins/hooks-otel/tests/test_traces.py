"""Which spans there are, and whose child each is."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode, format_span_id, format_trace_id

from aiflow_core.errors import ConfigError, PluginError
from aiflow_core.hooks import Hooks
from aiflow_core.model.decision import Cause, Decision, Outcome
from aiflow_core.model.event import Event, EventType
from aiflow_core.model.execution import (
    AttemptKey,
    AttemptRequest,
    TaskExecution,
    WorkflowExecution,
)
from aiflow_core.model.status import TaskStatus, WorkflowStatus
from aiflow_core.model.workflow import TaskDefinition
from aiflow_hooks_otel.hooks import Traces
from aiflow_hooks_otel.story import Remembered

TRACE = "0af7651916cd43dd8448eb211c80319c"
PRODUCER = "b7ad6b7169203331"
NOW = datetime(2026, 11, 25, tzinfo=UTC)


def decision(task_name: str, what: str = "START", execution: int = 1) -> Decision:
    outcome, why = Outcome(what), "rule 1"
    return Decision(1, execution, task_name, outcome, why, Cause.RULE, number=1, time=NOW)


class Scene:
    """Tells a `Traces` what a scheduler would."""

    def __init__(self, **settings: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.traces = Traces(exporter=self.exporter, **settings)
        self._offset = 0

    def event(
        self, key: str, context: str = "", type: EventType = EventType.USER, value: str = ""
    ) -> None:
        self._offset += 1
        at = 1000 * self._offset
        event = Event(key, value, context=context, type=type, offset=self._offset, create_time=at)
        self.traces.event_appended(event, begun_ms=at + 10, decided_ms=at + 20)

    def report(self, key: AttemptKey, status: TaskStatus) -> None:
        context = json.dumps({name: getattr(key, name) for name in key.__struct_fields__})
        self.event(f"task_status.wf.{key.task_name}", context, EventType.TASK_STATUS, status)

    def task(self, name: str, status: TaskStatus, number: int = 1, reason: str = "") -> AttemptKey:
        task = TaskExecution(*(1, 1, name, 1), try_number=number, status=status, reason=reason)
        self.traces.task_execution_changed(task)
        return task.attempt

    def execution(self, status: WorkflowStatus, reason: str = "") -> None:
        execution = WorkflowExecution(1, 7, NOW, status=status, reason=reason)
        self.traces.workflow_execution_changed(execution)

    def decide(self, task_name: str, what: str = "START") -> None:
        self.traces.decision_made(decision(task_name, what))

    def start(self, name: str) -> AttemptKey:
        """A rule starts a task."""
        self.decide(name)
        return self.task(name, TaskStatus.QUEUED)

    def traceparent(self, key: AttemptKey) -> str:
        request = AttemptRequest(
            key=key, namespace="default", workflow_name="wf", task=TaskDefinition(name="t")
        )
        environment = self.traces.before_task_start(request)
        assert [*environment] == ["TRACEPARENT"]
        return environment["TRACEPARENT"]

    def spans(self) -> dict[str, ReadableSpan]:
        """All that were sent, by name, after the end."""
        self.traces.server_stopped()
        spans = self.exporter.get_finished_spans()
        named = {span.name: span for span in spans}
        assert len(named) == len(spans)
        return named


def lineage(spans: dict[str, ReadableSpan], name: str) -> list[str]:
    """The names of a span's ancestors, the nearest first; of one from outside, its id."""
    by_id = {span.context.span_id: span for span in spans.values()}
    found = []
    parent = spans[name].parent
    while parent is not None:
        if parent.span_id not in by_id:
            return [*found, format_span_id(parent.span_id)]
        found.append(by_id[parent.span_id].name)
        parent = by_id[parent.span_id].parent
    return found


def is_sampled(traceparent: str) -> bool:
    """What its flags say, of which there are others."""
    return bool(int(traceparent.rpartition("-")[2], 16) & 1)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_one_trace_leads_from_an_event_through_decisions_to_tasks(scene: Scene) -> None:
    scene.event("begin")
    first = scene.start("first")
    scene.report(first, TaskStatus.RUNNING)
    scene.task("first", TaskStatus.RUNNING)
    scene.report(first, TaskStatus.SUCCESS)
    scene.task("first", TaskStatus.SUCCESS)
    second = scene.start("second")
    scene.report(second, TaskStatus.FAILED)
    scene.task("second", TaskStatus.FAILED, reason="no such luck")

    spans = scene.spans()

    assert lineage(spans, "task second") == [
        *("decide second", "event task_status.wf.first", "task first"),
        *("decide first", "event begin"),
    ]
    assert len({span.context.trace_id for span in spans.values()}) == 1
    # What led to nothing is no span: the report that the second has failed.
    assert len(spans) == 6
    first_span, second_span = spans["task first"], spans["task second"]
    assert (first_span.start_time, first_span.end_time) == (1_020_000_000, 3_020_000_000)
    assert [event.name for event in first_span.events] == ["QUEUED", "RUNNING"]
    assert second_span.status.status_code is StatusCode.ERROR
    assert second_span.status.description == "no such luck"
    decided = spans["decide first"]
    assert decided.attributes is not None
    assert decided.attributes["aiflow.decision.what"] == "START"
    assert (decided.start_time, decided.end_time) == (1_010_000_000, 1_020_000_000)
    event = spans["event begin"]
    assert (event.start_time, event.end_time) == (1_000_000_000, 1_020_000_000)


def test_the_processes_of_a_task_go_on_with_its_trace(scene: Scene) -> None:
    scene.event("begin")
    key = scene.start("first")

    traceparent = scene.traceparent(key)

    context = scene.spans()["task first"].context
    ids = f"{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}"
    assert traceparent.startswith(f"00-{ids}-")
    assert is_sampled(traceparent)


def test_an_event_of_a_task_goes_on_with_its_trace(scene: Scene) -> None:
    scene.event("begin")
    traceparent = scene.traceparent(scene.start("first"))
    scene.event("made", json.dumps({"workflow_execution_id": 1, "traceparent": traceparent}))
    scene.start("second")

    spans = scene.spans()

    assert lineage(spans, "event made") == ["task first", "decide first", "event begin"]


def test_the_trace_of_a_producer_outside_goes_on(scene: Scene) -> None:
    scene.event("begin", json.dumps({"traceparent": f"00-{TRACE}-{PRODUCER}-01"}))
    traceparent = scene.traceparent(scene.start("first"))

    spans = scene.spans()

    assert lineage(spans, "task first") == ["decide first", "event begin", PRODUCER]
    assert traceparent.startswith(f"00-{TRACE}-")


@pytest.mark.parametrize(
    "context",
    [
        "",
        "no json",
        "[]",
        "{}",
        '{"traceparent": 7}',
        '{"traceparent": "00-0-0-01"}',
        "[" * 100_000,
    ],
)
def test_any_other_context_begins_a_trace(scene: Scene, context: str) -> None:
    scene.event("begin", context)
    scene.start("first")

    assert lineage(scene.spans(), "event begin") == []


def test_an_execution_is_the_child_of_what_started_it(scene: Scene) -> None:
    scene.event("command", type=EventType.COMMAND)
    scene.execution(WorkflowStatus.RUNNING)
    key = scene.start("first")
    scene.report(key, TaskStatus.FAILED)
    scene.task("first", TaskStatus.FAILED)
    scene.execution(WorkflowStatus.FAILED, "task 'first' FAILED")
    scene.event("workflow_status.wf", '{"workflow_execution_id": 1}', EventType.WORKFLOW_STATUS)
    scene.decide("", "NOT STARTED")

    spans = scene.spans()

    assert lineage(spans, "workflow execution") == ["event command"]
    assert lineage(spans, "task first") == ["decide first", "event command"]
    assert lineage(spans, "event workflow_status.wf") == ["workflow execution", "event command"]
    assert spans["workflow execution"].status.description == "task 'first' FAILED"


def test_a_retry_is_the_child_of_the_try_before_it(scene: Scene) -> None:
    scene.event("begin")
    key = scene.start("first")
    scene.report(key, TaskStatus.FAILED)
    scene.task("first", TaskStatus.RETRYING, reason="once")
    scene.event("timer", type=EventType.TIMER)
    again = scene.task("first", TaskStatus.QUEUED, number=2)
    traceparent = scene.traceparent(again)
    scene.report(again, TaskStatus.SUCCESS)
    scene.task("first", TaskStatus.SUCCESS, number=2)

    scene.traces.server_stopped()

    tries = [s for s in scene.exporter.get_finished_spans() if s.name == "task first"]
    first, second = sorted(tries, key=lambda span: span.start_time or 0)
    assert second.parent is not None
    assert second.parent.span_id == first.context.span_id
    assert first.status.description == "once"
    assert format_span_id(second.context.span_id) in traceparent


def test_what_is_under_way_at_the_end_is_sent_as_unfinished(scene: Scene) -> None:
    scene.event("begin")
    scene.start("first")

    span = scene.spans()["task first"]

    assert span.attributes is not None
    assert span.attributes["aiflow.unfinished"] is True


def test_after_a_restart_an_attempt_begins_a_trace(scene: Scene) -> None:
    """Nobody knows any more what led to it."""
    key = AttemptKey(workflow_execution_id=1, task_name="first", sequence_number=1)
    traceparent = scene.traceparent(key)
    assert scene.traceparent(key) == traceparent
    scene.report(key, TaskStatus.SUCCESS)
    scene.task("first", TaskStatus.SUCCESS)
    scene.start("second")

    spans = scene.spans()

    assert lineage(spans, "task second")[-1] == "task first"
    assert format_span_id(spans["task first"].context.span_id) in traceparent


def test_a_part_of_the_traces_is_sent_and_of_each_all_or_nothing() -> None:
    scene = Scene(ratio=0.0)
    scene.event("begin")
    key = scene.start("first")
    assert not is_sampled(scene.traceparent(key))
    scene.report(key, TaskStatus.SUCCESS)
    scene.task("first", TaskStatus.SUCCESS)
    scene.event("asked for", json.dumps({"traceparent": f"00-{TRACE}-{PRODUCER}-01"}))
    scene.start("second")

    assert {*scene.spans()} == {"event asked for", "decide second", "task second"}


def test_what_is_remembered_is_bounded() -> None:
    remembered: Remembered[int] = Remembered(2)
    given_up = []

    class Span:
        def is_recording(self) -> bool:
            return True

        def set_attribute(self, name: str, value: object) -> None:
            assert (name, value) == ("aiflow.unfinished", True)

        def end(self) -> None:
            given_up.append(self)

    spans: list[Any] = [Span() for _ in range(3)]
    for number, span in enumerate(spans):
        remembered.add(number, span)

    assert given_up == spans[:1]
    assert [number for number in range(3) if number in remembered] == [1, 2]


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="is 0 to 1, not 2"):
        Traces(ratio=2)
    with pytest.raises(PluginError, match="has no setting 'url'"):
        Hooks().register_installed({"otel": {"url": "http://127.0.0.1"}})


def test_without_settings_it_is_off_and_with_them_idle_until_told() -> None:
    hooks = Hooks()
    hooks.register_installed({})
    assert "otel" not in hooks.figures()
    hooks.close()

    scene = Scene()
    scene.traces.server_stopped()
    assert scene.traces._provider is None
