"""Scheduler: what every implementation must pass, and a complete one in memory."""

import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import msgspec
import pytest

from aiflow_core.clock import Clock, to_datetime
from aiflow_core.errors import (
    AIFlowError,
    ConflictError,
    DefinitionError,
    NotFoundError,
    UsageError,
)
from aiflow_core.model import algebra
from aiflow_core.model.condition import (
    AnyCondition,
    CustomCondition,
    MeetAllCondition,
    SingleEventCondition,
    WorkflowTaskStatusCondition,
)
from aiflow_core.model.context import check_state_name
from aiflow_core.model.event import Event
from aiflow_core.model.execution import (
    BundleRef,
    DeadLetter,
    Namespace,
    TaskExecution,
    WorkflowExecution,
    WorkflowInfo,
    WorkflowSchedule,
    WorkflowSnapshot,
    WorkflowTrigger,
)
from aiflow_core.model.rule import TaskAction, TaskRule
from aiflow_core.model.schedule import CatchUp, ScheduleOptions, check_schedule, next_tick
from aiflow_core.model.status import (
    TASK_FINISHED,
    WORKFLOW_FINISHED,
    ExecutionType,
    TaskStatus,
    WorkflowStatus,
)
from aiflow_core.model.workflow import (
    DEFAULT_NAMESPACE,
    TaskDefinition,
    WorkflowDefinition,
    check_definition,
    check_name,
)
from aiflow_core.specs.scheduler import (
    DeadLetterOperations,
    NamespaceOperations,
    ScheduleOperations,
    Scheduler,
    SnapshotOperations,
    StateOperations,
    TriggerOperations,
    current_request_id,
    request,
)
from aiflow_core.testing.waiting import wait_until

P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V")

replace = msgspec.structs.replace


# --- the double --------------------------------------------------------------------------------


