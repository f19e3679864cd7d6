"""Scheduler: takes workflows, starts and stops executions, answers for them.

`Scheduler` is what every scheduler offers. Namespaces, schedules, triggers, snapshots, states,
logs, dead letters and explanations are further contracts that a scheduler may also implement;
`offers` asks for them.
"""

import re
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from aiflow_core.deployment import Deployment
from aiflow_core.errors import UsageError
from aiflow_core.model.condition import AnyCondition
from aiflow_core.model.execution import (
    BundleRef,
    DeadLetter,
    LogPage,
    Namespace,
    TaskExecution,
    WorkflowExecution,
    WorkflowInfo,
    WorkflowSchedule,
    WorkflowSnapshot,
    WorkflowTrigger,
)
from aiflow_core.model.explanation import (
    EventExplanation,
    TaskExplanation,
    WorkflowExplanation,
)
from aiflow_core.model.schedule import ScheduleOptions
from aiflow_core.model.workflow import DEFAULT_NAMESPACE, WorkflowDefinition
from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.specs.event_store import EventStore
from aiflow_core.specs.executor import Executor

_request_id: ContextVar[str] = ContextVar("request_id", default="")


@contextmanager
def request(request_id: str) -> Iterator[None]:
    """Name the request that the calls inside the block belong to.

    A call that changes something takes place once per request id, however often it is repeated;
    this is how a client may safely try again.
    """
    token = _request_id.set(request_id)
    try:
        yield
    finally:
        _request_id.reset(token)


def current_request_id() -> str:
    """The id of the current request; a new one when the caller named none."""
    return _request_id.get() or uuid.uuid4().hex


