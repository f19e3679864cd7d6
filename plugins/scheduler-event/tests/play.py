"""The engine alone, in virtual time: no database, no thread, no process.

`Play` is the log, the clock, the timers and the executor in one. A test says what happens; what the
engine does about it can be asked for.
"""

from typing import Any

import msgspec

from aiflow_core.clock import to_ms
from aiflow_core.errors import AIFlowError
from aiflow_core.model.condition import (
    CustomCondition,
    SingleEventCondition,
    TaskStatusCondition,
    task_status_key,
)
from aiflow_core.model.event import Event, EventType, derived_event_id
from aiflow_core.model.execution import AttemptKey, TaskExecution, WorkflowExecution
from aiflow_core.model.rule import TaskAction, TaskRule
from aiflow_core.model.serialization import encode
from aiflow_core.model.status import TaskStatus, WorkflowStatus
from aiflow_core.model.workflow import TaskConfig, TaskDefinition, WorkflowDefinition
from aiflow_scheduler_event.commands import (
    ActOnTask,
    AddTrigger,
    Command,
    StartExecution,
    StopExecution,
    SubmitWorkflow,
)
from aiflow_scheduler_event.engine import Engine
from aiflow_scheduler_event.state import (
    Changes,
    Decision,
    Evaluate,
    Evaluation,
    LiveExecution,
    LiveTask,
    OutboxEntry,
    Publish,
    Reply,
    State,
    Stop,
    Submit,
    as_seen,
)
from aiflow_scheduler_event.step import Answer, Report
from aiflow_scheduler_event.timers import timer_event

MONDAY = 1_700_438_400_000  # 2023-11-20 00:00 UTC

START, STOP, RESTART = TaskAction.START, TaskAction.STOP, TaskAction.RESTART


def task(name: str, *rules: TaskRule, **config: Any) -> TaskDefinition:
    return TaskDefinition(name=name, rules=rules, config=TaskConfig(**config))


def on(action: TaskAction, key: str) -> TaskRule:
    """Act on the event."""
    return TaskRule(action, SingleEventCondition(key))


def when(action: TaskAction, **statuses: TaskStatus) -> TaskRule:
    """Act when the tasks have these statuses."""
    return TaskRule(action, TaskStatusCondition(statuses))


def after(*tasks: str) -> TaskRule:
    return when(START, **dict.fromkeys(tasks, TaskStatus.SUCCESS))


def custom(action: TaskAction, *keys: str) -> TaskRule:
    """Act when a user's condition says so."""
    return TaskRule(action, CustomCondition(expect_event_keys=keys, place="somewhere/0"))


class Refused(Exception):
    """A command was answered with an error."""

    def __init__(self, error: AIFlowError) -> None:
        super().__init__(str(error))
        self.error = error


