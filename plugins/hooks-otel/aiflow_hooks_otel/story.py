"""Turns what an observer is told into spans: which of them there are, and whose child each is.

* An event that led to something is a span, from when the log had it to when what it led to was
  durable. Its parent is what its context names as `traceparent`, else the attempt or the execution
  of which it tells; else a trace begins with it.
* A decision is a child of its event.
* An attempt of a task is a child of the decision to start it, or of the try before it, from when it
  was queued to its end.
* A workflow execution is a child of what started it.

Spans are remembered here until they end, and a while longer for what follows from them. After a
restart what was under way before has no span any more; what follows from it begins a trace.
"""

import json
from collections import OrderedDict
from typing import Any, Generic, TypeVar

from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from aiflow_core.model.decision import Decision
from aiflow_core.model.event import Event, EventType
from aiflow_core.model.execution import AttemptKey, TaskExecution, WorkflowExecution
from aiflow_core.model.status import (
    TASK_FINISHED,
    WORKFLOW_FINISHED,
    TaskStatus,
    WorkflowStatus,
)

KEPT = 100_000
"""So many attempts, and executions, are remembered; the oldest is given up for a new one."""

_W3C = TraceContextTextMapPropagator()

K = TypeVar("K")


class Story:
    """What was told so far. One thread at a time."""

    def __init__(self, tracer: Tracer, kept: int = KEPT) -> None:
        self._tracer = tracer
        self._attempts: Remembered[AttemptKey] = Remembered(kept)
        self._executions: Remembered[int] = Remembered(kept)
        self._chapter = Chapter(Event(""), 0, 0)

    def event(self, event: Event, begun_ms: int, decided_ms: int) -> None:
        """What is told from now on follows from this event."""
        self._chapter = Chapter(event, begun_ms, decided_ms)

    def decision(self, decision: Decision) -> None:
        """A rule was evaluated."""
        chapter = self._chapter
        concerned = (decision.workflow_execution_id, decision.task_name)
        span = self._tracer.start_span(
            f"decide {decision.task_name or 'execution'}",
            self._context_of_event(),
            start_time=_ns(chapter.begun_ms),
            attributes={
                "aiflow.decision.what": str(decision.what),
                "aiflow.decision.why": decision.why,
                "aiflow.workflow_execution.id": decision.workflow_execution_id,
                "aiflow.task.name": decision.task_name,
            },
        )
        span.end(_ns(chapter.decided_ms))
        chapter.decided[concerned] = set_span_in_context(span)

    def execution(self, execution: WorkflowExecution) -> None:
        """A workflow execution took another status."""
        if execution.id not in self._executions and execution.status not in WORKFLOW_FINISHED:
            self._executions.add(
                execution.id,
                self._tracer.start_span(
                    "workflow execution",
                    self._context_of(execution.id, ""),
                    start_time=_ns(self._chapter.decided_ms),
                    attributes={
                        "aiflow.workflow.id": execution.workflow_id,
                        "aiflow.workflow_execution.id": execution.id,
                        "aiflow.workflow_execution.run_type": str(execution.run_type),
                    },
                ),
            )
        self._note_status(
            *(self._executions, execution.id),
            execution.status,
            failed=execution.status is WorkflowStatus.FAILED,
            has_ended=execution.status in WORKFLOW_FINISHED,
            reason=execution.reason,
        )

    def task(self, task: TaskExecution) -> None:
        """A task execution took another status."""
        if task.status is TaskStatus.QUEUED:
            self._begin_attempt(task.attempt, self._context_of_attempt(task.attempt))
        self._note_status(
            *(self._attempts, task.attempt),
            task.status,
            failed=task.status in (TaskStatus.FAILED, TaskStatus.RETRYING),
            has_ended=task.status in TASK_FINISHED | {TaskStatus.RETRYING},
            reason=task.reason,
        )

    def environment(self, key: AttemptKey) -> dict[str, str]:
        """The variables by which the processes of an attempt go on with its trace."""
        span = self._attempts.get(key) or self._begin_attempt(key, Context())
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, set_span_in_context(span))
        return {name.upper(): value for name, value in carrier.items()}

    def close(self) -> None:
        """End what has not ended."""
        self._attempts.clear()
        self._executions.clear()

    # --- whose child -------------------------------------------------------------------------

    def _context_of_event(self) -> Context:
        """The span of the event from which all follows just now; made when something does."""
        chapter = self._chapter
        if chapter.context is None:
            event = chapter.event
            span = self._tracer.start_span(
                f"event {event.key}",
                self._parent_of(event),
                SpanKind.CONSUMER,
                start_time=_ns(event.create_time),
                attributes={
                    "aiflow.event.offset": event.offset,
                    "aiflow.event.key": event.key,
                    "aiflow.event.type": str(event.type),
                    "aiflow.event.namespace": event.namespace,
                    "aiflow.event.sender": event.sender,
                },
            )
            span.end(_ns(chapter.decided_ms))
            chapter.context = set_span_in_context(span)
        return chapter.context

    def _parent_of(self, event: Event) -> Context:
        facts = _facts(event)
        if "traceparent" in facts:
            carrier = {
                name: facts[name]
                for name in ("traceparent", "tracestate")
                if isinstance(facts.get(name), str)
            }
            return _W3C.extract(carrier, Context())
        spans = [self._executions.get(event.workflow_execution_id or 0)]
        if event.type is EventType.TASK_STATUS:
            spans.insert(0, self._attempts.get(_attempt(facts)))
        return next((set_span_in_context(span) for span in spans if span), Context())

    def _context_of(self, execution_id: int, task_name: str) -> Context:
        """The decision about it, else the event."""
        return self._chapter.decided.get((execution_id, task_name)) or self._context_of_event()

    def _context_of_attempt(self, key: AttemptKey) -> Context:
        if key.try_number > 1:
            before = self._attempts.get(
                AttemptKey(
                    workflow_execution_id=key.workflow_execution_id,
                    task_name=key.task_name,
                    sequence_number=key.sequence_number,
                    try_number=key.try_number - 1,
                )
            )
            if before is not None:
                return set_span_in_context(before)
        return self._context_of(key.workflow_execution_id, key.task_name)

    # --- spans -------------------------------------------------------------------------------

    def _begin_attempt(self, key: AttemptKey, parent: Context) -> Span:
        span = self._tracer.start_span(
            f"task {key.task_name}",
            parent,
            start_time=_ns(self._chapter.decided_ms) or None,
            attributes={
                "aiflow.workflow_execution.id": key.workflow_execution_id,
                "aiflow.task.name": key.task_name,
                "aiflow.task.sequence_number": key.sequence_number,
                "aiflow.task.try_number": key.try_number,
            },
        )
        self._attempts.add(key, span)
        return span

    def _note_status(
        self,
        spans: "Remembered[K]",
        key: K,
        status: str,
        *,
        failed: bool,
        has_ended: bool,
        reason: str,
    ) -> None:
        span = spans.get(key)
        if span is None:
            return
        now = _ns(self._chapter.decided_ms)
        if not has_ended:
            span.add_event(str(status), timestamp=now)
            return
        span.set_attribute("aiflow.status", str(status))
        if failed:
            span.set_status(Status(StatusCode.ERROR, reason))
        span.end(now)
        spans.ended(key)