class _Shelf(Generic[V]):
    """Things of one kind, by ids that are never given twice."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._ids = count(1)
        self._things: dict[int, V] = {}

    def add(self, make: Callable[[int], V]) -> V:
        id = next(self._ids)
        self._things[id] = make(id)
        return self._things[id]

    def keep(self, id: int, thing: V) -> V:
        self._things[id] = thing
        return thing

    def get(self, id: int) -> V:
        if id not in self._things:
            raise NotFoundError(self._kind, id)
        return self._things[id]

    def remove(self, id: int) -> V:
        self.get(id)
        return self._things.pop(id)

    def chosen(self, **facts: object) -> list[V]:
        """Those with these attributes, oldest first."""
        return [t for t in self._things.values() if all(getattr(t, f) == facts[f] for f in facts)]


def _page(things: list[V], limit: int | None, offset: int) -> list[V]:
    return things[offset : None if limit is None else offset + limit]


def _once(
    method: Callable[Concatenate["MemoryScheduler", P], R],
) -> Callable[Concatenate["MemoryScheduler", P], R]:
    """Let the call take place once per request, and answer the same each time."""

    @functools.wraps(method)
    def once(self: "MemoryScheduler", /, *args: P.args, **kwargs: P.kwargs) -> R:
        request_id = current_request_id()
        with self._lock:
            if request_id not in self._outcomes:
                try:
                    self._outcomes[request_id] = method(self, *args, **kwargs)
                except AIFlowError as error:
                    self._outcomes[request_id] = error
            outcome = self._outcomes[request_id]
        if isinstance(outcome, AIFlowError):
            raise outcome
        return outcome  # type: ignore[no-any-return]

    return once


class MemoryScheduler(
    Scheduler,
    NamespaceOperations,
    ScheduleOperations,
    TriggerOperations,
    SnapshotOperations,
    StateOperations,
    DeadLetterOperations,
):
    """Takes workflows and keeps account of them, but runs nothing.

    The tasks of an execution that start by themselves are QUEUED, as is every task that is started,
    and stay so until they are stopped; an execution is RUNNING until it is. Schedules and triggers
    are kept and never fire. No event comes, so that dead letters are only those that are buried.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        self._lock = threading.RLock()
        self._outcomes: dict[str, Any] = {}
        self._namespaces = {DEFAULT_NAMESPACE: Namespace(DEFAULT_NAMESPACE)}
        self._workflows: _Shelf[WorkflowInfo] = _Shelf("workflow")
        self._snapshots: _Shelf[WorkflowSnapshot] = _Shelf("workflow snapshot")
        self._executions: _Shelf[WorkflowExecution] = _Shelf("workflow execution")
        self._tasks: _Shelf[TaskExecution] = _Shelf("task execution")
        self._schedules: _Shelf[WorkflowSchedule] = _Shelf("workflow schedule")
        self._triggers: _Shelf[WorkflowTrigger] = _Shelf("workflow trigger")
        self._states: dict[tuple[int, str], str] = {}
        self._letters: list[DeadLetter] = []

    # --- workflows ---

    @_once
    def submit_workflow(
        self, definition: WorkflowDefinition, bundle: BundleRef | None = None
    ) -> WorkflowInfo:
        check_definition(definition)
        self.get_namespace(definition.namespace)
        now = to_datetime(self._clock.now_ms())
        known = self._workflows.chosen(
            namespace=definition.namespace, workflow_name=definition.name
        )
        if known:
            workflow = self._workflows.keep(
                known[0].id, replace(known[0], is_enabled=True, update_time=now)
            )
        else:
            workflow = self._workflows.add(
                lambda id: WorkflowInfo(id, definition.name, definition.namespace, now, now)
            )
        self._snapshots.add(lambda id: WorkflowSnapshot(id, workflow.id, now, definition, bundle))
        return workflow

    def get_workflow(self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE) -> WorkflowInfo:
        found = self._workflows.chosen(namespace=namespace, workflow_name=workflow_name)
        if not found:
            raise NotFoundError("workflow", f"{namespace}.{workflow_name}")
        return found[0]

    def list_workflows(
        self, namespace: str = DEFAULT_NAMESPACE, limit: int | None = None, offset: int = 0
    ) -> list[WorkflowInfo]:
        return _page(self._workflows.chosen(namespace=namespace), limit, offset)

    @_once
    def delete_workflow(self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE) -> None:
        workflow = self.get_workflow(workflow_name, namespace)
        executions = self._executions.chosen(workflow_id=workflow.id)
        if any(e.status not in WORKFLOW_FINISHED for e in executions):
            raise ConflictError(f"Workflow {namespace}.{workflow_name} has running executions.")
        for execution in executions:
            self._erase(execution.id)
        for shelf in (self._snapshots, self._schedules, self._triggers):
            for thing in shelf.chosen(workflow_id=workflow.id):
                shelf.remove(thing.id)
        self._workflows.remove(workflow.id)

    @_once
    def disable_workflow(self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE) -> None:
        self._enable(workflow_name, namespace, False)

    @_once
    def enable_workflow(self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE) -> None:
        self._enable(workflow_name, namespace, True)

    def _enable(self, workflow_name: str, namespace: str, is_enabled: bool) -> None:
        workflow = self.get_workflow(workflow_name, namespace)
        now = to_datetime(self._clock.now_ms())
        self._workflows.keep(workflow.id, replace(workflow, is_enabled=is_enabled, update_time=now))

    # --- executions ---

    @_once
    def start_workflow_execution(
        self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> WorkflowExecution:
        workflow = self.get_workflow(workflow_name, namespace)
        if not workflow.is_enabled:
            raise ConflictError(f"Workflow {namespace}.{workflow_name} is disabled.")
        snapshot = self._snapshots.chosen(workflow_id=workflow.id)[-1]
        execution = self._executions.add(
            lambda id: WorkflowExecution(
                id=id,
                workflow_id=workflow.id,
                begin_date=to_datetime(self._clock.now_ms()),
                status=WorkflowStatus.RUNNING,
                run_type=ExecutionType.MANUAL,
                snapshot_id=snapshot.id,
            )
        )
        for task in snapshot.definition.tasks:
            if task.starts_by_itself or task.config.periodic_expression is not None:
                self._start(execution.id, task.name)
        return execution

    @_once
    def stop_workflow_execution(self, workflow_execution_id: int) -> WorkflowExecution:
        return self._stop_execution(self._running(workflow_execution_id))

    @_once
    def stop_workflow_executions(
        self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> list[WorkflowExecution]:
        workflow = self.get_workflow(workflow_name, namespace)
        running = self._executions.chosen(workflow_id=workflow.id, status=WorkflowStatus.RUNNING)
        return [self._stop_execution(execution) for execution in running]

    def _stop_execution(self, execution: WorkflowExecution) -> WorkflowExecution:
        for task in self._tasks.chosen(workflow_execution_id=execution.id):
            if task.status not in TASK_FINISHED:
                self._stop(task, "the workflow execution was stopped")
        ended = replace(
            execution,
            status=WorkflowStatus.STOPPED,
            reason="stopped on request",
            end_date=to_datetime(self._clock.now_ms()),
        )
        return self._executions.keep(execution.id, ended)

    @_once
    def delete_workflow_execution(self, workflow_execution_id: int) -> None:
        execution = self._executions.get(workflow_execution_id)
        if execution.status not in WORKFLOW_FINISHED:
            raise ConflictError(f"Workflow execution {workflow_execution_id} is running.")
        self._erase(workflow_execution_id)

    def _erase(self, execution_id: int) -> None:
        for task in self._tasks.chosen(workflow_execution_id=execution_id):
            self._tasks.remove(task.id)
        self._executions.remove(execution_id)

    def get_workflow_execution(self, workflow_execution_id: int) -> WorkflowExecution:
        return self._executions.get(workflow_execution_id)

    def list_workflow_executions(
        self,
        workflow_name: str,
        namespace: str = DEFAULT_NAMESPACE,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[WorkflowExecution]:
        return self._of(self._executions, workflow_name, namespace, limit, offset)

    # --- tasks ---

    @_once
    def start_task_execution(self, workflow_execution_id: int, task_name: str) -> TaskExecution:
        latest = self._latest(workflow_execution_id, task_name)
        if latest is not None and latest.status not in TASK_FINISHED:
            return latest
        return self._start(workflow_execution_id, task_name)

    @_once
    def stop_task_execution(self, workflow_execution_id: int, task_name: str) -> TaskExecution:
        latest = self._latest(workflow_execution_id, task_name)
        if latest is None or latest.status in TASK_FINISHED:
            raise ConflictError(
                f"Task {task_name!r} of workflow execution {workflow_execution_id} does not run."
            )
        return self._stop(latest, "stopped by a request")

    @_once
    def restart_task_execution(self, workflow_execution_id: int, task_name: str) -> TaskExecution:
        latest = self._latest(workflow_execution_id, task_name)
        if latest is not None and latest.status not in TASK_FINISHED:
            self._stop(latest, "restarted by a request")
        return self._start(workflow_execution_id, task_name)

    def get_task_execution(self, task_execution_id: int) -> TaskExecution:
        return self._tasks.get(task_execution_id)

    def list_task_executions(
        self, workflow_execution_id: int, limit: int | None = None, offset: int = 0
    ) -> list[TaskExecution]:
        self._executions.get(workflow_execution_id)
        return _page(self._tasks.chosen(workflow_execution_id=workflow_execution_id), limit, offset)

    def _running(self, execution_id: int) -> WorkflowExecution:
        execution = self._executions.get(execution_id)
        if execution.status in WORKFLOW_FINISHED:
            raise ConflictError(
                f"Workflow execution {execution_id} has ended with {execution.status}."
            )
        return execution

    def _latest(self, execution_id: int, task_name: str) -> TaskExecution | None:
        """The task's latest execution in a workflow execution that must be running."""
        snapshot = self._snapshots.get(self._running(execution_id).snapshot_id)
        if task_name not in [task.name for task in snapshot.definition.tasks]:
            raise NotFoundError("task", task_name)
        found = self._tasks.chosen(workflow_execution_id=execution_id, task_name=task_name)
        return found[-1] if found else None

    def _start(self, execution_id: int, task_name: str) -> TaskExecution:
        latest = self._latest(execution_id, task_name)
        return self._tasks.add(
            lambda id: TaskExecution(
                id=id,
                workflow_execution_id=execution_id,
                task_name=task_name,
                sequence_number=latest.sequence_number + 1 if latest else 1,
                status=TaskStatus.QUEUED,
            )
        )

    def _stop(self, task: TaskExecution, reason: str) -> TaskExecution:
        ended = replace(
            task,
            status=TaskStatus.STOPPED,
            reason=reason,
            end_date=to_datetime(self._clock.now_ms()),
        )
        return self._tasks.keep(task.id, ended)

    # --- namespaces ---

    @_once
    def add_namespace(self, name: str, properties: dict[str, Any] | None = None) -> Namespace:
        check_name("namespace", name)
        if name in self._namespaces:
            raise ConflictError(f"Namespace: {name} already exists.")
        self._namespaces[name] = Namespace(name, properties or {})
        return self._namespaces[name]

    def get_namespace(self, name: str) -> Namespace:
        if name not in self._namespaces:
            raise NotFoundError("namespace", name)
        return self._namespaces[name]

    @_once
    def update_namespace(self, name: str, properties: dict[str, Any]) -> Namespace:
        self.get_namespace(name)
        self._namespaces[name] = Namespace(name, properties)
        return self._namespaces[name]

    def list_namespaces(self, limit: int | None = None, offset: int = 0) -> list[Namespace]:
        return _page([self._namespaces[name] for name in sorted(self._namespaces)], limit, offset)

    @_once
    def delete_namespace(self, name: str) -> None:
        self.get_namespace(name)
        if self._workflows.chosen(namespace=name):
            raise ConflictError(f"Namespace {name} has workflows.")
        del self._namespaces[name]

    # --- schedules ---

    @_once
    def add_workflow_schedule(
        self,
        expression: str,
        workflow_name: str,
        namespace: str = DEFAULT_NAMESPACE,
        options: ScheduleOptions = ScheduleOptions(),  # noqa: B008  (frozen)
    ) -> WorkflowSchedule:
        check_schedule(expression, options)
        workflow = self.get_workflow(workflow_name, namespace)
        now_ms = self._clock.now_ms()
        if next_tick(expression, options, now_ms) is None:
            raise DefinitionError(f"{expression!r} never comes true before its end.")
        now = to_datetime(now_ms)
        return self._schedules.add(
            lambda id: WorkflowSchedule(id, workflow.id, expression, now, options=options)
        )

    def get_workflow_schedule(self, schedule_id: int) -> WorkflowSchedule:
        return self._schedules.get(schedule_id)

    def list_workflow_schedules(
        self,
        workflow_name: str,
        namespace: str = DEFAULT_NAMESPACE,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[WorkflowSchedule]:
        return self._of(self._schedules, workflow_name, namespace, limit, offset)

    @_once
    def delete_workflow_schedule(self, schedule_id: int) -> None:
        self._schedules.remove(schedule_id)

    @_once
    def delete_workflow_schedules(
        self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> None:
        for schedule in self.list_workflow_schedules(workflow_name, namespace):
            self._schedules.remove(schedule.id)

    @_once
    def pause_workflow_schedule(self, schedule_id: int) -> WorkflowSchedule:
        paused = replace(self._schedules.get(schedule_id), is_paused=True)
        return self._schedules.keep(schedule_id, paused)

    @_once
    def resume_workflow_schedule(self, schedule_id: int) -> WorkflowSchedule:
        resumed = replace(self._schedules.get(schedule_id), is_paused=False)
        return self._schedules.keep(schedule_id, resumed)

    # --- triggers ---

    @_once
    def add_workflow_trigger(
        self, rule: AnyCondition, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> WorkflowTrigger:
        workflow = self.get_workflow(workflow_name, namespace)
        now = to_datetime(self._clock.now_ms())
        return self._triggers.add(lambda id: WorkflowTrigger(id, workflow.id, rule, now))

    def get_workflow_trigger(self, trigger_id: int) -> WorkflowTrigger:
        return self._triggers.get(trigger_id)

    def list_workflow_triggers(
        self,
        workflow_name: str,
        namespace: str = DEFAULT_NAMESPACE,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[WorkflowTrigger]:
        return self._of(self._triggers, workflow_name, namespace, limit, offset)

    @_once
    def delete_workflow_trigger(self, trigger_id: int) -> None:
        self._triggers.remove(trigger_id)

    @_once
    def delete_workflow_triggers(
        self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> None:
        for trigger in self.list_workflow_triggers(workflow_name, namespace):
            self._triggers.remove(trigger.id)

    @_once
    def pause_workflow_trigger(self, trigger_id: int) -> WorkflowTrigger:
        paused = replace(self._triggers.get(trigger_id), is_paused=True)
        return self._triggers.keep(trigger_id, paused)

    @_once
    def resume_workflow_trigger(self, trigger_id: int) -> WorkflowTrigger:
        resumed = replace(self._triggers.get(trigger_id), is_paused=False)
        return self._triggers.keep(trigger_id, resumed)

    # --- snapshots ---

    def get_workflow_snapshot(self, snapshot_id: int) -> WorkflowSnapshot:
        return self._snapshots.get(snapshot_id)

    def list_workflow_snapshots(
        self,
        workflow_name: str,
        namespace: str = DEFAULT_NAMESPACE,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[WorkflowSnapshot]:
        return self._of(self._snapshots, workflow_name, namespace, limit, offset)

    @_once
    def delete_workflow_snapshot(self, snapshot_id: int) -> None:
        if self._is_needed(self._snapshots.get(snapshot_id)):
            raise ConflictError(f"Workflow snapshot {snapshot_id} is in use.")
        self._snapshots.remove(snapshot_id)

    @_once
    def delete_workflow_snapshots(
        self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> None:
        for snapshot in self.list_workflow_snapshots(workflow_name, namespace):
            if not self._is_needed(snapshot):
                self._snapshots.remove(snapshot.id)

    # --- states ---

    def get_state(self, workflow_execution_id: int, name: str) -> str | None:
        self._executions.get(workflow_execution_id)
        return self._states.get((workflow_execution_id, name))

    @_once
    def put_state(self, workflow_execution_id: int, name: str, value: str | None) -> None:
        check_state_name(name)
        execution = self._executions.get(workflow_execution_id)
        if execution.status in WORKFLOW_FINISHED:
            raise ConflictError(f"Workflow execution {workflow_execution_id} has ended.")
        if value is None:
            self._states.pop((workflow_execution_id, name), None)
        else:
            self._states[workflow_execution_id, name] = value

    # --- dead letters ---

    def bury(self, letter: DeadLetter) -> None:
        """Let there be this letter."""
        with self._lock:
            self._letters.append(letter)
            self._letters.sort(key=lambda letter: (letter.offset, letter.consumer))

    def list_dead_letters(self, limit: int | None = None, offset: int = 0) -> list[DeadLetter]:
        with self._lock:
            return _page([replace(letter, event=None) for letter in self._letters], limit, offset)

    def get_dead_letter(self, event_offset: int) -> list[DeadLetter]:
        return self._letters_of(event_offset, None)

    @_once
    def redrive_dead_letter(self, event_offset: int, consumer: str | None = None) -> None:
        self._strike(self._letters_of(event_offset, consumer))

    @_once
    def redrive_dead_letters(self) -> int:
        return self._strike(list(self._letters))

    @_once
    def drop_dead_letter(self, event_offset: int, consumer: str | None = None) -> None:
        self._strike(self._letters_of(event_offset, consumer))

    @_once
    def drop_dead_letters(self) -> int:
        return self._strike(list(self._letters))

    def _letters_of(self, event_offset: int, consumer: str | None) -> list[DeadLetter]:
        with self._lock:
            of_event = [letter for letter in self._letters if letter.offset == event_offset]
            found = [letter for letter in of_event if consumer in (None, letter.consumer)]
        if not found:
            raise NotFoundError("dead letter", event_offset)
        return found

    def _strike(self, letters: list[DeadLetter]) -> int:
        for letter in letters:
            self._letters.remove(letter)
        return len(letters)

    # --- look-ups ---

    def _is_needed(self, snapshot: WorkflowSnapshot) -> bool:
        current = self._snapshots.chosen(workflow_id=snapshot.workflow_id)[-1]
        running = self._executions.chosen(snapshot_id=snapshot.id, status=WorkflowStatus.RUNNING)
        return snapshot.id == current.id or bool(running)

    def _of(
        self, shelf: _Shelf[V], name: str, namespace: str, limit: int | None, offset: int
    ) -> list[V]:
        workflow = self.get_workflow(name, namespace)
        return _page(shelf.chosen(workflow_id=workflow.id), limit, offset)


def burier(scheduler: MemoryScheduler) -> Callable[[], int]:
    """Makes a dead letter with each call; the offset of its event."""
    offsets = count(1)

    def bury() -> int:
        offset = next(offsets)
        now = to_datetime(1_700_000_000_000)
        event = Event("poison", offset=offset)
        scheduler.bury(DeadLetter(offset, "somebody", "ValueError: no", now, 3, event))
        return offset

    return bury


# --- the contract ------------------------------------------------------------------------------


AnyScheduler = Any
"""A scheduler that fulfils all the contracts; there is no one class for that."""

GO = SingleEventCondition("go")


def workflow(
    name: str = "flow", *tasks: TaskDefinition, namespace: str = DEFAULT_NAMESPACE
) -> WorkflowDefinition:
    """A workflow of a task that starts by itself and one that waits for the event `go`."""
    first = TaskDefinition(name="first", operator="bash", params={"bash_command": "sleep 60"})
    later = TaskDefinition(name="later", rules=(TaskRule(TaskAction.START, GO),))
    return WorkflowDefinition(name=name, namespace=namespace, tasks=tasks or (first, later))


class SchedulerContract:
    """The promises of `Scheduler` and of the contracts beside it.

    A subclass supplies the fixture `scheduler`: started, without any workflow, and with an executor
    whose tasks run until they are stopped; and the fixture `bury`, which lets an event become a
    dead letter that can be redriven, and returns its offset.
    """

    @pytest.fixture
    def flow(self, scheduler: AnyScheduler) -> WorkflowInfo:
        """The workflow `flow`, uploaded."""
        info: WorkflowInfo = scheduler.submit_workflow(workflow())
        return info

    @pytest.fixture
    def execution(self, scheduler: AnyScheduler, flow: WorkflowInfo) -> WorkflowExecution:
        """A running execution of `flow`."""
        started: WorkflowExecution = scheduler.start_workflow_execution("flow")
        return started

    # --- workflows ---

    def test_a_workflow_that_was_submitted_is_there_and_enabled(
        self, scheduler: AnyScheduler
    ) -> None:
        info = scheduler.submit_workflow(workflow())

        assert (info.workflow_name, info.namespace, info.is_enabled) == ("flow", "default", True)
        assert scheduler.get_workflow("flow") == info
        assert scheduler.list_workflows() == [info]

    def test_what_was_submitted_comes_back_as_it_was_in_a_snapshot(
        self, scheduler: AnyScheduler
    ) -> None:
        conditions = (GO, MeetAllCondition(name="ünïcödé 🦊", conditions=(GO,)))
        task = TaskDefinition(
            name="t",
            operator="bash",
            params={"text": "日本語 🧡", "deep": {"list": [1, 2.5, None, True]}},
            rules=tuple(TaskRule(TaskAction.RESTART, condition) for condition in conditions),
        )
        definition = workflow("whole", task)
        bundle = BundleRef(uri="memory:1", sha256="1", entry="flow.py")

        info = scheduler.submit_workflow(definition, bundle)

        (snapshot,) = scheduler.list_workflow_snapshots("whole")
        assert (snapshot.definition, snapshot.bundle) == (definition, bundle)
        assert snapshot.workflow_id == info.id

    def test_each_submission_makes_a_snapshot_of_the_same_workflow(
        self, scheduler: AnyScheduler, flow: WorkflowInfo
    ) -> None:
        again = scheduler.submit_workflow(workflow("flow", TaskDefinition(name="other")))

        assert (again.id, again.create_time) == (flow.id, flow.create_time)
        assert len(scheduler.list_workflows()) == 1
        snapshots = scheduler.list_workflow_snapshots("flow")
        assert [s.definition.tasks[0].name for s in snapshots] == ["first", "other"]
        assert [scheduler.get_workflow_snapshot(s.id) for s in snapshots] == snapshots

    def test_a_workflow_that_could_not_do_what_it_says_is_refused(
        self, scheduler: AnyScheduler
    ) -> None:
        with pytest.raises(DefinitionError):
            scheduler.submit_workflow(WorkflowDefinition(name="empty"))

        assert scheduler.list_workflows() == []

    def test_a_workflow_needs_its_namespace_to_exist(self, scheduler: AnyScheduler) -> None:
        with pytest.raises(NotFoundError, match="elsewhere"):
            scheduler.submit_workflow(workflow(namespace="elsewhere"))

    def test_names_are_told_apart_letter_by_letter(self, scheduler: AnyScheduler) -> None:
        for name in ("flow", "Flow", "FLOW"):
            scheduler.submit_workflow(workflow(name))

        assert [w.workflow_name for w in scheduler.list_workflows()] == ["flow", "Flow", "FLOW"]
        assert scheduler.get_workflow("Flow").workflow_name == "Flow"

    def test_a_disabled_workflow_starts_no_execution_until_it_is_enabled(
        self, scheduler: AnyScheduler, flow: WorkflowInfo
    ) -> None:
        scheduler.disable_workflow("flow")
        assert not scheduler.get_workflow("flow").is_enabled
        with pytest.raises(ConflictError):
            scheduler.start_workflow_execution("flow")

        scheduler.enable_workflow("flow")

        assert scheduler.get_workflow("flow").is_enabled
        assert scheduler.start_workflow_execution("flow").status is WorkflowStatus.RUNNING

    def test_submitting_a_disabled_workflow_again_enables_it(
        self, scheduler: AnyScheduler, flow: WorkflowInfo
    ) -> None:
        scheduler.disable_workflow("flow")

        assert scheduler.submit_workflow(workflow()).is_enabled

    def test_disabling_does_not_affect_what_runs(
        self, scheduler: AnyScheduler, execution: WorkflowExecution
    ) -> None:
        scheduler.disable_workflow("flow")

        found = scheduler.get_workflow_execution(execution.id)
        assert found.status is WorkflowStatus.RUNNING

    def test_a_workflow_is_deleted_with_all_that_belongs_to_it(
        self, scheduler: AnyScheduler, execution: WorkflowExecution
    ) -> None:
        schedule = scheduler.add_workflow_schedule("interval@1 0 0 0", "flow")
        trigger = scheduler.add_workflow_trigger(GO, "flow")
        (snapshot,) = scheduler.list_workflow_snapshots("flow")
        (task,) = scheduler.list_task_executions(execution.id)
        with pytest.raises(ConflictError):
            scheduler.delete_workflow("flow")
        stop(scheduler, execution)

        scheduler.delete_workflow("flow")

        assert scheduler.list_workflows() == []
        for get, id in (
            (scheduler.get_workflow, "flow"),
            (scheduler.get_workflow_execution, execution.id),
            (scheduler.get_task_execution, task.id),
            (scheduler.get_workflow_schedule, schedule.id),
            (scheduler.get_workflow_trigger, trigger.id),
            (scheduler.get_workflow_snapshot, snapshot.id),
        ):
            with pytest.raises(NotFoundError):
                get(id)

    def test_a_name_may_be_used_again_after_deletion_and_ids_never_are(
        self, scheduler: AnyScheduler, flow: WorkflowInfo
    ) -> None:
        scheduler.delete_workflow("flow")

        again = scheduler.submit_workflow(workflow())

        assert again.id > flow.id
        assert len(scheduler.list_workflow_snapshots("flow")) == 1

    def test_an_unknown_workflow_is_not_found(self, scheduler: AnyScheduler) -> None:
        for call in (
            scheduler.get_workflow,
            scheduler.delete_workflow,
            scheduler.disable_workflow,
            scheduler.enable_workflow,
            scheduler.start_workflow_execution,
            scheduler.stop_workflow_executions,
            scheduler.list_workflow_executions,
            scheduler.list_workflow_schedules,
            scheduler.delete_workflow_schedules,
            scheduler.list_workflow_triggers,
            scheduler.delete_workflow_triggers,
            scheduler.list_workflow_snapshots,
            scheduler.delete_workflow_snapshots,
            lambda name: scheduler.add_workflow_schedule("interval@1 0 0 0", name),
            lambda name: scheduler.add_workflow_trigger(GO, name),
        ):
            with pytest.raises(NotFoundError, match="nobody"):
                call("nobody")

    def test_an_unknown_id_is_not_found(
        self, scheduler: AnyScheduler, execution: WorkflowExecution
    ) -> None:
        for call in (
            scheduler.get_workflow_execution,
            scheduler.stop_workflow_execution,
            scheduler.delete_workflow_execution,
            scheduler.list_task_executions,
            scheduler.get_task_execution,
            scheduler.get_workflow_schedule,
            scheduler.delete_workflow_schedule,
            scheduler.pause_workflow_schedule,
            scheduler.resume_workflow_schedule,
            scheduler.get_workflow_trigger,
            scheduler.delete_workflow_trigger,
            scheduler.pause_workflow_trigger,
            scheduler.resume_workflow_trigger,
            scheduler.get_workflow_snapshot,
            scheduler.delete_workflow_snapshot,
            lambda id: scheduler.start_task_execution(id, "first"),
            lambda id: scheduler.stop_task_execution(id, "first"),
            lambda id: scheduler.restart_task_execution(id, "first"),
        ):
            with pytest.raises(NotFoundError):
                call(4711)

    # --- executions ---

    def test_an_execution_runs_on_the_newest_snapshot(
        self, scheduler: AnyScheduler, execution: WorkflowExecution
    ) -> None:
        scheduler.submit_workflow(workflow())
        newer = scheduler.start_workflow_execution("flow")

        first, second = scheduler.list_workflow_snapshots("flow")
        assert (execution.snapshot_id, newer.snapshot_id) == (first.id, second.id)
        assert newer.status is WorkflowStatus.RUNNING
        assert newer.run_type is ExecutionType.MANUAL
        assert newer.end_date is None

    def test_tasks_without_a_start_rule_start_with_the_execution(
        self, scheduler: AnyScheduler, execution: WorkflowExecution
    ) -> None:
        (task,) = scheduler.list_task_executions(execution.id)

        assert (task.task_name, task.sequence_number, task.try_number) == ("first", 1, 1)
        assert task.workflow_execution_id == execution.id
        assert scheduler.get_task_execution(task.id).id == task.id

    def test_executions_of_one_workflow_run_side_by_side(
        self, scheduler: AnyScheduler, flow: WorkflowInfo
    ) -> None:
        started = [scheduler.start_workflow_execution("flow") for _ in range(3)]

        found = scheduler.list_workflow_executions("flow")
        assert [e.id for e in found] == [e.id for e in started]
        assert {e.workflow_id for e in found} == {flow.id}

    def test_a_stopped_execution_ends_when_its_last_task_is_gone(
        self, scheduler: AnyScheduler, execution: WorkflowExecution
    ) -> None:
        scheduler.stop_workflow_execution(execution.id)

        ended = await_end(scheduler, execution.id)
        assert ended.status is WorkflowStatus.STOPPED
        assert ended.reason == "stopped on request"
        assert ended.end_date >= ended.begin_date
        (task,) = scheduler.list_task_executions(execution.id)
        assert task.status is TaskStatus.STOPPED
        assert task.reason
        assert task.end_date is not None

    def test_an_ended_execution_cannot_be_stopped_nor_its_tasks_be_started(
        self, scheduler: AnyScheduler, execution: WorkflowExecution
    ) -> None:
        stop(scheduler, execution)

        with pytest.raises(ConflictError):
            scheduler.stop_workflow_execution(execution.id)
        for act in (
            scheduler.start_task_execution,
            scheduler.stop_task_execution,
            scheduler.restart_task_execution,
        ):
            with pytest.raises(ConflictError):
                act(execution.id, "first")

    def test_all_executions_of_a_workflow_are_stopped_at_once(
        self, scheduler: AnyScheduler, flow: WorkflowInfo
    ) -> None:
        scheduler.submit_workflow(workflow("other"))
        other = scheduler.start_workflow_execution("other")
        ended = scheduler.start_workflow_execution("flow")
        stop(scheduler, ended)
        running = [scheduler.start_workflow_execution("flow") for _ in range(2)]

        stopped = scheduler.stop_workflow_executions("flow")

        assert [e.id for e in stopped] == [e.id for e in running]
        for execution in running:
            assert await_end(scheduler, execution.id).status is WorkflowStatus.STOPPED
        assert scheduler.get_workflow_execution(other.id).status is WorkflowStatus.RUNNING
        assert scheduler.stop_workflow_executions("flow") == []

    def test_an_execution_is_deleted_with_its_tasks_when_it_has_ended(
        self, scheduler: AnyScheduler, execution: WorkflowExecution
    ) -> None:
        (task,) = scheduler.list_task_executions(execution.id)
        with pytest.raises(ConflictError):
            scheduler.delete_workflow_execution(execution.id)
        stop(scheduler, execution)

        scheduler.delete_workflow_execution(execution.id)

        assert scheduler.list_workflow_executions("flow") == []
        with pytest.raises(NotFoundError):
            scheduler.get_task_execution(task.id)
        assert scheduler.start_workflow_execution("flow").id > execution.id

    # --- tasks ---

    def test_a_task_that_does_not_run_is_started(
        self, scheduler: AnyScheduler, execution: WorkflowExecution
    ) -> None:
        task = scheduler.start_task_execution(execution.id, "later")

        assert (task.task_name, task.sequence_number) == ("later", 1)
        assert task.status not in TASK_FINISHED

    def test_starting_a_task_that_runs_changes_nothing(
        self, scheduler: AnyScheduler, execution: WorkflowExecution
    ) -> None:
        running = scheduler.start_task_execution(execution.id, "later")

        assert scheduler.start_task_execution(execution.id, "later").id == running.id
        assert len(scheduler.list_task_executions(execution.id)) == 2

    def test_a_task_that_runs_is_stopped(
        self, scheduler: AnyScheduler, execution: WorkflowExecution
    ) -> None:
        running = scheduler.start_task_execution(execution.id, "later")

        stopped = scheduler.stop_task_execution(execution.id, "later")

        assert stopped.id == running.id
        ended = await_task(scheduler, running.id, TaskStatus.STOPPED)
        assert ended.reason
        assert ended.end_date is not None

    def test_a_task_that_does_not_run_cannot_be_stopped(
        self, scheduler: AnyScheduler, execution: WorkflowExecution
    ) -> None:
        with pytest.raises(ConflictError, match="later"):
            scheduler.stop_task_execution(execution.id, "later")

    def test_a_task_that_was_stopped_starts_again_as_a_new_task_execution(
        self, scheduler: AnyScheduler, execution: WorkflowExecution
    ) -> None:
        before = scheduler.start_task_execution(execution.id, "later")
        scheduler.stop_task_execution(execution.id, "later")
        await_task(scheduler, before.id, TaskStatus.STOPPED)

        after = scheduler.start_task_execution(execution.id, "later")

        assert after.id > before.id
        assert after.sequence_number == 2

    def test_restarting_ends_the_running_task_execution_and_starts_the_next(
        self, scheduler: AnyScheduler, execution: WorkflowExecution
    ) -> None:
        before = scheduler.start_task_execution(execution.id, "later")

        scheduler.restart_task_execution(execution.id, "later")

        await_task(scheduler, before.id, TaskStatus.STOPPED)
        *_, newest = scheduler.list_task_executions(execution.id)
        assert (newest.task_name, newest.sequence_number) == ("later", 2)
        assert newest.status not in TASK_FINISHED

    def test_restarting_a_task_that_does_not_run_starts_it(
        self, scheduler: AnyScheduler, execution: WorkflowExecution
    ) -> None:
        assert scheduler.restart_task_execution(execution.id, "later").sequence_number == 1

    def test_an_unknown_task_is_not_found(
        self, scheduler: AnyScheduler, execution: WorkflowExecution
    ) -> None:
        for call in (
            scheduler.start_task_execution,
            scheduler.stop_task_execution,
            scheduler.restart_task_execution,
        ):
            with pytest.raises(NotFoundError, match="nobody"):
                call(execution.id, "nobody")

    # --- namespaces ---

    def test_the_default_namespace_is_there(self, scheduler: AnyScheduler) -> None:
        assert scheduler.get_namespace("default").properties == {}

    def test_namespaces_are_added_changed_and_deleted(self, scheduler: AnyScheduler) -> None:
        added = scheduler.add_namespace("ours", {"team": "Bücher", "size": 3})
        assert added == Namespace("ours", {"team": "Bücher", "size": 3})
        assert scheduler.get_namespace("ours") == added

        changed = scheduler.update_namespace("ours", {"size": 4})
        assert changed == scheduler.get_namespace("ours") == Namespace("ours", {"size": 4})

        assert [n.name for n in scheduler.list_namespaces()] == ["default", "ours"]
        scheduler.delete_namespace("ours")
        assert [n.name for n in scheduler.list_namespaces()] == ["default"]

    def test_a_namespace_is_added_once(self, scheduler: AnyScheduler) -> None:
        scheduler.add_namespace("ours")

        with pytest.raises(ConflictError, match="ours"):
            scheduler.add_namespace("ours")

    def test_an_unknown_namespace_is_not_found(self, scheduler: AnyScheduler) -> None:
        for call in (
            scheduler.get_namespace,
            scheduler.delete_namespace,
            lambda name: scheduler.update_namespace(name, {}),
        ):
            with pytest.raises(NotFoundError, match="nowhere"):
                call("nowhere")

    def test_what_could_not_be_a_namespace_is_refused(self, scheduler: AnyScheduler) -> None:
        for name in ("", "a/b", "..", "a b", "x" * 201):
            with pytest.raises(DefinitionError):
                scheduler.add_namespace(name)

    def test_a_namespace_with_workflows_is_not_deleted(self, scheduler: AnyScheduler) -> None:
        scheduler.add_namespace("ours")
        scheduler.submit_workflow(workflow(namespace="ours"))
        with pytest.raises(ConflictError, match="flow"):
            scheduler.delete_namespace("ours")

        scheduler.delete_workflow("flow", "ours")

        scheduler.delete_namespace("ours")

    def test_one_name_in_two_namespaces_is_two_workflows(
        self, scheduler: AnyScheduler, flow: WorkflowInfo
    ) -> None:
        scheduler.add_namespace("ours")
        ours = scheduler.submit_workflow(workflow(namespace="ours"))
        execution = scheduler.start_workflow_execution("flow", "ours")

        assert ours.id != flow.id
        assert scheduler.list_workflows() == [flow]
        assert scheduler.list_workflows("ours") == [ours]
        assert scheduler.list_workflow_executions("flow") == []
        assert [e.id for e in scheduler.list_workflow_executions("flow", "ours")] == [execution.id]

    # --- schedules ---

    @pytest.mark.parametrize("expression", ["cron@0 12 * * 1-5", "interval@0 0 10 0"])
    def test_a_schedule_is_added_paused_resumed_and_deleted(
        self, scheduler: AnyScheduler, flow: WorkflowInfo, expression: str
    ) -> None:
        schedule = scheduler.add_workflow_schedule(expression, "flow")
        assert (schedule.workflow_id, schedule.expression) == (flow.id, expression)
        assert not schedule.is_paused
        assert scheduler.get_workflow_schedule(schedule.id) == schedule

        assert scheduler.pause_workflow_schedule(schedule.id).is_paused
        assert scheduler.get_workflow_schedule(schedule.id).is_paused
        assert not scheduler.resume_workflow_schedule(schedule.id).is_paused
        assert scheduler.list_workflow_schedules("flow") == [schedule]

        scheduler.delete_workflow_schedule(schedule.id)
        assert scheduler.list_workflow_schedules("flow") == []

    @pytest.mark.parametrize(
        "expression",
        ["", "* * * * *", "cron@* * * *", "cron@61 * * * *", "cron@0 0 30 2 *", "interval@0 0 0 0"],
    )
    def test_a_wrong_expression_is_refused(
        self, scheduler: AnyScheduler, flow: WorkflowInfo, expression: str
    ) -> None:
        with pytest.raises(DefinitionError):
            scheduler.add_workflow_schedule(expression, "flow")

        assert scheduler.list_workflow_schedules("flow") == []

    def test_a_schedule_keeps_its_options(
        self, scheduler: AnyScheduler, flow: WorkflowInfo
    ) -> None:
        options = ScheduleOptions(
            time_zone="America/New_York",
            start=datetime(2030, 1, 1, tzinfo=UTC),
            end=datetime(2031, 1, 1, 12, 0, 0, 5000, tzinfo=UTC),
            catch_up=CatchUp.ALL,
            max_active_runs=3,
        )

        schedule = scheduler.add_workflow_schedule("cron@0 12 * * *", "flow", options=options)

        assert schedule.options == options
        assert scheduler.get_workflow_schedule(schedule.id) == schedule

    @pytest.mark.parametrize(
        "options",
        [
            ScheduleOptions(time_zone="Mars/Olympus"),
            ScheduleOptions(max_active_runs=0),
            ScheduleOptions(
                start=datetime(2030, 1, 1, tzinfo=UTC), end=datetime(2029, 1, 1, tzinfo=UTC)
            ),
            ScheduleOptions(end=datetime(2001, 1, 1, tzinfo=UTC)),
        ],
        ids=["no time zone", "no run", "ends before its start", "has ended"],
    )
    def test_options_that_make_no_sense_are_refused(
        self, scheduler: AnyScheduler, flow: WorkflowInfo, options: ScheduleOptions
    ) -> None:
        with pytest.raises(DefinitionError):
            scheduler.add_workflow_schedule("interval@1 0 0 0", "flow", options=options)

        assert scheduler.list_workflow_schedules("flow") == []

    def test_all_schedules_of_a_workflow_are_deleted_at_once(
        self, scheduler: AnyScheduler, flow: WorkflowInfo
    ) -> None:
        scheduler.submit_workflow(workflow("other"))
        other = scheduler.add_workflow_schedule("interval@1 0 0 0", "other")
        for _ in range(2):
            scheduler.add_workflow_schedule("interval@1 0 0 0", "flow")

        scheduler.delete_workflow_schedules("flow")

        assert scheduler.list_workflow_schedules("flow") == []
        assert scheduler.list_workflow_schedules("other") == [other]

    # --- triggers ---

    @pytest.mark.parametrize(
        "rule",
        [
            GO,
            MeetAllCondition(name="both", conditions=(GO, SingleEventCondition("on*"))),
            WorkflowTaskStatusCondition("flow", "first", "default", TaskStatus.SUCCESS),
            CustomCondition(expect_event_keys=("a", "b"), code="bm9uZQ=="),
            algebra.absent(algebra.event("a"), after=algebra.event("b"), within=60, by="value.day"),
        ],
        ids=["event", "all", "task status", "custom", "pattern"],
    )
    def test_a_trigger_is_added_paused_resumed_and_deleted(
        self, scheduler: AnyScheduler, flow: WorkflowInfo, rule: AnyCondition
    ) -> None:
        trigger = scheduler.add_workflow_trigger(rule, "flow")
        assert (trigger.workflow_id, trigger.rule) == (flow.id, rule)
        assert not trigger.is_paused
        assert scheduler.get_workflow_trigger(trigger.id) == trigger

        assert scheduler.pause_workflow_trigger(trigger.id).is_paused
        assert scheduler.get_workflow_trigger(trigger.id).is_paused
        assert not scheduler.resume_workflow_trigger(trigger.id).is_paused
        assert scheduler.list_workflow_triggers("flow") == [trigger]

        scheduler.delete_workflow_trigger(trigger.id)
        assert scheduler.list_workflow_triggers("flow") == []

    def test_all_triggers_of_a_workflow_are_deleted_at_once(
        self, scheduler: AnyScheduler, flow: WorkflowInfo
    ) -> None:
        scheduler.submit_workflow(workflow("other"))
        other = scheduler.add_workflow_trigger(GO, "other")
        for _ in range(2):
            scheduler.add_workflow_trigger(GO, "flow")

        scheduler.delete_workflow_triggers("flow")

        assert scheduler.list_workflow_triggers("flow") == []
        assert scheduler.list_workflow_triggers("other") == [other]

    def test_ids_of_deleted_schedules_and_triggers_are_never_given_again(
        self, scheduler: AnyScheduler, flow: WorkflowInfo
    ) -> None:
        schedule = scheduler.add_workflow_schedule("interval@1 0 0 0", "flow")
        trigger = scheduler.add_workflow_trigger(GO, "flow")
        scheduler.delete_workflow_schedule(schedule.id)
        scheduler.delete_workflow_trigger(trigger.id)

        assert scheduler.add_workflow_schedule("interval@1 0 0 0", "flow").id > schedule.id
        assert scheduler.add_workflow_trigger(GO, "flow").id > trigger.id

    # --- snapshots ---

    def test_a_snapshot_is_deleted_when_nothing_needs_it_any_more(
        self, scheduler: AnyScheduler, execution: WorkflowExecution
    ) -> None:
        scheduler.submit_workflow(workflow())
        old, current = scheduler.list_workflow_snapshots("flow")
        for needed in (old, current):
            with pytest.raises(ConflictError):
                scheduler.delete_workflow_snapshot(needed.id)
        stop(scheduler, execution)

        scheduler.delete_workflow_snapshot(old.id)

        assert scheduler.list_workflow_snapshots("flow") == [current]

    def test_of_all_snapshots_those_that_are_needed_stay(
        self, scheduler: AnyScheduler, execution: WorkflowExecution
    ) -> None:
        for _ in range(3):
            scheduler.submit_workflow(workflow())
        first, _, _, newest = scheduler.list_workflow_snapshots("flow")

        scheduler.delete_workflow_snapshots("flow")

        assert scheduler.list_workflow_snapshots("flow") == [first, newest]

    # --- states ---

    def test_a_state_is_kept_as_it_was_left_last(
        self, scheduler: AnyScheduler, execution: WorkflowExecution
    ) -> None:
        assert scheduler.get_state(execution.id, "n") is None
        for value in ("1", '{"größe": 🦊}', '""'):
            scheduler.put_state(execution.id, "n", value)
            assert scheduler.get_state(execution.id, "n") == value
        assert scheduler.get_state(execution.id, "N") is None

        scheduler.put_state(execution.id, "n", None)
        scheduler.put_state(execution.id, "n", None)
        assert scheduler.get_state(execution.id, "n") is None

    def test_a_state_belongs_to_its_execution(
        self, scheduler: AnyScheduler, execution: WorkflowExecution
    ) -> None:
        other = scheduler.start_workflow_execution("flow")
        scheduler.put_state(execution.id, "n", "1")

        assert scheduler.get_state(other.id, "n") is None
        with pytest.raises(NotFoundError):
            scheduler.get_state(other.id + 1, "n")
        with pytest.raises(NotFoundError):
            scheduler.put_state(other.id + 1, "n", "1")
        with pytest.raises(UsageError):
            scheduler.put_state(other.id, "n" * 201, "1")

    def test_an_execution_that_has_ended_is_left_no_state(
        self, scheduler: AnyScheduler, execution: WorkflowExecution
    ) -> None:
        stop(scheduler, execution)

        with pytest.raises(ConflictError):
            scheduler.put_state(execution.id, "n", "1")

    # --- lists ---

    def test_lists_are_ordered_by_id_and_cut_by_limit_and_offset(
        self, scheduler: AnyScheduler, flow: WorkflowInfo
    ) -> None:
        for number in range(4):
            scheduler.submit_workflow(workflow(f"other_{number}"))
            scheduler.submit_workflow(workflow())
            scheduler.start_workflow_execution("flow")
            scheduler.add_workflow_schedule("interval@1 0 0 0", "flow")
            scheduler.add_workflow_trigger(GO, "flow")
        execution = scheduler.list_workflow_executions("flow")[0]
        for _ in range(4):
            scheduler.restart_task_execution(execution.id, "first")
            wait_until(
                lambda: all(
                    t.status is TaskStatus.STOPPED
                    for t in scheduler.list_task_executions(execution.id)[:-1]
                ),
                "every task execution but the newest is stopped",
            )
        lists: list[Callable[..., list[Any]]] = [
            scheduler.list_workflows,
            functools.partial(scheduler.list_workflow_executions, "flow"),
            functools.partial(scheduler.list_workflow_schedules, "flow"),
            functools.partial(scheduler.list_workflow_triggers, "flow"),
            functools.partial(scheduler.list_workflow_snapshots, "flow"),
            functools.partial(scheduler.list_task_executions, execution.id),
        ]

        for chosen in lists:
            ids = [thing.id for thing in chosen()]
            assert len(ids) >= 4
            assert ids == sorted(ids)
            assert [thing.id for thing in chosen(limit=2)] == ids[:2]
            assert [thing.id for thing in chosen(limit=2, offset=1)] == ids[1:3]
            assert [thing.id for thing in chosen(offset=3)] == ids[3:]
            assert chosen(offset=100) == chosen(limit=0) == []

    def test_namespaces_are_ordered_by_name(self, scheduler: AnyScheduler) -> None:
        for name in ("zoo", "apes"):
            scheduler.add_namespace(name)

        assert [n.name for n in scheduler.list_namespaces()] == ["apes", "default", "zoo"]
        assert [n.name for n in scheduler.list_namespaces(limit=1, offset=1)] == ["default"]

    # --- dead letters ---

    def test_a_dead_letter_tells_whose_it_is_and_why(
        self, scheduler: AnyScheduler, bury: Callable[[], int]
    ) -> None:
        assert scheduler.list_dead_letters() == []
        offset = bury()

        (letter,) = scheduler.get_dead_letter(offset)
        assert letter.offset == offset
        assert letter.consumer
        assert letter.error
        assert letter.tries >= 1
        assert letter.event.key == "poison"
        assert scheduler.list_dead_letters() == [replace(letter, event=None)]

    def test_dead_letters_are_listed_in_the_order_of_the_log(
        self, scheduler: AnyScheduler, bury: Callable[[], int]
    ) -> None:
        offsets = [bury() for _ in range(3)]

        def listed(**page: int) -> list[int]:
            return [letter.offset for letter in scheduler.list_dead_letters(**page)]

        assert listed() == sorted(offsets)
        assert listed(limit=1, offset=1) == sorted(offsets)[1:2]

    @pytest.mark.parametrize("verb", ["drop", "redrive"])
    def test_a_dead_letter_that_was_dealt_with_is_gone(
        self, scheduler: AnyScheduler, bury: Callable[[], int], verb: str
    ) -> None:
        first, second = bury(), bury()
        (letter,) = scheduler.get_dead_letter(first)
        (other,) = scheduler.get_dead_letter(second)
        deal_with = getattr(scheduler, f"{verb}_dead_letter")

        deal_with(first)
        deal_with(second, other.consumer)

        kept = [(left.offset, left.consumer) for left in scheduler.list_dead_letters()]
        assert (first, letter.consumer) not in kept
        assert (second, other.consumer) not in kept

    @pytest.mark.parametrize("verb", ["drop", "redrive"])
    def test_all_dead_letters_are_dealt_with_at_once(
        self, scheduler: AnyScheduler, bury: Callable[[], int], verb: str
    ) -> None:
        letters = [
            letter for offset in (bury(), bury()) for letter in scheduler.get_dead_letter(offset)
        ]

        assert getattr(scheduler, f"{verb}_dead_letters")() == 2

        kept = [(left.offset, left.consumer) for left in scheduler.list_dead_letters()]
        assert not [letter for letter in letters if (letter.offset, letter.consumer) in kept]

    @pytest.mark.parametrize("verb", ["get", "drop", "redrive"])
    def test_a_dead_letter_that_is_not_there_is_not_found(
        self, scheduler: AnyScheduler, bury: Callable[[], int], verb: str
    ) -> None:
        offset = bury()
        deal_with = getattr(scheduler, f"{verb}_dead_letter")

        with pytest.raises(NotFoundError, match="dead letter"):
            deal_with(987654)
        if verb != "get":
            with pytest.raises(NotFoundError, match="dead letter"):
                deal_with(offset, "nobody")

    @pytest.mark.parametrize("verb", ["drop", "redrive"])
    def test_a_repeated_request_about_a_dead_letter_is_answered_the_same(
        self, scheduler: AnyScheduler, bury: Callable[[], int], verb: str
    ) -> None:
        offset = bury()
        for _ in range(2):
            with request("once"):
                getattr(scheduler, f"{verb}_dead_letter")(offset)

    # --- requests ---

    def test_a_repeated_request_takes_place_once_and_is_answered_the_same(
        self, scheduler: AnyScheduler
    ) -> None:
        scheduler.submit_workflow(workflow("ended"))
        ended = scheduler.start_workflow_execution("ended")
        stop(scheduler, ended)
        for name, repeated in self._story(scheduler, ended.id):
            with request(f"request-{name}"):
                first = repeated()
            for _ in range(2):
                with request(f"request-{name}"):
                    assert repeated() == first, name

        assert len(scheduler.list_workflow_snapshots("flow")) == 1
        assert len(scheduler.list_workflow_executions("flow")) == 1
        tasks = scheduler.list_task_executions(scheduler.list_workflow_executions("flow")[0].id)
        assert [(t.task_name, t.sequence_number) for t in tasks] == [("first", 1), ("later", 1)]

    @staticmethod
    def _story(scheduler: AnyScheduler, ended: int) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Calls that build on one another, each with a name."""
        yield "submit", lambda: scheduler.submit_workflow(workflow())
        yield "start", lambda: scheduler.start_workflow_execution("flow")
        (execution,) = scheduler.list_workflow_executions("flow")
        yield "start task", lambda: scheduler.start_task_execution(execution.id, "later")
        yield "stop task", lambda: scheduler.stop_task_execution(execution.id, "later")
        yield "stop", lambda: scheduler.stop_workflow_execution(execution.id)
        await_end(scheduler, execution.id)
        yield "stop", lambda: scheduler.stop_workflow_execution(execution.id)
        yield "stop task", lambda: scheduler.stop_task_execution(execution.id, "later")
        yield "namespace", lambda: scheduler.add_namespace("ours")
        yield "delete namespace", lambda: scheduler.delete_namespace("ours")
        yield "schedule", lambda: scheduler.add_workflow_schedule("interval@1 0 0 0", "flow")
        (schedule,) = scheduler.list_workflow_schedules("flow")
        yield "delete schedule", lambda: scheduler.delete_workflow_schedule(schedule.id)
        yield "trigger", lambda: scheduler.add_workflow_trigger(GO, "flow")
        (trigger,) = scheduler.list_workflow_triggers("flow")
        yield "delete trigger", lambda: scheduler.delete_workflow_trigger(trigger.id)
        yield "delete execution", lambda: scheduler.delete_workflow_execution(ended)
        yield "delete", lambda: scheduler.delete_workflow("ended")

    def test_a_request_that_was_refused_stays_refused(
        self, scheduler: AnyScheduler, flow: WorkflowInfo
    ) -> None:
        scheduler.disable_workflow("flow")
        with request("early"), pytest.raises(ConflictError) as refused:
            scheduler.start_workflow_execution("flow")
        scheduler.enable_workflow("flow")

        with request("early"), pytest.raises(ConflictError) as again:
            scheduler.start_workflow_execution("flow")

        assert str(again.value) == str(refused.value)
        assert scheduler.list_workflow_executions("flow") == []

    def test_request_ids_are_told_apart_letter_by_letter(
        self, scheduler: AnyScheduler, flow: WorkflowInfo
    ) -> None:
        ids = ["request", "Request", "request ", "r" * 200, "r" * 201]
        for id in ids:
            with request(id):
                scheduler.start_workflow_execution("flow")

        assert len(scheduler.list_workflow_executions("flow")) == len(ids)

    def test_many_may_ask_at_the_same_time(
        self, scheduler: AnyScheduler, flow: WorkflowInfo
    ) -> None:
        def start(number: int) -> int:
            with request(f"request-{number % 8}"):
                execution: WorkflowExecution = scheduler.start_workflow_execution("flow")
                return execution.id

        with ThreadPoolExecutor(8) as pool:
            ids = list(pool.map(start, range(24)))

        assert ids[:8] == ids[8:16] == ids[16:]
        assert sorted(ids[:8]) == [e.id for e in scheduler.list_workflow_executions("flow")]


def stop(scheduler: AnyScheduler, execution: WorkflowExecution) -> None:
    """Stop the execution and return when it has ended."""
    scheduler.stop_workflow_execution(execution.id)
    await_end(scheduler, execution.id)


def await_end(scheduler: AnyScheduler, execution_id: int) -> Any:
    """The execution, when it has come to its end."""
    wait_until(
        lambda: scheduler.get_workflow_execution(execution_id).status in WORKFLOW_FINISHED,
        f"workflow execution {execution_id} ends",
    )
    return scheduler.get_workflow_execution(execution_id)


def await_task(scheduler: AnyScheduler, task_execution_id: int, status: TaskStatus) -> Any:
    """The task execution, when it has that status."""
    wait_until(
        lambda: scheduler.get_task_execution(task_execution_id).status is status,
        f"task execution {task_execution_id} is {status}",
    )
    return scheduler.get_task_execution(task_execution_id)
