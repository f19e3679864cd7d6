"""What an event led to, one step on: decisions, executions, and the events that came of these; or
why it led to nothing."""

from collections.abc import Iterable

import msgspec
from sqlalchemy import Connection, select

from aiflow_core.clock import to_datetime
from aiflow_core.errors import NotFoundError
from aiflow_core.model.condition import TaskStatusCondition
from aiflow_core.model.decision import FOLDED, Decision, Outcome
from aiflow_core.model.event import Event, EventFilter, EventType, derived_event_id, hears
from aiflow_core.model.execution import (
    DeadLetter,
    TaskExecution,
    WorkflowExecution,
    WorkflowSnapshot,
    WorkflowTrigger,
)
from aiflow_core.model.explanation import EventExplanation
from aiflow_core.specs.event_store import EventStore
from aiflow_scheduler_event import records, tables
from aiflow_scheduler_event.close_up import evaluations, newest_snapshots, position
from aiflow_scheduler_event.state import Evaluation
from aiflow_scheduler_event.step import SENDER
from aiflow_scheduler_event.store import Store, from_row

# Of what an event led to, so much is followed: an event may start a thousand tasks.
_MOST_TASKS = 20
_MOST_EVENTS = 100

# So far behind the event it is looked for what followed: a log may be long, and an attempt silent.
_FURTHEST = 10_000

# So many messages of one step are recognised among the events of the log.
_MOST_SENT = 1000

# So many workflows are looked through for who might have listened.
_MOST_WORKFLOWS = 2000


class Tracer:
    """Tells what events led to. May be asked from any thread."""

    def __init__(self, store: Store, events: EventStore) -> None:
        self._store = store
        self._events = events

    def event(self, offset: int, letters: Iterable[DeadLetter]) -> EventExplanation:
        """`NotFoundError` when there is no such event; one that the log has forgotten is told of
        as long as there is a record of it. `letters` are its dead letters."""
        found = self._events.read(offset - 1, until=offset, limit=1) if offset > 0 else []
        event = found[0] if found else None
        with self._store.at_one_moment() as connection:
            decisions = records.of_event(connection, offset)
            decisions += records.of_matches(connection, offset, offset + _FURTHEST, decisions)
            if event is None and not decisions:
                raise NotFoundError("event", offset, next_step=f"The log has {self._extent()}.")
            tasks = _tasks(connection, decisions)
            executions = _started(connection, decisions)
            taken_in = position(connection) >= offset
            asked = [e for e in evaluations(connection) if e.event.offset == offset]
            hints = (
                []
                if event is None or decisions or asked or event.type is not EventType.USER
                else _hints(connection, event)
            )
        letters = tuple(letters)
        return EventExplanation(
            summary=_summary(offset, event, decisions, asked, letters, taken_in),
            offset=offset,
            event=event,
            decisions=tuple(decisions),
            task_executions=tuple(tasks),
            workflow_executions=tuple(executions),
            followed=tuple(self._followed(offset, decisions, tasks)),
            dead_letters=letters,
            hints=tuple(hints),
        )

    def _extent(self) -> str:
        head = self._events.head()
        first = self._events.read(0, limit=1)
        return f"the events {first[0].offset} to {head}" if first else "no events"

    # --- what came of it -----------------------------------------------------------------------

    def _followed(
        self, offset: int, decisions: list[Decision], tasks: list[TaskExecution]
    ) -> list[Event]:
        """The events that the scheduler told in the same step, those of the attempts that it made
        begin, and what these sent; the first of each."""
        steps = {offset, *(d.answer_offset for d in decisions if d.answer_offset)}
        steps |= {d.offset for d in decisions if d.offset > offset and d.what not in FOLDED}
        sent = {derived_event_id("outbox", o, n) for o in steps for n in range(1, _MOST_SENT)}
        told = EventFilter(sender=SENDER, types=(EventType.WORKFLOW_STATUS, EventType.TASK_STATUS))
        found = [e for e in self._read(offset, told, _MOST_EVENTS) if e.id in sent]
        begun = {
            d.task_execution_id
            for d in decisions
            if d.what in (Outcome.START, Outcome.RESTARTED, Outcome.RESTART)
        }
        for task in tasks[:_MOST_TASKS]:
            if task.id in begun:
                found += self._of_task(offset, task)
        return sorted({e.offset: e for e in found}.values(), key=lambda e: e.offset)

    def _of_task(self, offset: int, task: TaskExecution) -> list[Event]:
        name = f"{task.workflow_execution_id}_{task.task_name}_{task.sequence_number}"
        attempt = msgspec.structs.replace(task, try_number=1).attempt
        reports = EventFilter(sender=str(attempt), types=(EventType.TASK_STATUS,))
        own = EventFilter(sender=name, types=(EventType.USER,))
        return [*self._read(offset, reports, 5), *self._read(offset, own, 5)]

    def _read(self, offset: int, wanted: EventFilter, limit: int) -> list[Event]:
        return self._events.read(offset, until=offset + _FURTHEST, limit=limit, filter=wanted)


