"""A rehearsal: workflows on a simulated scheduler, with tasks that go as somebody has planned.

What `aiflow workflow simulate`, `aiflow rule test` and the test kit for workflow authors stand on.
"""

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from aiflow_core.bundle import load_workflows
from aiflow_core.clock import to_datetime
from aiflow_core.errors import NotFoundError, UsageError
from aiflow_core.model.decision import Decision
from aiflow_core.model.event import Event
from aiflow_core.model.execution import (
    AttemptKey,
    AttemptReport,
    AttemptRequest,
    TaskExecution,
    WorkflowExecution,
)
from aiflow_core.model.serialization import Value, encode
from aiflow_core.model.status import TASK_FINISHED, TaskStatus
from aiflow_core.model.workflow import DEFAULT_NAMESPACE, Workflow, WorkflowDefinition
from aiflow_core.specs.operator import Operator, TaskContext
from aiflow_core.specs.simulation import Change, Simulation

START = datetime(2024, 1, 1, tzinfo=UTC)
"""When a rehearsal begins unless somebody says otherwise: a Monday, at midnight."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How an attempt of a task goes.

    Attributes:
        ends: the status with which it ends; RUNNING: it runs until it is stopped or told to end.
        after: so many seconds after it was started.
        reason: why, where it fails.
        really: the operator of the task is executed in this process, and how that ends counts.
    """

    ends: TaskStatus = TaskStatus.SUCCESS
    after: float = 0.0
    reason: str = ""
    really: bool = False


SUCCEEDS = Attempt()
RUNS_ON = Attempt(ends=TaskStatus.RUNNING)


class Happening(Value, frozen=True):
    """Something that happened in a rehearsal: a decision, or a status that was taken.

    Attributes:
        offset: of the event that led to it, with its `key`.
        what: the outcome of the decision, or the status.
        why: the reason; empty for a status that has none.
    """

    time: datetime
    offset: int
    key: str
    workflow_execution_id: int
    task_name: str
    what: str
    why: str = ""


