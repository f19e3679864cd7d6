"""Simulation: a scheduler's decisions without a server, without a database, in virtual time."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from aiflow_core.model.condition import AnyCondition
from aiflow_core.model.decision import Decision
from aiflow_core.model.event import Event
from aiflow_core.model.execution import (
    AttemptKey,
    AttemptReport,
    AttemptRequest,
    DeadLetter,
    TaskExecution,
    WorkflowExecution,
    WorkflowInfo,
    WorkflowSchedule,
    WorkflowTrigger,
)
from aiflow_core.model.explanation import TaskExplanation
from aiflow_core.model.rule import TaskAction
from aiflow_core.model.workflow import DEFAULT_NAMESPACE, Workflow, WorkflowDefinition

Change = TaskExecution | WorkflowExecution

Observer = Callable[[Event, Sequence[Decision], Sequence[Change]], None]
"""Told of each event that was taken in, what was decided on it, and which statuses were taken."""


class Simulation(ABC):
    """The decisions of a scheduler, made in this process. One thread; nothing is kept.

    It is the log, the clock, the timers and the executor in one. Each method that lets something
    happen returns when all that follows from it at the same moment has been decided. What a
    request is refused with is raised, as a `Scheduler` does.

    A `Workflow` brings its own conditions along, and they are evaluated here: it is the author's
    own process. Of a `WorkflowDefinition` alone they count as not met, with a dead letter.
    """

    @property
    @abstractmethod
    def now_ms(self) -> int:
        """The virtual time, milliseconds since the epoch."""

    @abstractmethod
    def observe(self, observer: Observer) -> None:
        """Tell `observer` from now on."""

    # --- what a user does ---

    @abstractmethod
    def submit_workflow(self, workflow: Workflow | WorkflowDefinition) -> WorkflowInfo:
        """Upload it; its namespace is made when it is not there."""

    @abstractmethod
    def enable_workflow(
        self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE, enabled: bool = True
    ) -> WorkflowInfo: ...

    @abstractmethod
    def start_workflow_execution(
        self, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> WorkflowExecution: ...

    @abstractmethod
    def stop_workflow_execution(self, workflow_execution_id: int) -> WorkflowExecution: ...

    @abstractmethod
    def act_on_task(
        self, workflow_execution_id: int, task_name: str, action: TaskAction
    ) -> TaskExecution: ...

    @abstractmethod
    def add_workflow_schedule(
        self, expression: str, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> WorkflowSchedule: ...

    @abstractmethod
    def add_workflow_trigger(
        self, rule: AnyCondition, workflow_name: str, namespace: str = DEFAULT_NAMESPACE
    ) -> WorkflowTrigger: ...

    @abstractmethod
    def append(self, event: Event) -> Event:
        """Put an event into the log; the event as it stands there."""

    # --- what an executor does ---

    @abstractmethod
    def attempts(self) -> list[AttemptRequest]:
        """The attempts that were to be run and have not ended, oldest first."""

    @abstractmethod
    def stopping(self) -> list[AttemptKey]:
        """Those of them that are to be ended."""

    @abstractmethod
    def report(self, report: AttemptReport) -> None:
        """What becomes of an attempt. `UsageError` when there is no such one."""

    # --- time ---

    @abstractmethod
    def next_timer_ms(self) -> int | None:
        """When something happens by itself next; None: never."""

    @abstractmethod
    def advance_to(self, now_ms: int) -> None:
        """Let time pass until then; what is due meanwhile happens at its moment."""

    # --- what can be seen ---

    @abstractmethod
    def log(self) -> Sequence[Event]:
        """Every event so far."""

    @abstractmethod
    def workflow_executions(self) -> list[WorkflowExecution]: ...

    @abstractmethod
    def task_executions(self, workflow_execution_id: int) -> list[TaskExecution]: ...

    @abstractmethod
    def decisions(self) -> Sequence[Decision]:
        """Every decision so far, none folded."""

    @abstractmethod
    def dead_letters(self) -> list[DeadLetter]: ...

    @abstractmethod
    def explain_task(self, workflow_execution_id: int, task_name: str) -> TaskExplanation:
        """As `ExplanationOperations.explain_task`."""


class Simulated(ABC):
    """What a scheduler offers beside its contract when its decisions can be tried out."""

    @classmethod
    @abstractmethod
    def simulation(cls, now_ms: int) -> Simulation:
        """A new one, without any workflow, at that time."""