def _tasks(connection: Connection, decisions: list[Decision]) -> list[TaskExecution]:
    ids = {d.task_execution_id for d in decisions if d.task_execution_id}
    table = tables.task_execution
    chosen = sorted(ids)[:_MOST_EVENTS]
    rows = connection.execute(select(table).where(table.c.id.in_(chosen)).order_by(table.c.id))
    return [from_row(TaskExecution, row) for row in rows]


def _started(connection: Connection, decisions: list[Decision]) -> list[WorkflowExecution]:
    ids = sorted(
        d.workflow_execution_id for d in decisions if d.what is Outcome.START and not d.task_name
    )
    table = tables.workflow_execution
    query = select(table).where(table.c.id.in_(ids[:_MOST_EVENTS])).order_by(table.c.id)
    return [from_row(WorkflowExecution, row) for row in connection.execute(query)]


def _summary(
    offset: int,
    event: Event | None,
    decisions: list[Decision],
    asked: list[Evaluation],
    letters: tuple[DeadLetter, ...],
    taken_in: bool,
) -> str:
    name = f"Event {offset}" if event is None else f"Event {offset} ({event.key})"
    if letters:
        return f"{name} went to the dead letters: {letters[0].error}."
    if not taken_in:
        return f"{name} has not been taken in by the scheduler yet."
    followed = [d for d in decisions if d.what not in FOLDED]
    if followed:
        return f"{name} led to {_deeds(followed)}."
    if asked:
        return f"{name} is being looked at: {len(asked)} condition(s) of yours are asked about it."
    if decisions:
        return f"{name} was looked at and nothing followed from it: {decisions[0].what}."
    if event is not None and event.type is not EventType.USER:
        return f"{name} led to no decision."
    return f"{name} led to nothing: nobody listened to it."


def _deeds(decisions: list[Decision]) -> str:
    shown = [_deed(d) for d in decisions[:3]]
    more = [f"{len(decisions) - 3} more"] if len(decisions) > 3 else []
    return ", ".join(shown + more)


def _deed(decision: Decision) -> str:
    where = f"workflow execution {decision.workflow_execution_id}"
    if decision.what is Outcome.START_WAITS:
        return f"START of task {decision.task_name!r} in {where}, once it had ended"
    if decision.task_name:
        return f"{decision.what} of task {decision.task_name!r} in {where}"
    return f"{decision.what} of {where}"


# --- who might have listened ---------------------------------------------------------------------
def _hints(connection: Connection, event: Event) -> list[str]:
    """Why nobody did anything about an event that a user sent."""
    hints = []
    only = event.workflow_execution_id
    if only is not None:
        hints.append(f"It was meant for workflow execution {only} alone.")
    for snapshot in newest_snapshots(connection, _MOST_WORKFLOWS):
        hints += _of_snapshot(connection, snapshot, event)
    table, workflow = tables.workflow_event_trigger, tables.workflow
    rows = connection.execute(
        select(table, workflow.c.namespace, workflow.c.workflow_name)
        .join(workflow, workflow.c.id == table.c.workflow_id)
        .limit(_MOST_WORKFLOWS)
    )
    for row in rows:
        trigger = from_row(WorkflowTrigger, row)
        if any(hears(key, event) for key in trigger.rule.expect_event_keys):
            whose = f"Trigger {trigger.id} of workflow {row.namespace}.{row.workflow_name}"
            hints.append(f"{whose} listens to it{_elsewhere(row.namespace, event)}.")
    return hints


def _of_snapshot(connection: Connection, snapshot: WorkflowSnapshot, event: Event) -> list[str]:
    definition = snapshot.definition
    heard = [
        (task.name, number)
        for task in definition.tasks
        for number, rule in enumerate(task.rules, 1)
        if not isinstance(rule.condition, TaskStatusCondition)
        if any(hears(key, event) for key in rule.condition.expect_event_keys)
    ]
    why = _elsewhere(definition.namespace, event)
    if heard and not why:
        table, moment = tables.workflow_execution, to_datetime(event.create_time)
        began = table.c.event_offset < event.offset
        open_then = table.c.end_date.is_(None) | (table.c.end_date >= moment)
        query = select(table.c.id).where(
            table.c.workflow_id == snapshot.workflow_id, began, open_then
        )
        ran = list(connection.scalars(query.limit(5)))
        why = (
            f", and workflow execution {ran[0]} ran when it came"
            if ran
            else ", but no execution of it ran when it came"
        )
    name = f"{definition.namespace}.{definition.name}"
    return [
        f"Rule {number} of task {task!r} of workflow {name} listens to it{why}."
        for task, number in heard
    ]


def _elsewhere(namespace: str, event: Event) -> str:
    if namespace == event.namespace:
        return ""
    sent = f"namespace {event.namespace!r}" if event.namespace else "no namespace"
    return f", but in namespace {namespace!r}, and the event was sent to {sent}"
