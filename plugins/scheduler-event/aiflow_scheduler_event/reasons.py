"""Why a task ran, and why not yet: from its decisions and a close-up of its execution."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from aiflow_core.clock import to_datetime
from aiflow_core.errors import NotFoundError
from aiflow_core.model.condition import Lack
from aiflow_core.model.decision import FOLDED, Cause, Decision, Outcome
from aiflow_core.model.explanation import TaskExplanation, Wait
from aiflow_core.model.rule import TaskAction, TaskRule
from aiflow_core.model.status import TASK_ALIVE, TASK_FINISHED, WORKFLOW_FINISHED, TaskStatus
from aiflow_core.model.workflow import TaskDefinition
from aiflow_core.specs.executor import Load
from aiflow_scheduler_event.close_up import ExecutionCloseUp
from aiflow_scheduler_event.state import LiveTask, TimerKey, TimerKind, as_seen

_STARTS = (TaskAction.START, TaskAction.RESTART)


@dataclass(frozen=True)
class TaskReasons:
    """Explains the tasks of one execution.

    Attributes:
        standstill: what holds up the scheduler as a whole.
        load: of the executor, where it tells it.
        too_early: how many events came, before the execution began, that the rule waits for.
        lease: for how many milliseconds yet the lease of a server lasts that has claimed an
            attempt; negative: it has run out. None: it has none.
    """

    close_up: ExecutionCloseUp
    standstill: list[Wait] = field(default_factory=list)
    load: Load | None = None
    too_early: Callable[[TaskRule], int] = lambda rule: 0
    lease: Callable[[str], int | None] = lambda worker: None

    def of_execution(self, asked: LiveTask, decisions: Iterable[Decision]) -> TaskExplanation:
        """Explain one execution of a task; `decisions` are those on the task."""
        own = [d for d in decisions if d.task_execution_id == asked.id]
        waits = self._while_alive(asked, own) if asked.status in TASK_ALIVE else []
        return self._explanation(asked.task_name, asked, own, waits)

    def of_task(self, task_name: str, decisions: Sequence[Decision]) -> TaskExplanation:
        """Explain a task; `NotFoundError` when there is no such one."""
        live = self.close_up.tasks.get(task_name)
        if live is not None and live.status in TASK_ALIVE:
            waits = self._while_alive(live, decisions)
        elif self.close_up.execution.status not in WORKFLOW_FINISHED:
            waits = self._before_start(self._definition(task_name), decisions)
        else:
            waits = [] if live is not None else self._too_late(self._definition(task_name))
        return self._explanation(task_name, live, decisions, waits)

    def _definition(self, task_name: str) -> TaskDefinition:
        plan = self.close_up.plan
        if plan is None:
            raise NotFoundError("task", task_name, next_step="The workflow snapshot is deleted.")
        if task_name not in plan.tasks:
            known = ", ".join(plan.tasks)
            raise NotFoundError("task", task_name, next_step=f"The tasks are {known}.")
        return plan.tasks[task_name]

    def _while_alive(self, live: LiveTask, decisions: Iterable[Decision]) -> list[Wait]:
        """What keeps a task execution where it is."""
        key = (self.close_up.execution.id, live.task_name)
        started = [d for d in decisions if d.task_execution_id == live.id]
        since = started[-1].time if started else None
        match live.status:
            case TaskStatus.QUEUED:
                waits = [self._queued(live)]
            case TaskStatus.RETRYING:
                timer = self.close_up.timers.get(TimerKey(TimerKind.RETRY, *key))
                until = to_datetime(timer.fire_at) if timer else None
                text = f"attempt {live.try_number} failed, the next begins after the retry delay"
                waits = [Wait(text, since=since, until=until)]
            case TaskStatus.STOPPING:
                text = "it is being stopped, until every process of the attempt is gone"
                waits = [Wait(text, since=since)]
            case _:
                timer = self.close_up.timers.get(TimerKey(TimerKind.TIMEOUT, *key))
                until = to_datetime(timer.fire_at) if timer else None
                text = "it runs, at the longest until its timeout" if timer else "it runs"
                waits = [Wait(text, since=live.begin_date, until=until)]
        return [*self.standstill, *self._lost(live), *self._matches(live), *waits]

    def _matches(self, live: LiveTask) -> list[Wait]:
        """That the task is to run again when it has ended."""
        match self.close_up.matches_waiting(live.task_name):
            case 0:
                return []
            case 1:
                return [Wait("one match waits until it has ended, and starts it again then")]
            case many:
                return [Wait(f"{many} matches wait until it has ended, each starts it once more")]

    def _lost(self, live: LiveTask) -> list[Wait]:
        """That the server is not heard of which has the attempt."""
        worker = self.close_up.workers.get(live.id)
        left = self.lease(worker) if worker else None
        if left is None or left >= 0:
            return []
        text = f"server {worker} has the attempt, and its lease ran out {-left / 1000:.0f} s ago"
        return [Wait(text)]

    def _queued(self, live: LiveTask) -> Wait:
        if worker := self.close_up.workers.get(live.id):
            return Wait(f"server {worker} has taken the attempt and has not told that it runs")
        if self.load is not None and self.load.running >= self.load.limit:
            return Wait(
                f"the executor of this server runs {self.load.running} attempts, its limit is "
                f"{self.load.limit}, and {self.load.waiting} wait for a place"
            )
        return Wait("the executor has the attempt and has not told that it runs")

    def _before_start(self, task: TaskDefinition, decisions: Sequence[Decision]) -> list[Wait]:
        """What would start a task that does not run."""
        if self.close_up.execution.stopping:
            return [Wait("the workflow execution is being stopped, nothing starts in it any more")]
        waits = list(self.standstill)
        for number, rule in enumerate(task.rules, 1):
            if rule.action in _STARTS:
                waits.append(self._rule(task, number, rule, decisions))
        timer = self.close_up.timers.get(
            TimerKey(TimerKind.PERIOD, self.close_up.execution.id, task.name)
        )
        if timer is not None:
            waits.append(Wait("its period", until=to_datetime(timer.fire_at)))
        if not waits:
            waits.append(Wait("no rule starts it again; `aiflow task-execution start` does"))
        return waits

    def _rule(
        self, task: TaskDefinition, number: int, rule: TaskRule, decisions: Iterable[Decision]
    ) -> Wait:
        lacks = self.close_up.lacks(task, number - 1)
        text = f"rule {number} ({rule.action}) waits for {listed(lacks)}"
        if not lacks:
            text = f"rule {number} ({rule.action}) acts when one of its statuses is taken again"
        asked = [
            e.event.offset
            for e in self.close_up.evaluations
            if (e.task_name, e.rule) == (task.name, number - 1)
        ]
        if asked:
            text = f"rule {number} ({rule.action}): its condition is asked about event {asked[0]}"
        if count := self.too_early(rule):
            came = "1 such event" if count == 1 else f"{count} such events"
            text += f"; {came} came before the execution began, which does not count"
        text += _looks(
            d
            for d in decisions
            if (d.cause, d.number, d.what) == (Cause.RULE, number, Outcome.NOT_MET)
        )
        since = waiting_since(lacks) or self.close_up.execution.begin_date
        return Wait(text, rule=number, missing=lacks, since=since, until=comes_at(lacks))

    def _too_late(self, task: TaskDefinition) -> list[Wait]:
        """What was missing when the execution ended."""
        return [
            Wait(f"rule {number} ({rule.action}) still needed {listed(lacks)}", number, lacks)
            for number, rule in enumerate(task.rules, 1)
            if rule.action in _STARTS
            if (lacks := self.close_up.lacks(task, number - 1))
        ]

    def _explanation(
        self,
        task_name: str,
        task: LiveTask | None,
        decisions: Sequence[Decision],
        waits: list[Wait],
    ) -> TaskExplanation:
        return TaskExplanation(
            summary=_summary(self.close_up, task_name, task, decisions, waits),
            workflow=self.close_up.workflow,
            execution=as_seen(self.close_up.execution),  # type: ignore[arg-type]
            task_name=task_name,
            task=as_seen(task) if task else None,  # type: ignore[arg-type]
            decisions=tuple(decisions),
            waits=tuple(waits),
        )


def listed(lacks: tuple[Lack, ...]) -> str:
    return " and ".join(lack.text for lack in lacks)


def waiting_since(lacks: tuple[Lack, ...]) -> datetime | None:
    """When the first event came that waits for these, None when none does."""
    return min((lack.since for lack in lacks if lack.since), default=None)


def comes_at(lacks: tuple[Lack, ...]) -> datetime | None:
    """When all of these have come by themselves, None when some may never come."""
    moments = [lack.until for lack in lacks]
    return max((m for m in moments if m), default=None) if all(moments) else None


def _looks(decisions: Iterable[Decision]) -> str:
    """How often a rule has looked in vain."""
    found = list(decisions)
    if not found:
        return ""
    count = sum(d.count for d in found)
    times = "once" if count == 1 else f"{count} times"
    return f"; not met {times}, last by event {found[-1].offset}"


def _summary(
    close_up: ExecutionCloseUp,
    task_name: str,
    task: LiveTask | None,
    decisions: Sequence[Decision],
    waits: Sequence[Wait],
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
    by = f", {_started(started[0])}" if started else ""
    if task.status in TASK_FINISHED:
        reason = f": {task.reason}" if task.reason else ""
        return f"{name} ran{by}; it ended with {task.status}{reason}."
    return f"{name} is {task.status}{by}: {waits[-1].text}."


def _started(decision: Decision) -> str:
    """How a task was started, as part of a sentence."""
    is_a_fact = decision.cause in (Cause.BEGIN, Cause.RESTART)
    return f"started {'because' if is_a_fact else 'by'} {decision.why}"
