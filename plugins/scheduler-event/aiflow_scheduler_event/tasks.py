"""What becomes of a task: started, stopped, reported on, tried again, ended."""

from collections import deque

import msgspec

from aiflow_core.clock import to_datetime
from aiflow_core.model.algebra import MOST_KEPT, MOST_KEPT_CHARACTERS
from aiflow_core.model.condition import (
    task_status_key,
)
from aiflow_core.model.decision import Cause, Outcome
from aiflow_core.model.event import Event, EventType
from aiflow_core.model.execution import (
    AttemptRequest,
)
from aiflow_core.model.rule import TaskAction
from aiflow_core.model.serialization import decode, encode
from aiflow_core.model.status import (
    TASK_ALIVE,
    TASK_FINISHED,
    TaskStatus,
    check_follows,
)
from aiflow_core.model.workflow import MAX_SECONDS, TaskConfig, TaskDefinition
from aiflow_scheduler_event.state import (
    Intent,
    LiveTask,
    Publish,
    Run,
    Scope,
    ScopeKind,
    State,
    Stop,
    Submit,
    TaskCause,
    TimerKey,
    TimerKind,
    as_seen,
)
from aiflow_scheduler_event.step import SENDER, Report, Step, Why, replace


class Tasks(Step):
    """Task executions and their attempts, see `engine`."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        # Status changes that the rules have not heard of yet, and runs that may be at their end.
        self._cascade: deque[tuple[Run, str, Event]] = deque()
        self._touched: dict[int, Run] = {}
        # Tasks that have come to an end, for which more may wait.
        self._ended: deque[tuple[Run, str]] = deque()

    def _act(
        self,
        run: Run,
        task: TaskDefinition,
        action: TaskAction,
        why: Why,
        events: tuple[Event, ...] = (),
    ) -> None:
        """Carry out an action on a task, as `docs/reference/rules.md` says, because of these
        events."""
        current = run.tasks.get(task.name)
        alive = current is not None and current.status in TASK_ALIVE
        match action:
            case TaskAction.START if alive:
                self._decide_on(run, task.name, Outcome.START_IGNORED, why)
            case TaskAction.STOP if not alive:
                self._decide_on(run, task.name, Outcome.STOP_IGNORED, why)
            case TaskAction.STOP:
                assert current is not None
                self._decide_on(run, task.name, Outcome.STOP, why)
                self._take_next(run, task.name)
                self._stop_task(run, current, Intent.STOP, f"stopped by {why.text}")
            case TaskAction.RESTART if alive:
                assert current is not None
                self._decide_on(run, task.name, Outcome.RESTART, why)
                self._keep_next(run, task.name, why, events)
                self._stop_task(run, current, Intent.RESTART, f"restarted by {why.text}")
            case _:
                self._start_task(run, task, Outcome(action), why, events)

    def _decide_on(self, run: Run, task_name: str, what: Outcome, why: Why) -> None:
        """Decide on the latest execution of a task, if it has any."""
        live = run.tasks.get(task_name)
        task_execution_id = live.id if live is not None else 0
        self._decide(run.execution.id, task_name, what, why, task_execution_id=task_execution_id)

    def _start_task(
        self,
        run: Run,
        task: TaskDefinition,
        what: Outcome,
        why: Why,
        events: tuple[Event, ...] = (),
    ) -> None:
        before = run.tasks.get(task.name)
        self.state.counters.task += 1
        live = LiveTask(
            id=self.state.counters.task,
            workflow_execution_id=run.execution.id,
            task_name=task.name,
            sequence_number=before.sequence_number + 1 if before else 1,
            status=TaskStatus.QUEUED,
        )
        # Before what it changes: so observers know why.
        self._decide(run.execution.id, task.name, what, why, task_execution_id=live.id)
        if events:
            run.causes[task.name] = events
            self._changes.put(TaskCause(live.id, run.execution.id, events))
        self._change_task(run, live)
        self._send(Submit(attempt_request(run, live)))

    def _keep_next(self, run: Run, task_name: str, why: Why, events: tuple[Event, ...]) -> None:
        """Keep the events of a restart until what runs is gone; those of another one that is still
        to come go with them."""
        if not events:
            return
        waiting = deque(self._take_next(run, task_name) + events)
        characters = sum(event.characters for event in waiting)
        while len(waiting) > MOST_KEPT or characters > MOST_KEPT_CHARACTERS:
            gone = waiting.popleft()
            characters -= gone.characters
            text = f"event {gone.offset} made room for later ones, while the task was being stopped"
            self._decide_on(run, task_name, Outcome.FORGOTTEN, why._replace(text=text))
        scope = Scope(ScopeKind.WAITING, run.execution.id)
        self._keep_state(scope, _next_name(run, task_name), encode(list(waiting)).decode())

    def _take_next(self, run: Run, task_name: str) -> tuple[Event, ...]:
        scope, name = Scope(ScopeKind.WAITING, run.execution.id), _next_name(run, task_name)
        found = self.state.states.get(scope, {}).get(name)
        if found is None:
            return ()
        self._keep_state(scope, name, None)
        return decode(found.value, tuple[Event, ...])

    def _stop_task(self, run: Run, live: LiveTask, intent: Intent, reason: str) -> None:
        match live.status:
            case TaskStatus.RETRYING:
                self._drop_timer(TimerKey(TimerKind.RETRY, run.execution.id, live.task_name))
                self._finish_task(
                    run, replace(live, intent=intent), TaskStatus.STOPPED, reason, publish=True
                )
            case TaskStatus.STOPPING:
                # A stop is on its way; the latest wish decides what comes after it.
                self._keep_task(run, replace(live, intent=intent))
            case _:
                self._drop_timer(TimerKey(TimerKind.TIMEOUT, run.execution.id, live.task_name))
                self._change_task(
                    run, replace(live, status=TaskStatus.STOPPING, intent=intent, reason=reason)
                )
                self._send(Stop(live.attempt))

    def _report(self, event: Event) -> None:
        """An executor says what became of an attempt."""
        report = decode(event.context, Report)
        status = TaskStatus(event.value or "")
        run = self.state.runs.get(report.workflow_execution_id)
        live = run.tasks.get(report.task_name) if run else None
        if run is None or live is None or live.attempt != report.key:
            return  # of an attempt that has ended already: a report may be repeated
        if live.status in TASK_FINISHED | {TaskStatus.RETRYING}:
            return
        if status is TaskStatus.RUNNING:
            if live.status is TaskStatus.QUEUED:
                begin = live.begin_date or to_datetime(self._now)
                self._change_task(run, replace(live, status=status, begin_date=begin))
                self._set_timeout(run, live)
        elif status in TASK_FINISHED:
            self._end_attempt(run, live, status, report.reason)

    def _end_attempt(self, run: Run, live: LiveTask, status: TaskStatus, reason: str) -> None:
        self._drop_timer(TimerKey(TimerKind.TIMEOUT, run.execution.id, live.task_name))
        if live.status is TaskStatus.STOPPING and status is not TaskStatus.SUCCESS:
            # What became of an attempt that was being ended is what it was being ended for.
            status = TaskStatus.FAILED if live.intent is Intent.FAIL else TaskStatus.STOPPED
            reason = live.reason
        elif status is TaskStatus.STOPPED:
            status, reason = TaskStatus.FAILED, reason or "the attempt was stopped from outside"
        config = run.plan.tasks[live.task_name].config
        may_retry = (
            status is TaskStatus.FAILED
            and live.intent in (Intent.NONE, Intent.FAIL)
            and live.try_number <= config.retries
            and not run.execution.stopping
        )
        if may_retry:
            delay = _retry_delay(config, live.try_number)
            self._change_task(
                run,
                replace(live, status=TaskStatus.RETRYING, intent=Intent.NONE, reason=reason),
                publish=True,
            )
            key = TimerKey(TimerKind.RETRY, run.execution.id, live.task_name)
            self._set_timer(key, self._now + round(delay * 1000))
        else:
            self._finish_task(run, live, status, reason)

    def _finish_task(
        self, run: Run, live: LiveTask, status: TaskStatus, reason: str, publish: bool = False
    ) -> None:
        restart = live.intent is Intent.RESTART and not run.execution.stopping
        run.causes.pop(live.task_name, None)
        self._change_task(
            run,
            replace(
                live,
                status=status,
                intent=Intent.NONE,
                reason="" if status is TaskStatus.SUCCESS else reason,
                end_date=to_datetime(self._now),
            ),
            publish=publish,
        )
        if restart:
            why = Why(f"task execution {live.id} has made way", Cause.RESTART, live.id)
            events = self._take_next(run, live.task_name)
            task = run.plan.tasks[live.task_name]
            self._start_task(run, task, Outcome.RESTARTED, why, events)
        else:
            self._ended.append((run, live.task_name))

    def _retry(self, run: Run, live: LiveTask) -> None:
        again = replace(live, status=TaskStatus.QUEUED, try_number=live.try_number + 1)
        why = Why(f"attempt {live.try_number} failed: {live.reason}", Cause.RETRY)
        self._decide_on(run, live.task_name, Outcome.RETRY, why)
        self._change_task(run, again)
        self._send(Submit(attempt_request(run, again)))

    def _set_timeout(self, run: Run, live: LiveTask) -> None:
        timeout = run.plan.tasks[live.task_name].config.timeout
        if timeout is not None:
            key = TimerKey(TimerKind.TIMEOUT, run.execution.id, live.task_name)
            self._set_timer(key, self._now + round(timeout * 1000))

    def _change_task(self, run: Run, live: LiveTask, publish: bool = False) -> None:
        """Keep the task with its new status, and let everybody know who waits for it.

        `publish`: the status was decided here and no report of it is in the log, so put one there.
        """
        before = run.tasks.get(live.task_name)
        if before is not None and before.id == live.id:
            check_follows(before.status, live.status)
        self._keep_task(run, live)
        self._tell(as_seen(live))
        definition = run.plan.snapshot.definition
        report = Report(**msgspec.structs.asdict(live.attempt), reason=live.reason)
        change = Event(
            key=task_status_key(definition.name, live.task_name),
            value=str(live.status),
            namespace=definition.namespace,
            sender=SENDER,
            context=encode(report).decode(),
            type=EventType.TASK_STATUS,
            create_time=self._now,
        )
        self._cascade.append((run, live.task_name, change))
        if publish:
            self._send(Publish(change))

    def _keep_task(self, run: Run, live: LiveTask) -> None:
        run.tasks[live.task_name] = live
        self._changes.put(live)
        self._touched[run.execution.id] = run


def _retry_delay(config: TaskConfig, failed: int) -> float:
    """Seconds between the end of the attempt with that number and the next one."""
    delay = config.retry_delay
    for _ in range(failed - 1):
        # Step by step: the power itself may be larger than any number.
        delay = min(delay * config.retry_backoff, MAX_SECONDS)
    return delay


def attempt_request(run: Run, live: LiveTask) -> AttemptRequest:
    """What an executor needs to run the task's current attempt."""
    snapshot = run.plan.snapshot
    return AttemptRequest(
        key=live.attempt,
        namespace=snapshot.definition.namespace,
        workflow_name=snapshot.definition.name,
        task=run.plan.tasks[live.task_name],
        bundle=snapshot.bundle,
        snapshot_id=snapshot.id,
        events=run.causes.get(live.task_name, ()),
    )


def _next_name(run: Run, task_name: str) -> str:
    return str(run.plan.places[task_name])