class Play:
    """An engine with all that surrounds it.

    Attributes:
        now: milliseconds since the epoch; moved by `pass_time`.
        log: every event so far.
        waiting: what the engine wants evaluated, oldest first.
        stops: attempts that it wants to be stopped, in order.
        published: the events that it has put into the log.
    """

    def __init__(self, *tasks: TaskDefinition, name: str = "flow") -> None:
        self.now = MONDAY
        self.state = State(namespaces={})
        self.engine = Engine(self.state)
        self.log: list[Event] = []
        self.waiting: list[Evaluation] = []
        self.stops: list[AttemptKey] = []
        self.published: list[Event] = []
        self.outbox: list[OutboxEntry] = []
        self.decisions: list[Decision] = []
        self.replies: dict[str, Reply] = {}
        self.executions: dict[int, WorkflowExecution] = {}
        self.history: list[TaskExecution] = []
        self._latest: dict[int, LiveTask] = {}
        self._submitted: dict[AttemptKey, None] = {}
        self.add_namespace("default")
        if tasks:
            self.upload(*tasks, name=name)

    # --- what a user does ---

    def add_namespace(self, name: str) -> None:
        from aiflow_scheduler_event.commands import PutNamespace

        self.do(PutNamespace(name, {}, False))

    def upload(
        self, *tasks: TaskDefinition, name: str = "flow", namespace: str = "default"
    ) -> Any:
        return self.do(SubmitWorkflow(WorkflowDefinition(name, namespace, tasks)))

    def start(self, name: str = "flow", namespace: str = "default") -> int:
        """Start an execution; its id."""
        execution_id: int = self.do(StartExecution(name, namespace))["id"]
        return execution_id

    def stop(self, execution_id: int = 1) -> None:
        self.do(StopExecution(execution_id))

    def act(self, action: TaskAction, task_name: str, execution_id: int = 1) -> Any:
        return self.do(ActOnTask(execution_id, task_name, action))

    def add_trigger(self, rule: Any, name: str = "flow", namespace: str = "default") -> int:
        trigger_id: int = self.do(AddTrigger(name, namespace, rule))["id"]
        return trigger_id

    def do(self, command: Command) -> Any:
        """Have a command carried out; its result. `Refused` when it is answered with an error."""
        event = self.append("command", encode(command).decode(), type=EventType.COMMAND)
        reply = self.replies[event.id]
        if reply.error is not None:
            raise Refused(AIFlowError.from_wire(reply.error))
        return reply.result

    def send(
        self, key: str, value: str | None = None, *, only: int = 0, namespace: str = "default"
    ) -> Event:
        """Send an event, to all executions of the namespace or to one only."""
        context = f'{{"workflow_execution_id": {only}}}' if only else ""
        return self.append(key, value, context=context, namespace=namespace)

    # --- what an executor does ---

    def run(self, *tasks: str, execution_id: int = 1) -> None:
        """Let the queued attempts of these tasks be seen running."""
        for name in tasks:
            self.report(self.attempt(name, execution_id), TaskStatus.RUNNING)

    def succeed(self, *tasks: str, execution_id: int = 1) -> None:
        for name in tasks:
            self.report(self.attempt(name, execution_id), TaskStatus.SUCCESS)

    def fail(self, task_name: str, reason: str = "broken", execution_id: int = 1) -> None:
        self.report(self.attempt(task_name, execution_id), TaskStatus.FAILED, reason)

    def be_gone(self, *tasks: str, execution_id: int = 1) -> None:
        """Let the attempts of these tasks be verified gone, as they were asked to be."""
        for name in tasks:
            key = self.attempt(name, execution_id)
            assert key in self.stops, f"nobody wants {key} to stop"
            self.report(key, TaskStatus.STOPPED)

    def report(self, key: AttemptKey, status: TaskStatus, reason: str = "") -> None:
        assert key in self._submitted, f"{key} was never submitted"
        self.say(key, status, reason)

    def say(self, key: AttemptKey, status: TaskStatus, reason: str = "") -> None:
        """What an executor says of an attempt, whether it is true or not."""
        context = Report(*msgspec.structs.astuple(key), reason)
        self.append(
            task_status_key("flow", key.task_name),
            status,
            type=EventType.TASK_STATUS,
            sender=str(key),
            context=encode(context).decode(),
            namespace="default",
        )

    # --- what a condition host does ---

    def answer(
        self, met: bool, error: str = "", **states: str | None
    ) -> None:
        """Answer the oldest question."""
        evaluation = self.waiting.pop(0)
        self.answer_to(evaluation, Answer(evaluation.id, met, states, error))

    def answer_to(self, evaluation: Evaluation, answer: Answer) -> None:
        self.append("answer", encode(answer).decode(), type=EventType.ANSWER)

    # --- time ---

    def pass_time(self, seconds: float) -> None:
        """Let time pass; each timer fires at its moment."""
        end = self.now + round(seconds * 1000)
        while due := [t for t in self.state.timers.values() if t.fire_at <= end]:
            timer = min(due, key=lambda t: (t.fire_at, t.key))
            self.now = max(self.now, timer.fire_at)
            self.fire(timer)
        self.now = end

    def sleep_through(self, seconds: float) -> None:
        """Let time pass while nobody looks at the timers, then look."""
        self.now += round(seconds * 1000)
        self.pass_time(0)

    def fire(self, timer: Any) -> None:
        event = timer_event(timer)
        self.append(event.key, event.value, type=event.type)

    # --- the log ---

    def append(self, key: str, value: str | None = None, **more: Any) -> Event:
        """Append an event and let the engine take in all there is, also what it publishes."""
        event = self._append(Event(key, value, **more))
        while len(self.log) > self.state.offset:
            changes = Changes()
            self.engine.apply(self.log[self.state.offset], changes)
            self._take(changes)
        return event

    def _append(self, event: Event) -> Event:
        offset = len(self.log) + 1
        id = event.id or derived_event_id("play", offset)
        stored = msgspec.structs.replace(event, id=id, offset=offset, create_time=self.now)
        self.log.append(stored)
        return stored

    def _take(self, changes: Changes) -> None:
        for value in changes.stored.values():
            match value:
                case LiveExecution():
                    self.executions[value.id] = as_seen(value)  # type: ignore[assignment]
                case LiveTask():
                    self._latest[value.id] = value
        self.history += [t for t in changes.told if isinstance(t, TaskExecution)]
        self.decisions += changes.decisions
        self.outbox += changes.outbox
        self.replies.update({reply.request_id: reply for reply in changes.replies})
        for entry in changes.outbox:
            match entry.message:
                case Submit(request):
                    assert request.key not in self._submitted, f"{request.key} twice"
                    self._submitted[request.key] = None
                case Stop(key):
                    self.stops.append(key)
                case Evaluate(evaluation):
                    self.waiting.append(evaluation)
                case Publish(event):
                    self.published.append(event)
                    self._append(msgspec.structs.replace(event, id=entry.id))

    # --- what can be seen ---

    def tasks(self, execution_id: int = 1) -> list[tuple[str, str]]:
        """Name and status of each task execution, oldest first."""
        found = [t for t in self._latest.values() if t.workflow_execution_id == execution_id]
        return [(t.task_name, str(t.status)) for t in sorted(found, key=lambda t: t.id)]

    def task(self, task_name: str, execution_id: int = 1) -> LiveTask:
        """The task's latest execution."""
        found = [
            t
            for t in self._latest.values()
            if (t.task_name, t.workflow_execution_id) == (task_name, execution_id)
        ]
        assert found, f"{task_name} has not been started"
        return max(found, key=lambda t: t.id)

    def status(self, task_name: str, execution_id: int = 1) -> TaskStatus:
        return self.task(task_name, execution_id).status

    def statuses(self, task_name: str, execution_id: int = 1) -> list[str]:
        """Every status that the task has had, also of its earlier executions."""
        return [
            str(t.status)
            for t in self.history
            if (t.task_name, t.workflow_execution_id) == (task_name, execution_id)
        ]

    def count(self, task_name: str, execution_id: int = 1) -> int:
        """How often the task has been started."""
        names = [name for name, _ in self.tasks(execution_id)]
        return names.count(task_name)

    def attempt(self, task_name: str, execution_id: int = 1) -> AttemptKey:
        return self.task(task_name, execution_id).attempt

    def end(self, execution_id: int = 1) -> tuple[WorkflowStatus, str]:
        """How the execution has ended, and why."""
        execution = self.executions[execution_id]
        assert execution.end_date is not None, f"it goes on: {self.tasks(execution_id)}"
        assert to_ms(execution.end_date) == self.now
        return execution.status, execution.reason

    def goes_on(self, execution_id: int = 1) -> bool:
        return self.executions[execution_id].status is WorkflowStatus.RUNNING

    def why(self, task_name: str, what: str, execution_id: int = 1) -> list[str]:
        """The reasons of the decisions of that kind about the task."""
        return [
            d.why
            for d in self.decisions
            if (d.workflow_execution_id, d.task_name, d.what) == (execution_id, task_name, what)
        ]
