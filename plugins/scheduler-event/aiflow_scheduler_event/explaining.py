"""Why something ran, and why not yet: from the decisions that were kept and from how the database
has it now."""

from typing import Any

from aiflow_core.clock import Clock, to_datetime
from aiflow_core.model.event import ANY_KEY, EventFilter, EventType
from aiflow_core.model.explanation import TaskExplanation, Wait, WorkflowExplanation
from aiflow_core.model.rule import TaskRule
from aiflow_core.specs.event_store import EventStore
from aiflow_core.specs.executor import Executor, TellsLoad
from aiflow_scheduler_event import records
from aiflow_scheduler_event.close_up import ExecutionCloseUp, WorkflowCloseUp
from aiflow_scheduler_event.leases import Leases
from aiflow_scheduler_event.membership import LEADER, WORKER
from aiflow_scheduler_event.reasons import TaskReasons, comes_at, listed, waiting_since
from aiflow_scheduler_event.state import LiveTask
from aiflow_scheduler_event.store import Store


class Explainer:
    """Explains what the store holds. May be asked from any thread.

    Args:
        events: the log, for what came too early to count. None: it is not connected.
        executor: of this server, for why an attempt does not begin.
        clock: for what has become too old to count.
    """

    def __init__(
        self,
        store: Store,
        events: EventStore | None = None,
        executor: Executor | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._store = store
        self._events = events
        self._executor = executor
        self._clock = clock or Clock()
        self._leases = Leases(store.engine, store.uri)

    @property
    def _now(self) -> int:
        return self._clock.now_ms()

    # --- tasks ---------------------------------------------------------------------------------

    def task_execution(self, task_execution_id: int) -> TaskExplanation:
        asked = self._store.one(LiveTask, "task execution", task_execution_id)
        with self._store.at_one_moment() as connection:
            close_up = ExecutionCloseUp.read(
                connection, asked.workflow_execution_id, self._clock.now_ms()
            )
            decisions = records.of_task(connection, close_up.execution.id, asked.task_name)
        return self._reasons(close_up).of_execution(asked, decisions)

    def task(self, workflow_execution_id: int, task_name: str) -> TaskExplanation:
        with self._store.at_one_moment() as connection:
            close_up = ExecutionCloseUp.read(
                connection, workflow_execution_id, self._clock.now_ms()
            )
            decisions = records.of_task(connection, workflow_execution_id, task_name)
        return self._reasons(close_up).of_task(task_name, decisions)

    def _reasons(self, close_up: ExecutionCloseUp) -> TaskReasons:
        executor = self._executor
        return TaskReasons(
            close_up,
            self._standstill(close_up.position),
            executor.load() if isinstance(executor, TellsLoad) else None,
            lambda rule: self._too_early(close_up, rule),
            self._lease,
        )

    def _lease(self, worker: str) -> int | None:
        found = self._leases.holder(WORKER + worker)
        return None if found is None else found[1]

    def _too_early(self, close_up: ExecutionCloseUp, rule: TaskRule) -> int:
        keys = tuple(k for k in rule.condition.expect_event_keys if ANY_KEY not in k)
        begin = close_up.execution.event_offset
        if self._events is None or not keys or begin < 1:
            return 0
        namespace = close_up.workflow.namespace
        wanted = EventFilter(keys=keys, namespace=namespace, types=(EventType.USER,))
        return sum(self._events.count(wanted, until=begin).values())

    # --- workflows -----------------------------------------------------------------------------

    def workflow(self, workflow_name: str, namespace: str) -> WorkflowExplanation:
        workflow = self._store.workflow(namespace, workflow_name)
        with self._store.at_one_moment() as connection:
            close_up = WorkflowCloseUp.read(connection, workflow, self._now)
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
        text += " fires next" if timer else " never fires again"
        if schedule.waiting:
            ticks = "1 tick waits" if schedule.waiting == 1 else f"{schedule.waiting} ticks wait"
            most = schedule.options.max_active_runs
            text += f"; {ticks} until less than {most} of its executions run"
        return Wait(text, until=to_datetime(timer.fire_at) if timer else None)

    def _trigger(self, close_up: WorkflowCloseUp, trigger: Any) -> Wait:
        if trigger.is_paused:
            return Wait(f"trigger {trigger.id} is paused")
        lacks = close_up.lacks(trigger)
        text = f"trigger {trigger.id} waits for {listed(lacks)}"
        since = waiting_since(lacks) or trigger.create_time
        return Wait(text, missing=lacks, since=since, until=comes_at(lacks))

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
