"""What the engine remembers, and what one step of it changes.

The state is a function of the log. It holds what is alive: workflows with their current snapshot,
running executions with the latest execution of each task, timers, conditions being evaluated.
What is finished is only in the database.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from aiflow_core.model.decision import Decision
from aiflow_core.model.event import Event
from aiflow_core.model.execution import (
    AttemptKey,
    AttemptRequest,
    Namespace,
    TaskExecution,
    WorkflowExecution,
    WorkflowInfo,
    WorkflowSchedule,
    WorkflowSnapshot,
    WorkflowTrigger,
)
from aiflow_core.model.serialization import Value
from aiflow_core.model.status import TASK_ALIVE, TaskStatus
from aiflow_scheduler_event.rules import Plan


class Intent(StrEnum):
    """What is to become of a task execution that is being stopped."""

    NONE = ""
    STOP = "STOP"
    RESTART = "RESTART"
    FAIL = "FAIL"


class LiveTask(TaskExecution, frozen=True):
    """A task execution with what only the engine needs to know of it."""

    intent: Intent = Intent.NONE


class LiveExecution(WorkflowExecution, frozen=True):
    """A workflow execution with what only the engine needs to know of it."""

    stopping: bool = False


def as_seen(live: LiveTask | LiveExecution) -> TaskExecution | WorkflowExecution:
    """The execution as others see it."""
    cls = TaskExecution if isinstance(live, LiveTask) else WorkflowExecution
    return cls(**{name: getattr(live, name) for name in cls.__struct_fields__})


class TimerKind(StrEnum):
    """What a timer is for."""

    SCHEDULE = "SCHEDULE"
    PERIOD = "PERIOD"
    RETRY = "RETRY"
    TIMEOUT = "TIMEOUT"
    WINDOW = "WINDOW"
    TRIGGER = "TRIGGER"


class TimerKey(Value, frozen=True):
    """Names a timer: `owner` is the id of a schedule, of a trigger or of a workflow execution.

    A WINDOW belongs to a rule of the execution: `task_name` is the rule's name in its `Plan`.
    """

    kind: TimerKind
    owner: int
    task_name: str = ""


class Timer(Value, frozen=True):
    """Something to happen at `fire_at` (milliseconds since the epoch)."""

    key: TimerKey
    fire_at: int


class Alarm(Value, frozen=True):
    """What a TIMER event says: the timer is due, by the clock of the scheduler at `now_ms`."""

    timer: Timer
    now_ms: int


class ScopeKind(StrEnum):
    """Whose rule is being evaluated."""

    EXECUTION = "EXECUTION"
    WORKFLOW = "WORKFLOW"
    RULES = "RULES"
    TRIGGER = "TRIGGER"
    WAITING = "WAITING"


class Scope(Value, frozen=True):
    """Where states live: in a workflow execution (task rules) or in a workflow (triggers).

    Apart from these, where no condition of a user can name them: what the event algebra remembers
    (RULES of an execution, a TRIGGER), and the matches for which a task of an execution is still to
    be started (WAITING).
    """

    kind: ScopeKind
    id: int


class ConditionState(Value, frozen=True):
    """The value of one state. `value` is opaque text; only a condition host gives it a meaning,
    except for the states of built-in conditions, which are JSON."""

    scope: Scope
    name: str
    value: str


class Evaluation(Value, frozen=True, omit_defaults=True):
    """A user's condition that is being, or is to be, evaluated for an event.

    Those of one scope are done one after the other, by their ids, because conditions may share
    states. Either `task_name` and `rule` say which rule of which task, or `trigger_id` says which
    trigger. `redriven`: it has failed before, and the rules after it have been looked at.
    """

    id: int
    scope: Scope
    event: Event
    task_name: str = ""
    rule: int = 0
    trigger_id: int = 0
    redriven: bool = False

    @property
    def consumer(self) -> str:
        """Who could not take in the event, for the dead letters; one line for each evaluation."""
        whose = (
            f"trigger {self.trigger_id}"
            if self.trigger_id
            else f"task {self.task_name}, rule {self.rule + 1}"
        )
        return f"evaluation {self.id}: {whose}"


class TaskCause(Value, frozen=True):
    """The events that started a task execution; `id` is that of the task execution."""

    id: int
    workflow_execution_id: int
    events: tuple[Event, ...]


class LetterKey(Value, frozen=True):
    """Names a dead letter: the offset of the event, and who could not take it in."""

    offset: int
    consumer: str


class DeadLetter(Value, frozen=True):
    """An event that somebody could not take in: the scheduler itself, or a user's condition.

    `evaluation` is that of the condition, with the event; what the scheduler itself could not take
    in is in the log.
    """

    offset: int
    consumer: str
    error: str
    create_time: datetime
    tries: int = 1
    evaluation: Evaluation | None = None

    @property
    def key(self) -> LetterKey:
        return LetterKey(self.offset, self.consumer)


class Reply(Value, frozen=True):
    """The outcome of a command: `result` as plain data, or `error` as on the wire."""

    request_id: str
    offset: int
    result: Any = None
    error: dict[str, Any] | None = None


# --- commands to others, carried by the outbox ---------------------------------------------------


class Submit(Value, tag=True, frozen=True):
    """Let the executor run an attempt."""

    request: AttemptRequest


class Stop(Value, tag=True, frozen=True):
    """Let the executor stop an attempt."""

    key: AttemptKey


class Evaluate(Value, tag=True, frozen=True):
    """Let a condition host evaluate a user's condition."""

    evaluation: Evaluation