class Scheduler(ABC):
    """What every scheduler offers.

    A method that changes something returns when the change is durable. Errors: `NotFoundError`,
    `ConflictError` (the state does not allow it), `DefinitionError`, `UnavailableError`.
    Lists are ordered by id, newest last; `limit=None` means all.

    Constructor keywords are the scheduler's settings.
    """

    def start(  # noqa: B027  (a client of a scheduler elsewhere has nothing to start)
        self,
        stack: ExitStack,
        deployment: Deployment,
        events: EventStore,
        executor: Executor,
        blobs: BlobManager,
    ) -> None:
        """Begin to schedule in this process, and hang the clean-up on `stack`.

        The scheduler starts the executor, whose reports it takes.
        """

    @abstractmethod
    def submit_workflow(
        self, definition: WorkflowDefinition, bundle: BundleRef | None = None
    ) -> WorkflowInfo:
        """Make a new snapshot the current one of its workflow, and enable the workflow."""

    @abstractmethod
    def get_workflow(
        self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> WorkflowInfo: ...

    @abstractmethod
    def list_workflows(
        self, namespace: str = DEFAULT_NAMESPACE, limit: int | None = None, offset: int = 0
    ) -> list[WorkflowInfo]: ...

    @abstractmethod
    def delete_workflow(self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE) -> None:
        """Delete the workflow and all that belongs to it; a conflict while an execution runs."""

    @abstractmethod
    def disable_workflow(self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE) -> None:
        """No more executions start. Running ones are not affected."""

    @abstractmethod
    def enable_workflow(self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE) -> None: ...

    @abstractmethod
    def start_workflow_execution(
        self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> WorkflowExecution:
        """Start an execution of the current snapshot; a conflict when the workflow is disabled."""

    @abstractmethod
    def stop_workflow_execution(self, workflow_execution_id: int) -> WorkflowExecution:
        """Stop all tasks of the execution; it is STOPPED when the last is gone."""

    @abstractmethod
    def stop_workflow_executions(
        self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> list[WorkflowExecution]:
        """Stop all running executions of the workflow."""

    @abstractmethod
    def delete_workflow_execution(self, workflow_execution_id: int) -> None:
        """Delete a finished execution with its tasks; a conflict while it runs."""

    @abstractmethod
    def get_workflow_execution(self, workflow_execution_id: int) -> WorkflowExecution: ...

    @abstractmethod
    def list_workflow_executions(
        self,
        workflow_name: str,
        namespace: str = DEFAULT_NAMESPACE,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[WorkflowExecution]: ...

    @abstractmethod
    def start_task_execution(self, workflow_execution_id: int, task_name: str) -> TaskExecution:
        """Start the task; nothing happens, and the running one is returned, when it runs."""

    @abstractmethod
    def stop_task_execution(self, workflow_execution_id: int, task_name: str) -> TaskExecution:
        """Stop the task; a conflict when it does not run."""

    @abstractmethod
    def restart_task_execution(self, workflow_execution_id: int, task_name: str) -> TaskExecution:
        """Stop the task if it runs, then start it anew."""

    @abstractmethod
    def get_task_execution(self, task_execution_id: int) -> TaskExecution: ...

    @abstractmethod
    def list_task_executions(
        self, workflow_execution_id: int, limit: int | None = None, offset: int = 0
    ) -> list[TaskExecution]: ...


class NamespaceOperations(ABC):
    """Groups of workflows."""

    @abstractmethod
    def add_namespace(self, name: str, properties: dict[str, Any] | None = None) -> Namespace: ...

    @abstractmethod
    def get_namespace(self, name: str) -> Namespace: ...

    @abstractmethod
    def update_namespace(self, name: str, properties: dict[str, Any]) -> Namespace: ...

    @abstractmethod
    def list_namespaces(self, limit: int | None = None, offset: int = 0) -> list[Namespace]: ...

    @abstractmethod
    def delete_namespace(self, name: str) -> None:
        """Delete the namespace; a conflict while it has workflows."""


class ScheduleOperations(ABC):
    """Executions by the clock."""

    @abstractmethod
    def add_workflow_schedule(
        self,
        expression: str,
        workflow_name: str,
        namespace: str = DEFAULT_NAMESPACE,
        options: ScheduleOptions = ScheduleOptions(),  # noqa: B008  (frozen)
    ) -> WorkflowSchedule:
        """Start executions at the times of `expression`; `DefinitionError` when none is to come."""

    @abstractmethod
    def get_workflow_schedule(self, schedule_id: int) -> WorkflowSchedule: ...

    @abstractmethod
    def list_workflow_schedules(
        self,
        workflow_name: str,
        namespace: str = DEFAULT_NAMESPACE,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[WorkflowSchedule]: ...

    @abstractmethod
    def delete_workflow_schedule(self, schedule_id: int) -> None: ...

    @abstractmethod
    def delete_workflow_schedules(
        self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> None: ...

    @abstractmethod
    def pause_workflow_schedule(self, schedule_id: int) -> WorkflowSchedule: ...

    @abstractmethod
    def resume_workflow_schedule(self, schedule_id: int) -> WorkflowSchedule:
        """Fire again from now on; what was due while paused is not made up for."""


class TriggerOperations(ABC):
    """Executions by events."""

    @abstractmethod
    def add_workflow_trigger(
        self, rule: AnyCondition, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> WorkflowTrigger: ...

    @abstractmethod
    def get_workflow_trigger(self, trigger_id: int) -> WorkflowTrigger: ...

    @abstractmethod
    def list_workflow_triggers(
        self,
        workflow_name: str,
        namespace: str = DEFAULT_NAMESPACE,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[WorkflowTrigger]: ...

    @abstractmethod
    def delete_workflow_trigger(self, trigger_id: int) -> None: ...

    @abstractmethod
    def delete_workflow_triggers(
        self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> None: ...

    @abstractmethod
    def pause_workflow_trigger(self, trigger_id: int) -> WorkflowTrigger: ...

    @abstractmethod
    def resume_workflow_trigger(self, trigger_id: int) -> WorkflowTrigger: ...


class SnapshotOperations(ABC):
    """The uploads of a workflow."""

    @abstractmethod
    def get_workflow_snapshot(self, snapshot_id: int) -> WorkflowSnapshot: ...

    @abstractmethod
    def list_workflow_snapshots(
        self,
        workflow_name: str,
        namespace: str = DEFAULT_NAMESPACE,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[WorkflowSnapshot]: ...

    @abstractmethod
    def delete_workflow_snapshot(self, snapshot_id: int) -> None:
        """Delete the snapshot; a conflict while it is current or an execution runs on it."""

    @abstractmethod
    def delete_workflow_snapshots(
        self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> None:
        """Delete all snapshots of the workflow that can be deleted."""


class StateOperations(ABC):
    """The states of a workflow execution, which its tasks and the conditions of its rules share.

    A value travels as text, see `aiflow_core.model.context.pack`; None: there is none.
    """

    @abstractmethod
    def get_state(self, workflow_execution_id: int, name: str) -> str | None:
        """The state as it was left last."""

    @abstractmethod
    def put_state(self, workflow_execution_id: int, name: str, value: str | None) -> None:
        """Leave a state so, or forget it; a conflict when the execution has ended."""


class LogOperations(ABC):
    """What tasks have written."""

    @abstractmethod
    def read_task_log(
        self, task_execution_id: int, try_number: int | None = None, position: int = 0
    ) -> LogPage:
        """A piece of the log of an attempt (None: of the latest) from a position on, in bytes.

        It is empty where nothing more has been written yet; `NotFoundError` when there is no such
        log within this server's reach.
        """


class DeadLetterOperations(ABC):
    """The events that could not be taken in, by the scheduler itself or by a user's condition.

    A letter is named by the offset of its event and its consumer; without a consumer, all letters
    of the event are meant. `NotFoundError` when there is none.
    """

    @abstractmethod
    def list_dead_letters(self, limit: int | None = None, offset: int = 0) -> list[DeadLetter]:
        """The letters, without their events, in the order of the log."""

    @abstractmethod
    def get_dead_letter(self, event_offset: int) -> list[DeadLetter]:
        """All letters of one event, with the event."""

    @abstractmethod
    def redrive_dead_letter(self, event_offset: int, consumer: str | None = None) -> None:
        """Let who could not take in the event try it again now: all of them, or a conflict.

        The letter is gone with that; another failure makes a new one. A condition is asked for this
        event again, and no further rule after it; a conflict when its execution has ended.
        """

    @abstractmethod
    def redrive_dead_letters(self) -> int:
        """Redrive each letter for which that is possible; how many these were. The others stay."""

    @abstractmethod
    def drop_dead_letter(self, event_offset: int, consumer: str | None = None) -> None:
        """Forget the letter."""

    @abstractmethod
    def drop_dead_letters(self) -> int:
        """Forget all letters; how many these were."""


class ExplanationOperations(ABC):
    """Why something ran, why not yet, and what an event led to.

    What was decided comes from the records of the scheduler, what is waited for from how things
    stand at the moment of the question. `NotFoundError` when there is no such thing.
    """

    @abstractmethod
    def explain_task_execution(self, task_execution_id: int) -> TaskExplanation:
        """Why that execution of a task was started, what became of it, and what it waits for."""

    @abstractmethod
    def explain_task(self, workflow_execution_id: int, task_name: str) -> TaskExplanation:
        """Why a task ran in a workflow execution, or has not yet: its latest execution, every
        decision on it, and what each of its rules waits for."""

    @abstractmethod
    def explain_workflow(
        self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> WorkflowExplanation:
        """What would start the next execution of a workflow, and what keeps it from that."""

    @abstractmethod
    def explain_event(self, event_offset: int) -> EventExplanation:
        """What the event at that offset led to: decisions, executions, and the events that came of
        these; or why it led to nothing."""


CONTRACTS: tuple[type, ...] = (
    Scheduler,
    NamespaceOperations,
    ScheduleOperations,
    TriggerOperations,
    SnapshotOperations,
    StateOperations,
    LogOperations,
    DeadLetterOperations,
    ExplanationOperations,
)

C = TypeVar("C")


def offers(scheduler: Scheduler, contract: type[C]) -> C:
    """The scheduler, as something that also fulfils `contract`; `UsageError` when it does not."""
    if isinstance(scheduler, contract):
        return scheduler
    what = _words(contract.__name__.removesuffix("Operations"))
    raise UsageError(f"The scheduler {type(scheduler).__name__} offers no {what}s.")


def _words(name: str) -> str:
    """`DeadLetter` as in a sentence."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
