"""Why something ran, and why not yet: told from the decisions and from how things stand."""

from collections.abc import Iterable
from typing import Any

from aiflow_core.clock import to_datetime
from aiflow_core.errors import NotFoundError
from aiflow_core.model.condition import Lack, missing
from aiflow_core.model.decision import FOLDED, Cause, Decision, Outcome
from aiflow_core.model.event import ANY_KEY, EventFilter, EventType
from aiflow_core.model.explanation import TaskExplanation, Wait, WorkflowExplanation
from aiflow_core.model.rule import TaskAction, TaskRule
from aiflow_core.model.status import TASK_ALIVE, TASK_FINISHED, WORKFLOW_FINISHED, TaskStatus
from aiflow_core.model.workflow import TaskDefinition
from aiflow_core.specs.event_store import EventStore
from aiflow_core.specs.executor import Executor, TellsLoad
from aiflow_scheduler_event import records
from aiflow_scheduler_event.close_up import ExecutionCloseUp, WorkflowCloseUp
from aiflow_scheduler_event.leases import Leases
from aiflow_scheduler_event.membership import LEADER
from aiflow_scheduler_event.state import LiveTask, TimerKey, TimerKind, as_seen
from aiflow_scheduler_event.store import Store

_STARTS = (TaskAction.START, TaskAction.RESTART)


