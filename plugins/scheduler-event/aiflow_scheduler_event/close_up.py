"""One execution, or one workflow, as it stands in the database: what explanations are made from.

Read in one transaction and from any server, also one that only stands by.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from aiflow_core.errors import NotFoundError
from aiflow_core.model.algebra import Pattern
from aiflow_core.model.condition import Lack, missing
from aiflow_core.model.context import Context, ValueState, ValueStateDescriptor
from aiflow_core.model.decision import Decision, Outcome
from aiflow_core.model.execution import (
    WorkflowInfo,
    WorkflowSchedule,
    WorkflowSnapshot,
    WorkflowTrigger,
)
from aiflow_core.model.status import TaskStatus
from aiflow_core.model.workflow import TaskDefinition
from aiflow_scheduler_event import records, tables
from aiflow_scheduler_event.lacking import lacks, remembered
from aiflow_scheduler_event.patterns import OF_TRIGGER
from aiflow_scheduler_event.rules import Plan
from aiflow_scheduler_event.state import (
    Evaluation,
    LiveExecution,
    LiveTask,
    Scope,
    ScopeKind,
    Timer,
    TimerKey,
)
from aiflow_scheduler_event.store import CONSUMER, from_row


class AsItStands(Context):
    """The surroundings of a built-in condition that is asked what it misses. Nothing is kept."""

    def __init__(self, states: dict[str, str], tasks: dict[str, LiveTask]) -> None:
        self._states = states
        self._tasks = tasks

    def get_state(self, descriptor: ValueStateDescriptor) -> ValueState:
        text = self._states.get(descriptor.name)
        return ValueState() if text is None else ValueState(json.loads(text))

    def get_task_status(self, task_name: str) -> TaskStatus | None:
        task = self._tasks.get(task_name)
        return None if task is None else task.status


@dataclass(frozen=True)
class ExecutionCloseUp:
    """A workflow execution.

    Attributes:
        plan: None when its snapshot has been deleted, after it had ended.
        tasks: the latest execution of each task.
        timers: those of the execution.
        evaluations: of users' conditions, that wait or are under way.
        workers: by task execution, the server that has claimed its attempt.
        memories: of the rules of the event algebra, by `Plan.rule_name`.
        waiting: how many matches wait until a task has ended, by the place of the task.
        position: offset of the last event that the scheduler has taken in.
        now_ms: the time as of which it is told.
    """

    workflow: WorkflowInfo
    execution: LiveExecution
    plan: Plan | None
    tasks: dict[str, LiveTask]
    context: AsItStands
    timers: dict[TimerKey, Timer]
    evaluations: list[Evaluation]
    workers: dict[int, str]
    memories: dict[str, str]
    waiting: Mapping[int, int]
    position: int
    now_ms: int

    def lacks(self, task: TaskDefinition, number: int) -> tuple[Lack, ...]:
        """What the rule of the task with this number, from 0, still needs."""
        condition = task.rules[number].condition
        if self.plan is None or not isinstance(condition, Pattern):
            return missing(condition, self.context)
        memory = self.memories.get(self.plan.rule_name(task.name, number))
        return lacks(condition, remembered(memory), self.now_ms)

    def matches_waiting(self, task_name: str) -> int:
        """How many matches wait until the task has ended, each to start it once more."""
        return 0 if self.plan is None else self.waiting.get(self.plan.places[task_name], 0)

    @classmethod
    def read(cls, connection: Connection, execution_id: int, now_ms: int) -> "ExecutionCloseUp":
        """`NotFoundError` when there is no such execution."""
        row = _row(connection, tables.workflow_execution, execution_id)
        if row is None:
            raise NotFoundError("workflow execution", execution_id)
        execution = from_row(LiveExecution, row)
        workflow = _row(connection, tables.workflow, execution.workflow_id)
        snapshot = _row(connection, tables.workflow_snapshot, execution.snapshot_id)
        if workflow is None:
            # Deleted since the first of these was read, on a database that lets that be seen.
            raise NotFoundError("workflow execution", execution_id)
        task = tables.task_execution
        rows = connection.execute(
            select(task).where(task.c.workflow_execution_id == execution_id).order_by(task.c.id)
        ).all()
        tasks = {row.task_name: from_row(LiveTask, row) for row in rows}
        scope = Scope(ScopeKind.EXECUTION, execution_id)
        return cls(
            workflow=from_row(WorkflowInfo, workflow),
            execution=execution,
            plan=None if snapshot is None else Plan(from_row(WorkflowSnapshot, snapshot)),
            tasks=tasks,
            context=AsItStands(_states(connection, scope), tasks),
            timers=_timers(connection, execution_id),
            evaluations=[e for e in evaluations(connection) if e.scope == scope],
            workers={row.id: row.worker for row in rows},
            memories=_states(connection, Scope(ScopeKind.RULES, execution_id)),
            waiting=_waiting(connection, execution_id),
            position=position(connection),
            now_ms=now_ms,
        )


@dataclass(frozen=True)
class WorkflowCloseUp:
    """A workflow with what starts its executions.

    Attributes:
        context: the surroundings of its triggers.
        memories: of the triggers of the event algebra, by id.
        timers: when its schedules fire next.
        not_started: the decisions by which none of its executions started.
        running: ids of its executions that run.
    """

    workflow: WorkflowInfo
    schedules: list[WorkflowSchedule]
    triggers: list[WorkflowTrigger]
    context: AsItStands
    memories: dict[int, str]
    timers: dict[int, Timer]
    not_started: list[Decision]
    running: list[int]
    position: int
    now_ms: int

    def lacks(self, trigger: WorkflowTrigger) -> tuple[Lack, ...]:
        """What the trigger still needs."""
        if not isinstance(trigger.rule, Pattern):
            return missing(trigger.rule, self.context)
        return lacks(trigger.rule, remembered(self.memories.get(trigger.id)), self.now_ms)

    @classmethod
    def read(cls, connection: Connection, workflow: WorkflowInfo, now_ms: int) -> "WorkflowCloseUp":
        schedule, trigger = tables.workflow_schedule, tables.workflow_event_trigger
        schedules = connection.execute(
            select(schedule).where(schedule.c.workflow_id == workflow.id).order_by(schedule.c.id)
        )
        triggers = connection.execute(
            select(trigger).where(trigger.c.workflow_id == workflow.id).order_by(trigger.c.id)
        )
        found = [from_row(WorkflowSchedule, row) for row in schedules]
        timers = {s.id: t for s in found for t in _timers(connection, s.id, "SCHEDULE").values()}
        states = _states(connection, Scope(ScopeKind.WORKFLOW, workflow.id))
        heard = [from_row(WorkflowTrigger, row) for row in triggers]
        memories = {t.id: _states(connection, Scope(ScopeKind.TRIGGER, t.id)) for t in heard}
        return cls(
            workflow=workflow,
            schedules=found,
            triggers=heard,
            context=AsItStands(states, {}),
            memories={id: m[OF_TRIGGER] for id, m in memories.items() if OF_TRIGGER in m},
            timers=timers,
            not_started=records.of_no_execution(connection, workflow.id, Outcome.NOT_STARTED),
            running=_running(connection, workflow.id),
            position=position(connection),
            now_ms=now_ms,
        )


def position(connection: Connection) -> int:
    """The offset of the last event that the scheduler has taken in."""
    consumer = tables.consumer
    query = select(consumer.c.last_seq).where(consumer.c.name == CONSUMER)
    return int(connection.execute(query).scalar_one())


def evaluations(connection: Connection) -> list[Evaluation]:
    """The users' conditions that wait to be evaluated, or are being evaluated."""
    table = tables.evaluation
    return list(connection.scalars(select(table.c.body).order_by(table.c.id)))


