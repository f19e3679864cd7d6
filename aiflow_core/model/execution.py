"""What the scheduler keeps: workflows, executions, tasks, attempts, schedules, triggers, and dead
letters."""

import os
from datetime import datetime
from typing import Any

from aiflow_core.model.condition import AnyCondition
from aiflow_core.model.event import Event
from aiflow_core.model.schedule import ScheduleOptions
from aiflow_core.model.serialization import Value, decode, encode
from aiflow_core.model.status import ExecutionType, TaskStatus, WorkflowStatus
from aiflow_core.model.workflow import TaskDefinition, WorkflowDefinition

TASK_VARIABLE = "AIFLOW_TASK"
EVENTS_VARIABLE = "AIFLOW_EVENTS_FILE"


class Namespace(Value, frozen=True):
    """A group of workflows, isolated from others: names and events do not cross."""

    name: str
    properties: dict[str, Any] = {}


class BundleRef(Value, frozen=True):
    """Where the code of a snapshot is.

    Attributes:
        uri: what the blob manager's `upload` returned.
        sha256: hex digest of the archive.
        entry: path of the workflow file inside the archive.
    """

    uri: str
    sha256: str
    entry: str


class WorkflowInfo(Value, frozen=True):
    """A workflow as listed. `event_offset` is the offset of the command that last changed it."""

    id: int
    workflow_name: str
    namespace: str
    create_time: datetime
    update_time: datetime
    is_enabled: bool = True
    event_offset: int = -1

    @property
    def name(self) -> str:
        return self.workflow_name


class WorkflowSnapshot(Value, frozen=True):
    """One upload of a workflow; never changes."""

    id: int
    workflow_id: int
    create_time: datetime
    definition: WorkflowDefinition
    bundle: BundleRef | None = None

    @property
    def uri(self) -> str:
        """Where the code is; empty when there is none."""
        return self.bundle.uri if self.bundle else ""

    @property
    def signature(self) -> str:
        """Hex SHA-256 of the code; empty when there is none."""
        return self.bundle.sha256 if self.bundle else ""


class WorkflowExecution(Value, frozen=True):
    """One run of a workflow. `reason` says why it did not end in success."""

    id: int
    workflow_id: int
    begin_date: datetime
    end_date: datetime | None = None
    status: WorkflowStatus = WorkflowStatus.INIT
    run_type: ExecutionType = ExecutionType.MANUAL
    snapshot_id: int = 0
    event_offset: int = -1
    reason: str = ""


class TaskExecution(Value, frozen=True):
    """One run of a task: the `sequence_number`-th of its workflow execution.

    A retry is another attempt (`try_number`) of the same task execution. `begin_date` is when the
    first attempt was seen running.
    """

    id: int
    workflow_execution_id: int
    task_name: str
    sequence_number: int
    try_number: int = 1
    begin_date: datetime | None = None
    end_date: datetime | None = None
    status: TaskStatus = TaskStatus.INIT
    reason: str = ""

    @property
    def key(self) -> "TaskExecutionKey":
        return TaskExecutionKey(self.workflow_execution_id, self.task_name, self.sequence_number)

    @property
    def attempt(self) -> "AttemptKey":
        return AttemptKey(
            workflow_execution_id=self.workflow_execution_id,
            task_name=self.task_name,
            sequence_number=self.sequence_number,
            try_number=self.try_number,
        )


class WorkflowSchedule(Value, frozen=True):
    """Starts executions of a workflow by the clock. `waiting` ticks are made up for as soon as the
    limit of its options lets them."""

    id: int
    workflow_id: int
    expression: str
    create_time: datetime
    is_paused: bool = False
    options: ScheduleOptions = ScheduleOptions()
    waiting: int = 0


class WorkflowTrigger(Value, frozen=True):
    """Starts an execution of a workflow when a condition on events is met."""

    id: int
    workflow_id: int
    rule: AnyCondition
    create_time: datetime
    is_paused: bool = False


class DeadLetter(Value, frozen=True):
    """An event that somebody could not take in: the scheduler itself, or a user's condition.

    Attributes:
        offset: of the event in the log.
        consumer: who could not take it in; each consumer of an event has a letter of its own.
        error: why, the last of so many `tries`.
        event: the event itself. None in lists, because it may be large, and when nobody has it any
            more.
    """

    offset: int
    consumer: str
    error: str
    create_time: datetime
    tries: int = 1
    event: Event | None = None


class TaskExecutionKey(Value, order=True, frozen=True):
    """Names one execution of a task: the `seq_num`-th in its workflow execution."""

    workflow_execution_id: int
    task_name: str
    seq_num: int

    def __str__(self) -> str:
        return f"{self.workflow_execution_id}_{self.task_name}_{self.seq_num}"


class AttemptKey(Value, order=True, frozen=True):
    """Names one attempt of one task execution; at most one process ever runs for it."""

    workflow_execution_id: int
    task_name: str
    sequence_number: int
    try_number: int = 1

    @property
    def task_execution(self) -> TaskExecutionKey:
        """What it is an attempt of."""
        return TaskExecutionKey(self.workflow_execution_id, self.task_name, self.sequence_number)

    def __str__(self) -> str:
        return f"{self.task_execution}.{self.try_number}"


class AttemptRequest(Value, frozen=True):
    """All that an executor needs to run one attempt.

    Attributes:
        events: those that started the task, in the order in which they came.
    """

    key: AttemptKey
    namespace: str
    workflow_name: str
    task: TaskDefinition
    bundle: BundleRef | None = None
    snapshot_id: int = 0
    events: tuple[Event, ...] = ()


class AttemptReport(Value, frozen=True):
    """What an executor says of an attempt: RUNNING, SUCCESS, FAILED or STOPPED, and why."""

    key: AttemptKey
    status: TaskStatus
    reason: str = ""


class LogPage(Value, frozen=True):
    """A piece of what an attempt has written.

    Attributes:
        data: UTF-8, and possibly cut within a character.
        position: where the next piece begins, in bytes.
    """

    data: bytes
    position: int


class RunningTask(Value, frozen=True):
    """What the processes of an attempt find about it in their environment.

    Attributes:
        events_file: path of the file with the events that started the task, see `write_events`;
            empty when the executor has written none.
        server_address: `host:port` of the AIFlow server; empty where they look for it as clients
            do.
    """

    namespace: str
    workflow_name: str
    key: AttemptKey
    notification_uri: str
    events_file: str = ""
    server_address: str = ""

    def to_environment(self) -> dict[str, str]:
        """The environment variables that carry this."""
        variables = {
            TASK_VARIABLE: encode(self).decode(),
            "AIFLOW_NOTIFICATION_URI": self.notification_uri,
        }
        if self.events_file:
            variables[EVENTS_VARIABLE] = self.events_file
        if self.server_address:
            variables["AIFLOW__CLIENT__SERVER_ADDRESS"] = self.server_address
        return variables

    def read_events(self) -> tuple[Event, ...]:
        """The events that started the task, in the order in which they came."""
        if not self.events_file:
            return ()
        with open(self.events_file, "rb") as file:
            return tuple(decode(line, Event) for line in file)

    @classmethod
    def from_environment(cls) -> "RunningTask | None":
        """The attempt that this process belongs to, None outside of a task."""
        text = os.environ.get(TASK_VARIABLE)
        return decode(text, cls) if text else None


def write_events(path: str | os.PathLike[str], events: tuple[Event, ...]) -> None:
    """Write events to a file, each as one line of JSON."""
    with open(path, "wb") as file:
        file.writelines(encode(event) + b"\n" for event in events)