class Explainer:
    """Explains what the store holds. May be asked from any thread.

    Args:
        events: the log, for what came too early to count. None: it is not connected.
        executor: of this server, for why an attempt does not begin.
    """

    def __init__(
        self, store: Store, events: EventStore | None = None, executor: Executor | None = None
    ) -> None:
        self._store = store
        self._events = events
        self._executor = executor
        self._leases = Leases(store.engine, store.uri)

    # --- tasks ---------------------------------------------------------------------------------

    def task_execution(self, task_execution_id: int) -> TaskExplanation:
        asked = self._store.one(LiveTask, "task execution", task_execution_id)
        with self._store.at_one_moment() as connection:
            close_up = ExecutionCloseUp.read(connection, asked.workflow_execution_id)
            decisions = records.of_task(connection, close_up.execution.id, asked.task_name)
        own = tuple(d for d in decisions if d.task_execution_id == asked.id)
        waits = tuple(self._while_alive(close_up, asked, own)) if is_alive(asked) else ()
        return _explanation(close_up, asked.task_name, asked, own, waits)

    def task(self, workflow_execution_id: int, task_name: str) -> TaskExplanation:
        with self._store.at_one_moment() as connection:
            close_up = ExecutionCloseUp.read(connection, workflow_execution_id)
            decisions = records.of_task(connection, workflow_execution_id, task_name)
        live = close_up.tasks.get(task_name)
        task = _definition(close_up, task_name) if live is None else None
        waits: list[Wait] = []
        if live is not None and is_alive(live):
            waits = self._while_alive(close_up, live, decisions)
        elif close_up.execution.status not in WORKFLOW_FINISHED:
            waits = self._before_start(close_up, _definition(close_up, task_name), decisions)
        elif task is not None:
            waits = [
                Wait(f"rule {number} ({rule.action}) still needed {listed(lacks)}", number, lacks)
                for number, rule in enumerate(task.rules, 1)
                if rule.action in _STARTS
                if (lacks := missing(rule.condition, close_up.context))
            ]
        return _explanation(close_up, task_name, live, tuple(decisions), tuple(waits))

    def _while_alive(
        self, close_up: ExecutionCloseUp, live: LiveTask, decisions: Iterable[Decision]
    ) -> list[Wait]:
        """What keeps a task execution where it is."""
        key = (close_up.execution.id, live.task_name)
        started = [d for d in decisions if d.task_execution_id == live.id]
        since = started[-1].time if started else None
        match live.status:
            case TaskStatus.QUEUED:
                waits = self._queued(close_up, live)
            case TaskStatus.RETRYING:
                timer = close_up.timers.get(TimerKey(TimerKind.RETRY, *key))
                until = to_datetime(timer.fire_at) if timer else None
                text = f"attempt {live.try_number} failed, the next begins after the retry delay"
                waits = [Wait(text, since=since, until=until)]
            case TaskStatus.STOPPING:
                text = "it is being stopped, until every process of the attempt is gone"
                waits = [Wait(text, since=since)]
            case _:
                timer = close_up.timers.get(TimerKey(TimerKind.TIMEOUT, *key))
                until = to_datetime(timer.fire_at) if timer else None
                text = "it runs, at the longest until its timeout" if timer else "it runs"
                waits = [Wait(text, since=live.begin_date, until=until)]
        return [*self._standstill(close_up.position), *waits]

    def _queued(self, close_up: ExecutionCloseUp, live: LiveTask) -> list[Wait]:
        if worker := close_up.workers.get(live.id):
            return [Wait(f"server {worker} has taken the attempt and has not told that it runs")]
        if isinstance(self._executor, TellsLoad):
            load = self._executor.load()
            if load.running >= load.limit:
                return [
                    Wait(
                        f"the executor of this server runs {load.running} attempts, its limit is "
                        f"{load.limit}, and {load.waiting} wait for a place"
                    )
                ]
        return [Wait("the executor has the attempt and has not told that it runs")]

    def _before_start(
        self, close_up: ExecutionCloseUp, task: TaskDefinition, decisions: list[Decision]
    ) -> list[Wait]:
        """What would start a task that does not run."""
        if close_up.execution.stopping:
            return [Wait("the workflow execution is being stopped, nothing starts in it any more")]
        waits = self._standstill(close_up.position)
        for number, rule in enumerate(task.rules, 1):
            if rule.action in _STARTS:
                waits.append(self._rule(close_up, task.name, number, rule, decisions))
        timer = close_up.timers.get(TimerKey(TimerKind.PERIOD, close_up.execution.id, task.name))
        if timer is not None:
            waits.append(Wait("its period", until=to_datetime(timer.fire_at)))
        if not waits:
            waits.append(Wait("no rule starts it again; `aiflow task-execution start` does"))
        return waits

    def _rule(
        self,
        close_up: ExecutionCloseUp,
        task_name: str,
        number: int,
        rule: TaskRule,
        decisions: list[Decision],
    ) -> Wait:
        lacks = missing(rule.condition, close_up.context)
        text = f"rule {number} ({rule.action}) waits for {listed(lacks)}"
        if not lacks:
            text = f"rule {number} ({rule.action}) acts when one of its statuses is taken again"
        asked = [
            e.event.offset
            for e in close_up.evaluations
            if (e.task_name, e.rule) == (task_name, number - 1)
        ]
        if asked:
            text = f"rule {number} ({rule.action}): its condition is asked about event {asked[0]}"
        text += self._too_early(close_up, rule)
        text += _looks(
            d
            for d in decisions
            if (d.cause, d.number, d.what) == (Cause.RULE, number, Outcome.NOT_MET)
        )
        return Wait(text, rule=number, missing=lacks, since=close_up.execution.begin_date)

    def _too_early(self, close_up: ExecutionCloseUp, rule: TaskRule) -> str:
        """That events came which the rule waits for, before the execution had begun."""
        keys = tuple(k for k in rule.condition.expect_event_keys if ANY_KEY not in k)
        begin = close_up.execution.event_offset
        if self._events is None or not keys or begin < 1:
            return ""
        wanted = EventFilter(
            keys=keys, namespace=close_up.workflow.namespace, types=(EventType.USER,)
        )
        count = sum(self._events.count(wanted, until=begin).values())
        if not count:
            return ""
        came = "1 such event" if count == 1 else f"{count} such events"
        return f"; {came} came before the execution began, which does not count"

    # --- workflows -----------------------------------------------------------------------------

    def workflow(self, workflow_name: str, namespace: str) -> WorkflowExplanation:
        workflow = self._store.workflow(namespace, workflow_name)
        with self._store.at_one_moment() as connection:
            close_up = WorkflowCloseUp.read(connection, workflow)
        waits = self._standstill(close_up.position)
        if not workflow.is_enabled:
            waits.append(
                Wait("the workflow is disabled, nothing starts it", since=workflow.update_time)
            )
        waits += [self._schedule(close_up, schedule) for schedule in close_up.schedules]
        waits += [self._trigger(close_up, trigger) for trigger in close_up.triggers]
        running = f"{len(close_up.running)} of its executions run"
        name = f"Workflow {namespace}.{workflow_name}"
        if not workflow.is_enabled:
            summary = f"{name} is disabled, no execution starts; {running}."
        elif not close_up.schedules and not close_up.triggers:
            summary = f"{name} has no schedule and no trigger, it starts on request; {running}."
        else:
            summary = f"{name} starts by what is listed, and on request; {running}."
        return WorkflowExplanation(summary, workflow, tuple(close_up.not_started), tuple(waits))

    def _schedule(self, close_up: WorkflowCloseUp, schedule: Any) -> Wait:
        text = f"schedule {schedule.id} ({schedule.expression})"
        if schedule.is_paused:
            return Wait(f"{text} is paused")
        timer = close_up.timers.get(schedule.id)
        return Wait(
            f"{text} fires next" if timer else f"{text} never fires again",
            until=to_datetime(timer.fire_at) if timer else None,
        )

    def _trigger(self, close_up: WorkflowCloseUp, trigger: Any) -> Wait:
        if trigger.is_paused:
            return Wait(f"trigger {trigger.id} is paused")
        lacks = missing(trigger.rule, close_up.context)
        text = f"trigger {trigger.id} waits for {listed(lacks)}"
        return Wait(text, missing=lacks, since=trigger.create_time)

    # --- the scheduler itself ------------------------------------------------------------------

    def _standstill(self, position: int) -> list[Wait]:
        """What holds up everything: that nobody schedules, or that the log is ahead."""
        waits = []
        leader = self._leases.holder(LEADER)
        if leader is not None and leader[1] < 0:
            waits.append(
                Wait(
                    f"no server schedules: the lease of {leader[0]} ran out "
                    f"{-leader[1] / 1000:.0f} s ago"
                )
            )
        behind = 0 if self._events is None else self._events.head() - position
        if behind > 0:
            events = "1 event" if behind == 1 else f"{behind} events"
            waits.append(Wait(f"the scheduler has not taken in the last {events} of the log"))
        return waits