class Publish(Value, tag=True, frozen=True):
    """Let the log have an event."""

    event: Event


Message = Submit | Stop | Evaluate | Publish


class OutboxEntry(Value, frozen=True):
    """A message that became due with a transaction. The same event makes the same ids again."""

    id: str
    offset: int
    message: Message

    @property
    def is_kept(self) -> bool:
        """Whether it is stored until it is delivered. What goes to executors and condition hosts
        need not be: which attempts wait, run or stop, and which conditions are to be evaluated,
        stands in the state, and is told again after a restart."""
        return isinstance(self.message, Publish)

    @property
    def event(self) -> Event:
        """What is to be published; under the id of the entry, so that a second time is none."""
        assert isinstance(self.message, Publish)
        return msgspec.structs.replace(self.message.event, id=self.id)


# What is stored: by this class, under this key.
Stored = (
    Namespace
    | WorkflowInfo
    | WorkflowSnapshot
    | LiveExecution
    | LiveTask
    | WorkflowSchedule
    | WorkflowTrigger
    | Timer
    | ConditionState
    | Evaluation
    | TaskCause
)


def key_of(value: Stored) -> Any:
    """What names a stored value among those of its class."""
    match value:
        case Namespace():
            return value.name
        case Timer():
            return value.key
        case ConditionState():
            return (value.scope, value.name)
        case _:
            return value.id


@dataclass
class Changes:
    """What a step changes: one transaction's worth, also of several steps.

    Attributes:
        stored: the last word on each stored value; None deletes it.
        erased_executions: executions that go with all their tasks, states and decisions.
        redriven_letters: those that are taken up again; each must be there still.
        dropped_letters: those that go, if they are there.
        told: what observers are told of, each with the offset of the event that led to it.
    """

    stored: dict[tuple[type, Any], Stored | None] = field(default_factory=dict)
    erased_executions: list[int] = field(default_factory=list)
    outbox: list[OutboxEntry] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    redriven_letters: list[LetterKey] = field(default_factory=list)
    dropped_letters: list[LetterKey] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    told: list[tuple[int, Any]] = field(default_factory=list)

    def put(self, value: Stored) -> None:
        self.stored[type(value), key_of(value)] = value

    def delete(self, cls: type, key: Any) -> None:
        self.stored[cls, key] = None


class Run:
    """A running execution: its plan, the latest execution of each task, and what keeps it open.

    Attributes:
        causes: the events that started the task executions that are alive, by task.
    """

    __slots__ = ("causes", "evaluations", "execution", "plan", "tasks")

    def __init__(self, execution: LiveExecution, plan: Plan) -> None:
        self.execution = execution
        self.plan = plan
        self.tasks: dict[str, LiveTask] = {}
        self.causes: dict[str, tuple[Event, ...]] = {}
        self.evaluations = 0

    @property
    def scope(self) -> Scope:
        return Scope(ScopeKind.EXECUTION, self.execution.id)

    def status(self, task_name: str) -> TaskStatus | None:
        task = self.tasks.get(task_name)
        return None if task is None else task.status

    @property
    def alive(self) -> list[LiveTask]:
        return [t for t in self.tasks.values() if t.status in TASK_ALIVE]


class Counters(msgspec.Struct):
    """The last id given to a thing of each kind, and the latest time.

    `time_ms` never goes back, and a timer that has fired is never later: what is counted from it
    comes after the timer, also when the log's clock is behind the scheduler's, or was set back.
    """

    workflow: int = 0
    snapshot: int = 0
    execution: int = 0
    task: int = 0
    schedule: int = 0
    trigger: int = 0
    evaluation: int = 0
    time_ms: int = 0


@dataclass
class State:
    """All that is alive, by its key.

    Attributes:
        offset: of the last event that was taken in.
        plans: of the snapshots that are current or that an execution runs on, by snapshot id.
        current: snapshot id by workflow id.
    """

    offset: int = 0
    counters: Counters = field(default_factory=Counters)
    namespaces: dict[str, Namespace] = field(default_factory=dict)
    workflows: dict[int, WorkflowInfo] = field(default_factory=dict)
    plans: dict[int, Plan] = field(default_factory=dict)
    current: dict[int, int] = field(default_factory=dict)
    runs: dict[int, Run] = field(default_factory=dict)
    schedules: dict[int, WorkflowSchedule] = field(default_factory=dict)
    triggers: dict[int, WorkflowTrigger] = field(default_factory=dict)
    timers: dict[TimerKey, Timer] = field(default_factory=dict)
    states: dict[Scope, dict[str, ConditionState]] = field(default_factory=dict)
    evaluations: dict[int, Evaluation] = field(default_factory=dict)