class Chapter:
    """An event, and what was decided because of it.

    Attributes:
        context: of the span of the event, when it has one.
        decided: of the decisions, by workflow execution and task.
    """

    def __init__(self, event: Event, begun_ms: int, decided_ms: int) -> None:
        self.event = event
        self.begun_ms = begun_ms
        self.decided_ms = decided_ms
        self.context: Context | None = None
        self.decided: dict[tuple[int, str], Context] = {}


class Remembered(Generic[K]):
    """Spans by what they are of, a limited number; one that is given up before it has ended says
    so."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._spans: OrderedDict[K, Span] = OrderedDict()

    def __contains__(self, key: K) -> bool:
        return key in self._spans

    def get(self, key: K | None) -> Span | None:
        return None if key is None else self._spans.get(key)

    def add(self, key: K, span: Span) -> None:
        self._spans[key] = span
        if len(self._spans) > self._most:
            _give_up(self._spans.popitem(last=False)[1])

    def ended(self, key: K) -> None:
        """Of one that has ended, keep only what its children need."""
        self._spans[key] = NonRecordingSpan(self._spans[key].get_span_context())

    def clear(self) -> None:
        for span in self._spans.values():
            _give_up(span)
        self._spans.clear()


def _give_up(span: Span) -> None:
    if span.is_recording():
        span.set_attribute("aiflow.unfinished", True)
        span.end()


def _facts(event: Event) -> dict[str, Any]:
    """What the context of an event says, when it is an object."""
    try:
        facts = json.loads(event.context) if event.context else {}
    except (ValueError, RecursionError):
        return {}  # it is the sender's own text
    return facts if isinstance(facts, dict) else {}


def _attempt(facts: dict[str, Any]) -> AttemptKey | None:
    """The attempt of which a status event tells."""
    try:
        return AttemptKey(**{name: facts[name] for name in AttemptKey.__struct_fields__})
    except KeyError:
        return None


def _ns(ms: int) -> int:
    return ms * 1_000_000
