"""The engine alone, in virtual time: no database, no thread, no process.

`Play` is the log, the clock, the timers and the executor in one. A test says what happens; what the
engine does about it can be asked for.
"""

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from hypothesis import strategies as st

from aiflow_core.clock import to_ms
from aiflow_core.errors import AIFlowError
from aiflow_core.model.algebra import (
    Pattern,
    absent,
    all_of,
    batch,
    count,
    debounce,
    each,
    event,
)
from aiflow_core.model.condition import (
    CustomCondition,
    MeetAllCondition,
    SingleEventCondition,
    TaskStatusCondition,
    task_status_key,
)
from aiflow_core.model.decision import Decision
from aiflow_core.model.event import Event, EventType, derived_event_id
from aiflow_core.model.execution import AttemptKey, Namespace, TaskExecution, WorkflowExecution
from aiflow_core.model.rule import TaskAction, TaskRule
from aiflow_core.model.serialization import encode
from aiflow_core.model.status import TaskStatus, WorkflowStatus
from aiflow_core.model.workflow import TaskConfig, TaskDefinition, WorkflowDefinition
from aiflow_scheduler_event.commands import (
    ActOnTask,
    AddSchedule,
    AddTrigger,
    Command,
    DeleteExecution,
    DeleteSchedules,
    DeleteTriggers,
    DeleteWorkflow,
    EnableWorkflow,
    PauseSchedule,
    PauseTrigger,
    PutNamespace,
    StartExecution,
    StopExecution,
    SubmitWorkflow,
)
from aiflow_scheduler_event.engine import Engine
from aiflow_scheduler_event.state import (
    Changes,
    DeadLetter,
    Evaluate,
    Evaluation,
    LetterKey,
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


def met(action: TaskAction, pattern: Pattern) -> TaskRule:
    """Act on each match of the pattern."""
    return TaskRule(action, pattern)


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
        submitted: attempts that it wants to be run, in order.
        stops: attempts that it wants to be stopped, in order.
        published: the events that it has put into the log.
    """

    def __init__(self, *tasks: TaskDefinition, name: str = "flow") -> None:
        self.now = MONDAY
        self.state = State(namespaces={"default": Namespace("default")})
        self.engine = Engine(self.state)
        self.log: list[Event] = []
        self.waiting: list[Evaluation] = []
        self.stops: list[AttemptKey] = []
        self.published: list[Event] = []
        self.outbox: list[OutboxEntry] = []
        self.decisions: list[Decision] = []
        self.dead_letters: list[DeadLetter] = []
        self.redriven: list[LetterKey] = []
        self.replies: dict[str, Reply] = {}
        self.executions: dict[int, WorkflowExecution] = {}
        self.history: list[TaskExecution] = []
        self._latest: dict[int, LiveTask] = {}
        self.submitted: dict[AttemptKey, None] = {}
        if tasks:
            self.upload(*tasks, name=name)

    # --- what a user does ---

    def add_namespace(self, name: str) -> None:
        self.do(PutNamespace(name, {}, False))

    def upload(self, *tasks: TaskDefinition, name: str = "flow", namespace: str = "default") -> Any:
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

    def delete(self, execution_id: int = 0) -> None:
        """Delete an execution, or the workflow `flow`."""
        if execution_id:
            self.do(DeleteExecution(execution_id))
        else:
            self.do(DeleteWorkflow("flow", "default"))

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
        assert key in self.submitted, f"{key} was never submitted"
        self.say(key, status, reason)

    def say(self, key: AttemptKey, status: TaskStatus, reason: str = "") -> None:
        """What an executor says of an attempt, whether it is true or not."""
        context = Report(**msgspec.structs.asdict(key), reason=reason)
        self.append(
            task_status_key("flow", key.task_name),
            status,
            type=EventType.TASK_STATUS,
            sender=str(key),
            context=encode(context).decode(),
            namespace="default",
        )

    # --- what a condition host does ---

    def answer(self, met: bool, error: str = "", **states: str | None) -> None:
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
            timer = min(due, key=lambda t: (t.fire_at, msgspec.structs.astuple(t.key)))
            self.now = max(self.now, timer.fire_at)
            self.fire(timer)
        self.now = end

    def sleep_through(self, seconds: float) -> None:
        """Let time pass while nobody looks at the timers, then look."""
        self.now += round(seconds * 1000)
        self.pass_time(0)

    def fire(self, timer: Any) -> None:
        event = timer_event(timer, self.now)
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
        self.history += [t for _, t in changes.told if isinstance(t, TaskExecution)]
        self.decisions += changes.decisions
        self.dead_letters += changes.dead_letters
        self.redriven += changes.redriven_letters
        self.outbox += changes.outbox
        self.replies.update({reply.request_id: reply for reply in changes.replies})
        for entry in changes.outbox:
            match entry.message:
                case Submit(request):
                    assert request.key not in self.submitted, f"{request.key} twice"
                    self.submitted[request.key] = None
                case Stop(key):
                    self.stops.append(key)
                case Evaluate(evaluation):
                    self.waiting.append(evaluation)
                case Publish(event):
                    self.published.append(event)
                    self._append(msgspec.structs.replace(event, id=entry.id))

    # --- stories that have something of everything ---

    def tell_a_story(self) -> None:
        """One execution that has ended, and some that are in the midst of everything."""
        self.upload(*CAST)
        self.add_trigger(SingleEventCondition("go"))
        self.add_trigger(count(event("*"), 3, within=60, by="key"))
        self.add_trigger(CustomCondition(expect_event_keys=("number",), code="code"))
        self.do(AddSchedule("flow", "default", "interval@0 1 0 0"))
        first = self.start()
        self.run("a", execution_id=first)
        self.succeed("a", execution_id=first)
        self.fail("b", "no such luck 🧡", execution_id=first)
        self.stop(first)
        self.be_gone("periodic", execution_id=first)
        second = self.start()
        self.send("x")
        self.send("number", "1")
        self.send("number", "2", only=second)
        self.answer(False, total="1", name='"日本語"')
        self.send("go")
        self.run("a", execution_id=second)
        self.succeed("a", execution_id=second)
        self.fail("b", execution_id=second)

    def end_everything(self) -> None:
        """Stop all that runs, and let it be gone."""
        for execution_id in list(self.state.runs):
            self.stop(execution_id)
        for live in self.alive():
            self.report(live.attempt, TaskStatus.STOPPED)

    def alive(self) -> list[LiveTask]:
        """The task executions that have an attempt, oldest first."""
        return [
            live
            for run in self.state.runs.values()
            for live in sorted(run.alive, key=lambda t: t.id)
            if live.status is not TaskStatus.RETRYING
        ]

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


CAST = (
    task("a", timeout=60),
    task("b", after("a"), retries=2, retry_delay=5),
    task("c", custom(START, "number"), on(STOP, "enough"), custom(RESTART, "other")),
    task(
        "d",
        TaskRule(START, MeetAllCondition("both", tuple(map(SingleEventCondition, "xy")))),
        on(RESTART, "*again"),
        when(STOP, a=TaskStatus.SUCCESS, b=TaskStatus.FAILED),
    ),
    task(
        "gathers",
        met(START, batch(all_of(event("x"), event("number"), within=3600), max=2, within=60)),
        met(STOP, absent(event("go"), after=event("x"), within=5)),
        met(RESTART, debounce(event("*again"), 1)),
    ),
    task("busy", met(START, each(event("number")))),
    task("periodic", on(STOP, "enough"), periodic_expression="interval@0 0 10 0"),
)
"""Tasks that between them have rules of every kind."""


def seen(state: State) -> dict[str, Any]:
    """The state, in a form that can be compared."""
    return {
        **vars(state),
        "plans": {id: plan.snapshot for id, plan in state.plans.items()},
        "runs": {
            id: (run.execution, list(run.tasks.items()), run.evaluations, run.causes)
            for id, run in state.runs.items()
        },
        "states": {scope: kept for scope, kept in state.states.items() if kept},
    }


Deed = Callable[[Play, int], object]


def _chosen(things: Iterable[Any], number: int) -> Any:
    """One of the things; 0, which is nobody's id, when there is none."""
    found = list(things)
    return found[number % len(found)] if found else 0


def _tell(status: TaskStatus) -> Deed:
    def tell(play: Play, number: int) -> None:
        if live := _chosen(play.alive(), number):
            play.report(live.attempt, status, "" if status is TaskStatus.SUCCESS else "because")

    return tell


def _answer(play: Play, number: int) -> None:
    if play.waiting:
        play.answer(number % 2 == 0, "" if number % 3 else "error", total=str(number))


KEYS = ("x", "y", "go", "number", "other", "enough", "once.again", "nobody's")

DEEDS: tuple[Deed, ...] = (
    lambda play, n: play.send(KEYS[n]),
    lambda play, n: play.send(KEYS[n], only=_chosen(play.state.runs, n)),
    lambda play, n: play.start(),
    lambda play, n: play.stop(_chosen(play.state.runs, n)),
    lambda play, n: play.act(
        _chosen(TaskAction, n), _chosen(CAST, n).name, _chosen(play.state.runs, n)
    ),
    _tell(TaskStatus.RUNNING),
    _tell(TaskStatus.SUCCESS),
    _tell(TaskStatus.FAILED),
    _tell(TaskStatus.STOPPED),
    _answer,
    lambda play, n: play.pass_time(10.0**n / 1000),
    lambda play, n: play.upload(*CAST),
    lambda play, n: play.do(EnableWorkflow("flow", "default", n % 2 == 0)),
    lambda play, n: play.do(PauseTrigger(_chosen(play.state.triggers, n), n % 2 == 0)),
    lambda play, n: play.do(PauseSchedule(_chosen(play.state.schedules, n), n % 2 == 0)),
    lambda play, n: play.do(DeleteTriggers((_chosen(play.state.triggers, n),))),
    lambda play, n: play.do(DeleteSchedules((_chosen(play.state.schedules, n),))),
    lambda play, n: play.delete(_chosen(play.executions, n)),
    lambda play, n: (play.end_everything(), play.delete(), play.tell_a_story()),
)
"""All that may happen; the number chooses among what there is."""


@st.composite
def stories(draw: st.DrawFn) -> Play:
    """A play in which anything has happened, in any order."""
    play = Play()
    play.tell_a_story()
    steps = st.tuples(st.integers(0, len(DEEDS) - 1), st.integers(0, len(KEYS) - 1))
    for deed, number in draw(st.lists(steps, max_size=30)):
        with contextlib.suppress(Refused):
            DEEDS[deed](play, number)
    return play