def is_alive(task: LiveTask) -> bool:
    return task.status in TASK_ALIVE


def _definition(close_up: ExecutionCloseUp, task_name: str) -> TaskDefinition:
    if close_up.plan is None:
        raise NotFoundError("task", task_name, next_step="The workflow snapshot is deleted.")
    if task_name not in close_up.plan.tasks:
        known = ", ".join(close_up.plan.tasks)
        raise NotFoundError("task", task_name, next_step=f"The tasks are {known}.")
    return close_up.plan.tasks[task_name]


def listed(lacks: tuple[Lack, ...]) -> str:
    return " and ".join(lack.text for lack in lacks)


def _looks(decisions: Iterable[Decision]) -> str:
    """How often a rule has looked in vain."""
    found = list(decisions)
    if not found:
        return ""
    count = sum(d.count for d in found)
    times = "once" if count == 1 else f"{count} times"
    return f"; not met {times}, last by event {found[-1].offset}"


def _explanation(
    close_up: ExecutionCloseUp,
    task_name: str,
    task: LiveTask | None,
    decisions: tuple[Decision, ...],
    waits: tuple[Wait, ...],
) -> TaskExplanation:
    return TaskExplanation(
        summary=_summary(close_up, task_name, task, decisions, waits),
        workflow=close_up.workflow,
        execution=as_seen(close_up.execution),  # type: ignore[arg-type]
        task_name=task_name,
        task=as_seen(task) if task else None,  # type: ignore[arg-type]
        decisions=decisions,
        waits=waits,
    )


def _summary(
    close_up: ExecutionCloseUp,
    task_name: str,
    task: LiveTask | None,
    decisions: tuple[Decision, ...],
    waits: tuple[Wait, ...],
) -> str:
    name = f"Task {task_name!r} of workflow execution {close_up.execution.id}"
    if task is None:
        if close_up.execution.status in WORKFLOW_FINISHED:
            return (
                f"{name} never ran: the execution ended with {close_up.execution.status} before "
                f"one of its rules was met."
            )
        rules = [wait for wait in waits if wait.rule]
        if len(rules) > 1:
            return f"{name} has not run: {len(rules)} rules could start it, and none was met."
        return f"{name} has not run: {waits[0].text}."
    started = [d for d in decisions if d.task_execution_id == task.id and d.what not in FOLDED]
    by = f", started by {started[0].why}" if started else ""
    if task.status in TASK_FINISHED:
        reason = f": {task.reason}" if task.reason else ""
        return f"{name} ran{by}; it ended with {task.status}{reason}."
    return f"{name} is {task.status}{by}: {waits[-1].text}."