class Rehearsal:
    """Lets time pass on a simulation and carries out the attempts that it wants to be run.

    Args:
        default: how an attempt goes for which nothing was planned.
    """

    def __init__(self, simulation: Simulation, default: Attempt = SUCCEEDS) -> None:
        self.simulation = simulation
        self.happenings: list[Happening] = []
        self._default = default
        self._plans: dict[str, tuple[Attempt, ...]] = {}
        self._operators: dict[tuple[str, str, str], tuple[Workflow, Any]] = {}
        self._given: Counter[tuple[int, str]] = Counter()
        self._seen: set[AttemptKey] = set()
        self._due: list[tuple[int, int, AttemptKey, Attempt]] = []
        self._number = count()
        simulation.observe(self._note)

    # --- what is rehearsed ---

    def load(self, path: str | Path) -> list[Workflow]:
        """Upload the workflows of a file, which is executed for that."""
        workflows = load_workflows(path)
        for workflow in workflows:
            self.upload(workflow)
        return workflows

    def upload(self, workflow: Workflow | WorkflowDefinition) -> None:
        self.simulation.submit_workflow(workflow)
        if isinstance(workflow, Workflow):
            for name, task in workflow.tasks.items():
                where = (workflow.namespace, workflow.name, name)
                self._operators[where] = (workflow, task)

    def plan(self, task_name: str, *attempts: Attempt) -> None:
        """How the attempts of the tasks of that name go, in each execution: the first as the first
        of these, and so on; all further ones as the last."""
        if not attempts:
            raise UsageError(f"No attempt is planned for task {task_name!r}.")
        self._plans[task_name] = attempts

    # --- what happens ---

    @property
    def now(self) -> datetime:
        return to_datetime(self.simulation.now_ms)

    def start(self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE) -> int:
        """Start an execution; its id."""
        started = self.simulation.start_workflow_execution(workflow_name, namespace)
        self.settle()
        return started.id

    def send(
        self,
        key: str,
        value: str | None = None,
        namespace: str = DEFAULT_NAMESPACE,
        workflow_execution_id: int = 0,
    ) -> Event:
        """Send an event: to the namespace, or to one execution as its own tasks do."""
        context = ""
        if workflow_execution_id:
            context = encode({"workflow_execution_id": workflow_execution_id}).decode()
        stored = self.simulation.append(Event(key, value, namespace=namespace, context=context))
        self.settle()
        return stored

    def end(self, key: AttemptKey, status: TaskStatus, reason: str = "") -> None:
        """Let an attempt end now, whatever was planned for it."""
        self.simulation.report(AttemptReport(key=key, status=status, reason=reason))
        self.settle()

    def advance_to(self, moment_ms: int) -> None:
        """Let time pass until then: timers fire and attempts end, each at its moment."""
        self.run_out(moment_ms)
        self.simulation.advance_to(moment_ms)
        self.settle()

    def run_out(self, moment_ms: int) -> None:
        """Let happen what happens by itself until then; time stands still at the last of it."""
        self.settle()
        while (due := self._next_due()) is not None and due <= moment_ms:
            self.simulation.advance_to(due)
            self.settle()

    def _next_due(self) -> int | None:
        timer = self.simulation.next_timer_ms()
        due = [self._due[0][0]] if self._due else []
        return min(due if timer is None else [*due, timer], default=None)

    def settle(self) -> None:
        """Carry out what is to be done at this moment."""
        moved = True
        while moved:
            moved = self._begin() or self._stop() or self._end_due()

    # --- attempts ---

    def _begin(self) -> bool:
        new = [r for r in self.simulation.attempts() if r.key not in self._seen]
        for request in new:
            self._seen.add(request.key)
            attempt = self._next_of(request.key)
            if request.key in self.simulation.stopping():
                continue
            self.simulation.report(AttemptReport(key=request.key, status=TaskStatus.RUNNING))
            if attempt.really:
                attempt = self._execute(request, attempt)
            if attempt.ends in TASK_FINISHED:
                moment = self.simulation.now_ms + round(attempt.after * 1000)
                heapq.heappush(self._due, (moment, next(self._number), request.key, attempt))
        return bool(new)

    def _next_of(self, key: AttemptKey) -> Attempt:
        planned = self._plans.get(key.task_name, (self._default,))
        whose = (key.workflow_execution_id, key.task_name)
        number = min(self._given[whose], len(planned) - 1)
        self._given[whose] += 1
        return planned[number]

    def _stop(self) -> bool:
        stopping = self.simulation.stopping()
        for key in stopping:
            self.simulation.report(AttemptReport(key=key, status=TaskStatus.STOPPED))
        return bool(stopping)

    def _end_due(self) -> bool:
        if not self._due or self._due[0][0] > self.simulation.now_ms:
            return False
        _, _, key, attempt = heapq.heappop(self._due)
        if any(request.key == key for request in self.simulation.attempts()):
            report = AttemptReport(key=key, status=attempt.ends, reason=attempt.reason)
            self.simulation.report(report)
        return True

    def _execute(self, request: AttemptRequest, attempt: Attempt) -> Attempt:
        """Execute the operator of the task in this process."""
        where = (request.namespace, request.workflow_name, request.task.name)
        workflow, operator = self._operators.get(where, (None, None))
        if not isinstance(operator, Operator):
            raise NotFoundError("operator", request.task.name, next_step="Load the workflow file.")
        context = TaskContext(
            key=request.key,
            namespace=request.namespace,
            workflow_name=request.workflow_name,
            workflow=workflow,
            events=request.events,
        )
        try:
            filled = operator.filled(request.events)
            filled.start(context)
            filled.await_termination(context)
        except Exception as error:  # the operator's own: it is how the attempt ends
            reason = f"{type(error).__name__}: {error}"
            return Attempt(ends=TaskStatus.FAILED, after=attempt.after, reason=reason)
        return Attempt(after=attempt.after)

    # --- what can be told ---

    def _note(self, event: Event, decisions: Sequence[Decision], changes: Sequence[Change]) -> None:
        for decision in decisions:
            self.happenings.append(
                Happening(
                    *(self.now, decision.offset, self._key(decision.offset)),
                    *(decision.workflow_execution_id, decision.task_name),
                    *(str(decision.what), _why(decision)),
                )
            )
        for change in changes:
            at = (self.now, event.offset, event.key)
            match change:
                case TaskExecution() if change.status is not TaskStatus.QUEUED:
                    whose = (change.workflow_execution_id, change.task_name)
                    self.happenings.append(Happening(*at, *whose, change.status, change.reason))
                case WorkflowExecution() if change.end_date is not None:
                    self.happenings.append(
                        Happening(*at, change.id, "", change.status, change.reason)
                    )

    def _key(self, offset: int) -> str:
        return self.simulation.log()[offset - 1].key


def _why(decision: Decision) -> str:
    if not decision.missing:
        return decision.why
    return f"{decision.why}; missing: {', '.join(lack.text for lack in decision.missing)}"
