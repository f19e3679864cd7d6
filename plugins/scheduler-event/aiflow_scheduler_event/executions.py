"""What becomes of a workflow execution: started, listening, stopped, ended."""

import json
from collections import defaultdict, deque
from collections.abc import Callable
from typing import NamedTuple

from aiflow_core.clock import to_datetime
from aiflow_core.model.condition import (
    workflow_status_key,
)
from aiflow_core.model.decision import Cause, Outcome
from aiflow_core.model.event import Event, EventType
from aiflow_core.model.execution import (
    WorkflowInfo,
    WorkflowTrigger,
)
from aiflow_core.model.status import (
    ExecutionType,
    TaskStatus,
    WorkflowStatus,
)
from aiflow_core.model.timing import next_fire
from aiflow_core.model.workflow import TaskDefinition
from aiflow_scheduler_event.patterns import Patterns
from aiflow_scheduler_event.rules import Index, Plan
from aiflow_scheduler_event.state import (
    Evaluate,
    Evaluation,
    Intent,
    LiveExecution,
    Publish,
    Run,
    Scope,
    State,
    TimerKey,
    TimerKind,
    as_seen,
)
from aiflow_scheduler_event.step import SENDER, Why, replace


class Listener(NamedTuple):
    """A task of a snapshot, or a trigger.

    They hear an event in this order: by ids and places, so that it is the same after a restart;
    triggers last, so that an execution does not hear the event that starts it.
    """

    is_trigger: bool
    id: int
    place: int = 0
    task_name: str = ""