def newest_snapshots(connection: Connection, most: int) -> Iterator[WorkflowSnapshot]:
    """The current snapshot of each workflow, of `most` workflows at the most."""
    table = tables.workflow_snapshot
    newest = select(func.max(table.c.id)).group_by(table.c.workflow_id).limit(most).subquery()
    rows = connection.execute(select(table).where(table.c.id.in_(select(newest))))
    return (from_row(WorkflowSnapshot, row) for row in rows)


def _running(connection: Connection, workflow_id: int) -> list[int]:
    table = tables.workflow_execution
    query = select(table.c.id).where(
        table.c.workflow_id == workflow_id, table.c.status.in_(("INIT", "RUNNING"))
    )
    return list(connection.scalars(query.order_by(table.c.id)))


def _row(connection: Connection, table: Any, id: int) -> Any:
    return connection.execute(select(table).where(table.c.id == id)).one_or_none()


def _states(connection: Connection, scope: Scope) -> dict[str, str]:
    """The states of a scope, without the events that a pattern keeps, which may be many."""
    table = tables.condition_state
    query = select(table.c.name, table.c.value).where(
        table.c.scope_kind == scope.kind, table.c.scope_id == scope.id
    )
    if scope.kind in (ScopeKind.RULES, ScopeKind.TRIGGER):
        query = query.where(table.c.name.not_like("%/%"))
    return {row.name: row.value for row in connection.execute(query)}


def _waiting(connection: Connection, execution_id: int) -> Counter[int]:
    table = tables.condition_state
    query = select(table.c.name).where(
        table.c.scope_kind == ScopeKind.WAITING,
        table.c.scope_id == execution_id,
        table.c.name.like("%/%"),
    )
    return matches_by_task(connection.scalars(query))


def matches_by_task(names: Iterable[str]) -> Counter[int]:
    """How many matches wait for each task, from the names of the states that hold them."""
    return Counter(int(name.partition("/")[0]) for name in names if "/" in name)


def _timers(connection: Connection, owner: int, kind: str | None = None) -> dict[TimerKey, Timer]:
    """The timers of an owner: of a schedule, or those of an execution."""
    table = tables.timer
    wanted = table.c.kind == kind if kind else table.c.kind.not_in(("SCHEDULE", "TRIGGER"))
    found = {}
    for row in connection.execute(select(table).where(table.c.owner == owner, wanted)):
        key = TimerKey(row.kind, row.owner, row.task_name)
        found[key] = Timer(key, row.fire_at)
    return found