class Executions(Patterns):
    """Workflow executions, what they listen to, and what they wait for, see `engine`."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._index: Index[Listener] = Index()
        self._running_on: dict[int, set[int]] = {}
        self._queues: dict[Scope, deque[int]] = defaultdict(deque)
        for evaluation in sorted(state.evaluations.values(), key=lambda e: e.id):
            self._queues[evaluation.scope].append(evaluation.id)
        for run in state.runs.values():
            self._listen(run)
        for trigger in state.triggers.values():
            self._listen_trigger(trigger)

    def _start_by(
        self,
        workflow: WorkflowInfo,
        run_type: ExecutionType,
        why: Why,
        events: tuple[Event, ...] = (),
    ) -> None:
        """Start an execution without anybody waiting for the answer."""
        if workflow.is_enabled:
            self._start_execution(workflow, run_type, why, events)
        else:
            text = f"workflow {workflow.workflow_name!r} is disabled; {why.text}"
            self._do_not_start(workflow, why._replace(text=text))

    def _do_not_start(self, workflow: WorkflowInfo, why: Why) -> None:
        self._decide(0, "", Outcome.NOT_STARTED, why, workflow_id=workflow.id)

    def _start_execution(
        self,
        workflow: WorkflowInfo,
        run_type: ExecutionType,
        why: Why,
        events: tuple[Event, ...] = (),
    ) -> Run:
        """Start an execution, and with it the tasks that start by themselves: because of these
        events, if any."""
        plan = self.state.plans[self.state.current[workflow.id]]
        self.state.counters.execution += 1
        execution = LiveExecution(
            id=self.state.counters.execution,
            workflow_id=workflow.id,
            begin_date=to_datetime(self._now),
            status=WorkflowStatus.RUNNING,
            run_type=run_type,
            snapshot_id=plan.snapshot.id,
            event_offset=self._event.offset,
        )
        run = Run(execution, plan)
        self.state.runs[execution.id] = run
        self._listen(run)
        self._decide(execution.id, "", Outcome.START, why, workflow_id=workflow.id)
        self._change_execution(run, execution)
        for task in plan.tasks.values():
            if task.config.periodic_expression is not None:
                self._set_period(execution.id, task)
            if task.starts_by_itself:
                why = Why("it has no START rule", Cause.BEGIN)
                self._start_task(run, task, Outcome.START, why, events)
            elif task.config.periodic_expression is not None:
                why = Why("it is periodic", Cause.BEGIN)
                self._start_task(run, task, Outcome.START, why, events)
        return run

    def _set_period(self, execution_id: int, task: TaskDefinition) -> None:
        assert task.config.periodic_expression is not None
        fire_at = next_fire(task.config.periodic_expression, self._now)
        if fire_at is not None:
            self._set_timer(TimerKey(TimerKind.PERIOD, execution_id, task.name), fire_at)

    def _stop_execution(self, run: Run) -> None:
        if run.execution.stopping:
            return
        self._change_execution(run, replace(run.execution, stopping=True), silent=True)
        for task_name in run.plan.tasks:
            self._drop_timer(TimerKey(TimerKind.PERIOD, run.execution.id, task_name))
        self._drop_evaluations(lambda evaluation: evaluation.scope == run.scope)
        run.evaluations = 0
        self._forget_patterns(run)
        why = Why("the workflow execution was stopped", Cause.REQUEST)
        for live in run.alive:
            self._decide_on(run, live.task_name, Outcome.STOP, why)
            self._stop_task(run, live, Intent.STOP, why.text)
        self._touched[run.execution.id] = run

    def _end_if_over(self, run: Run) -> None:
        """End the execution when nothing is left that could go on by itself."""
        if run.execution.id not in self.state.runs or run.alive or run.evaluations:
            return
        periodic = any(t.config.periodic_expression is not None for t in run.plan.tasks.values())
        goes_on = periodic or run.plan.reactive or self._has_open_window(run)
        if goes_on and not run.execution.stopping:
            return
        status, reason = _outcome(run)
        self._change_execution(
            run,
            replace(run.execution, status=status, reason=reason, end_date=to_datetime(self._now)),
        )
        self._forget(run)

    def _forget(self, run: Run) -> None:
        """Drop from memory, and from what is stored to be loaded, what only a run needs."""
        execution_id = run.execution.id
        del self.state.runs[execution_id]
        self._stop_listening(run)
        for task_name in run.plan.tasks:
            for kind in (TimerKind.PERIOD, TimerKind.RETRY, TimerKind.TIMEOUT):
                self._drop_timer(TimerKey(kind, execution_id, task_name))
        self._forget_states(run.scope)
        self._forget_patterns(run)

    def _change_execution(self, run: Run, execution: LiveExecution, silent: bool = False) -> None:
        run.execution = execution
        self._changes.put(execution)
        if silent:
            return
        self._tell(as_seen(execution))
        definition = run.plan.snapshot.definition
        context = {
            "workflow_execution_id": execution.id,
            "workflow_name": definition.name,
            "reason": execution.reason,
        }
        self._send(
            Publish(
                Event(
                    key=workflow_status_key(definition.name),
                    value=execution.status,
                    namespace=definition.namespace,
                    sender=SENDER,
                    context=json.dumps(context),
                    type=EventType.WORKFLOW_STATUS,
                )
            )
        )

    # --- listening -----------------------------------------------------------------------------

    def _listen(self, run: Run) -> None:
        snapshot = run.plan.snapshot
        running = self._running_on.setdefault(snapshot.id, set())
        if not running:
            for keys, listener in _listeners(run.plan):
                self._index.add(snapshot.definition.namespace, keys, listener)
        running.add(run.execution.id)

    def _stop_listening(self, run: Run) -> None:
        snapshot = run.plan.snapshot
        running = self._running_on[snapshot.id]
        running.discard(run.execution.id)
        if not running:
            del self._running_on[snapshot.id]
            for keys, listener in _listeners(run.plan):
                self._index.remove(snapshot.definition.namespace, keys, listener)
            if snapshot.id != self.state.current.get(run.execution.workflow_id):
                self.state.plans.pop(snapshot.id, None)

    def _listen_trigger(self, trigger: WorkflowTrigger) -> None:
        namespace = self.state.workflows[trigger.workflow_id].namespace
        self._index.add(namespace, trigger.rule.expect_event_keys, Listener(True, trigger.id))

    # --- users' conditions, which are evaluated elsewhere ----------------------------------------

    def _evaluate(
        self,
        scope: Scope,
        event: Event,
        task_name: str = "",
        rule: int = 0,
        trigger_id: int = 0,
        redriven: bool = False,
    ) -> None:
        self.state.counters.evaluation += 1
        evaluation = Evaluation(
            self.state.counters.evaluation,
            scope,
            self._placed(event),
            task_name,
            rule,
            trigger_id,
            redriven,
        )
        self.state.evaluations[evaluation.id] = evaluation
        self._changes.put(evaluation)
        queue = self._queues[evaluation.scope]
        queue.append(evaluation.id)
        if len(queue) == 1:
            self._send(Evaluate(evaluation))

    def _drop_evaluations(self, unwanted: Callable[[Evaluation], bool]) -> None:
        chosen = [e for e in self.state.evaluations.values() if unwanted(e)]
        for evaluation in reversed(chosen):  # so that none moves up to be the first
            self._drop_evaluation(evaluation)

    def _drop_evaluation(self, evaluation: Evaluation) -> None:
        """Take an evaluation off its queue and let the one behind it begin."""
        del self.state.evaluations[evaluation.id]
        self._changes.delete(Evaluation, evaluation.id)
        queue = self._queues[evaluation.scope]
        was_first = queue[0] == evaluation.id
        queue.remove(evaluation.id)
        if not queue:
            del self._queues[evaluation.scope]
        elif was_first:
            self._send(Evaluate(self.state.evaluations[queue[0]]))


def _listeners(plan: Plan) -> list[tuple[list[str], Listener]]:
    """The tasks of a plan that listen, each with the keys to which it does."""
    return [
        (keys, Listener(False, plan.snapshot.id, place, task_name))
        for place, (task_name, keys) in enumerate(plan.listeners.items())
    ]


def _outcome(run: Run) -> tuple[WorkflowStatus, str]:
    """How an execution has ended, and why if not in success."""
    by_status = {
        status: [t for t in run.tasks.values() if t.status is status]
        for status in (TaskStatus.FAILED, TaskStatus.STOPPED)
    }
    if by_status[TaskStatus.FAILED]:
        status, culprits = WorkflowStatus.FAILED, by_status[TaskStatus.FAILED]
    elif run.execution.stopping:
        return WorkflowStatus.STOPPED, "stopped on request"
    elif by_status[TaskStatus.STOPPED]:
        status, culprits = WorkflowStatus.STOPPED, by_status[TaskStatus.STOPPED]
    else:
        return WorkflowStatus.SUCCESS, ""
    told = "; ".join(f"task {t.task_name!r} {t.status}: {t.reason}" for t in culprits)
    missed = _never_started(run, [t.task_name for t in culprits])
    if missed:
        told += f"; therefore never started: {', '.join(missed)}"
    return status, told


def _never_started(run: Run, culprits: list[str]) -> list[str]:
    """The tasks that have not run and wait, directly or not, for one of these."""
    missed: list[str] = []
    for name in culprits:
        missed += [t for t in run.plan.after.get(name, ()) if t not in run.tasks]
    for name in missed:
        missed += [
            t for t in run.plan.after.get(name, ()) if t not in run.tasks and t not in missed
        ]
    return list(dict.fromkeys(missed))
